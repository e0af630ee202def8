"""Keeps the log's tables in shape while the gateway serves: months ahead, what lies in their way, search indexes."""

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
REST_S = 0.05  # between two of them
BUSY_S = 1.0  # until a table that is in use is asked for again
ATTEMPTS = 600

NO_HURRY = {"statement_timeout": "0"}

# $1: how many months after this one
MISSING_PARTITIONS = """
select parent, name, is_due from llm_logs.missing_partitions($1)
"""

# $1: the partitioned table; $2: how many rows; $3: how many months after this one
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
    """The partitions of the log, on a connection of their own, for what is done here may take its time."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.missing: tuple[str, ...] = ()  # of this month and the next ones; their rows lie in the default partition

    async def keep(self, months_ahead: int = MONTHS_AHEAD) -> None:
        """Make what is missing, move what is in the way, and set what is not set yet. Raises StoreUnavailable."""
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
        """Sort what the search indexes have got into their order, so that no insert has to. Raises StoreUnavailable."""
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
        connection = await self._database.connect(NO_HURRY)
        try:
            yield connection
        except (*CONNECTION_ERRORS, asyncpg.PostgresError) as error:
            raise self._database.unavailable(error) from error
        finally:
            connection.terminate()


async def _regroup(connection: Connection, parent: str, months_ahead: int) -> None:
    """Raises PostgresError when it cannot be done now; what has been copied is gone on with the next time."""
    state = ""
    while state not in ("done", "busy", "stopped"):
        state = await _retried(connection, REGROUP, parent, STEP_ROWS, months_ahead)
        if state in ("begun", "regrouped", "stopped"):
            log.info("default partition", table=parent, state=state)
        await asyncio.sleep(REST_S)


async def _retried(connection: Connection, statement: str, *arguments: Any) -> Any:
    """A table that is in use is waited for between the attempts, not by them: who waits for a lock keeps all others
    waiting behind it."""
    for _ in range(ATTEMPTS):
        try:
            return await _do(connection, statement, *arguments)
        except asyncpg.LockNotAvailableError:
            await asyncio.sleep(BUSY_S)
    return await _do(connection, statement, *arguments)


async def _do(connection: Connection, statement: str, *arguments: Any) -> Any:
    async with connection.transaction():
        return await connection.fetchval(statement, *arguments)
