"""Connections behind a pooler in transaction mode, such as PgBouncer: each transaction may run in another session.

So no state stays in a session: each transaction sets its settings, and prepared statements have no name.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import asyncpg
from asyncpg.transaction import Transaction

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    Connection = asyncpg.Connection[asyncpg.Record]
else:
    Connection = asyncpg.Connection  # which is generic in the stubs only

# Startup parameters that every pooler accepts; PgBouncer refuses others by default.
ACCEPTED = ("application_name",)
# A named statement that is missing, or belongs to another client: the sign of a pooler that looks like a server.
STATEMENT_LOST = (asyncpg.InvalidSQLStatementNameError, asyncpg.DuplicatePreparedStatementError)
WHO_ANSWERS = """
select pg_backend_pid()
"""


class PoolerConnection(Connection):
    """A connection through a pooler, with the interface of a direct one."""

    each_transaction = ""

    def tune(self, settings: Mapping[str, str]) -> None:
        """Set these settings in each transaction. Names and values are constants of ours."""
        self.each_transaction = ";".join(f"set local {name} = '{value}'" for name, value in settings.items())

    def get_reset_query(self) -> str:
        return ""  # the session has no state of ours, and serves another client by now

    def transaction(self, *, isolation: Any = None, readonly: bool = False, deferrable: bool = False) -> Transaction:
        return _Tuned(self, isolation, readonly, deferrable)

    def cursor(self, query: str, *parameters: object, prefetch: int | None = None, **_: Any) -> Any:
        """A cursor to iterate over; asyncpg's own would name its statement."""
        return self._rows(query, parameters, prefetch)

    async def _rows(
        self, query: str, parameters: tuple[object, ...], prefetch: int | None
    ) -> AsyncIterator[asyncpg.Record]:
        statement = await self.prepare(query, name="")
        async for row in statement.cursor(*parameters, prefetch=prefetch):
            yield row


class _Tuned(Transaction):
    def __init__(self, connection: PoolerConnection, isolation: Any, readonly: bool, deferrable: bool) -> None:
        super().__init__(connection, isolation, readonly, deferrable)
        self._tuned = connection

    async def start(self) -> None:
        is_nested = self._tuned.is_in_transaction()
        await super().start()
        if self._tuned.each_transaction and not is_nested:
            await self._tuned.execute(self._tuned.each_transaction)


def refuses_parameters(error: Exception) -> bool:
    """Whether a pooler refused our startup parameters."""
    return isinstance(error, asyncpg.ProtocolViolationError) and "startup parameter" in str(error)


async def is_pooled(connection: Connection) -> bool:
    """Whether another process answers than the one of the connection's start: a pooler invents that one."""
    try:
        statement = await connection.prepare(WHO_ANSWERS, name="")
        return bool(await statement.fetchval() != connection.get_server_pid())
    except STATEMENT_LOST:
        return True
