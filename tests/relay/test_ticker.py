"""One timer for all live streams."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from gateway.relay import ticker as pulse_module
from gateway.relay.ticker import Ticker


class Heart:
    def __init__(self, *, breaks: bool = False) -> None:
        self.beats: list[float] = []
        self._breaks = breaks

    def tick(self, now: float) -> None:
        self.beats.append(now)
        if self._breaks:
            raise ZeroDivisionError


@pytest.fixture(autouse=True)
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pulse_module, "PULSE_S", 0.02)


@pytest.mark.stopwatch
async def test_beats_while_something_is_watched_and_then_rests() -> None:
    ticker, heart, loop = Ticker(), Heart(), asyncio.get_running_loop()
    began = loop.time()
    with ticker.watching(heart):
        await asyncio.sleep(0.2)
    count = len(heart.beats)
    assert 3 <= count <= 10
    assert heart.beats == sorted(heart.beats)
    assert began <= heart.beats[0] <= loop.time()
    await asyncio.sleep(0.1)
    assert len(heart.beats) == count
    assert ticker._timer is None


async def test_beats_again_after_a_rest() -> None:
    ticker, heart = Ticker(), Heart()
    for _ in range(2):
        heart.beats.clear()
        with ticker.watching(heart):
            await asyncio.sleep(0.1)
        assert heart.beats
        await asyncio.sleep(0.05)


async def test_each_beats_as_long_as_it_is_watched() -> None:
    ticker, first, second = Ticker(), Heart(), Heart()
    with ticker.watching(first):
        with ticker.watching(second):
            await asyncio.sleep(0.1)
        seen = len(second.beats)
        await asyncio.sleep(0.1)
    assert len(second.beats) == seen < len(first.beats)
    ticker.close()


async def test_one_that_fails_does_not_stop_the_others() -> None:
    complaints: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    ticker, broken, heart = Ticker(), Heart(breaks=True), Heart()
    with ticker.watching(broken), ticker.watching(heart):
        await asyncio.sleep(0.1)
    assert len(heart.beats) >= 2
    assert len(broken.beats) >= 2
    assert isinstance(complaints[0]["exception"], ZeroDivisionError)
    ticker.close()


@pytest.mark.stopwatch
async def test_one_may_leave_while_it_beats() -> None:
    ticker, heart = Ticker(), Heart()
    leaving = ticker.watching(heart)

    class Leaver(Heart):
        def tick(self, now: float) -> None:
            super().tick(now)
            if len(self.beats) == 1:
                leaving.__exit__(None, None, None)

    with ticker.watching(Leaver()):
        leaving.__enter__()
        await asyncio.sleep(0.1)
    assert len(heart.beats) <= 1
    ticker.close()


async def test_closed_pulse_is_silent() -> None:
    ticker, heart = Ticker(), Heart()
    with ticker.watching(heart):
        ticker.close()
        await asyncio.sleep(0.06)
        assert heart.beats == []
    ticker.close()
