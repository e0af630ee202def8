"""The append-only files of one owner: where frames go, when a new file is begun, and how much room is left.

Room is kept in hand so that what has begun can also be finished on a full disk: a file is preallocated whole, its
successor is prepared when it is half full, and where that fails nothing new may begin; the other half is for the ends.
"""

from __future__ import annotations

import errno
import os
import secrets
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import structlog

from gateway.journal import shipped_segments
from gateway.journal.frames import MARKER_SIZE, FrameWriter
from gateway.journal.lock import KEPT, SEGMENT, Totals

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from gateway.journal.disk import Disk, DiskThread
    from gateway.journal.lock import Folder
    from gateway.settings.settings import JournalSettings

SUFFIX = SEGMENT
NO_ROOM = frozenset((errno.ENOSPC, errno.EDQUOT))
FRESH_FILES = 2  # that one frame tries when a file has failed

log = structlog.get_logger()


class Span(NamedTuple):
    """Where a frame lies. Spans sort by the order in which they were written."""

    segment: int
    offset: int
    size: int


class Position(NamedTuple):
    segment: int
    offset: int


START = Position(0, 0)


def path_of(folder: Path, number: int) -> Path:
    return folder / f"{number:08d}{SUFFIX}"


def numbers_in(folder: Path, *suffixes: str) -> list[int]:
    """The segments that lie in a folder, oldest first. Numbers may be missing. Without suffixes: no kept ones."""
    found = {path.stem for suffix in suffixes or (SUFFIX,) for path in folder.glob("*" + suffix)}
    return sorted(int(stem) for stem in found if stem.isdecimal())


def open_segment(folder: Path, number: int) -> int:
    """A descriptor for reading a segment, also when it is kept. Raises FileNotFoundError."""
    path = path_of(folder, number)
    for candidate in (path, path.with_suffix(KEPT)):
        with suppress(FileNotFoundError):
            return os.open(candidate, os.O_RDONLY | os.O_CLOEXEC)
    return os.open(path, os.O_RDONLY | os.O_CLOEXEC)


@dataclass(slots=True)
class _File:
    number: int
    fd: int
    reserved: int  # bytes that the file system has promised
    position: int = 0
    is_bad: bool = False  # a write or a sync failed: whatever there is else is better

    @property
    def size(self) -> int:
        return max(self.reserved, self.position)


class Segments:
    """Appends frames. Lives on the event loop; slow calls run in the disk's thread."""

    def __init__(self, folder: Folder, limits: JournalSettings, disk: Disk, thread: DiskThread) -> None:
        self._owner = folder
        self._folder = folder.path
        self._limits = limits
        self._disk = disk
        self._thread = thread
        self._queue = disk.sync_queue()
        self.frames = FrameWriter(secrets.token_bytes(MARKER_SIZE))
        self.begun = self.finished = 0  # records, ever
        self._dropped = 0  # everybody has what lay in the segments below this number
        self._numbers = 0  # given out so far
        self._current: _File | None = None
        self._spare: _File | None = None
        self._is_preparing = False
        self._retired: list[_File] = []  # full, but not yet synced and closed
        self._sizes: dict[int, int] = {}  # of the files that are no longer written
        self._faults: dict[str, str] = {}  # what stands in the way of new records, by its source
        self.refusal: str | None = None  # why nothing new may begin
        self.written = 0  # bytes, ever: the mark that a sync must reach
        self.foreign_bytes = 0  # of other owners in the same directory
        self.kept_bytes = 0  # of all owners' shipped segments, which go when room is short; at the last look
        self._free_bytes: int | None = None  # of the disk, at the last look

    @property
    def end(self) -> Position:
        return Position(self._current.number, self._current.position) if self._current else Position(self._numbers, 0)

    @property
    def total(self) -> int:
        """Bytes of disk that this owner's files take, without kept ones."""
        live = sum(file.size for file in (self._current, self._spare) if file)
        return live + sum(self._sizes.values())

    @property
    def room_bytes(self) -> int:
        """How many more bytes may be taken, by the settings and by the disk as it was a moment ago."""
        allowed = self._limits.max_bytes - self.total - self.foreign_bytes
        if self._free_bytes is None:
            return max(0, allowed)
        return max(0, min(allowed, self._free_bytes + self.kept_bytes - self._limits.min_free_bytes))

    async def open(self) -> None:
        """The first file. On a full disk there is none yet: `review` will try again."""
        try:
            self._current = await self._thread.run(self._maker())
        except OSError as error:
            self._blame("write", f"cannot write to {self._folder}: {error.strerror}")
        self.note()
        await self.review()

    def append(self, buffers: Sequence[bytes], *, is_end: bool = False) -> Span:
        """One frame, whole or not at all. The end of what has begun may use the reserve. Raises OSError."""
        size = sum(map(len, buffers))
        try:
            file = self._file_for(size, is_end=is_end)
            self._write(file, buffers, size)
        except OSError as error:
            file = self._write_elsewhere(buffers, size, error, is_end=is_end)
        span = Span(file.number, file.position, size)
        file.position += size
        self.written += size
        if self._spare is None and file.position > self._limits.segment_bytes // 2 and not self._faults:
            self._prepare()
        return span

    def append_together(self, *frames: Sequence[bytes], is_end: bool = False) -> list[Span]:
        """Several frames side by side, all or none of them. Raises OSError."""
        segment, offset, _ = self.append([buffer for frame in frames for buffer in frame], is_end=is_end)
        spans = []
        for frame in frames:
            spans.append(Span(segment, offset, sum(map(len, frame))))
            offset += spans[-1].size
        return spans

    def flush(self, done: Callable[[OSError | None], None]) -> None:
        """Make everything written up to now durable, then call `done` on the loop."""
        if self._queue is not None and self._current is not None and not self._retired:
            try:
                self._queue.sync(self._current.fd, done)
            except OSError:  # not on this file system, or not now: the thread can
                pass
            else:
                return
        self._thread.submit(self.flushing(), lambda _done, error: done(error))

    def flushing(self) -> Callable[[], None]:
        """A job for the disk's thread, after which everything written up to now is durable."""
        retired, self._retired = self._retired, []
        current = self._current

        def flush() -> None:
            try:
                for file in retired:
                    if file.position:
                        self._disk.sync(file.fd)
                if current:
                    self._disk.sync(current.fd)
            finally:
                for file in retired:
                    self._put_away(file)

        return flush

    def note(self) -> None:
        """Tell who may adopt the folder what should be there."""
        if self._current is not None:
            self._owner.note(Totals(self._current.number, self.begun, self.finished, self._dropped))

    def drop_before(self, segment: int) -> None:
        """Everybody has what the files before this one hold: they are kept for a while, or go."""
        if segment > self._dropped:
            self._dropped = segment
            self.note()
        for number in [number for number in self._sizes if number < segment]:
            size = self._sizes.pop(number)
            if size and self._limits.shipped_s > 0:
                shipped_segments.keep(path_of(self._folder, number))
                self.kept_bytes += size
            else:
                path_of(self._folder, number).unlink(missing_ok=True)
        self._judge()

    async def tidy(self) -> None:
        """Called every few seconds: let kept files go whose time is over, or that take more than the settings allow."""
        used = self.total + self.foreign_bytes
        self.kept_bytes = await self._thread.run(lambda: self._tidied(used))

    def _tidied(self, used: int) -> int:
        """Bytes of the kept files that remain."""
        shipped_segments.expire(self._folder, self._limits.shipped_s)
        size = sum(found.size for found in shipped_segments.all_kept(self._folder.parent))
        return size - shipped_segments.reclaim(self._folder, used + size - self._limits.max_bytes)

    def blame_sync(self, fault: str | None) -> None:
        """A sync failed: the kernel may have dropped the pages, so this file gets no more (None: it works again)."""
        if fault is None:
            self._absolve("sync")
            return
        self._blame("sync", fault)
        if self._current is not None and self._current.position:
            self._current.is_bad = True
            with suppress(OSError):  # no other file now: the next frame asks again
                self._rotate()

    async def review(self) -> None:
        """Called about once a second: is there room, and do writes work again?"""
        try:
            if self._current is None:
                self._current = await self._thread.run(self._maker())
            free = await self._thread.run(self._free)
        except OSError as error:
            self._blame("write", f"cannot write to {self._folder}: {error.strerror}")
            return
        self._free_bytes = free
        self._set("free", f"less than {self._limits.min_free_bytes} bytes free", free < self._limits.min_free_bytes)
        if self._spare is not None:
            self._absolve("write")  # there is room; the next write shows the rest
        elif self._faults.keys() & {"write", "spare"} or self._current.position > self._limits.segment_bytes // 2:
            self._prepare()
        self._judge()

    def try_again(self) -> None:
        """Whatever has failed: the next frame may open another file."""
        self._faults.clear()
        self._judge()

    def _free(self) -> int:
        """Free bytes of the disk. Kept files go while there is less than the settings and the next file want."""
        free = self._disk.free_bytes(self._folder)
        short = self._limits.min_free_bytes + self._limits.segment_bytes - free
        return free if short <= 0 else free + shipped_segments.reclaim(self._folder, short)

    def close(self) -> None:
        """Give the files their true sizes and close them. Nothing may be appended any more."""
        if self._queue is not None:
            self._queue.close()
        for file in (*self._retired, self._current):
            if file is not None:
                self._put_away(file)
        if self._spare is not None:
            os.close(self._spare.fd)
            path_of(self._folder, self._spare.number).unlink(missing_ok=True)
        self._retired, self._current, self._spare = [], None, None

    # --- files -------------------------------------------------------------------------------------------------------

    def _maker(self) -> Callable[[], _File]:
        self._numbers += 1
        number = self._numbers
        excess = self.total + self.foreign_bytes + self.kept_bytes + self._limits.segment_bytes - self._limits.max_bytes

        def make() -> _File:
            self._owner.claim()
            shipped_segments.reclaim(self._folder, excess if self.kept_bytes else 0)
            path = path_of(self._folder, number)
            file = _File(number, self._disk.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL), 0)
            try:
                file.reserved = self._reserve(file.fd)
                self._disk.sync_folder(self._folder)
            except OSError:
                os.close(file.fd)
                path.unlink(missing_ok=True)
                raise
            return file

        return make

    def _reserve(self, fd: int) -> int:
        try:
            try:
                self._disk.reserve(fd, self._limits.segment_bytes)
            except OSError as error:
                if error.errno not in NO_ROOM or not shipped_segments.reclaim(self._folder, self._limits.segment_bytes):
                    raise
                self._disk.reserve(fd, self._limits.segment_bytes)
        except OSError as error:
            if error.errno in NO_ROOM or error.errno == errno.EIO:
                raise
            return 0  # the file system cannot: then the first full disk is met when writing
        except AttributeError:  # macOS
            return 0
        return self._limits.segment_bytes

    def _prepare(self) -> None:
        """Make the next file ready in the thread."""
        if self._is_preparing:
            return
        if self.total + self.foreign_bytes + self._limits.segment_bytes > self._limits.max_bytes:
            self._blame("spare", f"the journal has reached its {self._limits.max_bytes} bytes")
            return
        self._is_preparing = True
        self._thread.submit(self._maker(), self._prepared)

    def _prepared(self, spare: _File | None, error: OSError | None) -> None:
        self._is_preparing = False
        if spare is None:
            self._blame("spare", f"no room for another file in {self._folder}: {error}")
        elif self._current is None:  # closed
            os.close(spare.fd)
            path_of(self._folder, spare.number).unlink(missing_ok=True)
        elif spare.number < self._current.number:  # overtaken: it stays, empty, so that no number is missing
            self._sizes[spare.number] = 0
            self._put_away(spare)
        else:
            self._spare = spare
            self._absolve("spare")
            self._absolve("write")

    def _file_for(self, size: int, *, is_end: bool) -> _File:
        file = self._current
        if file is None:
            raise OSError(errno.ENOSPC, "no file could be made")
        is_full = file.position > 0 and file.position + size > self._limits.segment_bytes
        if not is_full and not file.is_bad:
            return file
        try:
            return self._rotate()
        except OSError:
            if file.is_bad and not is_end:
                raise
            return file  # better in a file that is too large, and an end in one that is in doubt, than not at all

    def _rotate(self) -> _File:
        """Go to the next file; an empty one is good enough. Raises OSError."""
        old, new = self._current, self._spare
        if old is None:
            raise OSError(errno.ENOSPC, "no file could be made")
        if not old.position and not old.is_bad:
            return old
        if new is None:  # the thread is late: go on without a reserve
            if self._faults.keys() & {"write", "spare"}:  # `review` tries once a second; here it would be every frame
                raise OSError(errno.EIO, "no other file to write to")
            self._numbers += 1
            fd = self._disk.open(path_of(self._folder, self._numbers), os.O_RDWR | os.O_CREAT | os.O_EXCL)
            new = _File(self._numbers, fd, 0)
        self._current, self._spare = new, None
        self._sizes[old.number] = old.position
        self._retired.append(old)
        self.note()
        if self._limits.sync == "none":
            self._thread.submit(self._closing(), lambda _done, _error: None)
        return new

    def _closing(self) -> Callable[[], None]:
        retired, self._retired = self._retired, []

        def close() -> None:
            for file in retired:
                self._put_away(file)

        return close

    def _put_away(self, file: _File) -> None:
        with suppress(OSError):  # the reserve behind the last frame; zeros there do no harm
            os.ftruncate(file.fd, file.position)
        os.close(file.fd)

    def _write(self, file: _File, buffers: Sequence[bytes], size: int) -> None:
        written = 0
        header = b""
        if not file.position:
            header = self.frames.segment_header(file.number, self.begun, self.finished)
            buffers = [header, *buffers]
            size += len(header)
        try:
            written = self._disk.write(file.fd, buffers, file.position)
            while written < size:  # a full disk takes a part of it, and the next call says why
                rest = b"".join(buffers)[written:]
                written += self._disk.write(file.fd, [rest], file.position + written)
        except OSError as error:
            file.is_bad = file.is_bad or error.errno not in NO_ROOM
            _erase(file, written)
            raise
        file.position += len(header)

    def _write_elsewhere(self, buffers: Sequence[bytes], size: int, error: OSError, *, is_end: bool) -> _File:
        """In a fresh file, where one is at hand; raises OSError where none is, or none takes it.

        On a full disk the spare file is all that is left, and belongs to the ends. Where a file has failed, a begin may
        have the spare one, and for an end yet another is opened.
        """
        failure = error
        for _ in range(FRESH_FILES):
            is_full = failure.errno in NO_ROOM
            if (is_full and not is_end) or (self._spare is None and (is_full or not is_end)):
                break
            try:
                file = self._rotate()
                self._write(file, buffers, size)
            except OSError as again:
                failure = again
                continue
            if error.errno in NO_ROOM:
                self._blame("write", f"cannot write to {self._folder}: {error.strerror}")
            else:
                log.error("journal_file_failed", folder=str(self._folder), error=error.strerror, goes_on_in=file.number)
            return file
        self._blame("write", f"cannot write to {self._folder}: {failure.strerror}")
        raise failure

    # --- faults ------------------------------------------------------------------------------------------------------

    def _set(self, source: str, fault: str, is_so: bool) -> None:
        if is_so:
            self._blame(source, fault)
        else:
            self._absolve(source)

    def _blame(self, source: str, fault: str) -> None:
        self._faults[source] = fault
        self._judge()

    def _absolve(self, source: str) -> None:
        if self._faults.pop(source, None) is not None:
            self._judge()

    def _judge(self) -> None:
        refusal = next(iter(self._faults.values()), None)
        if refusal is None and self.total + self.foreign_bytes > self._limits.max_bytes:
            refusal = f"the journal has reached its {self._limits.max_bytes} bytes"
        if refusal != self.refusal:
            log.error("journal_full", fault=refusal) if refusal else log.info("journal_has_room")
        self.refusal = refusal


def _erase(file: _File, written: int) -> None:
    """Undo a write that failed in the middle. The reserve stays, for what is smaller may fit there."""
    end = file.position if file.is_bad else max(file.position, file.reserved)
    try:
        os.ftruncate(file.fd, end)
        if rest := min(written, end - file.position):
            os.pwrite(file.fd, bytes(rest), file.position)
    except OSError:
        end = file.position
        with suppress(OSError):
            os.ftruncate(file.fd, end)
    file.reserved = min(file.reserved, end)
