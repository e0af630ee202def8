"""Finished records on their way to the keepers: a few as objects, and the many of a long outage packed together."""

from __future__ import annotations

from collections import Counter
from struct import Struct
from typing import TYPE_CHECKING, Protocol, TypeVar
from uuid import UUID

from gateway.journal.segments import Position, Span

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from gateway.model import Record

BATCH_ROWS = 500
BATCH_BYTES = 4 << 20


class Pending:
    """A finished record on its way to the keepers: where it lies, and the record itself as long as memory is cheap."""

    __slots__ = ("begun", "fault", "finished", "finished_at", "is_cached", "keepers", "key", "parts", "record", "size")

    def __init__(
        self,
        key: bytes,
        begun: Span | None,
        finished: Span | None,
        *,
        finished_at: float,
        record: Record | None = None,
        parts: Sequence[Span] = (),
        size: int | None = None,
        fault: str | None = None,
    ) -> None:
        self.key = key
        self.begun = begun  # None: never on disk, only in `record`
        self.finished = finished  # None: interrupted, or only in `record`
        self.finished_at = finished_at
        self.record = record
        self.parts = parts  # of an interrupted one
        self.fault = fault  # why there is no more of its answer than the parts, if it is not that its process died
        self.keepers = 0  # that still need it, as bits
        self.is_cached = False
        if size is None:
            size = (begun.size if begun else 0) + (finished.size if finished else 0) + sum(part.size for part in parts)
        self.size = size

    @property
    def id(self) -> UUID:
        return UUID(bytes=self.key)


class _HasSize(Protocol):
    @property
    def size(self) -> int: ...


T = TypeVar("T", bound=_HasSize)


def batches(found: Sequence[T]) -> Iterator[list[T]]:
    """In order; each of at most so many rows and bytes, but one at least."""
    batch: list[T] = []
    size = 0
    for each in found:
        if batch and (len(batch) == BATCH_ROWS or size + each.size > BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(each)
        size += each.size
    if batch:
        yield batch


class Backlog:
    """A queue of those that only the disk knows: 56 bytes each, where an object and its spans take 700.

    Four gigabytes of journal can hold some million records, which the store will want one day.
    """

    _FORM = Struct("<16sIQIIQId")

    def __init__(self) -> None:
        self.packed = bytearray()  # empty when there are none
        self._in_memory: dict[bytes, Pending] = {}  # those that the disk has refused keep their place in the queue
        self._begun_in: Counter[int] = Counter()  # segment → how many of them begin there

    def __len__(self) -> int:
        return len(self.packed) // self._FORM.size

    def append(self, key: bytes, begun: Span, finished: Span, finished_at: float) -> None:
        self.packed += self._FORM.pack(key, *begun, *finished, finished_at)
        self._begun_in[begun.segment] += 1

    def append_object(self, pending: Pending) -> None:
        """One that is not wholly on disk."""
        self.packed += self._FORM.pack(pending.key, 0, 0, 0, 0, 0, 0, pending.finished_at)
        self._in_memory[pending.key] = pending

    def take(self, most: int) -> list[Pending]:
        """Remove the oldest ones from the queue; `low` remembers them until they are shipped."""
        end = min(most, len(self)) * self._FORM.size
        taken = []
        for key, *spans, finished_at in self._FORM.iter_unpack(self.packed[:end]):
            pending = self._in_memory.pop(key, None)
            taken.append(pending or Pending(key, Span(*spans[:3]), Span(*spans[3:]), finished_at=finished_at))
        del self.packed[:end]
        return taken

    def shipped(self, begun: Span) -> None:
        """One of those that were taken is where it belongs."""
        self._begun_in[begun.segment] -= 1
        if not self._begun_in[begun.segment]:
            del self._begun_in[begun.segment]

    @property
    def low(self) -> Position | None:
        """None of those that are not shipped begins before it; as exact as a segment's start."""
        return Position(min(self._begun_in), 0) if self._begun_in else None
