"""`llm-gateway check --connect`: reports the state of the database of DATABASE_URL, and its faults."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.errors import StoreUnavailable
from gateway.resources import resource_folder
from gateway.store.condition import OLDEST_SERVER, look, may_migrate, missing_rights, schema_of
from gateway.store.migrations import read_migrations
from gateway.store.pool import Database

if TYPE_CHECKING:
    from gateway.settings import Settings
    from gateway.store.condition import Condition, Schema
    from gateway.store.pool import Connection


async def inspect_database(settings: Settings) -> tuple[list[str], list[str]]:
    """Facts and faults of the database, one sentence each."""
    if settings.store.url is None:
        return ["database: an embedded PostgreSQL, which the gateway starts and stops"], []
    database = Database(settings.store.url.reveal(), settings.store, "llm-gateway check")
    try:
        connection = await database.connect()
    except StoreUnavailable as error:
        return [], [error.message]
    try:
        return await _inspect(connection, is_pooled=database.is_pooled)
    except StoreUnavailable as error:
        return [], [error.message]
    finally:
        connection.terminate()


async def _inspect(connection: Connection, *, is_pooled: bool) -> tuple[list[str], list[str]]:
    found = await look(connection)
    schema = schema_of(found.applied, [one.version for one in read_migrations(resource_folder("sql"))])
    way = "behind a connection pooler: no prepared statements" if is_pooled else "connected directly"
    facts = [f"database: PostgreSQL {found.server}, {way}", _schema_text(found, schema)]
    faults = []
    if found.major < OLDEST_SERVER:
        faults.append(f"PostgreSQL {found.server} is too old: the gateway needs {OLDEST_SERVER} or later")
    if found.is_read_only:
        faults.append("the database is read-only: it is a standby, or default_transaction_read_only is on")
    if found.lacks_tables:
        faults.append("the schema llm_logs is missing, although the table schema_migrations lists its versions")
    if schema.missing and schema.newer:
        faults.append(f"{schema.remark}, and lacks version {schema.missing[0]} of this one")
    elif schema.missing and not await may_migrate(connection):
        faults.append("the role may not migrate the schema: run `llm-gateway migrate` as its owner")
    if found.applied and not found.lacks_tables:
        faults += [f"the role lacks {right}" for right in await missing_rights(connection)]
    return facts, faults


def _schema_text(found: Condition, schema: Schema) -> str:
    if schema.remark is not None:
        return f"schema: {schema.remark}"
    if schema.missing:
        return f"schema: it lacks version {schema.missing[0]}{' and later ones' if len(schema.missing) > 1 else ''}"
    return f"schema: up to date (version {schema.known})"
