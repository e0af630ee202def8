"""The condition of a database: its schema, whether it is writable, and the holder of a lock."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import asyncpg

from gateway.errors import StoreUnusable, safe_text
from gateway.store.pool import CONNECTION_ERRORS, unavailable

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from gateway.store.pool import Connection

OLDEST_SERVER = 14  # as for the embedded server

LOOK = """
select
    current_setting('server_version') as server,
    current_setting('server_version_num')::integer / 10000 as major,
    current_setting('transaction_read_only')::boolean or pg_is_in_recovery() as is_read_only,
    to_regclass('schema_migrations') is not null as has_versions,
    to_regnamespace('llm_logs') is not null as has_schema
"""

APPLIED = """
select version from schema_migrations
"""

# $1: the key of the migration lock
HOLDER = """
select l.pid, a.application_name
from pg_locks as l
inner join pg_stat_activity as a on a.pid = l.pid
where l.locktype = 'advisory' and l.classid = 0 and l.objid = $1 and l.granted
    and l.database = (select d.oid from pg_database as d where d.datname = current_database())
"""

MISSING_RIGHTS = """
select 'usage on schema llm_logs' as missing
where not has_schema_privilege('llm_logs', 'usage')
union all
select format('%s on llm_logs.%I', wanted.privilege, c.relname)
from pg_class as c
cross join unnest(array['select', 'insert', 'update', 'delete']) as wanted (privilege)
where c.relnamespace = to_regnamespace('llm_logs') and not c.relispartition
    and (c.relkind in ('r', 'p') or (c.relkind = 'v' and wanted.privilege = 'select'))
    and not has_table_privilege(c.oid, wanted.privilege)
order by 1
"""

# The owner of the schema may migrate, and without a schema a role that may create one.
MAY_MIGRATE = """
select case
    when to_regnamespace('llm_logs') is null then has_database_privilege(current_database(), 'create')
    else (
        select pg_has_role(n.nspowner, 'usage') from pg_namespace as n where n.nspname = 'llm_logs'
    )
end
"""


@dataclass(frozen=True, slots=True)
class Schema:
    """Versions of migrations: ours that the database lacks, and those of a newer gateway."""

    missing: tuple[str, ...]
    newer: tuple[str, ...]
    known: str  # our newest

    @property
    def remark(self) -> str | None:
        """A sentence for operators about a schema that is newer than ours; None: it is not."""
        if not self.newer:
            return None
        return f"the database has the schema of a newer gateway (version {self.newer[-1]}; this one knows {self.known})"


@dataclass(frozen=True, slots=True)
class Condition:
    """The result of `look`."""

    server: str
    major: int
    is_read_only: bool
    applied: frozenset[str]
    lacks_tables: bool  # although schema_migrations lists their versions


def schema_of(applied: Iterable[str], known: Sequence[str]) -> Schema:
    """The state of the schema. The table may hold versions of other programs: ours have four digits, dbmate's 14."""
    ours = set(known)
    there = set(applied)
    newer = sorted(version for version in there - ours if re.fullmatch(r"\d{4}", version) and version > max(ours))
    return Schema(tuple(sorted(ours - there)), tuple(newer), max(ours))


def refuse_unusable(schema: Schema) -> None:
    """Raises StoreUnusable for a schema that lacks a version of ours and has one of a newer gateway."""
    if schema.missing and schema.newer:
        raise StoreUnusable(
            f"{schema.remark}, and lacks version {schema.missing[0]} of this one: install that version of the gateway, "
            "or give this one another database"
        )


async def look(connection: Connection) -> Condition:
    """The condition, from two short statements that wait for no lock.

    Raises StoreUnavailable, or StoreUnusable if the role lacks the rights.
    """
    try:
        found = await connection.fetchrow(LOOK)
        assert found is not None
        rows = await connection.fetch(APPLIED) if found["has_versions"] else []
    except asyncpg.InsufficientPrivilegeError as error:
        raise StoreUnusable(f"the role may not read the schema's version: {safe_text(error)}") from error
    except (*CONNECTION_ERRORS, asyncpg.PostgresError) as error:
        raise unavailable(error) from error
    return Condition(
        server=found["server"],
        major=found["major"],
        is_read_only=found["is_read_only"],
        applied=frozenset(row["version"] for row in rows),
        lacks_tables=bool(rows) and not found["has_schema"],
    )


async def lock_holder(connection: Connection, key: int) -> str | None:
    """A description of the holder of an advisory lock; None: it is free. Raises StoreUnavailable."""
    try:
        found = await connection.fetchrow(HOLDER, key)
    except (*CONNECTION_ERRORS, asyncpg.PostgresError) as error:
        raise unavailable(error) from error
    if found is None:
        return None
    return f"process {found['pid']} of {found['application_name'] or 'a program without a name'}"


async def missing_rights(connection: Connection) -> list[str]:
    """The rights on the existing tables that the role lacks to serve. Raises StoreUnavailable."""
    return [row["missing"] for row in await _fetched(connection, MISSING_RIGHTS)]


async def may_migrate(connection: Connection) -> bool:
    """Whether the role may apply migrations. Raises StoreUnavailable."""
    (row,) = await _fetched(connection, MAY_MIGRATE)
    return bool(row[0])


async def _fetched(connection: Connection, query: str) -> list[asyncpg.Record]:
    try:
        return await connection.fetch(query)
    except (*CONNECTION_ERRORS, asyncpg.PostgresError) as error:
        raise unavailable(error) from error
