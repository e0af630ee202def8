"""Keys in Postgres: digests only. The principal decides who sees or changes which, in the SQL itself."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING
from uuid import UUID

import asyncpg

from gateway.model import ApiKey, Principal, Revocation
from gateway.store.pool import unavailable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence
    from datetime import datetime

    from gateway.store.pool import Database, PooledConnection

PAGE = 500  # keys in one answer: decoding it takes the event loop about 2 ms

# $1…$11: the key; $12: whether who makes it is an admin
ADD = """
insert into llm_logs.api_keys
    (id, digest, hint, name, user_name, title, roles, allowed_models, created_at, expires_at, created_by)
select $1, $2, $3, $4, $5, $6, $7, $8, to_timestamp($9), to_timestamp($10), $11
where $12
"""

# One user's keys are made one after the other, so that two requests at once cannot both find room for the last one
LOCK_USER = """
select pg_advisory_xact_lock(hashtextextended($1, hashtextextended('llm_logs.api_keys', 0)))
"""

# $1…$10: the key, of the principal's user ($5), who makes it; $11: the key with which it was made, or null;
# $12, $13: how many may be in force, and how many would be if none had been revoked
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

# $1: the principal's user; $2: whether it sees everybody's; $3: of this user only, or null; $4: made before this one,
# or null; $5: how many
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

# $1: the key; $2: who revokes it; $3: when; $4: whether that is an admin
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

# Neither revoked nor made with a key that is. Of those that users make, which are many, expired ones are left out a day
# later: by then their holders have been told. $1: the last id of the page before; $2: how many
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

# $1: how long ago at most, in seconds
REVOKED = """
select id, revoked_at, revoked_by
from llm_logs.api_keys
where revoked_at > now() - make_interval(secs => $1)
"""

# Of a database that was set back. $1: ids; $2: when each was revoked; $3: by whom
REVOKE_AGAIN = """
update llm_logs.api_keys as k
set revoked_at = to_timestamp(r.at), revoked_by = r.revoked_by
from unnest($1::uuid[], $2::float8[], $3::text[]) as r (id, at, revoked_by)
where k.id = r.id and k.revoked_at is null
"""

# $1: ids; $2: when each was last used. The rows are locked in the order of their ids: two gateways that note uses of
# the same keys at once could otherwise wait for each other.
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
    """The keys of one database. All verbs raise StoreUnavailable."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, key: ApiKey, by: Principal) -> bool:
        """False when this principal may not."""
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
        """Newest first: for admins and auditors everybody's, for others their own."""
        async with self._connection() as connection:
            rows = await connection.fetch(VISIBLE, to.user, to.is_admin or to.is_auditor, user, before, limit)
        return [_key(row) for row in rows]

    async def add_own(self, key: ApiKey, by: Principal, *, most: int, most_made: int) -> bool:
        """A key that `by` makes for itself; False when it has too many."""
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
        """As `revoke`, of a key that its user has made."""
        async with self._connection() as connection:
            row = await connection.fetchrow(REVOKE_OWN, key_id, by.user, at)
        return None if row is None else _key(row)

    async def revoke(self, key_id: UUID, by: Principal, at: float) -> ApiKey | None:
        """The key as it is then; one that is revoked already stays as it was. None: there is none, or not for `by`."""
        async with self._connection() as connection:
            row = await connection.fetchrow(REVOKE, key_id, by.user, at, by.is_admin)
        return None if row is None else _key(row)

    async def edition(self) -> UUID | None:
        """Another one after every change of keys; None: it is not known, so that they must be looked through."""
        async with self._connection() as connection:
            edition: UUID | None = await connection.fetchval(EDITION)
        return edition

    async def in_force(self) -> list[ApiKey]:
        """All keys that are not revoked; expired ones are among them, so that their holders can be told."""
        found: list[ApiKey] = []
        last: object = _BEFORE_ALL
        async with self._connection() as connection:
            while rows := await connection.fetch(IN_FORCE, last, PAGE):
                found += [_key(row) for row in rows]
                last = rows[-1]["id"]
        return found

    async def revoked(self, seconds: float) -> list[Revocation]:
        """Those of the last so many seconds."""
        async with self._connection() as connection:
            rows = await connection.fetch(REVOKED, seconds)
        return [Revocation(_uuid(row["id"]), row["revoked_at"].timestamp(), row["revoked_by"] or "") for row in rows]

    async def revoke_again(self, revocations: Sequence[Revocation]) -> None:
        """Of keys that were in force again, for the database was set back."""
        ids, times, names = zip(*((one.key_id, one.at, one.by) for one in revocations), strict=True)
        async with self._connection() as connection:
            await connection.execute(REVOKE_AGAIN, ids, times, names)

    async def note_uses(self, uses: Mapping[UUID, float]) -> None:
        async with self._connection() as connection:
            await connection.execute(NOTE_USES, list(uses), list(uses.values()))

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[PooledConnection]:
        async with self._database.connection() as connection:
            try:
                yield connection
            except asyncpg.PostgresError as error:  # the table is not there yet: Postgres came back a moment ago
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


def _uuid(found: UUID) -> UUID:
    """The standard library's."""
    return UUID(int=found.int)


def _unix(moment: datetime | None) -> float | None:
    return None if moment is None else moment.timestamp()
