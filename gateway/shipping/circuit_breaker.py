"""How hard the monitor is knocked at: many calls at once while it answers, one now and then while it does not."""

from __future__ import annotations

import asyncio
import random
import time
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable


class PatienceOver(Exception):
    """It has waited long enough for the monitor to come back."""


@dataclass(frozen=True, slots=True)
class Backoff:
    first_s: float = 0.2
    longest_s: float = 10.0

    def pause_s(self, failures: int) -> float:
        """Doubles with each failure; half of it is chance, so that several gateways do not knock at once."""
        doubled = self.first_s * (1 << min(failures - 1, 30))
        return min(self.longest_s, doubled) * random.uniform(0.5, 1.0)  # noqa: S311 (no secret)


class CircuitBreaker:
    """Shared by all who call. The monitor counts as away after a few failures in a row, or at its own wish."""

    def __init__(self, calls: int, backoff: Backoff, *, away_after: int = 3) -> None:
        self._slots = asyncio.Semaphore(calls)
        self._knocking = asyncio.Lock()
        self._backoff = backoff
        self._away_after = away_after
        self._failures = 0  # in a row
        self._failed_at = 0.0
        self._not_before = 0.0
        self._recovery = asyncio.Event()  # of the present absence, or of the next one
        self.away_since: float | None = None  # monotonic, as is the next
        self.taken_at: float | None = None

    @property
    def is_down(self) -> bool:
        return self.away_since is not None

    def succeeded(self) -> bool:
        """Whether it was away."""
        was_away = self.is_down
        self._failures = 0
        self.away_since = None
        self.taken_at = time.monotonic()
        if was_away:
            self._recovery.set()
            self._recovery = asyncio.Event()
        return was_away

    def failed(self, began: float, retry_after_s: float | None = None) -> bool:
        """Whether it was there, and counts as away from now on. `began` is the call's; many calls that fail together
        say no more than one."""
        now = time.monotonic()
        if began >= self._failed_at:
            self._failures += 1
            self._failed_at = now
            self._not_before = now + self._backoff.pause_s(self._failures)
        if retry_after_s is not None:
            self._not_before = max(self._not_before, now + retry_after_s)
        if self.is_down or (self._failures < self._away_after and retry_after_s is None):
            return False
        self.away_since = now
        return True

    @asynccontextmanager
    async def turn(self, patience: Callable[[], float]) -> AsyncIterator[float]:
        """One call may be made within; gives the time. While the monitor is away they are made one by one, with long
        pauses. `patience` tells how many seconds are left to wait; raises PatienceOver."""
        async with self._slots:
            if self.is_down:
                async with self._knocking:
                    if self.is_down:
                        await self._wait_to_knock(patience())
                        yield time.monotonic()
                        return
            yield time.monotonic()

    async def _wait_to_knock(self, patience_s: float) -> None:
        pause = self._not_before - time.monotonic()
        await asyncio.sleep(max(0.0, min(pause, patience_s)))
        if patience_s < pause:
            raise PatienceOver

    async def rest(self, seconds: float) -> None:
        """Sleep so long, or until the monitor is back."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._recovery.wait()
