"""The progress of each journal in this database: the rows of llm_logs.hosts."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from gateway.errors import StoreSetBack
from gateway.store.pool import plain_uuid

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    import asyncpg

    from gateway.model import Host
    from gateway.store.pool import Connection, Database, PooledConnection

# The first row of a journal. $1: journal; $2…$5: host, its name, process, version; $6: age of the process in seconds;
# $7, $8: cursor; $9: new rows; $10: waiting records
NOTE_FIRST = """
insert into llm_logs.hosts as h (
    journal_id, host_id, host_name, process_id, version, started_at, seen_at, cursor_segment, cursor_offset, shipped,
    waiting
)
values ($1, $2, $3, $4, $5, clock_timestamp() - make_interval(secs => $6), clock_timestamp(), $7, $8, $9, $10)
on conflict (journal_id) do update
set
    seen_at = excluded.seen_at, cursor_segment = excluded.cursor_segment, cursor_offset = excluded.cursor_offset,
    shipped = h.shipped + excluded.shipped, waiting = excluded.waiting, left_at = null, left_cleanly = null
returning shipped
"""

# Later rows. Matches no row if the database was set back. $1: journal; $2: rows that it has confirmed;
# $3, $4: cursor; $5: new rows; $6: waiting records
NOTE_NEXT = """
update llm_logs.hosts
set
    seen_at = clock_timestamp(), cursor_segment = $3, cursor_offset = $4, shipped = shipped + $5, waiting = $6,
    left_at = null, left_cleanly = null
where journal_id = $1 and shipped >= $2
returning shipped
"""

# $1: journals
CURSORS = """
select journal_id, cursor_segment, cursor_offset, shipped
from llm_logs.hosts
where journal_id = any($1::uuid [])
"""

# $1: journal; $2: whether it has no waiting records
LEAVE = """
update llm_logs.hosts
set
    left_at = clock_timestamp(), seen_at = clock_timestamp(), left_cleanly = $2,
    waiting = case when $2 then 0 else waiting end
where journal_id = $1
"""

NOW = """
select extract(epoch from clock_timestamp())::double precision
"""

# $1: journal; $2: milliseconds
KEEP_SKEW = """
update llm_logs.hosts set skew_ms = $2 where journal_id = $1
"""

# Journals that no process ships any more, the last seen first. $1: seconds of silence; $2: row limit
LEFT = """
select journal_id, host_name, seen_at, left_at, waiting
from llm_logs.hosts
where left_cleanly is false or (left_cleanly is null and seen_at < clock_timestamp() - make_interval(secs => $1))
order by seen_at desc
limit $2
"""

# The worst error of a clock that made ids of rows which others may continue. $1: seconds since it was seen
WORST_SKEW = """
select coalesce(max(abs(skew_ms)), 0)::double precision
from llm_logs.hosts
where seen_at > clock_timestamp() - make_interval(secs => $1)
"""

# $1, $2: host and its name: a copy of the data directory may run on another machine
OF_HOST = """
select journal_id, left_cleanly from llm_logs.hosts where host_id = $1 and host_name = $2
"""

# $1: journals
FORGET = """
delete from llm_logs.hosts where journal_id = any($1::uuid [])
"""

# $1: seconds of silence
FORGET_OLD = """
delete from llm_logs.hosts where seen_at < clock_timestamp() - make_interval(secs => $1)
"""

ALL = """
select journal_id, host_name, version, seen_at, left_at, left_cleanly, shipped, waiting, skew_ms
from llm_logs.hosts
order by seen_at desc
limit 1000
"""

MAX_LEFT = 20  # journals that a report names


@dataclass(frozen=True, slots=True)
class LeftHost:
    """A journal whose process ended with records that are not in the database."""

    journal: UUID
    name: str
    seen_at: float  # Unix time, by the database's clock
    waiting: int  # records, as last reported
    is_exact: bool  # the process reported at its end; else there may be more


class StoredProgress(Protocol):
    """The progress of one journal, in the process that ships it."""

    journal: UUID
    waiting: int

    @property
    def rows(self) -> int | None:
        """The number of rows that the database has confirmed; None: it does not have this journal."""

    @property
    def cursor(self) -> tuple[int, int]:
        """Segment and offset; every record before them is in the database."""

    def confirm(self, rows: int) -> None:
        """Take the number of rows that the database has confirmed."""


async def note(connection: Connection | PooledConnection, host: Host, progress: StoredProgress, new_rows: int) -> int:
    """Store the progress of the journal in the transaction of its new rows; the number of all its rows.

    Raises StoreSetBack if the database has fewer rows of it than it has confirmed.
    """
    if progress.rows is None:
        age = time.monotonic() - host.started_at
        identity = (host.id, host.name, host.process_id, host.version, age)
        return int(
            await connection.fetchval(
                NOTE_FIRST, progress.journal, *identity, *progress.cursor, new_rows, progress.waiting
            )
        )
    rows: int | None = await connection.fetchval(
        NOTE_NEXT, progress.journal, progress.rows, *progress.cursor, new_rows, progress.waiting
    )
    if rows is None:
        raise StoreSetBack((await cursors(connection, [progress.journal])).get(progress.journal))
    return rows


async def cursors(
    connection: Connection | PooledConnection, journals: Sequence[UUID]
) -> dict[UUID, tuple[int, int, int]]:
    """Segment, offset and number of rows of each of these journals that the database has."""
    found = await connection.fetch(CURSORS, journals)
    return {row["journal_id"]: (row["cursor_segment"], row["cursor_offset"], row["shipped"]) for row in found}


class Hosts:
    """The hosts in one database. All methods raise StoreUnavailable."""

    def __init__(self, database: Database, host: Host) -> None:
        self._database = database
        self._host = host

    async def measure(self) -> float:
        """The seconds by which our clock is ahead of the database's."""
        async with self._database.asking() as connection:
            await connection.fetchval(NOW)  # the first statement of a connection takes longer
            before = time.time()
            theirs: float = await connection.fetchval(NOW)
            return (before + time.time()) / 2 - theirs

    async def keep_skew(self, journal: UUID, ahead_s: float) -> None:
        """Store the error of our clock."""
        async with self._database.asking() as connection:
            await connection.execute(KEEP_SKEW, journal, ahead_s * 1000)

    async def worst_skew_s(self, seconds: float) -> float:
        """The worst error of a clock, among hosts that were seen within so many seconds."""
        async with self._database.asking() as connection:
            return float(await connection.fetchval(WORST_SKEW, seconds)) / 1000

    async def left(self, silence_s: float) -> list[LeftHost]:
        """Journals whose process ended with records, or was not seen for `silence_s`; the last seen first."""
        async with self._database.asking() as connection:
            rows = await connection.fetch(LEFT, silence_s, MAX_LEFT)
        return [
            LeftHost(
                plain_uuid(row["journal_id"]),
                row["host_name"],
                row["seen_at"].timestamp(),
                row["waiting"],
                is_exact=row["left_at"] is not None,
            )
            for row in rows
        ]

    async def of_this_host(self) -> dict[UUID, bool | None]:
        """The journals of this host's processes; True: it ended without waiting records, None: it may run."""
        async with self._database.asking() as connection:
            rows = await connection.fetch(OF_HOST, self._host.id, self._host.name)
        return {plain_uuid(row["journal_id"]): row["left_cleanly"] for row in rows}

    async def leave(self, journal: UUID) -> None:
        """Store that the journal is shipped as a whole."""
        async with self._database.asking() as connection:
            await connection.execute(LEAVE, journal, True)

    async def forget(self, journals: Sequence[UUID]) -> int:
        """Delete these journals from the table; how many it had."""
        async with self._database.asking() as connection:
            return int((await connection.execute(FORGET, journals)).rpartition(" ")[2])

    async def forget_old(self, seconds: float) -> None:
        """Delete journals that were not seen for so many seconds."""
        async with self._database.asking() as connection:
            await connection.execute(FORGET_OLD, seconds)

    async def all(self) -> list[asyncpg.Record]:
        """All journals for operators, the last seen first."""
        async with self._database.asking() as connection:
            return await connection.fetch(ALL)
