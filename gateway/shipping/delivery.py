"""Delivers batches of records to one sink: waits while it is down, and finds the records that it does not accept.

A record whose own data is refused goes in the raw form, or into quarantine. Any other refusal may have nothing to do
with the record. If the sink refuses all records, all wait. If it takes others, the refused ones move to the retry queue
and delay no other record.
"""

from __future__ import annotations

import asyncio
import random
import time
from typing import TYPE_CHECKING

import structlog

from gateway.errors import RecordNotAccepted, RecordRefused, safe_text
from gateway.journal.disk import in_thread
from gateway.journal.pending import BATCH_BYTES, BATCH_ROWS, batches
from gateway.shipping.sink import SinkCall, error_cause, unexpected_error

if TYPE_CHECKING:
    from collections.abc import Coroutine, Sequence

    from gateway.model import Record
    from gateway.shipping.ordering import PartitionKey
    from gateway.shipping.quarantine import Quarantine
    from gateway.shipping.retry_queue import RetryQueue
    from gateway.shipping.sink import Sink

    Partition = list[tuple[Record, PartitionKey]]  # records of one conversation, in order

FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 5.0
CLOSING_PAUSE_S = 0.2
SLOW_S = 5.0  # a failed batch that took longer is tried in halves: it may only be too large
PROBES = 8  # records that are tried alone after a refused batch: does the sink refuse all, or some?
MAX_QUARANTINED = 3  # in a row, while the sink takes nothing else: more than that is not the fault of their data

log = structlog.get_logger()


class Delivery:
    """Delivers one batch at a time."""

    def __init__(self, sink: Sink, quarantine: Quarantine, closing: asyncio.Event, retries: RetryQueue) -> None:
        self._sink = sink
        self._quarantine = quarantine
        self._closing = closing
        self._retries = retries
        self._call = SinkCall()
        self._failures = 0  # in a row
        self._refused_since: float | None = None  # the first refusal among the records at hand (monotonic)
        self._quarantined = 0  # in a row, see MAX_QUARANTINED
        self._quarantined_since = 0.0
        self.kept = 0
        self.fault: str | None = None  # of the last attempt
        self.cause: str | None = None  # the same, short and stable

    @property
    def in_flight(self) -> asyncio.Task[None] | None:
        return self._call.in_flight

    async def deliver(self, records: Sequence[Record]) -> bool:
        """Returns True when each record is stored, in the retry queue, or in quarantine.

        Returns False after a pause if the sink has refused records and taken no others. The caller then delivers them
        again, together with later records: those show whether the sink refuses all. Waits as long as the sink is down.
        Can be cancelled; then some records may be stored, and all should be delivered again.
        """
        free, waiting = await self._retries.split(records)
        refused, error = await self._keep_all(free)
        if error is not None and not self._takes_others:
            await self._pause(error)
            return False
        for record, key in waiting + refused:
            if not await self._retries.add(record, key, error):
                await self._pause(_queue_full(error or self._retries.error))
                return False
        self._refused_since = None
        return True

    @property
    def _takes_others(self) -> bool:
        """Whether the sink has taken any record since its first refusal."""
        return self._refused_since is not None and self._retries.kept_at > self._refused_since

    async def _keep_all(self, records: list[Record]) -> tuple[Partition, RecordNotAccepted | None]:
        """Returns the records that are not accepted, and the reason."""
        rest = records
        while rest:
            # One batch, unless the caller has added later records to refused ones.
            batch = rest if self._refused_since is None else next(batches(rest))
            error = await self._keep(batch)
            if error is not None:
                return await self._bisect(rest, error)
            rest = rest[len(batch) :]
        return [], None

    async def _bisect(self, records: list[Record], error: Exception) -> tuple[Partition, RecordNotAccepted | None]:
        """Finds the refused records by halving; within one conversation, by one call after the other."""
        partitions = await self._partitions_of(records)
        refused: Partition = []
        found: RecordNotAccepted | None = None
        if isinstance(error, RecordNotAccepted):
            await self._probe(partitions)
            partitions = [partition for partition in partitions if partition]
            if not self._takes_others:
                return [pair for partition in partitions for pair in partition], error if partitions else None
        stack = [partitions]
        while stack:
            part = stack.pop()
            if len(part) == 1:
                failure = await self._keep_in_order(part[0])
                refused += part[0]
                found = failure or found
                if failure is not None and failure.cause == RecordRefused.code and not self._takes_others:
                    return refused + [pair for part in stack for partition in part for pair in partition], found
            elif part and (_is_too_large(part) or await self._keep(_records_of(part)) is not None):
                half = len(part) // 2
                stack += (part[half:], part[:half])
        return refused, found

    async def _partitions_of(self, records: list[Record]) -> list[Partition]:
        partitions: dict[str, Partition] = {}
        for record in records:
            key = await self._retries.key_of(record)
            partitions.setdefault(key.value, []).append((record, key))
        return list(partitions.values())

    async def _probe(self, partitions: list[Partition]) -> None:
        """Tries a few records alone, of different kinds and users; a stored record leaves its partition."""
        shuffled = random.sample(partitions, len(partitions))
        first_of = {(each[0][0].interaction.kind, each[0][0].interaction.principal.user): each for each in shuffled}
        for partition in [*first_of.values(), *shuffled][:PROBES]:
            if partition and await self._keep_one(partition[0][0]) is None:
                del partition[0]

    async def _keep_in_order(self, partition: Partition) -> RecordNotAccepted | None:
        """Removes stored records from the partition, up to the first refused one: the others wait behind it."""
        while partition:
            if (error := await self._keep_one(partition[0][0])) is not None:
                return error
            del partition[0]
        return None

    # --- one call ----------------------------------------------------------------------------------------------------

    async def _keep_one(self, record: Record) -> RecordNotAccepted | None:
        """Returns None if the record is stored or in quarantine."""
        error = await self._keep([record])
        if isinstance(error, RecordRefused):
            return await self._keep_raw(record, error)
        return error if isinstance(error, RecordNotAccepted) else None

    async def _keep(self, batch: list[Record]) -> Exception | None:
        """Returns why not all of the batch is stored. Waits while the sink is down.

        If several records took long, it returns the error, so that the caller tries them apart.
        """
        while True:
            started = time.monotonic()
            try:
                await self._attempt(self._sink.keep(batch))
            except RecordRefused as error:
                return error
            except RecordNotAccepted as error:
                self._note_refusal()
                return error
            except Exception as error:  # noqa: BLE001 - no error is a reason to drop the records
                is_slow = time.monotonic() - started > SLOW_S
                await self._pause(error)
                if is_slow and len(batch) > 1:
                    return error
            else:
                self.kept += len(batch)
                return None

    async def _keep_raw(self, record: Record, refusal: RecordRefused) -> RecordNotAccepted | None:
        while True:
            try:
                await self._attempt(self._sink.keep_raw(record))
            except RecordRefused as error:
                if self._refuses_everything():
                    self._note_refusal()
                    return RecordNotAccepted(error.message, error.code)
                if await self._put_in_quarantine(record, error.message):
                    return None
            except RecordNotAccepted as error:
                self._note_refusal()
                return error
            except Exception as error:  # noqa: BLE001 - as above
                await self._pause(error)
            else:
                self.kept += 1
                log.error("record_refused", interaction_id=str(record.interaction.id), error=refusal.message)
                return None

    def _note_refusal(self) -> None:
        if self._refused_since is None:
            self._refused_since = time.monotonic()

    def _refuses_everything(self) -> bool:
        """Returns whether several records in a row went into quarantine and no other was stored."""
        if self._retries.kept_at >= self._quarantined_since:
            self._quarantined, self._quarantined_since = 0, time.monotonic()
        return self._quarantined == MAX_QUARANTINED

    async def _put_in_quarantine(self, record: Record, reason: str) -> bool:
        try:
            await in_thread(self._quarantine.put_record, record, reason, self._sink.name)
        except OSError as error:
            await self._pause(error)
            return False
        self._quarantined += 1
        return True

    async def _attempt(self, call: Coroutine[None, None, None]) -> None:
        await self._call.run(call)
        self._retries.kept_at = time.monotonic()
        if self._failures:
            log.info("sink_is_back", sink=self._sink.name, failures=self._failures)
            self._retries.wake()
        self._failures = 0
        self.fault = self.cause = None

    async def _pause(self, error: Exception) -> None:
        """Waits with exponential backoff; logs each cause once."""
        fault, cause = safe_text(error), error_cause(error)
        if cause != self.cause:
            event = "sink_accepts_nothing" if isinstance(error, RecordNotAccepted) else "sink_is_down"
            log.warning(event, sink=self._sink.name, cause=cause, error=fault, exc_info=unexpected_error(error))
        self.fault, self.cause = fault, cause
        longest = CLOSING_PAUSE_S if self._closing.is_set() else LONGEST_PAUSE_S
        pause = min(longest, FIRST_PAUSE_S * 2 ** min(self._failures, 10)) * random.uniform(0.5, 1.0)  # noqa: S311
        self._failures += 1
        await asyncio.sleep(pause)


def _records_of(partitions: list[Partition]) -> list[Record]:
    return [record for partition in partitions for record, _ in partition]


def _is_too_large(partitions: list[Partition]) -> bool:
    records = _records_of(partitions)
    return len(records) > BATCH_ROWS or sum(record.size for record in records) > BATCH_BYTES


def _queue_full(error: RecordNotAccepted | None) -> RecordNotAccepted:
    reason = "" if error is None else f": {error.message}"
    return RecordNotAccepted(f"no more records can wait apart{reason}", "retry_spool_full")
