"""What a dead process has left in its segments: their frames become records again, and what is damaged is reported."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

import structlog

from gateway.journal.disk import in_thread, read_at
from gateway.journal.frames import NOWHERE, SEGMENT_HEADER_SIZE, Frame, FrameKind, segment_header
from gateway.journal.lock import KEPT, totals_of
from gateway.journal.pending import Pending
from gateway.journal.scan import BLOCK, Gap, Scan
from gateway.journal.segments import SUFFIX, Position, Span, numbers_in, open_segment
from gateway.journal.tally import Missing, Tally

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from gateway.journal.frames import FrameHeader
    from gateway.journal.lock import Totals

CUT = "the journal's copy of this answer is damaged"

log = structlog.get_logger()


@dataclass(slots=True)
class _Open:
    """Begun, and not finished as far as has been read."""

    begun: Span | None  # where the request lies, whole or not; None: in a segment that is missing
    place: Position  # of the BEGUN frame that the parts name
    since: Position  # nothing of it that is needed lies before
    parts: list[Span] = field(default_factory=list)
    is_moved: bool = False  # written down anew, by an older version: the next part holds all that was said before

    def move(self, begun: Span) -> None:
        """A straggler was written down anew."""
        self.begun, self.since = begun, Position(begun.segment, begun.offset)
        self.is_moved = True

    def add(self, header: FrameHeader, place: Position, span: Span, *, is_whole: bool) -> None:
        """A part. What comes behind one that is missing would not be what was said."""
        if header.begun is None:
            if self.is_moved:
                self.parts.clear()
            self.is_moved = False
            self.parts.append(span)
            return
        if place != self.place and header.ordinal == 0 and is_whole:  # behind a move: all that was said before
            self.place = place
            self.parts.clear()
        if place == self.place and header.ordinal == len(self.parts):
            self.parts.append(span)


@dataclass(frozen=True, slots=True)
class Damage:
    """Bytes of a segment that hold no whole frame."""

    segment: int
    offset: int
    size: int
    reason: str
    records: int  # of which something may be lost
    key: bytes | None  # of that record, where it is certain
    is_shown: bool  # the record goes to quarantine under its own id, these bytes with it


class JournalRecovery:
    """Reads a folder from a position on; once. `shipped`: how many of its records were handed out before."""

    def __init__(self, folder: Path, start: Position, shipped: int = 0, *, with_kept: bool = False) -> None:
        self._folder = folder
        self._suffixes = (SUFFIX, KEPT) if with_kept else (SUFFIX,)
        self._start = start
        self._wanted = start  # what began before it has been handed out
        self._shipped = shipped
        self._open: dict[bytes, _Open] = {}
        self._at = start
        self._last_write = 0.0
        self._gaps: dict[Position, Span] = {}
        self._before: Frame | Gap | None = None  # of what is looked at, in the same segment
        self.damages: list[Damage] = []
        self.missing: list[Missing] = []

    @property
    def low(self) -> Position:
        """Everything before it has been handed out."""
        return min((found.since for found in self._open.values()), default=self._at)

    async def pendings(self) -> AsyncIterator[list[Pending]]:
        """The finished ones in the order of their ends; last, those that never ended."""
        numbers = [number for number in numbers_in(self._folder, *self._suffixes) if number >= self._start.segment]
        marker, totals = await in_thread(self._look, numbers)
        dropped = totals.dropped if totals else 0
        self._wanted = max(self._start, Position(dropped, 0))
        tally = Tally(self._start.segment, self._shipped, dropped)
        for number in numbers:
            async for found in self._found(number, marker, tally):
                ended = [pending for one in found if (pending := self._see(one, number, tally)) is not None]
                if found:
                    self._at = Position(number, found[-1].end)
                if ended:
                    yield ended
        if (missing := tally.end(totals)) is not None:
            self.missing.append(missing)
        interrupted = [
            Pending(key, found.begun, None, finished_at=self._last_write, parts=found.parts)
            for key, found in self._open.items()
        ]
        self._open.clear()
        if interrupted:
            yield interrupted

    def _look(self, numbers: list[int]) -> tuple[bytes | None, Totals | None]:
        """The sync marker of the folder's segments, and what their owner has noted."""
        for number in numbers:
            with suppress(FileNotFoundError):
                fd = open_segment(self._folder, number)
                try:
                    header = segment_header(read_at(fd, 0, SEGMENT_HEADER_SIZE))
                finally:
                    os.close(fd)
                if header is not None:
                    return header.marker, totals_of(self._folder)
        return None, totals_of(self._folder)

    async def _found(self, number: int, marker: bytes | None, tally: Tally) -> AsyncIterator[list[Frame | Gap]]:
        try:
            fd = open_segment(self._folder, number)
        except FileNotFoundError:  # a kept one, whose time was over
            return
        try:
            known = os.fstat(fd)
            self._last_write = known.st_mtime
            scan = await in_thread(Scan, partial(read_at, fd), known.st_size, marker)
            if (missing := tally.enter(number, scan.header)) is not None:
                self.missing.append(missing)
            self._before = None
            frames = iter(scan)
            while found := await in_thread(_some, frames):
                yield found
        finally:
            os.close(fd)

    def _see(self, one: Frame | Gap, number: int, tally: Tally) -> Pending | None:
        tally.see(one)
        before, self._before = self._before, one
        span = Span(number, one.start, one.end - one.start)
        if Position(number, one.start) < self._start:
            return None
        header, is_whole = one.header, isinstance(one, Frame)
        if isinstance(one, Gap):
            self._gaps[Position(number, one.start)] = span
            self._report(one, number)
        if header is None:
            return None
        place = self._place(header, number, one, before)
        found = self._open.get(header.key)
        if found is None:
            found = self._opened(header, place, span)
            if found is None:
                return None
            self._open[header.key] = found
        elif header.kind is FrameKind.BEGUN and is_whole:
            found.move(span)
        if header.kind is FrameKind.PART:
            found.add(header, place, span, is_whole=is_whole)
        elif header.kind is FrameKind.FINISHED:
            del self._open[header.key]
            if is_whole:
                return Pending(header.key, found.begun, span, finished_at=self._last_write)
            return Pending(header.key, found.begun, None, finished_at=self._last_write, parts=found.parts, fault=CUT)
        return None

    def _place(self, header: FrameHeader, number: int, one: Frame | Gap, before: Frame | Gap | None) -> Position:
        """Where the record's BEGUN frame lies."""
        if header.kind is FrameKind.BEGUN or header.begun is None:
            return Position(number, one.start)
        if header.begun == NOWHERE:
            return Position(number, before.start if before is not None else one.start)
        return Position(*header.begun)

    def _opened(self, header: FrameHeader, place: Position, span: Span) -> _Open | None:
        """A record that is met for the first time; None if it was handed out long ago."""
        if header.kind is FrameKind.BEGUN:
            return _Open(span, place, place)
        is_lost = bool(self._gaps) if header.begun is None else place >= self._wanted
        if not is_lost:
            log.info("frame_without_begin", kind=header.kind.name, segment=span.segment, offset=span.offset)
            return None
        return _Open(self._gaps.get(place), place, min(place, Position(span.segment, span.offset)))

    def _report(self, gap: Gap, number: int) -> None:
        header = gap.header
        damage = Damage(
            number,
            gap.start,
            gap.end - gap.start,
            gap.reason,
            records=int(gap.claim in (FrameKind.BEGUN, FrameKind.FINISHED)),
            key=header.key if header is not None else None,
            is_shown=header is not None and header.kind is FrameKind.BEGUN,
        )
        self.damages.append(damage)


def _some(frames: Iterator[Frame | Gap]) -> list[Frame | Gap]:
    """As many as a block holds."""
    found: list[Frame | Gap] = []
    size = 0
    for one in frames:
        found.append(one)
        size += one.end - one.start
        if size >= BLOCK:
            break
    return found
