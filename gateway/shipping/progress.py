"""How far one journal folder is in the database: what that has confirmed, and where to ship again from.

Two tiny files in the folder tell it to whoever holds the folder next: `<sink>.noted` (what the database has confirmed)
and `<sink>.again` (ship again from here, for it was set back since).
"""

from __future__ import annotations

import os
from contextlib import suppress
from struct import Struct
from typing import TYPE_CHECKING, Protocol
from uuid import UUID
from zlib import crc32

import structlog

from gateway.errors import StoreSetBack
from gateway.journal.locations import START, Position

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from gateway.model import Record

_NOTE = Struct("<QQQ")
_CRC = Struct("<I")

log = structlog.get_logger()


class CursorStore(Protocol):
    """The database: a keeper that says how far it is with each journal. Its verbs raise StoreUnavailable."""

    name: str

    async def keep(self, records: Sequence[Record], progress: Progress | None = None) -> None: ...

    async def keep_raw(self, record: Record, progress: Progress | None = None) -> None: ...

    def abandon(self) -> None: ...

    async def missing(self, ids: Sequence[UUID]) -> set[UUID]:
        """Those of which there is no row."""
        ...

    async def note(self, progress: Progress) -> None:
        """Write down how far a journal is, without new rows. Raises StoreSetBack, too."""
        ...

    async def cursors(self, journals: Sequence[UUID]) -> dict[UUID, tuple[int, int, int]]:
        """Segment, offset and number of rows of those journals that the database knows."""
        ...

    async def leave(self, journal: UUID, *, is_clean: bool) -> None:
        """The process ends; `is_clean`: nothing waits in its journal."""
        ...


class Note:
    """A position and a count in a tiny file. Damaged or missing, it says nothing."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> tuple[Position, int] | None:
        try:
            found = self._path.read_bytes()
            segment, offset, count = _NOTE.unpack_from(found)
            (crc,) = _CRC.unpack_from(found, _NOTE.size)
        except Exception:  # noqa: BLE001 - whatever is wrong with it, nothing is known
            return None
        return (Position(segment, offset), count) if crc == crc32(found[: _NOTE.size]) else None

    def write(self, position: Position, count: int) -> None:
        """One small write in place; if torn, the checksum says so. Never raises."""
        data = _NOTE.pack(*position, count)
        with suppress(OSError):
            fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                os.pwrite(fd, data + _CRC.pack(crc32(data)), 0)
            finally:
                os.close(fd)

    def clear(self) -> None:
        with suppress(OSError):
            self._path.unlink(missing_ok=True)


class Progress:
    """Of one folder, whose lock the caller holds."""

    def __init__(self, folder: Path, name: str) -> None:
        self.journal = UUID(folder.name)
        self.folder = folder
        self.waiting = 0  # records that the database has yet to get
        self.set_backs = 0
        self.position = START  # everything before it is in the database
        self._noted = Note(folder / f"{name}.noted")
        self._again = Note(folder / f"{name}.again")
        noted = self._noted.read()
        self.rows: int | None = noted[1] if noted is not None else None  # confirmed by the database
        if noted is not None:
            self.position = noted[0]
        self._due = self._again.read()

    @property
    def cursor(self) -> Position:
        """What the database is told: never beyond what it has to get again."""
        return min(self.position, self._due[0]) if self._due is not None else self.position

    @property
    def due(self) -> tuple[Position, int] | None:
        """Where to ship again from, and how many rows the database has forgotten; None: it has all."""
        return self._due

    def confirmed(self, rows: int) -> None:
        self.rows = max(rows, self.rows or 0)
        self._noted.write(self.cursor, self.rows)

    def set_back(self, found: tuple[int, int, int] | None) -> bool:
        """The database has fewer rows than it had confirmed: `found` is what it knows, as in StoreSetBack. False: that
        was seen already."""
        segment, offset, rows = found or (0, 0, 0)
        if self.rows is None or (found is not None and rows >= self.rows):
            return False
        self.set_backs += 1
        start, forgotten = Position(segment, offset), self.rows - rows
        if self._due is not None:
            start, forgotten = min(start, self._due[0]), forgotten + self._due[1]
        log.error("postgres_was_set_back", journal=str(self.journal), rows=rows, confirmed=self.rows)
        self._due = (start, forgotten)
        self._again.write(*self._due)
        self.rows = rows if found is not None else None
        if found is not None:
            self._noted.write(start, rows)
        else:
            self._noted.clear()
        return True

    def shipped_again(self) -> None:
        """The database has got all that could be shipped again."""
        self._due = None
        self._again.clear()
        if self.rows is not None:
            self._noted.write(self.position, self.rows)


class Followed:
    """The database, as a delivery sees it: what is kept there is noted as progress of the folder that it came from."""

    def __init__(self, sink: CursorStore, on_set_back: Callable[[], None]) -> None:
        self._sink = sink
        self._on_set_back = on_set_back
        self.name = sink.name
        self.progress: Progress | None = None

    async def keep(self, records: Sequence[Record]) -> None:
        try:
            await self._sink.keep(records, self.progress)
        except StoreSetBack as error:
            self._set_back(error)
            await self._sink.keep(records, self.progress)

    async def keep_raw(self, record: Record) -> None:
        try:
            await self._sink.keep_raw(record, self.progress)
        except StoreSetBack as error:
            self._set_back(error)
            await self._sink.keep_raw(record, self.progress)

    def abandon(self) -> None:
        self._sink.abandon()

    def _set_back(self, error: StoreSetBack) -> None:
        if self.progress is not None and self.progress.set_back(error.found):
            self._on_set_back()


def noted_in(folders: Iterable[Path], name: str) -> dict[UUID, int]:
    """Rows that the database has confirmed, of each folder; blocks."""
    found = {}
    for folder in folders:
        noted = Note(folder / f"{name}.noted").read()
        if noted is not None:
            found[UUID(folder.name)] = noted[1]
    return found
