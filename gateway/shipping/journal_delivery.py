"""Delivers records of a journal folder; bytes that cannot be read go to quarantine and count as losses."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import UUID

import structlog

from gateway.journal.disk import in_thread_with_retry
from gateway.journal.reading import read_damage, read_frames, read_records

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from gateway.journal.journal import Journal
    from gateway.journal.pending import PendingRecord
    from gateway.journal.recovery import JournalRecovery
    from gateway.shipping.delivery import Delivery
    from gateway.shipping.quarantine import Quarantine

log = structlog.get_logger()


class JournalDelivery:
    """Shared by all sinks; `journal` counts the losses."""

    def __init__(self, journal: Journal, quarantine: Quarantine) -> None:
        self._losses = journal.losses
        self._quarantine = quarantine

    async def deliver(self, delivery: Delivery, folder: Path, batch: Sequence[PendingRecord]) -> bool:
        """Returns what `Delivery.deliver` returns: False if the batch must be delivered again."""
        records = await read_records(folder, batch)
        if not await delivery.deliver([records[pending.key] for pending in batch if pending.key in records]):
            return False
        for pending in batch:
            if pending.key not in records:
                data = await in_thread_with_retry(read_frames, folder, pending)
                await in_thread_with_retry(self._quarantine.put_frames, pending.id, data, "cannot be read")
                if pending.begun is not None:  # else it is counted with the missing segment
                    place = f"{folder.name}/{pending.begun.segment}/{pending.begun.offset}"
                    self._losses.add(place, 1, f"{pending.id}: its journal cannot be read")
        return True

    async def report_damage(self, folder: Path, recovery: JournalRecovery) -> None:
        """Reports what a recovery has found damaged or missing so far, before the cursor moves beyond it."""
        while recovery.missing:
            missing = recovery.missing.pop()
            if self._losses.add(f"{folder.name}/{missing.segments}", missing.records, missing.text):
                log.error(
                    "journal_segment_missing",
                    folder=folder.name,
                    segments=missing.segments,
                    records=missing.records,
                )
        while recovery.damages:
            damage = recovery.damages[-1]
            text = f"a record of segment {damage.segment}: {damage.reason}" if damage.records else None
            if self._losses.add(f"{folder.name}/{damage.segment}/{damage.offset}", damage.records, text):
                log.error(
                    "journal_damaged",
                    folder=folder.name,
                    segment=damage.segment,
                    offset=damage.offset,
                    bytes=damage.size,
                    reason=damage.reason,
                    interaction_id=damage.key and str(UUID(bytes=damage.key)),
                )
            if not damage.is_quarantined_with_record:
                data = await in_thread_with_retry(read_damage, folder, damage)
                name = f"{folder.name}-{damage.segment}-{damage.offset}"
                await in_thread_with_retry(self._quarantine.put_frames, name, data, damage.reason)
            recovery.damages.pop()
