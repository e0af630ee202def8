"""Moves finished records from the journal to the keepers, in batches; also those that dead processes have left."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING
from uuid import UUID

import structlog

from gateway.errors import StoreUnavailable, safe_text
from gateway.journal import archive, lock
from gateway.journal.disk import in_thread, in_thread_with_retry
from gateway.journal.locations import segment_numbers
from gateway.journal.pending import BATCH_BYTES, BATCH_ROWS, batches
from gateway.journal.reading import read_damage, read_frames, read_records
from gateway.journal.recovery import JournalRecovery
from gateway.journal.subscription import Cursor
from gateway.shipping.copies import Copies
from gateway.shipping.delivery import Delivery
from gateway.shipping.progress import Followed, Progress
from gateway.shipping.quarantine import Quarantine
from gateway.shipping.quarantine_retry import QuarantineRetry
from gateway.shipping.quarantined_segments import return_segments
from gateway.shipping.reshipping import ReshipFigures, ShipAgain
from gateway.shipping.retries import Retries, RetryTuning

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Container, Iterator, Sequence
    from pathlib import Path

    from gateway.journal.journal import Journal
    from gateway.journal.pending import PendingRecord
    from gateway.journal.subscription import Subscription
    from gateway.shipping.progress import CursorStore
    from gateway.shipping.reshipping import ApplyEdits
    from gateway.shipping.sink import Sink

GATHER_S = 0.05  # how long a lone record waits for company
GATHER_LONGER_S = 0.2  # and one of a crowd: a batch costs as much as forty rows do, here as in Postgres
CROWD_ROWS = 10
MOST_ROWS = 2000  # that are looked at when all that were taken are refused: perhaps those behind them are not
MOST_BYTES = 32 << 20
LEAVE_S = 1.0  # for a good-bye to the database
ADOPT_EVERY_S = 5.0
ABANDON_S = 2.0

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class ShipperState:
    """For readiness and metrics."""

    pending: int  # records of this process that some keeper has yet to get
    pending_for: dict[str, int]  # the same by keeper
    pending_bytes: int
    oldest_s: float  # age of the oldest of them
    kept: int
    apart: int  # records that a sink does not accept, though it accepts others: they are tried again
    quarantined: int
    adopting: str | None  # the dead owner's folder that is being shipped
    fault: str | None  # why a keeper does not take them at the moment
    again: ReshipFigures  # what the database had forgotten, and has got again


@dataclass(frozen=True, slots=True)
class SinkState:
    """One keeper, for metrics."""

    name: str
    pending: int  # records of this process that it has yet to get
    oldest_s: float  # age of the oldest of them
    kept: int
    is_down: bool  # the last attempt failed
    apart: int  # records that it does not accept, though it accepts others: they are tried again
    faults: tuple[str, ...]  # why, short and stable


@dataclass(eq=False, slots=True)
class _Takeover:
    """A dead owner's folder, locked for us until every keeper has got what is in it."""

    folder: lock.JournalFolder
    waited_for: int  # keepers
    has_failed: bool = False


class SinkWorker:
    """All that leads to one keeper: from our own journal and from those of the dead, each at the keeper's own pace."""

    def __init__(
        self,
        keeper: Sink,
        feed: Subscription,
        retries: Retries,
        live: Delivery,
        adopted: Delivery,
        followed: tuple[Followed, Followed, Followed] | None,
    ) -> None:
        self.keeper = keeper
        self.feed = feed
        self.retries = retries
        self.live = live
        self.adopted = adopted
        self.followed = followed  # by which live, adopted and retries tell the database how far they are
        self.legacy: asyncio.Queue[_Takeover] = asyncio.Queue()
        self.is_caught_up = asyncio.Event()  # with what the dead had left when we began
        self.tasks: list[asyncio.Task[None]] = []

    @property
    def in_flight(self) -> Iterator[asyncio.Task[None]]:
        """Calls that were made and not answered yet."""
        for caller in (self.live, self.adopted, self.retries):
            if caller.in_flight is not None:
                yield caller.in_flight

    @property
    def kept(self) -> int:
        return self.live.kept + self.adopted.kept + self.retries.kept

    @property
    def fault(self) -> str | None:
        apart = None if self.retries.error is None else self.retries.error.message
        return self.live.fault or self.adopted.fault or apart


class Shipper:
    """Make it before anything is recorded: it follows the journal for each of its keepers.

    Those named in `in_order` get what the dead have left before what is new. `sink` is the one of them that may be set
    back: it is told how far each journal is, and gets again what it has forgotten; `apply_edits` brings it what users
    have set by hand. `versions` are those of gateway and schema: when they change, the first keeper gets again what
    lies in quarantine.
    """

    def __init__(
        self,
        journal: Journal,
        keepers: Sequence[Sink],
        in_order: Container[str] = (),
        sink: CursorStore | None = None,
        retry: RetryTuning | None = None,
        apply_edits: ApplyEdits | None = None,
        versions: Callable[[], Awaitable[str]] | None = None,
    ) -> None:
        self._journal = journal
        self._apply_edits = apply_edits
        self._in_order = in_order
        self._closing = asyncio.Event()
        self._quarantine = Quarantine(journal.directory)
        self._sink = sink
        self._retry = retry or RetryTuning()
        self._versions = versions
        self._bringing_back: asyncio.Task[None] | None = None
        self._ways = [self._way(keeper) for keeper in keepers]
        self._again: ShipAgain | None = None
        self._shipping_again: asyncio.Task[None] | None = None
        self._adoption: asyncio.Task[None] | None = None
        self._adoptions: list[_Takeover] = []
        self._has_looked = asyncio.Event()

    def _way(self, keeper: Sink) -> SinkWorker:
        feed = self._journal.subscribe(keeper.name)
        followed: tuple[Followed, Followed, Followed] | None = None
        copies: Copies | None = None
        live = adopted = apart = keeper
        if self._sink is not None and keeper is self._sink:
            live, adopted, apart = followed = (
                Followed(self._sink, self._was_set_back),
                Followed(self._sink, self._was_set_back),
                Followed(self._sink, self._was_set_back),
            )
            copies = self._copies_for(keeper)
        retries = Retries(apart, self._journal.directory, self._quarantine, self._retry, copies)
        deliveries = self._delivery_to(live, retries), self._delivery_to(adopted, retries)
        return SinkWorker(keeper, feed, retries, *deliveries, followed)

    def _copies_for(self, keeper: Sink) -> Copies:
        return Copies(self._journal.directory, keeper.name, self._journal.shipped_s)

    def _delivery_to(self, keeper: Sink, retries: Retries) -> Delivery:
        return Delivery(keeper, self._quarantine, self._closing, retries)

    def _was_set_back(self) -> None:
        if self._again is not None:
            self._again.was_set_back()

    async def start(self, *names: str) -> None:
        """Begin to ship to the keepers of these names, or to all that do not get anything yet."""
        if self._adoption is None:
            await self._take_up()
            await in_thread(self._quarantine.look)
            for way in self._ways:
                await way.retries.look()
            self._adoption = asyncio.create_task(self._adopt_for_ever(), name="adopt journals")
        for way in self._ways:
            if not way.tasks and (not names or way.keeper.name in names):
                way.retries.start()
                if way.followed is not None:
                    self._follow(way, *way.followed)
                way.tasks = [
                    asyncio.create_task(self._ship(way), name=f"ship to {way.keeper.name}"),
                    asyncio.create_task(self._inherit(way), name=f"ship to {way.keeper.name} what the dead left"),
                ]

        if self._versions is not None and self._bringing_back is None and self._ways[0].tasks:
            first = self._ways[0]
            sink = first.keeper if first.followed is None else first.followed[2]
            bring_back = QuarantineRetry(self._quarantine, sink, self._versions, self._copies_for(first.keeper))
            self._bringing_back = asyncio.create_task(bring_back.run(), name="bring back from quarantine")

    async def _take_up(self) -> None:
        """Segments that an older gateway has set aside."""
        names = [way.keeper.name for way in self._ways]
        async with self._quarantine.lock():
            try:
                await in_thread(return_segments, self._journal.directory, self._quarantine, names)
            except OSError as error:  # the next start tries again
                log.warning("segments_not_taken_up", error=safe_text(error))

    def _follow(self, way: SinkWorker, live: Followed, adopted: Followed, apart: Followed) -> None:
        """From now on the database is told how far this journal is."""
        assert self._sink is not None
        live.progress = apart.progress = own = Progress(self._journal.folder, way.keeper.name)
        self._again = ShipAgain(
            self._journal.directory,
            own,
            self._sink,
            lambda keeper: self._delivery_to(keeper, way.retries),
            lambda key: way.feed.is_pending(key) or way.retries.waits_for(UUID(bytes=key)),
            self._copies_for(way.keeper),
            lambda: len(way.feed) + len(way.retries),
            self._apply_edits,
        )
        self._shipping_again = asyncio.create_task(self._again.run(), name=f"ship again to {way.keeper.name}")

    async def _leave(self) -> None:
        """Tell the database that this process ends; when it is away, the others will miss us."""
        for way in self._ways:
            if way.followed is not None and way.followed[0].progress is not None and way.live.fault is None:
                leaving = asyncio.ensure_future(self._say_good_bye(way, way.followed[0].progress))
                await asyncio.wait({leaving}, timeout=LEAVE_S)
                leaving.cancel()

    async def _say_good_bye(self, way: SinkWorker, progress: Progress) -> None:
        assert self._sink is not None
        progress.waiting = len(way.feed) + len(way.retries)
        progress.position = way.feed.delivered_up_to(self._journal.end)
        with suppress(StoreUnavailable):
            await self._sink.note(progress)
            await self._sink.leave(progress.journal, is_clean=not (progress.waiting or self._journal.state.open))

    async def aclose(self, deadline_s: float) -> None:
        """Ship what is finished for at most so long; the rest stays in the journal. Then nothing is in flight."""
        self._closing.set()
        background = (self._adoption, self._shipping_again, self._bringing_back)
        await _end([task for task in background if task is not None])
        await _end([way.tasks[1] for way in self._ways if way.tasks])
        for way in self._ways:
            await way.retries.aclose()
        with suppress(TimeoutError):
            async with asyncio.timeout(deadline_s):
                for way in self._ways:
                    if way.tasks and self._is_open(way):
                        await way.feed.drained()
        await _end([way.tasks[0] for way in self._ways if way.tasks])
        await self._leave()
        flying = {task for way in self._ways for task in way.in_flight}
        if self._again is not None and self._again.delivery.in_flight is not None:
            flying.add(self._again.delivery.in_flight)
        if flying:
            for way in self._ways:
                way.keeper.abandon()
            await asyncio.wait(flying, timeout=ABANDON_S)
            for task in flying:
                if task.done() and not task.cancelled():
                    task.exception()  # seen: the records stay in the journal
        for way in self._ways:
            way.retries.release()
        while self._adoptions:
            self._adoptions.pop().folder.release()

    @property
    def adoptions(self) -> int:
        """Journals of dead processes that some keeper has yet to get."""
        return len(self._adoptions)

    @property
    def again(self) -> ReshipFigures:
        """What the database has got again."""
        return self._again.figures if self._again is not None else ReshipFigures()

    def sinks(self) -> list[SinkState]:
        return [_sink_state(way) for way in self._ways]

    def state(self) -> ShipperState:
        feeds = [way.feed for way in self._ways]
        return ShipperState(
            pending=max((len(feed) for feed in feeds), default=0),
            pending_for={way.keeper.name: len(way.feed) for way in self._ways},
            pending_bytes=max((feed.ready_bytes for feed in feeds), default=0),
            oldest_s=max((_age_s(feed) for feed in feeds), default=0.0),
            kept=sum(way.kept for way in self._ways),
            apart=sum(len(way.retries) for way in self._ways),
            quarantined=self._quarantine.count,
            adopting=self._adoptions[0].folder.path.name if self._adoptions else None,
            fault=next((way.fault for way in self._ways if way.fault), None),
            again=self.again,
        )

    # --- our own journal ---------------------------------------------------------------------------------------------

    async def _ship(self, way: SinkWorker) -> None:
        if not self._is_open(way):
            await way.is_caught_up.wait()
        feed = way.feed
        taken: Sequence[PendingRecord] = ()
        rows, size = BATCH_ROWS, BATCH_BYTES
        while True:
            await feed.wait()
            await self._gather(feed, GATHER_LONGER_S if len(taken) > CROWD_ROWS else GATHER_S)
            taken = feed.peek(rows, size)
            progress = way.followed[0].progress if way.followed is not None else None
            set_backs = 0
            if progress is not None:
                progress.position = feed.delivered_up_to(self._journal.end)
                progress.waiting = len(feed) - len(taken) + len(way.retries)
                set_backs = progress.set_backs
            is_done = await self._deliver(way.live, self._journal.folder, taken)
            if progress is not None and progress.set_backs != set_backs:
                continue  # some may have been kept before, and what ships again leaves out what we have taken
            if is_done:
                feed.acknowledge(taken)
                rows, size = BATCH_ROWS, BATCH_BYTES
            else:
                rows, size = min(2 * rows, MOST_ROWS), min(2 * size, MOST_BYTES)

    async def _gather(self, feed: Subscription, seconds: float) -> None:
        """Wait for a batch to fill, but not when the gateway closes."""
        if len(feed) < BATCH_ROWS and feed.ready_bytes < BATCH_BYTES:
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._closing.wait()

    def _is_open(self, way: SinkWorker) -> bool:
        return way.keeper.name not in self._in_order or way.is_caught_up.is_set()

    async def _deliver(self, delivery: Delivery, folder: Path, taken: Sequence[PendingRecord]) -> bool:
        """Whether each of them is where it should be; else they should be taken again, with what has come meanwhile."""
        records = await read_records(folder, taken)
        if not await delivery.deliver([records[pending.key] for pending in taken if pending.key in records]):
            return False
        for pending in taken:
            if pending.key not in records:
                data = await in_thread_with_retry(read_frames, folder, pending)
                await in_thread_with_retry(self._quarantine.put_frames, pending.id, data, "cannot be read")
                if pending.begun is not None:  # else it is counted with the segment that is missing
                    place = f"{folder.name}/{pending.begun.segment}/{pending.begun.offset}"
                    self._journal.losses.add(place, 1, f"{pending.id}: its journal cannot be read")
        return True

    # --- the journals of the dead ------------------------------------------------------------------------------------

    async def _adopt_for_ever(self) -> None:
        while True:
            try:
                for folder in await in_thread(self._orphans):
                    self._adopt(folder)
            except OSError as error:
                log.warning("adoption_failed", error=str(error))
            except Exception:  # the task's outermost loop: the next round looks again
                log.exception("adoption_failed")
            self._has_looked.set()
            await asyncio.sleep(ADOPT_EVERY_S)

    def _orphans(self) -> list[lock.JournalFolder]:
        """Folders of the dead with something to ship, locked; the others let go of what they have kept for too long."""
        found = []
        for folder in lock.lock_dead_folders(self._journal.directory):
            try:
                is_due = segment_numbers(folder.path) or lock.read_checkpoint(folder.path) is not None
                if is_due or not archive.archived_in(folder.path):
                    found.append(folder)
                else:
                    archive.expire_dead_folder(folder, self._journal.shipped_s)
            except OSError as error:  # the next round looks again, at this one and at those behind it
                folder.release()
                log.warning("adoption_failed", folder=folder.path.name, error=error.strerror)
        return found

    def _adopt(self, folder: lock.JournalFolder) -> None:
        log.info("journal_adopted", folder=folder.path.name)
        adoption = _Takeover(folder, waited_for=len(self._ways))
        self._adoptions.append(adoption)
        for way in self._ways:
            way.legacy.put_nowait(adoption)

    async def _inherit(self, way: SinkWorker) -> None:
        """One folder after the other. A keeper that is away holds up its own way, and no other's."""
        await self._has_looked.wait()
        while True:
            if way.legacy.empty():
                way.is_caught_up.set()
            adoption = await way.legacy.get()
            try:
                await self._replay(adoption.folder.path, way)
            except Exception as error:
                adoption.has_failed = True  # and is looked at again with the next round
                log.exception("adoption_failed", error=safe_text(error))
            adoption.waited_for -= 1
            if adoption.waited_for == 0:
                await self._end_adoption(adoption)

    async def _end_adoption(self, adoption: _Takeover) -> None:
        folder = adoption.folder
        if not adoption.has_failed:
            try:
                if self._sink is not None:  # first, for then nobody but us knows of this journal
                    await self._sink.leave(UUID(folder.path.name), is_clean=True)
                await in_thread(archive.archive_folder, folder, self._journal.shipped_s)
                log.info("journal_shipped", folder=folder.path.name)
            except (OSError, StoreUnavailable) as error:  # the next round looks again
                log.warning("adoption_failed", error=str(error))
        self._adoptions.remove(adoption)
        folder.release()
        if self._again is not None:
            self._again.look()  # while it was ours, nobody could ship it again

    async def _replay(self, folder: Path, way: SinkWorker) -> None:
        cursor = Cursor(folder / f"{way.keeper.name}.cursor")
        replay = JournalRecovery(folder, cursor.read(), cursor.shipped)
        progress = Progress(folder, way.keeper.name)
        if way.followed is not None:
            way.followed[1].progress = progress
        try:
            async for pendings in replay.records():
                await self._report(folder, replay)
                progress.waiting = len(pendings)
                for taken in batches(pendings):
                    while not await self._deliver(way.adopted, folder, taken):
                        pass  # it has paused
                    progress.waiting -= len(taken)
                    cursor.shipped += len(taken)
                cursor.write(replay.position)
                progress.position = replay.position
        finally:
            cursor.close()
        await self._report(folder, replay)

    async def _report(self, folder: Path, replay: JournalRecovery) -> None:
        """What was found damaged or missing so far, before the cursor goes beyond it."""
        losses = self._journal.losses
        while replay.missing:
            missing = replay.missing.pop()
            if losses.add(f"{folder.name}/{missing.segments}", missing.records, missing.text):
                log.error(
                    "journal_segment_missing",
                    folder=folder.name,
                    segments=missing.segments,
                    records=missing.records,
                )
        while replay.damages:
            damage = replay.damages[-1]
            text = f"a record of segment {damage.segment}: {damage.reason}" if damage.records else None
            if losses.add(f"{folder.name}/{damage.segment}/{damage.offset}", damage.records, text):
                log.error(
                    "journal_damaged",
                    folder=folder.name,
                    segment=damage.segment,
                    offset=damage.offset,
                    bytes=damage.size,
                    reason=damage.reason,
                    interaction_id=damage.key and str(UUID(bytes=damage.key)),
                )
            if not damage.is_quarantined_with_record:
                data = await in_thread_with_retry(read_damage, folder, damage)
                name = f"{folder.name}-{damage.segment}-{damage.offset}"
                await in_thread_with_retry(self._quarantine.put_frames, name, data, damage.reason)
            replay.damages.pop()


def _sink_state(way: SinkWorker) -> SinkState:
    apart = way.retries.error
    causes = (way.live.cause, way.adopted.cause, apart and apart.cause)
    return SinkState(
        name=way.keeper.name,
        pending=len(way.feed),
        oldest_s=_age_s(way.feed),
        kept=way.kept,
        is_down=bool(way.live.fault or way.adopted.fault),
        apart=len(way.retries),
        faults=tuple(sorted({cause for cause in causes if cause})),
    )


def _age_s(feed: Subscription) -> float:
    return 0.0 if feed.oldest_at is None else max(0.0, time.time() - feed.oldest_at)


async def _end(tasks: Sequence[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks)
