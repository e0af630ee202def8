"""Syncs in the kernel's AIO queue, on a real disk, and in the thread if there is no such queue."""

from __future__ import annotations

import asyncio
import errno
import os
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
from caio import linux_aio

from gateway.errors import JournalFull
from gateway.journal import aio_fdsync
from gateway.journal.aio_fdsync import AioFdsync
from gateway.journal.disk import Disk
from gateway.journal.journal import Journal
from gateway.settings import JournalSettings
from tests.journal.samples import answer, interaction

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SETTINGS = JournalSettings(min_free_bytes=0, segment_bytes=64 * 1024)


class WatchedDisk(Disk):
    """A real one that counts who syncs."""

    def __init__(self) -> None:
        self.by_thread = 0
        self.by_kernel = 0
        self.refuses = False
        self.fault: OSError | None = None

    def sync(self, fd: int) -> None:
        self.by_thread += 1
        super().sync(fd)

    def aio_fdsync(self) -> AioFdsync | None:
        disk = self

        class Watched(AioFdsync):
            def sync(self, fd: int, done: Callable[[OSError | None], None]) -> None:
                if disk.refuses:
                    raise OSError(errno.EINVAL, "not on this file system")
                disk.by_kernel += 1
                super().sync(fd, lambda error: done(error or disk.fault))

        return Watched()


async def keep_one(journal: Journal, body: bytes = b"{}") -> None:
    entry = journal.begin(interaction(body))
    entry.finish(answer(body))
    await entry.kept()


async def test_the_kernel_calls_back_when_the_data_is_durable(tmp_path: Path) -> None:
    ended: asyncio.Future[OSError | None] = asyncio.get_running_loop().create_future()
    fd = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    with closing(AioFdsync()) as queue:
        os.write(fd, b"said")
        queue.sync(fd, ended.set_result)
        os.close(fd)  # the kernel holds the file until it is done
        assert await asyncio.wait_for(ended, 5) is None


async def test_many_syncs_end_each_with_its_own_call(tmp_path: Path) -> None:
    fd = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    ended: list[int] = []
    with closing(AioFdsync()) as queue:
        for number in range(100):
            here = asyncio.get_running_loop().create_future()
            os.write(fd, b"said")
            queue.sync(fd, here.set_result)
            assert await asyncio.wait_for(here, 5) is None
            ended.append(number)
    os.close(fd)
    assert ended == list(range(100))


async def test_a_sync_that_the_kernel_refuses_raises_at_once() -> None:
    reading, writing = os.pipe()
    with closing(AioFdsync()) as queue:
        for fd in (writing, 1 << 20):
            with pytest.raises(OSError, match=r"EINVAL|EBADF"):
                queue.sync(fd, lambda error: pytest.fail(f"called with {error}"))
    os.close(reading)
    os.close(writing)


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC])
def test_a_failed_sync_has_its_number(number: int) -> None:
    fault = aio_fdsync._error_of((1 << 64) - number)
    assert fault is not None
    assert (fault.errno, fault.strerror) == (number, os.strerror(number))


async def test_the_journal_syncs_by_the_kernel_alone(tmp_path: Path) -> None:
    disk = WatchedDisk()
    journal = Journal(SETTINGS, tmp_path, disk=disk)
    await journal.open()
    for _ in range(5):
        await keep_one(journal)
    assert (disk.by_kernel, disk.by_thread) == (5, 0)
    await journal.aclose()


async def test_two_files_are_synced_by_the_thread(tmp_path: Path) -> None:
    disk = WatchedDisk()
    journal = Journal(SETTINGS, tmp_path, disk=disk)
    await journal.open()
    for _ in range(4):
        await keep_one(journal, b"x" * 20_000)  # a file of 64 KiB takes one and a half of them
    assert disk.by_thread >= 2
    await journal.aclose()


async def test_a_file_system_without_aio_is_synced_by_the_thread(tmp_path: Path) -> None:
    disk = WatchedDisk()
    disk.refuses = True
    journal = Journal(SETTINGS, tmp_path, disk=disk)
    await journal.open()
    await keep_one(journal)
    assert (disk.by_kernel, disk.by_thread) == (0, 1)
    await journal.aclose()


async def test_a_failed_kernel_sync_is_reported(tmp_path: Path) -> None:
    disk = WatchedDisk()
    disk.fault = OSError(errno.EIO, os.strerror(errno.EIO))
    journal = Journal(SETTINGS, tmp_path, disk=disk)
    await journal.open()
    with pytest.raises(JournalFull, match="not safely on disk"):
        await keep_one(journal)
    await journal.aclose()


async def test_a_machine_without_the_queue_has_the_thread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aio_fdsync, "linux_aio", None)
    assert Disk().aio_fdsync() is None
    journal = Journal(SETTINGS, tmp_path)
    await journal.open()
    await keep_one(journal)
    assert journal.state.syncs == 1
    await journal.aclose()


async def test_a_kernel_without_the_queue_has_the_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(max_requests: int) -> None:
        raise SystemError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr(linux_aio, "Context", refuse)
    assert Disk().aio_fdsync() is None
