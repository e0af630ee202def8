"""Applies migrations: the files of sql/ in their order, each once, in its own transaction.

The files, the table `schema_migrations` and the lock are dbmate's, so that dbmate works on the same database.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import asyncpg
import structlog

from gateway.errors import StoreUnavailable, StoreUnusable, safe_text
from gateway.store.condition import APPLIED, look, refuse_unusable, schema_of
from gateway.store.pool import CONNECTION_ERRORS, unavailable

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from gateway.store.pool import Connection, Database

LOCK = 48372615  # dbmate's, with --migration-lock
MONTHS_AHEAD = 2

MAKE_TABLE = """
create table if not exists schema_migrations (version varchar primary key)
"""

NO_TIMEOUT = """
set local statement_timeout = 0
"""

TAKE_LOCK = """
select pg_advisory_xact_lock($1)
"""

# $1: the version
NOTE = """
insert into schema_migrations (version) values ($1)
"""

# $1: number of months after this one
MAKE_PARTITIONS = """
select llm_logs.make_partitions($1)
"""

_NAME = re.compile(r"(\d+)_\w+\.sql")
_UP = re.compile(r"^--\s*migrate:up\b.*$", re.MULTILINE)
_DOWN = re.compile(r"^--\s*migrate:down\b.*$", re.MULTILINE)

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Migration:
    """One file of sql/; `up` is the SQL that applies it."""

    version: str
    name: str
    up: str


def read_migrations(directory: Path) -> list[Migration]:
    """The migrations in the order of their versions. Raises StoreUnavailable if a file is not in dbmate's format."""
    found = []
    for path in sorted(directory.glob("*.sql")):
        name = _NAME.fullmatch(path.name)
        text = path.read_text(encoding="utf-8")
        up = _UP.search(text)
        if name is None or up is None:
            raise StoreUnavailable(
                f"{path} is not a migration: it needs a number in its name and a line `-- migrate:up`"
            )
        down = _DOWN.search(text)
        found.append(Migration(name[1], path.name, text[up.end() : down.start() if down else None]))
    if not found:
        raise StoreUnavailable(f"there are no migrations in {directory}")
    return found


async def migrate(database: Database, directory: Path) -> list[str]:
    """Apply missing migrations and create the partitions of the coming months; the names of the applied files.

    Any number of processes may call it at once: it waits for the migration lock. If no version is missing, as in the
    schema of a newer gateway, it takes no lock and needs only the right to read. Raises StoreUnavailable,
    StoreUnusable.
    """
    migrations = read_migrations(directory)
    connection = await database.connect()
    try:
        schema = schema_of((await look(connection)).applied, [one.version for one in migrations])
        if schema.remark is not None:
            log.warning("schema_is_newer", newest=schema.newer[-1], known=schema.known)
        refuse_unusable(schema)
        to_do = [one for one in migrations if one.version in schema.missing]
        applied = [one.name for one in to_do if await _apply(connection, one, migrations)]
        await connection.execute(MAKE_PARTITIONS, MONTHS_AHEAD)
    except CONNECTION_ERRORS as error:
        raise unavailable(error) from error
    except asyncpg.PostgresError as error:
        raise StoreUnusable(f"a migration cannot be applied: {safe_text(error)}") from error
    finally:
        connection.terminate()
    return applied


async def _apply(connection: Connection, migration: Migration, known: Sequence[Migration]) -> bool:
    """The lock belongs to the transaction, so that it works behind a pooler and ends with our process."""
    async with connection.transaction():
        await connection.execute(NO_TIMEOUT)
        await connection.execute(TAKE_LOCK, LOCK)
        await connection.execute(MAKE_TABLE)
        applied = {row["version"] for row in await connection.fetch(APPLIED)}
        refuse_unusable(schema_of(applied, [one.version for one in known]))
        if migration.version in applied:
            return False
        await connection.execute(migration.up)
        await connection.execute(NOTE, migration.version)
    log.info("migrated", file=migration.name)
    return True
