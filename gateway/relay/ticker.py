"""One timer for all live streams: what they have said is filed, and silent ones get their heartbeat."""

from __future__ import annotations

import asyncio
from typing import Protocol

PULSE_S = 0.2


class Ticking(Protocol):
    """Something that wants to be looked after while it lives."""

    def tick(self, now: float) -> None:
        """`now` is the event loop's clock, in seconds."""
        ...


class Ticker:
    """Beats for whatever is being watched; rests when nothing is."""

    def __init__(self) -> None:
        self._watched: dict[Ticking, None] = {}
        self._timer: asyncio.TimerHandle | None = None

    @property
    def count(self) -> int:
        """How many are being watched."""
        return len(self._watched)

    def watching(self, living: Ticking) -> Watching:
        return Watching(self, living)

    def watch(self, living: Ticking) -> None:
        """`leave` must follow."""
        self._watched[living] = None
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(PULSE_S, self._beat)

    def leave(self, living: Ticking) -> None:
        del self._watched[living]

    def _beat(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(PULSE_S, self._beat) if self._watched else None
        now = loop.time()
        for living in tuple(self._watched):
            try:
                living.tick(now)
            except Exception as error:  # noqa: BLE001 (one that fails must not take the beat from all the others)
                loop.call_exception_handler({"message": f"the pulse of {living!r} failed", "exception": error})

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class Watching:
    """Watches while its block runs; a generator's context costs twice as much, for every stream."""

    __slots__ = ("_living", "_ticker")

    def __init__(self, ticker: Ticker, living: Ticking) -> None:
        self._ticker = ticker
        self._living = living

    def __enter__(self) -> None:
        self._ticker.watch(self._living)

    def __exit__(self, *_: object) -> None:
        self._ticker.leave(self._living)
