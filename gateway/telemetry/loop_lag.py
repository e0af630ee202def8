"""Measures the delay of the event loop with a timer that fires every second."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

EVERY_S = 1.0


class LoopLag:
    """Reports the delay of each tick in seconds, until `close`."""

    def __init__(self, report: Callable[[float], None]) -> None:
        self._report = report
        self._schedule()

    def _schedule(self) -> None:
        self._due = time.perf_counter() + EVERY_S  # the loop's clock is cached during a callback
        self._timer = asyncio.get_running_loop().call_later(EVERY_S, self._tick)

    def _tick(self) -> None:
        self._report(max(0.0, time.perf_counter() - self._due))
        self._schedule()

    def close(self) -> None:
        self._timer.cancel()
