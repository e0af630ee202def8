"""What one keeper has yet to get from the journal, and how far it has come: the cursor, which survives us."""

from __future__ import annotations

import asyncio
import os
from collections import deque
from contextlib import suppress
from itertools import islice
from struct import Struct
from typing import TYPE_CHECKING
from zlib import crc32

from gateway.journal.pending import Backlog, Pending
from gateway.journal.segments import START, Position, Span

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

MOST_AT_HAND = 10_000  # records; more than that go to the backlog
REFILL = 1_000

_CURSOR = Struct("<QQQ")
_OLD_CURSOR = Struct("<QQ")
_CRC = Struct("<I")


class Cursor:
    """A position in a folder's segments, in a tiny file. Damaged or missing, it means the start: nothing is skipped."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd = -1
        self._written: Position | None = None
        self.shipped = 0  # records, ever: a count for people, not a position

    def read(self) -> Position:
        try:
            found = self._path.read_bytes()
            form = _CURSOR if len(found) >= _CURSOR.size + _CRC.size else _OLD_CURSOR
            (crc,) = _CRC.unpack_from(found, form.size)
            if crc != crc32(found[: form.size]):
                return START
            segment, offset, *counts = form.unpack_from(found)
        except Exception:  # noqa: BLE001 - whatever is wrong with it, the start is right
            return START
        self.shipped = sum(counts)
        return Position(segment, offset)

    def write(self, position: Position) -> None:
        """One small write in place; if torn, the checksum says so. A lost one costs a replay, so it never raises."""
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
    """One keeper's view of the journal of this process."""

    def __init__(self, cursor: Cursor, on_shipped: Callable[[Sequence[Pending]], None], number: int = 0) -> None:
        self._bit = 1 << number  # among the journal's feeds
        self._cursor = cursor
        self._on_shipped = on_shipped
        self._ready: deque[Pending] = deque()
        self._backlog = Backlog()
        self._begun: dict[bytes, Span] = {}  # begun, and not in the store yet; in the order of their spans
        self._more = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self.ready_bytes = 0

    # --- the journal's side ------------------------------------------------------------------------------------------

    def begun(self, key: bytes, span: Span) -> None:
        self._begun[key] = span

    def moved(self, key: bytes, span: Span) -> None:
        if self._begun.pop(key, None) is not None:
            self._begun[key] = span

    def written(self, pending: Pending) -> None:
        """One that was finished in memory has its begin on disk now, which concerns who still needs it."""
        if pending.keepers & self._bit and pending.begun is not None:
            self._begun[pending.key] = pending.begun

    def finished(self, pending: Pending) -> None:
        pending.keepers |= self._bit
        self.ready_bytes += pending.size
        if pending.record is None and pending.begun is not None and pending.finished is not None and self.is_long:
            self._backlog.append(pending.key, pending.begun, pending.finished, pending.finished_at)
            self._begun.pop(pending.key, None)
        elif self._backlog.packed:
            self._backlog.append_object(pending)
        else:
            self._ready.append(pending)
        self._more.set()
        self._idle.clear()

    def low(self, end: Position) -> Position:
        """Everything before it is in the store; `end` is the journal's end."""
        oldest = next(iter(self._begun.values()), None)
        low = end if oldest is None else Position(oldest.segment, oldest.offset)
        return min(low, self._backlog.low or low)

    def save(self, end: Position) -> None:
        self._cursor.write(self.low(end))

    def close(self) -> None:
        self._cursor.close()

    # --- the keeper's side -------------------------------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self._ready) + len(self._backlog)

    @property
    def is_long(self) -> bool:
        """New records go to the backlog: they should not be held in memory."""
        return bool(self._backlog.packed) or len(self._ready) >= MOST_AT_HAND

    @property
    def oldest_at(self) -> float | None:
        return self._ready[0].finished_at if self._ready else None

    def waits_for(self, key: bytes) -> bool:
        """Whether a record is yet to be taken, as far as memory knows."""
        return key in self._begun

    async def wait(self) -> None:
        """Return when there is something to take."""
        await self._more.wait()

    async def drained(self) -> None:
        """Return when everything is taken."""
        await self._idle.wait()

    def peek(self, rows: int, size: int) -> list[Pending]:
        """The oldest ones: at most so many, and of so many bytes; but one at least."""
        taken: list[Pending] = []
        for pending in islice(self._ready, rows):
            size -= pending.size
            if size < 0 and taken:
                break
            taken.append(pending)
        return taken

    def shipped(self, taken: Sequence[Pending]) -> None:
        """The ones that were peeked at are in the store."""
        self._cursor.shipped += len(taken)
        for pending in taken:
            self._ready.popleft()
            if self._begun.pop(pending.key, None) is None and pending.begun is not None:
                self._backlog.shipped(pending.begun)
            self.ready_bytes -= pending.size
            pending.keepers &= ~self._bit
        if self._backlog and len(self._ready) < REFILL:
            self._refill()
        if not self._ready:
            self._more.clear()
            self._idle.set()
        self._on_shipped(taken)

    def _refill(self) -> None:
        for pending in self._backlog.take(REFILL):
            pending.keepers |= self._bit
            self._ready.append(pending)
