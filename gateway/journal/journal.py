"""The journal: what is said is on local disk before the upstream hears of it, and whole before the caller sees its end.

Everything on the request's path is synchronous and takes microseconds; see `segments` for the files, `syncing` for
durability, `feed` for what happens to a finished record, and `owner` for whose journal it is.
"""

from __future__ import annotations

import asyncio
import itertools
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from gateway.errors import JournalFull, ServiceError
from gateway.journal import lock, shipped_segments
from gateway.journal.compaction import compact
from gateway.journal.disk import Disk, DiskThread
from gateway.journal.entry import JournalEntry
from gateway.journal.frames import NOWHERE
from gateway.journal.group_commit import GroupCommit
from gateway.journal.lock import Folder
from gateway.journal.losses import Losses
from gateway.journal.memory_fallback import MemoryFallback
from gateway.journal.meta import of_answer, of_interaction
from gateway.journal.pending import Pending
from gateway.journal.segments import NO_ROOM, Segments, Span
from gateway.journal.subscription import Cursor, Subscription
from gateway.model import Record

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from gateway.journal.segments import Position
    from gateway.model import Answer, Interaction
    from gateway.settings.settings import JournalSettings

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class JournalOptions:
    """What nobody has to set, but tests."""

    tick_s: float = 1.0
    others_every: int = 5  # ticks
    cached_bytes: int = 16 << 20  # finished records that stay in memory until shipped, which saves reading them back
    unwritten_bytes: int = 64 << 20  # records that a full disk does not take, if nobody is to be refused for it
    sync_patience_s: float = 10.0  # a sync that takes longer is taken for failed


@dataclass(frozen=True, slots=True)
class JournalState:
    """For readiness and metrics."""

    refusal: str | None  # why nothing new may begin
    bytes: int
    kept_bytes: int  # beside them: of shipped files, which go when room is short
    room_bytes: int  # that the settings and the disk leave for more
    refusals: int  # callers that were told that nothing can be recorded
    open: int  # begun and not finished
    unwritten: int  # finished, and in memory only
    lost_parts: int
    loss: str | None  # the last one
    lost_records: int
    syncs: int


class Journal:
    """This process's journal. Made before the loop runs, opened on it, used from its thread alone."""

    def __init__(
        self,
        settings: JournalSettings,
        directory: Path,
        disk: Disk | None = None,
        tuning: JournalOptions = JournalOptions(),
    ) -> None:
        self._settings = settings
        self._disk = disk or Disk()
        self._tuning = tuning
        self._is_group = settings.sync == "group"
        self._serves_full = settings.when_full == "serve"
        self._folder = Folder.fresh(directory)
        self._feeds: list[Subscription] = []
        self._entries: dict[bytes, JournalEntry] = {}  # begun and not finished
        self._cached_bytes = 0
        self._lost_parts = 0
        self._refusals = 0
        self._ticking: asyncio.Task[None] | None = None
        self.directory = directory
        self.losses = Losses()

    # --- life --------------------------------------------------------------------------------------------------------

    def follow(self, name: str) -> Subscription:
        """A keeper of this name gets everything, and no segment goes before it has it. Before the first `begin`."""
        feed = Subscription(Cursor(self._folder.path / f"{name}.cursor"), self._shipped, len(self._feeds))
        self._feeds.append(feed)
        return feed

    async def open(self) -> None:
        """Raises ServiceError if the directory cannot be used; a full disk is a reason to refuse, not to stop."""
        self._thread = DiskThread()
        try:
            await self._thread.run(self._folder.claim)
        except OSError as error:
            if error.errno not in NO_ROOM:
                self._thread.stop()
                reason = (
                    f"the journal cannot be kept in {self.directory}: {error.strerror or error}; "
                    "choose another directory (GATEWAY_DATA_DIR, or GATEWAY_JOURNAL_DIR for the journal alone)"
                )
                raise ServiceError(reason, code="journal_unusable") from error
        self._segments = Segments(self._folder, self._settings, self._disk, self._thread)
        self._frames = self._segments.frames
        self._unwritten = MemoryFallback(self._segments, self._feeds, self._tuning.unwritten_bytes)
        self._sync = GroupCommit(self._segments, self._tuning.sync_patience_s)
        await self._segments.open()
        self._ticking = asyncio.create_task(self._tick_for_ever(), name="journal")

    async def aclose(self) -> None:
        """Let go of the folder: what is in the store is kept for a while, and the rest is left for adoption."""
        if self._ticking is None:
            return
        self._ticking.cancel()
        with suppress(asyncio.CancelledError):
            await self._ticking
        self._ticking = None
        self._unwritten.close()
        if self._settings.sync != "none":
            with suppress(OSError):
                await self._thread.run(self._segments.flushing())
        self._sync.close()
        self._segments.note()
        is_done = self._is_all_shipped
        self._segments.close()
        self._thread.stop()
        for feed in self._feeds:
            feed.close()
        if is_done:
            shipped_segments.shelve(self._folder, self._settings.shipped_s)
        else:
            self._folder.release()

    # --- on the request's path ---------------------------------------------------------------------------------------

    def begin(self, interaction: Interaction) -> JournalEntry:
        """Write the request down. Raises JournalFull when there is no room, unless the settings say to serve."""
        key = interaction.id.bytes
        span = None
        if self._segments.refusal is None:
            span = self._appended(self._frames.begun(key, of_interaction(interaction), interaction.body))
        entry = JournalEntry(self, interaction, key, span)
        if span is None:
            if not self._serves_full:
                raise self._full()
            return entry
        self._segments.begun += 1
        self._entries[key] = entry
        for feed in self._feeds:
            feed.begun(key, span)
        if not self._is_group:
            self._sync_soon()
        return entry

    def write_part(self, entry: JournalEntry, chunks: list[bytes]) -> None:
        assert entry.begun is not None
        span = None
        if entry.unwritten:
            chunks = [*entry.unwritten, *chunks]
        if self._segments.refusal is None:  # else what room there is belongs to the ends
            span = self._appended(self._frames.part(entry.key, entry.begun[:2], len(entry.parts), chunks))
        if span is not None:
            entry.parts.append(span)
            entry.unwritten = None
        else:
            self._lost_parts += 1
            entry.unwritten = chunks

    def write_end(self, entry: JournalEntry, answer: Answer) -> None:
        span: Span | None = None
        begun = entry.begun[:2] if entry.begun is not None else NOWHERE
        end = self._frames.finished(entry.key, of_answer(answer), answer.body, begun)
        if self._unwritten and self._segments.refusal is None:
            self._unwritten.write()  # there is room again: the older ones first
        if entry.begun is not None:
            del self._entries[entry.key]
            span = self._appended(end, is_end=True)
        pending = Pending(entry.key, entry.begun, span, finished_at=answer.finished_at)
        if span is not None:
            self._segments.finished += 1
            entry.mark = self._segments.written
            if self._cached_bytes + pending.size <= self._tuning.cached_bytes and self._are_feeds_short:
                self._cached_bytes += pending.size
                pending.is_cached = True
                pending.record = Record(entry.interaction, answer)
        elif not self._unwritten.add(entry.interaction, answer, pending, end):
            return
        for feed in self._feeds:
            feed.finished(pending)
        if span is None and not self._serves_full:
            entry.failed = True
            raise self._full()
        if not self._is_group:
            self._sync_soon()

    def _appended(self, frame: list[bytes], *, is_end: bool = False) -> Span | None:
        """Where the frame lies now; None: the disk does not take it."""
        try:
            return self._segments.append(frame, is_end=is_end)
        except OSError:  # `Segments` knows of it, and says so
            return None

    @property
    def _are_feeds_short(self) -> bool:
        for feed in self._feeds:  # `any` costs thrice that
            if feed.is_long:
                return False
        return bool(self._feeds)

    async def keep(self, entry: JournalEntry) -> None:
        if entry.failed:
            raise self._full()
        if not self._is_group or not entry.mark:
            return
        try:
            await self._sync.reach(entry.mark)
        except JournalFull:
            if not self._serves_full:
                raise

    def _sync_soon(self) -> None:
        if self._settings.sync == "interval":
            self._sync.soon()

    def _full(self) -> JournalFull:
        """Why, is in the log and in `state`: a caller need not know the gateway's paths."""
        self._refusals += 1
        return JournalFull("the gateway cannot record anything at the moment, so it may not answer")

    # --- after the request -------------------------------------------------------------------------------------------

    @property
    def feeds(self) -> Sequence[Subscription]:
        return self._feeds

    @property
    def folder(self) -> Path:
        return self._folder.path

    @property
    def end(self) -> Position:
        return self._segments.end

    @property
    def shipped_s(self) -> float:
        """How long segments are kept that everybody has."""
        return self._settings.shipped_s

    @property
    def state(self) -> JournalState:
        return JournalState(
            refusal=self._segments.refusal,
            bytes=self._segments.total + self._segments.foreign_bytes,
            kept_bytes=self._segments.kept_bytes,
            room_bytes=self._segments.room_bytes,
            refusals=self._refusals,
            open=len(self._entries),
            unwritten=len(self._unwritten),
            lost_parts=self._lost_parts,
            loss=self._unwritten.loss or self.losses.last,
            lost_records=self._unwritten.lost + self.losses.records,
            syncs=self._sync.count,
        )

    @property
    def _is_all_shipped(self) -> bool:
        end = self._segments.end
        return bool(self._feeds) and not self._unwritten and all(feed.low(end) == end for feed in self._feeds)

    def _shipped(self, taken: Sequence[Pending]) -> None:
        for pending in taken:
            if not pending.keepers and pending.is_cached:
                self._cached_bytes -= pending.size
        self._let_go()

    def _let_go(self) -> None:
        """Of the files that nobody needs any more. A cursor that a full disk did not take is saved in their room."""
        if not self._feeds:
            return
        end = self._segments.end
        for feed in self._feeds:
            feed.save(end)
        self._segments.drop_before(min(feed.low(end).segment for feed in self._feeds))
        for feed in self._feeds:
            feed.save(end)

    async def _tick_for_ever(self) -> None:
        for count in itertools.count():
            await asyncio.sleep(self._tuning.tick_s)
            try:
                if count % self._tuning.others_every == 0:
                    with suppress(OSError):  # no descriptor: what was found the last time will do
                        found = await self._thread.run(lambda: lock.bytes_of_others(self._folder.path))
                        self._segments.foreign_bytes = found
                        await self._segments.tidy()
                await self._tick()
            except Exception:
                log.exception("journal_tick_failed")

    async def _tick(self) -> None:
        await self._segments.review()
        if self._segments.refusal is not None and self._settings.sync != "none":
            self._sync.retry()
        self._unwritten.write()
        compact(self._entries, self._folder.path, self._segments, self._feeds)
        self._let_go()
        self._segments.note()
