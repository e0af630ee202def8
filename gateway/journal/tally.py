"""How many records a folder should hold, by its segments' headers and its owner's totals, and how many are gone."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from gateway.journal.frames import NOWHERE, FrameKind

if TYPE_CHECKING:
    from gateway.journal.frames import Frame, SegmentHeader
    from gateway.journal.lock import Totals
    from gateway.journal.scan import Gap


class Missing(NamedTuple):
    segments: tuple[int, ...]  # that are not there; or the one that lacks its end
    records: int  # of which something is lost, at least

    @property
    def text(self) -> str:
        names = ", ".join(map(str, self.segments))
        return f"at least {self.records} records with segment {names} of a journal"


class Tally:
    """Counts what is found in the segments from `first` on, which are read in order.

    `shipped`: records that had been handed out before; `dropped`: segments below that number went on purpose.
    """

    def __init__(self, first: int, shipped: int, dropped: int) -> None:
        self._next = max(first, dropped, 1)
        self._dropped = dropped
        self._shipped = shipped
        self._missing: list[int] = []
        self._begun = self._finished = 0
        self._vague = 0  # gaps that may have been either
        self._is_counted = False  # the numbers above are those of the segments' headers
        self._has_found = False

    def enter(self, number: int, header: SegmentHeader | None) -> Missing | None:
        """The next segment."""
        self._missing += range(self._next, number)
        self._next = max(number + 1, self._dropped)
        missing = None
        if header is not None:
            missing = self._compare(header.begun, header.finished, number - 1)
            self._begun, self._finished, self._vague = header.begun, header.finished, 0
            self._is_counted = True
            self._missing.clear()
        return missing

    def see(self, one: Frame | Gap) -> None:
        self._has_found = True
        if one.header is None:
            self._vague += one.claim is not None
        elif one.header.kind is FrameKind.FINISHED:
            self._finished += 1
        elif one.header.kind is FrameKind.BEGUN and one.header.begun == NOWHERE:
            self._begun += 1

    def end(self, totals: Totals | None) -> Missing | None:
        """Behind the last segment; `totals` are its owner's."""
        if totals is None:
            return None
        self._missing += range(self._next, totals.number + 1)
        found = self._compare(totals.begun, totals.finished, self._next - 1)
        if found is None and self._missing:
            return Missing(tuple(self._missing), 0)  # it was there, but the totals are older than what was in it
        return found

    def _compare(self, begun: int, finished: int, last: int) -> Missing | None:
        if self._is_counted:
            lost = max(begun - self._begun, finished - self._finished) - self._vague
        elif self._missing and not self._has_found:
            lost = begun - self._shipped
        else:
            return None
        if lost <= 0 or (not self._missing and last < self._dropped):
            return None
        return Missing(tuple(self._missing) or (last,), lost)
