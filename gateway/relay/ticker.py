"""One timer for all streams: it writes their new events to the journal, and sends silent ones a heartbeat."""

from __future__ import annotations

import asyncio
from typing import Protocol

TICK_S = 0.2


class Ticking(Protocol):
    """A stream that wants regular ticks."""

    def tick(self, now: float) -> None:
        """Do what is due; `now` is the event loop's clock, in seconds."""
        ...


class Ticker:
    """Calls `tick` of all watched streams every `tick_s` seconds; sets no timer while no stream is watched."""

    def __init__(self, tick_s: float = TICK_S) -> None:
        self._tick_s = tick_s
        self._watched: dict[Ticking, None] = {}
        self._timer: asyncio.TimerHandle | None = None

    @property
    def count(self) -> int:
        """The number of watched streams."""
        return len(self._watched)

    def watching(self, stream: Ticking) -> Watching:
        """A context that watches the stream."""
        return Watching(self, stream)

    def add(self, stream: Ticking) -> None:
        """Begin to tick for a stream; `remove` must follow."""
        self._watched[stream] = None
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._tick_s, self._tick)

    def remove(self, stream: Ticking) -> None:
        """End the ticks for a stream."""
        del self._watched[stream]

    def _tick(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(self._tick_s, self._tick) if self._watched else None
        now = loop.time()
        for stream in tuple(self._watched):
            try:
                stream.tick(now)
            except Exception as error:  # noqa: BLE001 (one stream that fails must not stop the ticks of the others)
                loop.call_exception_handler({"message": f"the tick of {stream!r} failed", "exception": error})

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class Watching:
    """Watches a stream while its block runs. A context manager made of a generator costs twice as much per stream."""

    __slots__ = ("_stream", "_ticker")

    def __init__(self, ticker: Ticker, stream: Ticking) -> None:
        self._ticker = ticker
        self._stream = stream

    def __enter__(self) -> None:
        self._ticker.add(self._stream)

    def __exit__(self, *_: object) -> None:
        self._ticker.remove(self._stream)
