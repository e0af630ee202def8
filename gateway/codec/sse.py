"""Splits server-sent events by the WHATWG rules, at any chunking. It never changes a byte.

An event ends with a blank line; a line ends with LF, CR or CRLF, in any mixture. In pairs of bytes: an event ends after
`\\n\\n`, `\\n\\r` and `\\r\\r`, but not after `\\r\\n`, which is one line end. The splitter looks for nothing else.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from gateway.errors import UpstreamGarbled

BOM = b"\xef\xbb\xbf"
_FIELDS = (b":", b"data:", b"event:", b"id:", b"retry:")  # the beginnings of a stream's lines
_LF, _CR = 10, 13
_AT_START = -1  # before the first byte: a byte order mark may follow, and a line starts

# Atomic and possessive, so that a CRLF at the end of a block does not match as two line ends. The last branch matches
# an unfinished event.
_EVENT = re.compile(rb"(?:\A\xef\xbb\xbf)?+(?:[^\r\n]++(?>\r\n|\n|\r))*+(?>\r\n|\n|\r)|[\s\S]+")


class EventTooLong(UpstreamGarbled):
    """An event is longer than the limit and has no end. `whole` are the events before it in the same read."""

    code = "upstream_event_too_long"

    def __init__(self, message: str, whole: bytes) -> None:
        super().__init__(message)
        self.whole = whole


class EventSplitter:
    """Takes an upstream's reads and returns whole events, unchanged.

    All results of `feed` and then `pending` are the input, byte for byte. `limit` is in bytes.
    """

    __slots__ = ("_last", "_limit", "_pending")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._pending = bytearray()  # grows in place: an event in many reads is copied once, at its end
        self._last = _AT_START

    @property
    def is_in_line_end(self) -> bool:
        """Whether an LF may still complete the last event's line end."""
        return self._last == _CR and not self._pending

    @property
    def pending(self) -> bytes:
        """The bytes of an event that has not ended yet."""
        return bytes(self._pending)

    def feed(self, data: bytes) -> bytes:
        """The events that `data` completes, as one block. Raises EventTooLong."""
        if not self._pending and data.endswith(b"\n\n"):  # two LF end an event, whatever precedes them
            self._last = _LF
            return data
        return self._feed(data) if data else b""

    def _feed(self, data: bytes) -> bytes:
        if self._last == _AT_START:
            end = self._end_at_start(data)
        else:
            end = max(self._end_across(data), _last_end(data))
            self._last = data[-1]
        whole = self._take(data, end)
        if len(self._pending) > self._limit:
            raise EventTooLong(f"an event of more than {self._limit} bytes has no end", whole)
        return whole

    def _take(self, data: bytes, end: int) -> bytes:
        if end == 0:
            self._pending += data
            return b""
        if not self._pending:
            whole = data[:end]
        else:
            self._pending += data[:end]
            whole = bytes(self._pending)
        self._pending = bytearray(data[end:])
        return whole

    def _end_across(self, data: bytes) -> int:
        """Return where in `data` an event ends whose last line end began in the previous read, or 0."""
        last, first = self._last, data[0]
        if last == _CR and first == _LF:
            # The second half of a CRLF. If its CR has ended an event, the LF is passed on at once: it starts no event.
            return 0 if self._pending else 1
        if last not in (_LF, _CR) or first not in (_LF, _CR):
            return 0
        return 2 if data[:2] == b"\r\n" else 1

    def _end_at_start(self, data: bytes) -> int:
        """The end of the last event in a stream's first bytes, which may begin with a byte order mark, in pieces."""
        seen = len(self._pending)
        head = bytes(self._pending) + data
        if len(head) < len(BOM) and BOM.startswith(head):
            return 0
        start = len(BOM) if head.startswith(BOM) else 0
        self._last = head[-1] if len(head) > start else _LF
        # A line end in front marks the start of a line, so that a blank first line is found like any other.
        end = _last_end(b"\n" + head[start:])
        return end and start + end - 1 - seen


def _last_end(data: bytes) -> int:
    """Return where the last whole event in `data` ends, or 0. Bytes before `data` are not considered."""
    last = data.rfind(b"\n\n")
    if b"\r" in data:
        last = max(last, data.rfind(b"\n\r"), data.rfind(b"\r\r"))
    if last < 0:
        return 0
    end = last + 2
    return end + 1 if data[end - 1 : end + 1] == b"\r\n" else end


def split_events(block: bytes) -> list[bytes]:
    """The events of a block, each with the blank line that ends it. Joined they are the block.

    An unfinished event at the end is the last item. A lone blank line is an item of its own.
    """
    return _EVENT.findall(block)


def begins_like_events(head: bytes) -> bool | None:
    """Whether a body with this beginning is a stream of events; None: the beginning is too short."""
    text = head.removeprefix(BOM).lstrip(b"\r\n")
    if BOM.startswith(head) or not text:
        return None
    if text.startswith(_FIELDS):
        return True
    return None if any(field.startswith(text) for field in _FIELDS) else False


def begins_like_json(head: bytes) -> bool | None:
    """Whether a body with this beginning is a JSON object or list, and so no stream; None: it is too short."""
    text = head.removeprefix(BOM).lstrip()
    return None if BOM.startswith(head) or not text else text.startswith((b"{", b"["))


def line_end_of(block: bytes) -> bytes:
    """The line end of a stream, taken from its last whole event."""
    if block.endswith((b"\r\n", b"\n\r")):
        return b"\r\n"
    return b"\r" if block.endswith(b"\r") else b"\n"


def heartbeat_after(block: bytes) -> bytes | None:
    """A comment that may follow these whole events of a stream; None where it could split a line end.

    It is one line without a blank line: openai-go before 3.43, and openai-python where events have ids, take a blank
    line for an event even if only a comment precedes it. The comment has the stream's own line end, for clients that
    split at the line end that they saw first.
    """
    if block.endswith(b"\n\r"):  # an LF may follow, which would be one line end more behind the comment
        return None
    return b": heartbeat" + (b"\r\n" if block == b"\n" else line_end_of(block))  # this LF completed a CRLF


class Event(NamedTuple):
    """One event. `data` is None without a data line (a comment, an id): clients do not report such an event."""

    raw: bytes
    type: str
    data: bytes | None


def parse_event(raw: bytes) -> Event:
    """Parse one event of `split_events`. A byte order mark before a stream's first event is not part of its line."""
    if raw.startswith(b"data: ") and raw.find(b"\n") == len(raw) - 2 and raw.endswith(b"\n\n") and b"\r" not in raw:
        return Event(raw, "message", raw[6:-2])  # the form of nearly all upstreams, at a third of the cost
    data: list[bytes] = []
    kind = b""
    for line in raw.removeprefix(BOM).splitlines():  # `bytes.splitlines` splits at LF, CR and CRLF only
        name, _, value = line.partition(b":")
        if name == b"data":
            data.append(value.removeprefix(b" "))
        elif name == b"event":
            kind = value.removeprefix(b" ")
    return Event(raw, kind.decode("utf-8", "replace") or "message", b"\n".join(data) if data else None)


def data_payloads(block: bytes) -> list[bytes]:
    """The data of all events of a block that have data."""
    if block.startswith(b"data: ") and block.endswith(b"\n\n") and b"\r" not in block:
        payloads = block[6:-2].split(b"\n\ndata: ")
        if block.count(b"\n") == 2 * len(payloads):  # no other lines: the form of nearly all upstreams
            return payloads
    return [event.data for event in map(parse_event, split_events(block)) if event.data is not None]
