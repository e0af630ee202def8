"""Stores interactions: one batch is one transaction, and a row whose id exists stays as it is."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

import asyncpg

from gateway.errors import RecordNotAccepted, RecordRefused, StoreSetBack, StoreUnavailable, raised_in, safe_text
from gateway.model import Kind
from gateway.store import hosts
from gateway.store.placement import join_early_rows, lock_and_place
from gateway.store.pool import CONNECTION_ERRORS, plain_uuid
from gateway.store.pooler import STATEMENT_LOST
from gateway.store.rows import CHATS, ENCODING_ERRORS, Batch, Row, raw_row_of, recorded_cost, row_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from gateway.model import Host, Record
    from gateway.store.hosts import StoredProgress
    from gateway.store.pool import Connection, Database
    from gateway.store.rows import CostOf

ROWS_PER_SLICE = 32  # rows that are made in one go; then the event loop has a turn
LARGE_BYTES = 256 * 1024  # a thread makes the row of a record from this size on
EXTRA_S_PER_MB = 1.0

# For the connections that write. To plan a lookup in every partition takes ten times as long as the lookup (3.1 against
# 0.4 ms), so Postgres plans once; a plan from when a partition was empty must not scan it as a whole later.
TUNE = {"plan_cache_mode": "force_generic_plan", "enable_seqscan": "off", "jit": "off"}

# $1: chat, image or api; $2: the rows as a JSON array; $3: the raw bytes that their `request_raw` and `response_raw`
# number. Returns how many rows are new.
KEEP = """
select llm_logs.keep($1, $2, $3)
"""

# Which of these have no row. $1: ids
MISSING = """
select q.id
from unnest($1::uuid[]) as q (id)
where
    not exists (select from llm_logs.chatgpt_logs as c where c.id = q.id)
    and not exists (select from llm_logs.image_logs as i where i.id = q.id)
    and not exists (select from llm_logs.api_logs as a where a.id = q.id)
"""

SCHEMA_VERSION = r"""
select max(version) from schema_migrations where version ~ '^\d{4}$'
"""

TRANSACTION_ROLLBACK = "40"  # a deadlock, for example: the same batch may pass the next time
QUERY_CANCELED = "57014"
# Classes of errors that leave the session as it was. After others it may be read-only, or hold an outdated plan.
HARMLESS = frozenset({"22", "23", "44", "54", "P0"})


class Interactions:
    """The sink of the journal that is PostgreSQL. It has its own connections, so that it does not wait for readers."""

    name = "postgres"
    is_ordered = False

    def __init__(self, database: Database, cost_of: CostOf = recorded_cost, host: Host | None = None) -> None:
        """`host` identifies this process in llm_logs.hosts; None: progress is not stored."""
        self._database = database
        self._cost_of = cost_of
        self._host = host
        self._idle: list[Connection] = []
        self._busy: set[Connection] = set()
        self._is_abandoned = False
        self.slack_ms = 0  # a clock that made ids may have been ahead by as much

    async def keep(self, records: Sequence[Record], progress: StoredProgress | None = None) -> None:
        """Store records as rows, with the progress of their journal in the same transaction.

        Raises RecordRefused if the data of a record is at fault, RecordNotAccepted if Postgres refuses a record for
        another reason, StoreUnavailable if the outcome is unknown, StoreSetBack.
        """
        try:
            rows, size = await self._rows_of(records)
        except RecordRefused:
            raise
        except Exception as error:
            raise _not_accepted(error) from error
        await self._write(rows, size, progress)

    async def _rows_of(self, records: Sequence[Record]) -> tuple[list[Row], int]:
        rows: list[Row] = []
        size = 0
        for count, record in enumerate(records):
            size += record.size
            if record.size > LARGE_BYTES:
                rows.append(await asyncio.to_thread(row_of, record, self._cost_of))
            else:
                rows.append(row_of(record, self._cost_of))
            if count % ROWS_PER_SLICE == ROWS_PER_SLICE - 1:
                await asyncio.sleep(0)
        return rows, size

    async def keep_raw(self, record: Record, progress: StoredProgress | None = None) -> None:
        """Store one record with its bodies as bytes alone. Raises as `keep`."""
        try:
            row = raw_row_of(record, self._cost_of)
        except RecordRefused:
            raise
        except Exception as error:
            raise _not_accepted(error) from error
        await self._write([row], record.size, progress)

    async def missing(self, ids: Sequence[UUID]) -> set[UUID]:
        """The ids that have no row. Raises StoreUnavailable."""
        async with self._database.asking() as connection:
            return {plain_uuid(row["id"]) for row in await connection.fetch(MISSING, ids)}

    async def save_progress(self, progress: StoredProgress) -> None:
        """Store the progress of a journal that shipped nothing for a while. Raises StoreUnavailable, StoreSetBack."""
        if self._host is not None:
            async with self._database.asking() as connection:
                progress.confirm(await hosts.note(connection, self._host, progress, 0))

    async def cursors(self, journals: Sequence[UUID]) -> dict[UUID, tuple[int, int, int]]:
        """Segment, offset and number of rows of each of these journals that the database has."""
        async with self._database.asking() as connection:
            return await hosts.cursors(connection, journals)

    async def schema_version(self) -> str:
        """The version of the newest migration in the database. Raises StoreUnavailable."""
        async with self._database.asking() as connection:
            return str(await connection.fetchval(SCHEMA_VERSION))

    async def leave(self, journal: UUID, *, is_clean: bool) -> None:
        """Store that the process ends. `is_clean`: no record waits in its journal."""
        async with self._database.asking() as connection:
            await connection.execute(hosts.LEAVE, journal, is_clean)

    def abandon(self) -> None:
        """Terminate the connections in use; the outcome of their transactions stays unknown."""
        self._is_abandoned = True
        for connection in self._busy:
            connection.terminate()

    async def aclose(self) -> None:
        self.abandon()
        while self._idle:
            with suppress(*CONNECTION_ERRORS):
                await self._idle.pop().close(timeout=1.0)

    async def _write(self, rows: list[Row], size: int, progress: StoredProgress | None) -> None:
        """Write one transaction. It is never cancelled, so that its outcome is known; its connection may break."""
        connection = await self._take()
        self._busy.add(connection)
        writing = asyncio.ensure_future(self._store(connection, rows, progress))
        try:
            await asyncio.wait({writing}, timeout=2 * self._database.statement_s + EXTRA_S_PER_MB * size / 1e6)
            if not writing.done():
                connection.terminate()
            total = await writing
        except StoreSetBack:
            self._give_back(connection)
            raise
        except asyncpg.PostgresError as error:
            if str(error.sqlstate)[:2] in HARMLESS:
                self._give_back(connection)
            else:
                connection.terminate()
            raise self._refusal(error, len(rows)) from error
        except CONNECTION_ERRORS as error:
            connection.terminate()
            raise self._database.unavailable(error) from error
        except ENCODING_ERRORS as error:
            connection.terminate()
            raise RecordRefused(f"it cannot be written: {safe_text(error)}") from error
        except Exception as error:
            connection.terminate()
            raise _not_accepted(error) from error
        except BaseException:
            connection.terminate()
            raise
        else:
            self._give_back(connection)
            if progress is not None and total is not None:
                progress.confirm(total)
        finally:
            self._busy.discard(connection)

    async def _store(self, connection: Connection, rows: list[Row], progress: StoredProgress | None) -> int | None:
        """The number of rows that the journal has made so far; None: it is not stored."""
        async with connection.transaction(isolation="read_committed"):
            new = await _insert(connection, rows, self.slack_ms)
            if progress is None or self._host is None:
                return None
            return await hosts.note(connection, self._host, progress, new)

    def _refusal(self, error: asyncpg.PostgresError, rows: int) -> RecordRefused | StoreUnavailable:
        """The error for the shipper: the data is at fault, the server is, or a cause that an operator may remove."""
        state = str(error.sqlstate)
        is_raised = raised_in(error) is not None  # a trigger may raise any SQLSTATE
        if (state.startswith("22") or state == "54000") and not is_raised:
            return RecordRefused(f"Postgres refuses it: {safe_text(error)}")
        is_of_this_row = state == QUERY_CANCELED and rows == 1  # too slow: a trigger, or its size
        is_of_the_server = (
            isinstance(error, (*CONNECTION_ERRORS, *STATEMENT_LOST)) and not is_raised and not is_of_this_row
        )
        if is_of_the_server or state.startswith(TRANSACTION_ROLLBACK):
            return self._database.unavailable(error)
        return RecordNotAccepted(f"Postgres does not take it: {safe_text(error)}", state)

    async def _take(self) -> Connection:
        if self._is_abandoned:
            raise StoreUnavailable("the store is closing")
        while self._idle:
            connection = self._idle.pop()
            if not connection.is_closed():
                return connection
        return await self._database.connect(TUNE)

    def _give_back(self, connection: Connection) -> None:
        if not connection.is_closed():
            self._idle.append(connection)


def _not_accepted(error: Exception) -> RecordNotAccepted:
    return RecordNotAccepted(f"no row can be made or written: {safe_text(error)}", type(error).__name__)


async def _insert(connection: Connection, rows: list[Row], slack_ms: int) -> int:
    """Insert rows of any kind; how many are new."""
    chats = sorted((row for row in rows if row.kind in CHATS), key=lambda row: row.id.int)  # so that parents come first
    images, calls = Batch(), Batch()
    for row in rows:
        if row.kind is Kind.IMAGE:
            images.add(row)
        elif row.kind not in CHATS:
            calls.add(row)
    new = 0
    if chats:
        new += await _insert_chats(connection, chats, slack_ms)
    if images:
        new += await _keep(connection, "image", images)
    if calls:
        new += await _keep(connection, "api", calls)
    return new


async def _insert_chats(connection: Connection, rows: list[Row], slack_ms: int) -> int:
    batch = Batch()
    for count, (row, its) in enumerate(zip(rows, await lock_and_place(connection, rows, slack_ms), strict=True)):
        row.set_place(its)
        batch.add(row)
        if count % ROWS_PER_SLICE == ROWS_PER_SLICE - 1:
            await asyncio.sleep(0)
    new = await _keep(connection, "chat", batch)
    await join_early_rows(connection, rows, slack_ms)
    return new


async def _keep(connection: Connection, source: str, batch: Batch) -> int:
    return int(await connection.fetchval(KEEP, source, batch.json, batch.raws))
