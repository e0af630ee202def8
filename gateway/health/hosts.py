"""Watches the hosts that share a database: who left with records, and whose clock is wrong."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import structlog

from gateway.errors import StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from uuid import UUID

    from gateway.ids import Ids
    from gateway.store.hosts import LeftHost

SKEW_S = 2.0  # a clock that is wrong by more than this is reported
DAY_S = 86_400.0

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class HostWatchOptions:
    """Nobody has to set this, except for tests."""

    tick_s: float = 30.0
    retry_s: float = 2.0
    silence_s: float = 120.0  # four ticks: a host that is silent for longer has left
    forget_s: float = 30 * DAY_S
    skewed_s: float = 2 * DAY_S  # for so long rows are found whose ids a wrong clock has made


class Table(Protocol):
    """llm_logs.hosts. All verbs raise StoreUnavailable."""

    async def measure(self) -> float: ...

    async def keep_skew(self, journal: UUID, ahead_s: float) -> None: ...

    async def worst_skew_s(self, seconds: float) -> float: ...

    async def left(self, silence_s: float) -> list[LeftHost]: ...

    async def of_this_host(self) -> Mapping[UUID, bool | None]: ...

    async def leave(self, journal: UUID) -> None: ...

    async def forget(self, journals: Sequence[UUID]) -> int: ...

    async def forget_old(self, seconds: float) -> None: ...


class Folders(Protocol):
    """The journals in this host's directory; blocks."""

    def __call__(self) -> Mapping[UUID, bool]:
        """Each with whether it is a dead owner's with nothing left to ship."""


class HostWatch:
    """One task. `ids` are corrected by what is measured; `on_skew` gets the largest skew of all hosts, in seconds."""

    def __init__(
        self,
        table: Table,
        journal: UUID,
        folders: Folders,
        ids: Ids,
        on_skew: Callable[[float], None],
        tuning: HostWatchOptions = HostWatchOptions(),
    ) -> None:
        self._table = table
        self._journal = journal
        self._folders = folders
        self._ids = ids
        self._on_skew = on_skew
        self._tuning = tuning
        self._task: asyncio.Task[None] | None = None
        self._well_since: float | None = None  # the database has answered at every tick since
        self._named: set[UUID] = set()
        self.skew_s: float | None = None  # by which our clock is ahead of the database's
        self.left: list[LeftHost] = []

    def start(self) -> None:
        self._task = asyncio.create_task(self._for_ever(), name="watch hosts")

    async def aclose(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    def state(self) -> dict[str, Any]:
        """For readiness."""
        return {
            "clock_ahead_s": None if self.skew_s is None else round(self.skew_s, 3),
            "is_clock_wrong": self._is_wrong(self.skew_s),
            "left": [
                {
                    "host": one.name,
                    "journal": str(one.journal),
                    "last_seen": round(one.seen_at),
                    "records": one.waiting,
                    "are_all": one.is_exact,
                }
                for one in self.left
            ],
        }

    async def tick(self) -> None:
        """Raises StoreUnavailable."""
        await self._measure()
        now = time.monotonic()
        self._well_since = now if self._well_since is None else self._well_since
        await self._table.keep_skew(self._journal, self.skew_s or 0.0)
        self._on_skew(await self._table.worst_skew_s(self._tuning.skewed_s))
        await self._tidy()
        # After an outage nobody was heard of: each host gets the time to be.
        if now - self._well_since >= self._tuning.silence_s:
            self._name(await self._table.left(self._tuning.silence_s))

    async def _for_ever(self) -> None:
        while True:
            pause = self._tuning.tick_s
            try:
                await self.tick()
            except StoreUnavailable:
                self._well_since = None
                pause = self._tuning.retry_s
            except Exception:  # the task's outermost loop: the next tick may go well
                log.exception("hosts_not_watched")
            await asyncio.sleep(pause)

    async def _measure(self) -> None:
        skew = await self._table.measure()
        if self._is_wrong(skew) and not self._is_wrong(self.skew_s):
            log.error("clock_is_wrong", ahead_s=round(skew, 3), hint="ids are corrected; times of rows are not")
        elif self._is_wrong(self.skew_s) and not self._is_wrong(skew):
            log.info("clock_is_right", ahead_s=round(skew, 3))
        self.skew_s = skew
        self._ids.correct(skew)

    @staticmethod
    def _is_wrong(skew: float | None) -> bool:
        return skew is not None and abs(skew) > SKEW_S

    async def _tidy(self) -> None:
        """Rows of this host's processes: of those that are done, and of those whose folders are gone."""
        folders = await asyncio.to_thread(self._folders)
        known = await self._table.of_this_host()
        for journal, is_clean in known.items():
            if folders.get(journal, False) and not is_clean:
                await self._table.leave(journal)
        gone = [journal for journal, is_clean in known.items() if journal not in folders and is_clean]
        if gone:
            await self._table.forget(gone)
        await self._table.forget_old(self._tuning.forget_s)

    def _name(self, left: list[LeftHost]) -> None:
        self.left = [one for one in left if one.journal != self._journal]
        for one in self.left:
            if one.journal not in self._named:
                self._named.add(one.journal)
                log.error(
                    "host_left_with_records",
                    host=one.name,
                    journal=str(one.journal),
                    last_seen=round(one.seen_at),
                    records=one.waiting,
                    are_all=one.is_exact,
                )
