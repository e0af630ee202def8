"""The requests that are being answered now: to stop one, to let one live on without its caller, to wait for all."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from typing import TYPE_CHECKING

from gateway.errors import NotFound, ShuttingDown

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterator
    from uuid import UUID

    from gateway.exchange import Talk
    from gateway.model import Principal


class Live:
    """Counts what runs; knows the answers that are made in tasks of their own."""

    def __init__(self) -> None:
        self._tasks: dict[UUID, tuple[Talk, asyncio.Task[None]]] = {}
        self._running = 0
        self._all_done = asyncio.Event()
        self._all_done.set()
        self.is_draining = False

    @contextmanager
    def request(self) -> Iterator[None]:
        """Around the handling of a request, or the rest of one whose caller has left. Raises ShuttingDown."""
        if self.is_draining:
            raise ShuttingDown("the gateway is shutting down")
        with self._counted():
            yield

    @contextmanager
    def _counted(self) -> Iterator[None]:
        self._running += 1
        self._all_done.clear()
        try:
            yield
        finally:
            self._running -= 1
            if self._running == 0:
                self._all_done.set()

    def start(self, talk: Talk, story: Coroutine[None, None, None]) -> asyncio.Task[None]:
        """Run a story as a task that its caller may leave; it can be stopped by the interaction's id."""

        async def run() -> None:
            with self._counted():
                try:
                    await story
                finally:
                    del self._tasks[talk.id]

        task = asyncio.get_running_loop().create_task(run())
        self._tasks[talk.id] = (talk, task)
        return task

    def stop(self, interaction_id: UUID, caller: Principal) -> None:
        """End an answer at its caller's wish. Raises NotFound, also for an answer of somebody else."""
        talk, task = self._tasks.get(interaction_id, (None, None))
        if talk is None or task is None or talk.caller.user != caller.user:
            raise NotFound("no such answer is being made")
        talk.is_stopped = True
        task.cancel()

    async def drain(self, seconds: float) -> bool:
        """Take no more requests and wait for those that run; False when some still do."""
        self.is_draining = True
        try:
            async with asyncio.timeout(seconds):
                await self._all_done.wait()
        except TimeoutError:
            return False
        return True

    async def cancel_detached(self) -> None:
        """End the answers whose callers have left."""
        tasks = [task for _, task in self._tasks.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
