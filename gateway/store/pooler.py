"""Connections behind a pooler in transaction mode (PgBouncer and its kin): each transaction may meet another server.

So nothing is left in a session: settings are set in each transaction, and prepared statements have no name.
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

# Startup parameters that every pooler takes; others, PgBouncer refuses in its default form.
TAKEN = ("application_name",)
# A named statement that is not there, or is somebody else's: how a pooler shows that looks like a server.
STATEMENT_LOST = (asyncpg.InvalidSQLStatementNameError, asyncpg.DuplicatePreparedStatementError)
WHO_ANSWERS = """
select pg_backend_pid()
"""


class PoolerConnection(Connection):
    """Asked like any other connection."""

    each_transaction = ""

    def tune(self, settings: Mapping[str, str]) -> None:
        """What holds in each transaction. Names and values are ours."""
        self.each_transaction = ";".join(f"set local {name} = '{value}'" for name, value in settings.items())

    def get_reset_query(self) -> str:
        return ""  # there is no state, and the server is another client's by now

    def transaction(self, *, isolation: Any = None, readonly: bool = False, deferrable: bool = False) -> Transaction:
        return _Tuned(self, isolation, readonly, deferrable)

    def cursor(self, query: str, *parameters: object, prefetch: int | None = None, **_: Any) -> Any:
        """Only to iterate over. asyncpg's own names its statement."""
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
    return isinstance(error, asyncpg.ProtocolViolationError) and "startup parameter" in str(error)


async def is_pooled(connection: Connection) -> bool:
    """Whether the process that answers is not the one that the connection was told of: a pooler makes that up."""
    try:
        statement = await connection.prepare(WHO_ANSWERS, name="")
        return bool(await statement.fetchval() != connection.get_server_pid())
    except STATEMENT_LOST:
        return True
