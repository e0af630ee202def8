"""Moves finished records from the journals to the sinks, in batches: from our own journal and from dead processes'."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import structlog

from gateway.errors import safe_text
from gateway.journal.disk import in_thread
from gateway.shipping.journal_delivery import JournalDelivery
from gateway.shipping.quarantine import Quarantine
from gateway.shipping.quarantine_retry import QuarantineOptions, QuarantineRetry
from gateway.shipping.quarantined_segments import restore_segments
from gateway.shipping.reshipping import ReshipCounts, ReshipOptions, Reshipper
from gateway.shipping.retry_queue import RetryOptions
from gateway.shipping.sink_worker import SinkWorker
from gateway.shipping.takeover import Takeovers

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Sequence

    from gateway.journal.journal import Journal
    from gateway.shipping.reshipping import ApplyEdits
    from gateway.shipping.sink import Sink
    from gateway.shipping.tracked_sink import CursorStore

ABANDON_S = 2.0

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class ShipperOptions:
    """Only tests set these."""

    retry: RetryOptions = field(default_factory=RetryOptions)
    reship: ReshipOptions = field(default_factory=ReshipOptions)
    quarantine: QuarantineOptions = field(default_factory=QuarantineOptions)


@dataclass(frozen=True, slots=True)
class ShipperState:
    """For readiness."""

    pending: int  # records of this process that some sink has yet to get
    pending_for: dict[str, int]  # the same by sink
    pending_bytes: int
    oldest_s: float  # age of the oldest of them
    kept: int
    retrying: int  # records that a sink does not accept although it accepts others
    quarantined: int
    taking_over: str | None  # the dead process's folder that is being shipped
    fault: str | None  # why a sink does not take records now
    reship: ReshipCounts


@dataclass(frozen=True, slots=True)
class SinkState:
    """One sink, for metrics."""

    name: str
    pending: int  # records of this process that it has yet to get
    oldest_s: float  # age of the oldest of them
    kept: int
    is_down: bool  # the last attempt failed
    retrying: int  # records that it does not accept although it accepts others
    causes: tuple[str, ...]  # of its faults, short and stable


class Shipper:
    """Ships to each of its sinks. Make it before the first record: it subscribes to the journal.

    `store` is the one of the sinks that stores how far each journal is, and that may be set back: it then gets its lost
    rows again, and `apply_edits` brings it what users have set by hand. `versions` returns those of gateway and schema:
    when they change, the items in quarantine are tried again.
    """

    def __init__(
        self,
        journal: Journal,
        sinks: Sequence[Sink],
        store: CursorStore | None = None,
        apply_edits: ApplyEdits | None = None,
        versions: Callable[[], Awaitable[str]] | None = None,
        options: ShipperOptions | None = None,
    ) -> None:
        self._journal = journal
        self._store = store
        self._apply_edits = apply_edits
        self._versions = versions
        self._options = options or ShipperOptions()
        self._closing = asyncio.Event()
        self._quarantine = Quarantine(journal.directory)
        journals = JournalDelivery(journal, self._quarantine)
        self._workers = [
            SinkWorker(
                sink,
                journal,
                self._quarantine,
                journals,
                self._closing,
                self._options.retry,
                store if sink is store else None,
                self._on_set_back,
            )
            for sink in sinks
        ]
        queues = [worker.takeovers for worker in self._workers]
        self._takeovers = Takeovers(journal, queues, store, self._on_release)
        self._has_started = False
        self._reshipper: Reshipper | None = None
        self._quarantine_retry: QuarantineRetry | None = None

    async def start(self, names: Collection[str] | None = None) -> None:
        """Begins to ship to the sinks of these names, or to all; a sink that has begun goes on."""
        if not self._has_started:
            self._has_started = True
            await self._restore_segments()
            await in_thread(self._quarantine.update_count)
            for worker in self._workers:
                await worker.retries.load()
            self._takeovers.start()
        for worker in self._workers:
            if not worker.has_started and (names is None or worker.sink.name in names):
                worker.start(self._takeovers)
                if worker.progress is not None:
                    self._start_reshipper(worker)
        if self._versions is not None and self._quarantine_retry is None and self._workers[0].has_started:
            first = self._workers[0]
            self._quarantine_retry = QuarantineRetry(
                self._quarantine, first.retry_sink, self._versions, first.shipped, self._options.quarantine
            )
            self._quarantine_retry.start()

    async def _restore_segments(self) -> None:
        """Moves segments that an older gateway has put into quarantine back into journals."""
        names = [worker.sink.name for worker in self._workers]
        async with self._quarantine.lock():
            try:
                await in_thread(restore_segments, self._journal.directory, self._quarantine, names)
            except OSError as error:  # the next start tries again
                log.warning("segments_not_restored", error=safe_text(error))

    def _start_reshipper(self, worker: SinkWorker) -> None:
        assert self._store is not None
        assert worker.progress is not None
        assert worker.shipped is not None
        self._reshipper = Reshipper(
            self._journal.directory,
            worker.progress,
            self._store,
            worker.delivery_to,
            worker.is_pending,
            lambda: worker.pending_count,
            worker.shipped,
            self._apply_edits,
            self._options.reship,
        )
        self._reshipper.start()

    def _on_set_back(self) -> None:
        if self._reshipper is not None:
            self._reshipper.note_set_back()

    def _on_release(self) -> None:
        if self._reshipper is not None:  # no process could ship the folder again while we held it
            self._reshipper.check_now()

    async def aclose(self, deadline_s: float) -> None:
        """Ships finished records for at most this time; the others stay in the journal. No call is in flight then."""
        self._closing.set()
        for background in (self._takeovers, self._reshipper, self._quarantine_retry):
            if background is not None:
                await background.aclose()
        for worker in self._workers:
            await worker.end_takeovers()
        for worker in self._workers:
            await worker.retries.aclose()
        with suppress(TimeoutError):
            async with asyncio.timeout(deadline_s):
                for worker in self._workers:
                    await worker.drain()
        for worker in self._workers:
            await worker.end()
        for worker in self._workers:
            await worker.leave()
        await self._abandon_calls()
        for worker in self._workers:
            worker.retries.release()
        self._takeovers.release()

    async def _abandon_calls(self) -> None:
        calls = {task for worker in self._workers for task in worker.in_flight}
        if self._reshipper is not None and self._reshipper.in_flight is not None:
            calls.add(self._reshipper.in_flight)
        if not calls:
            return
        for worker in self._workers:
            worker.sink.abandon()
        await asyncio.wait(calls, timeout=ABANDON_S)
        for call in calls:
            if call.done() and not call.cancelled():
                call.exception()  # retrieved, so that asyncio does not log it: the records stay in the journal

    # --- state -------------------------------------------------------------------------------------------------------

    @property
    def takeovers(self) -> int:
        """The number of dead processes' journals that some sink has yet to get."""
        return len(self._takeovers)

    @property
    def reship(self) -> ReshipCounts:
        return self._reshipper.counts if self._reshipper is not None else ReshipCounts()

    def sinks(self) -> list[SinkState]:
        return [
            SinkState(
                name=worker.sink.name,
                pending=len(worker.subscription),
                oldest_s=worker.oldest_s,
                kept=worker.kept,
                is_down=worker.is_down,
                retrying=len(worker.retries),
                causes=worker.causes,
            )
            for worker in self._workers
        ]

    def state(self) -> ShipperState:
        sinks = self.sinks()
        return ShipperState(
            pending=max((sink.pending for sink in sinks), default=0),
            pending_for={sink.name: sink.pending for sink in sinks},
            pending_bytes=max((worker.subscription.ready_bytes for worker in self._workers), default=0),
            oldest_s=max((sink.oldest_s for sink in sinks), default=0.0),
            kept=sum(sink.kept for sink in sinks),
            retrying=sum(sink.retrying for sink in sinks),
            quarantined=self._quarantine.count,
            taking_over=self._takeovers.current,
            fault=next((worker.fault for worker in self._workers if worker.fault), None),
            reship=self.reship,
        )
