"""The frames of one segment, one after the other; behind what is damaged the scan goes on. Blocks."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple
from zlib import crc32

from gateway.journal.frames import (
    HEADER_SIZE,
    OLD_HEADER_SIZE,
    SEGMENT_HEADER_SIZE,
    Frame,
    FrameHeader,
    FrameKind,
    claimed_header,
    frame_header,
    old_crc,
    old_header,
    segment_header,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

BLOCK = 1 << 20

_NOT_ZERO = re.compile(rb"[^\0]")


class Gap(NamedTuple):
    """Bytes that hold no whole frame. `header` says whose they are, if that is certain."""

    start: int
    end: int
    reason: str
    header: FrameHeader | None
    claim: FrameKind | None  # what the damaged header says; None: there was no frame


class Scan:
    """Iterates over frames and gaps, in linear time. `read(offset, size)` may return less at the end only."""

    def __init__(self, read: Callable[[int, int], bytes], size: int, marker: bytes | None = None) -> None:
        """`marker`: the folder's, for a segment whose own header is damaged."""
        self._window = _Window(read, size)
        self._size = size
        self.header = segment_header(self._window.get(0, SEGMENT_HEADER_SIZE))
        self._marker = self.header.marker if self.header is not None else marker or self._marker_of_frames()

    @classmethod
    def of(cls, data: bytes) -> Scan:
        return cls(lambda offset, size: data[offset : offset + size], len(data))

    def __iter__(self) -> Iterator[Frame | Gap]:
        return self._old_frames() if self._marker is None else self._frames(self._marker)

    def _header_at(self, offset: int) -> FrameHeader | None:
        return frame_header(self._window.get(offset, HEADER_SIZE))

    def _marker_of_frames(self) -> bytes | None:
        """Of frames without a segment's header, or behind a damaged one; None: these are an older version's."""
        header = self._header_at(0) or self._header_at(SEGMENT_HEADER_SIZE)
        return header.marker if header is not None else None

    def _frames(self, marker: bytes) -> Iterator[Frame | Gap]:
        at = 0
        if self.header is not None or self._header_at(0) is None:
            at = min(SEGMENT_HEADER_SIZE, self._size)
            if self.header is None and not self._window.is_blank(0):
                if self._window.find(marker, 0) == self._size:
                    yield Gap(0, self._size, "no frames", None, None)
                    return
                yield Gap(0, at, "the segment's header is damaged", None, None)
        while at < self._size:
            header = self._header_at(at)
            end = self._size + 1
            if header is not None:
                end = at + HEADER_SIZE + header.length
                payload = self._window.get(at + HEADER_SIZE, header.length)
                if len(payload) == header.length and crc32(payload) == header.crc:
                    yield Frame(header, payload, at, end)
                    at = end
                    continue
            elif self._window.is_blank(at):  # the reserve of a preallocated file
                return
            reason = "wrong checksum"
            if end > self._size:
                reason = "cut short" if header is not None or at + HEADER_SIZE > self._size else "damaged header"
                end = self._window.find(marker, at + 1)
            claim = header.kind if header is not None else self._claim(at, end, marker)
            yield Gap(at, end, reason if claim is not None else "bytes behind the end", header, claim)
            at = end

    def _claim(self, start: int, end: int, marker: bytes) -> FrameKind | None:
        seen = self._window.get(start, HEADER_SIZE)
        if end == self._size and not marker.startswith(bytes(seen[: len(marker)])):  # in the reserve
            return None
        return claimed_header(seen).kind if len(seen) == HEADER_SIZE else FrameKind.FINISHED

    def _old_frames(self) -> Iterator[Frame | Gap]:
        """Without a marker no frame can be told from what a caller may have said: the first fault is the end."""
        at = 0
        while at < self._size:
            seen = self._window.get(at, OLD_HEADER_SIZE)
            header = old_header(seen)
            if header is None and self._window.is_blank(at):
                return
            reason = "no frame"
            if header is not None:
                end = at + OLD_HEADER_SIZE + header.length
                payload = self._window.get(at + OLD_HEADER_SIZE, header.length)
                if len(payload) == header.length and old_crc(header, payload) == header.crc:
                    yield Frame(header, payload, at, end)
                    at = end
                    continue
                reason = "wrong checksum" if len(payload) == header.length else "cut short"
            yield Gap(at, self._size, reason, None, FrameKind.FINISHED if any(seen) else None)
            return


class _Window:
    """The block of a file that is looked at."""

    def __init__(self, read: Callable[[int, int], bytes], size: int) -> None:
        self._read = read
        self._size = size
        self._start = 0
        self._data = b""

    def get(self, offset: int, size: int) -> memoryview:
        """So many bytes from there on; less at the end of the file."""
        at = self._at(offset, size)
        return memoryview(self._data)[at : at + size]

    def is_blank(self, offset: int) -> bool:
        """Only zeros from here to the end of the file."""
        while offset < self._size:
            at = self._at(offset, 1)
            if _NOT_ZERO.search(self._data, at) is not None:
                return False
            if at >= len(self._data):
                return True
            offset = self._start + len(self._data)
        return True

    def find(self, marker: bytes, offset: int) -> int:
        """Where these bytes stand next, or the size of the file."""
        while offset + len(marker) <= self._size:
            at = self._at(offset, len(marker))
            found = self._data.find(marker, at)
            if found >= 0:
                return self._start + found
            end = self._start + len(self._data)
            if end < offset + len(marker):
                break
            offset = end - len(marker) + 1
        return self._size

    def _at(self, offset: int, size: int) -> int:
        """Where the offset lies in the block, which holds so many bytes behind it if the file does."""
        if offset < self._start or min(offset + size, self._size) > self._start + len(self._data):
            # An older version's header has no checksum, and may claim any length: a buffer is made for what there is.
            self._data = self._read(offset, min(max(size, BLOCK), max(self._size - offset, 0)))
            self._start = offset
        return offset - self._start
