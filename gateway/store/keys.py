"""Keys in Postgres, as digests only. The SQL itself checks which keys the principal may read or change."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import asyncpg

from gateway.model import ApiKey, Principal, Revocation
from gateway.store.pool import plain_uuid, unavailable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence
    from datetime import datetime
    from uuid import UUID

    from gateway.store.pool import Database, PooledConnection

PAGE = 500  # keys in one answer: decoding it takes the event loop about 2 ms

# $1…$11: the key; $12: whether the principal is an admin
ADD = """
insert into llm_logs.api_keys
    (id, digest, hint, name, user_name, title, roles, allowed_models, created_at, expires_at, created_by)
select $1, $2, $3, $4, $5, $6, $7, $8, to_timestamp($9), to_timestamp($10), $11
where $12
"""

# Serialises the creation of one user's keys: two concurrent requests must not both create the last key allowed
LOCK_USER = """
select pg_advisory_xact_lock(hashtextextended($1, hashtextextended('llm_logs.api_keys', 0)))
"""

# $1…$10: the key, of the principal's user ($5); $11: the key that authenticated its creation, or null;
# $12, $13: limit of keys in force, and limit of keys that have not expired
ADD_OWN = """
insert into llm_logs.api_keys (
    id, digest, hint, name, user_name, title, roles, allowed_models, created_at, expires_at, created_by, is_own,
    made_with
)
select $1, $2, $3, $4, $5, $6, $7, $8, to_timestamp($9), to_timestamp($10), $5, true, $11
from (
    select count(*) as made, count(*) filter (where revoked_at is null) as in_force
    from llm_logs.api_keys
    where user_name = $5 and is_own and expires_at > to_timestamp($9)
) as own
where own.in_force < $12 and own.made < $13
"""

# $1: the principal's user; $2: whether it may read all keys; $3: only of this user, or null; $4: created before this
# key, or null; $5: row limit
VISIBLE = """
select
    k.id, k.digest, k.hint, k.name, k.user_name, k.title, k.roles, k.allowed_models,
    k.created_at, k.created_by, k.expires_at, k.last_used_at, k.is_own, k.made_with,
    coalesce(k.revoked_at, parent.revoked_at) as revoked_at, coalesce(k.revoked_by, parent.revoked_by) as revoked_by
from llm_logs.api_keys as k
left join llm_logs.api_keys as parent on k.made_with = parent.id
where
    ($2 or k.user_name = $1)
    and ($3::text is null or k.user_name = $3)
    and ($4::uuid is null or k.id < $4)
order by k.id desc
limit $5
"""

# $1: the key; $2: the revoking user; $3: when; $4: whether that is an admin
REVOKE = """
update llm_logs.api_keys
set revoked_at = coalesce(revoked_at, to_timestamp($3)), revoked_by = coalesce(revoked_by, $2)
where id = $1 and $4
returning
    id, digest, hint, name, user_name, title, roles, allowed_models,
    created_at, created_by, expires_at, last_used_at, revoked_at, revoked_by, is_own, made_with
"""

# $1: the key; $2: the principal's user; $3: when
REVOKE_OWN = """
update llm_logs.api_keys
set revoked_at = coalesce(revoked_at, to_timestamp($3)), revoked_by = coalesce(revoked_by, $2)
where id = $1 and user_name = $2 and is_own
returning
    id, digest, hint, name, user_name, title, roles, allowed_models,
    created_at, created_by, expires_at, last_used_at, revoked_at, revoked_by, is_own, made_with
"""

EDITION = """
select edition from llm_logs.api_keys_edition
"""

# Keys that are not revoked, nor created with a revoked key. Keys that users create are many: they are left out a day
# after they expire, when their holders have had the error. $1: the last id of the previous page; $2: row limit
IN_FORCE = """
select
    k.id, k.digest, k.hint, k.name, k.user_name, k.title, k.roles, k.allowed_models,
    k.created_at, k.created_by, k.expires_at, k.last_used_at, k.revoked_at, k.revoked_by, k.is_own, k.made_with
from llm_logs.api_keys as k
left join llm_logs.api_keys as parent on k.made_with = parent.id
where
    k.revoked_at is null and parent.revoked_at is null and k.id > $1
    and not (k.is_own and k.expires_at < now() - interval '1 day')
order by k.id
limit $2
"""

# $1: age limit, in seconds
REVOKED = """
select id, revoked_at, revoked_by
from llm_logs.api_keys
where revoked_at > now() - make_interval(secs => $1)
"""

# For a database that was set back. $1: ids; $2: when each was revoked; $3: by whom
REVOKE_AGAIN = """
update llm_logs.api_keys as k
set revoked_at = to_timestamp(r.at), revoked_by = r.revoked_by
from unnest($1::uuid[], $2::float8[], $3::text[]) as r (id, at, revoked_by)
where k.id = r.id and k.revoked_at is null
"""

# $1: ids; $2: when each was last used. Locks the rows in the order of their ids: two gateways that store uses of the
# same keys at once would otherwise deadlock.
NOTE_USES = """
with used as (
    select k.id, u.at
    from llm_logs.api_keys as k
    inner join unnest($1::uuid[], $2::float8[]) as u (id, at) on k.id = u.id
    order by k.id
    for no key update of k
)
update llm_logs.api_keys as k
set last_used_at = greatest(k.last_used_at, to_timestamp(used.at))
from used
where k.id = used.id
"""

_BEFORE_ALL = "00000000-0000-0000-0000-000000000000"


class Keys:
    """The keys of one database. All methods raise StoreUnavailable."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, key: ApiKey, by: Principal) -> bool:
        """Store a key; False if the principal may not."""
        holder = key.holder
        async with self._connection() as connection:
            done = await connection.execute(
                ADD,
                key.id,
                key.digest,
                key.hint,
                key.name,
                holder.user,
                holder.title,
                sorted(holder.roles),
                None if holder.allowed_models is None else sorted(holder.allowed_models),
                key.created_at,
                key.expires_at,
                key.created_by,
                by.is_admin,
            )
        return done == "INSERT 0 1"

    async def visible(
        self, to: Principal, *, limit: int, user: str | None = None, before: UUID | None = None
    ) -> list[ApiKey]:
        """Keys, newest first: all of them for admins and auditors, their own for other callers."""
        async with self._connection() as connection:
            rows = await connection.fetch(VISIBLE, to.user, to.is_admin or to.is_auditor, user, before, limit)
        return [_key(row) for row in rows]

    async def add_own(self, key: ApiKey, by: Principal, *, most: int, most_made: int) -> bool:
        """Store a key that `by` creates for itself; False if it has too many."""
        holder = key.holder
        async with self._connection() as connection, connection.transaction():
            await connection.execute(LOCK_USER, by.user)
            done = await connection.execute(
                ADD_OWN,
                key.id,
                key.digest,
                key.hint,
                key.name,
                by.user,
                holder.title,
                sorted(holder.roles),
                None if holder.allowed_models is None else sorted(holder.allowed_models),
                key.created_at,
                key.expires_at,
                key.made_with,
                most,
                most_made,
            )
        return done == "INSERT 0 1"

    async def revoke_own(self, key_id: UUID, by: Principal, at: float) -> ApiKey | None:
        """Revoke a key that its user created; as `revoke`."""
        async with self._connection() as connection:
            row = await connection.fetchrow(REVOKE_OWN, key_id, by.user, at)
        return None if row is None else _key(row)

    async def revoke(self, key_id: UUID, by: Principal, at: float) -> ApiKey | None:
        """Revoke a key, and return it; a revoked key stays as it is. None: it does not exist, or `by` may not."""
        async with self._connection() as connection:
            row = await connection.fetchrow(REVOKE, key_id, by.user, at, by.is_admin)
        return None if row is None else _key(row)

    async def edition(self) -> UUID | None:
        """The version of all keys, which differs after each change; None: unknown, so the caller reads all keys."""
        async with self._connection() as connection:
            edition: UUID | None = await connection.fetchval(EDITION)
        return edition

    async def in_force(self) -> list[ApiKey]:
        """All keys that are not revoked, expired ones included, so that their holders get the right error."""
        found: list[ApiKey] = []
        last: object = _BEFORE_ALL
        async with self._connection() as connection:
            while rows := await connection.fetch(IN_FORCE, last, PAGE):
                found += [_key(row) for row in rows]
                last = rows[-1]["id"]
        return found

    async def revoked(self, seconds: float) -> list[Revocation]:
        """The revocations of the last `seconds`."""
        async with self._connection() as connection:
            rows = await connection.fetch(REVOKED, seconds)
        return [
            Revocation(plain_uuid(row["id"]), row["revoked_at"].timestamp(), row["revoked_by"] or "") for row in rows
        ]

    async def revoke_again(self, revocations: Sequence[Revocation]) -> None:
        """Revoke keys again in a database that was set back."""
        ids, times, names = zip(*((one.key_id, one.at, one.by) for one in revocations), strict=True)
        async with self._connection() as connection:
            await connection.execute(REVOKE_AGAIN, ids, times, names)

    async def note_uses(self, uses: Mapping[UUID, float]) -> None:
        """Store when keys were last used."""
        async with self._connection() as connection:
            await connection.execute(NOTE_USES, list(uses), list(uses.values()))

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[PooledConnection]:
        async with self._database.connection() as connection:
            try:
                yield connection
            except asyncpg.PostgresError as error:  # the table does not exist yet: Postgres came back a moment ago
                raise unavailable(error) from error


def _key(row: asyncpg.Record) -> ApiKey:
    models = row["allowed_models"]
    return ApiKey(
        id=row["id"],
        digest=row["digest"],
        hint=row["hint"],
        name=row["name"],
        holder=Principal(
            user=row["user_name"],
            title=row["title"],
            key_id=str(row["id"]),
            roles=frozenset(row["roles"]),
            allowed_models=None if models is None else frozenset(models),
        ),
        created_at=row["created_at"].timestamp(),
        created_by=row["created_by"],
        expires_at=_unix(row["expires_at"]),
        last_used_at=_unix(row["last_used_at"]),
        revoked_at=_unix(row["revoked_at"]),
        revoked_by=row["revoked_by"],
        is_own=row["is_own"],
        made_with=row["made_with"],
    )


def _unix(moment: datetime | None) -> float | None:
    return None if moment is None else moment.timestamp()
