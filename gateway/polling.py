"""Waiting with a time limit, and periodic work."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

import structlog

from gateway.errors import StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

log = structlog.get_logger()


async def wait_at_most(seconds: float, event: asyncio.Event) -> bool:
    """Returns whether the event is set within this time."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()
    return event.is_set()


class PeriodicTask:
    """A task that calls `work` for ever: `every_s` after the end of the last call, or at once after `wake()`.

    After StoreUnavailable the pause is `retry_s`. Any other exception is logged as `periodic_task_failed` with its
    traceback, and the next call comes as usual.
    """

    def __init__(
        self,
        name: str,
        work: Callable[[], Awaitable[object]],
        every_s: float,
        *,
        retry_s: float | None = None,
        is_delayed: bool = False,
    ) -> None:
        """`is_delayed`: the first call comes after `every_s`, too."""
        self._name = name
        self._work = work
        self._every_s = every_s
        self._retry_s = every_s if retry_s is None else retry_s
        self._is_delayed = is_delayed
        self._woken = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Starts the task, once."""
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name=self._name)

    def wake(self) -> None:
        """Makes the next call come now."""
        self._woken.set()

    async def aclose(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})

    async def _run(self) -> None:
        pause = self._every_s if self._is_delayed else 0.0
        while True:
            await wait_at_most(pause, self._woken)
            self._woken.clear()
            pause = self._every_s
            try:
                await self._work()
            except StoreUnavailable as error:
                pause = self._retry_s
                log.debug("periodic_task_postponed", task=self._name, error=error.message)
            except Exception:  # the task's outermost loop: the next call may succeed
                log.exception("periodic_task_failed", task=self._name)
