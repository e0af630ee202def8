"""What the journals of this directory have lost, each loss counted once, whichever sink meets it."""

from __future__ import annotations


class Losses:
    """For readiness and metrics; of this process, since it started."""

    def __init__(self) -> None:
        self._known: set[str] = set()
        self.records = 0
        self.last: str | None = None

    def add(self, name: str, records: int, text: str | None) -> bool:
        """False: it is known already."""
        if name in self._known:
            return False
        self._known.add(name)
        self.records += records
        if text is not None:
            self.last = text
        return True
