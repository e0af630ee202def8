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

    def plain_length(self, block: bytes) -> int:
        """Bytes of whole events at the block's start that are nothing but deltas and may pass unread."""
        ...

    def judge(self, event: Event) -> Step: ...


class ChatCare:
    """Chat completions: ended by `[DONE]`; the answer's substance is over with each choice's `finish_reason`."""

    __slots__ = ("_drops_usage", "_marks")

    _MARKS = (b"[DONE]", b'"error"', b'"finish_reason":"', b'"finish_reason": "')
    _USAGE_MARKS = (b'"choices":[]', b'"choices": []')

    def __init__(self, *, drops_usage: bool) -> None:
        self._drops_usage = drops_usage
        self._marks = self._MARKS + self._USAGE_MARKS if drops_usage else self._MARKS

    def plain_length(self, block: bytes) -> int:
        return plain_length(block, b"data: {", self._marks)

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

    def plain_length(self, block: bytes) -> int:
        return plain_length(block, (b"event: ", b"data: {"), self._MARKS)

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


def plain_length(block: bytes, start: bytes | tuple[bytes, ...], marks: tuple[bytes, ...]) -> int:
    """Bytes of a block before the event with the first mark. Quotes inside of JSON strings are escaped, so that no text of
    an answer can look like a member; what looks like a mark for another reason is merely judged in vain."""
    if not block.startswith(start) or b"\r" in block:
        return 0
    first = len(block)
    for mark in marks:
        at = block.find(mark, 0, first)
        if at >= 0:
            first = at
    if first == len(block):
        return first if block.endswith(b"}\n\n") else 0
    end = block.rfind(b"\n\n", 0, first)
    return end + 2 if end >= 0 else 0


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
