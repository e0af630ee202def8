"""Appends the frames of records, and hands finished records to the subscriptions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.errors import JournalFull
from gateway.journal.frames import NO_POSITION
from gateway.journal.meta import encode_answer, encode_interaction
from gateway.journal.pending import PendingRecord
from gateway.model import Record

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from gateway.journal.group_commit import GroupCommit
    from gateway.journal.locations import Extent
    from gateway.journal.memory_fallback import MemoryFallback
    from gateway.journal.segments import Segments
    from gateway.journal.subscription import Subscription
    from gateway.model import Answer, Interaction
    from gateway.settings import JournalSettings


class JournalWriter:
    """The synchronous part of the journal, on the path of each request. It takes microseconds."""

    def __init__(
        self,
        settings: JournalSettings,
        segments: Segments,
        subscriptions: Sequence[Subscription],
        group_commit: GroupCommit,
        memory_fallback: MemoryFallback,
        cache_bytes: int,
        on_end: Callable[[bytes], object],
    ) -> None:
        """`on_end` is called with the key of each record that ends and has begun on disk."""
        self._is_group = settings.sync == "group"
        self._is_interval = settings.sync == "interval"
        self._serves_full = settings.when_full == "serve"
        self._segments = segments
        self._subscriptions = subscriptions
        self._group_commit = group_commit
        self._memory_fallback = memory_fallback
        self._cache_bytes = cache_bytes
        self._cached_bytes = 0
        self._on_end = on_end
        self.admission = segments.admission  # these three are bound here, to save calls in `JournalEntry.part`
        self.frames = segments.frames
        self.append = segments.append
        self.lost_parts = 0
        self.refusals = 0

    def begin(self, key: bytes, interaction: Interaction) -> Extent | None:
        """Writes the request. Raises JournalFull if there is no space; with `when_full = "serve"` it returns None."""
        begun = None
        if self.admission.refusal is None:
            try:
                begun = self.append(self.frames.begun(key, encode_interaction(interaction), interaction.body))
            except OSError:  # `Segments` has logged it
                begun = None
        if begun is None:
            if not self._serves_full:
                raise self.refuse()
            return None
        self._segments.begun += 1
        for subscription in self._subscriptions:
            subscription.on_begun(key, begun)
        if self._is_interval:
            self._group_commit.sync_soon()
        return begun

    def finish(self, interaction: Interaction, answer: Answer, key: bytes, begun: Extent | None) -> int | None:
        """Writes the answer and hands the record to the subscriptions.

        Returns the position that a sync must reach; None if the record is only in memory, or lost. Raises JournalFull
        if the disk does not take the answer, unless the settings say `serve`.
        """
        end = self.frames.finished(key, encode_answer(answer), answer.body, begun[:2] if begun else NO_POSITION)
        if self._memory_fallback and self.admission.refusal is None:
            self._memory_fallback.write()  # there is space again: the older records first
        finished: Extent | None = None
        if begun is not None:
            self._on_end(key)
            try:
                finished = self.append(end, is_end=True)
            except OSError:
                finished = None
        pending = PendingRecord(key, begun, finished, finished_at=answer.finished_at)
        lsn = None
        if finished is not None:
            self._segments.finished += 1
            lsn = self._segments.lsn
            if self._cached_bytes + pending.size <= self._cache_bytes and self._keeps_in_memory:
                self._cached_bytes += pending.size
                pending.is_cached = True
                pending.record = Record(interaction, answer)
        elif not self._memory_fallback.add(interaction, answer, pending, end):
            return None
        for subscription in self._subscriptions:
            subscription.on_finished(pending)
        if finished is None and not self._serves_full:
            raise self.refuse()
        if self._is_interval:
            self._group_commit.sync_soon()
        return lsn

    async def wait_durable(self, lsn: int | None, *, has_failed: bool) -> None:
        """Returns when the result of `finish` is as durable as the settings say. Raises JournalFull if a sync fails, or
        if `finish` failed."""
        if has_failed:
            raise self.refuse()
        if lsn is None or not self._is_group:
            return
        try:
            await self._group_commit.wait_synced(lsn)
        except JournalFull:
            if not self._serves_full:
                raise

    def refuse(self) -> JournalFull:
        """Counts a refusal and returns its error. The reason is in the log and in `Journal.state`: a caller need not
        see the gateway's paths."""
        self.refusals += 1
        return JournalFull("the gateway cannot record anything at the moment, so it may not answer")

    def on_acknowledged(self, records: Sequence[PendingRecord]) -> None:
        """Frees the cache of records that every sink has received."""
        for pending in records:
            if not pending.waiting_sinks and pending.is_cached:
                self._cached_bytes -= pending.size

    @property
    def _keeps_in_memory(self) -> bool:
        for subscription in self._subscriptions:  # `any` costs three times as much
            if subscription.is_overflowing:
                return False
        return bool(self._subscriptions)
