"""One segment file that is open for appending."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING

from gateway.journal.disk import DISK_FULL_ERRORS
from gateway.journal.locations import Extent

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gateway.journal.disk import Disk


class SegmentFile:
    """Appends frames, each whole or not at all."""

    __slots__ = ("_disk", "fd", "is_bad", "number", "position", "reserved")

    def __init__(self, disk: Disk, number: int, fd: int, reserved: int = 0) -> None:
        self._disk = disk
        self.number = number
        self.fd = fd
        self.reserved = reserved  # preallocated bytes
        self.position = 0
        self.is_bad = False  # a write or a sync failed: any other file is better

    @property
    def size(self) -> int:
        """Bytes on disk."""
        return max(self.reserved, self.position)

    def append(self, buffers: Sequence[bytes], size: int, header: bytes) -> Extent:
        """Writes the header (of an empty file) and `size` bytes. Raises OSError; then nothing is written."""
        start = self.position + len(header)
        if header:
            buffers = [header, *buffers]
        missing = len(header) + size
        written = 0
        try:
            written = self._disk.write(self.fd, buffers, self.position)
            while written < missing:  # a full disk takes a part of it; the next call raises the cause
                rest = b"".join(buffers)[written:]
                written += self._disk.write(self.fd, [rest], self.position + written)
        except OSError as error:
            self.is_bad = self.is_bad or error.errno not in DISK_FULL_ERRORS
            self._undo(written)
            raise
        self.position = start + size
        return Extent(self.number, start, size)

    def close(self) -> None:
        """Truncates the file behind its last frame and closes it."""
        with suppress(OSError):  # zeros behind the last frame do no harm
            os.ftruncate(self.fd, self.position)
        os.close(self.fd)

    def _undo(self, written: int) -> None:
        """Removes a write that failed halfway. The preallocated bytes stay: a smaller frame can fit there."""
        end = self.position if self.is_bad else max(self.position, self.reserved)
        try:
            os.ftruncate(self.fd, end)
            if rest := min(written, end - self.position):
                os.pwrite(self.fd, bytes(rest), self.position)
        except OSError:
            end = self.position
            with suppress(OSError):
                os.ftruncate(self.fd, end)
        self.reserved = min(self.reserved, end)
