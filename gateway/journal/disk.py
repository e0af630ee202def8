"""The few calls by which the journal touches a disk, and the one thread in which the slow ones run."""

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

COPIED_BYTES = 64 * 1024
PAGE = 4096
PAUSE_S = 0.5

log = structlog.get_logger()

P = ParamSpec("P")
T = TypeVar("T")
Job = tuple["Callable[[], object]", "Callable[[object, OSError | None], None]"]


def make_folder(path: Path) -> None:
    """Makes a folder that only this account may enter, and the data directory above it, whatever the umask: who may
    write there could put another folder of sessions in place of ours. Raises OSError."""
    # Others may pass through, as the embedded PostgreSQL's account must when we are root.
    path.parent.mkdir(mode=0o711 if os.geteuid() == 0 else 0o700, parents=True, exist_ok=True)
    path.mkdir(mode=0o700, exist_ok=True)


class Disk:
    """The real one. Tests have one that is full, or that fails."""

    def open(self, path: Path, flags: int) -> int:
        return os.open(path, flags | os.O_CLOEXEC, 0o600)

    def write(self, fd: int, buffers: Sequence[bytes], offset: int) -> int:
        """Write at the offset; may write less than given, as a full disk does."""
        if len(buffers) == 1:
            return os.pwrite(fd, buffers[0], offset)
        if len(buffers) == 2 and len(buffers[1]) < COPIED_BYTES:  # pwritev would cost half as much again
            return os.pwrite(fd, buffers[0] + buffers[1], offset)
        return os.pwritev(fd, buffers, offset)

    def sync(self, fd: int) -> None:
        os.fdatasync(fd) if hasattr(os, "fdatasync") else os.fsync(fd)

    def sync_queue(self) -> AioFdsync | None:
        """The kernel's own queue for syncs, which spares the thread; None where there is none."""
        try:
            return AioFdsync()
        except OSError:
            return None

    def reserve(self, fd: int, size: int) -> None:
        """Make room for `size` bytes; OSError where the file system cannot, or has none."""
        os.posix_fallocate(fd, 0, size)

    def free_bytes(self, directory: Path) -> int:
        found = os.statvfs(directory)
        return found.f_bavail * found.f_frsize

    def sync_folder(self, directory: Path) -> None:
        """Make the names of new files durable, too."""
        fd = os.open(directory, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


class DiskThread:
    """One daemon thread for what may take long on a disk. A disk that hangs does not hang the process's end.

    A plain queue instead of an executor: a hand-over costs a third of the CPU.
    """

    def __init__(self) -> None:
        self._jobs: SimpleQueue[Job | None] = SimpleQueue()
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._work, name="journal-disk", daemon=True)
        self._thread.start()

    def submit(self, work: Callable[[], T], done: Callable[[T | None, OSError | None], None]) -> None:
        """Run `work` in the thread, then `done(result, error)` on the loop."""
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
        """No more jobs; what is queued is still done."""
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
            except RuntimeError:  # the loop is closed: nobody waits any more
                return


def read_at(fd: int, offset: int, size: int) -> bytes:
    """So many bytes, less at the end of the file. Pages that the disk cannot read come as zeros; blocks."""
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
    """Like `asyncio.to_thread`, but a cancelled caller waits for the end, so that no descriptor is closed under it."""
    task = asyncio.ensure_future(asyncio.to_thread(work, *args, **kwargs))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait({task})
        raise


async def patiently(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """The same, again and again while the system is short of descriptors, of memory or of room."""
    is_said = False
    while True:
        try:
            return await in_thread(work, *args, **kwargs)
        except OSError as error:
            if not is_said:
                log.warning("disk_is_waited_for", error=error.strerror)
            is_said = True
        await asyncio.sleep(PAUSE_S)
