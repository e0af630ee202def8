"""The way of a record from the journal into Postgres, while Postgres is stopped, killed, frozen and restarted."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from gateway.journal.journal import Journal
from gateway.model import Record
from gateway.settings import JournalSettings
from gateway.shipping.shipper import Shipper
from gateway.store.interactions import Interactions
from gateway.store.migrations import migrate
from gateway.store.pool import Database
from tests.journal.samples import answer, interaction
from tests.postgres import running_postgres
from tests.store.samples import IMPATIENT, SQL, chat, rows_of, user

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path
    from uuid import UUID

    from tests.postgres import PostgresServer

JOURNAL = JournalSettings(min_free_bytes=0)


@pytest.fixture(scope="module")
def own_postgres() -> Iterator[PostgresServer]:
    with running_postgres({"max_connections": "50"}) as server:  # with fsync: it will be killed
        yield server


class House:
    """Journal, shipper and store as the application has them, and the ledger of what was told to be recorded."""

    def __init__(self, directory: Path, dsn: str) -> None:
        self.database = Database(dsn, IMPATIENT)
        self.interactions = Interactions(self.database)
        self.journal = Journal(JOURNAL, directory)
        self.shipper = Shipper(self.journal, [self.interactions])
        self.ledger: dict[UUID, bytes] = {}

    def say(self, count: int = 1) -> None:
        for _ in range(count):
            number = len(self.ledger)
            said = chat(user(f"question {number}"), says=f"answer {number}")
            self.journal.begin(said.interaction).finish(said.answer)
            self.ledger[said.interaction.id] = said.answer.body

    async def talk(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            self.say(5)
            await asyncio.sleep(0.01)

    async def shipped(self, patience: float = 30) -> None:
        async with asyncio.timeout(patience):
            while self.shipper.state().pending:
                await asyncio.sleep(0.02)


@asynccontextmanager
async def house(directory: Path, dsn: str, deadline_s: float = 10) -> AsyncIterator[House]:
    it = House(directory, dsn)
    await it.journal.open()
    await it.shipper.start()
    try:
        yield it
    finally:
        await it.shipper.aclose(deadline_s)
        await it.interactions.aclose()
        await it.journal.aclose()
        await it.database.aclose()


async def fresh(server: PostgresServer) -> str:
    dsn = await asyncio.to_thread(server.create_database)
    database = Database(dsn, IMPATIENT)
    await migrate(database, SQL)
    await database.aclose()
    return dsn


async def assert_complete(it: House) -> None:
    """Every record of the ledger is a row, no row is another, and each says what was said."""
    sql = "select id, response->'choices'->0->'message'->>'content' as said from llm_logs.chatgpt_logs"
    rows = await rows_of(it.database, sql)
    assert len(rows) == len(it.ledger)
    for row in rows:
        assert f'"content":"{row["said"]}"'.encode() in it.ledger[row["id"]]


async def test_a_stopped_server_is_waited_for(own_postgres: PostgresServer, tmp_path: Path) -> None:
    async with house(tmp_path, await fresh(own_postgres)) as it:
        await it.talk(0.3)
        await asyncio.to_thread(own_postgres.stop)
        await it.talk(0.7)
        assert it.shipper.state().fault is not None
        await asyncio.to_thread(own_postgres.start)
        await it.talk(0.3)
        await it.shipped()
        await assert_complete(it)


async def test_a_server_killed_again_and_again_loses_and_doubles_nothing(
    own_postgres: PostgresServer, tmp_path: Path
) -> None:
    async with house(tmp_path, await fresh(own_postgres)) as it:
        for _ in range(3):
            talking = asyncio.create_task(it.talk(1.0))
            await asyncio.sleep(0.3)
            pid = own_postgres.pid
            own_postgres.crash()
            await asyncio.to_thread(own_postgres.wait_for_restart, pid)
            await talking
        await it.shipped()
        await assert_complete(it)


@pytest.mark.stopwatch
async def test_a_frozen_server_is_waited_for_and_the_loop_goes_on(own_postgres: PostgresServer, tmp_path: Path) -> None:
    async with house(tmp_path, await fresh(own_postgres)) as it:
        await it.talk(0.2)
        await asyncio.to_thread(own_postgres.freeze)
        try:
            longest = 0.0
            until = time.monotonic() + 6  # longer than a statement may take: it is broken off, its outcome unknown
            while time.monotonic() < until:
                started = time.monotonic()
                it.say()
                await asyncio.sleep(0.01)
                longest = max(longest, time.monotonic() - started)
            assert longest < 1.5  # a statement is waited for for at least two
        finally:
            await asyncio.to_thread(own_postgres.thaw)
        await it.shipped()
        await assert_complete(it)


@pytest.mark.stopwatch
async def test_a_frozen_server_does_not_hang_the_end(own_postgres: PostgresServer, tmp_path: Path) -> None:
    dsn = await fresh(own_postgres)
    async with house(tmp_path, dsn, deadline_s=0.5) as it:
        await it.talk(0.2)
        await it.shipped()
        await asyncio.to_thread(own_postgres.freeze)
        it.say(10)
        await asyncio.sleep(0.2)
        started = time.monotonic()
    try:
        assert time.monotonic() - started < 5
    finally:
        await asyncio.to_thread(own_postgres.thaw)
    async with house(tmp_path, dsn) as again:
        again.ledger = it.ledger
        async with asyncio.timeout(20):
            while len(await rows_of(again.database, "select id from llm_logs.chatgpt_logs")) < len(it.ledger):
                await asyncio.sleep(0.05)
        await assert_complete(again)


async def test_a_poisoned_record_is_kept_as_bytes_and_the_rest_goes_on(
    own_postgres: PostgresServer, tmp_path: Path
) -> None:
    refuse = "create index on llm_logs.chatgpt_logs (((request ->> 'n')::integer))"
    dsn = await fresh(own_postgres)
    await asyncio.to_thread(own_postgres.execute, refuse, dsn)
    async with house(tmp_path, dsn) as it:
        it.say(20)
        poison = Record(interaction(b'{"n":"poison"}'), answer())
        it.journal.begin(poison.interaction).finish(poison.answer)
        it.say(20)
        await it.shipped()
        rows = await rows_of(it.database, "select id, request_raw, response_raw from llm_logs.chatgpt_logs")
        assert len(rows) == 41
        (row,) = [row for row in rows if row["request_raw"] is not None]
        assert row["id"] == poison.interaction.id
        assert (row["request_raw"], row["response_raw"]) == (poison.interaction.body, poison.answer.body)
        assert it.shipper.state().quarantined == 0


async def test_one_journals_records_shipped_twice_are_rows_once(own_postgres: PostgresServer, tmp_path: Path) -> None:
    """As after a crash between the commit and the cursor."""
    dsn = await fresh(own_postgres)
    async with house(tmp_path, dsn) as it:
        it.say(50)
        entry = it.journal.begin(chat(user("open")).interaction)
        await it.shipped()
        it.ledger[entry.id] = b'"content":"None"'
        (it.journal.folder / "postgres.cursor").unlink()
    async with house(tmp_path, dsn) as again:
        async with asyncio.timeout(20):
            while len(await rows_of(again.database, "select id from llm_logs.chatgpt_logs")) < 51:
                await asyncio.sleep(0.05)
        again.ledger = it.ledger
        await assert_complete(again)
