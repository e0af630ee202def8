"""Moves finished records from the journal to the keepers, in batches; also those that dead processes have left."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from gateway.record import owner
from gateway.record.delivery import Delivery
from gateway.record.disk import in_thread
from gateway.record.feed import Cursor
from gateway.record.quarantine import Quarantine
from gateway.record.reading import read, read_damage, read_raw
from gateway.record.replay import Replay

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from gateway.record.feed import Feed
    from gateway.record.journal import Journal
    from gateway.record.keeper import Keeper
    from gateway.record.pending import Pending

GATHER_S = 0.05  # how long a lone record waits for company
BATCH_ROWS = 500
BATCH_BYTES = 4 << 20
ADOPT_EVERY_S = 5.0
ABANDON_S = 2.0

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class ShipperState:
    """For readiness and metrics."""

    pending: int  # records of this process that some keeper has yet to get
    pending_bytes: int
    oldest_s: float  # age of the oldest of them
    kept: int
    quarantined: int
    adopting: str | None  # the dead owner's folder that is being shipped
    fault: str | None  # why a keeper does not take them at the moment


class Shipper:
    """Make it before anything is recorded: it follows the journal for each of its keepers."""

    def __init__(self, journal: Journal, keepers: Sequence[Keeper]) -> None:
        self._journal = journal
        self._keepers = keepers
        self._closing = asyncio.Event()
        self._quarantine = Quarantine(journal.directory)
        self._live = [Delivery(keeper, self._quarantine, self._closing) for keeper in keepers]
        self._adopted = [Delivery(keeper, self._quarantine, self._closing) for keeper in keepers]
        self._tasks: list[asyncio.Task[None]] = []
        self._adoption: asyncio.Task[None] | None = None
        self._adopting: str | None = None
        self._feeds = [journal.follow(keeper.name) for keeper in keepers]

    async def start(self) -> None:
        await in_thread(self._quarantine.look)
        self._tasks = [
            asyncio.create_task(self._ship(feed, delivery), name=f"ship to {keeper.name}")
            for feed, delivery, keeper in zip(self._feeds, self._live, self._keepers, strict=True)
        ]
        self._adoption = asyncio.create_task(self._adopt_for_ever(), name="adopt journals")

    async def aclose(self, deadline_s: float) -> None:
        """Ship what is finished for at most so long; the rest stays in the journal. Then nothing is in flight."""
        self._closing.set()
        if self._adoption is not None:
            await _end([self._adoption])
        if self._tasks:
            with suppress(TimeoutError):
                async with asyncio.timeout(deadline_s):
                    for feed in self._feeds:
                        await feed.drained()
        await _end(self._tasks)
        flying = {delivery.in_flight for delivery in (*self._live, *self._adopted) if delivery.in_flight is not None}
        if flying:
            for keeper in self._keepers:
                keeper.abandon()
            await asyncio.wait(flying, timeout=ABANDON_S)
            for task in flying:
                if task.done() and not task.cancelled():
                    task.exception()  # seen: the records stay in the journal

    def state(self) -> ShipperState:
        feeds = self._feeds
        oldest = min((feed.oldest_at for feed in feeds if feed.oldest_at is not None), default=None)
        deliveries = (*self._live, *self._adopted)
        return ShipperState(
            pending=max((len(feed) for feed in feeds), default=0),
            pending_bytes=max((feed.ready_bytes for feed in feeds), default=0),
            oldest_s=0.0 if oldest is None else max(0.0, time.time() - oldest),
            kept=sum(delivery.kept for delivery in deliveries),
            quarantined=self._quarantine.count,
            adopting=self._adopting,
            fault=next((delivery.fault for delivery in deliveries if delivery.fault), None),
        )

    # --- our own journal ---------------------------------------------------------------------------------------------

    async def _ship(self, feed: Feed, delivery: Delivery) -> None:
        while True:
            await feed.wait()
            if len(feed) < BATCH_ROWS and feed.ready_bytes < BATCH_BYTES and not self._closing.is_set():
                await asyncio.sleep(GATHER_S)
            taken = feed.peek(BATCH_ROWS, BATCH_BYTES)
            await self._deliver(delivery, self._journal.folder, taken)
            feed.shipped(taken)

    async def _deliver(self, delivery: Delivery, folder: Path, taken: Sequence[Pending]) -> None:
        records = await read(folder, taken)
        await delivery.deliver([records[pending.key] for pending in taken if pending.key in records])
        for pending in taken:
            if pending.key not in records:
                data = await in_thread(read_raw, folder, pending)
                await in_thread(self._quarantine.put_frames, pending.id, data, "cannot be read")

    # --- the journals of the dead ------------------------------------------------------------------------------------

    async def _adopt_for_ever(self) -> None:
        while True:
            try:
                for folder in owner.orphans(self._journal.directory):
                    await self._adopt(folder)
            except OSError as error:
                log.warning("adoption_failed", error=str(error))
            except Exception:
                log.exception("adoption_failed")
            await asyncio.sleep(ADOPT_EVERY_S)

    async def _adopt(self, folder: owner.Folder) -> None:
        self._adopting = folder.path.name
        log.info("journal_adopted", folder=folder.path.name)
        try:
            async with asyncio.TaskGroup() as group:
                for keeper, delivery in zip(self._keepers, self._adopted, strict=True):
                    group.create_task(self._replay(folder.path, keeper, delivery))
            await in_thread(folder.remove)
            log.info("journal_shipped", folder=folder.path.name)
        finally:
            self._adopting = None
            folder.release()

    async def _replay(self, folder: Path, keeper: Keeper, delivery: Delivery) -> None:
        cursor = Cursor(folder / f"{keeper.name}.cursor")
        replay = Replay(folder, cursor.read())
        try:
            async for pendings in replay.pendings():
                for taken in batches(pendings):
                    await self._deliver(delivery, folder, taken)
                cursor.write(replay.low)
        finally:
            cursor.close()
        for damage in replay.damages:
            log.error(
                "journal_damaged",
                folder=folder.name,
                segment=damage.segment,
                offset=damage.offset,
                reason=damage.reason,
            )
            data = await in_thread(read_damage, folder, damage)
            name = f"{folder.name}-{damage.segment}-{damage.offset}"
            await in_thread(self._quarantine.put_frames, name, data, damage.reason)


def batches(pendings: Sequence[Pending]) -> Iterator[list[Pending]]:
    batch: list[Pending] = []
    size = 0
    for pending in pendings:
        if batch and (len(batch) == BATCH_ROWS or size + pending.size > BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(pending)
        size += pending.size
    if batch:
        yield batch


async def _end(tasks: Sequence[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks)
