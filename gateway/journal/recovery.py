"""Recovery of a dead process's journal: makes records of its frames, and reports damage."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

import structlog

from gateway.journal.completeness import CompletenessCheck, MissingRecords
from gateway.journal.disk import in_thread, read_at
from gateway.journal.frames import NO_POSITION, SEGMENT_HEADER_SIZE, Frame, FrameKind, segment_header
from gateway.journal.locations import ARCHIVED_SUFFIX, SEGMENT_SUFFIX, Extent, Position, open_segment, segment_numbers
from gateway.journal.lock import read_checkpoint
from gateway.journal.pending import PendingRecord
from gateway.journal.scan import BLOCK, DamagedRange, SegmentScan

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from gateway.journal.frames import FrameHeader
    from gateway.journal.lock import Checkpoint

ANSWER_DAMAGED = "the journal's copy of this answer is damaged"

log = structlog.get_logger()


@dataclass(slots=True)
class _OpenRecord:
    """A record that has begun and not finished, as far as the segments are read."""

    begun: Extent | None  # its BEGUN frame, whole or damaged; None: in a missing segment
    begun_at: Position  # of the BEGUN frame that the parts name
    needed_from: Position  # no frame before it is needed
    parts: list[Extent] = field(default_factory=list)
    is_moved: bool = False  # by compaction of an older version: the next part holds all earlier ones

    def move(self, begun: Extent) -> None:
        """Compaction wrote the record's BEGUN frame again."""
        self.begun, self.needed_from = begun, Position(begun.segment, begun.offset)
        self.is_moved = True

    def add_part(self, header: FrameHeader, begun_at: Position, part: Extent, *, is_whole: bool) -> None:
        """Adds a part, unless one is missing before it: the text would have a gap."""
        if header.begun is None:
            if self.is_moved:
                self.parts.clear()
            self.is_moved = False
            self.parts.append(part)
            return
        if begun_at != self.begun_at and header.ordinal == 0 and is_whole:  # compacted: it holds all earlier parts
            self.begun_at = begun_at
            self.parts.clear()
        if begun_at == self.begun_at and header.ordinal == len(self.parts):
            self.parts.append(part)


@dataclass(frozen=True, slots=True)
class Damage:
    """Bytes of a segment that hold no whole frame."""

    segment: int
    offset: int
    size: int
    reason: str
    records: int  # that may be lost, whole or in part
    key: bytes | None  # of the record, if it is certain
    is_quarantined_with_record: bool  # the record goes to quarantine under its id, with these bytes


class JournalRecovery:
    """Reads a folder once, from a position on. `shipped` of its records were delivered before."""

    def __init__(self, folder: Path, start: Position, shipped: int = 0, *, with_archived: bool = False) -> None:
        self._folder = folder
        self._suffixes = (SEGMENT_SUFFIX, ARCHIVED_SUFFIX) if with_archived else (SEGMENT_SUFFIX,)
        self._start = start
        self._wanted_from = start  # records that began before it were delivered
        self._shipped = shipped
        self._open: dict[bytes, _OpenRecord] = {}
        self._at = start
        self._last_write = 0.0
        self._damaged: dict[Position, Extent] = {}
        self._before: Frame | DamagedRange | None = None  # the item before the current one, in the same segment
        self.damages: list[Damage] = []
        self.missing: list[MissingRecords] = []

    @property
    def position(self) -> Position:
        """The position before which every record was returned."""
        return min((found.needed_from for found in self._open.values()), default=self._at)

    async def records(self) -> AsyncIterator[list[PendingRecord]]:
        """Yields the finished records in the order of their ends, and last the interrupted ones."""
        numbers = [number for number in segment_numbers(self._folder, *self._suffixes) if number >= self._start.segment]
        marker, checkpoint = await in_thread(self._marker_and_checkpoint, numbers)
        dropped_below = checkpoint.dropped_below if checkpoint else 0
        self._wanted_from = max(self._start, Position(dropped_below, 0))
        check = CompletenessCheck(self._start.segment, self._shipped, dropped_below)
        for number in numbers:
            async for found in self._read_segment(number, marker, check):
                ended = [pending for one in found if (pending := self._take(one, number, check)) is not None]
                if found:
                    self._at = Position(number, found[-1].end)
                if ended:
                    yield ended
        if (missing := check.end(checkpoint)) is not None:
            self.missing.append(missing)
        interrupted = [
            PendingRecord(key, found.begun, None, finished_at=self._last_write, parts=found.parts)
            for key, found in self._open.items()
        ]
        self._open.clear()
        if interrupted:
            yield interrupted

    def _marker_and_checkpoint(self, numbers: list[int]) -> tuple[bytes | None, Checkpoint | None]:
        """Returns the sync marker of the folder's segments, and the checkpoint of their writer."""
        for number in numbers:
            with suppress(FileNotFoundError):
                fd = open_segment(self._folder, number)
                try:
                    header = segment_header(read_at(fd, 0, SEGMENT_HEADER_SIZE))
                finally:
                    os.close(fd)
                if header is not None:
                    return header.marker, read_checkpoint(self._folder)
        return None, read_checkpoint(self._folder)

    async def _read_segment(
        self, number: int, marker: bytes | None, check: CompletenessCheck
    ) -> AsyncIterator[list[Frame | DamagedRange]]:
        try:
            fd = open_segment(self._folder, number)
        except FileNotFoundError:  # an archived one that has expired
            return
        try:
            status = os.fstat(fd)
            self._last_write = status.st_mtime
            scan = await in_thread(SegmentScan, partial(read_at, fd), status.st_size, marker)
            if (missing := check.enter_segment(number, scan.header)) is not None:
                self.missing.append(missing)
            self._before = None
            frames = iter(scan)
            while found := await in_thread(_next_frames, frames):
                yield found
        finally:
            os.close(fd)

    def _take(self, one: Frame | DamagedRange, number: int, check: CompletenessCheck) -> PendingRecord | None:
        """Takes the next frame or damaged range; returns the record that it finishes."""
        check.count(one)
        before, self._before = self._before, one
        extent = Extent(number, one.start, one.end - one.start)
        if Position(number, one.start) < self._start:
            return None
        header, is_whole = one.header, isinstance(one, Frame)
        if isinstance(one, DamagedRange):
            self._damaged[Position(number, one.start)] = extent
            self._report(one, number)
        if header is None:
            return None
        begun_at = self._begun_at(header, number, one, before)
        found = self._open.get(header.key)
        if found is None:
            found = self._open_record(header, begun_at, extent)
            if found is None:
                return None
            self._open[header.key] = found
        elif header.kind is FrameKind.BEGUN and is_whole:
            found.move(extent)
        if header.kind is FrameKind.PART:
            found.add_part(header, begun_at, extent, is_whole=is_whole)
        elif header.kind is FrameKind.FINISHED:
            del self._open[header.key]
            if is_whole:
                return PendingRecord(header.key, found.begun, extent, finished_at=self._last_write)
            return PendingRecord(
                header.key, found.begun, None, finished_at=self._last_write, parts=found.parts, fault=ANSWER_DAMAGED
            )
        return None

    def _begun_at(
        self, header: FrameHeader, number: int, one: Frame | DamagedRange, before: Frame | DamagedRange | None
    ) -> Position:
        """Returns the position of the record's BEGUN frame."""
        if header.kind is FrameKind.BEGUN or header.begun is None:
            return Position(number, one.start)
        if header.begun == NO_POSITION:
            return Position(number, before.start if before is not None else one.start)
        return Position(*header.begun)

    def _open_record(self, header: FrameHeader, begun_at: Position, extent: Extent) -> _OpenRecord | None:
        """Returns a record at its first frame here; None if it was delivered long ago."""
        if header.kind is FrameKind.BEGUN:
            return _OpenRecord(extent, begun_at, begun_at)
        is_lost = bool(self._damaged) if header.begun is None else begun_at >= self._wanted_from
        if not is_lost:
            log.info("frame_without_begin", kind=header.kind.name, segment=extent.segment, offset=extent.offset)
            return None
        return _OpenRecord(
            self._damaged.get(begun_at), begun_at, min(begun_at, Position(extent.segment, extent.offset))
        )

    def _report(self, damaged: DamagedRange, number: int) -> None:
        header = damaged.header
        damage = Damage(
            number,
            damaged.start,
            damaged.end - damaged.start,
            damaged.reason,
            records=int(damaged.claimed_kind in (FrameKind.BEGUN, FrameKind.FINISHED)),
            key=header.key if header is not None else None,
            is_quarantined_with_record=header is not None and header.kind is FrameKind.BEGUN,
        )
        self.damages.append(damage)


def _next_frames(frames: Iterator[Frame | DamagedRange]) -> list[Frame | DamagedRange]:
    """Returns as many items as a block holds."""
    found: list[Frame | DamagedRange] = []
    size = 0
    for one in frames:
        found.append(one)
        size += one.end - one.start
        if size >= BLOCK:
            break
    return found
