"""Live tail of the log: one task of a process asks Postgres for changes, for all readers, while there are readers.

A reader has no queue that could grow. It passes the position that it has read to and gets the changes since: mostly
from the newest ones, which are kept here for all readers; after a longer pause from Postgres.
"""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Protocol

import structlog

from gateway.errors import StoreUnavailable, TooManyReaders
from gateway.polling import wait_at_most

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from gateway.model import Principal
    from gateway.store.change_feed import Change, End

EVERY_S = 0.5
BATCH = 200
MOST_KEPT = 1000  # changes, of about 2 kB each
MOST_NUMBERED = 5000
MOST_READERS = 32
MOST_OF_USER = 8

log = structlog.get_logger()


class Source(Protocol):
    """The change feed of the database. All methods raise StoreUnavailable."""

    async def number(self, most: int) -> int: ...

    async def end(self) -> End: ...

    async def after(self, caller: Principal, position: int, most: int) -> Sequence[Change]: ...


class LiveTail:
    """Shares the change feed among readers. `position` is the last change read from Postgres; None while there is no
    reader, and until Postgres answers the first time."""

    def __init__(
        self, source: Source, *, every_s: float = EVERY_S, batch: int = BATCH, most_kept: int = MOST_KEPT
    ) -> None:
        self._source = source
        self._every_s = every_s
        self._batch = batch
        self._kept: deque[Change] = deque(maxlen=most_kept)
        self._readers: list[Principal] = []  # all are auditors
        self._task: asyncio.Task[None] | None = None
        self._news = asyncio.Event()
        self.position: int | None = None
        self.is_down = False

    @contextmanager
    def reading(self, caller: Principal) -> Iterator[None]:
        """Registers an auditor as a reader. Raises TooManyReaders."""
        of_user = sum(each.user == caller.user for each in self._readers)
        if len(self._readers) >= MOST_READERS or of_user >= MOST_OF_USER:
            raise TooManyReaders("too many readers of the live page already")
        self._readers.append(caller)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._poll_for_readers(), name="live_tail")
        try:
            yield
        finally:
            self._readers.remove(caller)

    async def begin(self, seen: int | None) -> tuple[int, bool]:
        """The position at which a reader begins that has `seen` so far (None: a new one), and whether the feed has
        dropped changes that it missed. Raises StoreUnavailable."""
        end = await self._source.end()
        if seen is None:
            return end.position, False
        has_missed = not end.forgotten <= seen <= end.position
        return (end.position if has_missed else seen), has_missed

    async def after(self, caller: Principal, position: int, wait_s: float) -> tuple[Sequence[Change], int]:
        """The changes after a position, and the position of the last one; waits at most `wait_s` for the first. The
        caller is `reading`."""
        if self.is_down or self.position is None or self.position <= position:
            await self._wait(wait_s)
        read = self.position
        if read is None or read <= position:
            return (), position
        if self._kept and self._kept[0].position <= position + 1:
            return [each for each in self._kept if each.position > position], read
        try:
            missing = await self._source.after(caller, position, self._batch)
        except StoreUnavailable:
            await self._wait(wait_s)
            return (), position
        if len(missing) < self._batch:  # these are all up to `read`; newer ones may exist
            return missing, max(read, *(each.position for each in missing))
        return missing, missing[-1].position

    async def aclose(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    async def _wait(self, seconds: float) -> None:
        """Wait for news, at most so many seconds."""
        await wait_at_most(seconds, self._news)

    async def _poll_for_readers(self) -> None:
        """Poll the feed until there are no readers."""
        try:
            while self._readers:
                try:
                    await self._poll(self._readers[0])
                    self.is_down = False
                except StoreUnavailable:
                    self._notify(is_down=True)
                except Exception:
                    log.exception("live tail failed")
                    self._notify(is_down=True)
                await asyncio.sleep(self._every_s)
        finally:
            self.position = None
            self._kept.clear()

    async def _poll(self, caller: Principal) -> None:
        """Read all new changes with the rights of one reader, for all of them."""
        await self._source.number(MOST_NUMBERED)
        if self.position is None:
            self.position = (await self._source.end()).position
        while fresh := await self._source.after(caller, self.position, self._batch):
            self._kept.extend(fresh)
            self.position = fresh[-1].position
            self._notify(is_down=False)
        if self.is_down:
            self._notify(is_down=False)

    def _notify(self, *, is_down: bool) -> None:
        if is_down and self.is_down:
            return
        self.is_down = is_down
        self._news.set()
        self._news = asyncio.Event()
