"""One timer for all streams."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from gateway.relay.ticker import Ticker

TICK_S = 0.02


class Stream:
    def __init__(self, *, breaks: bool = False) -> None:
        self.ticks: list[float] = []
        self._breaks = breaks

    def tick(self, now: float) -> None:
        self.ticks.append(now)
        if self._breaks:
            raise ZeroDivisionError


@pytest.mark.stopwatch
async def test_the_ticker_runs_only_while_a_stream_is_watched() -> None:
    ticker, stream, loop = Ticker(TICK_S), Stream(), asyncio.get_running_loop()
    began = loop.time()
    with ticker.watching(stream):
        await asyncio.sleep(0.2)
    count = len(stream.ticks)
    assert 3 <= count <= 10
    assert stream.ticks == sorted(stream.ticks)
    assert began <= stream.ticks[0] <= loop.time()
    await asyncio.sleep(0.1)
    assert len(stream.ticks) == count
    assert ticker._timer is None


async def test_the_ticker_starts_again() -> None:
    ticker, stream = Ticker(TICK_S), Stream()
    for _ in range(2):
        stream.ticks.clear()
        with ticker.watching(stream):
            await asyncio.sleep(0.1)
        assert stream.ticks
        await asyncio.sleep(0.05)


async def test_a_stream_gets_ticks_until_it_leaves() -> None:
    ticker, first, second = Ticker(TICK_S), Stream(), Stream()
    with ticker.watching(first):
        with ticker.watching(second):
            await asyncio.sleep(0.1)
        seen = len(second.ticks)
        await asyncio.sleep(0.1)
    assert len(second.ticks) == seen < len(first.ticks)
    ticker.close()


async def test_a_stream_that_fails_does_not_stop_the_others() -> None:
    reports: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reports.append(context))
    ticker, broken, stream = Ticker(TICK_S), Stream(breaks=True), Stream()
    with ticker.watching(broken), ticker.watching(stream):
        await asyncio.sleep(0.1)
    assert len(stream.ticks) >= 2
    assert len(broken.ticks) >= 2
    assert isinstance(reports[0]["exception"], ZeroDivisionError)
    ticker.close()


@pytest.mark.stopwatch
async def test_a_stream_may_leave_during_a_tick() -> None:
    ticker, stream = Ticker(TICK_S), Stream()
    leaving = ticker.watching(stream)

    class Leaver(Stream):
        def tick(self, now: float) -> None:
            super().tick(now)
            if len(self.ticks) == 1:
                leaving.__exit__(None, None, None)

    with ticker.watching(Leaver()):
        leaving.__enter__()
        await asyncio.sleep(0.1)
    assert len(stream.ticks) <= 1
    ticker.close()


async def test_a_closed_ticker_is_silent() -> None:
    ticker, stream = Ticker(TICK_S), Stream()
    with ticker.watching(stream):
        ticker.close()
        await asyncio.sleep(0.06)
        assert stream.ticks == []
    ticker.close()
