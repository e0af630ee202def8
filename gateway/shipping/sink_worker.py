"""SinkWorker: delivers the records of all journals to one sink. A slow sink delays no other sink."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple
from uuid import UUID

import structlog

from gateway.errors import StoreUnavailable, safe_text
from gateway.journal.pending import BATCH_BYTES, BATCH_ROWS, batches
from gateway.journal.recovery import JournalRecovery
from gateway.journal.subscription import Cursor
from gateway.polling import wait_at_most
from gateway.shipping.delivery import Delivery
from gateway.shipping.progress import Progress
from gateway.shipping.retry_queue import RetryQueue
from gateway.shipping.shipped_records import ShippedRecords
from gateway.shipping.tracked_sink import TrackedSink

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from gateway.journal.journal import Journal
    from gateway.journal.pending import PendingRecord
    from gateway.shipping.journal_delivery import JournalDelivery
    from gateway.shipping.quarantine import Quarantine
    from gateway.shipping.retry_queue import RetryOptions
    from gateway.shipping.sink import Sink
    from gateway.shipping.takeover import Takeover, Takeovers
    from gateway.shipping.tracked_sink import CursorStore

GATHER_S = 0.05  # how long a lone record waits for others
GATHER_BUSY_S = 0.2  # after a batch of more than BUSY_ROWS: a batch costs as much as forty rows, here and in PostgreSQL
BUSY_ROWS = 10
MAX_ROWS = 2000  # of a batch that grows while all its records are refused: later records may be accepted
MAX_BYTES = 32 << 20
LEAVE_S = 1.0  # for the last call to the database

log = structlog.get_logger()


class _Tracked(NamedTuple):
    """The database, once for each delivery, because each saves the progress of another journal."""

    store: CursorStore
    own: TrackedSink
    taken_over: TrackedSink
    retried: TrackedSink


class SinkWorker:
    """Ships this process's journal and those of dead processes to one sink, and retries what it has refused."""

    def __init__(
        self,
        sink: Sink,
        journal: Journal,
        quarantine: Quarantine,
        journals: JournalDelivery,
        closing: asyncio.Event,
        options: RetryOptions,
        store: CursorStore | None,
        on_set_back: Callable[[], None],
    ) -> None:
        """`store` is the same sink, if it stores the progress of each journal."""
        self.sink = sink
        self.subscription = journal.subscribe(sink.name)
        self.takeovers: asyncio.Queue[Takeover] = asyncio.Queue()
        self.progress: Progress | None = None  # of this process's journal, if the sink stores it
        self.shipped: ShippedRecords | None = None
        self._journal = journal
        self._quarantine = quarantine
        self._journals = journals
        self._closing = closing
        self._tracked: _Tracked | None = None
        self._is_caught_up = asyncio.Event()  # with the journals that dead processes had left when we started
        self._tasks: list[asyncio.Task[None]] = []
        own: Sink = sink
        taken_over: Sink = sink
        self.retry_sink: Sink = sink
        if store is not None:
            self._tracked = _Tracked(store, *(TrackedSink(store, on_set_back) for _ in range(3)))
            _, own, taken_over, self.retry_sink = self._tracked
            self.shipped = ShippedRecords(journal.directory, sink.name, journal.shipped_s)
        self.retries = RetryQueue(self.retry_sink, journal.directory, quarantine, options, self.shipped)
        self._own = self.delivery_to(own)
        self._taken_over = self.delivery_to(taken_over)

    def delivery_to(self, sink: Sink) -> Delivery:
        """Returns one more delivery, with the same retry queue."""
        return Delivery(sink, self._quarantine, self._closing, self.retries)

    # --- life --------------------------------------------------------------------------------------------------------

    def start(self, takeovers: Takeovers) -> None:
        """Begins to ship. The journal must be open."""
        self.retries.start()
        if self._tracked is not None:
            self.progress = Progress(self._journal.folder, self.sink.name)
            self._tracked.own.progress = self._tracked.retried.progress = self.progress
        name = self.sink.name
        self._tasks = [
            asyncio.create_task(self._ship(), name=f"ship to {name}"),
            asyncio.create_task(self._ship_takeovers(takeovers), name=f"ship dead processes' journals to {name}"),
        ]

    @property
    def has_started(self) -> bool:
        return bool(self._tasks)

    async def end_takeovers(self) -> None:
        await _cancel(self._tasks[1:])

    async def drain(self) -> None:
        """Returns when this process's journal is shipped; at once if that waits for the journals of dead processes."""
        if self.has_started and self._may_ship_new:
            await self.subscription.drained()

    async def end(self) -> None:
        """Ends the task. Calls in flight go on: see `in_flight`."""
        await _cancel(self._tasks[:1])

    async def leave(self) -> None:
        """Records in the database that this process ends. If that fails, other hosts find out by its silence."""
        if self._tracked is not None and self.progress is not None and self._own.fault is None:
            leaving = asyncio.ensure_future(self._leave(self._tracked.store, self.progress))
            await asyncio.wait({leaving}, timeout=LEAVE_S)
            leaving.cancel()

    async def _leave(self, store: CursorStore, progress: Progress) -> None:
        progress.waiting = self.pending_count
        progress.position = self.subscription.delivered_up_to(self._journal.end)
        with suppress(StoreUnavailable):
            await store.save_progress(progress)
            await store.leave(progress.journal, is_clean=not (progress.waiting or self._journal.state.open))

    # --- state -------------------------------------------------------------------------------------------------------

    @property
    def in_flight(self) -> Iterator[asyncio.Task[None]]:
        """The calls that have not returned yet."""
        for caller in (self._own, self._taken_over, self.retries):
            if caller.in_flight is not None:
                yield caller.in_flight

    @property
    def kept(self) -> int:
        return self._own.kept + self._taken_over.kept + self.retries.kept

    @property
    def is_down(self) -> bool:
        return bool(self._own.fault or self._taken_over.fault)

    @property
    def fault(self) -> str | None:
        error = self.retries.error
        return self._own.fault or self._taken_over.fault or (None if error is None else error.message)

    @property
    def causes(self) -> tuple[str, ...]:
        """The causes of the current faults, short and stable."""
        error = self.retries.error
        causes = (self._own.cause, self._taken_over.cause, None if error is None else error.cause)
        return tuple(sorted({cause for cause in causes if cause}))

    @property
    def oldest_s(self) -> float:
        """The age of the oldest record that waits in our own journal."""
        at = self.subscription.oldest_at
        return 0.0 if at is None else max(0.0, time.time() - at)

    @property
    def pending_count(self) -> int:
        return len(self.subscription) + len(self.retries)

    def is_pending(self, key: bytes) -> bool:
        """Returns whether the record of this key waits for delivery or retry, as far as memory shows."""
        return self.subscription.is_pending(key) or self.retries.has_record(UUID(bytes=key))

    # --- this process's journal --------------------------------------------------------------------------------------

    async def _ship(self) -> None:
        if not self._may_ship_new:
            await self._is_caught_up.wait()
        subscription = self.subscription
        taken: Sequence[PendingRecord] = ()
        rows, size = BATCH_ROWS, BATCH_BYTES
        while True:
            await subscription.wait()
            await self._gather(GATHER_BUSY_S if len(taken) > BUSY_ROWS else GATHER_S)
            taken = subscription.peek(rows, size)
            progress = self.progress
            set_backs = 0
            if progress is not None:
                progress.position = subscription.delivered_up_to(self._journal.end)
                progress.waiting = self.pending_count - len(taken)
                set_backs = progress.set_backs
            is_done = await self._journals.deliver(self._own, self._journal.folder, taken)
            if progress is not None and progress.set_backs != set_backs:
                continue  # some rows may be lost again, and the reshipper leaves out the records that we hold
            if is_done:
                subscription.acknowledge(taken)
                rows, size = BATCH_ROWS, BATCH_BYTES
            else:
                rows, size = min(2 * rows, MAX_ROWS), min(2 * size, MAX_BYTES)

    async def _gather(self, seconds: float) -> None:
        """Waits for a batch to fill, but not while the gateway closes."""
        if len(self.subscription) < BATCH_ROWS and self.subscription.ready_bytes < BATCH_BYTES:
            await wait_at_most(seconds, self._closing)

    @property
    def _may_ship_new(self) -> bool:
        return not self.sink.is_ordered or self._is_caught_up.is_set()

    # --- journals of dead processes ----------------------------------------------------------------------------------

    async def _ship_takeovers(self, takeovers: Takeovers) -> None:
        """Ships one folder after the other."""
        await takeovers.has_scanned.wait()
        while True:
            if self.takeovers.empty():
                self._is_caught_up.set()
            takeover = await self.takeovers.get()
            has_failed = False
            try:
                await self._ship_folder(takeover.folder.path)
            except Exception as error:
                has_failed = True  # the next scan finds the folder again
                log.exception("takeover_failed", error=safe_text(error))
            await takeovers.finish(takeover, has_failed=has_failed)

    async def _ship_folder(self, folder: Path) -> None:
        cursor = Cursor(folder / f"{self.sink.name}.cursor")
        recovery = JournalRecovery(folder, cursor.read(), cursor.shipped)
        progress = Progress(folder, self.sink.name)
        if self._tracked is not None:
            self._tracked.taken_over.progress = progress
        try:
            async for pendings in recovery.records():
                await self._journals.report_damage(folder, recovery)
                progress.waiting = len(pendings)
                for batch in batches(pendings):
                    while not await self._journals.deliver(self._taken_over, folder, batch):
                        pass  # `deliver` has paused
                    progress.waiting -= len(batch)
                    cursor.shipped += len(batch)
                cursor.write(recovery.position)
                progress.position = recovery.position
        finally:
            cursor.close()
        await self._journals.report_damage(folder, recovery)


async def _cancel(tasks: Sequence[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks)
