"""The first connections to a server that starts: whether it takes connections, and its role and database."""

from __future__ import annotations

from contextlib import suppress

import asyncpg

from gateway.store.pool import unavailable

PROBE_S = 5.0
CONNECT_S = 60.0
_NOT_YET = (OSError, TimeoutError, asyncpg.CannotConnectNowError, asyncpg.ConnectionDoesNotExistError)
_MISSING = (asyncpg.InvalidCatalogNameError, asyncpg.InvalidAuthorizationSpecificationError)


async def takes_connections(dsn: str) -> bool:
    """Whether the server answers a connection, even if only to refuse it."""
    try:
        connection = await asyncpg.connect(dsn, timeout=PROBE_S)
    except _NOT_YET:
        return False
    except asyncpg.PostgresError:
        return True
    await connection.close()
    return True


async def ensure_database(dsn: str, admin_dsn: str, create_role: str, create_database: str) -> None:
    """Create the role and the database of `dsn` as the superuser of `admin_dsn`, if they are missing.

    Raises StoreUnavailable.
    """
    try:
        try:
            connection = await asyncpg.connect(dsn, timeout=CONNECT_S)
        except _MISSING:
            connection = await asyncpg.connect(admin_dsn, timeout=CONNECT_S)
            with suppress(asyncpg.DuplicateObjectError):
                await connection.execute(create_role)
            with suppress(asyncpg.DuplicateDatabaseError):
                await connection.execute(create_database)
        await connection.close()
    except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        raise unavailable(error) from error
