"""Finished records on their way to the sinks: a few as objects, and those of a long outage packed together."""

from __future__ import annotations

from collections import Counter
from struct import Struct
from typing import TYPE_CHECKING, Protocol, TypeVar
from uuid import UUID

from gateway.journal.locations import Extent, Position

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from gateway.model import Record

BATCH_ROWS = 500
BATCH_BYTES = 4 << 20


class PendingRecord:
    """A finished record that some sink has yet to receive: its extents, and the record itself while memory allows."""

    __slots__ = (
        "begun",
        "fault",
        "finished",
        "finished_at",
        "is_cached",
        "key",
        "parts",
        "record",
        "size",
        "waiting_sinks",
    )

    def __init__(
        self,
        key: bytes,
        begun: Extent | None,
        finished: Extent | None,
        *,
        finished_at: float,
        record: Record | None = None,
        parts: Sequence[Extent] = (),
        size: int | None = None,
        fault: str | None = None,
    ) -> None:
        self.key = key
        self.begun = begun  # None: not on disk, only in `record`
        self.finished = finished  # None: interrupted, or only in `record`
        self.finished_at = finished_at
        self.record = record
        self.parts = parts  # of an interrupted record
        self.fault = fault  # why the answer ends with the parts; None: the process died
        self.waiting_sinks = 0  # a bit for each subscription that still needs it
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


def batches(items: Sequence[T]) -> Iterator[list[T]]:
    """Yields the items in order, at most BATCH_ROWS and BATCH_BYTES at once, but at least one."""
    batch: list[T] = []
    size = 0
    for item in items:
        if batch and (len(batch) == BATCH_ROWS or size + item.size > BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(item)
        size += item.size
    if batch:
        yield batch


class Backlog:
    """A queue of records that are only on disk: 56 bytes each, where an object and its extents take 700.

    A journal of four gigabytes can hold some million records for a store that is away.
    """

    _ITEM = Struct("<16sIQIIQId")

    def __init__(self) -> None:
        self.packed = bytearray()  # empty when there are no records
        self._in_memory: dict[bytes, PendingRecord] = {}  # records that the disk refused keep their place in the queue
        self._begun_in: Counter[int] = Counter()  # segment → how many of the records begin there

    def __len__(self) -> int:
        return len(self.packed) // self._ITEM.size

    def append(self, key: bytes, begun: Extent, finished: Extent, finished_at: float) -> None:
        self.packed += self._ITEM.pack(key, *begun, *finished, finished_at)
        self._begun_in[begun.segment] += 1

    def append_in_memory(self, pending: PendingRecord) -> None:
        """Appends a record that is not wholly on disk."""
        self.packed += self._ITEM.pack(pending.key, 0, 0, 0, 0, 0, 0, pending.finished_at)
        self._in_memory[pending.key] = pending

    def take(self, count: int) -> list[PendingRecord]:
        """Removes and returns the oldest records. `oldest_position` counts them until `acknowledge`."""
        end = min(count, len(self)) * self._ITEM.size
        taken = []
        for key, *numbers, finished_at in self._ITEM.iter_unpack(self.packed[:end]):
            pending = self._in_memory.pop(key, None)
            taken.append(
                pending or PendingRecord(key, Extent(*numbers[:3]), Extent(*numbers[3:]), finished_at=finished_at)
            )
        del self.packed[:end]
        return taken

    def acknowledge(self, begun: Extent) -> None:
        """The sink has received one of the records that were taken."""
        self._begun_in[begun.segment] -= 1
        if not self._begun_in[begun.segment]:
            del self._begun_in[begun.segment]

    @property
    def oldest_position(self) -> Position | None:
        """The start of the oldest segment in which a record begins that the sink has not received."""
        return Position(min(self._begun_in), 0) if self._begun_in else None
