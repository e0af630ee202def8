"""Finished records that a full disk did not take: they wait in memory for the disk or for the store."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, NamedTuple

import structlog

from gateway.journal.meta import encode_interaction
from gateway.model import Record

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gateway.journal.pending import PendingRecord
    from gateway.journal.segments import Segments
    from gateway.journal.subscription import Subscription
    from gateway.model import Answer, Interaction

IDS_PER_LINE = 100  # in one log line

log = structlog.get_logger()


class _UnwrittenRecord(NamedTuple):
    pending: PendingRecord
    frames: list[list[bytes]]  # that are not on disk: FINISHED, or BEGUN and FINISHED


class MemoryFallback:
    """Takes every record that began on disk; of the others (`when_full = "serve"`), as many as the limit allows."""

    def __init__(self, segments: Segments, subscriptions: Sequence[Subscription], max_bytes: int) -> None:
        self._segments = segments
        self._subscriptions = subscriptions
        self._max_bytes = max_bytes
        self._ends: deque[_UnwrittenRecord] = deque()  # of records that began on disk
        self._whole: deque[_UnwrittenRecord] = deque()  # records of which nothing is on disk
        self._bytes = 0
        self.lost = 0
        self.loss: str | None = None

    def __len__(self) -> int:
        return len(self._ends) + len(self._whole)

    def add(self, interaction: Interaction, answer: Answer, pending: PendingRecord, end: list[bytes]) -> bool:
        """Takes a record; returns False if there is no memory for it: then it is lost, and counted."""
        pending.size = len(interaction.body) + len(answer.body)
        if pending.begun is not None:
            self._ends.append(_UnwrittenRecord(pending, [end]))
        elif self._bytes + pending.size > self._max_bytes:
            self.lost += 1
            self.loss = f"{self.lost} records for which neither disk nor memory had room"
            if _is_logged(self.lost):
                log.error("record_lost", interaction_id=str(interaction.id), lost=self.lost)
            return False
        else:
            start = self._segments.frames.begun(pending.key, encode_interaction(interaction), interaction.body)
            self._whole.append(_UnwrittenRecord(pending, [start, end]))
        pending.record = Record(interaction, answer)
        self._bytes += pending.size
        if _is_logged(len(self)):
            log.error("record_only_in_memory", interaction_id=str(interaction.id), waiting=len(self))
        return True

    def write(self) -> None:
        """Writes the records for which there is space by now. While new records are refused, the space belongs to the
        ends."""
        self._drain(self._ends)
        if self._segments.admission.refusal is None:
            self._drain(self._whole)

    def close(self) -> None:
        """Writes each record for which there is any space, then counts and logs the others as lost."""
        self._segments.admission.clear_all()  # the next frame may open another file
        left = [record for record in (*self._ends, *self._whole) if not self._try_write(record)]
        self._ends.clear()
        self._whole.clear()
        self.lost += len(left)
        ids = [str(record.pending.id) for record in left]
        for at in range(0, len(ids), IDS_PER_LINE):
            log.error("records_lost_at_close", lost=len(ids), interaction_ids=ids[at : at + IDS_PER_LINE])

    def _drain(self, queue: deque[_UnwrittenRecord]) -> None:
        while queue and self._try_write(queue[0]):
            self._bytes -= queue.popleft().pending.size

    def _try_write(self, record: _UnwrittenRecord) -> bool:
        """Returns whether the record is on disk now, or need not be."""
        pending, missing = record
        if self._subscriptions and not pending.waiting_sinks:  # they have received it from memory
            return True
        try:
            *start, end = self._segments.append_together(*missing, is_end=True)
        except OSError:
            return False
        self._segments.begun += len(start)
        self._segments.finished += 1
        for begun in start:
            pending.begun = begun
            for subscription in self._subscriptions:
                subscription.on_written(pending)
        pending.finished = end
        pending.record = None  # it can be read back, and memory is short
        return True


def _is_logged(count: int) -> bool:
    """True for the first, the second, the fourth…: a full disk must not fill the log as well."""
    return count & (count - 1) == 0
