"""Whose journal is it? One folder a process, with a lock that lives as long as the process; the dead can be adopted."""

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
from gateway.journal.disk import make_folder

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LOCK = "lock"
SEGMENT = ".seg"  # ending of a file that somebody has yet to get
KEPT = ".kept"  # and of one that everybody has got
UNREADY = ".new"  # ending of a folder whose owner does not hold the lock yet
_ABANDONED_S = 60.0

log = structlog.get_logger()


class Totals(NamedTuple):
    """How far an owner is, so that who adopts its folder knows what should be there."""

    number: int  # of the segment that is written
    begun: int  # records, ever
    finished: int
    dropped: int  # segments below this number went on purpose


_TOTALS = Struct("<IQQI")
_CRC = Struct("<I")


def totals_of(folder: Path) -> Totals | None:
    """What the owner has noted; None if it has not, or the note is damaged. Blocks."""
    with suppress(OSError):
        data = (folder / LOCK).read_bytes()
        if len(data) < _TOTALS.size + _CRC.size:
            return None
        (crc,) = _CRC.unpack_from(data, _TOTALS.size)
        if crc == crc32(data[: _TOTALS.size]):
            return Totals(*_TOTALS.unpack_from(data))
    return None


class Folder:
    """An owner's folder. flock goes with the open file, so any end of the process frees it."""

    def __init__(self, path: Path, lock: int = -1) -> None:
        self.path = path
        self._lock = lock
        self._noted: Totals | None = None

    @classmethod
    def fresh(cls, directory: Path) -> Folder:
        """One of our own, which `claim` makes."""
        return cls(directory / str(Ids().new()))

    def claim(self) -> None:
        """Make the folder, once. It gets its name only when the lock is held: nobody can take it for a dead one's."""
        if self._lock >= 0:
            return
        make_folder(self.path.parent)
        unready = self.path.with_name(self.path.name + UNREADY)
        unready.mkdir(mode=0o700, exist_ok=True)
        lock = _lock(unready)
        if lock is None:
            raise BlockingIOError(errno.EWOULDBLOCK, "locked by somebody else", str(unready))
        unready.rename(self.path)
        self._lock = lock

    def note(self, totals: Totals) -> None:
        """Write down, in the lock's file, how far its owner is. One small write; a lost one is not missed much."""
        if self._lock >= 0 and totals != self._noted:
            data = _TOTALS.pack(*totals)
            with suppress(OSError):
                os.pwrite(self._lock, data + _CRC.pack(crc32(data)), 0)
                self._noted = totals

    def settle(self) -> None:
        """Everybody has what was in it: nothing that is not there is missing."""
        with suppress(OSError):
            os.ftruncate(self._lock, 0)

    def remove(self) -> None:
        """Everything in it is in the store. The lock goes last, so that nobody adopts half a folder."""
        if self._lock < 0:
            return
        self.settle()
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


def orphans(directory: Path) -> Iterator[Folder]:
    """Folders whose owners are dead, one by one, locked for us; the oldest first."""
    with suppress(FileNotFoundError):
        for path in sorted(directory.iterdir()):
            if not _is_owners(path):
                continue
            if path.name.endswith(UNREADY):
                _sweep(path)
            elif (lock := _lock_of_orphan(path)) is not None:
                yield Folder(path, lock)


def folders_in(directory: Path) -> Iterator[Path]:
    """Every owner's folder, living or dead; the oldest first."""
    with suppress(FileNotFoundError):
        yield from (path for path in sorted(directory.iterdir()) if path.suffix != UNREADY and _is_owners(path))


def locked(path: Path) -> Folder | None:
    """A dead owner's folder, locked for us; None: somebody has it, or it is gone."""
    lock = _lock_of_orphan(path)
    return None if lock is None else Folder(path, lock)


def _lock_of_orphan(path: Path) -> int | None:
    try:
        return _lock(path)
    except OSError as error:  # another account's: what is in it stays there, and somebody should know
        log.warning("journal_cannot_be_adopted", folder=str(path), error=error.strerror)
        return None


def bytes_of_others(own: Path) -> int:
    """What the other owners' files take in the directory that is ours, too, without kept ones; blocks."""
    total = 0
    for folder in own.parent.iterdir():
        if folder != own and _is_owners(folder):
            with suppress(FileNotFoundError, PermissionError):  # adopted meanwhile; another account's
                total += sum(found.stat().st_size for found in folder.iterdir() if found.suffix != KEPT)
    return total


def _is_owners(path: Path) -> bool:
    """Other things may lie in the directory: our quarantine, a file system's lost+found."""
    try:
        UUID(path.name.removesuffix(UNREADY))
    except ValueError:
        return False
    return path.is_dir()


def _lock(path: Path) -> int | None:
    """The locked file's descriptor; None if a living process holds it, or the folder has just gone."""
    try:
        fd = os.open(path / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.fstat(fd).st_ino == (path / LOCK).stat().st_ino:  # else it was adopted and removed in the meantime
            return fd
    except (BlockingIOError, FileNotFoundError):
        pass
    except BaseException:
        os.close(fd)
        raise
    os.close(fd)
    return None


def _sweep(path: Path) -> None:
    """A folder that died while it was made holds nothing."""
    with suppress(OSError):
        if time.time() - path.stat().st_mtime > _ABANDONED_S and (lock := _lock(path)) is not None:
            Folder(path, lock).remove()
