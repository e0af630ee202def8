"""The database's schema, brought up to date as soon as there is a database; before that, the journal alone serves."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING

import structlog

from gateway.errors import StoreUnavailable, StoreUnusable
from gateway.shipped import shipped
from gateway.store.migrations import make_partitions, migrate

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from gateway.record.shipper import Shipper
    from gateway.store.arrivals import Arrivals
    from gateway.store.pool import Database
    from gateway.store.reports import Reports

RETRY_S = 2.0
DAY_S = 86_400.0
REPORT_S = 10.0
FORGET_S = 300.0
KEPT = timedelta(hours=1)  # who was away for longer than that looks for what came meanwhile

log = structlog.get_logger()


class Upkeep:
    """Migrates, then lets the shipper begin, then makes each month's partitions ahead of time."""

    def __init__(self, database: Database, shipper: Shipper) -> None:
        self._database = database
        self._shipper = shipper
        self._task: asyncio.Task[None] | None = None
        self.is_prepared = False  # the schema is what this gateway writes to, and what has been said goes there

    async def start(self) -> None:
        """A database that is away is waited for, while the gateway serves. Raises StoreUnusable for one that is there
        and cannot be used."""
        try:
            await self._prepare()
        except StoreUnusable:
            raise
        except StoreUnavailable as error:
            log.warning("serving without postgres: what is said waits in the journal", error=error.message)
            self._task = asyncio.create_task(self._prepare_later(), name="upkeep")
        else:
            self._task = asyncio.create_task(self._partitions_for_ever(), name="upkeep")

    async def aclose(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    async def _prepare(self) -> None:
        await migrate(self._database, shipped("sql"))
        await self._shipper.start()
        self.is_prepared = True

    async def _prepare_later(self) -> None:
        while True:
            await asyncio.sleep(RETRY_S)
            try:
                await self._prepare()
            except StoreUnusable as error:  # somebody may mend it, and nothing is lost till then
                log.error("the database cannot be used", error=error.message)  # noqa: TRY400 (its message says it all)
            except StoreUnavailable:
                continue
            else:
                log.info("postgres is there")
                return await self._partitions_for_ever()

    async def _partitions_for_ever(self) -> None:
        while True:
            await asyncio.sleep(DAY_S)
            try:
                await make_partitions(self._database)
            except StoreUnavailable as error:  # tomorrow is another day, and there is a default partition
                log.warning("no partitions made", error=error.message)


class Chore:
    """What is to be done in the database now and then. When that is away, the next time will do."""

    def __init__(self, name: str, every_s: float, work: Callable[[], Awaitable[object]]) -> None:
        self._name = name
        self._every_s = every_s
        self._work = work
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._for_ever(), name=self._name)

    async def aclose(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    async def _for_ever(self) -> None:
        while True:
            await asyncio.sleep(self._every_s)
            try:
                await self._work()
            except StoreUnavailable as error:
                log.debug("a chore is not done", chore=self._name, error=error.message)


def refreshing(reports: Reports) -> Chore:
    """Adds up what the report shows, so that who asks for it waits for the last seconds' rows only."""

    async def refresh() -> None:
        while await reports.refresh():
            pass

    return Chore("report upkeep", REPORT_S, refresh)


def forgetting(arrivals: Arrivals) -> Chore:
    """Forgets arrivals that nobody comes back for any more."""
    return Chore("arrivals upkeep", FORGET_S, lambda: arrivals.forget(KEPT))
