"""Reads records that were shipped and are still kept, and finds those that the database has lost."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from gateway.journal.disk import in_thread
from gateway.journal.locations import ARCHIVED_SUFFIX, SEGMENT_SUFFIX, START, segment_numbers
from gateway.journal.pending import BATCH_ROWS
from gateway.journal.reading import read_records
from gateway.journal.recovery import JournalRecovery
from gateway.shipping.retry_spool import read_record

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path

    from gateway.journal.locations import Position
    from gateway.journal.pending import PendingRecord
    from gateway.model import Record
    from gateway.shipping.shipped_records import ShippedRecords
    from gateway.shipping.tracked_sink import CursorStore


async def finished_records(folder: Path, *, is_over: bool) -> AsyncIterator[list[PendingRecord]]:
    """Yields the finished records of a folder, kept and unshipped ones; the unfinished, too, if its owner is dead."""
    async for pendings in JournalRecovery(folder, START, with_archived=True).records():
        yield [pending for pending in pendings if is_over or pending.finished is not None]


async def lost_records(folder: Path, batch: Sequence[PendingRecord], store: CursorStore) -> list[Record]:
    """Returns the records of this batch that have no row. Raises StoreUnavailable."""
    missing = await store.missing([pending.id for pending in batch])
    wanted = [pending for pending in batch if pending.id in missing]
    records = await read_records(folder, wanted) if wanted else {}
    return [records[pending.key] for pending in wanted if pending.key in records]


async def lost_copies(shipped: ShippedRecords, store: CursorStore) -> AsyncIterator[Record]:
    """Yields the records among these copies that have no row. Raises StoreUnavailable."""
    paths = await in_thread(shipped.paths)
    ids = sorted(paths)
    for at in range(0, len(ids), BATCH_ROWS):
        for id_ in sorted(await store.missing(ids[at : at + BATCH_ROWS])):
            with suppress(OSError, ValueError, LookupError, TypeError):  # the copy has expired
                yield await in_thread(read_record, paths[id_])


def is_incomplete(folder: Path, start: Position) -> bool:
    """Returns whether segments with records from this position on are gone. Numbers may have gaps. Blocks."""
    numbers = segment_numbers(folder, SEGMENT_SUFFIX, ARCHIVED_SUFFIX)
    first = max(start.segment, 1)
    return first not in numbers and (start.offset > 0 or not numbers or numbers[0] > first)
