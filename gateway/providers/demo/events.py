"""The demo model's answers in two OpenAI protocols: bodies, and timed stream events. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import orjson

from gateway.providers.demo.answers import answer, own_answer
from gateway.providers.demo.requests import MODEL, tokens_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from gateway.providers.demo.requests import DemoRequest, Json


class TimedBytes(NamedTuple):
    """Bytes of a body, and when they are due: after so many words of the answer."""

    words: float
    data: bytes


@dataclass(frozen=True, slots=True)
class DemoChoice:
    """One choice of the answer: its tokens within the limit, and the number of words in them."""

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
class AnswerId:
    """Id and time of one answer. The caller makes them, so that this module stays pure."""

    id: str
    created: int


def choices_of(request: DemoRequest) -> list[DemoChoice]:
    return [_new_choice(request, index) for index in range(request.choices)]


def _new_choice(request: DemoRequest, index: int) -> DemoChoice:
    text = own_answer(request.instructions, request.question)
    if text is None:
        text = answer(request.question, request.earlier, request.turn, index)
    for stop in request.stops:
        text = text.partition(stop)[0]
    tokens = tokens_of(text)
    sent = tuple(tokens if request.limit is None else tokens[: request.limit])
    return DemoChoice(sent, words=len("".join(sent).split()), is_cut=len(sent) < len(tokens))


# ── GET /models ──────────────────────────────────────────────────────────────────────────────────────────────────────


def model(created: int) -> Json:
    return {"id": MODEL, "object": "model", "created": created, "owned_by": "llm-gateway"}


def models(created: int) -> Json:
    return {"object": "list", "data": [model(created)]}


# ── POST /chat/completions ───────────────────────────────────────────────────────────────────────────────────────────


def completion(request: DemoRequest, answer_id: AnswerId) -> Json:
    choices = choices_of(request)
    return {
        "id": answer_id.id,
        "object": "chat.completion",
        "created": answer_id.created,
        "model": MODEL,
        "choices": [
            {
                "index": index,
                "message": {"role": "assistant", "content": choice.text, "refusal": None, "annotations": []},
                "logprobs": None,
                "finish_reason": choice.finish_reason,
            }
            for index, choice in enumerate(choices)
        ],
        "usage": _chat_usage(request, choices),
    }


def completion_stream(request: DemoRequest, answer_id: AnswerId) -> Iterator[TimedBytes]:
    """The answer as events: roles, the choices' tokens in turn, finish reasons, usage if requested, `[DONE]`."""
    choices = choices_of(request)
    chunk = _chunks(request, answer_id)
    for index in range(len(choices)):
        yield TimedBytes(0, chunk([_choice(index, {"role": "assistant", "content": "", "refusal": None})]))
    words = 0.0
    for step in range(max(len(choice.tokens) for choice in choices)):
        for index, choice in enumerate(choices):
            if step < len(choice.tokens):
                yield TimedBytes(words, chunk([_choice(index, {"content": choice.tokens[step]})]))
        words += max(choice.words / len(choice.tokens) for choice in choices if choice.tokens)
    for index, choice in enumerate(choices):
        yield TimedBytes(words, chunk([_choice(index, {}, choice.finish_reason)]))
    if request.wants_usage:
        yield TimedBytes(words, chunk([], _chat_usage(request, choices)))
    yield TimedBytes(words, b"data: [DONE]\n\n")


def _chunks(request: DemoRequest, answer_id: AnswerId) -> Callable[..., bytes]:
    head = {"id": answer_id.id, "object": "chat.completion.chunk", "created": answer_id.created, "model": MODEL}

    def chunk(choices: list[Json], usage: Json | None = None) -> bytes:
        body = head | {"choices": choices}
        if request.wants_usage:
            body["usage"] = usage  # null in all chunks but the last, as OpenAI sends it
        return b"data: %b\n\n" % _dumps(body)

    return chunk


def _choice(index: int, delta: Json, finish_reason: str | None = None) -> Json:
    return {"index": index, "delta": delta, "logprobs": None, "finish_reason": finish_reason}


def _chat_usage(request: DemoRequest, choices: list[DemoChoice]) -> Json:
    sent = sum(len(choice.tokens) for choice in choices)
    return {
        "prompt_tokens": request.prompt_tokens,
        "completion_tokens": sent,
        "total_tokens": request.prompt_tokens + sent,
    }


# ── POST /responses ──────────────────────────────────────────────────────────────────────────────────────────────────


def response(request: DemoRequest, answer_id: AnswerId) -> Json:
    return _response(request, answer_id, choices_of(request)[0])


def _response(request: DemoRequest, answer_id: AnswerId, choice: DemoChoice | None) -> Json:
    """The complete response, or without a choice the one in progress."""
    body: Json = {
        "id": answer_id.id,
        "object": "response",
        "created_at": answer_id.created,
        "status": "in_progress",
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "max_output_tokens": request.limit,
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
    if choice is None:
        return body
    sent = len(choice.tokens)
    body["status"] = "incomplete" if choice.is_cut else "completed"
    body["incomplete_details"] = {"reason": "max_output_tokens"} if choice.is_cut else None
    body["output"] = [_item(answer_id, choice)]
    body["usage"] = {
        "input_tokens": request.prompt_tokens,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": sent,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": request.prompt_tokens + sent,
    }
    return body


def response_stream(request: DemoRequest, answer_id: AnswerId) -> Iterator[TimedBytes]:
    """The response as events. The terminal event has the complete response; there is no `[DONE]`."""
    choice = choices_of(request)[0]
    for sequence, (words, kind, fields) in enumerate(_response_events(request, answer_id, choice)):
        event = {"type": kind, "sequence_number": sequence} | fields
        yield TimedBytes(words, b"event: %b\ndata: %b\n\n" % (kind.encode(), _dumps(event)))


def _response_events(
    request: DemoRequest, answer_id: AnswerId, choice: DemoChoice
) -> Iterator[tuple[float, str, Json]]:
    item = {"output_index": 0, "item_id": f"msg_{answer_id.id}"}
    part = item | {"content_index": 0}
    begun = {"response": _response(request, answer_id, None)}
    words = 0.0
    yield words, "response.created", begun
    yield words, "response.in_progress", begun
    yield words, "response.output_item.added", {"output_index": 0, "item": _item(answer_id, None)}
    yield words, "response.content_part.added", part | {"part": _part("")}
    for token in choice.tokens:
        yield words, "response.output_text.delta", part | {"delta": token, "logprobs": []}
        words += choice.words / len(choice.tokens)
    yield words, "response.output_text.done", part | {"text": choice.text, "logprobs": []}
    yield words, "response.content_part.done", part | {"part": _part(choice.text)}
    yield words, "response.output_item.done", {"output_index": 0, "item": _item(answer_id, choice)}
    whole = _response(request, answer_id, choice)
    yield words, f"response.{whole['status']}", {"response": whole}


def _item(answer_id: AnswerId, choice: DemoChoice | None) -> Json:
    status = "in_progress" if choice is None else "incomplete" if choice.is_cut else "completed"
    content = [] if choice is None else [_part(choice.text)]
    return {"type": "message", "id": f"msg_{answer_id.id}", "status": status, "role": "assistant", "content": content}


def _part(text: str) -> Json:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def _dumps(body: Json) -> bytes:
    return orjson.dumps(body)
