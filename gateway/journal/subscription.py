"""A sink's subscription to this process's journal, and its cursor, which survives the process."""

from __future__ import annotations

import asyncio
import os
from collections import deque
from contextlib import suppress
from itertools import islice
from struct import Struct
from typing import TYPE_CHECKING
from zlib import crc32

from gateway.journal.locations import START, Extent, Position
from gateway.journal.pending import Backlog, PendingRecord

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

MAX_READY = 10_000  # records; further ones go to the backlog
REFILL = 1_000  # records that are taken from the backlog at once

_CURSOR = Struct("<QQQ")
_OLD_CURSOR = Struct("<QQ")
_CRC = Struct("<I")


class Cursor:
    """A position in a journal, in a small file. A damaged or missing file means the start: nothing is skipped."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd = -1
        self._written: Position | None = None
        self.shipped = 0  # records, ever: a count for people, not a position

    def read(self) -> Position:
        try:
            found = self._path.read_bytes()
            fields = _CURSOR if len(found) >= _CURSOR.size + _CRC.size else _OLD_CURSOR
            (crc,) = _CRC.unpack_from(found, fields.size)
            if crc != crc32(found[: fields.size]):
                return START
            segment, offset, *counts = fields.unpack_from(found)
        except Exception:  # noqa: BLE001 - whatever the fault is, the start is right
            return START
        self.shipped = sum(counts)
        return Position(segment, offset)

    def write(self, position: Position) -> None:
        """Writes the cursor in place, in one small write with a checksum. Never raises: a lost write costs a replay."""
        if position == self._written:
            return
        data = _CURSOR.pack(*position, self.shipped)
        with suppress(OSError):
            if self._fd < 0:
                self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            os.pwrite(self._fd, data + _CRC.pack(crc32(data)), 0)
            self._written = position

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class Subscription:
    """A queue of the records that one sink has yet to receive, in the order of their ends."""

    def __init__(
        self,
        cursor: Cursor,
        on_acknowledged: Callable[[Sequence[PendingRecord]], None],
        number: int = 0,
        max_ready: int = MAX_READY,
        refill: int = REFILL,
    ) -> None:
        self._bit = 1 << number  # in `PendingRecord.waiting_sinks`
        self._cursor = cursor
        self._on_acknowledged = on_acknowledged
        self._max_ready = max_ready
        self._refill_count = refill
        self._ready: deque[PendingRecord] = deque()
        self._backlog = Backlog()
        self._begun: dict[bytes, Extent] = {}  # records that are not received yet, in the order of their extents
        self._has_records = asyncio.Event()
        self._is_empty = asyncio.Event()
        self._is_empty.set()
        self.ready_bytes = 0

    # --- called by the journal ---------------------------------------------------------------------------------------

    def on_begun(self, key: bytes, extent: Extent) -> None:
        self._begun[key] = extent

    def on_moved(self, key: bytes, extent: Extent) -> None:
        """Compaction has written an open record's BEGUN frame again."""
        if self._begun.pop(key, None) is not None:
            self._begun[key] = extent

    def on_written(self, pending: PendingRecord) -> None:
        """A record that was finished in memory is on disk now: its segment is needed until the sink has it."""
        if pending.waiting_sinks & self._bit and pending.begun is not None:
            self._begun[pending.key] = pending.begun

    def on_finished(self, pending: PendingRecord) -> None:
        pending.waiting_sinks |= self._bit
        self.ready_bytes += pending.size
        begun, finished = pending.begun, pending.finished
        if pending.record is None and begun is not None and finished is not None and self.is_overflowing:
            self._backlog.append(pending.key, begun, finished, pending.finished_at)
            self._begun.pop(pending.key, None)
        elif self._backlog.packed:
            self._backlog.append_in_memory(pending)
        else:
            self._ready.append(pending)
        self._has_records.set()
        self._is_empty.clear()

    def delivered_up_to(self, end: Position) -> Position:
        """Returns the position before which the sink has received everything; `end` is the journal's end."""
        oldest = next(iter(self._begun.values()), None)
        position = end if oldest is None else Position(oldest.segment, oldest.offset)
        return min(position, self._backlog.oldest_position or position)

    def write_cursor(self, end: Position) -> None:
        self._cursor.write(self.delivered_up_to(end))

    def close(self) -> None:
        self._cursor.close()

    # --- called by the shipper ---------------------------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self._ready) + len(self._backlog)

    @property
    def is_overflowing(self) -> bool:
        """Whether new records go to the backlog, and should not be kept in memory."""
        return bool(self._backlog.packed) or len(self._ready) >= self._max_ready

    @property
    def oldest_at(self) -> float | None:
        """Unix time at which the oldest record finished."""
        return self._ready[0].finished_at if self._ready else None

    def is_pending(self, key: bytes) -> bool:
        """Whether the sink has yet to receive a record; records of the backlog are not known."""
        return key in self._begun

    async def wait(self) -> None:
        """Returns when there is a record to peek at."""
        await self._has_records.wait()

    async def drained(self) -> None:
        """Returns when all records are acknowledged."""
        await self._is_empty.wait()

    def peek(self, max_rows: int, max_bytes: int) -> list[PendingRecord]:
        """Returns the oldest records within these limits, but at least one if there is one."""
        records: list[PendingRecord] = []
        for pending in islice(self._ready, max_rows):
            max_bytes -= pending.size
            if max_bytes < 0 and records:
                break
            records.append(pending)
        return records

    def acknowledge(self, records: Sequence[PendingRecord]) -> None:
        """Removes the records of the last `peek`, which the sink has received."""
        self._cursor.shipped += len(records)
        for pending in records:
            self._ready.popleft()
            if self._begun.pop(pending.key, None) is None and pending.begun is not None:
                self._backlog.acknowledge(pending.begun)
            self.ready_bytes -= pending.size
            pending.waiting_sinks &= ~self._bit
        if self._backlog and len(self._ready) < self._refill_count:
            self._refill()
        if not self._ready:
            self._has_records.clear()
            self._is_empty.set()
        self._on_acknowledged(records)

    def _refill(self) -> None:
        for pending in self._backlog.take(self._refill_count):
            pending.waiting_sinks |= self._bit
            self._ready.append(pending)
