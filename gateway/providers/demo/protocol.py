"""The demo model's side of two OpenAI protocols: request bodies in, answers and timed stream events out. Pure."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

import orjson

from gateway.providers.demo.answers import answer, own_answer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MODEL = "demo"
MOST_CHOICES = 16
_CONNECT = "Set OPENAI_API_KEY, OPENAI_BASE_URL or LLM_ENDPOINT to connect a real model."
# Words of up to six letters count as one token, longer ones as several, each other sign as one: about what a real
# tokenizer makes of English. What is counted is also what is sent, a token an event.
_TOKEN = re.compile(r"\s*\w{1,6}|\s*[^\w\s]|\s+")
_MESSAGE_OVERHEAD = 4  # tokens that the protocol itself takes for each message, as OpenAI documents it

Json = dict[str, Any]


class RefusalError(Exception):
    """The request cannot be answered: status and OpenAI-shaped body."""

    def __init__(self, message: str, *, param: str | None = None, code: str | None = None, status: int = 400) -> None:
        super().__init__(message)
        self.status = status
        self.body: Json = {
            "error": {"message": message, "type": "invalid_request_error", "param": param, "code": code},
        }


class Timed(NamedTuple):
    """Bytes, and how far the speaker is by then: in words, of which so many are said a second."""

    words: float
    data: bytes


@dataclass(frozen=True, slots=True)
class Asked:
    """What matters to the demo in a request, whichever protocol it came by."""

    question: str
    instructions: str  # the system's; only the gateway's own are understood
    earlier: str | None
    turn: int
    prompt_tokens: int
    is_stream: bool
    wants_usage: bool
    choices: int
    limit: int | None
    stops: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Speech:
    """One choice: its tokens, as many as were allowed, and the number of words that they make."""

    tokens: tuple[str, ...]
    words: int
    is_cut: bool

    @property
    def text(self) -> str:
        return "".join(self.tokens)

    @property
    def finish_reason(self) -> str:
        return "length" if self.is_cut else "stop"


@dataclass(frozen=True, slots=True)
class Stamp:
    """Identity and time of one answer, made by the caller so that all here stays pure."""

    id: str
    created: int


def count_tokens(text: str) -> int:
    return len(_TOKEN.findall(text))


def speak(asked: Asked) -> list[Speech]:
    return [_speech(asked, choice) for choice in range(asked.choices)]


def _speech(asked: Asked, choice: int) -> Speech:
    text = own_answer(asked.instructions, asked.question)
    if text is None:
        text = answer(asked.question, asked.earlier, asked.turn, choice)
    for stop in asked.stops:
        text = text.partition(stop)[0]
    tokens = _TOKEN.findall(text)
    said = tuple(tokens if asked.limit is None else tokens[: asked.limit])
    return Speech(said, words=len("".join(said).split()), is_cut=len(said) < len(tokens))


# ── requests ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def parse_chat(raw: bytes) -> Asked:
    """The body of POST /chat/completions. Raises RefusalError."""
    body = _object(raw)
    _known_model(body)
    messages = _messages(body, "messages")
    _plain_text_only(body.get("response_format"), "response_format")
    options = body.get("stream_options")
    if options is not None and not isinstance(options, dict):
        _wrong("stream_options", "an object")
    is_stream = _flag(body, "stream")
    limits = [limit for name in ("max_tokens", "max_completion_tokens") if (limit := _count(body, name)) is not None]
    return _asked(
        messages,
        is_stream=is_stream,
        wants_usage=is_stream and _flag(options or {}, "include_usage", "stream_options.include_usage"),
        choices=_count(body, "n", most=MOST_CHOICES) or 1,
        limit=min(limits, default=None),
        stops=_stops(body.get("stop")),
    )


def parse_response(raw: bytes) -> Asked:
    """The body of POST /responses. Raises RefusalError."""
    body = _object(raw)
    _known_model(body)
    given = body.get("input")
    messages = [{"role": "user", "content": given}] if isinstance(given, str) else _messages(body, "input")
    text = body.get("text")
    _plain_text_only(text.get("format") if isinstance(text, dict) else None, "text.format")
    if isinstance(body.get("instructions"), str):
        messages = [{"role": "system", "content": body["instructions"]}, *messages]
    return _asked(
        messages,
        is_stream=_flag(body, "stream"),
        wants_usage=True,
        choices=1,
        limit=_count(body, "max_output_tokens"),
        stops=(),
    )


def _asked(
    messages: list[Json],
    *,
    is_stream: bool,
    wants_usage: bool,
    choices: int,
    limit: int | None,
    stops: tuple[str, ...],
) -> Asked:
    questions = [_text(message) for message in messages if message.get("role") == "user"]
    return Asked(
        question=questions[-1] if questions else "",
        instructions=next((_text(message) for message in messages if message.get("role") == "system"), ""),
        earlier=questions[-2] if len(questions) > 1 else None,
        turn=max(len(questions), 1),
        prompt_tokens=sum(count_tokens(_text(message)) + _MESSAGE_OVERHEAD for message in messages),
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
        raise RefusalError(f"The body is not JSON that can be read: {error}", code="malformed_body") from error
    if not isinstance(body, dict):
        raise RefusalError("The body must be a JSON object.", code="malformed_body")
    return body


def _parse(raw: bytes) -> object:
    try:
        return orjson.loads(raw)
    except orjson.JSONDecodeError:
        return json.loads(raw)  # takes what orjson does not, such as a lone surrogate


def _known_model(body: Json) -> None:
    """Any model's name is fine, for people try the demo with the program that they have."""
    if not isinstance(body.get("model", MODEL), str):
        _wrong("model", "a string")


def _messages(body: Json, name: str) -> list[Json]:
    messages = body.get(name)
    if not isinstance(messages, list) or not messages:
        _wrong(name, "a list with at least one message")
    for index, message in enumerate(messages):
        where = f"{name}[{index}]"
        if not isinstance(message, dict):
            _wrong(where, "an object")
        if name == "messages" and not isinstance(message.get("role"), str):
            _wrong(f"{where}.role", "a string")
        if not isinstance(message.get("content"), str | list | None):
            _wrong(f"{where}.content", "a string or a list of parts")
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
        _wrong(shown or name, "true or false")
    return bool(value)


def _count(body: Json, name: str, most: int | None = None) -> int | None:
    value = body.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or value < 1 or (most is not None and value > most):
        _wrong(name, "a whole number above 0" if most is None else f"a whole number from 1 to {most}")
    return value


def _stops(value: object) -> tuple[str, ...]:
    if value is None:
        return ()
    stops = [value] if isinstance(value, str) else value
    if not isinstance(stops, list) or not all(isinstance(stop, str) for stop in stops):
        _wrong("stop", "a string or a list of strings")
    return tuple(stop for stop in stops if stop)


def _wrong(param: str, wanted: str) -> NoReturn:
    raise RefusalError(f"{param} must be {wanted}.", param=param, code="invalid_value")


def only_chats(method: str, path: str) -> RefusalError:
    """For everything that the demo has not."""
    return RefusalError(
        f"The demo model only chats: it answers POST /v1/chat/completions, POST /v1/responses and GET /v1/models, "
        f"not {method} /v1{path}. {_CONNECT}",
        code="demo_only_chats",
        status=404,
    )


# ── GET /models ──────────────────────────────────────────────────────────────────────────────────────────────────────


def model(created: int) -> Json:
    return {"id": MODEL, "object": "model", "created": created, "owned_by": "llm-gateway"}


def models(created: int) -> Json:
    return {"object": "list", "data": [model(created)]}


# ── POST /chat/completions ───────────────────────────────────────────────────────────────────────────────────────────


def completion(asked: Asked, stamp: Stamp) -> Json:
    speeches = speak(asked)
    return {
        "id": stamp.id,
        "object": "chat.completion",
        "created": stamp.created,
        "model": MODEL,
        "choices": [
            {
                "index": index,
                "message": {"role": "assistant", "content": speech.text, "refusal": None, "annotations": []},
                "logprobs": None,
                "finish_reason": speech.finish_reason,
            }
            for index, speech in enumerate(speeches)
        ],
        "usage": _chat_usage(asked, speeches),
    }


def completion_stream(asked: Asked, stamp: Stamp) -> Iterator[Timed]:
    """The same as events: the role first, the choices in turns, then how each ended, usage if asked for, `[DONE]`."""
    speeches = speak(asked)
    chunk = _chunks(asked, stamp)
    for index in range(len(speeches)):
        yield Timed(0, chunk([_choice(index, {"role": "assistant", "content": "", "refusal": None})]))
    words = 0.0
    for step in range(max(len(speech.tokens) for speech in speeches)):
        for index, speech in enumerate(speeches):
            if step < len(speech.tokens):
                yield Timed(words, chunk([_choice(index, {"content": speech.tokens[step]})]))
        words += max(speech.words / len(speech.tokens) for speech in speeches if speech.tokens)
    for index, speech in enumerate(speeches):
        yield Timed(words, chunk([_choice(index, {}, speech.finish_reason)]))
    if asked.wants_usage:
        yield Timed(words, chunk([], _chat_usage(asked, speeches)))
    yield Timed(words, b"data: [DONE]\n\n")


def _chunks(asked: Asked, stamp: Stamp) -> Callable[..., bytes]:
    head = {"id": stamp.id, "object": "chat.completion.chunk", "created": stamp.created, "model": MODEL}

    def chunk(choices: list[Json], usage: Json | None = None) -> bytes:
        body = head | {"choices": choices}
        if asked.wants_usage:
            body["usage"] = usage  # null in all but the last, as OpenAI sends it
        return b"data: %b\n\n" % _dumps(body)

    return chunk


def _choice(index: int, delta: Json, finish_reason: str | None = None) -> Json:
    return {"index": index, "delta": delta, "logprobs": None, "finish_reason": finish_reason}


def _chat_usage(asked: Asked, speeches: list[Speech]) -> Json:
    said = sum(len(speech.tokens) for speech in speeches)
    return {
        "prompt_tokens": asked.prompt_tokens,
        "completion_tokens": said,
        "total_tokens": asked.prompt_tokens + said,
    }


# ── POST /responses ──────────────────────────────────────────────────────────────────────────────────────────────────


def response(asked: Asked, stamp: Stamp) -> Json:
    return _response(asked, stamp, speak(asked)[0])


def _response(asked: Asked, stamp: Stamp, speech: Speech | None) -> Json:
    """The whole answer, or with no speech yet the one in progress."""
    body: Json = {
        "id": stamp.id,
        "object": "response",
        "created_at": stamp.created,
        "status": "in_progress",
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "max_output_tokens": asked.limit,
        "metadata": {},
        "model": MODEL,
        "output": [],
        "parallel_tool_calls": True,
        "temperature": None,
        "text": {"format": {"type": "text"}},
        "tool_choice": "auto",
        "tools": [],
        "top_p": None,
        "usage": None,
    }
    if speech is None:
        return body
    said = len(speech.tokens)
    body["status"] = "incomplete" if speech.is_cut else "completed"
    body["incomplete_details"] = {"reason": "max_output_tokens"} if speech.is_cut else None
    body["output"] = [_item(stamp, speech)]
    body["usage"] = {
        "input_tokens": asked.prompt_tokens,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": said,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": asked.prompt_tokens + said,
    }
    return body


def response_stream(asked: Asked, stamp: Stamp) -> Iterator[Timed]:
    """The same as events; the terminal one carries the whole response, and there is no `[DONE]`."""
    speech = speak(asked)[0]
    for sequence, (words, kind, fields) in enumerate(_response_events(asked, stamp, speech)):
        event = {"type": kind, "sequence_number": sequence} | fields
        yield Timed(words, b"event: %b\ndata: %b\n\n" % (kind.encode(), _dumps(event)))


def _response_events(asked: Asked, stamp: Stamp, speech: Speech) -> Iterator[tuple[float, str, Json]]:
    item = {"output_index": 0, "item_id": f"msg_{stamp.id}"}
    part = item | {"content_index": 0}
    begun = {"response": _response(asked, stamp, None)}
    words = 0.0
    yield words, "response.created", begun
    yield words, "response.in_progress", begun
    yield words, "response.output_item.added", {"output_index": 0, "item": _item(stamp, None)}
    yield words, "response.content_part.added", part | {"part": _part("")}
    for token in speech.tokens:
        yield words, "response.output_text.delta", part | {"delta": token, "logprobs": []}
        words += speech.words / len(speech.tokens)
    yield words, "response.output_text.done", part | {"text": speech.text, "logprobs": []}
    yield words, "response.content_part.done", part | {"part": _part(speech.text)}
    yield words, "response.output_item.done", {"output_index": 0, "item": _item(stamp, speech)}
    whole = _response(asked, stamp, speech)
    yield words, f"response.{whole['status']}", {"response": whole}


def _item(stamp: Stamp, speech: Speech | None) -> Json:
    status = "in_progress" if speech is None else "incomplete" if speech.is_cut else "completed"
    content = [] if speech is None else [_part(speech.text)]
    return {"type": "message", "id": f"msg_{stamp.id}", "status": status, "role": "assistant", "content": content}


def _part(text: str) -> Json:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def _dumps(body: Json) -> bytes:
    return orjson.dumps(body)
