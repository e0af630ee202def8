"""The journal lock: each process has a folder, locked while it lives. Other processes take over a dead one's folder."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import time
from contextlib import suppress
from struct import Struct
from typing import TYPE_CHECKING, NamedTuple
from uuid import UUID
from zlib import crc32

import structlog

from gateway.ids import Ids
from gateway.journal.disk import make_private_folder
from gateway.journal.locations import ARCHIVED_SUFFIX

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LOCK = "lock"
NEW_SUFFIX = ".new"  # a folder whose process does not hold the lock yet
_ABANDONED_S = 60.0  # a new folder without a lock is removed after this time

log = structlog.get_logger()


class Checkpoint(NamedTuple):
    """Progress of a journal's writer. After a takeover it shows which segments and records must be there."""

    segment: int  # the one that is being written
    begun: int  # records, ever
    finished: int
    dropped_below: int  # segments with lower numbers were removed on purpose


_CHECKPOINT = Struct("<IQQI")
_CRC = Struct("<I")


def read_checkpoint(folder: Path) -> Checkpoint | None:
    """Returns the checkpoint in the lock file; None if it is missing or damaged. Blocks."""
    with suppress(OSError):
        data = (folder / LOCK).read_bytes()
        if len(data) < _CHECKPOINT.size + _CRC.size:
            return None
        (crc,) = _CRC.unpack_from(data, _CHECKPOINT.size)
        if crc == crc32(data[: _CHECKPOINT.size]):
            return Checkpoint(*_CHECKPOINT.unpack_from(data))
    return None


class JournalFolder:
    """The folder of one process's journal, with its lock. flock belongs to the open file: any end of the process
    releases it."""

    def __init__(self, path: Path, lock: int = -1) -> None:
        self.path = path
        self._lock = lock  # descriptor; -1: not locked
        self._checkpoint: Checkpoint | None = None

    @classmethod
    def new(cls, directory: Path) -> JournalFolder:
        """Returns a folder with a new name; `create` makes it on disk."""
        return cls(directory / str(Ids().new()))

    def create(self) -> None:
        """Creates and locks the folder; does nothing the second time. Raises OSError.

        The folder gets its name when the lock is held, so that no process takes it over in between.
        """
        if self._lock >= 0:
            return
        make_private_folder(self.path.parent)
        new = self.path.with_name(self.path.name + NEW_SUFFIX)
        new.mkdir(mode=0o700, exist_ok=True)
        lock = _lock(new)
        if lock is None:
            raise BlockingIOError(errno.EWOULDBLOCK, "locked by another process", str(new))
        new.rename(self.path)
        self._lock = lock

    def write_checkpoint(self, checkpoint: Checkpoint) -> None:
        """Writes the checkpoint into the lock file, in one small write. Never raises: an older one is good enough."""
        if self._lock >= 0 and checkpoint != self._checkpoint:
            data = _CHECKPOINT.pack(*checkpoint)
            with suppress(OSError):
                os.pwrite(self._lock, data + _CRC.pack(crc32(data)), 0)
                self._checkpoint = checkpoint

    def clear_checkpoint(self) -> None:
        """Empties the lock file: every sink has received all records, so no segment counts as missing."""
        with suppress(OSError):
            os.ftruncate(self._lock, 0)

    def remove(self) -> None:
        """Removes the folder, whose records are all in the store. The lock goes last: nobody takes over half a
        folder."""
        if self._lock < 0:
            return
        self.clear_checkpoint()
        for found in self.path.iterdir():
            if found.name != LOCK:
                found.unlink(missing_ok=True)
        shutil.rmtree(self.path, ignore_errors=True)
        self.release()

    @property
    def is_locked(self) -> bool:
        return self._lock >= 0

    def release(self) -> None:
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1


def lock_dead_folders(directory: Path) -> Iterator[JournalFolder]:
    """Locks the folders of dead processes and yields them one by one, oldest first."""
    with suppress(FileNotFoundError):
        for path in sorted(directory.iterdir()):
            if not _is_journal(path):
                continue
            if path.name.endswith(NEW_SUFFIX):
                _remove_abandoned(path)
            elif (folder := try_lock(path)) is not None:
                yield folder


def journal_folders(directory: Path) -> Iterator[Path]:
    """Yields the folders of all processes, dead or alive; oldest first."""
    with suppress(FileNotFoundError):
        yield from (path for path in sorted(directory.iterdir()) if path.suffix != NEW_SUFFIX and _is_journal(path))


def try_lock(path: Path) -> JournalFolder | None:
    """Locks the folder of a dead process; None if another process holds the lock or the folder is gone."""
    try:
        lock = _lock(path)
    except OSError as error:  # another account's folder: its records stay there, and somebody should know
        log.warning("journal_lock_failed", folder=str(path), error=error.strerror)
        return None
    return None if lock is None else JournalFolder(path, lock)


def other_journals_bytes(own: Path) -> int:
    """Returns the bytes of all other processes' journals beside `own`, without archived segments. Blocks."""
    total = 0
    for folder in own.parent.iterdir():
        if folder != own and _is_journal(folder):
            with suppress(FileNotFoundError, PermissionError):  # just removed; another account's
                total += sum(found.stat().st_size for found in folder.iterdir() if found.suffix != ARCHIVED_SUFFIX)
    return total


def _is_journal(path: Path) -> bool:
    """Whether this is a journal's folder: the directory also holds the quarantine, or a file system's lost+found."""
    try:
        UUID(path.name.removesuffix(NEW_SUFFIX))
    except ValueError:
        return False
    return path.is_dir()


def _lock(path: Path) -> int | None:
    """Returns the locked file's descriptor; None if a living process holds the lock or the folder is gone."""
    try:
        fd = os.open(path / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.fstat(fd).st_ino == (path / LOCK).stat().st_ino:  # else it was taken over and removed meanwhile
            return fd
    except (BlockingIOError, FileNotFoundError):
        pass
    except BaseException:
        os.close(fd)
        raise
    os.close(fd)
    return None


def _remove_abandoned(path: Path) -> None:
    """Removes a new folder whose process died before it was locked. It holds no records."""
    with suppress(OSError):
        if time.time() - path.stat().st_mtime > _ABANDONED_S and (lock := _lock(path)) is not None:
            JournalFolder(path, lock).remove()
