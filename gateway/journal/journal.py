"""The journal, a write-ahead log: a request is on local disk before the upstream is called, and its answer is whole on
disk before the caller receives the end.

`writer` has the path of a request, `segments` the files, `group_commit` durability, `subscription` the way of finished
records to the sinks, and `lock` the takeover of dead processes' journals.
"""

from __future__ import annotations

import asyncio
import itertools
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from gateway.errors import ServiceError
from gateway.journal import archive, lock
from gateway.journal.compaction import compact
from gateway.journal.disk import DISK_FULL_ERRORS, Disk, DiskThread
from gateway.journal.entry import JournalEntry
from gateway.journal.group_commit import GroupCommit
from gateway.journal.lock import JournalFolder
from gateway.journal.losses import LossCounter
from gateway.journal.memory_fallback import MemoryFallback
from gateway.journal.segments import Segments
from gateway.journal.subscription import MAX_READY, REFILL, Cursor, Subscription
from gateway.journal.writer import JournalWriter

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from gateway.journal.locations import Position
    from gateway.journal.pending import PendingRecord
    from gateway.model import Interaction
    from gateway.settings import JournalSettings

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class JournalOptions:
    """Values that only tests change."""

    tick_s: float = 1.0
    survey_every: int = 5  # ticks between looks at the other processes' journals and at the archive
    cached_bytes: int = 16 << 20  # of finished records that stay in memory until shipped, which saves reading them back
    memory_fallback_bytes: int = 64 << 20  # of records that a full disk does not take, with `when_full = "serve"`
    sync_timeout_s: float = 10.0  # a sync that takes longer counts as failed
    max_ready: int = MAX_READY
    refill: int = REFILL


@dataclass(frozen=True, slots=True)
class JournalState:
    """The journal's state for readiness and metrics. `/readyz` shows these names."""

    refusal: str | None  # the reason why no new record may begin
    bytes: int  # of all processes' segments
    kept_bytes: int  # of archived segments, which are removed when space is short; not in `bytes`
    room_bytes: int  # that may still be written, by the settings and by the disk
    refusals: int  # callers that got an error because nothing can be recorded
    open: int  # records that have begun and not ended
    unwritten: int  # finished records that are only in memory
    lost_parts: int
    loss: str | None  # the last one
    lost_records: int
    syncs: int


class Journal:
    """This process's journal. Construct it before the loop runs, open it on the loop, use it in the loop's thread."""

    def __init__(
        self,
        settings: JournalSettings,
        directory: Path,
        disk: Disk | None = None,
        options: JournalOptions = JournalOptions(),
    ) -> None:
        self._settings = settings
        self._disk = disk or Disk()
        self._options = options
        self._folder = JournalFolder.new(directory)
        self._subscriptions: list[Subscription] = []
        self._open: dict[bytes, JournalEntry] = {}  # begun on disk and not finished, in the order of their BEGUN frames
        self._ticker: asyncio.Task[None] | None = None
        self.directory = directory
        self.losses = LossCounter()

    def subscribe(self, sink: str) -> Subscription:
        """Returns a subscription to all records for the sink of this name. Call it before the first `begin`.

        No segment is dropped before every subscription has received its records.
        """
        cursor = Cursor(self._folder.path / f"{sink}.cursor")
        subscription = Subscription(
            cursor, self._on_acknowledged, len(self._subscriptions), self._options.max_ready, self._options.refill
        )
        self._subscriptions.append(subscription)
        return subscription

    async def open(self) -> None:
        """Raises ServiceError if the directory cannot be used. On a full disk it opens, and refuses records."""
        self._thread = DiskThread()
        try:
            await self._thread.run(self._folder.create)
        except OSError as error:
            if error.errno not in DISK_FULL_ERRORS:
                self._thread.stop()
                reason = (
                    f"the journal cannot be kept in {self.directory}: {error.strerror or error}; "
                    "choose another directory (GATEWAY_DATA_DIR, or GATEWAY_JOURNAL_DIR for the journal alone)"
                )
                raise ServiceError(reason, code="journal_unusable") from error
        options = self._options
        self._segments = Segments(self._folder, self._settings, self._disk, self._thread)
        self._memory_fallback = MemoryFallback(self._segments, self._subscriptions, options.memory_fallback_bytes)
        self._group_commit = GroupCommit(self._segments, options.sync_timeout_s)
        self._writer = JournalWriter(
            self._settings,
            self._segments,
            self._subscriptions,
            self._group_commit,
            self._memory_fallback,
            options.cached_bytes,
            self._open.pop,
        )
        await self._segments.open()
        self._ticker = asyncio.create_task(self._tick_forever(), name="journal")

    async def aclose(self) -> None:
        """Releases the folder: shipped segments are archived, the others wait for a takeover."""
        if self._ticker is None:
            return
        self._ticker.cancel()
        with suppress(asyncio.CancelledError):
            await self._ticker
        self._ticker = None
        self._memory_fallback.close()
        if self._settings.sync != "none":
            with suppress(OSError):
                await self._thread.run(self._segments.sync_job())
        self._group_commit.close()
        self._segments.write_checkpoint()
        is_shipped = self._is_all_shipped
        self._segments.close()
        self._thread.stop()
        for subscription in self._subscriptions:
            subscription.close()
        if is_shipped:
            archive.archive_folder(self._folder, self._settings.shipped_s)
        else:
            self._folder.release()

    def begin(self, interaction: Interaction) -> JournalEntry:
        """Writes the request and returns the handle of its record.

        Raises JournalFull if there is no space, unless the settings say `serve`.
        """
        key = interaction.id.bytes
        begun = self._writer.begin(key, interaction)
        entry = JournalEntry(self._writer, interaction, key, begun)
        if begun is not None:
            self._open[key] = entry
        return entry

    # --- state -------------------------------------------------------------------------------------------------------

    @property
    def subscriptions(self) -> Sequence[Subscription]:
        return self._subscriptions

    @property
    def folder(self) -> Path:
        return self._folder.path

    @property
    def end(self) -> Position:
        """The position at which the next frame is written."""
        return self._segments.end

    @property
    def shipped_s(self) -> float:
        """How long shipped segments stay in the archive."""
        return self._settings.shipped_s

    @property
    def state(self) -> JournalState:
        segments, writer = self._segments, self._writer
        return JournalState(
            refusal=segments.admission.refusal,
            bytes=segments.total_bytes + segments.other_bytes,
            kept_bytes=segments.archived_bytes,
            room_bytes=segments.room_bytes,
            refusals=writer.refusals,
            open=len(self._open),
            unwritten=len(self._memory_fallback),
            lost_parts=writer.lost_parts,
            loss=self._memory_fallback.loss or self.losses.last,
            lost_records=self._memory_fallback.lost + self.losses.records,
            syncs=self._group_commit.count,
        )

    @property
    def _is_all_shipped(self) -> bool:
        if not self._subscriptions or self._memory_fallback:
            return False
        end = self._segments.end
        return all(subscription.delivered_up_to(end) == end for subscription in self._subscriptions)

    # --- maintenance -------------------------------------------------------------------------------------------------

    def _on_acknowledged(self, records: Sequence[PendingRecord]) -> None:
        self._writer.on_acknowledged(records)
        self._drop_shipped()

    def _drop_shipped(self) -> None:
        """Drops the segments that every sink has received. Cursors are written a second time, into the freed space, for
        a full disk may have refused them."""
        if not self._subscriptions:
            return
        end = self._segments.end
        for subscription in self._subscriptions:
            subscription.write_cursor(end)
        self._segments.drop_before(min(each.delivered_up_to(end).segment for each in self._subscriptions))
        for subscription in self._subscriptions:
            subscription.write_cursor(end)

    async def _tick_forever(self) -> None:
        for count in itertools.count():
            await asyncio.sleep(self._options.tick_s)
            try:
                if count % self._options.survey_every == 0:
                    with suppress(OSError):  # no descriptor: the last result is good enough
                        other_bytes = await self._thread.run(lambda: lock.other_journals_bytes(self._folder.path))
                        self._segments.other_bytes = other_bytes
                        await self._segments.expire_archive()
                await self._tick()
            except Exception:
                log.exception("journal_tick_failed")

    async def _tick(self) -> None:
        await self._segments.check_space()
        if self._segments.admission.refusal is not None and self._settings.sync != "none":
            self._group_commit.sync_now()
        self._memory_fallback.write()
        compact(self._open, self._folder.path, self._segments, self._subscriptions)
        self._drop_shipped()
        self._segments.write_checkpoint()
