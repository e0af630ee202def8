"""Makes segment files: creates them with their space preallocated, in the disk thread."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

from gateway.journal import archive
from gateway.journal.disk import DISK_FULL_ERRORS
from gateway.journal.locations import segment_path
from gateway.journal.segment_file import SegmentFile

if TYPE_CHECKING:
    from gateway.journal.disk import Disk
    from gateway.journal.lock import JournalFolder
    from gateway.settings import JournalSettings


class SegmentAllocator:
    """Numbers and creates a process's segment files. Archived files of any process go where the space is needed."""

    def __init__(self, folder: JournalFolder, limits: JournalSettings, disk: Disk) -> None:
        self._folder = folder
        self._limits = limits
        self._disk = disk
        self.last_number = 0

    def next_number(self) -> int:
        self.last_number += 1
        return self.last_number

    def create(self, number: int, excess: int = 0) -> SegmentFile:
        """Creates a preallocated file, and first frees `excess` bytes of archived ones. Blocks; raises OSError."""
        self._folder.create()
        archive.reclaim(self._folder.path, excess)
        file = self.create_at_once(number)
        try:
            file.reserved = self._preallocate(file.fd)
            self._disk.sync_folder(self._folder.path)
        except OSError:
            os.close(file.fd)
            segment_path(self._folder.path, number).unlink(missing_ok=True)
            raise
        return file

    def create_at_once(self, number: int) -> SegmentFile:
        """Creates a file without preallocated space, which is quick. Raises OSError."""
        path = segment_path(self._folder.path, number)
        return SegmentFile(self._disk, number, self._disk.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL))

    def discard(self, file: SegmentFile) -> None:
        """Closes and removes a file that was never written."""
        os.close(file.fd)
        segment_path(self._folder.path, file.number).unlink(missing_ok=True)

    def free_bytes(self) -> int:
        """Returns the disk's free bytes; first removes archived files if that is too little. Blocks."""
        free = self._disk.free_bytes(self._folder.path)
        short = self._limits.min_free_bytes + self._limits.segment_bytes - free
        return free if short <= 0 else free + archive.reclaim(self._folder.path, short)

    def expire_archive(self, used_bytes: int) -> int:
        """Removes archived files that are too old, or too large beside `used_bytes`; returns the bytes that are left.
        Blocks."""
        archive.expire(self._folder.path, self._limits.shipped_s)
        size = sum(found.size for found in archive.all_archived(self._folder.path.parent))
        return size - archive.reclaim(self._folder.path, used_bytes + size - self._limits.max_bytes)

    def _preallocate(self, fd: int) -> int:
        """Returns the preallocated bytes; 0 on a file system that cannot preallocate. Raises OSError on a full disk."""
        size = self._limits.segment_bytes
        try:
            try:
                self._disk.reserve(fd, size)
            except OSError as error:
                if error.errno not in DISK_FULL_ERRORS or not archive.reclaim(self._folder.path, size):
                    raise
                self._disk.reserve(fd, size)
        except OSError as error:
            if error.errno in DISK_FULL_ERRORS or error.errno == errno.EIO:
                raise
            return 0  # then a write meets the full disk
        except AttributeError:  # macOS
            return 0
        return size
