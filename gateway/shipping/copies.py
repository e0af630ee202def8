"""Copies of records that the database got apart from their journal (tried again, or out of quarantine).

Their segments may be long gone, and the database may be set back all the same. A copy stays as long as a shipped
segment does, see `kept`. All functions block.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING
from uuid import UUID

from gateway.journal.archive import COPIES_PREFIX
from gateway.shipping.retry_spool import encoded, write_durably

if TYPE_CHECKING:
    from pathlib import Path

    from gateway.model import Record


class Copies:
    """Of one sink; `seconds` is how long they are kept. What the disk does not take has no copy, and nobody waits."""

    def __init__(self, directory: Path, name: str, seconds: float) -> None:
        self._folder = directory / f"{COPIES_PREFIX}{name}"
        self._seconds = seconds

    def take(self, path: Path) -> None:
        """A file of the retry spool whose record is a row now."""
        if self._seconds > 0:
            with suppress(OSError):
                self._folder.mkdir(mode=0o700, exist_ok=True)
                path.rename(self._folder / path.name.split("-", 2)[2])

    def put(self, record: Record) -> None:
        """A record that is a row now."""
        if self._seconds > 0:
            with suppress(OSError):
                self._folder.mkdir(mode=0o700, exist_ok=True)
                write_durably(self._folder / str(record.interaction.id), encoded(record))

    def paths(self) -> dict[UUID, Path]:
        found = {}
        with suppress(OSError):
            for path in self._folder.iterdir():
                with suppress(ValueError):  # half written
                    found[UUID(path.name)] = path
        return found
