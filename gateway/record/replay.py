"""What a dead process has left in its segments: its frames, read in blocks, become records again."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import structlog

from gateway.record.disk import in_thread
from gateway.record.frames import HEAD_SIZE, Fault, Frame, FrameKind, Zeros, read_frame
from gateway.record.owner import KEPT
from gateway.record.pending import Pending
from gateway.record.segments import SUFFIX, Position, Span, numbers_in, open_segment

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

BLOCK = 1 << 20

log = structlog.get_logger()


@dataclass(slots=True)
class _Open:
    """Begun, and not finished as far as has been read."""

    begun: Span
    parts: list[Span] = field(default_factory=list)
    is_moved: bool = False  # written down anew: the next part holds all that was said before


@dataclass(frozen=True, slots=True)
class Damage:
    """From here to its end, a segment holds no frames."""

    segment: int
    offset: int
    reason: str


class Replay:
    """Reads a folder from a position on; once."""

    def __init__(self, folder: Path, start: Position, *, with_kept: bool = False) -> None:
        self._folder = folder
        self._suffixes = (SUFFIX, KEPT) if with_kept else (SUFFIX,)
        self._start = start
        self._open: dict[bytes, _Open] = {}
        self._at = start
        self._last_write = 0.0
        self.damages: list[Damage] = []

    @property
    def low(self) -> Position:
        """Everything before it has been handed out."""
        begins = (Position(found.begun.segment, found.begun.offset) for found in self._open.values())
        return min(begins, default=self._at)

    async def pendings(self) -> AsyncIterator[list[Pending]]:
        """The finished ones in the order of their ends; last, those that never ended."""
        for number in numbers_in(self._folder, *self._suffixes):
            if number < self._start.segment:
                continue
            offset = self._start.offset if number == self._start.segment else 0
            async for frames, base in self._frames(number, offset):
                ended = [pending for frame in frames if (pending := self._take(frame, number, base)) is not None]
                if frames:
                    self._at = Position(number, base + frames[-1].end)
                if ended:
                    yield ended
        interrupted = [
            Pending(key, found.begun, None, finished_at=self._last_write, parts=found.parts)
            for key, found in self._open.items()
        ]
        self._open.clear()
        if interrupted:
            yield interrupted

    def _take(self, frame: Frame, number: int, base: int) -> Pending | None:
        span = Span(number, base + frame.start, frame.end - frame.start)
        found = self._open.get(frame.key)
        if frame.kind is FrameKind.BEGUN:
            if found is None:
                self._open[frame.key] = _Open(span)
            else:  # a straggler that was moved
                found.begun, found.is_moved = span, True
        elif found is None:
            log.info("frame_without_begin", kind=frame.kind.name, segment=number, offset=span.offset)
        elif frame.kind is FrameKind.PART:
            found.parts = [span] if found.is_moved else [*found.parts, span]
            found.is_moved = False
        else:
            del self._open[frame.key]
            return Pending(frame.key, found.begun, span, finished_at=self._last_write)
        return None

    async def _frames(self, number: int, offset: int) -> AsyncIterator[tuple[list[Frame], int]]:
        """Lists of frames, each with the offset in the file that theirs are relative to."""
        try:
            fd = open_segment(self._folder, number)
        except FileNotFoundError:  # a kept one, whose time was over
            return
        try:
            found = os.fstat(fd)
            self._last_write = found.st_mtime
            want = BLOCK
            while offset < found.st_size:
                data = memoryview(await in_thread(os.pread, fd, want, offset))
                frames, end, stop = _frames_in(data)
                yield frames, offset
                offset += end
                if isinstance(stop, Fault):
                    self.damages.append(Damage(number, offset, stop.reason))
                    return
                if isinstance(stop, Zeros):
                    if not await in_thread(_is_blank, fd, offset):
                        self.damages.append(Damage(number, offset, "bytes behind the end"))
                    return
                if stop > found.st_size - offset > 0:
                    if not await in_thread(_is_blank, fd, offset):
                        self.damages.append(Damage(number, offset, "cut short"))
                    return
                want = max(BLOCK, stop)
        finally:
            os.close(fd)


def _frames_in(data: memoryview) -> tuple[list[Frame], int, Fault | Zeros | int]:
    """Whole frames, where they end, and what comes next: nothing good, or a frame of at least so many bytes."""
    frames: list[Frame] = []
    end = 0
    while end < len(data):
        found = read_frame(data, end)
        if not isinstance(found, Frame):
            return frames, end, found if isinstance(found, Fault | Zeros) else found.size
        frames.append(found)
        end = found.end
    return frames, end, HEAD_SIZE


def _is_blank(fd: int, offset: int) -> bool:
    """Only zeros from here to the end of the file."""
    while data := os.pread(fd, BLOCK, offset):
        if data.count(0) != len(data):
            return False
        offset += len(data)
    return True
