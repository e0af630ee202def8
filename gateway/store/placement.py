"""Finds the conversation of each row in the database: the lock, the lookups of earlier rows, and late parents.

These statements stay outside of `llm_logs.keep`: the lookups come before the insert and feed `conversations.place`,
which is pure and tested without a database.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import UUID

from gateway.store.conversations import (
    Lookup,
    Snapshot,
    buckets,
    first_lookups,
    named_lookups,
    other_lookups,
    place,
    shifted,
)
from gateway.store.pool import plain_uuid

if TYPE_CHECKING:
    from collections.abc import Sequence

    import asyncpg

    from gateway.store.pool import Connection
    from gateway.store.rows import ConversationPlace, Row

    Found = dict[tuple[UUID, bytes], Snapshot]  # by row and hash

LOCKS = 0x6C6C6D67  # namespace of our advisory locks
MONTH_MS = 31 * 86_400_000
LEAST_ID = UUID(int=0)

# $1: namespace; $2: buckets, in order
LOCK_USERS = """
select pg_advisory_xact_lock($1::integer, bucket)
from unnest($2::integer[]) as bucket
"""

# The newest row of a user with a snapshot hash, older than the given row. $1: users; $2: hashes; $3: rows; $4: the
# least id, so that Postgres prunes all but one or two months
FIND_SNAPSHOTS = """
select q.hash, q.row_id, c.id, c.root_gpt_id, c.convo_title
from unnest($1::text[], $2::bytea[], $3::uuid[]) as q (user_name, hash, row_id)
cross join lateral (
    select id, root_gpt_id, convo_title
    from llm_logs.chatgpt_logs
    where user_name = q.user_name and snapshot_hash = q.hash and id < q.row_id and id >= $4
    order by id desc
    limit 1
) as c
"""

# The same for an answer, or an item of an answer, that a response names by id. $1: users; $2: hashes; $3: rows; $4: the
# least id
FIND_NAMED = """
select q.hash, q.row_id, c.id, c.root_gpt_id, c.convo_title
from unnest($1::text[], $2::bytea[], $3::uuid[]) as q (user_name, hash, row_id)
cross join lateral (
    (
        select id, root_gpt_id, convo_title
        from llm_logs.chatgpt_logs
        where user_name = q.user_name and answer_hash = q.hash and id < q.row_id and id >= $4
        order by id desc
        limit 1
    )
    union all
    (
        select id, root_gpt_id, convo_title
        from llm_logs.chatgpt_logs
        where user_name = q.user_name and item_hash = q.hash and id < q.row_id and id >= $4
        order by id desc
        limit 1
    )
) as c
"""

# Rows that continue one of these, but were stored before it. $1: users; $2: hashes; $3: ids; $4: the least of these ids
FIND_EARLY = """
select distinct on (c.id)
    c.id, q.id as parent_id, c.user_name, c.root_inferred and c.parent_id is null as is_own_root
from unnest($1::text[], $2::bytea[], $3::uuid[]) as q (user_name, hash, id)
inner join llm_logs.chatgpt_logs as c
    on c.user_name = q.user_name and c.parent_hash = q.hash and c.id > q.id and c.id > $4
where not exists (
    select from llm_logs.chatgpt_logs as p
    where p.id = c.parent_id and c.parent_hash in (p.snapshot_hash, p.answer_hash, p.item_hash)
)
order by c.id, q.id desc
"""

# $1: the row; $2: its parent
SET_PARENT = """
update llm_logs.chatgpt_logs set parent_id = $2 where id = $1
"""

# A conversation that began with an early row joins the conversation of $3, unless a caller uses its id.
# $1: user; $2: id of the conversation, which is that of its first row; $3: the parent
JOIN_CONVERSATION = """
update llm_logs.chatgpt_logs as c
set root_gpt_id = p.root_gpt_id
from llm_logs.chatgpt_logs as p
where c.user_name = $1 and coalesce(c.root_gpt_id, c.id::text) = $2 and c.root_inferred and p.id = $3
    and not exists (
        select from llm_logs.chatgpt_logs as given
        where given.user_name = $1 and coalesce(given.root_gpt_id, given.id::text) = $2 and not given.root_inferred
    )
"""


async def lock_and_place(connection: Connection, rows: list[Row], slack_ms: int) -> list[ConversationPlace]:
    """The places of `rows`, which are in the order of their ids. Holds the locks of their users until the commit.

    `slack_ms`: a clock that made ids may have been ahead by as much.
    """
    await connection.execute(LOCK_USERS, LOCKS, buckets(rows))
    return place(rows, await _snapshots(connection, rows, slack_ms))


async def _snapshots(connection: Connection, rows: list[Row], slack_ms: int) -> Found:
    """Looks through the last month first, where nearly all parents are. Older months are searched for the other rows
    only: with three years of them, that takes fifty times as long."""
    found = await _find_all(connection, rows, shifted(rows[0].id, -MONTH_MS))
    left: list[Row] = []
    fresh: set[tuple[str, bytes]] = set()  # of the rows before
    for row in rows:
        best_parent = row.fingerprints.best_parent
        if best_parent is not None and (row.id, best_parent) not in found and (row.user, best_parent) not in fresh:
            left.append(row)
        fresh.update((row.user, own) for own in row.fingerprints.own)
    if left:
        found |= await _find_all(connection, left, LEAST_ID)
    if slack_ms:
        found |= await _find_later(connection, rows, found, slack_ms)
    return found


async def _find_all(connection: Connection, rows: list[Row], since: UUID) -> Found:
    found = await _find(connection, FIND_SNAPSHOTS, first_lookups(rows), since)
    found |= await _find(connection, FIND_SNAPSHOTS, other_lookups(rows, found), since)
    return found | await _find(connection, FIND_NAMED, named_lookups(rows), since)


async def _find_later(connection: Connection, rows: list[Row], found: Found, slack_ms: int) -> Found:
    """Parents with a later id than the row itself, which a clock that was ahead has made. A row that continues the row
    itself is never among them: it has more messages."""
    left = [row for row in rows if not any((row.id, known) in found for known in row.fingerprints.earlier)]
    if not left:
        return {}
    since = left[0].id
    by_bound = {shifted(row.id, slack_ms): row.id for row in left}
    lookups = [one._replace(row=shifted(one.row, slack_ms)) for one in (*first_lookups(left), *other_lookups(left, {}))]
    later = await _find(connection, FIND_SNAPSHOTS, lookups, since)
    named = [one._replace(row=shifted(one.row, slack_ms)) for one in named_lookups(left)]
    later |= await _find(connection, FIND_NAMED, named, since)
    return {(by_bound[bound], known): snapshot for (bound, known), snapshot in later.items()}


async def _find(connection: Connection, statement: str, lookups: Sequence[Lookup], since: UUID) -> Found:
    if not lookups:
        return {}
    users, hashes, ids = zip(*lookups, strict=True)
    found = await connection.fetch(statement, users, hashes, ids, since)
    return {(plain_uuid(row["row_id"]), row["hash"]): _snapshot(row) for row in found}


def _snapshot(row: asyncpg.Record) -> Snapshot:
    id_ = plain_uuid(row["id"])
    return Snapshot(id_, row["root_gpt_id"] or str(id_), row["convo_title"])


async def join_early_rows(connection: Connection, rows: list[Row], slack_ms: int) -> None:
    """Set the parent of rows that were stored before it (by another process, or from a taken-over journal)."""
    by_bound = {shifted(row.id, -slack_ms): row.id for row in rows}
    own = [
        (row.user, hash_, bound) for bound, row in zip(by_bound, rows, strict=True) for hash_ in row.fingerprints.own
    ]
    if not own:
        return
    users, hashes, ids = zip(*own, strict=True)  # as the rows, the oldest first
    for early in await connection.fetch(FIND_EARLY, users, hashes, ids, ids[0]):
        parent = by_bound[plain_uuid(early["parent_id"])]
        if early["is_own_root"]:
            await connection.execute(JOIN_CONVERSATION, early["user_name"], str(early["id"]), parent)
        await connection.execute(SET_PARENT, early["id"], parent)
