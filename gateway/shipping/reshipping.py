"""Ships again the rows that the database has lost: from the kept segments, once each, beside live traffic."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING
from uuid import UUID

import structlog

from gateway.errors import StoreSetBack
from gateway.journal import lock
from gateway.journal.disk import in_thread
from gateway.journal.locations import segment_numbers
from gateway.journal.pending import batches
from gateway.model import ConversationEdit
from gateway.polling import PeriodicTask
from gateway.shipping.edit_log import read_edits
from gateway.shipping.kept_records import finished_records, is_incomplete, lost_copies, lost_records
from gateway.shipping.progress import RESHIP, Progress, RowsAt, confirmed_rows
from gateway.shipping.tracked_sink import TrackedSink

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Sequence
    from pathlib import Path

    from gateway.model import Record
    from gateway.shipping.delivery import Delivery
    from gateway.shipping.shipped_records import ShippedRecords
    from gateway.shipping.tracked_sink import CursorStore

ApplyEdits = Callable[[list[ConversationEdit]], Awaitable[int]]

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class ReshipOptions:
    """Only tests set these."""

    check_s: float = 30.0  # how often the database gets a sign of life, and is compared with what it has confirmed
    retry_s: float = 2.0


@dataclass(slots=True)
class ReshipCounts:
    """For readiness and metrics: counts of this process since its start."""

    set_backs: int = 0  # journals whose rows the database had lost
    reshipped: int = 0  # rows that it has got again
    gone: int = 0  # rows that it had lost and that no kept segment holds any more
    is_running: bool = False


class Reshipper:
    """Compares the rows of each journal with those that the database has confirmed, and ships again what is missing.

    `own` is the progress of this process's journal. `is_pending` returns whether the record of a key still
    waits for its first delivery; `pending_count` how many do.
    """

    def __init__(
        self,
        directory: Path,
        own: Progress,
        store: CursorStore,
        make_delivery: Callable[[TrackedSink], Delivery],
        is_pending: Callable[[bytes], bool],
        pending_count: Callable[[], int],
        shipped: ShippedRecords,
        apply_edits: ApplyEdits | None = None,
        options: ReshipOptions = ReshipOptions(),
    ) -> None:
        self._directory = directory
        self._own = own
        self._store = store
        self._sink = TrackedSink(store, on_set_back=self.note_set_back)
        self._delivery = make_delivery(self._sink)
        self._is_pending = is_pending
        self._pending_count = pending_count
        self._shipped = shipped
        self._apply_edits = apply_edits
        # Two tasks: the database gets signs of life also while much is shipped again.
        check_s, retry_s = options.check_s, options.retry_s
        self._heartbeat = PeriodicTask("save progress", self._save_own_progress, check_s, retry_s=retry_s)
        self._check = PeriodicTask("ship again", self._check_all, check_s, retry_s=retry_s)
        self.counts = ReshipCounts()

    def start(self) -> None:
        self._heartbeat.start()
        self._check.start()

    async def aclose(self) -> None:
        """Ends both tasks. A call in flight goes on: see `in_flight`."""
        await self._heartbeat.aclose()
        await self._check.aclose()

    @property
    def in_flight(self) -> asyncio.Task[None] | None:
        return self._delivery.in_flight

    def note_set_back(self) -> None:
        """Counts one more journal whose rows the database has lost, and checks now."""
        self.counts.set_backs += 1
        self.check_now()

    def check_now(self) -> None:
        """Makes the next check come now."""
        self._check.wake()

    async def _save_own_progress(self) -> None:
        await self._save_progress(self._own)

    async def _check_all(self) -> None:
        await self._compare()
        if self._own.reship_from is not None:
            await self._reship(self._own)
        for path in await in_thread(self._marked_folders):
            folder = lock.try_lock(path)
            if folder is None:  # its owner, or the process that takes it over, ships it again
                continue
            try:
                if not await in_thread(segment_numbers, path):  # else it has unshipped records, which go first
                    await self._reship(Progress(path, self._store.name))
            finally:
                folder.release()

    async def _save_progress(self, progress: Progress) -> None:
        if progress is self._own:
            progress.waiting = self._pending_count()
        try:
            await self._store.save_progress(progress)
        except StoreSetBack as error:
            if progress.set_back(error.found):
                self.note_set_back()
            await self._store.save_progress(progress)

    async def _compare(self) -> None:
        """Marks the kept folders of dead owners whose rows the database has lost."""
        folders = await in_thread(self._other_folders)
        confirmed = await in_thread(confirmed_rows, folders, self._store.name)
        found = await self._store.cursors(list(confirmed))
        for path in folders:
            journal = UUID(path.name)
            if journal in confirmed and (journal not in found or found[journal][2] < confirmed[journal]):
                self.counts.set_backs += await in_thread(self._mark, path, found.get(journal))

    def _other_folders(self) -> list[Path]:
        return [path for path in lock.journal_folders(self._directory) if path != self._own.folder]

    def _mark(self, path: Path, found: tuple[int, int, int] | None) -> bool:
        folder = lock.try_lock(path)
        if folder is None:  # its owner, or the process that takes it over, sees the loss
            return False
        is_new = Progress(path, self._store.name).set_back(found)
        folder.release()
        return is_new

    def _marked_folders(self) -> list[Path]:
        return [path for path in self._other_folders() if (path / (self._store.name + RESHIP)).exists()]

    async def _reship(self, progress: Progress) -> None:
        """Ships again what the database lacks of one folder, and counts what no kept segment holds."""
        if self._apply_edits is not None:
            applied = await self._apply_edits(await in_thread(read_edits, self._directory))
            log.info("edits_applied_again", edits=applied)
        reship_from = progress.reship_from
        start, lost = reship_from or RowsAt(progress.position, 0)
        self.counts.is_running = True
        self._sink.progress = progress
        new = examined = 0
        try:
            # From the first kept segment on, not from `start`: a record of the retry queue may have been shipped later
            # than its neighbours. To ask which ids have no row costs little.
            async for pendings in finished_records(progress.folder, is_over=progress is not self._own):
                for batch in batches([pending for pending in pendings if not self._is_pending(pending.key)]):
                    examined += len(batch)
                    new += await self._deliver(await lost_records(progress.folder, batch, self._store))
            async for record in lost_copies(self._shipped, self._store):
                new += await self._deliver([record])
        finally:
            self.counts.is_running = False
        if progress.reship_from != reship_from:  # set back again meanwhile: rows that were there are missing now
            return
        gone = max(0, lost - new) if await in_thread(is_incomplete, progress.folder, start) else 0
        self.counts.gone += gone
        progress.reshipped()
        await self._save_progress(progress)
        journal = str(progress.journal)
        log.warning("postgres_was_filled_again", journal=journal, looked_at=examined, new=new, forgotten=lost)
        if gone:
            log.error("records_gone", journal=journal, records=gone, reason="their segments are no longer kept")

    async def _deliver(self, records: Sequence[Record]) -> int:
        if records:
            while not await self._delivery.deliver(records):
                pass  # `deliver` has paused
        self.counts.reshipped += len(records)
        return len(records)
