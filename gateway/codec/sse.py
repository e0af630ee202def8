"""Server-sent events: bytes to whole events, by the WHATWG rules and at any chunking. No byte is ever changed.

An event ends with a blank line; a line ends with LF, CR or CRLF, mixed as the sender likes. In pairs of bytes: an event
ends after `\\n\\n`, `\\n\\r` and `\\r\\r`, but not after `\\r\\n`, which is one line end. Nothing else is looked for.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from gateway.errors import UpstreamGarbled

BOM = b"\xef\xbb\xbf"
_FIELDS = (b":", b"data:", b"event:", b"id:", b"retry:")  # with these a line of a stream begins
_LF, _CR = 10, 13
_AT_START = -1  # nothing was read yet: a byte order mark may come, and a line starts

# Atomic and possessive: without them a CRLF at the end of a block could be taken for two line ends. The last branch
# takes what has no end.
_EVENT = re.compile(rb"(?:\A\xef\xbb\xbf)?+(?:[^\r\n]++(?>\r\n|\n|\r))*+(?>\r\n|\n|\r)|[\s\S]+")


class EventTooLong(UpstreamGarbled):
    """An event grew past the limit without an end. `whole` are the events that the same read completed before it."""

    code = "upstream_event_too_long"

    def __init__(self, message: str, whole: bytes) -> None:
        super().__init__(message)
        self.whole = whole


class EventSplitter:
    """Takes an upstream's reads as they come, gives back whole events as they came.

    All returns of `feed` together with `pending` are always the input, byte for byte. `limit` is in bytes.
    """

    __slots__ = ("_last", "_limit", "_pending")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._pending = bytearray()  # grows in place: an event that drips in is copied once, at its end
        self._last = _AT_START

    @property
    def is_in_line_end(self) -> bool:
        """Whether the last event's line end may still get its LF."""
        return self._last == _CR and not self._pending

    @property
    def pending(self) -> bytes:
        """What was read of an event that has not ended yet."""
        return bytes(self._pending)

    def feed(self, data: bytes) -> bytes:
        """The events that `data` completes, in one piece. Raises EventTooLong."""
        if not self._pending and data.endswith(b"\n\n"):  # whatever stands before them, two LF end an event
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
        """The end of an event that lies on the seam between the last read and this one; 0 if there is none."""
        last, first = self._last, data[0]
        if last == _CR and first == _LF:
            # The second half of a CRLF. If its CR has already ended an event it goes out at once: it starts none.
            return 0 if self._pending else 1
        if last not in (_LF, _CR) or first not in (_LF, _CR):
            return 0
        return 2 if data[:2] == b"\r\n" else 1

    def _end_at_start(self, data: bytes) -> int:
        """A stream begins at the start of a line, behind a byte order mark if there is one (it may come in pieces)."""
        seen = len(self._pending)
        head = bytes(self._pending) + data
        if len(head) < len(BOM) and BOM.startswith(head):
            return 0
        start = len(BOM) if head.startswith(BOM) else 0
        self._last = head[-1] if len(head) > start else _LF
        # A line end in front stands for the start of a line: a blank first line is then found like any other.
        end = _last_end(b"\n" + head[start:])
        return end and start + end - 1 - seen


def _last_end(data: bytes) -> int:
    """Where the last whole event of `data` ends; 0 if none does. What lies before `data` is not looked at."""
    last = data.rfind(b"\n\n")
    if b"\r" in data:
        last = max(last, data.rfind(b"\n\r"), data.rfind(b"\r\r"))
    if last < 0:
        return 0
    end = last + 2
    return end + 1 if data[end - 1 : end + 1] == b"\r\n" else end


def split_events(block: bytes) -> list[bytes]:
    """A block of whole events, each with the blank line that ends it. Joined they are the block.

    An unfinished event at the end, if there is one, is the last piece. A lone blank line is a piece of its own.
    """
    return _EVENT.findall(block)


def begins_like_events(head: bytes) -> bool | None:
    """Whether a body that begins so is a stream of events; None: it is too short to tell."""
    text = head.removeprefix(BOM).lstrip(b"\r\n")
    if BOM.startswith(head) or not text:
        return None
    if text.startswith(_FIELDS):
        return True
    return None if any(field.startswith(text) for field in _FIELDS) else False


def begins_like_json(head: bytes) -> bool | None:
    """Whether a body that begins so is a JSON object or list, which no event is; None: it is too short to tell."""
    text = head.removeprefix(BOM).lstrip()
    return None if BOM.startswith(head) or not text else text.startswith((b"{", b"["))


def line_end_of(block: bytes) -> bytes:
    """With what the lines of a stream end, as its last whole event shows it."""
    if block.endswith((b"\r\n", b"\n\r")):
        return b"\r\n"
    return b"\r" if block.endswith(b"\r") else b"\n"


def heartbeat_after(block: bytes) -> bytes | None:
    """A comment that may follow these whole events of a stream; None where a line end may be cut in two.

    One line and no blank line behind it: openai-go before 3.43, and openai-python where events have ids, take a blank
    line for an event also when nothing but a comment stands before it. Its line ends as the stream's do, for clients
    that split at the line end which they have seen.
    """
    if block.endswith(b"\n\r"):  # the LF that completes the blank line would be one more
        return None
    return b": heartbeat" + (b"\r\n" if block == b"\n" else line_end_of(block))  # that LF has completed a CRLF


class Event(NamedTuple):
    """One event. `data` is None where no data line was sent (a comment, an id): clients do not see such an event."""

    raw: bytes
    type: str
    data: bytes | None


def parse_event(raw: bytes) -> Event:
    """Parses one event of `split_events`. The byte order mark before a stream's first event is not part of its line."""
    if raw.startswith(b"data: ") and raw.find(b"\n") == len(raw) - 2 and raw.endswith(b"\n\n") and b"\r" not in raw:
        return Event(raw, "message", raw[6:-2])  # what nearly all upstreams send, at a third of the cost
    data: list[bytes] = []
    kind = b""
    for line in raw.removeprefix(BOM).splitlines():  # bytes split at LF, CR and CRLF alone
        name, _, value = line.partition(b":")
        if name == b"data":
            data.append(value.removeprefix(b" "))
        elif name == b"event":
            kind = value.removeprefix(b" ")
    return Event(raw, kind.decode("utf-8", "replace") or "message", b"\n".join(data) if data else None)


def data_payloads(block: bytes) -> list[bytes]:
    """The data of every event with data in a block of whole events."""
    if block.startswith(b"data: ") and block.endswith(b"\n\n") and b"\r" not in block:
        payloads = block[6:-2].split(b"\n\ndata: ")
        if block.count(b"\n") == 2 * len(payloads):  # no other line between them: what nearly all upstreams send
            return payloads
    return [event.data for event in map(parse_event, split_events(block)) if event.data is not None]
