"""Archived segments stay for a while, give way when space is short, and are not shipped again by a takeover."""

from __future__ import annotations

import asyncio
import errno
import os
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from gateway.journal import archive, lock
from gateway.journal.journal import Journal, JournalOptions
from gateway.journal.locations import segment_numbers, segment_path
from gateway.shipping.shipper import Shipper
from tests.journal.disks import FaultyDisk
from tests.journal.samples import SMALL, Memory, answer, interaction
from tests.polling import until

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

    from gateway.settings import JournalSettings

BIG = b"x" * 10_000
KEEPING = replace(SMALL, shipped_s=3600.0)
QUICK = JournalOptions(tick_s=0.02, survey_every=1)


def record_some(journal: Journal, count: int) -> None:
    for _ in range(count):
        journal.begin(interaction(BIG)).finish(answer(BIG))
        if journal.subscriptions:
            subscription = journal.subscriptions[0]
            subscription.acknowledge(subscription.peek(1000, 1 << 30))


async def opened(directory: Path, settings: JournalSettings = KEEPING, disk: FaultyDisk | None = None) -> Journal:
    journal = Journal(settings, directory, disk=disk, options=QUICK)
    journal.subscribe("memory")
    await journal.open()
    return journal


async def shipped_elsewhere(directory: Path, settings: JournalSettings = KEEPING) -> Memory:
    """Opens and closes another process's journal in the same directory."""
    memory = Memory()
    journal = Journal(settings, directory)
    shipper = Shipper(journal, [memory])
    await journal.open()
    await shipper.start()
    await asyncio.sleep(0.2)
    await shipper.aclose(1)
    await journal.aclose()
    return memory


async def test_shipped_segments_are_archived_and_survive_a_clean_end(tmp_path: Path) -> None:
    journal = await opened(tmp_path)
    record_some(journal, 12)
    assert segment_numbers(journal.folder)[0] > 1
    assert archive.archived_in(journal.folder)
    await journal.aclose()
    assert segment_numbers(journal.folder) == []
    assert len(archive.archived_in(journal.folder)) == 4


async def test_archived_segments_are_not_shipped_by_the_next_process(tmp_path: Path) -> None:
    journal = await opened(tmp_path)
    record_some(journal, 12)
    await journal.aclose()
    memory = await shipped_elsewhere(tmp_path)
    assert memory.records == {}
    assert journal.folder.exists()


async def test_archived_segments_of_a_dead_process_expire_with_their_folder(tmp_path: Path) -> None:
    journal = await opened(tmp_path)
    record_some(journal, 12)
    await journal.aclose()
    await asyncio.sleep(0.05)
    await shipped_elsewhere(tmp_path, replace(KEEPING, shipped_s=0.01))
    assert not journal.folder.exists()


async def test_archived_segments_of_a_living_process_expire(tmp_path: Path) -> None:
    journal = await opened(tmp_path, replace(KEEPING, shipped_s=0.1))
    record_some(journal, 12)
    await until(lambda: not archive.archived_in(journal.folder))
    await journal.aclose()


async def test_archived_segments_leave_a_journal_all_its_space(tmp_path: Path) -> None:
    journal = await opened(tmp_path)
    for _ in range(20):  # 60 times 20 kB, of 1 MiB
        record_some(journal, 3)
        await asyncio.sleep(0.02)
        assert journal.state.refusal is None
        assert journal.state.room_bytes > KEEPING.max_bytes * 0.8
    on_disk = sum(path.stat().st_size for path in journal.folder.iterdir())
    assert KEEPING.max_bytes * 0.6 < on_disk <= KEEPING.max_bytes + KEEPING.segment_bytes
    numbers = sorted(found.number for found in archive.archived_in(journal.folder))
    assert numbers[0] > 1  # the oldest went first
    assert len(numbers) >= numbers[-1] - numbers[0] - 2
    await journal.aclose()


async def test_archived_segments_of_dead_processes_make_room_too(tmp_path: Path) -> None:
    for _ in range(3):
        journal = await opened(tmp_path)
        record_some(journal, 12)
        await journal.aclose()
    dead = len(list(lock.journal_folders(tmp_path)))
    journal = await opened(tmp_path)
    for _ in range(15):
        record_some(journal, 3)
        await asyncio.sleep(0.02)
        assert journal.state.refusal is None
    assert len(list(lock.journal_folders(tmp_path))) < dead + 1
    await journal.aclose()


async def test_archived_segments_are_removed_when_the_disk_is_short(tmp_path: Path) -> None:
    disk = FaultyDisk()
    journal = await opened(tmp_path, replace(KEEPING, min_free_bytes=1 << 20), disk)
    record_some(journal, 12)
    assert archive.archived_in(journal.folder)
    disk.free = (1 << 20) + 1000
    await until(lambda: not archive.archived_in(journal.folder))
    assert journal.state.refusal is None
    await journal.aclose()


async def test_archived_segments_of_another_living_process_stay(tmp_path: Path) -> None:
    living = await opened(tmp_path)
    record_some(living, 12)
    before = sorted(found.path for found in archive.archived_in(living.folder))
    own = tmp_path / str(interaction().id)
    assert archive.reclaim(own, 1 << 30) == 0
    assert sorted(found.path for found in archive.archived_in(living.folder)) == before
    await living.aclose()


async def test_an_unshipped_segment_beside_archived_ones_is_shipped_and_then_archived(tmp_path: Path) -> None:
    journal = await opened(tmp_path)
    record_some(journal, 12)
    left = journal.begin(interaction())
    left.finish(answer())
    await journal.aclose()
    assert segment_numbers(journal.folder) != []
    memory = await shipped_elsewhere(tmp_path)
    assert set(memory.records) == {left.id}
    assert segment_numbers(journal.folder) == []
    assert len(archive.archived_in(journal.folder)) == 4


async def test_nothing_stays_of_a_process_that_recorded_nothing(tmp_path: Path) -> None:
    journal = await opened(tmp_path)
    await journal.aclose()
    assert not journal.folder.exists()


async def test_a_process_without_records_does_not_touch_other_archives(tmp_path: Path) -> None:
    first = await opened(tmp_path)
    record_some(first, 12)
    await first.aclose()
    old = time.time() - 10_000
    for found in archive.archived_in(first.folder):
        os.utime(found.path, (old, old))  # when it was last written says nothing
    await shipped_elsewhere(tmp_path)
    assert len(archive.archived_in(first.folder)) == 4
    assert not segment_path(first.folder, 1).exists()


async def test_an_unreadable_archive_does_not_hold_back_an_unshipped_journal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when no descriptor is left: the locks of those found before must not stay with nobody."""
    dead = Journal(KEEPING, tmp_path)
    await dead.open()
    record_some(dead, 2)
    await dead.aclose()
    shelved = await opened(tmp_path)
    record_some(shelved, 2)
    await shelved.aclose()
    looked = archive.expire_dead_folder
    calls = 0

    def expire_dead_folder(folder: lock.JournalFolder, seconds: float) -> bool:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return looked(folder, seconds)

    monkeypatch.setattr(archive, "expire_dead_folder", expire_dead_folder)
    assert len((await shipped_elsewhere(tmp_path)).records) == 2
    assert calls == 1
