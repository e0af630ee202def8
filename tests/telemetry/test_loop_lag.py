"""A callback that holds the event loop up is noticed, by as much as it held it up."""

from __future__ import annotations

import asyncio
import time

from gateway.telemetry.loop_lag import EVERY_S, LoopLag


async def test_a_loop_that_is_held_up_is_late_by_as_much() -> None:
    told: list[float] = []
    lag = LoopLag(told.append)
    await asyncio.sleep(EVERY_S / 2)
    time.sleep(EVERY_S)  # noqa: ASYNC251 - what nobody should do
    await asyncio.sleep(EVERY_S * 1.2)
    lag.close()
    assert EVERY_S * 0.4 < told[0] < EVERY_S
    assert told[1] < EVERY_S / 4
    await asyncio.sleep(EVERY_S * 1.2)
    assert len(told) == 2, "it went on after its end"
