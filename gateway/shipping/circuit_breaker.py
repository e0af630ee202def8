"""Circuit breaker: up to N calls at a time while the service answers, single probes while it is down."""

from __future__ import annotations

import asyncio
import random
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gateway.polling import wait_at_most

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable


class CircuitOpen(Exception):
    """The service is still down, and the caller's time is over."""


@dataclass(frozen=True, slots=True)
class Backoff:
    """Exponential backoff with jitter, in seconds."""

    first_s: float = 0.2
    longest_s: float = 10.0

    def pause_s(self, failures: int) -> float:
        """Returns the pause, which doubles with each failure. Half of it is random: gateways do not probe in step."""
        doubled = self.first_s * (1 << min(failures - 1, 30))
        return min(self.longest_s, doubled) * random.uniform(0.5, 1.0)  # noqa: S311 (no secret)


class CircuitBreaker:
    """Shared by all callers of one service.

    It opens (the service counts as down) after `open_after` failures in a row, or when the service asks for a pause.
    """

    def __init__(self, calls: int, backoff: Backoff, *, open_after: int = 3) -> None:
        self._slots = asyncio.Semaphore(calls)
        self._probing = asyncio.Lock()
        self._backoff = backoff
        self._open_after = open_after
        self._failures = 0  # in a row
        self._failed_at = 0.0
        self._not_before = 0.0
        self._recovered = asyncio.Event()  # of the current outage, or of the next one
        self.down_since: float | None = None  # monotonic, as is the next
        self.succeeded_at: float | None = None

    @property
    def is_down(self) -> bool:
        return self.down_since is not None

    def record_success(self) -> bool:
        """Closes the breaker. Returns whether it was open."""
        was_down = self.is_down
        self._failures = 0
        self.down_since = None
        self.succeeded_at = time.monotonic()
        if was_down:
            self._recovered.set()
            self._recovered = asyncio.Event()
        return was_down

    def record_failure(self, started_at: float, retry_after_s: float | None = None) -> bool:
        """Counts a failed call that began at `started_at`. Returns whether this opened the breaker.

        Calls that ran at the same time and all failed count as one failure.
        """
        now = time.monotonic()
        if started_at >= self._failed_at:
            self._failures += 1
            self._failed_at = now
            self._not_before = now + self._backoff.pause_s(self._failures)
        if retry_after_s is not None:
            self._not_before = max(self._not_before, now + retry_after_s)
        if self.is_down or (self._failures < self._open_after and retry_after_s is None):
            return False
        self.down_since = now
        return True

    @asynccontextmanager
    async def slot(self, max_wait_s: Callable[[], float]) -> AsyncIterator[float]:
        """Admits one call; yields the time of its start. While the service is down, one probe runs at a time.

        `max_wait_s` returns how long the caller can wait for the next probe. Raises CircuitOpen after that.
        """
        async with self._slots:
            if self.is_down:
                async with self._probing:
                    if self.is_down:
                        await self._wait_for_probe(max_wait_s())
                        yield time.monotonic()
                        return
            yield time.monotonic()

    async def _wait_for_probe(self, max_wait_s: float) -> None:
        pause = self._not_before - time.monotonic()
        await asyncio.sleep(max(0.0, min(pause, max_wait_s)))
        if max_wait_s < pause:
            raise CircuitOpen

    async def pause(self, seconds: float) -> None:
        """Sleeps until the time is over or the service is up again."""
        await wait_at_most(seconds, self._recovered)
