"""Reads the frames of one segment, one after the other, and goes on behind damage. Blocks."""

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
    frame_header,
    old_crc,
    old_header,
    segment_header,
    unchecked_header,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

BLOCK = 1 << 20

_NOT_ZERO = re.compile(rb"[^\0]")


class DamagedRange(NamedTuple):
    """Bytes that hold no whole frame. `header` names their record, if it is whole."""

    start: int
    end: int
    reason: str
    header: FrameHeader | None
    claimed_kind: FrameKind | None  # by the header, whole or damaged; None: there was no frame


class SegmentScan:
    """Iterates over frames and damaged ranges, in linear time. `read(offset, size)` may return less only at the end."""

    def __init__(self, read: Callable[[int, int], bytes], size: int, marker: bytes | None = None) -> None:
        """`marker` is the folder's, for a segment whose own header is damaged."""
        self._blocks = _BlockReader(read, size)
        self._size = size
        self.header = segment_header(self._blocks.view(0, SEGMENT_HEADER_SIZE))
        self._marker = self.header.marker if self.header is not None else marker or self._marker_of_frames()

    @classmethod
    def of_bytes(cls, data: bytes) -> SegmentScan:
        return cls(lambda offset, size: data[offset : offset + size], len(data))

    def __iter__(self) -> Iterator[Frame | DamagedRange]:
        return self._old_frames() if self._marker is None else self._frames(self._marker)

    def _header_at(self, offset: int) -> FrameHeader | None:
        return frame_header(self._blocks.view(offset, HEADER_SIZE))

    def _marker_of_frames(self) -> bytes | None:
        """Returns the marker of frames behind a missing or damaged segment header; None: an older version's frames."""
        header = self._header_at(0) or self._header_at(SEGMENT_HEADER_SIZE)
        return header.marker if header is not None else None

    def _frames(self, marker: bytes) -> Iterator[Frame | DamagedRange]:
        at = 0
        if self.header is not None or self._header_at(0) is None:
            at = min(SEGMENT_HEADER_SIZE, self._size)
            if self.header is None and not self._blocks.is_zero_from(0):
                if self._blocks.find(marker, 0) == self._size:
                    yield DamagedRange(0, self._size, "no frames", None, None)
                    return
                yield DamagedRange(0, at, "the segment's header is damaged", None, None)
        while at < self._size:
            header = self._header_at(at)
            end = self._size + 1
            if header is not None:
                end = at + HEADER_SIZE + header.length
                payload = self._blocks.view(at + HEADER_SIZE, header.length)
                if len(payload) == header.length and crc32(payload) == header.crc:
                    yield Frame(header, payload, at, end)
                    at = end
                    continue
            elif self._blocks.is_zero_from(at):  # the preallocated rest of the file
                return
            reason = "wrong checksum"
            if end > self._size:
                reason = "cut short" if header is not None or at + HEADER_SIZE > self._size else "damaged header"
                end = self._blocks.find(marker, at + 1)
            kind = header.kind if header is not None else self._claimed_kind(at, end, marker)
            yield DamagedRange(at, end, reason if kind is not None else "bytes behind the end", header, kind)
            at = end

    def _claimed_kind(self, start: int, end: int, marker: bytes) -> FrameKind | None:
        seen = self._blocks.view(start, HEADER_SIZE)
        if end == self._size and not marker.startswith(bytes(seen[: len(marker)])):  # in the preallocated rest
            return None
        return unchecked_header(seen).kind if len(seen) == HEADER_SIZE else FrameKind.FINISHED

    def _old_frames(self) -> Iterator[Frame | DamagedRange]:
        """Reads frames until the first damage: without a marker, later frames look like bytes of a caller."""
        at = 0
        while at < self._size:
            seen = self._blocks.view(at, OLD_HEADER_SIZE)
            header = old_header(seen)
            if header is None and self._blocks.is_zero_from(at):
                return
            reason = "no frame"
            if header is not None:
                end = at + OLD_HEADER_SIZE + header.length
                payload = self._blocks.view(at + OLD_HEADER_SIZE, header.length)
                if len(payload) == header.length and old_crc(header, payload) == header.crc:
                    yield Frame(header, payload, at, end)
                    at = end
                    continue
                reason = "wrong checksum" if len(payload) == header.length else "cut short"
            yield DamagedRange(at, self._size, reason, None, FrameKind.FINISHED if any(seen) else None)
            return


class _BlockReader:
    """Reads a file in blocks and keeps the current one."""

    def __init__(self, read: Callable[[int, int], bytes], size: int) -> None:
        self._read = read
        self._size = size
        self._start = 0
        self._data = b""

    def view(self, offset: int, size: int) -> memoryview:
        """Returns the bytes at an offset, fewer at the end of the file."""
        at = self._load(offset, size)
        return memoryview(self._data)[at : at + size]

    def is_zero_from(self, offset: int) -> bool:
        """Whether only zeros follow until the end of the file."""
        while offset < self._size:
            at = self._load(offset, 1)
            if _NOT_ZERO.search(self._data, at) is not None:
                return False
            if at >= len(self._data):
                return True
            offset = self._start + len(self._data)
        return True

    def find(self, marker: bytes, offset: int) -> int:
        """Returns the offset of the next marker, or the size of the file."""
        while offset + len(marker) <= self._size:
            at = self._load(offset, len(marker))
            found = self._data.find(marker, at)
            if found >= 0:
                return self._start + found
            end = self._start + len(self._data)
            if end < offset + len(marker):
                break
            offset = end - len(marker) + 1
        return self._size

    def _load(self, offset: int, size: int) -> int:
        """Returns the offset's place in a block that holds `size` bytes behind it, or all up to the file's end."""
        if offset < self._start or min(offset + size, self._size) > self._start + len(self._data):
            # An older version's header has no checksum and may claim any length: the file's size bounds the buffer.
            self._data = self._read(offset, min(max(size, BLOCK), max(self._size - offset, 0)))
            self._start = offset
        return offset - self._start
