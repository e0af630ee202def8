"""Connections to Postgres: a bounded pool that opens at its first use, and calls that a frozen server cannot block."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import UUID

import asyncpg
import orjson
import structlog

from gateway.errors import StoreUnavailable, safe_text
from gateway.settings.database_url import read_url
from gateway.store.dsn import connect_arguments
from gateway.store.pooler import ACCEPTED, STATEMENT_LOST, PoolerConnection, is_pooled, refuses_parameters

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping

    from gateway.settings import StoreSettings

    Connection = asyncpg.Connection[asyncpg.Record]
    PooledConnection = asyncpg.pool.PoolConnectionProxy[asyncpg.Record]
    Pool = asyncpg.Pool[asyncpg.Record]

APPLICATION = "llm-gateway"
IDLE_IN_TRANSACTION_S = 60.0  # a frozen gateway must not hold its locks for ever
CLOSE_S = 2.0
_JSONB_VERSION = b"\x01"

# Errors that are not the statement's: no or a broken connection; a server that stops, is full, or too slow.
CONNECTION_ERRORS = (
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.OperatorInterventionError,
    asyncpg.InsufficientResourcesError,
    asyncpg.PostgresSystemError,
    OSError,
    TimeoutError,
)

T = TypeVar("T")
log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class PoolState:
    """Connections, for metrics."""

    open: int
    used: int
    most: int


class Database:
    """One Postgres. It connects at the first use, so that the gateway starts without Postgres."""

    def __init__(self, dsn: str, settings: StoreSettings, application: str = APPLICATION) -> None:
        self._dsn = dsn
        self._settings = settings
        self._application = application
        self._pool: Pool | None = None
        self._opening = asyncio.Lock()
        self.is_pooled = False  # a pooler in front of Postgres was detected

    @property
    def dsn(self) -> str:
        """A secret: it may hold a password."""
        return self._dsn

    @property
    def statement_s(self) -> float:
        return self._settings.statement_s

    def state(self) -> PoolState:
        """The number of connections."""
        pool = self._pool
        size = pool.get_size() if pool is not None else 0
        return PoolState(size, size - pool.get_idle_size() if pool is not None else 0, self._settings.pool_max)

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[PooledConnection]:
        """A connection from the pool. Raises StoreUnavailable, also for lost connections in its body."""
        pool = await self._opened()
        timeout = self._settings.connect_s + self._settings.statement_s
        try:
            connection = await within(timeout, _acquired(pool, timeout), _terminate)
        except (*CONNECTION_ERRORS, asyncpg.PostgresError) as error:
            raise unavailable(error) from error
        try:
            yield connection
        except asyncpg.ReadOnlySQLTransactionError as error:
            connection.terminate()  # a session stays read-only after its database or role became writable
            raise unavailable(error) from error
        except (*CONNECTION_ERRORS, *STATEMENT_LOST) as error:
            raise self.unavailable(error) from error
        finally:
            await self._release(pool, connection)

    @asynccontextmanager
    async def asking(self) -> AsyncIterator[PooledConnection]:
        """A connection for statements that a caller's input cannot make wrong: each error is StoreUnavailable.

        One such error is a table that does not exist yet, because Postgres came back a moment ago.
        """
        async with self.connection() as connection:
            try:
                yield connection
            except (asyncpg.ReadOnlySQLTransactionError, *STATEMENT_LOST):
                raise
            except asyncpg.PostgresError as error:
                raise unavailable(error) from error

    async def connect(self, settings: Mapping[str, str] | None = None) -> Connection:
        """A connection outside of the pool, which the caller closes. Raises StoreUnavailable.

        `settings` are settings of Postgres for its transactions.
        """
        try:
            return await within(self._settings.connect_s * 2, self._connect(settings or {}), _terminate)
        except (*CONNECTION_ERRORS, asyncpg.PostgresError) as error:
            raise unavailable(error) from error

    def unavailable(self, error: Exception) -> StoreUnavailable:
        """The error for callers. An error that only a pooler causes turns prepared statements off."""
        if isinstance(error, STATEMENT_LOST) and not self.is_pooled:
            self._found_pooler()
        return unavailable(error)

    async def ping(self, timeout: float) -> bool:  # noqa: ASYNC109 - `asyncio.timeout` would wait for a frozen server
        """Whether Postgres answers within so many seconds."""
        try:
            return await within(timeout, self._ask())
        except StoreUnavailable:
            return False

    async def aclose(self) -> None:
        """Close the pool."""
        pool, self._pool = self._pool, None
        if pool is None:
            return
        try:
            await within(CLOSE_S, pool.close())
        except (StoreUnavailable, *CONNECTION_ERRORS):
            pool.terminate()

    async def _ask(self) -> bool:
        async with self.connection() as connection:
            return bool(await connection.fetchval("select true"))

    async def _connect(self, settings: Mapping[str, str]) -> Connection:
        connection = await self._dial({**self._session(), **settings})
        with _terminated_unless_done(connection):
            await set_codecs(connection)
        return connection

    async def _dial(self, settings: Mapping[str, str], **more: Any) -> Connection:
        """A new connection. The first one that meets a pooler makes this and all later ones fit for a pooler."""
        if not self.is_pooled:
            try:
                connection: Connection = await asyncpg.connect(**self._target(), server_settings=dict(settings), **more)
            except asyncpg.ProtocolViolationError as error:
                if not refuses_parameters(error):
                    raise
            else:
                with _terminated_unless_done(connection):
                    if not await is_pooled(connection):
                        return connection
                connection.terminate()
            self._found_pooler()
        accepted = {name: value for name, value in settings.items() if name in ACCEPTED}
        pooled = await asyncpg.connect(
            **self._target(),
            server_settings=accepted,
            statement_cache_size=0,
            connection_class=PoolerConnection,
            **more,
        )
        pooled.tune({name: value for name, value in settings.items() if name not in ACCEPTED})
        return pooled

    async def _dial_for_pool(self, *_: Any, **__: Any) -> Connection:
        return await self._dial(self._session(), command_timeout=self._settings.statement_s)

    def _found_pooler(self) -> None:
        self.is_pooled = True
        log.info("postgres is behind a pooler", prepared_statements=False)
        if self._pool is not None:
            task = asyncio.ensure_future(self._pool.expire_connections())
            task.add_done_callback(_seen)

    async def _opened(self) -> Pool:
        async with self._opening:
            if self._pool is None:
                self._pool = await self._open()
            return self._pool

    async def _open(self) -> Pool:
        pool = asyncpg.create_pool(
            min_size=self._settings.pool_min,
            max_size=self._settings.pool_max,
            init=set_codecs,
            connect=self._dial_for_pool,
        )
        try:
            return await within(self._settings.connect_s * 2, _initialised(pool), asyncpg.Pool.terminate)
        except (StoreUnavailable, *CONNECTION_ERRORS, asyncpg.PostgresError) as error:
            raise unavailable(error) from error

    def _target(self) -> dict[str, Any]:
        return {"timeout": self._settings.connect_s, **connect_arguments(read_url(self._dsn))}

    def _session(self) -> dict[str, str]:
        return {
            "application_name": read_url(self._dsn).get("application_name") or self._application,
            "statement_timeout": str(int(self._settings.statement_s * 1000)),
            "idle_in_transaction_session_timeout": str(int(IDLE_IN_TRANSACTION_S * 1000)),
        }

    async def _release(self, pool: Pool, connection: PooledConnection) -> None:
        """Return a connection to the pool; terminate it if a frozen server does not reset it."""
        try:
            await within(CLOSE_S, pool.release(connection, timeout=CLOSE_S))
        except (StoreUnavailable, *CONNECTION_ERRORS):
            _terminate(connection)


async def within(seconds: float, work: Coroutine[Any, Any, T], discard: Callable[[T], object] | None = None) -> T:
    """The result of `work`. Raises StoreUnavailable after so many seconds.

    Then it cancels the work and does not wait for its end: against a frozen server, asyncpg waits twice its timeout,
    and `asyncio.timeout` would wait for asyncpg. `discard` gets a late result.
    """
    task = asyncio.ensure_future(work)
    try:
        await asyncio.wait({task}, timeout=seconds)
    except asyncio.CancelledError:
        _let_go(task, discard)
        raise
    if not task.done():
        _let_go(task, discard)
        raise StoreUnavailable(f"Postgres has not answered within {seconds:.1f} s")
    return task.result()


def unavailable(error: Exception) -> StoreUnavailable:
    """The error of the store for an error of asyncpg."""
    if isinstance(error, StoreUnavailable):
        return error
    return StoreUnavailable(f"Postgres cannot be used now: {safe_text(error)}")


@contextmanager
def _terminated_unless_done(connection: Connection) -> Iterator[None]:
    """Terminates a connection that nobody has yet if the body fails or is cancelled."""
    try:
        yield
    except BaseException:
        connection.terminate()
        raise


def _let_go(task: asyncio.Task[T], discard: Callable[[T], object] | None) -> None:
    def ended(task: asyncio.Task[T]) -> None:
        if not task.cancelled() and task.exception() is None and discard is not None:
            discard(task.result())

    task.cancel()
    task.add_done_callback(ended)


def _terminate(connection: Connection | PooledConnection) -> None:
    with suppress(asyncpg.InterfaceError):  # the pool has it back already
        connection.terminate()


def _seen(task: asyncio.Task[Any]) -> None:
    if not task.cancelled():
        task.exception()


async def _acquired(pool: Pool, seconds: float) -> PooledConnection:
    return await pool.acquire(timeout=seconds)


async def _initialised(pool: Pool) -> Pool:
    """The pool with all its first connections. Terminates it if one of them fails."""
    try:
        await pool
    except BaseException:
        pool.terminate()
        raise
    return pool


def plain_uuid(found: UUID) -> UUID:
    """The UUID as the standard library's class; orjson does not write asyncpg's own subclass."""
    return UUID(int=found.int)


async def set_codecs(connection: Any) -> None:
    """Decodes jsonb to Python values, and takes json as encoded text (bytes) for the rows of a batch."""
    await connection.set_type_codec(
        "jsonb", schema="pg_catalog", format="binary", encoder=_encode_jsonb, decoder=_decode_jsonb
    )
    await connection.set_type_codec("json", schema="pg_catalog", format="binary", encoder=bytes, decoder=orjson.loads)


def _encode_jsonb(value: object) -> bytes:
    return _JSONB_VERSION + orjson.dumps(value)


def _decode_jsonb(data: bytes) -> Any:
    return orjson.loads(data[1:])
