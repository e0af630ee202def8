"""Disks that are full, slow or broken, as the journal sees them; and a real one of two megabytes."""

from __future__ import annotations

import errno
import os
import subprocess
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from gateway.journal.disk import Disk

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path


def fault(number: int) -> OSError:
    return OSError(number, os.strerror(number))


class FaultyDisk(Disk):
    """A disk whose faults are switched on and off by a test."""

    def __init__(self) -> None:
        self.room: int | None = None  # bytes that writes may still take
        self.room_fault = errno.ENOSPC  # of a write when there are none
        self.bad_files: dict[int, int] = {}  # number of a segment → how writes to it fail
        self.open_fault: int | None = None
        self.largest: int | None = None  # bytes for which there is room side by side
        self.can_reserve = True
        self.reserve_fault: int | None = None
        self.write_fault: int | None = None
        self.sync_fault: int | None = None
        self.free = 1 << 40
        self.syncs = 0
        self.lets_sync = threading.Event()
        self.lets_sync.set()
        self._number_of: dict[int, int] = {}

    def open(self, path: Path, flags: int) -> int:
        if self.open_fault is not None:
            raise fault(self.open_fault)
        fd = super().open(path, flags)
        self._number_of[fd] = int(path.stem)
        return fd

    def write(self, fd: int, buffers: Sequence[bytes], offset: int) -> int:
        if self.write_fault is not None:
            raise fault(self.write_fault)
        if (number := self.bad_files.get(self._number_of[fd])) is not None:
            raise fault(number)
        if self.largest is not None and sum(map(len, buffers)) > self.largest:
            raise fault(errno.ENOSPC)
        if self.room is None:
            return super().write(fd, buffers, offset)
        if self.room == 0:
            raise fault(self.room_fault)
        taken = b"".join(buffers)[: self.room]
        self.room -= len(taken)
        return os.pwrite(fd, taken, offset)

    def sync(self, fd: int) -> None:
        self.lets_sync.wait()
        self.syncs += 1
        if self.sync_fault is not None:
            raise fault(self.sync_fault)
        super().sync(fd)

    def aio_fdsync(self) -> None:
        """None: the tests control its syncs, which go through `sync`."""

    def reserve(self, fd: int, size: int) -> None:
        if not self.can_reserve:
            raise fault(errno.EOPNOTSUPP)
        if self.reserve_fault is not None:
            raise fault(self.reserve_fault)
        super().reserve(fd, size)

    def free_bytes(self, directory: Path) -> int:
        return min(self.free, super().free_bytes(directory))


@contextmanager
def tiny_disk(directory: Path, size: str = "2m") -> Iterator[Path]:
    """A real file system of this size; skips the test where none can be mounted."""
    directory.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(directory)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("a tiny disk can be mounted by root only")
    try:
        yield directory
    finally:
        subprocess.run(["umount", "-l", str(directory)], check=True)
