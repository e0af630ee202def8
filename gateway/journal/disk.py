"""The journal's disk calls, and the thread in which the slow ones run."""

from __future__ import annotations

import asyncio
import errno
import os
import threading
from queue import SimpleQueue
from typing import TYPE_CHECKING, ParamSpec, TypeVar

import structlog

from gateway.journal.aio_fdsync import AioFdsync

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

DISK_FULL_ERRORS = frozenset((errno.ENOSPC, errno.EDQUOT))
JOINED_BYTES = 64 * 1024  # smaller buffers are joined for one pwrite
PAGE = 4096
RETRY_S = 0.5

log = structlog.get_logger()

P = ParamSpec("P")
T = TypeVar("T")
Job = tuple["Callable[[], object]", "Callable[[object, OSError | None], None]"]


def make_private_folder(path: Path) -> None:
    """Makes a folder that only this account may enter, and the data directory above it, whatever the umask is: an
    account that may write there could replace the folder of sessions. Raises OSError."""
    # Others may pass through, as the embedded PostgreSQL's account must when we are root.
    path.parent.mkdir(mode=0o711 if os.geteuid() == 0 else 0o700, parents=True, exist_ok=True)
    path.mkdir(mode=0o700, exist_ok=True)


class Disk:
    """The real disk. Tests have one that is full, or that fails."""

    def open(self, path: Path, flags: int) -> int:
        return os.open(path, flags | os.O_CLOEXEC, 0o600)

    def write(self, fd: int, buffers: Sequence[bytes], offset: int) -> int:
        """Writes at the offset and returns the bytes written: fewer than given on a full disk."""
        if len(buffers) == 1:
            return os.pwrite(fd, buffers[0], offset)
        if len(buffers) == 2 and len(buffers[1]) < JOINED_BYTES:  # pwritev costs 50 % more
            return os.pwrite(fd, buffers[0] + buffers[1], offset)
        return os.pwritev(fd, buffers, offset)

    def sync(self, fd: int) -> None:
        os.fdatasync(fd) if hasattr(os, "fdatasync") else os.fsync(fd)

    def aio_fdsync(self) -> AioFdsync | None:
        """Returns the kernel's queue for syncs, which needs no thread; None if it cannot be used."""
        try:
            return AioFdsync()
        except OSError:
            return None

    def reserve(self, fd: int, size: int) -> None:
        """Preallocates `size` bytes. Raises OSError if the file system cannot, or is full."""
        os.posix_fallocate(fd, 0, size)

    def free_bytes(self, directory: Path) -> int:
        found = os.statvfs(directory)
        return found.f_bavail * found.f_frsize

    def sync_folder(self, directory: Path) -> None:
        """Makes the names of new files durable."""
        fd = os.open(directory, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


class DiskThread:
    """One daemon thread for slow disk calls: a disk that hangs does not block the end of the process.

    It has a plain queue, because a hand-over through an executor costs three times the CPU.
    """

    def __init__(self) -> None:
        self._jobs: SimpleQueue[Job | None] = SimpleQueue()
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._work, name="journal-disk", daemon=True)
        self._thread.start()

    def submit(self, work: Callable[[], T], done: Callable[[T | None, OSError | None], None]) -> None:
        """Runs `work` in the thread, then `done(result, error)` on the loop."""
        self._jobs.put((work, done))  # type: ignore[arg-type]

    async def run(self, work: Callable[[], T]) -> T:
        future: asyncio.Future[T] = self._loop.create_future()

        def done(result: T | None, error: OSError | None) -> None:
            if future.cancelled():
                return
            if error is not None:
                future.set_exception(error)
            else:
                future.set_result(result)  # type: ignore[arg-type]

        self.submit(work, done)
        return await future

    def stop(self) -> None:
        """Ends the thread after the queued jobs."""
        self._jobs.put(None)

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            work, done = job
            result: object = None
            error: OSError | None = None
            try:
                result = work()
            except OSError as caught:
                error = caught
            try:
                self._loop.call_soon_threadsafe(done, result, error)
            except RuntimeError:  # the loop is closed: nothing waits for the result
                return


def read_at(fd: int, offset: int, size: int) -> bytes:
    """Reads `size` bytes, fewer at the end of the file. Pages that the disk cannot read are zeros. Blocks."""
    try:
        return os.pread(fd, size, offset)
    except OSError as error:
        if error.errno != errno.EIO:
            raise
    pages = []
    end = min(offset + size, os.fstat(fd).st_size)
    while offset < end:
        wanted = min(PAGE - offset % PAGE, end - offset)
        try:
            pages.append(os.pread(fd, wanted, offset))
        except OSError:
            pages.append(bytes(wanted))
        offset += wanted
    return b"".join(pages)


async def in_thread(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Like `asyncio.to_thread`, but a cancelled caller waits until `work` ends: it may use the caller's descriptors."""
    task = asyncio.ensure_future(asyncio.to_thread(work, *args, **kwargs))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait({task})
        raise


async def in_thread_with_retry(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Like `in_thread`, but repeats `work` after each OSError: the system can lack descriptors, memory or space."""
    is_logged = False
    while True:
        try:
            return await in_thread(work, *args, **kwargs)
        except OSError as error:
            if not is_logged:
                log.warning("disk_retry", error=error.strerror)
            is_logged = True
        await asyncio.sleep(RETRY_S)
