"""The append-only log of one process: appends frames, rotates segments, and drops those that every sink has received.

Space is kept in reserve, so that a record that has begun can also end on a full disk: a segment is preallocated whole,
and the next one is prepared when it is half full. If that fails, no new record may begin, and the other half is left to
the ends of the running ones.
"""

from __future__ import annotations

import errno
import secrets
from contextlib import suppress
from typing import TYPE_CHECKING

import structlog

from gateway.journal import archive
from gateway.journal.admission import Admission
from gateway.journal.allocator import SegmentAllocator
from gateway.journal.disk import DISK_FULL_ERRORS
from gateway.journal.frames import MARKER_SIZE, FrameWriter
from gateway.journal.locations import Extent, Position, segment_path
from gateway.journal.lock import Checkpoint

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from gateway.journal.disk import Disk, DiskThread
    from gateway.journal.lock import JournalFolder
    from gateway.journal.segment_file import SegmentFile
    from gateway.settings import JournalSettings

FRESH_FILES = 2  # that one frame tries when a file has failed

log = structlog.get_logger()


class Segments:
    """Appends frames on the event loop; slow calls run in the disk thread."""

    def __init__(self, folder: JournalFolder, limits: JournalSettings, disk: Disk, thread: DiskThread) -> None:
        self._journal_folder = folder
        self._folder = folder.path
        self._limits = limits
        self._disk = disk
        self._thread = thread
        self._allocator = SegmentAllocator(folder, limits, disk)
        self._aio_fdsync = disk.aio_fdsync()
        self.frames = FrameWriter(secrets.token_bytes(MARKER_SIZE))
        self.begun = self.finished = 0  # records, ever
        self._dropped_below = 0  # every sink has received the segments below this number
        self._current: SegmentFile | None = None
        self._spare: SegmentFile | None = None  # the next one, ready for use
        self._is_preparing = False
        self._retired: list[SegmentFile] = []  # full, but not yet synced and closed
        self._sizes: dict[int, int] = {}  # of full segments, by their numbers
        self.lsn = 0  # bytes appended, ever: the position that a sync must reach
        self.other_bytes = 0  # of other processes' journals in the same directory
        self.archived_bytes = 0  # of all processes, when last measured
        self._free_bytes: int | None = None  # of the disk, when last measured
        self.admission = Admission(limits.max_bytes, lambda: self.total_bytes + self.other_bytes)

    @property
    def end(self) -> Position:
        """The position at which the next frame is written."""
        if self._current is None:
            return Position(self._allocator.last_number, 0)
        return Position(self._current.number, self._current.position)

    @property
    def total_bytes(self) -> int:
        """Bytes on disk of this process's segments, without archived ones."""
        open_files = sum(file.size for file in (self._current, self._spare) if file)
        return open_files + sum(self._sizes.values())

    @property
    def room_bytes(self) -> int:
        """How many more bytes may be written, by the settings and by the disk's free space when last measured."""
        allowed = self._limits.max_bytes - self.total_bytes - self.other_bytes
        if self._free_bytes is None:
            return max(0, allowed)
        return max(0, min(allowed, self._free_bytes + self.archived_bytes - self._limits.min_free_bytes))

    async def open(self) -> None:
        """Makes the first segment. On a full disk `check_space` makes it later."""
        try:
            self._current = await self._thread.run(self._creation())
        except OSError as error:
            self._set_write_fault(error)
        self.write_checkpoint()
        await self.check_space()

    def close(self) -> None:
        """Closes the files at their true sizes. Nothing may be appended any more."""
        if self._aio_fdsync is not None:
            self._aio_fdsync.close()
        for file in (*self._retired, self._current):
            if file is not None:
                file.close()
        if self._spare is not None:
            self._allocator.discard(self._spare)
        self._retired, self._current, self._spare = [], None, None

    # --- append ------------------------------------------------------------------------------------------------------

    def append(self, buffers: Sequence[bytes], *, is_end: bool = False) -> Extent:
        """Appends one frame, whole or not at all. The end of a record may use the reserve. Raises OSError."""
        size = sum(map(len, buffers))
        file = self._current
        try:
            if file is None or file.is_bad or (file.position and file.position + size > self._limits.segment_bytes):
                file = self._next_file(is_end=is_end)
            extent = file.append(buffers, size, b"" if file.position else self._header(file))
        except OSError as error:
            extent = self._append_to_fresh_file(buffers, size, error, is_end=is_end)
            file = self._current
            assert file is not None
        self.lsn += size
        if self._spare is None and file.position > self._limits.segment_bytes // 2 and not self.admission.has_fault():
            self._prepare_spare()
        return extent

    def append_together(self, *frames: Sequence[bytes], is_end: bool = False) -> list[Extent]:
        """Appends several frames side by side, all or none of them. Raises OSError."""
        segment, offset, _ = self.append([buffer for frame in frames for buffer in frame], is_end=is_end)
        extents = []
        for frame in frames:
            extents.append(Extent(segment, offset, sum(map(len, frame))))
            offset += extents[-1].size
        return extents

    def _header(self, file: SegmentFile) -> bytes:
        return self.frames.segment_header(file.number, self.begun, self.finished)

    def _next_file(self, *, is_end: bool) -> SegmentFile:
        """Returns the file for a frame that the current one cannot take. Raises OSError."""
        file = self._current
        if file is None:
            raise OSError(errno.ENOSPC, "no file could be made")
        try:
            return self._rotate()
        except OSError:
            if file.is_bad and not is_end:
                raise
            return file  # a file that is too large, or a doubtful one for an end, is better than none

    def _append_to_fresh_file(self, buffers: Sequence[bytes], size: int, error: OSError, *, is_end: bool) -> Extent:
        """Appends a frame to another file after a failed write. Raises OSError if no file takes it.

        On a full disk only the spare file is left, and it belongs to the ends of records. After any other fault a
        beginning record may use the spare file, and for an end one more file is opened.
        """
        failure = error
        for _ in range(FRESH_FILES):
            is_full = failure.errno in DISK_FULL_ERRORS
            if (is_full and not is_end) or (self._spare is None and (is_full or not is_end)):
                break
            try:
                file = self._rotate()
                extent = file.append(buffers, size, b"" if file.position else self._header(file))
            except OSError as again:
                failure = again
                continue
            if error.errno in DISK_FULL_ERRORS:
                self._set_write_fault(error)
            else:
                log.error("journal_file_failed", folder=str(self._folder), error=error.strerror, goes_on_in=file.number)
            return extent
        self._set_write_fault(failure)
        raise failure

    def _set_write_fault(self, error: OSError) -> None:
        self.admission.set_fault("write", f"cannot write to {self._folder}: {error.strerror}")

    # --- sync --------------------------------------------------------------------------------------------------------

    def sync(self, done: Callable[[OSError | None], None]) -> None:
        """Makes everything appended so far durable, then calls `done` on the loop."""
        if self._aio_fdsync is not None and self._current is not None and not self._retired:
            try:
                self._aio_fdsync.sync(self._current.fd, done)
            except OSError:  # not on this file system, or not now: the thread can
                pass
            else:
                return
        self._thread.submit(self.sync_job(), lambda _done, error: done(error))

    def sync_job(self) -> Callable[[], None]:
        """Returns a job for the disk thread that makes everything appended so far durable."""
        retired, self._retired = self._retired, []
        current = self._current

        def sync() -> None:
            try:
                for file in retired:
                    if file.position:
                        self._disk.sync(file.fd)
                if current:
                    self._disk.sync(current.fd)
            finally:
                for file in retired:
                    file.close()

        return sync

    def set_sync_fault(self, fault: str | None) -> None:
        """Reports a failed sync; None: syncs work again.

        The kernel may have dropped the file's unwritten pages, so the file gets no more frames.
        """
        if fault is None:
            self.admission.clear_fault("sync")
            return
        self.admission.set_fault("sync", fault)
        if self._current is not None and self._current.position:
            self._current.is_bad = True
            with suppress(OSError):  # no other file now: the next frame tries again
                self._rotate()

    # --- rotation ----------------------------------------------------------------------------------------------------

    def _rotate(self) -> SegmentFile:
        """Switches to the next file and returns it; an empty current file is good enough. Raises OSError."""
        old, new = self._current, self._spare
        if old is None:
            raise OSError(errno.ENOSPC, "no file could be made")
        if not old.position and not old.is_bad:
            return old
        if new is None:  # the thread is late: go on without a reserve
            if self.admission.has_fault("write", "spare"):  # `check_space` tries once a second, not once a frame
                raise OSError(errno.EIO, "no other file to write to")
            new = self._allocator.create_at_once(self._allocator.next_number())
        self._current, self._spare = new, None
        self._sizes[old.number] = old.position
        self._retired.append(old)
        self.write_checkpoint()
        if self._limits.sync == "none":
            self._close_retired()
        return new

    def _close_retired(self) -> None:
        retired, self._retired = self._retired, []

        def close() -> None:
            for file in retired:
                file.close()

        self._thread.submit(close, lambda _done, _error: None)

    def _creation(self) -> Callable[[], SegmentFile]:
        """Returns a job for the disk thread that creates the next file."""
        number = self._allocator.next_number()
        used = self.total_bytes + self.other_bytes + self.archived_bytes + self._limits.segment_bytes
        excess = used - self._limits.max_bytes if self.archived_bytes else 0
        return lambda: self._allocator.create(number, excess)

    def _prepare_spare(self) -> None:
        if self._is_preparing:
            return
        if self.total_bytes + self.other_bytes + self._limits.segment_bytes > self._limits.max_bytes:
            self.admission.set_fault("spare", self.admission.size_limit_reached)
            return
        self._is_preparing = True
        self._thread.submit(self._creation(), self._on_prepared)

    def _on_prepared(self, spare: SegmentFile | None, error: OSError | None) -> None:
        self._is_preparing = False
        if spare is None:
            self.admission.set_fault("spare", f"no room for another file in {self._folder}: {error}")
        elif self._current is None:  # closed
            self._allocator.discard(spare)
        elif spare.number < self._current.number:  # too late: it stays, empty, so that no number is missing
            self._sizes[spare.number] = 0
            spare.close()
        else:
            self._spare = spare
            self.admission.clear_fault("spare")
            self.admission.clear_fault("write")

    # --- space -------------------------------------------------------------------------------------------------------

    def write_checkpoint(self) -> None:
        """Records for a takeover what the folder must hold."""
        if self._current is not None:
            checkpoint = Checkpoint(self._current.number, self.begun, self.finished, self._dropped_below)
            self._journal_folder.write_checkpoint(checkpoint)

    def drop_before(self, segment: int) -> None:
        """Archives or removes the segments before this one, which every sink has received."""
        if segment > self._dropped_below:
            self._dropped_below = segment
            self.write_checkpoint()
        for number in [number for number in self._sizes if number < segment]:
            size = self._sizes.pop(number)
            if size and self._limits.shipped_s > 0:
                archive.archive_segment(segment_path(self._folder, number))
                self.archived_bytes += size
            else:
                segment_path(self._folder, number).unlink(missing_ok=True)
        self.admission.update_refusal()

    async def expire_archive(self) -> None:
        """Removes archived segments that are too old or take too much space. Called every few seconds."""
        used = self.total_bytes + self.other_bytes
        self.archived_bytes = await self._thread.run(lambda: self._allocator.expire_archive(used))

    async def check_space(self) -> None:
        """Measures the free space, and prepares a spare file where one is due. Called about once a second."""
        try:
            if self._current is None:
                self._current = await self._thread.run(self._creation())
            free = await self._thread.run(self._allocator.free_bytes)
        except OSError as error:
            self._set_write_fault(error)
            return
        self._free_bytes = free
        if free < self._limits.min_free_bytes:
            self.admission.set_fault("free", f"less than {self._limits.min_free_bytes} bytes free")
        else:
            self.admission.clear_fault("free")
        if self._spare is not None:
            self.admission.clear_fault("write")  # there is space; the next write shows whether it works
        elif self.admission.has_fault("write", "spare") or self._current.position > self._limits.segment_bytes // 2:
            self._prepare_spare()
        self.admission.update_refusal()
