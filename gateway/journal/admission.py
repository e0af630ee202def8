"""Decides whether new records may begin."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import structlog

if TYPE_CHECKING:
    from collections.abc import Callable

    FaultSource = Literal["write", "spare", "sync", "free"]

log = structlog.get_logger()


class Admission:
    """Refuses new records while a write, a sync, the preallocation or the free space is at fault, and while the journal
    has reached its size. Records that have begun may always end."""

    def __init__(self, max_bytes: int, used_bytes: Callable[[], int]) -> None:
        self._max_bytes = max_bytes
        self._used_bytes = used_bytes  # by all processes in the directory
        self._faults: dict[FaultSource, str] = {}
        self.refusal: str | None = None  # the reason why no new record may begin

    def has_fault(self, *sources: FaultSource) -> bool:
        return not self._faults.keys().isdisjoint(sources) if sources else bool(self._faults)

    def set_fault(self, source: FaultSource, fault: str) -> None:
        self._faults[source] = fault
        self.update_refusal()

    def clear_fault(self, source: FaultSource) -> None:
        if self._faults.pop(source, None) is not None:
            self.update_refusal()

    def clear_all(self) -> None:
        self._faults.clear()
        self.update_refusal()

    def update_refusal(self) -> None:
        """Recomputes `refusal`, and logs when it changes."""
        refusal = next(iter(self._faults.values()), None)
        if refusal is None and self._used_bytes() > self._max_bytes:
            refusal = self.size_limit_reached
        if refusal != self.refusal:
            log.error("journal_full", fault=refusal) if refusal else log.info("journal_has_room")
        self.refusal = refusal

    @property
    def size_limit_reached(self) -> str:
        return f"the journal has reached its {self._max_bytes} bytes"
