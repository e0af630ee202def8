"""Takeover of dead processes' journals: each folder is locked for us until every sink has got its records."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING
from uuid import UUID

import structlog

from gateway.errors import StoreUnavailable
from gateway.journal import archive, lock
from gateway.journal.disk import in_thread
from gateway.journal.locations import segment_numbers
from gateway.polling import PeriodicTask

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from gateway.journal.journal import Journal
    from gateway.shipping.tracked_sink import CursorStore

SCAN_S = 5.0

log = structlog.get_logger()


@dataclass(eq=False, slots=True)
class Takeover:
    """One folder of a dead process."""

    folder: lock.JournalFolder
    sinks: int  # that have yet to get its records
    has_failed: bool = False


class Takeovers:
    """Scans for the folders of dead processes, and puts each into the queues of all sinks."""

    def __init__(
        self,
        journal: Journal,
        queues: Sequence[asyncio.Queue[Takeover]],
        store: CursorStore | None,
        on_release: Callable[[], None],
    ) -> None:
        """`store` gets the ids of the journals that are shipped. `on_release` is called after each."""
        self._journal = journal
        self._queues = queues
        self._store = store
        self._on_release = on_release
        self._task = PeriodicTask("take over journals", self._scan, SCAN_S)
        self._current: list[Takeover] = []
        self.has_scanned = asyncio.Event()

    def start(self) -> None:
        self._task.start()

    async def aclose(self) -> None:
        """Ends the scans; `release` lets go of the folders."""
        await self._task.aclose()

    def release(self) -> None:
        """Unlocks the folders that some sink has yet to get; the next process ships them."""
        while self._current:
            self._current.pop().folder.release()

    def __len__(self) -> int:
        return len(self._current)

    @property
    def current(self) -> str | None:
        """The name of the folder that is shipped now."""
        return self._current[0].folder.path.name if self._current else None

    async def _scan(self) -> None:
        try:
            for folder in await in_thread(self._orphans):
                self._take_over(folder)
        except OSError as error:
            log.warning("takeover_failed", error=str(error))
        finally:
            self.has_scanned.set()

    def _orphans(self) -> list[lock.JournalFolder]:
        """Returns the dead processes' folders with unshipped records, locked. Removes expired files from the others."""
        found = []
        for folder in lock.lock_dead_folders(self._journal.directory):
            try:
                is_due = segment_numbers(folder.path) or lock.read_checkpoint(folder.path) is not None
                if is_due or not archive.archived_in(folder.path):
                    found.append(folder)
                else:
                    archive.expire_dead_folder(folder, self._journal.shipped_s)
            except OSError as error:  # the next scan tries this folder again; the others must not wait for it
                folder.release()
                log.warning("takeover_failed", folder=folder.path.name, error=error.strerror)
        return found

    def _take_over(self, folder: lock.JournalFolder) -> None:
        log.info("journal_taken_over", folder=folder.path.name)
        takeover = Takeover(folder, sinks=len(self._queues))
        self._current.append(takeover)
        for queue in self._queues:
            queue.put_nowait(takeover)

    async def finish(self, takeover: Takeover, *, has_failed: bool) -> None:
        """Called by each sink's worker when it is through with the folder."""
        takeover.has_failed |= has_failed
        takeover.sinks -= 1
        if takeover.sinks:
            return
        folder = takeover.folder
        if not takeover.has_failed:
            try:
                if self._store is not None:  # first: after `archive_folder` no process ships this journal
                    await self._store.leave(UUID(folder.path.name), is_clean=True)
                await in_thread(archive.archive_folder, folder, self._journal.shipped_s)
                log.info("journal_shipped", folder=folder.path.name)
            except (OSError, StoreUnavailable) as error:  # the next scan finds the folder again
                log.warning("takeover_failed", error=str(error))
        self._current.remove(takeover)
        folder.release()
        self._on_release()
