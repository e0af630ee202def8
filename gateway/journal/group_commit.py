"""Group commit: one fdatasync at a time, and everybody who waits while it runs shares the next one."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from gateway.errors import JournalFull

if TYPE_CHECKING:
    from gateway.journal.segments import Segments

INTERVAL_S = 0.05
SPACING_S = 0.002  # between the starts of two syncs while several wait for each: one costs some 60 µs of CPU


class GroupCommit:
    """Makes what was written durable, on demand.

    When a sync fails, Linux marks the pages as clean: asking again would only seem to succeed ("fsyncgate"). So those
    who wait are told that their record is not durable, and the file gets no more frames. What is in it can still be
    read while the machine runs, and goes to the store as usual: the store may know more than a caller was told.
    """

    def __init__(self, segments: Segments, patience_s: float) -> None:
        self._segments = segments
        self._patience_s = patience_s  # a sync that takes longer is taken for failed
        self._loop = asyncio.get_running_loop()
        self._waiters: list[asyncio.Future[None]] = []
        self._running: list[asyncio.Future[None]] = []
        self._is_running = False  # or about to
        self._is_crowded = False
        self._started_at = 0.0
        self._is_flushing = False
        self._timer: asyncio.TimerHandle | None = None
        self._alarm: asyncio.TimerHandle | None = None  # one for many syncs: setting it costs as much as asking for one
        self._lost = (0, 0)  # from and to: bytes of the last failure, of which a later sync says nothing
        self.synced = 0  # bytes of the journal that are dealt with: durable, or lost as above
        self.count = 0

    async def reach(self, mark: int) -> None:
        """Return when the journal's first `mark` bytes are durable. Raises JournalFull when the sync fails."""
        if mark <= self.synced:
            if self._lost[0] < mark <= self._lost[1]:
                raise _not_durable("a sync failed")
            return
        future: asyncio.Future[None] = self._loop.create_future()
        self._waiters.append(future)
        if not self._is_running:
            self._is_running = True
            self._start_soon()
        await future

    def soon(self) -> None:
        """Sync in the background within `INTERVAL_S`."""
        if self._timer is None:
            self._timer = self._loop.call_later(INTERVAL_S, self._tick)

    def retry(self) -> None:
        """Try again after a failure, so that a disk which works again is noticed."""
        if not self._is_running:
            self._is_running = True
            self._start()

    def close(self) -> None:
        for handle in (self._timer, self._alarm):
            if handle is not None:
                handle.cancel()

    def _tick(self) -> None:
        self._timer = None
        self.retry()

    def _start_soon(self) -> None:
        """In the next turn of the loop, so that all who finish in this one share it; a little later for a crowd."""
        pause = self._started_at + SPACING_S - self._loop.time() if self._is_crowded else 0.0
        if pause > 0:
            self._loop.call_later(pause, self._start)
        else:
            self._loop.call_soon(self._start)

    def _start(self) -> None:
        self._started_at = self._loop.time()
        self._is_flushing = True
        self._is_crowded = len(self._waiters) > 1
        self._running, self._waiters = self._waiters, []
        if self._alarm is None:
            self._alarm = self._loop.call_later(self._patience_s, self._look)
        mark = self._segments.written
        self._segments.flush(lambda error: self._finish(mark, error))

    def _look(self) -> None:
        """Is the sync that is under way still the one of a moment ago?"""
        self._alarm = None
        if not self._is_flushing:
            return
        left = self._started_at + self._patience_s - self._loop.time()
        if left <= 0:
            fault = f"a sync takes more than {self._patience_s:.0f} s"
            self._segments.blame_sync(fault)
            self._tell(fault)
            left = self._patience_s
        self._alarm = self._loop.call_later(left, self._look)

    def _finish(self, mark: int, error: OSError | None) -> None:
        self._is_flushing = False
        self.count += 1
        if error is None:
            self.synced = mark
            self._segments.blame_sync(None)
            self._answer(self._running, None)
        else:
            self._lost = (self.synced, self._segments.written)
            self.synced = self._segments.written
            self._segments.blame_sync(f"a sync failed: {error.strerror}")
            self._tell(f"a sync failed: {error.strerror}")
        self._running = []
        self._is_running = bool(self._waiters)
        if self._is_running:
            self._start_soon()

    def _tell(self, fault: str) -> None:
        """All who wait have written into the file that failed."""
        everybody = self._running + self._waiters
        self._running, self._waiters = [], []
        self._answer(everybody, fault)

    def _answer(self, futures: list[asyncio.Future[None]], fault: str | None) -> None:
        for future in futures:
            if future.done():  # its waiter was cancelled
                continue
            if fault is None:
                future.set_result(None)
            else:
                future.set_exception(_not_durable(fault))


def _not_durable(fault: str) -> JournalFull:
    return JournalFull(f"the record of this answer is not safely on disk: {fault}")
