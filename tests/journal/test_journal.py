"""The journal: an open record can finish, a finished one is on disk, and a full disk refuses new ones in time."""

from __future__ import annotations

import asyncio
import errno
import sys
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from gateway.errors import JournalFull, ServiceError
from gateway.journal.frames import SEGMENT_HEADER_SIZE, Frame, FrameKind
from gateway.journal.journal import Journal, JournalOptions
from gateway.journal.locations import START, Position, segment_numbers, segment_path
from gateway.journal.reading import read_records
from gateway.journal.scan import SegmentScan
from gateway.journal.subscription import Cursor
from gateway.model import Outcome
from tests.journal.disks import FaultyDisk, tiny_disk
from tests.journal.samples import SMALL, answer, chunk, interaction
from tests.polling import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path
    from types import FrameType

    from gateway.journal.entry import JournalEntry
    from gateway.journal.pending import PendingRecord
    from gateway.settings import JournalSettings

BIG = b"x" * 10_000
QUICK = JournalOptions(tick_s=0.02, survey_every=1)
ROOM_AGAIN = 0.2


@asynccontextmanager
async def opened(
    directory: Path,
    settings: JournalSettings = SMALL,
    disk: FaultyDisk | None = None,
    options: JournalOptions = QUICK,
    names: Sequence[str] = ("memory",),
) -> AsyncIterator[Journal]:
    journal = Journal(settings, directory, disk=disk, options=options)
    for name in names:
        journal.subscribe(name)
    await journal.open()
    try:
        yield journal
    finally:
        await journal.aclose()


def frames_of(journal: Journal) -> list[Frame]:
    found = [
        one
        for number in segment_numbers(journal.folder)
        for one in SegmentScan.of_bytes(segment_path(journal.folder, number).read_bytes())
    ]
    frames = [one for one in found if isinstance(one, Frame)]
    assert found == frames
    return frames


def folders(directory: Path) -> list[Path]:
    return list(directory.iterdir())


def waiting(journal: Journal) -> list[PendingRecord]:
    (subscription,) = journal.subscriptions
    return subscription.peek(1000, 1 << 30)


def taken(journal: Journal) -> list[PendingRecord]:
    found = waiting(journal)
    journal.subscriptions[0].acknowledge(found)
    return found


def record_one(journal: Journal, body: bytes = b"{}") -> JournalEntry:
    entry = journal.begin(interaction(body))
    entry.finish(answer(body))
    return entry


async def test_a_request_is_on_disk_when_begin_returns(tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        entry = journal.begin(interaction(b"asked"))
        (frame,) = frames_of(journal)
        assert (frame.kind, frame.key) == (FrameKind.BEGUN, entry.id.bytes)
        assert frame.split()[1] == b"asked"


async def test_an_answer_is_synced_when_kept_returns(tmp_path: Path) -> None:
    disk = FaultyDisk()
    async with opened(tmp_path, disk=disk) as journal:
        entry = record_one(journal)
        assert disk.syncs == 0
        await entry.kept()
        assert disk.syncs == 1
        assert [frame.kind for frame in frames_of(journal)] == [FrameKind.BEGUN, FrameKind.FINISHED]


async def test_all_waiters_share_a_sync(tmp_path: Path) -> None:
    disk = FaultyDisk()
    async with opened(tmp_path, disk=disk) as journal:
        await asyncio.gather(*[record_one(journal).kept() for _ in range(50)])
        assert disk.syncs == 1


async def test_a_record_that_finishes_during_a_sync_waits_for_the_next_one(tmp_path: Path) -> None:
    disk = FaultyDisk()
    async with opened(tmp_path, disk=disk) as journal:
        disk.lets_sync.clear()
        first = asyncio.create_task(record_one(journal).kept())
        await asyncio.sleep(0.02)
        others = [asyncio.create_task(record_one(journal).kept()) for _ in range(10)]
        await asyncio.sleep(0.02)
        assert not any(task.done() for task in (first, *others))
        disk.lets_sync.set()
        await asyncio.gather(first, *others)
        assert disk.syncs == 2


async def test_with_interval_sync_kept_does_not_wait(tmp_path: Path) -> None:
    disk = FaultyDisk()
    async with opened(tmp_path, replace(SMALL, sync="interval"), disk) as journal:
        await record_one(journal).kept()
        assert disk.syncs == 0
        await until(lambda: disk.syncs == 1)


async def test_without_sync_kept_does_not_wait(tmp_path: Path) -> None:
    disk = FaultyDisk()
    async with opened(tmp_path, replace(SMALL, sync="none"), disk) as journal:
        await record_one(journal).kept()
        await asyncio.sleep(0.15)
        assert disk.syncs == 0


async def test_a_second_answer_is_ignored(tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        entry = journal.begin(interaction())
        assert entry.finish(answer(b"first")) is True
        assert entry.finish(answer(b"second")) is False
        entry.part([b"late"])
        (pending,) = taken(journal)
        assert pending.record is not None
        assert pending.record.answer.body == b"first"
        assert len(frames_of(journal)) == 2


async def test_a_part_takes_four_calls_to_the_disk(tmp_path: Path) -> None:
    calls: list[str] = []

    def profile(frame: FrameType, event: str, _argument: object) -> None:
        if event == "call":
            calls.append(frame.f_code.co_qualname)

    async with opened(tmp_path, disk=FaultyDisk()) as journal:
        entry, chunks = journal.begin(interaction()), [chunk("one "), chunk("two ")]
        sys.setprofile(profile)
        entry.part(chunks)
        sys.setprofile(None)
        entry.finish(answer())
        taken(journal)
    assert calls == [
        "JournalEntry.part",
        "FrameWriter.part",
        "Segments.append",
        "SegmentFile.append",
        "FaultyDisk.write",
        "Disk.write",
        "<lambda>",  # the constructor of `Extent`
    ]


async def test_records_read_back_equal_those_in_memory(tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        for number in range(30):
            record_one(journal, b"%d" % number * 500)
        pendings = waiting(journal)
        in_memory = [pending.record for pending in pendings]
        for pending in pendings:
            pending.record = None
        from_disk = await read_records(journal.folder, pendings)
        assert [from_disk[pending.key] for pending in pendings] == in_memory


async def test_finished_records_stay_in_memory_only_up_to_a_bound(tmp_path: Path) -> None:
    async with opened(tmp_path, options=replace(QUICK, cached_bytes=50_000)) as journal:
        for _ in range(10):
            record_one(journal, BIG)
        held = [pending.record is not None for pending in taken(journal)]
        assert held == [True] * 2 + [False] * 8
        record_one(journal, BIG)
        assert taken(journal)[0].record is not None  # there is room again


# --- segments --------------------------------------------------------------------------------------------------------


async def test_full_segments_are_followed_by_new_ones_and_dropped_when_shipped(tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        for _ in range(40):
            record_one(journal, BIG)
            await asyncio.sleep(0)
        assert len(segment_numbers(journal.folder)) > 5
        assert len(taken(journal)) == 40
        assert len(segment_numbers(journal.folder)) <= 2


async def test_a_record_larger_than_a_file_is_kept_whole(tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        large = b"y" * 100_000
        for body in (b"{}", large, b"{}"):
            record_one(journal, body)
        pendings = waiting(journal)
        for pending in pendings:
            pending.record = None
        found = await read_records(journal.folder, pendings)
        assert [found[pending.key].answer.body for pending in pendings] == [b"{}", large, b"{}"]
        taken(journal)


async def test_files_are_cut_to_their_true_size_when_they_are_full(tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        while len(segment_numbers(journal.folder)) < 3:
            record_one(journal, BIG)
        await record_one(journal).kept()
        first = segment_path(journal.folder, segment_numbers(journal.folder)[0])
        await until(lambda: not first.read_bytes().endswith(bytes(30)))


async def test_one_slow_stream_does_not_hold_back_all_later_segments(tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        slow = journal.begin(interaction(b"slow"))
        slow.part([chunk("one "), chunk("two ")])
        for _ in range(3):
            for _ in range(40):
                record_one(journal, BIG)
            slow.part([chunk("more ")])
            taken(journal)
            await asyncio.sleep(0.1)
            taken(journal)
        assert len(segment_numbers(journal.folder)) <= 4
        slow.finish(answer(b"at last"))
        (pending,) = waiting(journal)
        pending.record = None
        found = await read_records(journal.folder, [pending])
        assert found[pending.key].interaction.body == b"slow"


async def test_everything_shipped_leaves_nothing_behind(tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        record_one(journal)
        taken(journal)
    assert folders(tmp_path) == []


async def test_an_unshipped_segment_stays(tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        record_one(journal)
    (folder,) = folders(tmp_path)
    assert segment_numbers(folder) == [1]


async def test_a_segment_with_an_open_record_stays(tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        journal.begin(interaction())
        record_one(journal)
        taken(journal)
    (folder,) = folders(tmp_path)
    assert Cursor(folder / "memory.cursor").read() == Position(1, SEGMENT_HEADER_SIZE)


# --- no room ---------------------------------------------------------------------------------------------------------


async def test_a_short_write_leaves_no_bytes_and_refuses_new_records(tmp_path: Path) -> None:
    disk = FaultyDisk()
    async with opened(tmp_path, disk=disk) as journal:
        record_one(journal)
        disk.room = 100
        with pytest.raises(JournalFull):
            journal.begin(interaction(BIG))
        with pytest.raises(JournalFull):
            journal.begin(interaction())  # at once, without trying the disk
        assert len(frames_of(journal)) == 2
        disk.room = None
        await asyncio.sleep(ROOM_AGAIN)
        record_one(journal)
        assert len(frames_of(journal)) == 4


async def test_open_records_can_finish_on_a_full_disk(tmp_path: Path) -> None:
    disk = FaultyDisk()
    async with opened(tmp_path, disk=disk) as journal:
        entries = []
        disk.reserve_fault = errno.ENOSPC  # there is this file, and no room for another one
        with pytest.raises(JournalFull):
            while True:
                entries.append(journal.begin(interaction(b"x" * 1000)))
                await asyncio.sleep(0.001)
        assert len(entries) > 20
        for entry in entries:
            entry.finish(answer(b"short"))
        await entries[-1].kept()
        assert len(taken(journal)) == len(entries)


async def test_an_answer_that_the_disk_does_not_take_is_shipped_from_memory(tmp_path: Path) -> None:
    disk = FaultyDisk()
    async with opened(tmp_path, disk=disk) as journal:
        entry = journal.begin(interaction(b"asked"))
        disk.room = 0
        with pytest.raises(JournalFull):
            entry.finish(answer(b"said"))
        with pytest.raises(JournalFull):
            await entry.kept()
        assert journal.state.unwritten == 1
        (pending,) = taken(journal)
        assert pending.record is not None
        assert (pending.record.interaction.body, pending.record.answer.body) == (b"asked", b"said")
        await until(lambda: journal.state.unwritten == 0)


async def test_an_answer_that_the_disk_does_not_take_is_written_as_soon_as_it_does(tmp_path: Path) -> None:
    disk = FaultyDisk()
    async with opened(tmp_path, disk=disk) as journal:
        entry = journal.begin(interaction())
        disk.room = 0
        with pytest.raises(JournalFull):
            entry.finish(answer(b"said"))
        disk.room = None
        await until(lambda: journal.state.unwritten == 0 and journal.state.refusal is None)
        assert [frame.kind for frame in frames_of(journal)] == [FrameKind.BEGUN, FrameKind.FINISHED]


async def test_a_part_that_the_disk_does_not_take_is_counted(tmp_path: Path) -> None:
    disk = FaultyDisk()
    async with opened(tmp_path, disk=disk) as journal:
        entry = journal.begin(interaction())
        disk.room = 0
        entry.part([b"said"])
        assert journal.state.lost_parts == 1
        disk.room = None
        entry.finish(answer())


async def test_serving_on_a_full_disk_keeps_records_in_memory_for_the_store(tmp_path: Path) -> None:
    disk = FaultyDisk()
    async with opened(tmp_path, replace(SMALL, when_full="serve"), disk) as journal:
        disk.room = 0
        entry = journal.begin(interaction(b"asked"))
        entry.part([b"ignored"])
        entry.finish(answer(b"said"))
        await entry.kept()
        (subscription,) = journal.subscriptions
        (pending,) = subscription.peek(10, 1000)
        assert pending.record is not None
        disk.room = None
        await until(lambda: journal.state.unwritten == 0)
        assert [frame.kind for frame in frames_of(journal)] == [FrameKind.BEGUN, FrameKind.FINISHED]
        taken(journal)


async def test_serving_on_a_full_disk_counts_what_memory_does_not_take_either(tmp_path: Path) -> None:
    disk = FaultyDisk()
    options = replace(QUICK, memory_fallback_bytes=100_000)
    async with opened(tmp_path, replace(SMALL, when_full="serve"), disk, options) as journal:
        disk.room = 0
        for _ in range(20):
            record_one(journal, BIG)
        assert journal.state.lost_records > 0
        assert journal.state.unwritten + journal.state.lost_records == 20
        assert len(taken(journal)) == journal.state.unwritten
        disk.room = None


async def test_the_configured_size_is_a_limit(tmp_path: Path) -> None:
    settings = replace(SMALL, max_bytes=4 * SMALL.segment_bytes)
    async with opened(tmp_path, settings) as journal:
        with pytest.raises(JournalFull):
            while True:
                record_one(journal, BIG)
                await asyncio.sleep(0.001)
        assert "has reached its" in (journal.state.refusal or "")
        assert journal.state.bytes <= settings.max_bytes
        taken(journal)
        await asyncio.sleep(ROOM_AGAIN)
        record_one(journal)


async def test_other_processes_journals_count_for_the_configured_size(tmp_path: Path) -> None:
    settings = replace(SMALL, max_bytes=4 * SMALL.segment_bytes)
    async with opened(tmp_path, settings) as other:
        for _ in range(12):
            record_one(other, BIG)
        async with opened(tmp_path, settings) as journal:
            await until(lambda: journal.state.refusal is not None)
            with pytest.raises(JournalFull):
                journal.begin(interaction())


async def test_free_space_is_left_to_others(tmp_path: Path) -> None:
    disk = FaultyDisk()
    async with opened(tmp_path, replace(SMALL, min_free_bytes=1 << 20), disk) as journal:
        entry = journal.begin(interaction())
        disk.free = 1000
        await until(lambda: journal.state.refusal is not None)
        assert "free" in (journal.state.refusal or "")
        with pytest.raises(JournalFull):
            journal.begin(interaction())
        entry.finish(answer())
        await entry.kept()
        disk.free = 1 << 40
        await until(lambda: journal.state.refusal is None)
        journal.begin(interaction())


async def test_a_file_system_without_preallocation_will_do(tmp_path: Path) -> None:
    disk = FaultyDisk()
    disk.can_reserve = False
    async with opened(tmp_path, disk=disk) as journal:
        for _ in range(20):
            await record_one(journal, BIG).kept()
        assert len(taken(journal)) == 20


@pytest.mark.parametrize("when_full", ["refuse", "serve"])
async def test_a_real_full_disk_loses_nothing(tmp_path: Path, when_full: str) -> None:
    with tiny_disk(tmp_path / "disk") as directory:
        settings = replace(SMALL, max_bytes=1 << 30, when_full=when_full)
        async with opened(directory, settings) as journal:
            begun, finished, refused = [], 0, 0
            for _ in range(1500):
                try:
                    begun.append(journal.begin(interaction(b"x" * 1500)))
                except JournalFull:
                    refused += 1
                if len(begun) > 20:
                    entry = begun.pop(0)
                    entry.finish(answer(b"y" * 100))
                    finished += 1
                await asyncio.sleep(0.001)  # requests come no faster; the reserve is laid out by a thread
            for entry in begun:
                entry.finish(answer(b"y" * 100))  # does not raise: there is a reserve
                finished += 1
            assert (refused > 0) is (when_full == "refuse")
            pendings = []
            (subscription,) = journal.subscriptions
            while found := subscription.peek(100, 1 << 30):
                records = await read_records(journal.folder, found)
                assert all(records[pending.key].interaction.body == b"x" * 1500 for pending in found)
                pendings += found
                subscription.acknowledge(found)
            assert len(pendings) == finished
            async with asyncio.timeout(10):  # shipping has made room; on a busy machine it is seen later
                while True:
                    await asyncio.sleep(ROOM_AGAIN)
                    with suppress(JournalFull):
                        record_one(journal)
                        break
            taken(journal)


async def test_a_disk_that_is_full_from_the_start_refuses_and_recovers(tmp_path: Path) -> None:
    with tiny_disk(tmp_path / "disk") as directory:
        filler = directory / "filler"
        with pytest.raises(OSError, match="No space"):
            filler.write_bytes(bytes(4 << 20))
        async with opened(directory) as journal:
            with pytest.raises(JournalFull):
                journal.begin(interaction())
            filler.unlink()
            await until(lambda: journal.state.refusal is None)
            record_one(journal)
            taken(journal)


async def test_a_directory_that_cannot_be_made_stops_the_start(tmp_path: Path) -> None:
    (tmp_path / "journal").write_text("a file")
    journal = Journal(SMALL, tmp_path / "journal")
    with pytest.raises(ServiceError, match=r"cannot be kept in .*GATEWAY_DATA_DIR"):
        await journal.open()


# --- broken disks ----------------------------------------------------------------------------------------------------


async def test_a_failed_sync_fails_all_waiters_and_ends_the_file(tmp_path: Path) -> None:
    disk = FaultyDisk()
    async with opened(tmp_path, disk=disk) as journal:
        disk.sync_fault = errno.EIO
        entries = [record_one(journal) for _ in range(3)]
        for found in await asyncio.gather(*[entry.kept() for entry in entries], return_exceptions=True):
            assert isinstance(found, JournalFull)
        with pytest.raises(JournalFull):
            journal.begin(interaction())
        disk.sync_fault = None
        for entry in entries:  # a later sync that succeeds says nothing of these
            with pytest.raises(JournalFull):
                await entry.kept()
        await until(lambda: journal.state.refusal is None)
        for entry in entries:
            with pytest.raises(JournalFull):
                await entry.kept()
        entry = record_one(journal)
        await entry.kept()
        assert entry.begun is not None
        assert entry.begun.segment == 2
        assert len(taken(journal)) == 4  # the store gets them all the same


async def test_a_failed_sync_refuses_nobody_if_the_settings_say_serve(tmp_path: Path) -> None:
    disk = FaultyDisk()
    async with opened(tmp_path, replace(SMALL, when_full="serve"), disk) as journal:
        disk.sync_fault = errno.EIO
        await record_one(journal).kept()
        await record_one(journal).kept()
        assert len(taken(journal)) == 2
        disk.sync_fault = None


@pytest.mark.stopwatch
async def test_a_sync_that_hangs_fails_after_the_timeout(tmp_path: Path) -> None:
    disk = FaultyDisk()
    async with opened(tmp_path, disk=disk, options=replace(QUICK, sync_timeout_s=0.1)) as journal:
        disk.lets_sync.clear()
        try:
            first = asyncio.create_task(record_one(journal).kept())
            await asyncio.sleep(0.02)
            second = asyncio.create_task(record_one(journal).kept())
            with pytest.raises(JournalFull):
                await first
            with pytest.raises(JournalFull):
                await second
            with pytest.raises(JournalFull):
                journal.begin(interaction())
        finally:
            disk.lets_sync.set()
        await until(lambda: journal.state.refusal is None)
        await record_one(journal).kept()
        taken(journal)


async def test_a_failed_write_goes_on_in_a_fresh_file(tmp_path: Path) -> None:
    disk = FaultyDisk()
    async with opened(tmp_path, disk=disk) as journal:
        entry = record_one(journal)
        disk.write_fault = errno.EIO
        with pytest.raises(JournalFull):
            journal.begin(interaction())
        disk.write_fault = None
        await until(lambda: journal.state.refusal is None)
        entry = record_one(journal)
        assert entry.begun is not None
        assert entry.begun.segment > 1
        await entry.kept()
        taken(journal)


async def test_a_waiter_that_is_cancelled_does_not_disturb_the_others(tmp_path: Path) -> None:
    disk = FaultyDisk()
    async with opened(tmp_path, disk=disk) as journal:
        disk.lets_sync.clear()
        tasks = [asyncio.create_task(record_one(journal).kept()) for _ in range(3)]
        await asyncio.sleep(0.02)
        tasks[1].cancel()
        disk.lets_sync.set()
        found = await asyncio.gather(*tasks, return_exceptions=True)
        assert found[0] is None
        assert isinstance(found[1], asyncio.CancelledError)
        assert found[2] is None


def test_a_damaged_cursor_means_the_start(tmp_path: Path) -> None:
    path = tmp_path / "memory.cursor"
    assert Cursor(path).read() == START
    cursor = Cursor(path)
    cursor.write(Position(3, 77))
    cursor.close()
    assert Cursor(path).read() == Position(3, 77)
    whole = path.read_bytes()
    for at in range(len(whole)):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        assert Cursor(path).read() == START
        path.write_bytes(whole[:at])
        assert Cursor(path).read() == START


def test_the_outcomes_of_the_log_are_the_models() -> None:
    assert {outcome.value for outcome in Outcome} == {
        "complete",
        "truncated",
        "upstream_error",
        "client_cancelled",
        "policy_blocked",
        "refused",
        "interrupted",
    }
