"""Compares the records found in a folder with the counts in its segment headers and its checkpoint."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from gateway.journal.frames import NO_POSITION, FrameKind

if TYPE_CHECKING:
    from gateway.journal.frames import Frame, SegmentHeader
    from gateway.journal.lock import Checkpoint
    from gateway.journal.scan import DamagedRange


class MissingRecords(NamedTuple):
    segments: tuple[int, ...]  # that are missing; or the one whose end is missing
    records: int  # lost whole or in part, at least

    @property
    def text(self) -> str:
        names = ", ".join(map(str, self.segments))
        return f"at least {self.records} records with segment {names} of a journal"


class CompletenessCheck:
    """Counts the records of the segments from `first` on, which are read in order.

    `shipped` records were delivered before; segments below `dropped_below` were removed on purpose.
    """

    def __init__(self, first: int, shipped: int, dropped_below: int) -> None:
        self._next = max(first, dropped_below, 1)
        self._dropped_below = dropped_below
        self._shipped = shipped
        self._missing: list[int] = []
        self._begun = self._finished = 0
        self._vague = 0  # damaged ranges that may have been either
        self._is_counted = False  # the counts above start from a segment's header
        self._has_found = False

    def enter_segment(self, number: int, header: SegmentHeader | None) -> MissingRecords | None:
        """Begins the next segment; returns the records that are missing before it."""
        self._missing += range(self._next, number)
        self._next = max(number + 1, self._dropped_below)
        missing = None
        if header is not None:
            missing = self._compare(header.begun, header.finished, number - 1)
            self._begun, self._finished, self._vague = header.begun, header.finished, 0
            self._is_counted = True
            self._missing.clear()
        return missing

    def count(self, one: Frame | DamagedRange) -> None:
        self._has_found = True
        if one.header is None:
            self._vague += one.claimed_kind is not None
        elif one.header.kind is FrameKind.FINISHED:
            self._finished += 1
        elif one.header.kind is FrameKind.BEGUN and one.header.begun == NO_POSITION:
            self._begun += 1

    def end(self, checkpoint: Checkpoint | None) -> MissingRecords | None:
        """Ends behind the last segment; returns the records that are missing by the checkpoint."""
        if checkpoint is None:
            return None
        self._missing += range(self._next, checkpoint.segment + 1)
        found = self._compare(checkpoint.begun, checkpoint.finished, self._next - 1)
        if found is None and self._missing:
            return MissingRecords(tuple(self._missing), 0)  # the checkpoint is older than the segments' records
        return found

    def _compare(self, begun: int, finished: int, last: int) -> MissingRecords | None:
        if self._is_counted:
            lost = max(begun - self._begun, finished - self._finished) - self._vague
        elif self._missing and not self._has_found:
            lost = begun - self._shipped
        else:
            return None
        if lost <= 0 or (not self._missing and last < self._dropped_below):
            return None
        return MissingRecords(tuple(self._missing) or (last,), lost)
