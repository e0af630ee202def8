"""Records that were lost in the journals of this directory."""

from __future__ import annotations


class LossCounter:
    """Counts lost records of this process since its start, for readiness and metrics.

    Each loss counts once, however many sinks meet it.
    """

    def __init__(self) -> None:
        self._known: set[str] = set()
        self.records = 0
        self.last: str | None = None

    def add(self, name: str, records: int, text: str | None) -> bool:
        """Counts a loss; returns False if its name is known already."""
        if name in self._known:
            return False
        self._known.add(name)
        self.records += records
        if text is not None:
            self.last = text
        return True
