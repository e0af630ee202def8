"""A database that has forgotten what it had confirmed is noticed, and gets it again out of the kept segments, once."""

from __future__ import annotations

import asyncio
import os
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from structlog.testing import capture_logs

from gateway.model import Host
from gateway.record import kept
from gateway.record.journal import Journal
from gateway.record.shipper import Shipper
from gateway.settings import JournalSettings
from gateway.store.interactions import Interactions
from tests.store.samples import chat, model, record, rows_of, store, user

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    import pytest

    from gateway.model import Record
    from gateway.store.pool import Database

KEEPING = JournalSettings(segment_bytes=64 * 1024, max_bytes=16 << 20, min_free_bytes=0)
TABLES = ("chatgpt_logs", "image_logs", "api_logs", "hosts")


@dataclass
class Process:
    """One process of the gateway, as far as its records go."""

    journal: Journal
    shipper: Shipper
    database: Database

    async def keep(self, *records: Record) -> None:
        for each in records:
            self.journal.begin(each.interaction).finish(each.answer)
        async with asyncio.timeout(20):
            await self.journal.feeds[0].drained()

    async def filled(self, rows: int) -> None:
        """Wait until the database has so many rows, and nothing is to be shipped again."""
        async with asyncio.timeout(20):
            while await count(self.database) < rows or self.shipper.again.is_at_it:
                await asyncio.sleep(0.02)


@asynccontextmanager
async def process(directory: Path, database: Database, settings: JournalSettings = KEEPING) -> AsyncIterator[Process]:
    host = Host(uuid4(), "here", os.getpid(), "1", time.monotonic())
    interactions = Interactions(database, host=host)
    journal = Journal(settings, directory)
    shipper = Shipper(journal, [interactions], sink=interactions)
    await journal.open()
    await shipper.start()
    try:
        yield Process(journal, shipper, database)
    finally:
        await shipper.aclose(5)
        await journal.aclose()
        await interactions.aclose()


async def count(database: Database) -> int:
    return int((await rows_of(database, "select count(*) as n from llm_logs.chatgpt_logs"))[0]["n"])


async def hosts(database: Database) -> list[Any]:
    return await rows_of(database, "select * from llm_logs.hosts order by journal_id")


async def take_snapshot(database: Database) -> None:
    for table in TABLES:
        await rows_of(database, f"create table public.{table} as select * from llm_logs.{table}")


async def set_back(database: Database) -> None:
    """As a restore does it: all at once, to what was committed then."""
    async with database.connection() as connection, connection.transaction():
        for table in TABLES:
            await connection.execute(f"delete from llm_logs.{table}")
            await connection.execute(f"insert into llm_logs.{table} select * from public.{table}")


def turns(count: int, by: str = "ann") -> list[Record]:
    """A conversation: each turn sends all that was said before."""
    said: list[dict[str, Any]] = []
    found = []
    for number in range(count):
        said.append(user(f"{by} asks {number}"))
        found.append(chat(*said, says=f"{by} hears {number}", by=by))
        said.append(model(f"{by} hears {number}"))
    return found


async def test_a_batch_notes_how_far_its_journal_is(tmp_path: Path, database: str) -> None:
    async with store(database) as (db, _):
        async with process(tmp_path, db) as one:
            await one.keep(*turns(3))
            await one.keep(record())
            (row,) = await hosts(db)
            assert str(row["journal_id"]) == one.journal.folder.name
            assert (row["shipped"], row["waiting"], row["left_at"]) == (4, 0, None)
            assert row["cursor_segment"] == 1
        (row,) = await hosts(db)
        assert row["left_cleanly"] is True
        assert row["cursor_offset"] > 0


async def test_a7_rows_that_the_database_forgot_are_shipped_again_beside_live_traffic(
    tmp_path: Path, database: str
) -> None:
    async with store(database) as (db, _):
        async with process(tmp_path, db) as one:
            talk, other = turns(12), turns(8, "bob")
            await one.keep(*talk[:4])
            await take_snapshot(db)
            await one.keep(*talk[4:9], *other)
            await set_back(db)
            assert await count(db) == 4
            with capture_logs() as logs:
                await one.keep(*talk[9:])  # these come before what they go on from
                await one.filled(20)
                await asyncio.sleep(0.2)
            figures = one.shipper.again
            assert (figures.set_backs, figures.shipped_again, figures.gone) == (1, 13, 0)
            assert [line["event"] for line in logs if line["event"].startswith("postgres_was")] == [
                "postgres_was_set_back",
                "postgres_was_filled_again",
            ]
            assert (await hosts(db))[0]["shipped"] == 20
            await one.keep(record())  # nothing is noticed a second time
            assert one.shipper.again.set_backs == 1
        rows = await rows_of(db, "select * from llm_logs.chatgpt_logs order by user_name, id")
        assert len(rows) == 21
        for by, whole in (("ann", talk), ("bob", other)):
            found = [row for row in rows if row["user_name"] == by][: len(whole)]
            assert {row["root_gpt_id"] for row in found} == {str(whole[0].interaction.id)}
            assert [row["parent_id"] for row in found] == [None, *(each.interaction.id for each in whole[:-1])]


async def test_a7_a_database_without_any_of_our_rows_gets_all_that_is_kept(tmp_path: Path, database: str) -> None:
    async with store(database) as (db, _), process(tmp_path, db) as one:
        await take_snapshot(db)
        await one.keep(*turns(10))
        await set_back(db)
        await one.keep(*turns(2, "bob"))
        await one.filled(12)
        assert (await hosts(db))[0]["shipped"] == 12


async def test_a7_what_a_process_has_shipped_before_its_end_is_shipped_again_by_the_next(
    tmp_path: Path, database: str
) -> None:
    async with store(database) as (db, _):
        async with process(tmp_path, db) as one:
            await one.keep(*turns(5))
            await take_snapshot(db)
            await one.keep(*turns(5, "bob"))
        await set_back(db)
        async with process(tmp_path, db) as two:
            await two.filled(10)
            assert two.shipper.again.shipped_again == 5
        async with process(tmp_path, db) as three:
            await asyncio.sleep(0.3)
            assert three.shipper.again.set_backs == 0
        assert await count(db) == 10


async def test_a7_rows_whose_segments_are_gone_are_counted(tmp_path: Path, database: str) -> None:
    async with store(database) as (db, _), process(tmp_path, db) as one:
        await take_snapshot(db)
        long = "x" * 20_000
        await one.keep(*[chat(user(f"{number} {long}"), says="ok") for number in range(20)])
        for found in sorted(kept.kept_in(one.journal.folder))[:2]:
            found.path.unlink()
        left = 20 - 6  # a segment holds three
        await set_back(db)
        with capture_logs() as logs:
            await one.keep(record())
            await one.filled(left + 1)
            await asyncio.sleep(0.2)
        assert one.shipper.again.gone == 6
        assert [line["records"] for line in logs if line["event"] == "records_gone"] == [6]


async def test_a_database_that_is_ahead_was_not_set_back(tmp_path: Path, database: str) -> None:
    async with store(database) as (db, _), process(tmp_path, db) as one:
        await one.keep(*turns(3))
        await rows_of(db, "update llm_logs.hosts set shipped = shipped + 100, cursor_segment = 9")
        await one.keep(*turns(3, "bob"))
        assert one.shipper.again.set_backs == 0
        assert (await hosts(db))[0]["shipped"] == 106


async def test_a_process_that_dies_while_it_ships_again_leaves_the_rest_to_the_next(
    tmp_path: Path, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with store(database) as (db, _):
        async with process(tmp_path, db) as one:
            await take_snapshot(db)
            await one.keep(*turns(10))
            await set_back(db)

            async def never(self: object, ids: object) -> set[object]:
                await asyncio.Event().wait()
                return set()

            with monkeypatch.context() as patch:
                patch.setattr(Interactions, "missing", never)
                await one.keep(*turns(15, "bob"))  # more than was lost: the count alone shows nothing
                await asyncio.sleep(0.1)
        assert await count(db) == 15
        async with process(tmp_path, db) as two:
            await two.filled(25)
        assert await count(db) == 25


async def test_journals_that_are_kept_are_compared_while_nothing_is_shipped(tmp_path: Path, database: str) -> None:
    """Two processes in one directory: the one that is still there sees to what the other has left."""
    async with store(database) as (db, _), process(tmp_path, db) as one:
        async with process(tmp_path, db) as two:
            await take_snapshot(db)
            await two.keep(*turns(6))
        await one.keep(record())
        await set_back(db)
        await one.keep(record())
        await one.filled(8)
        assert one.shipper.again.set_backs == 2
