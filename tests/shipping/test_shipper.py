"""The shipper: every finished record reaches every sink, whatever the sink does meanwhile."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import orjson
import pytest

from gateway.journal.frames import SEGMENT_HEADER_SIZE
from gateway.journal.journal import Journal, JournalOptions
from gateway.journal.locations import Position
from gateway.journal.pending import BATCH_ROWS
from gateway.journal.subscription import MAX_READY, Cursor
from gateway.shipping.shipper import Shipper
from tests.journal.disks import FaultyDisk
from tests.journal.samples import SMALL, Memory, answer, interaction
from tests.polling import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path
    from uuid import UUID

    from gateway.model import Record
    from gateway.settings import JournalSettings


@asynccontextmanager
async def shipping(
    directory: Path, *sinks: Memory, settings: JournalSettings = SMALL, deadline_s: float = 5.0, **more: Any
) -> AsyncIterator[tuple[Journal, Shipper]]:
    journal = Journal(settings, directory, options=JournalOptions(tick_s=0.02), **more)
    shipper = Shipper(journal, sinks)
    await journal.open()
    await shipper.start()
    try:
        yield journal, shipper
    finally:
        await shipper.aclose(deadline_s)
        await journal.aclose()


def say(journal: Journal, count: int = 1, body: bytes = b"{}") -> list[UUID]:
    entries = [journal.begin(interaction(body)) for _ in range(count)]
    for entry in entries:
        entry.finish(answer(body))
    return [entry.id for entry in entries]


def files(directory: Path) -> list[Path]:
    return [path for path in directory.rglob("*") if path.is_file()]


@pytest.mark.stopwatch
async def test_a_finished_record_arrives_within_seconds(tmp_path: Path) -> None:
    memory = Memory()
    async with shipping(tmp_path, memory) as (journal, _):
        (said,) = say(journal)
        started = time.monotonic()
        await until(lambda: said in memory.records)
        assert time.monotonic() - started < 3


async def test_records_travel_in_batches(tmp_path: Path) -> None:
    memory = Memory()
    async with shipping(tmp_path, memory) as (journal, _):
        said = say(journal, 700)
        await until(lambda: len(memory.records) == 700)
        assert list(memory.records) == said
        assert memory.batches == [BATCH_ROWS, 200]


async def test_large_records_travel_in_small_batches(tmp_path: Path) -> None:
    memory = Memory()
    async with shipping(tmp_path, memory, settings=settings_for(large=True)) as (journal, _):
        say(journal, 6, b"x" * 1_000_000)
        await until(lambda: len(memory.records) == 6)
        assert memory.batches == [2, 2, 2]


def settings_for(*, large: bool) -> JournalSettings:
    return type(SMALL)(segment_bytes=8 << 20, max_bytes=64 << 20, min_free_bytes=0) if large else SMALL


async def test_closing_ships_what_is_finished_and_leaves_nothing_behind(tmp_path: Path) -> None:
    memory = Memory()
    async with shipping(tmp_path, memory) as (journal, _):
        say(journal, 50)
    assert len(memory.records) == 50
    assert files(tmp_path) == []


async def test_a_sink_that_is_down_gets_everything_when_it_is_back(tmp_path: Path) -> None:
    memory = Memory()
    async with shipping(tmp_path, memory) as (journal, shipper):
        memory.is_down = True
        said = say(journal, 20)
        await until(lambda: shipper.state().fault is not None)
        said += say(journal, 20)
        state = shipper.state()
        assert (state.pending, state.kept) == (40, 0)
        assert state.oldest_s > 0
        memory.is_down = False
        await until(lambda: len(memory.records) == 40)
        assert list(memory.records) == said
        await until(lambda: shipper.state().pending == 0)
        assert shipper.state().fault is None


async def test_a_long_outage_uses_disk_and_not_memory(tmp_path: Path) -> None:
    memory = Memory()
    tuning = JournalOptions(tick_s=0.02, cached_bytes=10_000)
    journal = Journal(SMALL, tmp_path, options=tuning)
    shipper = Shipper(journal, [memory])
    await journal.open()
    await shipper.start()
    memory.is_down = True
    said = say(journal, 300, b"%d" % 7 * 1000)
    (feed,) = journal.subscriptions
    assert sum(pending.record is not None for pending in feed.peek(1000, 1 << 30)) < 10
    memory.is_down = False
    await until(lambda: len(memory.records) == 300)
    assert list(memory.records) == said
    assert all(record.answer.body == b"7" * 1000 for record in memory.records.values())
    await shipper.aclose(1)
    await journal.aclose()


async def test_a_very_long_outage_becomes_a_packed_backlog_in_order(tmp_path: Path) -> None:
    memory = Memory()
    settings = replace(SMALL, segment_bytes=1 << 20, max_bytes=64 << 20, sync="none")
    async with shipping(tmp_path, memory, settings=settings) as (journal, shipper):
        memory.is_down = True
        slow = journal.begin(interaction(b"slow"))
        said = say(journal, MAX_READY + 4000)
        (feed,) = journal.subscriptions
        assert feed.is_overflowing
        assert shipper.state().pending == MAX_READY + 4000
        said += [slow.id]
        slow.finish(answer())
        cursor = Cursor(journal.folder / "memory.cursor")
        memory.is_down = False
        while shipper.state().pending:
            low = cursor.read()
            missing = [key for key in said if key not in memory.records]
            assert low <= Position(1, 0) or slow.id not in missing
            await asyncio.sleep(0.01)
        assert list(memory.records) == said
        assert not feed.is_overflowing
        assert cursor.read() == feed.delivered_up_to(cursor.read())
    assert files(tmp_path) == []


@pytest.mark.stopwatch
async def test_a_sink_that_hangs_does_not_hang_the_end(tmp_path: Path) -> None:
    memory = Memory()
    memory.gate.clear()
    started = time.monotonic()
    async with shipping(tmp_path, memory, deadline_s=0.3) as (journal, shipper):
        said = say(journal, 5)
        await until(lambda: shipper.state().pending == 5)
        await asyncio.sleep(0.1)
    assert time.monotonic() - started < 2
    assert memory.is_abandoned
    assert memory.records == {}
    again = Memory()
    async with shipping(tmp_path, again):
        await until(lambda: len(again.records) == 5)
    assert list(again.records) == said


@pytest.mark.stopwatch
async def test_a_call_in_flight_is_never_cancelled(tmp_path: Path) -> None:
    cancelled = []

    class Slow(Memory):
        async def keep(self, records: Any) -> None:
            try:
                await asyncio.sleep(0.4)
            except asyncio.CancelledError:
                cancelled.append(records)
                raise
            await super().keep(records)

    slow = Slow()
    async with shipping(tmp_path, slow, deadline_s=0.05) as (journal, _):
        say(journal)
        await asyncio.sleep(0.15)
    assert cancelled == []


async def test_a_record_that_is_refused_goes_as_bytes_and_the_others_as_usual(tmp_path: Path) -> None:
    memory = Memory()
    memory.refuses = lambda record: record.interaction.body == b"poison"
    async with shipping(tmp_path, memory) as (journal, shipper):
        before = say(journal, 20)
        (poison,) = say(journal, 1, b"poison")
        after = say(journal, 20)
        await until(lambda: len(memory.records) == 40)
        assert list(memory.records) == before + after
        assert list(memory.raw) == [poison]
        await until(lambda: shipper.state().pending == 0)
        assert shipper.state().quarantined == 0


async def test_a_record_that_is_refused_twice_goes_to_quarantine_and_the_others_go_on(tmp_path: Path) -> None:
    memory = Memory()
    memory.refuses = memory.refuses_raw = lambda record: record.interaction.body == b"poison"
    async with shipping(tmp_path, memory) as (journal, shipper):
        others = say(journal, 3)
        (poison,) = say(journal, 1, b"poison")
        others += say(journal, 3)
        await until(lambda: shipper.state().quarantined == 1)
        await until(lambda: list(memory.records) == others)
        await until(lambda: shipper.state().pending == 0)
    quarantine = tmp_path / "quarantine"
    notes = orjson.loads((quarantine / f"{poison}.json").read_bytes())
    assert notes["reason"] == "not even as bytes"
    assert notes["interaction"]["user"] == "ann"
    assert notes["answer"]["outcome"] == "complete"
    assert (quarantine / f"{poison}.request").read_bytes() == b"poison"
    assert (quarantine / f"{poison}.response").read_bytes() == b"poison"
    async with shipping(tmp_path, Memory()) as (_, shipper):
        assert shipper.state().quarantined == 1  # it is not forgotten


async def test_many_poisoned_records_in_one_batch_are_all_found(tmp_path: Path) -> None:
    memory = Memory()
    memory.refuses = lambda record: record.interaction.body == b"poison"
    async with shipping(tmp_path, memory) as (journal, _):
        for _ in range(30):
            say(journal, 2)
            say(journal, 1, b"poison")
        await until(lambda: len(memory.records) == 60 and len(memory.raw) == 30)


async def test_an_outage_during_the_bisection_quarantines_nothing(tmp_path: Path) -> None:
    class Flaky(Memory):
        calls = 0

        async def keep(self, records: Any) -> None:
            self.calls += 1
            self.is_down = self.calls % 3 == 0
            await super().keep(records)

        async def keep_raw(self, record: Record) -> None:
            self.calls += 1
            self.is_down = self.calls % 2 == 0
            await super().keep_raw(record)

    flaky = Flaky()
    flaky.refuses = lambda record: record.interaction.body == b"poison"
    async with shipping(tmp_path, flaky) as (journal, shipper):
        say(journal, 5)
        (poison,) = say(journal, 1, b"poison")
        say(journal, 5)
        await until(lambda: len(flaky.records) == 10 and list(flaky.raw) == [poison])
        assert shipper.state().quarantined == 0


async def test_an_unexpected_error_loses_nothing(tmp_path: Path) -> None:
    class Buggy(Memory):
        calls = 0

        async def keep(self, records: Any) -> None:
            self.calls += 1
            if self.calls < 3:
                raise ZeroDivisionError("a bug")
            await super().keep(records)

    buggy = Buggy()
    async with shipping(tmp_path, buggy) as (journal, _):
        say(journal, 5)
        await until(lambda: len(buggy.records) == 5)


@pytest.mark.stopwatch
async def test_each_sink_gets_everything_at_its_own_pace(tmp_path: Path) -> None:
    quick, slow = Memory("quick"), Memory("slow")
    slow.is_down = True
    async with shipping(tmp_path, quick, slow, deadline_s=0.1) as (journal, _):
        said = [one for _ in range(20) for one in say(journal, 1, b"x" * 8000)]
        await until(lambda: len(quick.records) == 20)
        folder = journal.folder
        await until(lambda: Cursor(folder / "quick.cursor").read() > Position(1, SEGMENT_HEADER_SIZE))
        assert Cursor(folder / "slow.cursor").read() <= Position(1, SEGMENT_HEADER_SIZE)
        assert len(list(folder.glob("*.seg"))) > 3  # the slow one still needs them
    slow.is_down, slow.is_abandoned = False, False
    again = Memory("quick")
    async with shipping(tmp_path, again, slow):
        await until(lambda: len(slow.records) == 20)
        await asyncio.sleep(0.1)
    assert list(slow.records) == said
    assert again.records == {}  # it had them, and its cursor knew
    assert files(tmp_path) == []


async def test_shipping_goes_on_when_the_disk_is_full(tmp_path: Path) -> None:
    memory, disk = Memory(), FaultyDisk()
    async with shipping(tmp_path, memory, disk=disk) as (journal, _):
        entry = journal.begin(interaction())
        disk.room = 0
        with pytest.raises(Exception, match="cannot record"):
            entry.finish(answer(b"said"))
        await until(lambda: entry.id in memory.records)
        assert memory.records[entry.id].answer.body == b"said"


@pytest.mark.stopwatch
async def test_the_event_loop_is_never_held_for_long(tmp_path: Path) -> None:
    memory = Memory()
    longest = 0.0

    async def watch() -> None:
        nonlocal longest
        while True:
            started = time.perf_counter()
            await asyncio.sleep(0.001)
            longest = max(longest, time.perf_counter() - started - 0.001)

    async with shipping(tmp_path, memory, settings=settings_for(large=True)) as (journal, _):
        memory.is_down = True
        say(journal, 3000, b"x" * 1000)
        watching = asyncio.create_task(watch())
        memory.is_down = False
        await until(lambda: len(memory.records) == 3000)
        watching.cancel()
    assert longest < 0.25  # generous: the machine may be busy
