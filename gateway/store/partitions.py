"""Maintains the log's tables while the gateway serves: coming months, the default partition, search indexes."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import asyncpg
import structlog

from gateway.store.migrations import MAKE_PARTITIONS, MONTHS_AHEAD
from gateway.store.pool import CONNECTION_ERRORS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from gateway.store.pool import Connection, Database

STEP_ROWS = 2000  # copied in one transaction
PAUSE_S = 0.05  # between two transactions
BUSY_S = 1.0  # until the next attempt to lock a table in use
ATTEMPTS = 600

NO_TIMEOUT = {"statement_timeout": "0"}

# $1: number of months after this one
MISSING_PARTITIONS = """
select parent, name, is_due from llm_logs.missing_partitions($1)
"""

# $1: the partitioned table; $2: number of rows; $3: number of months after this one
REGROUP = """
select llm_logs.regroup($1, $2, $3)
"""

TUNE_NEXT = """
select llm_logs.tune_next()
"""

SEARCH_INDEXES = """
select c.oid
from pg_class as c
inner join pg_am as a on a.oid = c.relam and a.amname = 'gin'
where c.relnamespace = 'llm_logs'::regnamespace and c.relkind = 'i'
order by c.oid desc
"""

# $1: the index
CLEAN_PENDING_LIST = """
select llm_logs.clean_pending_list($1)
"""

log = structlog.get_logger()


class Partitions:
    """The partitions of the log. It opens its own connections, because its statements may take long."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.missing: tuple[str, ...] = ()  # of this month and the next ones; their rows are in the default partition

    async def keep(self, months_ahead: int = MONTHS_AHEAD) -> None:
        """Create missing partitions, move rows out of the default partition, tune tables. Raises StoreUnavailable."""
        async with self._connected() as connection:
            await _do(connection, MAKE_PARTITIONS, months_ahead)
            missing = await self._look(connection, months_ahead)
            for parent in sorted({row["parent"] for row in missing}):
                await _regroup(connection, parent, months_ahead)
            while table := await _retried(connection, TUNE_NEXT):
                log.info("table tuned", table=table)
            if missing:
                await self._look(connection, months_ahead)

    async def clean_search(self) -> None:
        """Clean the pending lists of the search indexes, so that no insert does. Raises StoreUnavailable."""
        async with self._connected() as connection:
            for index in await connection.fetch(SEARCH_INDEXES):
                await _do(connection, CLEAN_PENDING_LIST, index["oid"])

    async def _look(self, connection: Connection, months_ahead: int) -> list[asyncpg.Record]:
        missing = await connection.fetch(MISSING_PARTITIONS, months_ahead)
        due = tuple(row["name"] for row in missing if row["is_due"])
        if due and due != self.missing:
            log.warning("months without a partition: their rows go to the default one", partitions=due)
        self.missing = due
        return missing

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[Connection]:
        connection = await self._database.connect(NO_TIMEOUT)
        try:
            yield connection
        except (*CONNECTION_ERRORS, asyncpg.PostgresError) as error:
            raise self._database.unavailable(error) from error
        finally:
            connection.terminate()


async def _regroup(connection: Connection, parent: str, months_ahead: int) -> None:
    """Move rows of a default partition into months. Raises PostgresError; the next call continues its work."""
    state = ""
    while state not in ("done", "busy", "stopped"):
        state = await _retried(connection, REGROUP, parent, STEP_ROWS, months_ahead)
        if state in ("begun", "regrouped", "stopped"):
            log.info("default partition", table=parent, state=state)
        await asyncio.sleep(PAUSE_S)


async def _retried(connection: Connection, statement: str, *arguments: Any) -> Any:
    """Repeat a statement until its table is free. It waits between attempts: a queued lock would block others."""
    for _ in range(ATTEMPTS):
        try:
            return await _do(connection, statement, *arguments)
        except asyncpg.LockNotAvailableError:
            await asyncio.sleep(BUSY_S)
    return await _do(connection, statement, *arguments)


async def _do(connection: Connection, statement: str, *arguments: Any) -> Any:
    async with connection.transaction():
        return await connection.fetchval(statement, *arguments)
