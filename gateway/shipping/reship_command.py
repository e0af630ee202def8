"""`llm-gateway reship`: ships again the kept records of a directory that the database does not have."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from gateway.errors import RecordNotAccepted, RecordRefused
from gateway.journal import lock
from gateway.journal.disk import in_thread
from gateway.journal.locations import START, segment_numbers
from gateway.journal.pending import batches
from gateway.shipping.kept_records import finished_records, is_incomplete, lost_copies, lost_records
from gateway.shipping.progress import confirmed_rows
from gateway.shipping.shipped_records import ShippedRecords
from gateway.shipping.sink import keep_record

if TYPE_CHECKING:
    from pathlib import Path

    from gateway.model import Record
    from gateway.shipping.tracked_sink import CursorStore

REFUSALS = (RecordRefused, RecordNotAccepted)


@dataclass(slots=True)
class ReshipResult:
    """Numbers of records."""

    examined: int = 0
    restored: int = 0
    refused: int = 0
    gone: int = 0  # rows of journals that are still here, from segments that are not; of any time
    oldest_at: float | None = None  # Unix time of the oldest record that is kept


async def reship(directory: Path, store: CursorStore, since: float) -> ReshipResult:
    """Stores the kept records from `since` (Unix time) on that the database does not have.

    Needs no lock: it only reads, and of a journal in use it takes the finished records. Raises StoreUnavailable.
    """
    result = ReshipResult()
    for folder in await in_thread(lambda: list(lock.journal_folders(directory))):
        count = 0
        confirmed = await in_thread(confirmed_rows, [folder], store.name)  # first: a running gateway goes on
        is_over = not await in_thread(segment_numbers, folder)
        async for pendings in finished_records(folder, is_over=is_over):
            count += len(pendings)
            for pending in pendings:
                at = (pending.id.int >> 80) / 1000
                result.oldest_at = at if result.oldest_at is None else min(at, result.oldest_at)
            for batch in batches([pending for pending in pendings if pending.finished_at >= since]):
                result.examined += len(batch)
                await _keep(await lost_records(folder, batch, store), store, result)
        if await in_thread(is_incomplete, folder, START):
            result.gone += max(0, sum(confirmed.values()) - count)
    async for record in lost_copies(ShippedRecords(directory, store.name, 0), store):
        if record.answer.finished_at >= since:
            result.examined += 1
            await _keep([record], store, result)
    return result


async def _keep(records: list[Record], store: CursorStore, result: ReshipResult) -> None:
    if not records:
        return
    try:
        await store.keep(records)
    except REFUSALS:
        for record in records:
            try:
                await keep_record(store, record)
            except REFUSALS:
                result.refused += 1
            else:
                result.restored += 1
    else:
        result.restored += len(records)
