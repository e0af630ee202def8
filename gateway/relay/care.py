"""What the events of each dialect mean for the relay: which pass unread, which are kept first, which is the last."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from dataclasses import dataclass
from enum import Enum, auto
from typing import TYPE_CHECKING

from gateway.chat import jsontext
from gateway.chat.assembler import ChatAssembler
from gateway.chat.responses import ResponsesAssembler
from gateway.chat.sse import parse_event
from gateway.model import Kind

if TYPE_CHECKING:
    from collections.abc import Callable

    from gateway.chat.sse import Event
    from gateway.model import Json

    _Piece = tuple[bytes, int, Callable[[bytes, int], re.Match[bytes] | None]]

Assembler = ChatAssembler | ResponsesAssembler

# Members of a delta that differ from event to event and mean nothing to the relay. Their names cannot stand inside of a
# JSON string, where quotes are escaped.
_VARYING = re.compile(
    rb'"(?:content|reasoning_content|reasoning|refusal|text|delta|arguments|obfuscation|p)": ?(?=")'
    rb'|"(?:sequence_number|created)": ?(?=[0-9])'
)
_STRING = re.compile(rb'"[^"\\\r\n]*+(?:\\[^\r\n][^"\\\r\n]*+)*+"')
_NUMBER = re.compile(rb"[0-9]++")
_MOST_VARYING = 4
# To learn what events look like costs as much as looking at two. So it begins with the third: a stream's first event is
# like no other, and short streams end before it pays. An upstream whose events are never alike is not learned from for ever.
_FIRST_LESSON = 3
_LAST_LESSON = 66


class Step(Enum):
    """What an event means for the relay."""

    PASS = auto()
    PASS_UNKEPT = auto()  # nothing is said: a comment, an id, no data
    KEEP_THEN_PASS = auto()  # some clients take it for the end, so it must not be lost once they have seen it
    KEEP_ONLY = auto()  # asked for by the gateway, not by the caller
    LAST = auto()
    LAST_ERROR = auto()
    GARBLED = auto()


class Care(ABC):
    """Looks at the events of one answer. Nearly all of them are like the one before but for a piece of text: those need
    no look, which is what makes them cheap."""

    __slots__ = ("_back", "_judged", "_looks", "_pieces")

    def __init__(self) -> None:
        # The last event that might pass, without its varying members: what stands before each, with how to get over it,
        # and what stands behind the last.
        self._pieces: list[_Piece] = []
        self._back = b"\0"
        self._looks = 0  # at events that might pass
        self._judged = (b"", Step.PASS_UNKEPT)  # the last event that might not, which is looked at closely next

    def judge_raw(self, raw: bytes) -> Step:
        """What the bytes of one event mean."""
        judged, step = self._judged
        return step if raw == judged else self.judge(parse_event(raw))

    def judge(self, event: Event) -> Step:
        """What one event means."""
        data = event.data.strip() if event.data is not None else b""
        if not data:
            return Step.PASS_UNKEPT
        if data == b"[DONE]":
            return Step.LAST
        body = parsed(data)
        return Step.GARBLED if body is None else self.judge_object(body, event.type)

    @abstractmethod
    def judge_object(self, body: Json, kind: str) -> Step:
        """What an event with a JSON object means; `kind` is its `event:` name."""

    def plain_length(self, block: bytes) -> int:
        """Bytes of whole events at the block's start that are nothing but deltas and may pass unread."""
        at = 0
        size = len(block)
        while at < size:
            end = at
            for before, length, over in self._pieces:
                if not block.startswith(before, end) or (varying := over(block, end + length)) is None:
                    break
                end = varying.end()
            else:
                if block.startswith(self._back, end):
                    at = end + len(self._back)
                    continue
            end = block.find(b"\n\n", at) + 2
            if end < 2 or not self._passes(block[at:end]):
                break
            at = end
        return at

    def _passes(self, event: bytes) -> bool:
        if b"\r" in event:
            return False
        step = self.judge(parse_event(event))
        if step is not Step.PASS:
            self._judged = event, step
            return False
        self._looks += 1
        if _FIRST_LESSON <= self._looks <= _LAST_LESSON:
            self._learn(event)
        return True

    def _learn(self, event: bytes) -> None:
        pieces: list[_Piece] = []
        at = 0
        for name in _VARYING.finditer(event):
            over = _STRING.match if event[name.end()] == ord('"') else _NUMBER.match
            varying = over(event, name.end())
            if varying is None or name.start() < at:
                return
            before = event[at : name.end()]
            pieces.append((before, len(before), over))
            at = varying.end()
        if 0 < len(pieces) <= _MOST_VARYING:
            self._pieces = pieces
            self._back = event[at:]


class ChatCare(Care):
    """Chat completions: ended by `[DONE]`; the answer's substance is over with each choice's `finish_reason`."""

    __slots__ = ("_drops_usage",)

    def __init__(self, *, drops_usage: bool) -> None:
        super().__init__()
        self._drops_usage = drops_usage

    def judge_object(self, body: Json, kind: str) -> Step:
        if body.get("error") or body.get("object") == "error":  # vLLM says the latter
            return Step.LAST_ERROR
        choices = body.get("choices")
        if self._drops_usage and choices == [] and body.get("usage"):
            return Step.KEEP_ONLY
        if isinstance(choices, list) and any(isinstance(one, dict) and one.get("finish_reason") for one in choices):
            return Step.KEEP_THEN_PASS
        return Step.PASS


class ResponsesCare(Care):
    """The Responses API: ended by an event whose type says so."""

    __slots__ = ()

    def judge_object(self, body: Json, kind: str) -> Step:
        said = body.get("type")
        if isinstance(said, str):
            kind = said
        elif body.get("error"):
            kind = "error"
        if kind in ("response.completed", "response.incomplete", "response.cancelled"):
            return Step.LAST
        return Step.LAST_ERROR if kind in ("error", "response.failed") else Step.PASS


def parsed(data: bytes) -> Json | None:
    """An event's JSON object; None when it is none."""
    try:
        value, _ = jsontext.parse(data)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


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
    is_answer=lambda body: isinstance(body.get("choices"), list) and not (body.get("error") and not body["choices"]),
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
