"""Ships again what the database had and lost: out of the kept segments, exactly once, beside live traffic."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING
from uuid import UUID

import structlog

from gateway.errors import RecordNotAccepted, RecordRefused, StoreSetBack, StoreUnavailable
from gateway.journal import lock
from gateway.journal.disk import in_thread
from gateway.journal.locations import ARCHIVED_SUFFIX, SEGMENT_SUFFIX, START, segment_numbers
from gateway.journal.pending import BATCH_ROWS, batches
from gateway.journal.reading import read_records
from gateway.journal.recovery import JournalRecovery
from gateway.model import ConversationEdit
from gateway.shipping.copies import Copies
from gateway.shipping.edits import edits_in
from gateway.shipping.progress import Followed, Progress, noted_in
from gateway.shipping.retry_spool import decoded

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path

    from gateway.journal.locations import Position
    from gateway.journal.pending import PendingRecord
    from gateway.model import Record
    from gateway.shipping.delivery import Delivery
    from gateway.shipping.progress import CursorStore

CHECK_S = 30.0  # how often the database is told that we live, and asked whether it still has everything
RETRY_S = 2.0
NOT_TAKEN = (RecordRefused, RecordNotAccepted)

ApplyEdits = Callable[[list[ConversationEdit]], Awaitable[int]]

log = structlog.get_logger()


@dataclass(slots=True)
class ReshipFigures:
    """For readiness and metrics; of this process, since it started."""

    set_backs: int = 0  # journals of which the database had forgotten rows
    shipped_again: int = 0  # rows that it has got again
    gone: int = 0  # rows that it had forgotten and that no kept segment holds any more
    is_at_it: bool = False


class ShipAgain:
    """One task: compares what the database knows with what it has confirmed, and fills it again where that is less.

    `own` is the progress of this process's journal. `is_pending` says of a key that it is still on its first way.
    """

    def __init__(
        self,
        directory: Path,
        own: Progress,
        sink: CursorStore,
        delivery_to: Callable[[Followed], Delivery],
        is_pending: Callable[[bytes], bool],
        copies: Copies,
        waiting: Callable[[], int],
        apply_edits: ApplyEdits | None = None,
    ) -> None:
        self._directory = directory
        self._own = own
        self._sink = sink
        self._followed = Followed(sink, on_set_back=self.was_set_back)
        self.delivery = delivery_to(self._followed)
        self._is_pending = is_pending
        self._copies = copies
        self._waiting = waiting
        self._apply_edits = apply_edits
        self._woken = asyncio.Event()
        self.figures = ReshipFigures()

    def was_set_back(self) -> None:
        """The database has forgotten rows of one more journal: look now."""
        self.figures.set_backs += 1
        self.look()

    def look(self) -> None:
        """Look now whether anything is to be shipped again."""
        self._woken.set()

    async def run(self) -> None:
        """For ever; cancel it. The database hears of us also while it gets much again."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._for_ever(self._tell, asyncio.Event()))
            group.create_task(self._for_ever(self._check, self._woken))

    async def _for_ever(self, work: Callable[[], Awaitable[None]], woken: asyncio.Event) -> None:
        while True:
            pause = CHECK_S
            woken.clear()
            try:
                await work()
            except StoreUnavailable:
                pause = RETRY_S
            except Exception:  # the task's outermost loop: the next round looks again
                log.exception("ship_again_failed")
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await woken.wait()

    async def _tell(self) -> None:
        await self._note(self._own)

    async def _check(self) -> None:
        await self._compare()
        if self._own.due is not None:
            await self._fill(self._own)
        for path in await in_thread(self._marked):
            folder = lock.try_lock(path)
            if folder is None:  # its living owner sees to it, or who adopts it
                continue
            try:
                if not await in_thread(segment_numbers, path):  # else it has something to ship for the first time
                    await self._fill(Progress(path, self._sink.name))
            finally:
                folder.release()

    async def _note(self, progress: Progress) -> None:
        """Tell the database how far a journal is."""
        if progress is self._own:
            progress.waiting = self._waiting()
        try:
            await self._sink.note(progress)
        except StoreSetBack as error:
            if progress.set_back(error.found):
                self.was_set_back()
            await self._sink.note(progress)

    async def _compare(self) -> None:
        """Mark the kept folders of dead owners of which the database has forgotten rows."""
        folders = await in_thread(self._others)
        noted = await in_thread(noted_in, folders, self._sink.name)
        found = await self._sink.cursors(list(noted))
        for path in folders:
            journal = UUID(path.name)
            if journal in noted and (journal not in found or found[journal][2] < noted[journal]):
                self.figures.set_backs += await in_thread(self._mark, path, found.get(journal))

    def _others(self) -> list[Path]:
        return [path for path in lock.journal_folders(self._directory) if path != self._own.folder]

    def _mark(self, path: Path, found: tuple[int, int, int] | None) -> bool:
        folder = lock.try_lock(path)
        if folder is None:  # its living owner sees it, or who adopts it
            return False
        is_new = Progress(path, self._sink.name).set_back(found)
        folder.release()
        return is_new

    def _marked(self) -> list[Path]:
        """Folders of others that are to be shipped again."""
        return [path for path in self._others() if (path / f"{self._sink.name}.again").exists()]

    async def _fill(self, progress: Progress) -> None:
        if self._apply_edits is not None:
            applied = await self._apply_edits(await in_thread(edits_in, self._directory))
            log.info("edits_applied_again", edits=applied)
        due = progress.due
        start, forgotten = due or (progress.position, 0)
        self.figures.is_at_it = True
        self._followed.progress = progress
        new = looked = 0
        try:
            # From the first kept one on, not from `start`: what had waited apart may have been shipped later than its
            # neighbours. Asking which ids have no row costs little.
            async for pendings in finished_in(progress.folder, START, is_over=progress is not self._own):
                for taken in batches([one for one in pendings if not self._is_pending(one.key)]):
                    looked += len(taken)
                    new += await self._ship_missing(progress.folder, taken)
            new += await self._ship_copies()
        finally:
            self.figures.is_at_it = False
        if progress.due != due:  # it was set back again, and lacks rows that were there when it was asked
            return
        gone = max(0, forgotten - new) if await in_thread(_is_cut, progress.folder, start) else 0
        self.figures.gone += gone
        progress.shipped_again()
        await self._note(progress)
        journal = str(progress.journal)
        log.warning("postgres_was_filled_again", journal=journal, looked_at=looked, new=new, forgotten=forgotten)
        if gone:
            log.error("records_gone", journal=journal, records=gone, reason="their segments are no longer kept")

    async def _ship_missing(self, folder: Path, taken: Sequence[PendingRecord]) -> int:
        missing = await self._sink.missing([pending.id for pending in taken])
        wanted = [pending for pending in taken if pending.id in missing]
        records = await read_records(folder, wanted) if wanted else {}
        return await self._ship([records[one.key] for one in wanted if one.key in records])

    async def _ship_copies(self) -> int:
        new = 0
        async for record in missing_copies(self._copies, self._sink):
            new += await self._ship([record])
        return new

    async def _ship(self, records: Sequence[Record]) -> int:
        if records:
            while not await self.delivery.deliver(records):
                pass  # it has paused
        self.figures.shipped_again += len(records)
        return len(records)


def _is_cut(folder: Path, start: Position) -> bool:
    """Whether segments are gone that held records from this position on. Numbers may have been left out."""
    numbers = segment_numbers(folder, SEGMENT_SUFFIX, ARCHIVED_SUFFIX)
    first = max(start.segment, 1)
    return first not in numbers and (start.offset > 0 or not numbers or numbers[0] > first)


@dataclass(slots=True)
class Reshipped:
    """What `reship` has found."""

    looked_at: int = 0
    new: int = 0
    refused: int = 0
    gone: int = 0  # rows of journals that are still here, out of segments that are not: of whatever time
    oldest_at: float | None = None  # Unix time of the oldest record that is kept


async def missing_copies(copies: Copies, sink: CursorStore) -> AsyncIterator[Record]:
    """Records that came apart from their journal, and that the sink does not have. Raises StoreUnavailable."""
    paths = await in_thread(copies.paths)
    ids = sorted(paths)
    for at in range(0, len(ids), BATCH_ROWS):
        for id_ in sorted(await sink.missing(ids[at : at + BATCH_ROWS])):
            with suppress(OSError, ValueError, LookupError, TypeError):  # its time was over
                yield await in_thread(decoded, paths[id_])


async def reship(directory: Path, sink: CursorStore, since: float) -> Reshipped:
    """Bring to the sink what it does not have of the segments that were written since then. Needs no lock: it only
    reads, and takes of journals in use what is finished. Raises StoreUnavailable."""
    done = Reshipped()
    for folder in await in_thread(lambda: list(lock.journal_folders(directory))):
        count = 0
        noted = await in_thread(noted_in, [folder], sink.name)  # first: a gateway that runs goes on
        is_over = not await in_thread(segment_numbers, folder)
        async for pendings in finished_in(folder, START, is_over=is_over):
            count += len(pendings)
            for pending in pendings:
                at = (pending.id.int >> 80) / 1000
                done.oldest_at = at if done.oldest_at is None else min(at, done.oldest_at)
            for taken in batches([one for one in pendings if one.finished_at >= since]):
                done.looked_at += len(taken)
                await _bring_missing(folder, taken, sink, done)
        if await in_thread(_is_cut, folder, START):
            done.gone += max(0, sum(noted.values()) - count)
    async for record in missing_copies(Copies(directory, sink.name, 0), sink):
        if record.answer.finished_at >= since:
            done.looked_at += 1
            await _keep([record], sink, done)
    return done


async def _bring_missing(folder: Path, taken: Sequence[PendingRecord], sink: CursorStore, done: Reshipped) -> None:
    missing = await sink.missing([pending.id for pending in taken])
    wanted = [pending for pending in taken if pending.id in missing]
    await _keep(list((await read_records(folder, wanted)).values()) if wanted else [], sink, done)


async def _keep(records: list[Record], sink: CursorStore, done: Reshipped) -> None:
    if not records:
        return
    try:
        await sink.keep(records)
    except NOT_TAKEN:
        for record in records:
            if await _bring(record, sink):
                done.new += 1
            else:
                done.refused += 1
    else:
        done.new += len(records)


async def _bring(record: Record, sink: CursorStore) -> bool:
    try:
        await sink.keep([record])
    except RecordRefused:  # for its own data: then in the plainest form
        try:
            await sink.keep_raw(record)
        except NOT_TAKEN:
            return False
    except RecordNotAccepted:
        return False
    return True


async def finished_in(folder: Path, start: Position, *, is_over: bool) -> AsyncIterator[list[PendingRecord]]:
    """Finished records of a folder, kept and other ones, from a position on; with those that never ended, if the owner
    is dead."""
    async for pendings in JournalRecovery(folder, start, with_kept=True).records():
        yield [pending for pending in pendings if is_over or pending.finished is not None]
