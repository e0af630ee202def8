"""Finished records that a full disk did not take: they wait in memory for the disk or the store."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, NamedTuple

import structlog

from gateway.journal.meta import of_interaction
from gateway.model import Record

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gateway.journal.pending import Pending
    from gateway.journal.segments import Segments
    from gateway.journal.subscription import Subscription
    from gateway.model import Answer, Interaction

IDS_A_LINE = 100  # a log line shows no more of a list

log = structlog.get_logger()


class _Waiting(NamedTuple):
    pending: Pending
    frames: list[list[bytes]]  # that the disk lacks: FINISHED, or BEGUN and FINISHED


class MemoryFallback:
    """What has begun on disk is always taken; of what never was there (`serve`), as much as the limit allows."""

    def __init__(self, segments: Segments, feeds: Sequence[Subscription], limit: int) -> None:
        self._segments = segments
        self._feeds = feeds
        self._limit = limit
        self._ends: deque[_Waiting] = deque()  # of what has begun on disk
        self._whole: deque[_Waiting] = deque()  # of which nothing is on disk
        self._bytes = 0
        self.lost = 0
        self.loss: str | None = None

    def __len__(self) -> int:
        return len(self._ends) + len(self._whole)

    def add(self, interaction: Interaction, answer: Answer, pending: Pending, end: list[bytes]) -> bool:
        """False: it is lost, and counted."""
        pending.size = len(interaction.body) + len(answer.body)
        if pending.begun is not None:
            self._ends.append(_Waiting(pending, [end]))
        elif self._bytes + pending.size > self._limit:
            self.lost += 1
            self.loss = f"{self.lost} records for which neither disk nor memory had room"
            if _is_worth_a_line(self.lost):
                log.error("record_lost", interaction_id=str(interaction.id), lost=self.lost)
            return False
        else:
            start = self._segments.frames.begun(pending.key, of_interaction(interaction), interaction.body)
            self._whole.append(_Waiting(pending, [start, end]))
        pending.record = Record(interaction, answer)
        self._bytes += pending.size
        if _is_worth_a_line(len(self)):
            log.error("record_only_in_memory", interaction_id=str(interaction.id), waiting=len(self))
        return True

    def write(self) -> None:
        """Put on disk what fits there by now. While nothing new may begin, the reserve is for the ends."""
        self._drain(self._ends)
        if self._segments.refusal is None:
            self._drain(self._whole)

    def close(self) -> None:
        """Put on disk whatever finds any room there, count the rest as lost, and say so."""
        self._segments.try_again()
        left = [waiting for waiting in (*self._ends, *self._whole) if not self._is_done(waiting)]
        self._ends.clear()
        self._whole.clear()
        self.lost += len(left)
        ids = [str(waiting.pending.id) for waiting in left]
        for at in range(0, len(ids), IDS_A_LINE):
            log.error("records_lost_at_close", lost=len(ids), interaction_ids=ids[at : at + IDS_A_LINE])

    def _drain(self, queue: deque[_Waiting]) -> None:
        while queue and self._is_done(queue[0]):
            self._bytes -= queue.popleft().pending.size

    def _is_done(self, waiting: _Waiting) -> bool:
        """Whether it is on disk now, or need not be."""
        pending, missing = waiting
        if self._feeds and not pending.keepers:  # they have got it from memory
            return True
        try:
            *start, end = self._segments.append_together(*missing, is_end=True)
        except OSError:
            return False
        self._segments.begun += len(start)
        self._segments.finished += 1
        for span in start:
            pending.begun = span
            for feed in self._feeds:
                feed.written(pending)
        pending.finished = end
        pending.record = None  # it can be read back, and memory is what is short
        return True


def _is_worth_a_line(count: int) -> bool:
    """The first, the second, the fourth…: a full disk must not fill the log as well."""
    return count & (count - 1) == 0
