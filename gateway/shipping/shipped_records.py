"""Copies of records that the database got outside their journal's order: from the retry spool or from quarantine.

Their segments may be gone when the database is set back, so the copies serve instead. A copy is kept as long as a
shipped segment (see `gateway.journal.archive`). All functions block.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING
from uuid import UUID

from gateway.journal.archive import COPIES_PREFIX
from gateway.shipping.retry_spool import encode_record, record_name, write_durably

if TYPE_CHECKING:
    from pathlib import Path

    from gateway.model import Record


class ShippedRecords:
    """The copies of one sink; `keep_s` is how long they are kept. A copy that the disk refuses is left out."""

    def __init__(self, directory: Path, sink: str, keep_s: float) -> None:
        self._folder = directory / f"{COPIES_PREFIX}{sink}"
        self._keep_s = keep_s

    def move(self, path: Path) -> None:
        """Moves a file of the retry spool here; its record is a row now."""
        if self._keep_s > 0:
            with suppress(OSError):
                self._folder.mkdir(mode=0o700, exist_ok=True)
                path.rename(self._folder / record_name(path))

    def add(self, record: Record) -> None:
        """Writes a copy of a record that is a row now."""
        if self._keep_s > 0:
            with suppress(OSError):
                self._folder.mkdir(mode=0o700, exist_ok=True)
                write_durably(self._folder / str(record.interaction.id), encode_record(record))

    def paths(self) -> dict[UUID, Path]:
        """Returns the files by record id."""
        found = {}
        with suppress(OSError):
            for path in self._folder.iterdir():
                with suppress(ValueError):  # a file that is not whole yet
                    found[UUID(path.name)] = path
        return found
