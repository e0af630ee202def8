"""Faults of the journal's disk, one and two at a time: bad files, sinks that are away, room that comes and goes."""

from __future__ import annotations

import asyncio
import errno
import random
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from structlog.testing import capture_logs

from gateway.errors import JournalFull
from gateway.journal.journal import JournalOptions
from gateway.journal.locations import segment_numbers
from tests.journal.dead import take_over_all
from tests.journal.disks import FaultyDisk
from tests.journal.samples import SMALL, Memory, answer, interaction
from tests.journal.test_journal import BIG, folders, opened, record_one
from tests.polling import until

if TYPE_CHECKING:
    from pathlib import Path

    from gateway.journal.entry import JournalEntry
    from gateway.journal.journal import Journal
    from gateway.journal.subscription import Subscription

SERVE = replace(SMALL, when_full="serve")
ONCE = JournalOptions(tick_s=1000)  # nothing is tried again
FEW_READY = JournalOptions(tick_s=0.02, survey_every=1, max_ready=4, refill=2)


def ship(subscription: Subscription, most: int = 1000) -> list[bytes]:
    taken = subscription.peek(most, 1 << 30)
    subscription.acknowledge(taken)
    return [pending.key for pending in taken]


def ship_all(subscription: Subscription) -> list[bytes]:
    keys: list[bytes] = []
    while len(subscription):
        keys += ship(subscription)
    return keys


# --- several sinks ---------------------------------------------------------------------------------------------------


async def test_a8_a_sink_that_has_a_record_never_waits_for_it_again(tmp_path: Path) -> None:
    disk = FaultyDisk()
    async with opened(tmp_path, SERVE, disk, names=("here", "away")) as journal:
        here, away = journal.subscriptions
        disk.room = 0
        for _ in range(5):
            record_one(journal, BIG)
        assert len(ship(here)) == 5
        disk.room = None
        await until(lambda: journal.state.unwritten == 0)
        for _ in range(20):
            record_one(journal, BIG)
            ship(here)
        assert len(ship_all(away)) == 25
        assert len(segment_numbers(journal.folder)) <= 2
        assert journal.state.refusal is None


async def test_segments_are_dropped_when_their_last_open_record_is_compacted(tmp_path: Path) -> None:
    async with opened(tmp_path, replace(SMALL, max_bytes=4 * SMALL.segment_bytes)) as journal:
        (subscription,) = journal.subscriptions
        slow = journal.begin(interaction(b"slow"))
        with suppress(JournalFull):
            while True:
                record_one(journal, BIG)
                await asyncio.sleep(0.001)
        ship_all(subscription)
        await until(lambda: journal.state.refusal is None)  # nothing more is shipped, for nothing more may begin
        slow.finish(answer())
        ship_all(subscription)


async def test_a11_records_are_delivered_in_the_order_of_their_ends_also_those_that_a_full_disk_refused(
    tmp_path: Path,
) -> None:
    disk = FaultyDisk()
    async with opened(tmp_path, SERVE, disk, FEW_READY) as journal:
        (subscription,) = journal.subscriptions
        ended = [record_one(journal).key for _ in range(10)]
        disk.room = 0
        ended += [record_one(journal).key for _ in range(2)]
        disk.room = None
        await until(lambda: journal.state.unwritten == 0)
        ended += [record_one(journal).key for _ in range(3)]
        assert ship_all(subscription) == ended


@pytest.mark.parametrize("when_full", ["serve", "refuse"])
@pytest.mark.parametrize("seed", range(12))
async def test_each_sink_gets_all_records_in_order_through_random_faults(
    tmp_path: Path, seed: int, when_full: str
) -> None:
    chance = random.Random(seed)
    disk = FaultyDisk()
    options = JournalOptions(tick_s=0.001, cached_bytes=20_000, max_ready=4, refill=2)
    names = ("one", "two", "three")
    async with opened(tmp_path, replace(SMALL, when_full=when_full), disk, options, names) as journal:
        live: list[JournalEntry] = []
        ended: list[bytes] = []
        got: dict[Subscription, list[bytes]] = {subscription: [] for subscription in journal.subscriptions}
        for _ in range(400):
            step = chance.random()
            if step < 0.3:
                with suppress(JournalFull):
                    live.append(journal.begin(interaction(b"q" * chance.randrange(3000))))
            elif step < 0.6 and live:
                entry = live.pop(chance.randrange(len(live)))
                with suppress(JournalFull):
                    entry.finish(answer(b"a" * chance.randrange(3000)))
                ended.append(entry.key)
            elif step < 0.7:
                disk.room = chance.choice([None, 0, 100, 5000])
            elif step < 0.75:
                disk.bad_files = {chance.choice(segment_numbers(journal.folder) or [1]): errno.EIO}
            elif step < 0.9:
                subscription = chance.choice(list(journal.subscriptions))
                got[subscription] += ship(subscription, chance.randrange(1, 6))
            else:
                await asyncio.sleep(0.002)
        disk.room, disk.bad_files = None, {}
        for entry in live:
            with suppress(JournalFull):
                entry.finish(answer())
            ended.append(entry.key)
        await until(lambda: journal.state.unwritten == 0)
        for subscription in journal.subscriptions:
            got[subscription] += ship_all(subscription)
            assert got[subscription] == ended
            assert subscription.ready_bytes == 0
        assert len(segment_numbers(journal.folder)) <= 2
    assert folders(tmp_path) == []


# --- files that fail -------------------------------------------------------------------------------------------------


async def with_a_spare_file(journal: Journal) -> None:
    while journal._segments._spare is None:
        record_one(journal, b"x" * 1000)
        await asyncio.sleep(0.001)


FAULTS = [errno.EIO, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EFBIG]


@pytest.mark.parametrize("number", FAULTS, ids=errno.errorcode.get)
async def test_a9_the_end_of_an_answer_goes_to_a_fresh_file_whatever_the_fault(tmp_path: Path, number: int) -> None:
    disk = FaultyDisk()
    async with opened(tmp_path, disk=disk) as journal:
        await with_a_spare_file(journal)
        entry = journal.begin(interaction())
        disk.bad_files = {1: number}
        entry.finish(answer(b"said"))
        await entry.kept()
        assert journal.state.unwritten == 0
        assert len(ship_all(journal.subscriptions[0])) > 1


async def test_a9_a_begin_goes_to_the_fresh_file_where_a_file_has_failed_but_not_where_the_disk_is_full(
    tmp_path: Path,
) -> None:
    for number, is_taken in ((errno.EIO, True), (errno.ENOSPC, False)):
        disk = FaultyDisk()
        async with opened(tmp_path, disk=disk) as journal:
            await with_a_spare_file(journal)
            disk.bad_files = {1: number}
            if is_taken:
                entry = journal.begin(interaction())
                assert journal.state.refusal is None
                entry.finish(answer())
                await entry.kept()
            else:
                with pytest.raises(JournalFull):
                    journal.begin(interaction())
            ship_all(journal.subscriptions[0])


@pytest.mark.parametrize("has_spare", [True, False])
async def test_a9_the_end_finds_a_file_although_others_have_failed(tmp_path: Path, has_spare: bool) -> None:
    disk = FaultyDisk()
    async with opened(tmp_path, disk=disk) as journal:
        if has_spare:
            await with_a_spare_file(journal)
        entry = journal.begin(interaction())
        disk.bad_files = dict.fromkeys(segment_numbers(journal.folder), errno.EIO)
        entry.finish(answer(b"said"))
        await entry.kept()
        assert journal.state.unwritten == 0
        ship_all(journal.subscriptions[0])
        record_one(journal)
        ship_all(journal.subscriptions[0])
    assert folders(tmp_path) == []


async def test_a9_a_file_that_fails_in_the_middle_of_an_end_holds_no_half_of_it(tmp_path: Path) -> None:
    disk = FaultyDisk()
    memory = Memory()
    async with opened(tmp_path, disk=disk) as journal:
        await with_a_spare_file(journal)
        entry = journal.begin(interaction())
        disk.room, disk.room_fault = 50, errno.EIO
        with pytest.raises(JournalFull):
            entry.finish(answer(BIG))
        disk.room = None
        await until(lambda: journal.state.unwritten == 0)
        count = len(journal.subscriptions[0])
    await take_over_all(tmp_path, memory)
    assert len(memory.records) == count
    assert memory.records[entry.id].answer.body == BIG
    assert not (tmp_path / "quarantine").exists()


async def test_a9_without_another_descriptor_everything_goes_on_in_the_file_at_hand(tmp_path: Path) -> None:
    disk = FaultyDisk()
    async with opened(tmp_path, disk=disk) as journal:
        entries = [journal.begin(interaction()) for _ in range(20)]
        disk.open_fault = errno.EMFILE
        for entry in entries:
            entry.finish(answer(BIG))
        await entries[-1].kept()
        assert segment_numbers(journal.folder) == [1]
        await until(lambda: journal.state.refusal is not None)  # there is no reserve
        disk.open_fault = None
        await until(lambda: journal.state.refusal is None)
        assert record_one(journal).begun is not None
        assert len(ship_all(journal.subscriptions[0])) == 21


async def test_a9_after_a_failed_sync_the_end_is_written_even_if_no_other_file_can_be_opened(tmp_path: Path) -> None:
    disk = FaultyDisk()
    async with opened(tmp_path, disk=disk) as journal:
        entry = journal.begin(interaction())
        disk.sync_fault, disk.open_fault = errno.EIO, errno.EMFILE
        with pytest.raises(JournalFull):
            await record_one(journal).kept()
        entry.finish(answer())
        assert journal.state.unwritten == 0
        disk.sync_fault = disk.open_fault = None
        await until(lambda: journal.state.refusal is None)
        later = record_one(journal)
        assert later.begun is not None
        assert later.begun.segment > 1
        await later.kept()
        assert len(ship_all(journal.subscriptions[0])) == 3


async def test_a_frame_that_does_not_fit_leaves_the_reserve_to_smaller_ones(tmp_path: Path) -> None:
    disk = FaultyDisk()
    async with opened(tmp_path, disk=disk) as journal:
        large, small = journal.begin(interaction()), journal.begin(interaction())
        disk.reserve_fault = errno.ENOSPC
        disk.room = 30_000
        with pytest.raises(JournalFull):
            large.finish(answer(b"x" * 40_000))
        (path,) = journal.folder.glob("*.seg")
        assert path.stat().st_blocks * 512 >= SMALL.segment_bytes
        disk.room = 1000
        small.finish(answer(b"small"))
        disk.room = disk.reserve_fault = None
        await until(lambda: journal.state.unwritten == 0)
        assert len(ship_all(journal.subscriptions[0])) == 2


# --- the end of a process with records in memory ---------------------------------------------------------------------


async def test_a10_records_in_memory_are_written_at_the_close_if_there_is_room(tmp_path: Path) -> None:
    disk = FaultyDisk()
    async with opened(tmp_path, SERVE, disk, ONCE) as journal:
        begun = journal.begin(interaction())
        disk.write_fault = errno.ENOSPC
        ids = {record_one(journal).id for _ in range(5)}
        begun.finish(answer(b"said"))
        assert journal.state.unwritten == 6
        disk.write_fault = None
    assert journal.state.lost_records == 0
    memory = Memory()
    await take_over_all(tmp_path, memory)
    assert memory.records.keys() == ids | {begun.id}
    assert memory.records[begun.id].answer.body == b"said"


async def test_a10_at_the_close_small_records_find_the_room_that_a_large_one_does_not(tmp_path: Path) -> None:
    disk = FaultyDisk()
    async with opened(tmp_path, SERVE, disk, ONCE) as journal:
        disk.largest = 0
        record_one(journal, BIG)
        small = record_one(journal)
        disk.largest = 5000
    assert journal.state.lost_records == 1
    memory = Memory()
    await take_over_all(tmp_path, memory)
    assert memory.records.keys() == {small.id}


async def test_a10_records_that_find_no_room_at_the_close_are_counted_and_named(tmp_path: Path) -> None:
    disk = FaultyDisk()
    with capture_logs() as lines:
        async with opened(tmp_path, SERVE, disk, ONCE) as journal:
            begun = journal.begin(interaction())
            disk.room = 0
            ids = [str(record_one(journal).id) for _ in range(5)]
            begun.finish(answer(b"said"))
    assert journal.state.lost_records == 6
    (line,) = [line for line in lines if line["event"] == "records_lost_at_close"]
    assert (line["log_level"], line["lost"]) == ("error", 6)
    assert set(line["interaction_ids"]) == {*ids, str(begun.id)}


async def test_a10_a_record_that_every_sink_received_from_memory_is_not_lost(tmp_path: Path) -> None:
    disk = FaultyDisk()
    async with opened(tmp_path, SERVE, disk, ONCE) as journal:
        disk.room = 0
        record_one(journal)
        ship_all(journal.subscriptions[0])
    assert journal.state.lost_records == 0
    assert folders(tmp_path) == []


async def test_a_configured_size_holds_for_what_is_served_without_a_record_on_disk(tmp_path: Path) -> None:
    settings = replace(SERVE, max_bytes=4 * SMALL.segment_bytes)
    async with opened(tmp_path, settings) as journal:
        for _ in range(60):
            record_one(journal, BIG)
            await asyncio.sleep(0.005)
        assert journal.state.unwritten > 10
        assert journal.state.bytes <= settings.max_bytes
        ship_all(journal.subscriptions[0])
