"""Those who watch interactions as they are kept: one task of a process asks Postgres for all of them, if there are any.

A watcher has no queue that could grow. It says how far it has seen, and gets what has come since: mostly from the
latest ones, which are kept here for all; one that has fallen far behind, or comes back, from Postgres.
"""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Protocol

import structlog

from gateway.errors import StoreUnavailable, TooManyWatchers

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from gateway.model import Principal
    from gateway.store.change_feed import Change, End

EVERY_S = 0.5
BATCH = 200
MOST_KEPT = 1000  # arrivals; a line has some 2 kB
MOST_NUMBERED = 5000
MOST_WATCHERS = 32
MOST_OF_ONE = 8  # of one user

log = structlog.get_logger()


class Source(Protocol):
    """The database's side; its verbs raise StoreUnavailable."""

    async def number(self, most: int) -> int: ...

    async def end(self) -> End: ...

    async def after(self, caller: Principal, position: int, most: int) -> Sequence[Change]: ...


class LiveTail:
    """`position` is how far Postgres has been read; None: nobody watches, or it has not answered yet."""

    def __init__(
        self, source: Source, *, every_s: float = EVERY_S, batch: int = BATCH, most_kept: int = MOST_KEPT
    ) -> None:
        self._source = source
        self._every_s = every_s
        self._batch = batch
        self._kept: deque[Change] = deque(maxlen=most_kept)
        self._watching: list[Principal] = []  # auditors, all of them
        self._task: asyncio.Task[None] | None = None
        self._news = asyncio.Event()
        self.position: int | None = None
        self.is_down = False

    @contextmanager
    def watching(self, caller: Principal) -> Iterator[None]:
        """As long as an auditor watches. Raises TooManyWatchers."""
        its = sum(each.user == caller.user for each in self._watching)
        if len(self._watching) >= MOST_WATCHERS or its >= MOST_OF_ONE:
            raise TooManyWatchers("too many are watching already")
        self._watching.append(caller)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._look_for_ever(), name="watchers")
        try:
            yield
        finally:
            self._watching.remove(caller)

    async def begin(self, seen: int | None) -> tuple[int, bool]:
        """Where somebody begins who has seen so far, or nothing yet; and whether it has missed what is forgotten now.
        Raises StoreUnavailable."""
        end = await self._source.end()
        if seen is None:
            return end.position, False
        has_missed = not end.forgotten <= seen <= end.position
        return (end.position if has_missed else seen), has_missed

    async def after(self, caller: Principal, position: int, patience_s: float) -> tuple[Sequence[Change], int]:
        """What has come since then, waited for a while, and how far that is. The caller is `watching`."""
        if self.is_down or self.position is None or self.position <= position:
            await self._wait(patience_s)
        read = self.position
        if read is None or read <= position:
            return (), position
        if self._kept and self._kept[0].position <= position + 1:
            return [each for each in self._kept if each.position > position], read
        try:
            missing = await self._source.after(caller, position, self._batch)
        except StoreUnavailable:
            await self._wait(patience_s)
            return (), position
        if len(missing) < self._batch:  # these were all until `read`; behind it there may have come more
            return missing, max(read, *(each.position for each in missing))
        return missing, missing[-1].position

    async def aclose(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    async def _wait(self, seconds: float) -> None:
        """Until there is news, or so many seconds."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._news.wait()

    async def _look_for_ever(self) -> None:
        """Until nobody watches any more."""
        try:
            while self._watching:
                try:
                    await self._look(self._watching[0])
                    self.is_down = False
                except StoreUnavailable:
                    self._tell(is_down=True)
                except Exception:
                    log.exception("nothing new can be shown to those who watch")
                    self._tell(is_down=True)
                await asyncio.sleep(self._every_s)
        finally:
            self.position = None
            self._kept.clear()

    async def _look(self, caller: Principal) -> None:
        """In the name of one who watches, for all of them."""
        await self._source.number(MOST_NUMBERED)
        if self.position is None:
            self.position = (await self._source.end()).position
        while fresh := await self._source.after(caller, self.position, self._batch):
            self._kept.extend(fresh)
            self.position = fresh[-1].position
            self._tell(is_down=False)
        if self.is_down:
            self._tell(is_down=False)

    def _tell(self, *, is_down: bool) -> None:
        if is_down and self.is_down:
            return
        self.is_down = is_down
        self._news.set()
        self._news = asyncio.Event()
