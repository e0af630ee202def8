"""Watches the hosts that share a database: hosts that left with records, and clocks that are wrong."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import structlog

from gateway.errors import StoreUnavailable
from gateway.polling import PeriodicTask

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from uuid import UUID

    from gateway.ids import Ids
    from gateway.store.hosts import LeftHost

SKEW_S = 2.0  # a larger error of a clock is reported
DAY_S = 86_400.0

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class HostWatchOptions:
    """Only tests set these."""

    tick_s: float = 30.0
    retry_s: float = 2.0
    silence_s: float = 120.0  # four ticks; a host that is silent for longer has left
    forget_s: float = 30 * DAY_S
    skewed_s: float = 2 * DAY_S  # how long rows are found whose ids were made by a wrong clock


class HostTable(Protocol):
    """The table llm_logs.hosts. All verbs raise StoreUnavailable."""

    async def measure(self) -> float: ...

    async def keep_skew(self, journal: UUID, ahead_s: float) -> None: ...

    async def worst_skew_s(self, seconds: float) -> float: ...

    async def left(self, silence_s: float) -> list[LeftHost]: ...

    async def of_this_host(self) -> Mapping[UUID, bool | None]: ...

    async def leave(self, journal: UUID) -> None: ...

    async def forget(self, journals: Sequence[UUID]) -> int: ...

    async def forget_old(self, seconds: float) -> None: ...


class ListJournals(Protocol):
    """Lists the journals in this host's directory; blocks."""

    def __call__(self) -> Mapping[UUID, bool]:
        """Returns for each journal whether its process is dead and all its records are shipped."""


class HostWatch:
    """One task. Corrects `ids` by the measured skew; `on_skew` gets the largest skew of all hosts, in seconds."""

    def __init__(
        self,
        table: HostTable,
        journal: UUID,
        list_journals: ListJournals,
        ids: Ids,
        on_skew: Callable[[float], None],
        options: HostWatchOptions = HostWatchOptions(),
    ) -> None:
        self._table = table
        self._journal = journal
        self._list_journals = list_journals
        self._ids = ids
        self._on_skew = on_skew
        self._options = options
        self._task = PeriodicTask("watch hosts", self._tick, options.tick_s, retry_s=options.retry_s)
        self._up_since: float | None = None  # the database has answered every tick since
        self._logged: set[UUID] = set()
        self.skew_s: float | None = None  # our clock is ahead of the database's by this
        self.left: list[LeftHost] = []

    def start(self) -> None:
        self._task.start()

    async def aclose(self) -> None:
        await self._task.aclose()

    def state(self) -> dict[str, Any]:
        """For readiness."""
        return {
            "clock_ahead_s": None if self.skew_s is None else round(self.skew_s, 3),
            "is_clock_wrong": self._is_wrong(self.skew_s),
            "left": [
                {
                    "host": host.name,
                    "journal": str(host.journal),
                    "last_seen": round(host.seen_at),
                    "records": host.waiting,
                    "are_all": host.is_exact,
                }
                for host in self.left
            ],
        }

    async def tick(self) -> None:
        """Measures the skew and reads the table. Raises StoreUnavailable."""
        await self._measure()
        now = time.monotonic()
        self._up_since = now if self._up_since is None else self._up_since
        await self._table.keep_skew(self._journal, self.skew_s or 0.0)
        self._on_skew(await self._table.worst_skew_s(self._options.skewed_s))
        await self._remove_stale_rows()
        # During an outage no host could give a sign of life: each gets the time to do so.
        if now - self._up_since >= self._options.silence_s:
            self._report_left(await self._table.left(self._options.silence_s))

    async def _tick(self) -> None:
        try:
            await self.tick()
        except StoreUnavailable:
            self._up_since = None
            raise

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

    async def _remove_stale_rows(self) -> None:
        """Updates the rows of this host's processes that have ended, and removes those without a folder."""
        folders = await asyncio.to_thread(self._list_journals)
        known = await self._table.of_this_host()
        for journal, is_clean in known.items():
            if folders.get(journal, False) and not is_clean:
                await self._table.leave(journal)
        gone = [journal for journal, is_clean in known.items() if journal not in folders and is_clean]
        if gone:
            await self._table.forget(gone)
        await self._table.forget_old(self._options.forget_s)

    def _report_left(self, left: list[LeftHost]) -> None:
        self.left = [host for host in left if host.journal != self._journal]
        for host in self.left:
            if host.journal not in self._logged:
                self._logged.add(host.journal)
                log.error(
                    "host_left_with_records",
                    host=host.name,
                    journal=str(host.journal),
                    last_seen=round(host.seen_at),
                    records=host.waiting,
                    are_all=host.is_exact,
                )
