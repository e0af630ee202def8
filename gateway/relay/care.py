"""What the events of each dialect mean for the relay: which may pass unread, which must be kept first, which is the last."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from typing import TYPE_CHECKING, Protocol

import orjson

from gateway.chat.assembler import ChatAssembler
from gateway.chat.responses import ResponsesAssembler
from gateway.model import Kind

if TYPE_CHECKING:
    from collections.abc import Callable

    from gateway.chat.sse import Event
    from gateway.model import Json

Assembler = ChatAssembler | ResponsesAssembler


class Step(Enum):
    """What an event means for the relay."""

    PASS = auto()
    PASS_UNKEPT = auto()  # a comment
    KEEP_THEN_PASS = auto()  # some clients take it for the end, so it must not be lost once they have seen it
    KEEP_ONLY = auto()  # asked for by the gateway, not by the caller
    LAST = auto()
    LAST_ERROR = auto()
    GARBLED = auto()


class Care(Protocol):
    """Which events of a dialect need a closer look, and what they then mean."""

    def is_plain(self, block: bytes) -> bool: ...

    def judge(self, event: Event) -> Step: ...


class ChatCare:
    """Chat completions: ended by `[DONE]`; the answer's substance is over with each choice's `finish_reason`."""

    __slots__ = ("_drops_usage",)

    def __init__(self, *, drops_usage: bool) -> None:
        self._drops_usage = drops_usage

    def is_plain(self, block: bytes) -> bool:
        """Whether a block of events is nothing but deltas. Quotes inside of JSON strings are escaped, so that a text
        cannot look like a member; what looks like one is judged event by event."""
        return (
            block.startswith(b"data: {")
            and block.endswith(b"}\n\n")
            and b"[DONE]" not in block
            and b'"error"' not in block
            and b'"finish_reason":"' not in block
            and b'"finish_reason": "' not in block
            and not (self._drops_usage and (b'"choices":[]' in block or b'"choices": []' in block))
        )

    def judge(self, event: Event) -> Step:
        data = event.data
        if data is None:
            return Step.PASS_UNKEPT
        if data.strip() == b"[DONE]":
            return Step.LAST
        if not looks_like_object(data):
            return Step.GARBLED
        if b'"error"' in data and parsed(data).get("error"):
            return Step.LAST_ERROR
        if self._drops_usage and b'"choices"' in data and is_usage_only(parsed(data)):
            return Step.KEEP_ONLY
        if b'"finish_reason"' in data and b'"finish_reason":null' not in data:
            return Step.KEEP_THEN_PASS
        return Step.PASS


class ResponsesCare:
    """The Responses API: ended by an event whose type says so."""

    __slots__ = ()

    _MARKS = (b"response.completed", b"response.incomplete", b"response.failed", b'"error"', b"[DONE]")

    def is_plain(self, block: bytes) -> bool:
        return block.startswith((b"event: ", b"data: {")) and not any(mark in block for mark in self._MARKS)

    def judge(self, event: Event) -> Step:
        data = event.data
        if data is None:
            return Step.PASS_UNKEPT
        if data.strip() == b"[DONE]":
            return Step.LAST
        if not looks_like_object(data):
            return Step.GARBLED
        kind = parsed(data).get("type", event.type)
        if kind in ("response.completed", "response.incomplete", "response.failed"):
            return Step.LAST
        return Step.LAST_ERROR if kind == "error" else Step.PASS


def looks_like_object(data: bytes) -> bool:
    text = data.strip()
    return text.startswith(b"{") and text.endswith(b"}")


def parsed(data: bytes) -> dict[str, object]:
    """An event's JSON object; empty when it is none, for the assembler will report that."""
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError:
        return {}
    return value if isinstance(value, dict) else {}


def is_usage_only(chunk: dict[str, object]) -> bool:
    return chunk.get("choices") == [] and bool(chunk.get("usage"))


@dataclass(frozen=True, slots=True)
class Dialect:
    """What tells one kind of conversation from the other."""

    kind: Kind
    path: str
    care: Callable[[bool], Care]  # told whether the usage event is the gateway's own wish
    assembler: Callable[[], Assembler]
    is_answer: Callable[[Json], bool]
    counts_on_request: bool  # a stream tells its usage only when asked (`stream_options.include_usage`)


CHAT = Dialect(
    kind=Kind.CHAT,
    path="/chat/completions",
    care=lambda drops_usage: ChatCare(drops_usage=drops_usage),
    assembler=ChatAssembler,
    is_answer=lambda body: isinstance(body.get("choices"), list),
    counts_on_request=True,
)
RESPONSES = Dialect(
    kind=Kind.RESPONSE,
    path="/responses",
    care=lambda drops_usage: ResponsesCare(),
    assembler=ResponsesAssembler,
    is_answer=lambda body: body.get("object") == "response",
    counts_on_request=False,
)
