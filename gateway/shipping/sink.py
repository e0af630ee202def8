"""What the shipper needs of a place where records end up. The store fits it, and so will the security monitor."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gateway.model import Record


class Sink(Protocol):
    """Takes records, at least once each; a record that it has already is no error and changes nothing.

    Each call of `keep` is all or nothing, and is never cancelled: its outcome would be unknown.
    """

    name: str  # also of its cursor's file; never changes

    async def keep(self, records: Sequence[Record]) -> None:
        """Raises RecordRefused if the data of one of these is at fault, RecordNotAccepted if one or all are refused for
        another cause, and StoreUnavailable if the outcome is unknown."""
        ...

    async def keep_raw(self, record: Record) -> None:
        """Keep one that was refused in the plainest form there is: what was said as bytes alone. Raises the same."""
        ...

    def abandon(self) -> None:
        """Let calls in flight fail at once, for the process is about to end."""
        ...
