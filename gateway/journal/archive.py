"""The archive: shipped segments stay for a while, so that a database that was set back can get their records again.

An archived segment has a suffix of its own, so that it is not shipped as an unshipped one; its change time is the time
of archiving. Archived files are removed, oldest first, when space is short. All functions block.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple
from uuid import UUID

from gateway.journal import lock
from gateway.journal.locations import ARCHIVED_SUFFIX, SEGMENT_SUFFIX

if TYPE_CHECKING:
    from pathlib import Path


COPIES_PREFIX = "kept-"  # folders with copies of single records, see `gateway.shipping.copies`


class ArchivedFile(NamedTuple):
    """An archived segment, or the copy of a record. The oldest one sorts first."""

    archived_at: float  # Unix time
    number: int
    size: int
    path: Path


def archive_segment(path: Path) -> None:
    """Archives a segment that every sink has received."""
    with suppress(FileNotFoundError):
        path.rename(path.with_suffix(ARCHIVED_SUFFIX))


def archived_in(folder: Path) -> list[ArchivedFile]:
    """Returns a folder's archived segments, in no order."""
    found = []
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.endswith(ARCHIVED_SUFFIX):
                with suppress(FileNotFoundError, ValueError):  # just removed; not ours
                    status = entry.stat()
                    number = int(entry.name.removesuffix(ARCHIVED_SUFFIX))
                    found.append(ArchivedFile(status.st_ctime, number, status.st_size, folder / entry.name))
    return found


def all_archived(directory: Path) -> list[ArchivedFile]:
    """Returns the archived segments of all processes, and the copies of records, oldest first."""
    segments = [archived for folder in lock.journal_folders(directory) for archived in archived_in(folder)]
    return sorted([*segments, *_copies_in(directory)])


def _copies_in(directory: Path) -> list[ArchivedFile]:
    found = []
    for path in directory.glob(f"{COPIES_PREFIX}*/*"):
        with suppress(FileNotFoundError):
            status = path.stat()
            found.append(ArchivedFile(status.st_ctime, 0, status.st_size, path))
    return found


def reclaim(own: Path, wanted: int) -> int:
    """Removes the oldest archived files of `own` and of dead processes until `wanted` bytes are free; returns the bytes
    that were freed."""
    freed = 0
    for archived in all_archived(own.parent) if wanted > 0 else ():
        if freed >= wanted:
            break
        if archived.path.parent == own or archived.path.parent.name.startswith(COPIES_PREFIX):
            archived.path.unlink(missing_ok=True)
            freed += archived.size
        elif (folder := lock.try_lock(archived.path.parent)) is not None:
            archived.path.unlink(missing_ok=True)
            freed += archived.size
            _release(folder)
    return freed


def expire(own: Path, seconds: float) -> None:
    """Removes archived segments of `own`, and copies of records, that are older than this."""
    for archived in (*archived_in(own), *_copies_in(own.parent)):
        if archived.archived_at < time.time() - seconds:
            archived.path.unlink(missing_ok=True)


def archive_folder(folder: lock.JournalFolder, seconds: float) -> None:
    """Archives all segments of a folder and releases its lock. With 0 seconds the segments are removed."""
    folder.clear_checkpoint()
    for path in list(folder.path.glob("*" + SEGMENT_SUFFIX)):
        if seconds > 0 and path.stat().st_size > 0:
            archive_segment(path)
        else:
            path.unlink(missing_ok=True)
    _release(folder)


def expire_dead_folder(folder: lock.JournalFolder, seconds: float) -> bool:
    """Expires the segments of a dead process's locked folder, which holds only archived ones; returns whether the
    folder is gone."""
    expire(folder.path, seconds)
    return _release(folder)


def _release(folder: lock.JournalFolder) -> bool:
    """Releases a folder, and removes it when no segment is left; returns whether it is gone."""
    if any(path.suffix in (ARCHIVED_SUFFIX, SEGMENT_SUFFIX) for path in folder.path.iterdir()):
        folder.release()
        return False
    folder.remove()
    return True


def list_journals(directory: Path) -> dict[UUID, bool]:
    """Returns the journals of a directory; the value is true for a dead process's journal that is shipped whole."""
    found = {}
    for path in lock.journal_folders(directory):
        folder = lock.try_lock(path) if not any(path.glob("*" + SEGMENT_SUFFIX)) else None
        found[UUID(path.name)] = folder is not None
        if folder is not None:
            folder.release()
    return found
