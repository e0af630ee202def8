"""Periodic work goes on whatever one call raises; waiting ends with the event or with the time."""

from __future__ import annotations

import asyncio

from structlog.testing import capture_logs

from gateway.errors import StoreUnavailable
from gateway.polling import PeriodicTask, wait_at_most


async def test_a_call_that_fails_is_logged_and_the_next_one_comes() -> None:
    errors: list[Exception] = [StoreUnavailable("away"), RuntimeError("a bug")]
    done = asyncio.Event()

    async def work() -> None:
        if errors:
            raise errors.pop()
        done.set()

    task = PeriodicTask("sweep", work, 0.001)
    with capture_logs() as logs:
        task.start()
        async with asyncio.timeout(5):
            await done.wait()
        await task.aclose()
    assert [line["event"] for line in logs if line["log_level"] == "error"] == ["periodic_task_failed"]


async def test_wake_makes_the_next_call_come_now_also_a_delayed_first_one() -> None:
    calls: asyncio.Queue[None] = asyncio.Queue()

    async def work() -> None:
        calls.put_nowait(None)

    task = PeriodicTask("wait", work, 3600.0, is_delayed=True)
    task.start()
    async with asyncio.timeout(5):
        for _ in range(3):
            await asyncio.sleep(0)
            assert calls.empty()
            task.wake()
            await calls.get()
    await task.aclose()


async def test_waiting_ends_with_the_event_or_with_the_time() -> None:
    event = asyncio.Event()
    assert not await wait_at_most(0.01, event)
    event.set()
    assert await wait_at_most(3600.0, event)
