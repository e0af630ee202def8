"""Shipped segments that stay for a while, so that a database which was set back can get them again.

They have another ending, so that nobody takes them for unshipped ones, and their change time says since when they are
kept. They take no room from anybody: they go, oldest first, when room is short. All functions block.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple
from uuid import UUID

from gateway.journal import lock
from gateway.journal.lock import KEPT

if TYPE_CHECKING:
    from pathlib import Path


COPIES = "kept-"  # folders of single records that are kept as segments are, see `copies`


class Kept(NamedTuple):
    """One kept segment, or the copy of a record. The oldest one sorts first."""

    since: float  # Unix time
    number: int
    size: int
    path: Path


def keep(path: Path) -> None:
    """Everybody has what this segment holds."""
    with suppress(FileNotFoundError):
        path.rename(path.with_suffix(KEPT))


def kept_in(folder: Path) -> list[Kept]:
    """A folder's kept segments, in no order."""
    found = []
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.endswith(KEPT):
                with suppress(FileNotFoundError, ValueError):  # just gone; not ours
                    status = entry.stat()
                    number = int(entry.name.removesuffix(KEPT))
                    found.append(Kept(status.st_ctime, number, status.st_size, folder / entry.name))
    return found


def all_kept(directory: Path) -> list[Kept]:
    """Those of all owners in the directory, and copies, oldest first."""
    segments = [kept for folder in lock.folders_in(directory) for kept in kept_in(folder)]
    return sorted([*segments, *_copies_in(directory)])


def _copies_in(directory: Path) -> list[Kept]:
    found = []
    for path in directory.glob(f"{COPIES}*/*"):
        with suppress(FileNotFoundError):
            status = path.stat()
            found.append(Kept(status.st_ctime, 0, status.st_size, path))
    return found


def reclaim(own: Path, wanted: int) -> int:
    """Remove the oldest ones, of our own folder and of dead owners', until so many bytes are free; how many are."""
    freed = 0
    for kept in all_kept(own.parent) if wanted > 0 else ():
        if freed >= wanted:
            break
        if kept.path.parent == own or kept.path.parent.name.startswith(COPIES):
            kept.path.unlink(missing_ok=True)
            freed += kept.size
        elif (folder := lock.locked(kept.path.parent)) is not None:
            kept.path.unlink(missing_ok=True)
            freed += kept.size
            _release(folder)
    return freed


def expire(own: Path, seconds: float) -> None:
    """Remove those of our own folder, and copies, that are kept for longer."""
    for kept in (*kept_in(own), *_copies_in(own.parent)):
        if kept.since < time.time() - seconds:
            kept.path.unlink(missing_ok=True)


def shelve(folder: lock.Folder, seconds: float) -> None:
    """Everybody has all that is in this folder: keep it for so long, and let go of it."""
    folder.settle()
    for path in list(folder.path.glob("*" + lock.SEGMENT)):
        if seconds > 0 and path.stat().st_size > 0:
            keep(path)
        else:
            path.unlink(missing_ok=True)
    _release(folder)


def expire_dead(folder: lock.Folder, seconds: float) -> bool:
    """The same in a dead owner's folder, which is locked and holds nothing unshipped; whether the folder is gone."""
    expire(folder.path, seconds)
    return _release(folder)


def _release(folder: lock.Folder) -> bool:
    """Let go of it, and remove it when nothing is left in it; whether it is gone."""
    if any(path.suffix in (KEPT, lock.SEGMENT) for path in folder.path.iterdir()):
        folder.release()
        return False
    folder.remove()
    return True


def journals_in(directory: Path) -> dict[UUID, bool]:
    """The journals of a directory, each with whether it is a dead owner's with nothing left to ship."""
    found = {}
    for path in lock.folders_in(directory):
        folder = lock.locked(path) if not any(path.glob("*" + lock.SEGMENT)) else None
        found[UUID(path.name)] = folder is not None
        if folder is not None:
            folder.release()
    return found
