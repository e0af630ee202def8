"""The journal: what is said is on local disk before the upstream hears of it, and whole before the caller sees its end.

Everything on the request's path is synchronous and takes microseconds; see `segments` for the files, `syncing` for
durability, `feed` for what happens to a finished record, and `owner` for whose journal it is.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

import structlog

from gateway.errors import JournalFull
from gateway.model import Record
from gateway.record import frames
from gateway.record.disk import Disk, DiskThread
from gateway.record.feed import Cursor, Feed, Pending
from gateway.record.meta import of_answer, of_interaction
from gateway.record.owner import Folder
from gateway.record.segments import NO_ROOM, Segments, Span, path_of
from gateway.record.syncing import GroupSync

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path
    from uuid import UUID

    from gateway.model import Answer, Interaction
    from gateway.settings import JournalSettings

TICK_S = 1.0
CACHED_BYTES = 16 << 20  # finished records that stay in memory until they are shipped, which saves reading them back
UNWRITTEN_BYTES = 64 << 20  # records that a full disk does not take and that nobody was refused for (`serve`)
MOVES_A_TICK = 200

log = structlog.get_logger()


class Entry:
    """One begun record. `finish` writes its other half, once."""

    __slots__ = ("_journal", "begun", "failed", "interaction", "is_finished", "key", "mark", "parts")

    def __init__(self, journal: Journal, interaction: Interaction, key: bytes, begun: Span | None) -> None:
        self._journal = journal
        self.interaction = interaction
        self.key = key
        self.begun = begun  # None: in memory only, for the disk is full and the settings say to serve
        self.parts: list[Span] = []
        self.is_finished = False
        self.failed = False
        self.mark = 0

    @property
    def id(self) -> UUID:
        return self.interaction.id

    def part(self, chunks: list[bytes]) -> None:
        """Keep what has been said since the last part, in case that this process dies. Never raises."""
        if self.begun is not None and not self.is_finished:
            self._journal.write_part(self, chunks)

    def finish(self, answer: Answer) -> bool:
        """Write the answer; False if there was one already.

        Raises JournalFull if the disk does not take it: the caller must not be shown an end. The record is not lost
        even then: it stays in memory, goes to the store from there, and is written as soon as there is room.
        """
        if self.is_finished:
            return False
        self.is_finished = True
        self._journal.write_end(self, answer)
        return True

    async def kept(self) -> None:
        """Return when the finished record is as durable as `journal.sync` says. Raises JournalFull if it is not."""
        await self._journal.keep(self)


@dataclass(frozen=True, slots=True)
class JournalState:
    """For readiness and metrics."""

    refusal: str | None  # why nothing new may begin
    bytes: int
    open: int  # begun and not finished
    unwritten: int  # finished, and in memory only
    lost_parts: int
    lost_records: int
    syncs: int


class Journal:
    """This process's journal. Made before the loop runs, opened on it, used from its thread alone."""

    def __init__(
        self,
        settings: JournalSettings,
        directory: Path,
        clock: Callable[[], float] = time.time,
        disk: Disk | None = None,
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._disk = disk or Disk()
        self._is_group = settings.sync == "group"
        self._serves_full = settings.when_full == "serve"
        self._folder = Folder.fresh(directory)
        self._feeds: list[Feed] = []
        self._entries: dict[bytes, Entry] = {}  # begun and not finished
        self._unwritten: deque[tuple[Pending, list[bytes], list[bytes]]] = deque()
        self._unwritten_bytes = 0
        self._cached_bytes = 0
        self._lost_parts = 0
        self._lost_records = 0
        self._ticking: asyncio.Task[None] | None = None
        self.directory = directory

    # --- life --------------------------------------------------------------------------------------------------------

    def follow(self, name: str) -> Feed:
        """A keeper of this name gets everything, and no segment goes before it has it. Before the first `begin`."""
        feed = Feed(Cursor(self._folder.path / f"{name}.cursor"), self._shipped)
        self._feeds.append(feed)
        return feed

    async def open(self) -> None:
        """Raises OSError if the directory cannot be used at all; a full disk is a reason to refuse, not to stop."""
        self._thread = DiskThread()
        try:
            await self._thread.run(self._folder.claim)
        except OSError as error:
            if error.errno not in NO_ROOM:
                self._thread.stop()
                raise
        self._segments = Segments(self._folder, self._settings, self._disk, self._thread)
        self._sync = GroupSync(self._segments, self._thread)
        await self._segments.open()
        self._ticking = asyncio.create_task(self._tick_for_ever(), name="journal")

    async def aclose(self) -> None:
        """Let go of the folder; it is removed if everything in it is in the store, and left for adoption if not."""
        if self._ticking is None:
            return
        self._ticking.cancel()
        with suppress(asyncio.CancelledError):
            await self._ticking
        self._ticking = None
        self._write_unwritten()
        if self._settings.sync != "none":
            with suppress(OSError):
                await self._thread.run(self._segments.flushing())
        self._sync.close()
        is_done = self._is_all_shipped
        self._segments.close()
        self._thread.stop()
        for feed in self._feeds:
            feed.close()
        if is_done:
            self._folder.remove()
        else:
            self._folder.release()

    # --- on the request's path ---------------------------------------------------------------------------------------

    def begin(self, interaction: Interaction) -> Entry:
        """Write the request down. Raises JournalFull when there is no room, unless the settings say to serve."""
        key = interaction.id.bytes
        span: Span | None = None
        if self._segments.refusal is None:
            with suppress(OSError):
                span = self._segments.append(frames.begun(key, of_interaction(interaction), interaction.body))
        entry = Entry(self, interaction, key, span)
        if span is None:
            if not self._serves_full:
                raise self._full()
            return entry
        self._entries[key] = entry
        for feed in self._feeds:
            feed.begun(key, span)
        if not self._is_group:
            self._sync_soon()
        return entry

    def write_part(self, entry: Entry, chunks: list[bytes]) -> None:
        if self._segments.refusal is None:  # else what room there is belongs to the ends
            with suppress(OSError):
                entry.parts.append(self._segments.append(frames.part(entry.key, chunks)))
                return
        self._lost_parts += 1

    def write_end(self, entry: Entry, answer: Answer) -> None:
        span: Span | None = None
        end = frames.finished(entry.key, of_answer(answer), answer.body)
        if entry.begun is not None:
            del self._entries[entry.key]
            with suppress(OSError):
                span = self._segments.append(end, is_end=True)
        pending = Pending(entry.key, entry.begun, span, finished_at=answer.finished_at)
        if span is None:
            self._retain(entry, answer, pending, end)
        else:
            entry.mark = self._segments.written
            if self._feeds and self._cached_bytes + pending.size <= CACHED_BYTES:
                self._cached_bytes += pending.size
                pending.record = Record(entry.interaction, answer)
        for feed in self._feeds:
            feed.finished(pending)
        if span is None and not self._serves_full:
            entry.failed = True
            raise self._full()
        if not self._is_group:
            self._sync_soon()

    async def keep(self, entry: Entry) -> None:
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
        return JournalFull(f"nothing can be recorded at the moment: {self._segments.refusal or 'a write failed'}")

    # --- what a full disk does not take ------------------------------------------------------------------------------

    def _retain(self, entry: Entry, answer: Answer, pending: Pending, end: list[bytes]) -> None:
        """Keep a finished record in memory: the store may get it from there, and the disk when it has room again."""
        if self._serves_full and self._unwritten_bytes + pending.size > UNWRITTEN_BYTES:
            self._lost_records += 1
            log.error("record_lost", interaction_id=str(entry.id), lost=self._lost_records)
            return
        pending.record = Record(entry.interaction, answer)
        pending.size = pending.record.size
        start = (
            [] if entry.begun else frames.begun(entry.key, of_interaction(entry.interaction), entry.interaction.body)
        )
        self._unwritten.append((pending, start, end))
        self._unwritten_bytes += pending.size
        log.error("record_only_in_memory", interaction_id=str(entry.id), waiting=len(self._unwritten))

    def _write_unwritten(self) -> None:
        while self._unwritten:
            pending, start, end = self._unwritten[0]
            if pending.keepers or not self._feeds:
                try:
                    if start:
                        pending.begun = self._segments.append(start, is_end=True)
                        start.clear()
                        for feed in self._feeds:
                            feed.begun(pending.key, pending.begun)
                    pending.finished = self._segments.append(end, is_end=True)
                except OSError:
                    return
            self._unwritten.popleft()
            self._unwritten_bytes -= pending.size

    # --- after the request -------------------------------------------------------------------------------------------

    @property
    def folder(self) -> Path:
        return self._folder.path

    @property
    def state(self) -> JournalState:
        return JournalState(
            refusal=self._segments.refusal,
            bytes=self._segments.total + self._segments.foreign_bytes,
            open=len(self._entries),
            unwritten=len(self._unwritten),
            lost_parts=self._lost_parts,
            lost_records=self._lost_records,
            syncs=self._sync.count,
        )

    @property
    def _is_all_shipped(self) -> bool:
        end = self._segments.end
        return bool(self._feeds) and not self._unwritten and all(feed.low(end) == end for feed in self._feeds)

    def _shipped(self, taken: Sequence[Pending]) -> None:
        for pending in taken:
            pending.keepers -= 1
            if pending.keepers == 0 and pending.record is not None and pending.finished is not None:
                self._cached_bytes -= pending.size
        end = self._segments.end
        for feed in self._feeds:
            feed.save(end)
        self._segments.drop_before(min(feed.low(end).segment for feed in self._feeds))

    async def _tick_for_ever(self) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            try:
                await self._tick()
            except Exception:
                log.exception("journal_tick_failed")

    async def _tick(self) -> None:
        await self._segments.review()
        if self._segments.refusal is not None and self._settings.sync != "none":
            self._sync.retry()
        self._write_unwritten()
        self._move_stragglers()

    def _move_stragglers(self) -> None:
        """Write long-running interactions down anew, so that one slow stream does not hold back all segments since.

        Their parts go into one frame behind the new BEGUN; a reader lets these two take the place of all earlier ones.
        """
        newest = self._segments.end.segment
        for entry in list(islice(self._entries.values(), MOVES_A_TICK)):
            if entry.begun is None or entry.begun.segment >= newest - 1:
                return  # they stand in the order in which they were begun
            try:
                self._move(entry)
            except OSError:
                return

    def _move(self, entry: Entry) -> None:
        said = [payload for span in entry.parts for payload in self._read_part(span)]
        interaction = entry.interaction
        entry.begun = self._segments.append(frames.begun(entry.key, of_interaction(interaction), interaction.body))
        if said:
            entry.parts = [self._segments.append(frames.part(entry.key, said))]
        self._entries[entry.key] = self._entries.pop(entry.key)
        for feed in self._feeds:
            feed.moved(entry.key, entry.begun)

    def _read_part(self, span: Span) -> list[bytes]:
        fd = os.open(path_of(self._folder.path, span.segment), os.O_RDONLY | os.O_CLOEXEC)
        try:
            data = os.pread(fd, span.size, span.offset)
        finally:
            os.close(fd)
        return [bytes(frame.payload) for frame in frames.Scan(data)]
