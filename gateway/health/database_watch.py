"""DatabaseWatch: migrates the database, reports its state, and starts the shipper when the database takes rows."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from gateway.errors import StoreUnavailable, StoreUnusable
from gateway.polling import wait_at_most
from gateway.resources import resource_folder
from gateway.store.condition import OLDEST_SERVER, lock_holder, look, refuse_unusable, schema_of
from gateway.store.migrations import LOCK, migrate, read_migrations
from gateway.store.pool import within

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from pathlib import Path

    from gateway.shipping.shipper import Shipper
    from gateway.store.condition import Condition, Schema
    from gateway.store.pool import Connection, Database

CHECK_S = 1.0  # between two checks of the database, and the limit of one
START_S = 2.0  # the port opens after this time at the latest, whether or not the database is prepared
RETRY_S = 2.0
CLOSE_S = 1.0
OUTAGE_S = 30.0  # after so long the server has dropped the work that we began before
NO_TABLES = (
    "the schema llm_logs is gone, although the table schema_migrations lists its versions: drop that table, too, and "
    "the schema is made again"
)

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class DatabaseState:
    """For readiness. `status` is ok, read-only, unprepared or away; `detail` is the reason, or a remark."""

    status: str = "away"
    detail: str | None = "it has not answered yet"
    server: str | None = None  # its version
    schema: str | None = None  # the newest version that the database has
    known_schema: str | None = None
    is_pooled: bool = False


class DatabaseWatch:
    """Checks the database each second over a connection of its own, so that readers do not delay the check.

    Migrates a schema that is missing or old, also later on, beside live traffic.
    """

    def __init__(self, database: Database, shipper: Shipper, directory: Path | None = None) -> None:
        """`directory` contains the migrations."""
        self._database = database
        self._shipper = shipper
        self._directory = directory or resource_folder("sql")
        self._known = [one.version for one in read_migrations(self._directory)]
        self._connection: Connection | None = None
        self._connecting: asyncio.Task[Connection] | None = None
        self._task: asyncio.Task[None] | None = None
        self._work: asyncio.Task[None] | None = None  # on the schema
        self._refusal: str | None = None  # why the schema could not be migrated
        self._retry_at = 0.0
        self._answered_at = time.monotonic()
        self._is_shipping = False
        self._has_tried = asyncio.Event()
        self._work_ended = asyncio.Event()
        self._logged: set[str | None] = set()  # reasons of the current outage, each of which is logged once
        self._logged_faults: set[str | None] = set()  # the same while it answers, until it is ok
        self.state = DatabaseState()

    async def start(self) -> None:
        """Returns after START_S at the latest: the gateway serves whatever PostgreSQL does."""
        self._task = asyncio.create_task(self._run(), name="watch database")
        await wait_at_most(START_S, self._has_tried)

    async def aclose(self) -> None:
        for task in (self._task, self._work, self._connecting):
            if task is not None:
                task.cancel()
        ending = {task for task in (self._task, self._work, self._connecting) if task is not None}
        if ending:
            await asyncio.wait(ending, timeout=CLOSE_S)
        connecting = self._connecting
        if connecting is not None and connecting.done() and not connecting.cancelled() and not connecting.exception():
            connecting.result().terminate()
        self._disconnect()

    async def _run(self) -> None:
        while True:
            try:
                self._set_state(await self._check())
            except StoreUnusable as error:
                self._set_state(DatabaseState("unprepared", error.message))
            except StoreUnavailable as error:
                self._disconnect()
                self._set_state(DatabaseState("away", error.message))
            except Exception:  # the task's outermost loop: the next check may succeed
                log.exception("database_check_failed")
            if not self._is_working:
                self._has_tried.set()
            self._work_ended.clear()
            await wait_at_most(CHECK_S, self._work_ended)

    async def _check(self) -> DatabaseState:
        """Returns the state, and begins the work that is due. Raises StoreUnavailable, StoreUnusable."""
        connection = await self._connected()
        found = await within(CHECK_S, look(connection))
        self._answered_at = time.monotonic()
        if found.is_read_only:
            self._disconnect()  # a session stays read-only after its database or role is writable again
        schema = schema_of(found.applied, self._known)
        if schema.missing:
            return self._state(found, "unprepared", await self._prepare(connection, found, schema))
        if found.lacks_tables:
            return self._state(found, "unprepared", NO_TABLES)
        if not self._is_shipping:
            self._begin(self._migrate_and_ship())
            return self._state(found, "unprepared", self._refusal or "shipping begins")
        if found.is_read_only:
            return self._state(found, "read-only", "it takes no writes now: records wait in the journal")
        return self._state(found, "ok", schema.remark)

    async def _prepare(self, connection: Connection, found: Condition, schema: Schema) -> str:
        """Begins to migrate the schema. Returns how far that is."""
        refuse_unusable(schema)
        lack = f"its schema lacks version {schema.missing[0]}"
        if found.major < OLDEST_SERVER:
            return f"{lack}, and PostgreSQL {found.server} is too old for it ({OLDEST_SERVER} is not)"
        if found.is_read_only:
            return f"{lack}, and it takes no writes now"
        self._begin(self._migrate_and_ship())
        if not self._is_working:
            return self._refusal or lack
        holder = await within(CHECK_S, lock_holder(connection, LOCK))
        return f"{lack}, which is being made" + (f"; the migration lock is held by {holder}" if holder else "")

    def _state(self, found: Condition, status: str, detail: str | None) -> DatabaseState:
        ours = [version for version in found.applied if len(version) == len(self._known[-1])]
        newest = max(ours, default=None)
        return DatabaseState(status, detail, found.server, newest, self._known[-1], self._database.is_pooled)

    @property
    def _is_working(self) -> bool:
        return self._work is not None and not self._work.done()

    def _begin(self, work: Coroutine[None, None, None]) -> None:
        """Starts one piece of work at a time; after a failure only when RETRY_S is over."""
        if self._is_working or time.monotonic() < self._retry_at:
            work.close()
            return
        self._work = asyncio.create_task(self._run_work(work), name="prepare database")

    async def _run_work(self, work: Coroutine[None, None, None]) -> None:
        try:
            await work
        except StoreUnavailable as error:
            self._refusal = error.message
            self._retry_at = time.monotonic() + RETRY_S
        except Exception:
            self._refusal = "a fault of the gateway, which its log describes"
            self._retry_at = time.monotonic() + RETRY_S
            log.exception("database_work_failed")
        else:
            self._refusal = None
        finally:
            self._work_ended.set()

    async def _migrate_and_ship(self) -> None:
        await migrate(self._database, self._directory)
        await self._shipper.start()
        self._is_shipping = True

    async def _connected(self) -> Connection:
        """Returns the connection. On a slow network it takes several checks to make one."""
        if self._connection is not None and not self._connection.is_closed():
            return self._connection
        if self._connecting is None:
            self._connecting = asyncio.create_task(self._database.connect(), name="connect to watch database")
        await asyncio.wait({self._connecting}, timeout=CHECK_S)
        if not self._connecting.done():
            raise StoreUnavailable(f"Postgres has not answered within {CHECK_S:.1f} s")
        connecting, self._connecting = self._connecting, None
        self._connection = connecting.result()
        return self._connection

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None
        if self._work is not None and time.monotonic() - self._answered_at > OUTAGE_S:
            self._work.cancel()

    def _set_state(self, state: DatabaseState) -> None:
        """Stores the state, and logs a change."""
        before, self.state = self.state, state
        if state.status == "away":
            if state.detail not in self._logged:
                self._logged.add(state.detail)
                log.warning(
                    "postgres_is_away", error=state.detail, hint="the gateway serves; records wait in the journal"
                )
            return
        self._logged.clear()
        if (state.status, state.detail) == (before.status, before.detail):
            return
        if state.status == "ok":
            self._logged_faults.clear()
            log.info("postgres_is_up", server=state.server, schema=state.schema, pooled=state.is_pooled)
            return
        if state.detail in self._logged_faults:
            return
        self._logged_faults.add(state.detail)
        if self._is_working:
            log.info("database_is_being_prepared", detail=state.detail)
        else:
            log.error("database_unusable", status=state.status, error=state.detail)
