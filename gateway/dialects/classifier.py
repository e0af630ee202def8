"""Classifies the events of an answer for the relay: pass unread, keep first, error, or last."""

from __future__ import annotations

from abc import ABC, abstractmethod
from enum import Enum, auto
from typing import TYPE_CHECKING, ClassVar

from gateway.codec import jsontext
from gateway.codec.sse import parse_event
from gateway.dialects.chunk_template import NO_TEMPLATE, NUMBERS, template_of
from gateway.dialects.parsing import ParsedObject, parse_object
from gateway.dialects.shapes import error_in

if TYPE_CHECKING:
    from gateway.codec.sse import Event
    from gateway.model import Json

# To make a template costs as much as to classify two events. So it begins with the third: a stream's first event is
# unlike all others, and short streams end before it pays. A stream whose events never match gives up at the last.
_FIRST_TEMPLATE_AT = 3
_LAST_TEMPLATE_AT = 66


class EventAction(Enum):
    """The relay's action for an event."""

    PASS = auto()
    PASS_UNKEPT = auto()  # it has no content: a comment, an id, no data
    KEEP_THEN_PASS = auto()  # some clients take it for the end, so it must be kept before they see it
    KEEP_ONLY = auto()  # the gateway asked for it, the caller did not
    ERROR = auto()  # the answer has failed, whatever follows; the upstream ends the stream itself
    LAST = auto()
    LAST_ERROR = auto()
    GARBLED = auto()


class EventClassifier(ABC):
    """Classifies the events of one answer. Events that match the template of the one before pass unread."""

    __slots__ = ("_last", "_numbers", "_parsed", "_seen", "template")
    texts: ClassVar[frozenset[bytes]] = frozenset()  # members that may be the whole content of an event

    def __init__(self) -> None:
        self.template = NO_TEMPLATE  # of the last event that was classified as PASS
        self._seen = 0  # number of these events
        self._numbers: list[bytes] = []  # in the last of them
        self._last = (b"", EventAction.PASS_UNKEPT)  # the event that was classified last, and its action
        self._parsed: ParsedObject | None = None  # the JSON object of that event, until it is taken

    def classify_raw(self, raw: bytes) -> EventAction:
        """The action for the bytes of one event."""
        last, action = self._last
        if raw != last:
            action = self.classify(parse_event(raw))
            self._last = raw, action
        return action

    def take_parsed(self, raw: bytes) -> ParsedObject | None:
        """The JSON object of the event that was classified last, if `raw` is that event; only once."""
        if raw != self._last[0]:
            return None
        parsed, self._parsed = self._parsed, None
        return parsed

    def classify(self, event: Event) -> EventAction:
        """The action for one event."""
        self._parsed = None
        data = event.data.strip() if event.data is not None else b""
        if not data:
            return EventAction.PASS_UNKEPT
        if data == b"[DONE]":
            return EventAction.LAST
        self._parsed = parsed = parse_object(data)
        if parsed is None:
            return EventAction.ERROR if event.type == "error" or _is_list_of_errors(data) else EventAction.GARBLED
        return self.classify_object(parsed.body, event.type)

    @abstractmethod
    def classify_object(self, body: Json, event_type: str) -> EventAction:
        """The action for an event with a JSON object; `event_type` is its `event:` field."""

    def scan_deltas(self, block: bytes) -> tuple[int, list[bytes] | None]:
        """The length of the whole events at the block's start that are deltas and may pass unread, and their texts.

        The texts are JSON strings. None: the events differ in more than one text, or not all match `template`.
        """
        at = 0
        size = len(block)
        texts: list[bytes] | None = [] if self.template.text is not None else None
        slots, tail, _ = self.template
        text = b""
        while at < size:
            end = at
            for before, length, skip, is_text in slots:
                if not block.startswith(before, end) or (value := skip(block, end + length)) is None:
                    break
                end = value.end()
                if is_text:
                    text = value[0]
            else:
                if block.startswith(tail, end):
                    at = end + len(tail)
                    if texts is not None:
                        texts.append(text)
                    continue
            end = block.find(b"\n\n", at) + 2
            if end < 2 or not self._passes(block[at:end]):
                break
            at = end
            texts = None
            slots, tail, _ = self.template
        return at, texts

    def _passes(self, event: bytes) -> bool:
        if b"\r" in event:
            return False
        if self.classify_raw(event) is not EventAction.PASS:
            return False
        self._seen += 1
        if self._seen <= _LAST_TEMPLATE_AT:
            numbers = NUMBERS.findall(event)
            if self._seen >= _FIRST_TEMPLATE_AT:
                template = template_of(event, self.texts, with_numbers=numbers != self._numbers)
                if template is not None:
                    self.template = template
            self._numbers = numbers
        return True


def _is_list_of_errors(data: bytes) -> bool:
    """Google wraps its error in a list."""
    if not data.startswith(b"["):
        return False
    try:
        listed, _ = jsontext.parse(data)
    except ValueError:
        return False
    return bool(listed) and all(isinstance(each, dict) and error_in(each) is not None for each in listed)
