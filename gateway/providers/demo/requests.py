"""Requests to the demo model: the bodies of two OpenAI protocols, checked. Pure."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any, NoReturn

import orjson

MODEL = "demo"
MAX_CHOICES = 16
_CONNECT = "Set OPENAI_API_KEY, OPENAI_BASE_URL or LLM_ENDPOINT to connect a real model."
# Words of up to six letters count as one token, longer ones as several, each other sign as one: close to a real
# tokenizer for English. Each counted token is also one event of the stream.
_TOKEN = re.compile(r"\s*\w{1,6}|\s*[^\w\s]|\s+")
_MESSAGE_OVERHEAD = 4  # tokens for each message itself, as OpenAI documents

Json = dict[str, Any]


class RefusalError(Exception):
    """The request cannot be answered: status and OpenAI-shaped body."""

    def __init__(self, message: str, *, param: str | None = None, code: str | None = None, status: int = 400) -> None:
        super().__init__(message)
        self.status = status
        self.body: Json = {
            "error": {"message": message, "type": "invalid_request_error", "param": param, "code": code},
        }


@dataclass(frozen=True, slots=True)
class DemoRequest:
    """The parts of a request that the demo model uses, the same for both protocols."""

    question: str
    instructions: str  # the system message; the demo model follows the gateway's own only
    earlier: str | None  # the question before
    turn: int
    prompt_tokens: int
    is_stream: bool
    wants_usage: bool
    choices: int
    limit: int | None
    stops: tuple[str, ...]


def tokens_of(text: str) -> list[str]:
    """The tokens of a text. Joined they are the text."""
    return _TOKEN.findall(text)


def parse_chat(raw: bytes) -> DemoRequest:
    """The body of POST /chat/completions. Raises RefusalError."""
    body = _object(raw)
    _known_model(body)
    messages = _messages(body, "messages")
    _plain_text_only(body.get("response_format"), "response_format")
    options = body.get("stream_options")
    if options is not None and not isinstance(options, dict):
        _refuse("stream_options", "an object")
    is_stream = _flag(body, "stream")
    limits = [limit for name in ("max_tokens", "max_completion_tokens") if (limit := _count(body, name)) is not None]
    return _request(
        messages,
        is_stream=is_stream,
        wants_usage=is_stream and _flag(options or {}, "include_usage", "stream_options.include_usage"),
        choices=_count(body, "n", most=MAX_CHOICES) or 1,
        limit=min(limits, default=None),
        stops=_stops(body.get("stop")),
    )


def parse_response(raw: bytes) -> DemoRequest:
    """The body of POST /responses. Raises RefusalError."""
    body = _object(raw)
    _known_model(body)
    given = body.get("input")
    messages = [{"role": "user", "content": given}] if isinstance(given, str) else _messages(body, "input")
    text = body.get("text")
    _plain_text_only(text.get("format") if isinstance(text, dict) else None, "text.format")
    if isinstance(body.get("instructions"), str):
        messages = [{"role": "system", "content": body["instructions"]}, *messages]
    return _request(
        messages,
        is_stream=_flag(body, "stream"),
        wants_usage=True,
        choices=1,
        limit=_count(body, "max_output_tokens"),
        stops=(),
    )


def _request(
    messages: list[Json],
    *,
    is_stream: bool,
    wants_usage: bool,
    choices: int,
    limit: int | None,
    stops: tuple[str, ...],
) -> DemoRequest:
    questions = [_text(message) for message in messages if message.get("role") == "user"]
    return DemoRequest(
        question=questions[-1] if questions else "",
        instructions=next((_text(message) for message in messages if message.get("role") == "system"), ""),
        earlier=questions[-2] if len(questions) > 1 else None,
        turn=max(len(questions), 1),
        prompt_tokens=sum(len(tokens_of(_text(message))) + _MESSAGE_OVERHEAD for message in messages),
        is_stream=is_stream,
        wants_usage=wants_usage,
        choices=choices,
        limit=limit,
        stops=stops,
    )


def _object(raw: bytes) -> Json:
    try:
        body = _parse(raw)
    except (ValueError, RecursionError) as error:
        raise RefusalError(f"The body is not valid JSON: {error}", code="malformed_body") from error
    if not isinstance(body, dict):
        raise RefusalError("The body must be a JSON object.", code="malformed_body")
    return body


def _parse(raw: bytes) -> object:
    try:
        return orjson.loads(raw)
    except orjson.JSONDecodeError:
        return json.loads(raw)  # it accepts more than orjson, such as a lone surrogate


def _known_model(body: Json) -> None:
    """Check the model. Any name is accepted, so that people can try the demo with their own program."""
    if not isinstance(body.get("model", MODEL), str):
        _refuse("model", "a string")


def _messages(body: Json, name: str) -> list[Json]:
    messages = body.get(name)
    if not isinstance(messages, list) or not messages:
        _refuse(name, "a list with at least one message")
    for index, message in enumerate(messages):
        where = f"{name}[{index}]"
        if not isinstance(message, dict):
            _refuse(where, "an object")
        if name == "messages" and not isinstance(message.get("role"), str):
            _refuse(f"{where}.role", "a string")
        if not isinstance(message.get("content"), str | list | None):
            _refuse(f"{where}.content", "a string or a list of parts")
    return messages


def _text(message: Json) -> str:
    """The text of a message; pictures and other parts have none."""
    content = message.get("content")
    if isinstance(content, str):
        return content
    parts = (part.get("text") for part in content or () if isinstance(part, dict))
    return "\n".join(part for part in parts if isinstance(part, str))


def _plain_text_only(wanted: object, name: str) -> None:
    if isinstance(wanted, dict) and wanted.get("type") not in (None, "text"):
        raise RefusalError(f"The demo model only writes Markdown. {_CONNECT}", param=name, code="demo_only_chats")


def _flag(body: Json, name: str, shown: str | None = None) -> bool:
    value = body.get(name)
    if value is not None and not isinstance(value, bool):
        _refuse(shown or name, "true or false")
    return bool(value)


def _count(body: Json, name: str, most: int | None = None) -> int | None:
    value = body.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or value < 1 or (most is not None and value > most):
        _refuse(name, "a whole number above 0" if most is None else f"a whole number from 1 to {most}")
    return value


def _stops(value: object) -> tuple[str, ...]:
    if value is None:
        return ()
    stops = [value] if isinstance(value, str) else value
    if not isinstance(stops, list) or not all(isinstance(stop, str) for stop in stops):
        _refuse("stop", "a string or a list of strings")
    return tuple(stop for stop in stops if stop)


def _refuse(param: str, wanted: str) -> NoReturn:
    raise RefusalError(f"{param} must be {wanted}.", param=param, code="invalid_value")


def only_chats(method: str, path: str) -> RefusalError:
    """The refusal of all routes that the demo model does not serve."""
    return RefusalError(
        f"The demo model only chats: it answers POST /v1/chat/completions, POST /v1/responses and GET /v1/models, "
        f"not {method} /v1{path}. {_CONNECT}",
        code="demo_only_chats",
        status=404,
    )
