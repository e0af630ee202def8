"""Whether the event loop is on time: a timer of each second, and by how much it is late."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

EVERY_S = 1.0


class LoopLag:
    """Tells how late each tick is, from the moment when it is made until `close`."""

    def __init__(self, tell: Callable[[float], None]) -> None:
        self._tell = tell
        self._wait()

    def _wait(self) -> None:
        self._due = time.perf_counter() + EVERY_S  # the loop's own clock stands still while a callback holds it up
        self._timer = asyncio.get_running_loop().call_later(EVERY_S, self._tick)

    def _tick(self) -> None:
        self._tell(max(0.0, time.perf_counter() - self._due))
        self._wait()

    def close(self) -> None:
        self._timer.cancel()
