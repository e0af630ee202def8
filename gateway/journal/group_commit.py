"""Group commit: at most one fdatasync runs; all records that finish meanwhile share the next one."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from gateway.errors import JournalFull

if TYPE_CHECKING:
    from gateway.journal.segments import Segments

INTERVAL_S = 0.05
SPACING_S = 0.002  # between the starts of two syncs while several records wait for each; a sync costs some 60 µs of CPU


class GroupCommit:
    """Makes the journal durable on demand.

    When a sync fails, Linux marks the pages as clean: a second sync would only seem to succeed ("fsyncgate"). So all
    waiters get JournalFull, and the file gets no more frames. Its frames can still be read while the machine runs, and
    are shipped as usual: the store may hold a record whose caller got an error.
    """

    def __init__(self, segments: Segments, timeout_s: float) -> None:
        self._segments = segments
        self._timeout_s = timeout_s  # a sync that takes longer counts as failed
        self._loop = asyncio.get_running_loop()
        self._waiters: list[asyncio.Future[None]] = []  # for the next sync
        self._running: list[asyncio.Future[None]] = []  # for the one that runs
        self._is_scheduled = False  # or running
        self._had_company = False  # several records waited for the last sync
        self._started_at = 0.0
        self._is_running = False
        self._interval: asyncio.TimerHandle | None = None
        self._timeout: asyncio.TimerHandle | None = None  # one for many syncs: it costs as much as to start one
        self._failed = (0, 0)  # the last range of positions whose sync failed; a later sync does not make it durable
        self.synced_lsn = 0  # everything before it is durable, or in `_failed`
        self.count = 0

    async def wait_synced(self, lsn: int) -> None:
        """Returns when everything before this position is durable. Raises JournalFull if the sync fails."""
        if lsn <= self.synced_lsn:
            if self._failed[0] < lsn <= self._failed[1]:
                raise _not_durable("a sync failed")
            return
        future: asyncio.Future[None] = self._loop.create_future()
        self._waiters.append(future)
        if not self._is_scheduled:
            self._is_scheduled = True
            self._schedule()
        await future

    def sync_soon(self) -> None:
        """Starts a sync within `INTERVAL_S`."""
        if self._interval is None:
            self._interval = self._loop.call_later(INTERVAL_S, self._on_interval)

    def sync_now(self) -> None:
        """Starts a sync; after a failure, this notices that the disk works again."""
        if not self._is_scheduled:
            self._is_scheduled = True
            self._start()

    def close(self) -> None:
        for handle in (self._interval, self._timeout):
            if handle is not None:
                handle.cancel()

    def _on_interval(self) -> None:
        self._interval = None
        self.sync_now()

    def _schedule(self) -> None:
        """Starts a sync in the loop's next turn, for all records that finish in this one; a little later if several
        records waited for the last one."""
        pause = self._started_at + SPACING_S - self._loop.time() if self._had_company else 0.0
        if pause > 0:
            self._loop.call_later(pause, self._start)
        else:
            self._loop.call_soon(self._start)

    def _start(self) -> None:
        self._started_at = self._loop.time()
        self._is_running = True
        self._had_company = len(self._waiters) > 1
        self._running, self._waiters = self._waiters, []
        if self._timeout is None:
            self._timeout = self._loop.call_later(self._timeout_s, self._check_timeout)
        lsn = self._segments.lsn
        self._segments.sync(lambda error: self._on_synced(lsn, error))

    def _check_timeout(self) -> None:
        """Fails the waiters if the sync that runs has taken too long."""
        self._timeout = None
        if not self._is_running:
            return
        left = self._started_at + self._timeout_s - self._loop.time()
        if left <= 0:
            fault = f"a sync takes more than {self._timeout_s:.0f} s"
            self._segments.set_sync_fault(fault)
            self._fail_all(fault)
            left = self._timeout_s
        self._timeout = self._loop.call_later(left, self._check_timeout)

    def _on_synced(self, lsn: int, error: OSError | None) -> None:
        self._is_running = False
        self.count += 1
        if error is None:
            self.synced_lsn = lsn
            self._segments.set_sync_fault(None)
            _resolve(self._running, None)
        else:
            self._failed = (self.synced_lsn, self._segments.lsn)
            self.synced_lsn = self._segments.lsn
            self._segments.set_sync_fault(f"a sync failed: {error.strerror}")
            self._fail_all(f"a sync failed: {error.strerror}")
        self._running = []
        self._is_scheduled = bool(self._waiters)
        if self._is_scheduled:
            self._schedule()

    def _fail_all(self, fault: str) -> None:
        """Fails all waiters: their records are all in the file whose sync failed."""
        waiters = self._running + self._waiters
        self._running, self._waiters = [], []
        _resolve(waiters, fault)


def _resolve(futures: list[asyncio.Future[None]], fault: str | None) -> None:
    for future in futures:
        if future.done():  # its waiter was cancelled
            continue
        if fault is None:
            future.set_result(None)
        else:
            future.set_exception(_not_durable(fault))


def _not_durable(fault: str) -> JournalFull:
    return JournalFull(f"the record of this answer is not safely on disk: {fault}")
