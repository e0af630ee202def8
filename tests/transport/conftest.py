"""Both event loops, and nothing left behind on either."""

from __future__ import annotations

import asyncio
import gc
from typing import TYPE_CHECKING, Any

import pytest
import uvloop

from tests.loopback import LoopbackUpstream

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Mapping

BOTH_LOOPS = {"test_uploads.py", "test_ways.py", "test_connection.py"}


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """uvloop is what serves; asyncio is what serves where there is no uvloop, and shows its timers."""
    loops: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {"asyncio": asyncio.new_event_loop}
    if item.path.name in BOTH_LOOPS:
        loops["uvloop"] = uvloop.new_event_loop
    return loops


@pytest.fixture
async def upstream() -> AsyncIterator[LoopbackUpstream]:
    async with LoopbackUpstream() as server:
        yield server


@pytest.fixture(scope="module", autouse=True)
def small_heap() -> Iterator[None]:
    """Collecting garbage after each test looks at what the tests made, and not at every module that was imported."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(autouse=True)
async def nothing_is_left_behind() -> AsyncIterator[None]:
    """No task, no timer, and nothing for the loop to complain of: exceptions that nobody retrieved, open transports."""
    loop = asyncio.get_running_loop()
    complaints: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _, context: complaints.append(context))
    tasks = asyncio.all_tasks()
    yield
    gc.collect()
    for _ in range(5):  # what is closed says so a turn later
        await asyncio.sleep(0)
    assert not complaints
    assert not {task for task in asyncio.all_tasks() - tasks if task is not asyncio.current_task()}
    scheduled = getattr(loop, "_scheduled", ())  # asyncio's own loop shows its timers
    assert not [timer for timer in scheduled if not timer.cancelled()]
