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

from gateway.errors import StoreUnavailable
from gateway.journal import archive
from gateway.journal.journal import Journal
from gateway.model import ConversationEdit, Host, Principal
from gateway.settings import JournalSettings
from gateway.shipping.edit_log import FILE, EditLog, read_edits
from gateway.shipping.quarantine import Quarantine
from gateway.shipping.quarantine_retry import retry_quarantined
from gateway.shipping.reshipping import ReshipOptions
from gateway.shipping.shipped_records import ShippedRecords
from gateway.shipping.shipper import Shipper, ShipperOptions
from gateway.store.conversation_settings import ConversationSettings
from gateway.store.interactions import Interactions
from tests.polling import until
from tests.store.samples import chat, model, record, rows_of, store, user

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    import pytest

    from gateway.model import Record
    from gateway.store.pool import Database

KEEPING = JournalSettings(segment_bytes=64 * 1024, max_bytes=16 << 20, min_free_bytes=0)
RESHIP = ReshipOptions()
TABLES = ("chatgpt_logs", "image_logs", "api_logs", "hosts")


@dataclass
class Process:
    """One process of the gateway, as far as its records go."""

    journal: Journal
    shipper: Shipper
    database: Database
    by_hand: ConversationSettings

    async def keep(self, *records: Record) -> None:
        for each in records:
            self.journal.begin(each.interaction).finish(each.answer)
        async with asyncio.timeout(20):
            await self.journal.subscriptions[0].drained()

    async def filled(self, rows: int) -> None:
        """Wait until the database has so many rows, and nothing is to be shipped again."""

        async def is_filled() -> bool:
            return await count(self.database) >= rows and not self.shipper.reship.is_running

        await until(is_filled, timeout_s=20, period_s=0.02)


@asynccontextmanager
async def process(
    directory: Path, database: Database, settings: JournalSettings = KEEPING, reship: ReshipOptions = RESHIP
) -> AsyncIterator[Process]:
    host = Host(uuid4(), "here", os.getpid(), "1", time.monotonic())
    interactions = Interactions(database, host=host)
    journal = Journal(settings, directory)
    by_hand = ConversationSettings(database, EditLog(journal.folder, settings.shipped_s).add)
    shipper = Shipper(
        journal,
        [interactions],
        store=interactions,
        apply_edits=by_hand.apply_again,
        options=ShipperOptions(reship=reship),
    )
    await journal.open()
    await shipper.start()
    try:
        yield Process(journal, shipper, database, by_hand)
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


async def test_a_batch_saves_the_progress_of_its_journal(tmp_path: Path, database: str) -> None:
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
            figures = one.shipper.reship
            assert (figures.set_backs, figures.reshipped, figures.gone) == (1, 13, 0)
            assert [line["event"] for line in logs if line["event"].startswith("postgres_was")] == [
                "postgres_was_set_back",
                "postgres_was_filled_again",
            ]
            assert (await hosts(db))[0]["shipped"] == 20
            await one.keep(record())  # nothing is noticed a second time
            assert one.shipper.reship.set_backs == 1
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
            assert two.shipper.reship.reshipped == 5
        async with process(tmp_path, db) as three:
            await asyncio.sleep(0.3)
            assert three.shipper.reship.set_backs == 0
        assert await count(db) == 10


async def test_a7_rows_whose_segments_are_gone_are_counted(tmp_path: Path, database: str) -> None:
    async with store(database) as (db, _), process(tmp_path, db) as one:
        await take_snapshot(db)
        long = "x" * 20_000
        await one.keep(*[chat(user(f"{number} {long}"), says="ok") for number in range(20)])
        for found in sorted(archive.archived_in(one.journal.folder))[:2]:
            found.path.unlink()
        left = 20 - 6  # a segment holds three
        await set_back(db)
        with capture_logs() as logs:
            await one.keep(record())
            await one.filled(left + 1)
            await asyncio.sleep(0.2)
        assert one.shipper.reship.gone == 6
        assert [line["records"] for line in logs if line["event"] == "records_gone"] == [6]


async def test_a_database_that_is_ahead_was_not_set_back(tmp_path: Path, database: str) -> None:
    async with store(database) as (db, _), process(tmp_path, db) as one:
        await one.keep(*turns(3))
        await rows_of(db, "update llm_logs.hosts set shipped = shipped + 100, cursor_segment = 9")
        await one.keep(*turns(3, "bob"))
        assert one.shipper.reship.set_backs == 0
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


REFUSE_BOB = "alter table llm_logs.chatgpt_logs add constraint c check (user_name <> 'bob') not valid"
REFUSE_NONE = "alter table llm_logs.chatgpt_logs drop constraint c"


async def test_a7_rows_that_came_from_the_retry_spool_are_missed_too(tmp_path: Path, database: str) -> None:
    """Nothing else has come since the snapshot, and their segments are gone, for they had waited for long."""
    async with store(database) as (db, _), process(tmp_path, db, reship=ReshipOptions(check_s=0.1)) as one:
        await one.keep(record())
        await rows_of(db, REFUSE_BOB)
        await one.keep(*turns(3, "bob"), *turns(3))
        assert one.shipper.state().retrying == 3
        await take_snapshot(db)
        await rows_of(db, REFUSE_NONE)
        await until(lambda: one.shipper.state().retrying == 0, timeout_s=20)
        for path in one.journal.folder.glob("*.seg"):
            path.write_bytes(b"")
        await set_back(db)
        await one.filled(7)
        figures = one.shipper.reship
        assert (figures.set_backs, figures.reshipped, figures.gone) == (1, 3, 0)


async def test_a7_what_was_kept_of_a_batch_before_the_database_was_set_back_is_kept_again(
    tmp_path: Path, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rest of the batch takes longer than all that is shipped again."""
    keep = Interactions.keep
    async with store(database) as (db, _), process(tmp_path, db, reship=ReshipOptions(check_s=0.05)) as one:
        await rows_of(db, REFUSE_BOB)
        await one.keep(record())
        await take_snapshot(db)

        async def keeping(self: Interactions, *arguments: Any) -> None:
            await keep(self, *arguments)
            monkeypatch.setattr(Interactions, "keep", keep)
            await set_back(db)
            await until(lambda: any(line["event"] == "postgres_was_filled_again" for line in logs))

        monkeypatch.setattr(Interactions, "keep", keeping)
        with capture_logs() as logs:
            await one.keep(*turns(3, "bob"), *turns(3))
        await one.filled(4)
        assert await count(db) == 4


async def test_a7_a_record_in_retry_while_the_database_is_set_back_is_spooled_once(
    tmp_path: Path, database: str
) -> None:
    async with store(database) as (db, _), process(tmp_path, db) as one:
        await rows_of(db, REFUSE_BOB)
        await one.keep(*turns(3, "bob"), *turns(3))
        await take_snapshot(db)
        await one.keep(record())
        await set_back(db)
        await one.keep(record())
        await one.filled(5)
        assert len(list((tmp_path / "retry-postgres").iterdir())) == one.shipper.state().retrying == 3
        assert one.shipper.reship.reshipped == 1
        await rows_of(db, REFUSE_NONE)
        await until(lambda: one.shipper.state().retrying == 0, timeout_s=20)
        assert await count(db) == 8


async def test_a7_what_came_back_from_quarantine_is_shipped_again(tmp_path: Path, database: str) -> None:
    async with store(database) as (db, interactions), process(tmp_path, db) as one:
        await one.keep(record())
        await take_snapshot(db)
        quarantine, each = Quarantine(tmp_path), record()
        quarantine.put_record(each, "it was odd", interactions.name)
        shipped = ShippedRecords(tmp_path, interactions.name, 60.0)
        assert await retry_quarantined(quarantine, interactions, str(each.interaction.id), shipped) is None
        await one.keep(record())
        assert await count(db) == 3
        await set_back(db)
        await one.keep(record())
        await one.filled(4)
        assert one.shipper.reship.reshipped == 2
        assert len(archive.all_archived(tmp_path)) == 1
        archive.expire(one.journal.folder, -1)
        assert archive.all_archived(tmp_path) == []


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
        assert one.shipper.reship.set_backs == 2


async def test_a_database_that_is_set_back_while_it_is_filled_again_is_filled_anew(
    tmp_path: Path, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with store(database) as (db, _), process(tmp_path, db) as one:
        await one.keep(*turns(2))
        await take_snapshot(db)
        await one.keep(*turns(6, "bob"))
        await set_back(db)
        asked = Interactions.missing
        calls = 0

        async def missing(self: Interactions, ids: Any) -> Any:
            nonlocal calls
            calls += 1
            found = await asked(self, ids)
            if calls == 1:  # the answer is old when it arrives
                await set_back(db)
                await one.keep(record())
            return found

        monkeypatch.setattr(Interactions, "missing", missing)
        await one.keep(record())
        await one.filled(10)
        assert one.shipper.reship.set_backs == 2


async def test_a_kept_journal_that_cannot_be_shipped_again_now_does_not_hold_back_the_next_one(
    tmp_path: Path, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with store(database) as (db, _):
        for by in ("ann", "bob"):
            async with process(tmp_path, db) as one:
                if by == "ann":
                    await take_snapshot(db)
                await one.keep(*turns(3, by))
        await set_back(db)
        asked = Interactions.missing
        calls = 0

        async def missing(self: Interactions, ids: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == 1:
                raise StoreUnavailable("away for a moment")
            return await asked(self, ids)

        monkeypatch.setattr(Interactions, "missing", missing)
        async with process(tmp_path, db, reship=ReshipOptions(retry_s=0.05)) as two:
            await two.filled(6)


# --- what users have set by hand --------------------------------------------------------------------------------------


async def test_a7_titles_and_removals_are_set_again_and_later_ones_stay(tmp_path: Path, database: str) -> None:
    ann = Principal("ann")
    async with store(database) as (db, _), process(tmp_path, db) as one:
        talks = [turns(1)[0] for _ in range(3)]
        await one.keep(*talks)
        roots = [str(talk.interaction.id) for talk in talks]
        await take_snapshot(db)
        await rows_of(db, "create table public.conversation_settings as select * from llm_logs.conversation_settings")
        now = time.time()
        await one.by_hand.set_title(ann, roots[0], "first", now, is_known=False)
        await one.by_hand.set_title(ann, roots[1], "lost", now, is_known=False)
        await one.by_hand.set_shown(ann, roots[2], now, is_shown=False, is_known=False)
        await one.keep(record())
        await set_back(db)
        await rows_of(db, "delete from llm_logs.conversation_settings")
        fresh = ConversationSettings(db)  # another host's
        await fresh.set_title(ann, roots[1], "second", now + 1, is_known=True)
        await one.keep(record())
        await one.filled(5)
        rows = await rows_of(db, "select id, convo_title, convo_show from llm_logs.chatgpt_logs where title is null")
        found = {str(row["id"]): (row["convo_title"], row["convo_show"]) for row in rows}
        assert [found[root] for root in roots] == [("first", True), ("second", True), (None, False)]


def test_the_edit_log_is_bounded_and_a_torn_line_hides_no_edit(tmp_path: Path) -> None:
    folder = tmp_path / str(uuid4())
    folder.mkdir()
    log = EditLog(folder, 3600.0, max_lines=10)
    now = time.time()
    for number in range(10):
        log.add(ConversationEdit("ann", "r", now - 7200 + number, title=f"old {number}"))
    with (folder / FILE).open("ab") as file:
        file.write(b'{"user": "torn\n')
    for number in range(3):
        log.add(ConversationEdit("ann", "r", now + number, title=f"new {number}"))
    assert [edit.title for edit in read_edits(tmp_path)] == ["new 0", "new 1", "new 2"]
    assert (folder / FILE).stat().st_mode & 0o777 == 0o600


def test_no_edit_is_logged_if_nothing_is_kept(tmp_path: Path) -> None:
    EditLog(tmp_path, 0.0).add(ConversationEdit("ann", "r", 1.0, title="t"))
    assert list(tmp_path.iterdir()) == []
