"""How far each journal is in this database: the rows of llm_logs.hosts."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Protocol

from gateway.errors import StoreSetBack

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

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

# The next ones. Matches no row where the database was set back. $1: journal; $2: rows that it has confirmed;
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

# $1: journal; $2: whether nothing waits in it
LEAVE = """
update llm_logs.hosts
set left_at = clock_timestamp(), seen_at = clock_timestamp(), left_cleanly = $2
where journal_id = $1
"""

# $1: journals whose folders are gone
FORGET = """
delete from llm_logs.hosts where journal_id = any($1::uuid [])
"""


class Progress(Protocol):
    """How far one journal is, as the process knows it that ships it."""

    journal: UUID
    waiting: int

    @property
    def rows(self) -> int | None:
        """That the database has confirmed; None: it has not heard of this journal."""

    @property
    def cursor(self) -> tuple[int, int]:
        """Segment and offset: everything before is in the database."""

    def confirmed(self, rows: int) -> None: ...


async def note(connection: Connection | PooledConnection, host: Host, progress: Progress, new_rows: int) -> int:
    """Write down how far the journal is, in the transaction that made the new rows; all the rows that it has made.

    Raises StoreSetBack when the database has fewer rows of it than it has confirmed.
    """
    if progress.rows is None:
        age = time.monotonic() - host.started_at
        known = (host.id, host.name, host.process_id, host.version, age)
        return int(
            await connection.fetchval(
                NOTE_FIRST, progress.journal, *known, *progress.cursor, new_rows, progress.waiting
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
    """Segment, offset and number of rows of those journals that the database knows."""
    found = await connection.fetch(CURSORS, journals)
    return {row["journal_id"]: (row["cursor_segment"], row["cursor_offset"], row["shipped"]) for row in found}


class Hosts:
    """The table of one database. All verbs raise StoreUnavailable."""

    def __init__(self, database: Database, host: Host) -> None:
        self._database = database
        self._host = host

    async def forget(self, journals: Sequence[UUID]) -> None:
        async with self._database.asking() as connection:
            await connection.execute(FORGET, journals)
