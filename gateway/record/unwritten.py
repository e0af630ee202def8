"""Finished records that a full disk did not take: they wait in memory for the disk or the store."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

import structlog

from gateway.model import Record
from gateway.record import frames
from gateway.record.meta import of_interaction

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gateway.model import Answer, Interaction
    from gateway.record.feed import Feed
    from gateway.record.pending import Pending
    from gateway.record.segments import Segments

log = structlog.get_logger()


class Unwritten:
    """What has begun on disk is always taken; of what never was there (`serve`), as much as the limit allows."""

    def __init__(self, segments: Segments, feeds: Sequence[Feed], limit: int) -> None:
        self._segments = segments
        self._feeds = feeds
        self._limit = limit
        self._waiting: deque[tuple[Pending, list[bytes], list[bytes]]] = deque()  # with the frames that are missing
        self._bytes = 0
        self.lost = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, interaction: Interaction, answer: Answer, pending: Pending, end: list[bytes]) -> bool:
        """False: it is lost, and counted."""
        start: list[bytes] = []
        pending.size = len(interaction.body) + len(answer.body)
        if pending.begun is None:
            if self._bytes + pending.size > self._limit:
                self.lost += 1
                if _is_worth_a_line(self.lost):
                    log.error("record_lost", interaction_id=str(interaction.id), lost=self.lost)
                return False
            start = frames.begun(pending.key, of_interaction(interaction), interaction.body)
        pending.record = Record(interaction, answer)
        self._waiting.append((pending, start, end))
        self._bytes += pending.size
        if _is_worth_a_line(len(self._waiting)):
            log.error("record_only_in_memory", interaction_id=str(interaction.id), waiting=len(self._waiting))
        return True

    def write(self) -> None:
        """Put on disk what fits there by now; what the keepers have got in the meantime need not be written."""
        while self._waiting:
            pending, start, end = self._waiting[0]
            if pending.keepers or not self._feeds:
                try:
                    self._write(pending, start, end)
                except OSError:
                    return
            self._waiting.popleft()
            self._bytes -= pending.size

    def _write(self, pending: Pending, start: list[bytes], end: list[bytes]) -> None:
        if start:
            pending.begun = self._segments.append(start, is_end=True)
            start.clear()
            for feed in self._feeds:
                feed.begun(pending.key, pending.begun)
        pending.finished = self._segments.append(end, is_end=True)


def _is_worth_a_line(count: int) -> bool:
    """The first, the second, the fourth…: a full disk must not fill the log as well."""
    return count & (count - 1) == 0
