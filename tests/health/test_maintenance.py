"""What is done in the database now and then, whatever becomes of one time."""

from __future__ import annotations

import asyncio

from structlog.testing import capture_logs

from gateway.errors import StoreUnavailable
from gateway.health.maintenance import Chore


async def test_a_chore_that_fails_is_in_the_log_and_is_done_the_next_time() -> None:
    errors: list[Exception] = [StoreUnavailable("away"), RuntimeError("a bug")]
    done = asyncio.Event()

    async def work() -> None:
        if errors:
            raise errors.pop()
        done.set()

    chore = Chore("sweeping", 0.001, work)
    with capture_logs() as logs:
        chore.start()
        async with asyncio.timeout(5):
            await done.wait()
        await chore.aclose()
    assert [line["event"] for line in logs if line["log_level"] == "error"] == ["a chore failed"]
