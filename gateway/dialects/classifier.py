"""What the events of each dialect mean for the relay: which pass unread, which are kept first, which is the last."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from dataclasses import dataclass
from enum import Enum, auto
from typing import TYPE_CHECKING, ClassVar

from gateway.codec import jsontext
from gateway.codec.sse import parse_event
from gateway.dialects.fold_queue import NO_SHAPE, ChunkTemplate, Parsed, Slot
from gateway.dialects.openai_chat.assembler import ChatAssembler
from gateway.dialects.openai_responses.assembler import ResponsesAssembler
from gateway.dialects.shapes import error_in
from gateway.model import Kind

if TYPE_CHECKING:
    from collections.abc import Callable

    from gateway.codec.sse import Event
    from gateway.model import Json

Assembler = ChatAssembler | ResponsesAssembler

# Members that differ from event to event and mean nothing to the relay. Their names cannot stand inside of a JSON
# string, where quotes are escaped. Numbers differ with some upstreams only.
_TEXTS = re.compile(rb'"(content|reasoning_content|reasoning|refusal|text|delta|arguments|obfuscation|p)": ?(?=")')
_NUMBERS = re.compile(rb'"(?:sequence_number|created)": ?[0-9]++')
_TEXTS_AND_NUMBERS = re.compile(_TEXTS.pattern + rb'|"(sequence_number|created)": ?(?=[0-9])')
_STRING = re.compile(rb'"[^"\\\r\n]*+(?:\\[^\r\n][^"\\\r\n]*+)*+"')
_NUMBER = re.compile(rb"[0-9]++")
# OpenAI's random text that says nothing: a chunk's last member, of plain characters. Behind it only the chunk itself
# ends; what has its name within a delta or a choice is a field like any other.
_PADDING = b"obfuscation"
_PLAIN = re.compile(rb'"[ !#-\[\]-~]*+"')
_END = b"}\n\n"
_MOST_VARYING = 4
# To learn what events look like costs as much as looking at two. So it begins with the third: a stream's first event is
# like no other, and short streams end before it pays. Events that are never alike are not learned from for ever.
_FIRST_LESSON = 3
_LAST_LESSON = 66


class EventAction(Enum):
    """What an event means for the relay."""

    PASS = auto()
    PASS_UNKEPT = auto()  # nothing is said: a comment, an id, no data
    KEEP_THEN_PASS = auto()  # some clients take it for the end, so it must not be lost once they have seen it
    KEEP_ONLY = auto()  # asked for by the gateway, not by the caller
    ERROR = auto()  # the answer has failed, whatever follows; the upstream ends the stream itself
    LAST = auto()
    LAST_ERROR = auto()
    GARBLED = auto()


class EventClassifier(ABC):
    """Looks at the events of one answer. Nearly all of them are like the one before but for a piece of text: those need
    no look, which is what makes them cheap."""

    __slots__ = ("_judged", "_looks", "_numbers", "_parsed", "shape")
    texts: ClassVar[frozenset[bytes]] = frozenset()  # members of which one may be all that an event says

    def __init__(self) -> None:
        self.shape = NO_SHAPE  # of the last event that might pass
        self._looks = 0  # at events that might pass
        self._numbers: list[bytes] = []  # in the last of them
        self._judged = (b"", EventAction.PASS_UNKEPT)  # the last event that was judged
        self._parsed: Parsed | None = None  # its JSON object, if it has one and nobody took it

    def judge_raw(self, raw: bytes) -> EventAction:
        """What the bytes of one event mean."""
        judged, step = self._judged
        if raw != judged:
            step = self.classify(parse_event(raw))
            self._judged = raw, step
        return step

    def take_parsed(self, raw: bytes) -> Parsed | None:
        """The JSON object of this one event, once, if it is the one that was judged last."""
        if raw != self._judged[0]:
            return None
        found, self._parsed = self._parsed, None
        return found

    def classify(self, event: Event) -> EventAction:
        """What one event means."""
        self._parsed = None
        data = event.data.strip() if event.data is not None else b""
        if not data:
            return EventAction.PASS_UNKEPT
        if data == b"[DONE]":
            return EventAction.LAST
        self._parsed = found = _parsed(data)
        if found is None:
            return EventAction.ERROR if event.type == "error" or _is_list_of_errors(data) else EventAction.GARBLED
        return self.judge_object(found.body, event.type)

    @abstractmethod
    def judge_object(self, body: Json, kind: str) -> EventAction:
        """What an event with a JSON object means; `kind` is its `event:` name."""

    def plain(self, block: bytes) -> tuple[int, list[bytes] | None]:
        """Bytes of whole events at the block's start that are nothing but deltas and may pass unread; and their texts,
        as JSON, if these are all by which the events differ from each other and from others of this `shape`."""
        at = 0
        size = len(block)
        texts: list[bytes] | None = [] if self.shape.text is not None else None
        pieces, back, _ = self.shape
        text = b""
        while at < size:
            end = at
            for before, length, over, is_text in pieces:
                if not block.startswith(before, end) or (varying := over(block, end + length)) is None:
                    break
                end = varying.end()
                if is_text:
                    text = varying[0]
            else:
                if block.startswith(back, end):
                    at = end + len(back)
                    if texts is not None:
                        texts.append(text)
                    continue
            end = block.find(b"\n\n", at) + 2
            if end < 2 or not self._passes(block[at:end]):
                break
            at = end
            texts = None
            pieces, back, _ = self.shape
        return at, texts

    def _passes(self, event: bytes) -> bool:
        if b"\r" in event:
            return False
        if self.judge_raw(event) is not EventAction.PASS:
            return False
        self._looks += 1
        if self._looks <= _LAST_LESSON:
            numbers = _NUMBERS.findall(event)
            if self._looks >= _FIRST_LESSON:
                self._learn(event, _TEXTS if numbers == self._numbers else _TEXTS_AND_NUMBERS)
            self._numbers = numbers
        return True

    def _learn(self, event: bytes, members: re.Pattern[bytes]) -> None:
        pieces: list[Slot] = []
        names: list[bytes] = []
        at = 0
        for name in members.finditer(event):
            named = name[name.lastindex or 0]
            is_string = event[name.end()] == ord('"')
            over = (_PLAIN if named == _PADDING else _STRING if is_string else _NUMBER).match
            varying = over(event, name.end())
            if varying is None or name.start() < at:
                return
            before = event[at : name.end()]
            names.append(named)
            pieces.append(Slot(before, len(before), over, named in self.texts))
            at = varying.end()
        if 0 < len(pieces) <= _MOST_VARYING:
            self.shape = ChunkTemplate(tuple(pieces), event[at:], self._text(pieces, names, event[at:]))

    def _text(self, pieces: list[Slot], names: list[bytes], back: bytes) -> str | None:
        """The one text that events with these members say. Where a name may be written with escapes, nobody knows."""
        said = names[:-1] if names[-1] == _PADDING and back == _END else names
        is_clear = not any(b"\\" in piece.before for piece in pieces) and b"\\" not in back
        return said[0].decode() if len(said) == 1 and said[0] in self.texts and is_clear else None


class ChatClassifier(EventClassifier):
    """Chat completions: ended by `[DONE]`; the answer's substance is over with each choice's `finish_reason`."""

    __slots__ = ("_drops_usage",)
    texts = frozenset((b"content", b"reasoning_content", b"reasoning", b"refusal"))

    def __init__(self, *, drops_usage: bool) -> None:
        super().__init__()
        self._drops_usage = drops_usage

    def judge_object(self, body: Json, kind: str) -> EventAction:
        if kind == "error" or error_in(body) is not None:
            return EventAction.ERROR
        choices = body.get("choices")
        if self._drops_usage and choices == [] and body.get("usage"):
            return EventAction.KEEP_ONLY
        if isinstance(choices, list):
            for choice in choices:  # `any` costs twice as much, for each event that is like no other
                if isinstance(choice, dict) and choice.get("finish_reason"):
                    return EventAction.KEEP_THEN_PASS
        return EventAction.PASS


class ResponsesClassifier(EventClassifier):
    """The Responses API: ended by an event whose type says so."""

    __slots__ = ()

    def judge_object(self, body: Json, kind: str) -> EventAction:
        said = body.get("type")
        if isinstance(said, str):
            kind = said
        elif error_in(body) is not None:
            kind = "error"
        if kind in ("response.completed", "response.incomplete", "response.cancelled"):
            return EventAction.LAST
        if kind == "response.failed":
            return EventAction.LAST_ERROR
        return EventAction.ERROR if kind == "error" else EventAction.PASS  # OpenAI sends `response.failed` behind it


def parsed(data: bytes) -> Json | None:
    """An event's JSON object; None when it is none."""
    found = _parsed(data)
    return None if found is None else found.body


def _is_list_of_errors(data: bytes) -> bool:
    """Google wraps its error in a list."""
    if not data.startswith(b"["):
        return False
    try:
        listed, _ = jsontext.parse(data)
    except ValueError:
        return False
    return bool(listed) and all(isinstance(each, dict) and error_in(each) is not None for each in listed)


def _parsed(data: bytes) -> Parsed | None:
    try:
        value, is_plain = jsontext.parse(data)
    except ValueError:
        return None
    return Parsed(value, is_plain) if isinstance(value, dict) else None


@dataclass(frozen=True, slots=True)
class Dialect:
    """What tells one kind of conversation from the other."""

    kind: Kind
    path: str
    classifier: Callable[[bool], EventClassifier]  # told whether the usage event is the gateway's own wish
    assembler: Callable[[], Assembler]
    is_answer: Callable[[Json], bool]
    counts_on_request: bool  # a stream tells its usage only when asked (`stream_options.include_usage`)


CHAT = Dialect(
    kind=Kind.CHAT,
    path="/chat/completions",
    classifier=lambda drops_usage: ChatClassifier(drops_usage=drops_usage),
    assembler=ChatAssembler,
    is_answer=lambda body: isinstance(body.get("choices"), list) and not (body.get("error") and not body["choices"]),
    counts_on_request=True,
)
RESPONSES = Dialect(
    kind=Kind.RESPONSE,
    path="/responses",
    classifier=lambda drops_usage: ResponsesClassifier(),
    assembler=ResponsesAssembler,
    is_answer=lambda body: body.get("object") == "response",
    counts_on_request=False,
)
