"""Keeps interactions: the end of the journal's way. A batch is one transaction; a row that is there already stays."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING
from uuid import UUID

import asyncpg

from gateway.errors import RecordNotAccepted, RecordRefused, StoreSetBack, StoreUnavailable, raised_in, safe_text
from gateway.model import Kind
from gateway.store import hosts
from gateway.store import statements as sql
from gateway.store.conversations import (
    Ask,
    ConversationPlace,
    Snapshot,
    buckets,
    first_asks,
    named_asks,
    other_asks,
    place,
    shifted,
)
from gateway.store.pool import CONNECTION_ERRORS
from gateway.store.pooler import STATEMENT_LOST
from gateway.store.rows import CHATS, ENCODING_ERRORS, Batch, Row, raw_row_of, row_of, told_cost

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gateway.model import Host, Record
    from gateway.store.hosts import StoredProgress
    from gateway.store.pool import Connection, Database
    from gateway.store.rows import CostOf

LOCKS = 0x6C6C6D67  # namespace of our advisory locks
SLICE = 32  # rows that are made in one go; then the event loop has a turn
LARGE_BYTES = 256 * 1024  # a record from this size on is made into a row in a thread
EXTRA_S_PER_MB = 1.0
MONTH_MS = 31 * 86_400_000
LEAST_ID = UUID(int=0)

TRANSACTION_ROLLBACK = "40"  # a deadlock, for example: the same batch may pass the next time
QUERY_CANCELED = "57014"
# After these the session is as it was. After others it may be read-only, or hold a plan of a table that has changed.
HARMLESS = frozenset({"22", "23", "44", "54", "P0"})


class Interactions:
    """The journal's keeper. It has connections of its own, so that readers cannot keep it waiting."""

    name = "postgres"

    def __init__(self, database: Database, cost_of: CostOf = told_cost, host: Host | None = None) -> None:
        """`host` is what llm_logs.hosts says of this process; None: nothing is written there."""
        self._database = database
        self._cost_of = cost_of
        self._host = host
        self._idle: list[Connection] = []
        self._busy: set[Connection] = set()
        self._is_abandoned = False
        self.slack_ms = 0  # by which a clock was ahead that has made ids: so much later ones may be earlier rows

    async def keep(self, records: Sequence[Record], progress: StoredProgress | None = None) -> None:
        """`progress` is of the journal that they come from, and is written down with them.

        Raises RecordRefused if the data of one of these is at fault, RecordNotAccepted if something else about one may
        be, StoreUnavailable if the outcome is unknown, StoreSetBack."""
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
            if count % SLICE == SLICE - 1:
                await asyncio.sleep(0)
        return rows, size

    async def keep_raw(self, record: Record, progress: StoredProgress | None = None) -> None:
        try:
            row = raw_row_of(record, self._cost_of)
        except RecordRefused:
            raise
        except Exception as error:
            raise _not_accepted(error) from error
        await self._write([row], record.size, progress)

    async def missing(self, ids: Sequence[UUID]) -> set[UUID]:
        """Those of which there is no row. Raises StoreUnavailable."""
        async with self._database.asking() as connection:
            return {_uuid(row["id"]) for row in await connection.fetch(sql.MISSING, ids)}

    async def note(self, progress: StoredProgress) -> None:
        """Write down how far a journal is of which nothing was shipped for a while. Raises StoreSetBack, too."""
        if self._host is not None:
            async with self._database.asking() as connection:
                progress.confirmed(await hosts.note(connection, self._host, progress, 0))

    async def cursors(self, journals: Sequence[UUID]) -> dict[UUID, tuple[int, int, int]]:
        """Segment, offset and number of rows of those journals that the database knows."""
        async with self._database.asking() as connection:
            return await hosts.cursors(connection, journals)

    async def schema_version(self) -> str:
        """The newest migration that was applied. Raises StoreUnavailable."""
        async with self._database.asking() as connection:
            return str(await connection.fetchval(sql.SCHEMA_VERSION))

    async def leave(self, journal: UUID, *, is_clean: bool) -> None:
        """The process ends; `is_clean`: nothing waits in its journal."""
        async with self._database.asking() as connection:
            await connection.execute(hosts.LEAVE, journal, is_clean)

    def abandon(self) -> None:
        """Break off what is in flight; its outcome stays unknown."""
        self._is_abandoned = True
        for connection in self._busy:
            connection.terminate()

    async def aclose(self) -> None:
        self.abandon()
        while self._idle:
            with suppress(*CONNECTION_ERRORS):
                await self._idle.pop().close(timeout=1.0)

    async def _write(self, rows: list[Row], size: int, progress: StoredProgress | None) -> None:
        """One transaction. It is never cancelled, for then it might have committed or not; it may break."""
        connection = await self._take()
        self._busy.add(connection)
        writing = asyncio.ensure_future(self._store(connection, rows, progress))
        try:
            await asyncio.wait({writing}, timeout=2 * self._database.statement_s + EXTRA_S_PER_MB * size / 1e6)
            if not writing.done():
                connection.terminate()
            noted = await writing
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
            if progress is not None and noted is not None:
                progress.confirmed(noted)
        finally:
            self._busy.discard(connection)

    async def _store(self, connection: Connection, rows: list[Row], progress: StoredProgress | None) -> int | None:
        """How many rows the journal has made by now, where that is written down."""
        async with connection.transaction(isolation="read_committed"):
            new = await _insert(connection, rows, self.slack_ms)
            if progress is None or self._host is None:
                return None
            return await hosts.note(connection, self._host, progress, new)

    def _refusal(self, error: asyncpg.PostgresError, rows: int) -> RecordRefused | StoreUnavailable:
        """Whose fault an error is: the data's, the server's, or of something between them, which may be mended."""
        state = str(error.sqlstate)
        is_raised = raised_in(error) is not None  # by a trigger of the company's, whatever SQLSTATE it likes
        if (state.startswith("22") or state == "54000") and not is_raised:
            return RecordRefused(f"Postgres refuses it: {safe_text(error)}")
        is_of_this_row = state == QUERY_CANCELED and rows == 1  # which takes too long, for a trigger, or for its size
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
        return await self._database.connect(sql.TUNE)

    def _give_back(self, connection: Connection) -> None:
        if not connection.is_closed():
            self._idle.append(connection)


def _not_accepted(error: Exception) -> RecordNotAccepted:
    return RecordNotAccepted(f"no row can be made or written: {safe_text(error)}", type(error).__name__)


async def _insert(connection: Connection, rows: list[Row], slack_ms: int) -> int:
    """How many rows are new."""
    chats = sorted((row for row in rows if row.kind in CHATS), key=lambda row: row.id.int)  # so that parents come first
    images, calls = Batch(), Batch()
    for row in rows:
        if row.kind is Kind.IMAGE:
            images.add(row)
        elif row.kind not in CHATS:
            calls.add(row)
    new = 0
    if chats:
        new += await _keep_chats(connection, chats, slack_ms)
    if images:
        new += _count(await connection.execute(sql.KEEP_IMAGES, images.json, images.raws))
    if calls:
        new += _count(await connection.execute(sql.KEEP_CALLS, calls.json, calls.raws))
    return new


def _count(status: str) -> int:
    """Rows of a statement's status: `INSERT 0 5`."""
    return int(status.rpartition(" ")[2])


async def _keep_chats(connection: Connection, rows: list[Row], slack_ms: int) -> int:
    await connection.execute(sql.LOCK_USERS, LOCKS, buckets(rows))
    places = place(rows, await _snapshots(connection, rows, slack_ms))
    batch = Batch()
    for count, (row, its) in enumerate(zip(rows, places, strict=True)):
        _settle(row, its)
        batch.add(row)
        if count % SLICE == SLICE - 1:
            await asyncio.sleep(0)
    status = await connection.execute(sql.KEEP_CHATS, batch.json, batch.raws)
    await _join_early_ones(connection, rows, slack_ms)
    return _count(status)


def _settle(row: Row, its: ConversationPlace) -> None:
    """A row at its place."""
    marks, columns = row.marks, row.columns
    columns["root_gpt_id"] = its.root
    columns["root_inferred"] = its.is_inferred
    columns["parent_id"] = its.parent
    columns["convo_title"] = its.title
    for name, mark in (
        ("snapshot_hash", marks.snapshot),
        ("answer_hash", marks.answer),
        ("item_hash", marks.item),
        ("parent_hash", marks.best_parent),
    ):
        if mark is not None:
            columns[name] = "\\x" + mark.hex()


async def _snapshots(connection: Connection, rows: list[Row], slack_ms: int) -> dict[tuple[UUID, bytes], Snapshot]:
    """Nearly all go on from something of the last month; only for the others the older months are looked through, which
    takes fifty times as long where there are three years of them."""
    found = await _look(connection, rows, shifted(rows[0].id, -MONTH_MS))
    left: list[Row] = []
    fresh: set[tuple[str, bytes]] = set()  # of the rows before
    for row in rows:
        best_parent = row.marks.best_parent
        if best_parent is not None and (row.id, best_parent) not in found and (row.user, best_parent) not in fresh:
            left.append(row)
        fresh.update((row.user, mark) for mark in row.marks.own)
    if left:
        found |= await _look(connection, left, LEAST_ID)
    if slack_ms:
        found |= await _find_later(connection, rows, found, slack_ms)
    return found


async def _look(connection: Connection, rows: list[Row], since: UUID) -> dict[tuple[UUID, bytes], Snapshot]:
    found = await _find(connection, sql.FIND_SNAPSHOTS, first_asks(rows), since)
    found |= await _find(connection, sql.FIND_SNAPSHOTS, other_asks(rows, found), since)
    return found | await _find(connection, sql.FIND_NAMED, named_asks(rows), since)


async def _find_later(
    connection: Connection, rows: list[Row], found: dict[tuple[UUID, bytes], Snapshot], slack_ms: int
) -> dict[tuple[UUID, bytes], Snapshot]:
    """For rows that go on from nothing older: a clock that was ahead may have given that a later id. It cannot be one
    that goes on from the row itself, for that has said more."""
    left = [row for row in rows if not any((row.id, known) in found for known in row.marks.earlier)]
    if not left:
        return {}
    since = left[0].id
    by_bound = {shifted(row.id, slack_ms): row.id for row in left}
    asks = [ask._replace(row=shifted(ask.row, slack_ms)) for ask in (*first_asks(left), *other_asks(left, {}))]
    later = await _find(connection, sql.FIND_SNAPSHOTS, asks, since)
    named = [ask._replace(row=shifted(ask.row, slack_ms)) for ask in named_asks(left)]
    later |= await _find(connection, sql.FIND_NAMED, named, since)
    return {(by_bound[bound], known): snapshot for (bound, known), snapshot in later.items()}


async def _find(
    connection: Connection, statement: str, asks: list[Ask], since: UUID
) -> dict[tuple[UUID, bytes], Snapshot]:
    if not asks:
        return {}
    users, hashes, ids = zip(*asks, strict=True)
    found = await connection.fetch(statement, users, hashes, ids, since)
    return {(_uuid(row["row_id"]), row["hash"]): _snapshot(row) for row in found}


def _snapshot(row: asyncpg.Record) -> Snapshot:
    id_ = _uuid(row["id"])
    return Snapshot(id_, row["root_gpt_id"] or str(id_), row["convo_title"])


def _uuid(found: UUID) -> UUID:
    """The standard library's; asyncpg has its own, which orjson does not write."""
    return UUID(int=found.int)


async def _join_early_ones(connection: Connection, rows: list[Row], slack_ms: int) -> None:
    """Rows that came before what they go on from (two processes, an adopted journal) find their place now."""
    by_bound = {shifted(row.id, -slack_ms): row.id for row in rows}
    marks = [(row.user, mark, bound) for bound, row in zip(by_bound, rows, strict=True) for mark in row.marks.own]
    if not marks:
        return
    users, hashes, ids = zip(*marks, strict=True)  # as the rows, the oldest first
    for early in await connection.fetch(sql.FIND_EARLY, users, hashes, ids, ids[0]):
        parent = by_bound[_uuid(early["parent_id"])]
        if early["is_own_root"]:
            await connection.execute(sql.JOIN_CONVERSATION, early["user_name"], str(early["id"]), parent)
        await connection.execute(sql.SET_PARENT, early["id"], parent)
