"""The hosts that share a database: who left with records is named, and a wrong clock tears no conversation."""

from __future__ import annotations

import asyncio
import os
import random
import time
from typing import TYPE_CHECKING
from uuid import UUID, uuid4

from structlog.testing import capture_logs

from gateway.health.hosts import HostWatch, HostWatchOptions
from gateway.ids import Ids
from gateway.journal import archive, lock
from gateway.model import Host
from gateway.shipping.progress import Progress
from gateway.store.hosts import Hosts
from gateway.store.interactions import Interactions
from tests.store.samples import chat, model, rows_of, store, user
from tests.store.test_set_back import hosts, process

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

    from gateway.store.pool import Database

HOUR_S = 3600.0
QUICK = HostWatchOptions(tick_s=0.05, retry_s=0.05, silence_s=0.3)


def host(name: str = "here") -> Host:
    return Host(uuid4(), name, os.getpid(), "1", time.monotonic())


def watch(
    database: Database,
    directory: Path,
    of: Host | None = None,
    ids: Ids | None = None,
    options: HostWatchOptions = QUICK,
) -> HostWatch:
    return HostWatch(
        Hosts(database, of or host()),
        uuid4(),
        lambda: archive.list_journals(directory),
        ids or Ids(),
        lambda seconds: None,
        options,
    )


async def seen_leaving(watching: HostWatch) -> list[str]:
    """The names of those that left, once it has looked for long enough."""
    deadline = time.monotonic() + QUICK.silence_s + 0.2
    while time.monotonic() < deadline:
        await watching.tick()
        await asyncio.sleep(0.05)
    return [one.name for one in watching.left]


async def test_e8_a_host_that_fell_silent_is_named_with_what_waited_there(tmp_path: Path, database: str) -> None:
    async with store(database) as (db, _):
        other = Interactions(db, host=host("gone"))
        folder = lock.JournalFolder.new(tmp_path / "volume")
        folder.create()
        progress = Progress(folder.path, "postgres")
        progress.waiting = 17
        await other.save_progress(progress)
        watching = watch(db, tmp_path)
        with capture_logs() as logs:
            assert await seen_leaving(watching) == ["gone"]
            await watching.tick()
        (line,) = [line for line in logs if line["event"] == "host_left_with_records"]
        assert (line["host"], line["records"], line["are_all"]) == ("gone", 17, False)
        assert abs(line["last_seen"] - time.time()) < 10
        (shown,) = watching.state()["left"]
        assert (shown["host"], shown["records"], shown["are_all"]) == ("gone", 17, False)


async def test_e8_a_host_that_comes_back_with_its_volume_is_no_longer_named(tmp_path: Path, database: str) -> None:
    async with store(database) as (db, _):
        folder = lock.JournalFolder.new(tmp_path)
        folder.create()
        await Interactions(db, host=host("back")).save_progress(Progress(folder.path, "postgres"))
        watching = watch(db, tmp_path)
        assert await seen_leaving(watching) == ["back"]
        folder.release()
        async with process(tmp_path, db) as successor:  # it finds the folder
            async with asyncio.timeout(10):
                while folder.path.exists():
                    await asyncio.sleep(0.02)
            await successor.shipper.aclose(1)
        await watching.tick()
        assert watching.left == []


async def test_e8_what_is_shipped_for_a_dead_process_is_no_loss(tmp_path: Path, database: str) -> None:
    async with store(database) as (db, _):
        async with process(tmp_path, db) as one:
            await one.keep(chat(user("asked")))
            left = chat(user("asked too"))
            one.journal.begin(left.interaction).finish(left.answer)
            name = UUID(one.journal.folder.name)
        # as after kill -9: the row says nothing of an end
        await rows_of(db, "update llm_logs.hosts set left_at = null, left_cleanly = null, waiting = 1")
        of_host = (await hosts(db))[0]["host_id"]
        watching = watch(db, tmp_path, Host(of_host, "here", 1, "1", 0.0))
        await watching.tick()
        (row,) = await hosts(db)
        assert (row["journal_id"], row["left_cleanly"], row["waiting"]) == (name, True, 0)


async def test_e8_after_an_outage_every_host_gets_time_to_be_heard_of(tmp_path: Path, database: str) -> None:
    async with store(database) as (db, _):
        folder = lock.JournalFolder.new(tmp_path)
        folder.create()
        await Interactions(db, host=host("slow")).save_progress(Progress(folder.path, "postgres"))
        await rows_of(db, "update llm_logs.hosts set seen_at = now() - interval '1 hour'")
        watching = watch(db, tmp_path)
        await watching.tick()
        assert watching.left == []
        await asyncio.sleep(QUICK.silence_s)
        await watching.tick()
        assert [one.name for one in watching.left] == ["slow"]
        folder.release()


async def test_e8_a_host_that_left_with_records_is_named_with_their_count(tmp_path: Path, database: str) -> None:
    async with store(database) as (db, _):
        folder = lock.JournalFolder.new(tmp_path / "volume")
        folder.create()
        progress = Progress(folder.path, "postgres")
        progress.waiting = 3
        other = Interactions(db, host=host("gone"))
        await other.save_progress(progress)
        await other.leave(progress.journal, is_clean=False)
        watching = watch(db, tmp_path)
        assert await seen_leaving(watching) == ["gone"]
        assert (watching.left[0].waiting, watching.left[0].is_exact) == (3, True)


async def test_rows_of_hosts_are_forgotten_when_their_folder_or_their_time_is_over(
    tmp_path: Path, database: str
) -> None:
    async with store(database) as (db, _):
        ours = host()
        for number in range(4):
            folder = lock.JournalFolder.new(tmp_path / ("here" if number == 1 else "elsewhere"))
            folder.create()
            progress = Progress(folder.path, "postgres")
            by = Interactions(db, host=ours if number < 3 else host("old"))
            await by.save_progress(progress)
            if number < 2:
                await by.leave(progress.journal, is_clean=True)
            folder.release()
        await rows_of(db, "update llm_logs.hosts set seen_at = now() - interval '31 days' where host_name = 'old'")
        assert len(await hosts(db)) == 4
        await watch(db, tmp_path / "here", ours).tick()
        left = await hosts(db)
        assert len(left) == 2  # the one that is kept here, and one that may live elsewhere with a copy of our id
        assert [row["left_cleanly"] for row in left] == [True, None]


# --- clocks ----------------------------------------------------------------------------------------------------------


async def test_e9_a_wrong_clock_is_noticed_at_the_first_contact_and_reported_once(
    tmp_path: Path, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with store(database) as (db, _):
        real = time.time
        watching = watch(db, tmp_path)
        with capture_logs() as logs:
            monkeypatch.setattr("gateway.store.hosts.time.time", lambda: real() + HOUR_S)
            await watching.tick()
            await watching.tick()
            assert watching.state()["is_clock_wrong"] is True
            monkeypatch.setattr("gateway.store.hosts.time.time", real)
            await watching.tick()
        events = [line for line in logs if line["event"].startswith("clock_")]
        assert [line["event"] for line in events] == ["clock_is_wrong", "clock_is_right"]
        assert abs(events[0]["ahead_s"] - HOUR_S) < 1


def test_e9_ids_are_made_by_the_corrected_clock() -> None:
    ahead = Ids(lambda: time.time_ns() + int(HOUR_S * 1e9))
    before = ahead.new()
    assert before > Ids().new()
    ahead.correct(HOUR_S)
    made = [ahead.new() for _ in range(1000)]
    assert made == sorted(made)
    assert abs((made[0].int >> 80) - time.time() * 1000) < 1000
    ahead.correct(HOUR_S + 0.001)  # less than a measurement's error
    assert ahead.new() > made[-1]


async def torn(database: Database, is_corrected: str) -> int:
    """Conversations in several pieces: 356 of them hop between two hosts, one of which is an hour ahead."""
    chance = random.Random(3)
    ids = {"right": Ids(), "ahead": Ids(lambda: time.time_ns() + int(HOUR_S * 1e9))}
    sinks = {name: Interactions(database) for name in ids}
    if is_corrected == "ids":
        ids["ahead"].correct(HOUR_S)
    for sink in sinks.values():
        sink.slack_ms = int(HOUR_S * 1000) if is_corrected == "look-ups" else 0
    said = {f"user {number}": [user(f"user {number}")] for number in range(356)}
    for turn in range(3):
        batches = {name: [chat(user("nothing"), says=None)] for name in sinks}
        for by, messages in said.items():
            name = chance.choice(list(sinks))
            batches[name].append(chat(*messages, says=f"{by} {turn}", by=by, id=ids[name].new()))
            messages += [model(f"{by} {turn}"), user(f"{by} again {turn}")]
        for name, records in batches.items():
            await sinks[name].keep(records)
    for sink in sinks.values():
        await sink.aclose()
    rows = await rows_of(
        database,
        "select user_name from llm_logs.chatgpt_logs where user_name like 'user%' group by user_name "
        "having count(distinct root_gpt_id) > 1 or count(*) <> 3",
    )
    return len(rows)


async def test_e9_a_clock_that_is_an_hour_ahead_splits_no_conversation(database: str) -> None:
    async with store(database) as (db, _):
        assert await torn(db, "ids") == 0


async def test_e9_rows_from_before_the_first_contact_are_found_in_spite_of_their_ids(database: str) -> None:
    async with store(database) as (db, _):
        assert await torn(db, "look-ups") == 0


async def test_e9_the_test_itself_tears_conversations_without_any_correction(database: str) -> None:
    async with store(database) as (db, _):
        assert await torn(db, "nothing") > 50


async def test_e9_a_parent_of_the_future_that_comes_late_is_found(database: str) -> None:
    async with store(database) as (db, sink):
        sink.slack_ms = int(HOUR_S * 1000)
        ahead = Ids(lambda: time.time_ns() + int(HOUR_S * 1e9))
        first = chat(user("one"), says="uno", id=ahead.new())
        second = chat(user("one"), model("uno"), user("two"), says="due", id=Ids().new())
        await sink.keep([second])
        await sink.keep([first])
        rows = await rows_of(db, "select id, root_gpt_id, parent_id from llm_logs.chatgpt_logs")
        assert {row["root_gpt_id"] for row in rows} == {str(first.interaction.id)}
        assert {row["id"]: row["parent_id"] for row in rows} == {
            first.interaction.id: None,
            second.interaction.id: first.interaction.id,
        }
