"""How far one journal folder is in the database: what it has confirmed, and from where records must be shipped again.

The database is "set back" when it has lost rows that it had confirmed: after a restore, or a failover to a standby that
was behind. Two tiny files in the folder serve the next process that holds it: `<sink>.noted` (what the database has
confirmed) and `<sink>.again` (from where to ship again).
"""

from __future__ import annotations

import os
from contextlib import suppress
from struct import Struct
from typing import TYPE_CHECKING, NamedTuple
from uuid import UUID
from zlib import crc32

import structlog

from gateway.journal.locations import START, Position

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

CONFIRMED, RESHIP = ".noted", ".again"  # endings of the two files
_POSITION = Struct("<QQQ")
_CRC = Struct("<I")

log = structlog.get_logger()


class RowsAt(NamedTuple):
    """A position in the journal and a number of rows."""

    position: Position
    rows: int


class PositionFile:
    """A position and a number of rows in a tiny file, with a checksum. All methods block."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> RowsAt | None:
        """Returns what was written; None if the file is damaged or missing."""
        try:
            found = self._path.read_bytes()
            segment, offset, rows = _POSITION.unpack_from(found)
            (crc,) = _CRC.unpack_from(found, _POSITION.size)
        except Exception:  # noqa: BLE001 - the reason does not matter
            return None
        return RowsAt(Position(segment, offset), rows) if crc == crc32(found[: _POSITION.size]) else None

    def write(self, position: Position, rows: int) -> None:
        """Makes one small write in place; the checksum finds a torn one. Never raises."""
        data = _POSITION.pack(*position, rows)
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
    """The progress of one folder, whose lock the caller holds."""

    def __init__(self, folder: Path, sink: str) -> None:
        self.journal = UUID(folder.name)
        self.folder = folder
        self.waiting = 0  # records that the database has yet to get
        self.set_backs = 0
        self.position = START  # everything before it is in the database
        self._confirmed_file = PositionFile(folder / (sink + CONFIRMED))
        self._reship_file = PositionFile(folder / (sink + RESHIP))
        confirmed = self._confirmed_file.read()
        self.rows: int | None = confirmed.rows if confirmed is not None else None  # confirmed by the database
        if confirmed is not None:
            self.position = confirmed.position
        self._reship_from = self._reship_file.read()

    @property
    def cursor(self) -> Position:
        """The position that the database stores: never beyond what it must get again."""
        return min(self.position, self._reship_from.position) if self._reship_from is not None else self.position

    @property
    def reship_from(self) -> RowsAt | None:
        """From where to ship again, and how many rows the database has lost; None if it has all."""
        return self._reship_from

    def confirm(self, rows: int) -> None:
        """Records the number of rows that the database has confirmed."""
        self.rows = max(rows, self.rows or 0)
        self._confirmed_file.write(self.cursor, self.rows)

    def set_back(self, found: tuple[int, int, int] | None) -> bool:
        """Records that the database has fewer rows than it had confirmed; `found` as in StoreSetBack.

        Returns False if this loss is on record already.
        """
        segment, offset, rows = found or (0, 0, 0)
        if self.rows is None or (found is not None and rows >= self.rows):
            return False
        self.set_backs += 1
        start, lost = Position(segment, offset), self.rows - rows
        if self._reship_from is not None:
            start, lost = min(start, self._reship_from.position), lost + self._reship_from.rows
        log.error("postgres_was_set_back", journal=str(self.journal), rows=rows, confirmed=self.rows)
        self._reship_from = RowsAt(start, lost)
        self._reship_file.write(start, lost)
        self.rows = rows if found is not None else None
        if found is not None:
            self._confirmed_file.write(start, rows)
        else:
            self._confirmed_file.clear()
        return True

    def reshipped(self) -> None:
        """Records that the database has got all that the kept segments hold."""
        self._reship_from = None
        self._reship_file.clear()
        if self.rows is not None:
            self._confirmed_file.write(self.position, self.rows)


def confirmed_rows(folders: Iterable[Path], sink: str) -> dict[UUID, int]:
    """Returns the rows that the database has confirmed, by journal. Blocks."""
    found = {}
    for folder in folders:
        confirmed = PositionFile(folder / (sink + CONFIRMED)).read()
        if confirmed is not None:
            found[UUID(folder.name)] = confirmed.rows
    return found
