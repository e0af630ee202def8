"""Forwards every interaction to the company's security monitor: at least once, none left out, in order by conversation.

A sink as the store is one, with its own cursor in the journal: what the monitor has not taken is not lost, and requests
never wait for the monitor. Conversations are sent in parallel, each in order. While the monitor is down, the journal is
the buffer. A conversation that fails alone goes to a spool of its own files: it must not delay the others, or keep the
journal from dropping their records.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from gateway.errors import StoreUnavailable
from gateway.journal.disk import in_thread
from gateway.shipping.ordering import LARGE_BYTES, Ordering
from gateway.submissions.client import MonitorClient
from gateway.submissions.options import SubmissionsOptions
from gateway.submissions.payload import payload_of
from gateway.submissions.sender import Sender
from gateway.submissions.spool import DeadLetters, Submission
from gateway.submissions.spool_retry import SpoolRetry

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path

    from gateway.model import Record
    from gateway.settings import Settings
    from gateway.shipping.ordering import PartitionKey
    from gateway.submissions.sender import Monitor

SLICE = 16  # records between two turns of the event loop

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class SubmissionsState:
    """For readiness and metrics."""

    monitor: str  # ok, away, or idle (no call so far)
    fault: str | None  # why the last call failed, if it did
    away_s: float
    delivered: int
    failed: int  # attempts
    waiting: int  # in the spool
    dead_letters: int  # given up, for people to look at


class Submissions:
    """The sink of the security monitor."""

    name = "submissions"
    is_ordered = True

    def __init__(
        self,
        monitor: Monitor,
        directory: Path,
        *,
        calls: int,
        give_up_s: float,
        options: SubmissionsOptions | None = None,
    ) -> None:
        self._monitor = monitor
        self._options = options = options or SubmissionsOptions()
        self._dead_letters = DeadLetters(directory)
        self._sender = Sender(monitor, self._dead_letters, calls=calls, give_up_s=give_up_s, options=options)
        self._spool = SpoolRetry(directory, self._sender, self._dead_letters, options)
        self._ordering = Ordering()
        self._last_tasks: dict[str, asyncio.Task[None]] = {}  # the last one of each partition
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_closing = False

    # --- life --------------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Starts the retries of what an earlier process has left in the spool."""
        await self._spool.start(self._ordering)

    async def aclose(self) -> None:
        self.abandon()
        if self._tasks:
            await asyncio.wait(self._tasks)
        await self._spool.aclose()
        await self._monitor.aclose()

    def state(self) -> SubmissionsState:
        sender, breaker = self._sender, self._sender.breaker
        is_idle = sender.fault is None and breaker.succeeded_at is None
        return SubmissionsState(
            monitor="away" if breaker.is_down else "idle" if is_idle else "ok",
            fault=sender.fault,
            away_s=0.0 if breaker.down_since is None else time.monotonic() - breaker.down_since,
            delivered=sender.delivered,
            failed=sender.failed,
            waiting=len(self._spool),
            dead_letters=self._dead_letters.count,
        )

    # --- Sink --------------------------------------------------------------------------------------------------------

    async def keep(self, records: Sequence[Record]) -> None:
        """Returns when each record is delivered, in the spool, or a dead letter.

        Raises StoreUnavailable only when the gateway stops.
        """
        partitions: dict[str, list[tuple[Record, PartitionKey]]] = {}
        for count, record in enumerate(records, 1):
            key = await self._ordering.key_of(record)
            partitions.setdefault(key.value, []).append((record, key))
            if count % SLICE == 0:
                await asyncio.sleep(0)
        if self._is_closing:
            raise StoreUnavailable("the gateway is stopping")
        tasks = [self._start_sending(partition, pairs) for partition, pairs in partitions.items()]
        if tasks:
            await asyncio.wait(tasks)
        if any(task.cancelled() for task in tasks):
            raise StoreUnavailable("the gateway is stopping")
        for task in tasks:
            task.result()

    async def keep_raw(self, record: Record) -> None:
        await self.keep([record])

    def abandon(self) -> None:
        self._is_closing = True
        for task in self._tasks:
            task.cancel()

    # --- in order by partition ---------------------------------------------------------------------------------------

    def _start_sending(self, partition: str, pairs: Sequence[tuple[Record, PartitionKey]]) -> asyncio.Task[None]:
        """Starts a task behind the last one of the partition: the shipper may call `keep` twice at the same time."""
        task = asyncio.create_task(self._send_in_order(self._last_tasks.get(partition), pairs))
        self._last_tasks[partition] = task
        self._tasks.add(task)

        def discard(task: asyncio.Task[None]) -> None:
            self._tasks.discard(task)
            if self._last_tasks.get(partition) is task:
                del self._last_tasks[partition]

        task.add_done_callback(discard)
        return task

    async def _send_in_order(
        self, previous: asyncio.Task[None] | None, pairs: Sequence[tuple[Record, PartitionKey]]
    ) -> None:
        if previous is not None:
            await asyncio.wait({previous})
        for record, key in pairs:
            await self._send(await _submission_of(record, key))

    async def _send(self, submission: Submission) -> None:
        """Returns when the submission is delivered, in the spool, or a dead letter.

        It goes to the spool after failures for some time: the monitor may only refuse this one. While the monitor is
        down this happens to few submissions, because the circuit breaker admits few.
        """
        failed_at: float | None = None
        may_give_up = True
        while True:
            if submission.key.value in self._spool:
                if await self._spool.put(submission):
                    return
                await asyncio.sleep(self._options.disk_pause_s)
                continue
            failed = await self._sender.send(submission, may_give_up=may_give_up)
            if failed is None:
                return
            may_give_up = not self._sender.is_hopeless(failed)
            if not may_give_up and await self._sender.give_up(failed):
                return
            submission = failed
            failed_at = failed_at or time.monotonic()
            has_failed_for_s = time.monotonic() - failed_at
            if has_failed_for_s >= self._options.spool_after_s and await self._spool.put(submission):
                log.warning("submission_set_aside", interaction_id=str(submission.id), reason=submission.reason)
                return
            if not self._sender.breaker.is_down:
                await self._sender.breaker.pause(self._options.backoff.pause_s(submission.tries))


async def _submission_of(record: Record, key: PartitionKey) -> Submission:
    payload = await in_thread(payload_of, record) if record.size > LARGE_BYTES else payload_of(record)
    return Submission(record.interaction.id, key, record.answer.finished_at, payload)


@asynccontextmanager
async def open_submissions(settings: Settings) -> AsyncIterator[Submissions | None]:
    """Yields the sink of the security monitor; None if no monitor is configured."""
    configured = settings.submissions
    if not configured.enabled or configured.url is None:
        yield None
        return
    monitor = MonitorClient(
        configured.url,
        configured.authorization.reveal() if configured.authorization is not None else None,
        timeout_s=configured.timeout_s,
        proxy=settings.proxy_for(configured.url),
    )
    sink = Submissions(monitor, settings.journal_dir, calls=configured.calls, give_up_s=configured.give_up_s)
    await sink.start()
    try:
        yield sink
    finally:
        await sink.aclose()
