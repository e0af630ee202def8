"""Connections to Postgres: a bounded pool that opens when it is needed, and calls that a frozen server cannot hang."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import asyncpg
import orjson
import structlog

from gateway.errors import StoreUnavailable, safe_text
from gateway.settings.database_url import read_url
from gateway.store.dsn import connect_arguments
from gateway.store.pooler import STATEMENT_LOST, TAKEN, PoolerConnection, is_pooled, refuses_parameters

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

# What says nothing about the statement: no connection, or one that broke; a server that stops, is full, or too slow.
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
    """One Postgres. Nothing connects before the first use, so that the gateway starts without it."""

    def __init__(self, dsn: str, settings: StoreSettings, application: str = APPLICATION) -> None:
        self._dsn = dsn
        self._settings = settings
        self._application = application
        self._pool: Pool | None = None
        self._opening = asyncio.Lock()
        self.is_pooled = False  # by a pooler in front of Postgres, as far as is known

    @property
    def dsn(self) -> str:
        """A secret: it may hold a password."""
        return self._dsn

    @property
    def statement_s(self) -> float:
        return self._settings.statement_s

    def state(self) -> PoolState:
        pool = self._pool
        size = pool.get_size() if pool is not None else 0
        return PoolState(size, size - pool.get_idle_size() if pool is not None else 0, self._settings.pool_max)

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[PooledConnection]:
        """One from the pool, for statements of one's own. Raises StoreUnavailable, also for what fails in its body."""
        pool = await self._opened()
        patience = self._settings.connect_s + self._settings.statement_s
        try:
            connection = await within(patience, _acquired(pool, patience), _terminate)
        except (*CONNECTION_ERRORS, asyncpg.PostgresError) as error:
            raise unavailable(error) from error
        try:
            yield connection
        except asyncpg.ReadOnlySQLTransactionError as error:
            connection.terminate()  # a session stays read-only when its database or role is no longer so
            raise unavailable(error) from error
        except (*CONNECTION_ERRORS, *STATEMENT_LOST) as error:
            raise self.unavailable(error) from error
        finally:
            await self._release(pool, connection)

    @asynccontextmanager
    async def asking(self) -> AsyncIterator[PooledConnection]:
        """The same for statements that no caller can make wrong: what Postgres refuses then is StoreUnavailable, too.
        So it is with a table that is not there yet, for Postgres came back a moment ago."""
        async with self.connection() as connection:
            try:
                yield connection
            except (asyncpg.ReadOnlySQLTransactionError, *STATEMENT_LOST):
                raise
            except asyncpg.PostgresError as error:
                raise unavailable(error) from error

    async def connect(self, settings: Mapping[str, str] | None = None) -> Connection:
        """A connection outside of the pool, of which the caller takes care; `settings` are Postgres' own, and hold in
        its transactions. Raises StoreUnavailable."""
        try:
            return await within(self._settings.connect_s * 2, self._connect(settings or {}), _terminate)
        except (*CONNECTION_ERRORS, asyncpg.PostgresError) as error:
            raise unavailable(error) from error

    def unavailable(self, error: Exception) -> StoreUnavailable:
        """The error for callers. One that only a pooler causes is the last of its kind."""
        if isinstance(error, STATEMENT_LOST) and not self.is_pooled:
            self._found_pooler()
        return unavailable(error)

    async def ping(self, timeout: float) -> bool:  # noqa: ASYNC109 - a frozen server outlasts a scope
        """Whether Postgres answers within so many seconds."""
        try:
            return await within(timeout, self._ask())
        except StoreUnavailable:
            return False

    async def aclose(self) -> None:
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
        """Connects. A pooler is recognised here, and every connection made for it from then on."""
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
        taken = {name: value for name, value in settings.items() if name in TAKEN}
        pooled = await asyncpg.connect(
            **self._target(), server_settings=taken, statement_cache_size=0, connection_class=PoolerConnection, **more
        )
        pooled.tune({name: value for name, value in settings.items() if name not in TAKEN})
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
        """Back to the pool; what a frozen server keeps us from resetting is thrown away."""
        try:
            await within(CLOSE_S, pool.release(connection, timeout=CLOSE_S))
        except (StoreUnavailable, *CONNECTION_ERRORS):
            _terminate(connection)


async def within(seconds: float, work: Coroutine[Any, Any, T], discard: Callable[[T], object] | None = None) -> T:
    """The result, or StoreUnavailable after so many seconds.

    The work is a task that is cancelled then, but not waited for: against a frozen server asyncpg waits twice as long
    as it is told to, and `asyncio.timeout` would wait for it. `discard` gets a result that comes all the same.
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
    if isinstance(error, StoreUnavailable):
        return error
    return StoreUnavailable(f"Postgres cannot be used now: {safe_text(error)}")


@contextmanager
def _terminated_unless_done(connection: Connection) -> Iterator[None]:
    """Nobody else has it yet, and who waits for it may be cancelled."""
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
    with suppress(asyncpg.InterfaceError):  # its pool has taken it back
        connection.terminate()


def _seen(task: asyncio.Task[Any]) -> None:
    if not task.cancelled():
        task.exception()


async def _acquired(pool: Pool, patience: float) -> PooledConnection:
    return await pool.acquire(timeout=patience)


async def _initialised(pool: Pool) -> Pool:
    """The pool with its first connections; without all of them it has none."""
    try:
        await pool
    except BaseException:
        pool.terminate()
        raise
    return pool


async def set_codecs(connection: Any) -> None:
    """jsonb as Python values; json as text that is ready (bytes), for rows that are pasted together."""
    await connection.set_type_codec(
        "jsonb", schema="pg_catalog", format="binary", encoder=_encode_jsonb, decoder=_decode_jsonb
    )
    await connection.set_type_codec("json", schema="pg_catalog", format="binary", encoder=bytes, decoder=orjson.loads)


def _encode_jsonb(value: object) -> bytes:
    return _JSONB_VERSION + orjson.dumps(value)


def _decode_jsonb(data: bytes) -> Any:
    return orjson.loads(data[1:])
