"""CursorStore: a sink that stores how far each journal is. TrackedSink: such a sink, with one journal's progress."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from gateway.errors import StoreSetBack

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from uuid import UUID

    from gateway.model import Record
    from gateway.shipping.progress import Progress


class CursorStore(Protocol):
    """The database: a sink that stores the cursor of each journal with the rows. Its verbs raise StoreUnavailable."""

    name: str
    is_ordered: bool

    async def keep(self, records: Sequence[Record], progress: Progress | None = None) -> None: ...

    async def keep_raw(self, record: Record, progress: Progress | None = None) -> None: ...

    def abandon(self) -> None: ...

    async def missing(self, ids: Sequence[UUID]) -> set[UUID]:
        """Returns those ids that have no row."""
        ...

    async def save_progress(self, progress: Progress) -> None:
        """Stores how far a journal is, without new rows. Raises StoreSetBack, too."""
        ...

    async def cursors(self, journals: Sequence[UUID]) -> dict[UUID, tuple[int, int, int]]:
        """Returns segment, offset and number of rows of those journals that the database has."""
        ...

    async def leave(self, journal: UUID, *, is_clean: bool) -> None:
        """Records that the journal's process ends; `is_clean`: nothing waits in the journal."""
        ...


class TrackedSink:
    """The database as a delivery sees it: each call saves the progress of the folder that the records come from."""

    def __init__(self, store: CursorStore, on_set_back: Callable[[], None]) -> None:
        self._store = store
        self._on_set_back = on_set_back
        self.name = store.name
        self.is_ordered = store.is_ordered
        self.progress: Progress | None = None

    async def keep(self, records: Sequence[Record]) -> None:
        try:
            await self._store.keep(records, self.progress)
        except StoreSetBack as error:
            self._set_back(error)
            await self._store.keep(records, self.progress)

    async def keep_raw(self, record: Record) -> None:
        try:
            await self._store.keep_raw(record, self.progress)
        except StoreSetBack as error:
            self._set_back(error)
            await self._store.keep_raw(record, self.progress)

    def abandon(self) -> None:
        self._store.abandon()

    def _set_back(self, error: StoreSetBack) -> None:
        if self.progress is not None and self.progress.set_back(error.found):
            self._on_set_back()
