"""Watches the database: brings its schema up to date, says what ails it, and begins to ship when it can take rows."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

import structlog

from gateway.errors import StoreUnavailable, StoreUnusable
from gateway.resources import resource_folder
from gateway.store.condition import OLDEST_SERVER, lock_holder, look, refuse_unusable, schema_of
from gateway.store.migrations import LOCK, migrate, read_migrations
from gateway.store.pool import within

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine
    from pathlib import Path

    from gateway.shipping.shipper import Shipper
    from gateway.store.change_feed import ChangeFeed
    from gateway.store.condition import Condition, Schema
    from gateway.store.partitions import Partitions
    from gateway.store.pool import Connection, Database
    from gateway.store.reports import Reports

LOOK_S = 1.0  # between two looks at the database, and what one may take
START_S = 2.0  # what is prepared within this time is so before the port opens
RETRY_S = 2.0
CLOSE_S = 1.0
GIVEN_UP_S = 30.0  # a server that was away for so long has forgotten what we asked it to do
REPORT_S = 10.0
FORGET_S = 300.0
PARTITIONS_S = 60.0
SEARCH_S = 10.0  # what has come since is looked through by every search
NO_TABLES = (
    "the schema llm_logs is gone, although the table schema_migrations lists its versions: drop that table, too, and "
    "the schema is made again"
)
KEPT = timedelta(hours=1)  # who was away for longer than that looks for what came meanwhile

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class DatabaseState:
    """For readiness. `word` is ok, read-only, unprepared or away; `detail` says why, or what is odd."""

    word: str = "away"
    detail: str | None = "it has not answered yet"
    server: str | None = None  # its version
    schema: str | None = None  # the newest version that the database has
    known_schema: str | None = None
    is_pooled: bool = False


class Maintenance:
    """Looks at the database each second over a connection of its own, so that neither readers nor a frozen server delay
    what is known of it. A schema that is missing or old, also later on, is brought up to date beside the traffic."""

    def __init__(self, database: Database, shipper: Shipper, directory: Path | None = None) -> None:
        """`directory` is that of the migrations."""
        self._database = database
        self._shipper = shipper
        self._directory = directory or resource_folder("sql")
        self._known = [one.version for one in read_migrations(self._directory)]
        self._connection: Connection | None = None
        self._connecting: asyncio.Task[Connection] | None = None
        self._watch: asyncio.Task[None] | None = None
        self._work: asyncio.Task[None] | None = None  # on the schema
        self._refusal: str | None = None  # why the schema could not be brought up to date
        self._retry_at = 0.0
        self._answered_at = time.monotonic()
        self._is_shipping = False
        self._has_tried = asyncio.Event()
        self._worked = asyncio.Event()
        self._told: set[str | None] = set()  # why it is away, so that each reason is logged once
        self.state = DatabaseState()

    async def start(self) -> None:
        """Returns after START_S at the latest: whatever Postgres does, the gateway serves."""
        self._watch = asyncio.create_task(self._for_ever(), name="upkeep")
        with suppress(TimeoutError):
            async with asyncio.timeout(START_S):
                await self._has_tried.wait()

    async def aclose(self) -> None:
        for task in (self._watch, self._work, self._connecting):
            if task is not None:
                task.cancel()
        ending = {task for task in (self._watch, self._work, self._connecting) if task is not None}
        if ending:
            await asyncio.wait(ending, timeout=CLOSE_S)
        connecting = self._connecting
        if connecting is not None and connecting.done() and not connecting.cancelled() and not connecting.exception():
            connecting.result().terminate()
        self._disconnect()

    async def _for_ever(self) -> None:
        while True:
            try:
                self._note(await self._look())
            except StoreUnusable as error:
                self._note(DatabaseState("unprepared", error.message))
            except StoreUnavailable as error:
                self._disconnect()
                self._note(DatabaseState("away", error.message))
            except Exception:  # the task's outermost loop: the next look may succeed
                log.exception("the database cannot be looked at")
            if not self._is_working:
                self._has_tried.set()
            self._worked.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_S):
                    await self._worked.wait()

    async def _look(self) -> DatabaseState:
        """Sees to what is missing, too. Raises StoreUnavailable, StoreUnusable."""
        connection = await self._connected()
        found = await within(LOOK_S, look(connection))
        self._answered_at = time.monotonic()
        if found.is_read_only:
            self._disconnect()  # a session stays read-only when its database or role is no longer so
        schema = schema_of(found.applied, self._known)
        if schema.missing:
            return self._state(found, "unprepared", await self._prepare(connection, found, schema))
        if found.lacks_tables:
            return self._state(found, "unprepared", NO_TABLES)
        if not self._is_shipping:
            self._begin(self._bring_up_to_date())
            return self._state(found, "unprepared", self._refusal or "shipping begins")
        if found.is_read_only:
            return self._state(found, "read-only", "it takes no writes now: records wait in the journal")
        return self._state(found, "ok", schema.remark)

    async def _prepare(self, connection: Connection, found: Condition, schema: Schema) -> str:
        """Begins to bring the schema up to date; how that stands."""
        refuse_unusable(schema)
        lack = f"its schema lacks version {schema.missing[0]}"
        if found.major < OLDEST_SERVER:
            return f"{lack}, and PostgreSQL {found.server} is too old for it ({OLDEST_SERVER} is not)"
        if found.is_read_only:
            return f"{lack}, and it takes no writes now"
        self._begin(self._bring_up_to_date())
        if not self._is_working:
            return self._refusal or lack
        holder = await within(LOOK_S, lock_holder(connection, LOCK))
        return f"{lack}, which is being made" + (f"; the migration lock is held by {holder}" if holder else "")

    def _state(self, found: Condition, word: str, detail: str | None) -> DatabaseState:
        ours = [version for version in found.applied if len(version) == len(self._known[-1])]
        newest = max(ours, default=None)
        return DatabaseState(word, detail, found.server, newest, self._known[-1], self._database.is_pooled)

    @property
    def _is_working(self) -> bool:
        return self._work is not None and not self._work.done()

    def _begin(self, work: Coroutine[None, None, None]) -> None:
        """One piece of work at a time, and none right after one that failed."""
        if self._is_working or time.monotonic() < self._retry_at:
            work.close()
            return
        self._work = asyncio.create_task(self._do(work), name="upkeep's work")

    async def _do(self, work: Coroutine[None, None, None]) -> None:
        try:
            await work
        except StoreUnavailable as error:
            self._refusal = error.message
            self._retry_at = time.monotonic() + RETRY_S
        except Exception:
            self._refusal = "a fault of the gateway, which its log describes"
            self._retry_at = time.monotonic() + RETRY_S
            log.exception("the database's upkeep failed")
        else:
            self._refusal = None
        finally:
            self._worked.set()

    async def _bring_up_to_date(self) -> None:
        await migrate(self._database, self._directory)
        await self._shipper.start()
        self._is_shipping = True

    async def _connected(self) -> Connection:
        """The connection, which a slow network may take several looks to make."""
        if self._connection is not None and not self._connection.is_closed():
            return self._connection
        if self._connecting is None:
            self._connecting = asyncio.create_task(self._database.connect(), name="upkeep's connection")
        await asyncio.wait({self._connecting}, timeout=LOOK_S)
        if not self._connecting.done():
            raise StoreUnavailable(f"Postgres has not answered within {LOOK_S:.1f} s")
        connecting, self._connecting = self._connecting, None
        self._connection = connecting.result()
        return self._connection

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None
        if self._work is not None and time.monotonic() - self._answered_at > GIVEN_UP_S:
            self._work.cancel()

    def _note(self, state: DatabaseState) -> None:
        """Keeps the state, and logs what is new about it."""
        before, self.state = self.state, state
        if state.word == "away":
            if state.detail not in self._told:
                self._told.add(state.detail)
                log.warning("serving without postgres: what is said waits in the journal", error=state.detail)
            return
        self._told.clear()
        if (state.word, state.detail) == (before.word, before.detail):
            return
        if state.word == "ok":
            log.info("postgres is there", server=state.server, schema=state.schema, pooled=state.is_pooled)
        elif self._is_working:
            log.info("the database is being prepared", detail=state.detail)
        else:
            log.error("the database cannot be used", word=state.word, error=state.detail)


class Chore:
    """What is to be done in the database now and then. When that is away, the next time will do."""

    def __init__(self, name: str, every_s: float, work: Callable[[], Awaitable[object]]) -> None:
        self._name = name
        self._every_s = every_s
        self._work = work
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._for_ever(), name=self._name)

    async def aclose(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    async def _for_ever(self) -> None:
        while True:
            await asyncio.sleep(self._every_s)
            try:
                await self._work()
            except StoreUnavailable as error:
                log.debug("a chore is not done", chore=self._name, error=error.message)
            except Exception:  # the task's outermost loop: the next time may go well
                log.exception("a chore failed", chore=self._name)


def refreshing(reports: Reports) -> Chore:
    """Adds up what the report shows, so that who asks for it waits for the last seconds' rows only."""

    async def refresh() -> None:
        while await reports.refresh():
            pass

    return Chore("report upkeep", REPORT_S, refresh)


def forgetting(arrivals: ChangeFeed) -> Chore:
    """Forgets arrivals that nobody comes back for any more."""
    return Chore("arrivals upkeep", FORGET_S, lambda: arrivals.forget(KEPT))


def partitioning(partitions: Partitions) -> Chore:
    """Makes the months' partitions ahead of time, and moves what is in their way."""
    return Chore("partitions", PARTITIONS_S, partitions.keep)


def sorting_in(partitions: Partitions) -> Chore:
    """Sorts new rows into the search indexes, so that no insert has to."""
    return Chore("search indexes", SEARCH_S, partitions.clean_search)
