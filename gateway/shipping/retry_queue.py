"""Records that a sink does not accept although it accepts others: they wait on disk, and the gateway retries them.

The journal's cursor moves on without them. Later records of the same conversation wait behind them, in order.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from dataclasses import dataclass, field
from hashlib import sha256
from typing import TYPE_CHECKING

import orjson
import structlog

from gateway.errors import RecordNotAccepted, RecordRefused, safe_text
from gateway.journal.disk import in_thread
from gateway.polling import wait_at_most
from gateway.shipping.circuit_breaker import Backoff
from gateway.shipping.ordering import Ordering, PartitionKey
from gateway.shipping.retry_spool import MAX_BYTES, MAX_RECORDS, RetrySpool, encode_record, read_frames, read_record
from gateway.shipping.sink import SinkCall, keep_record, unexpected_error

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path
    from uuid import UUID

    from gateway.model import Record
    from gateway.shipping.quarantine import Quarantine
    from gateway.shipping.shipped_records import ShippedRecords
    from gateway.shipping.sink import Sink

MAX_FAILURES = 8  # of one round; then there is a pause
USER_LETTERS = 8  # the first letters of a partition key: a digest of the user

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class RetryOptions:
    """Only tests set these."""

    scan_s: float = 5.0  # other processes of this journal write and remove files, too
    backoff: Backoff = field(default_factory=lambda: Backoff(first_s=1.0, longest_s=15.0))
    max_records: int = MAX_RECORDS
    max_bytes: int = MAX_BYTES


class RetryQueue:
    """The queue of one sink, in a folder that all processes of this journal share.

    The process that holds the folder's lock makes the retries.
    """

    def __init__(
        self,
        sink: Sink,
        directory: Path,
        quarantine: Quarantine,
        options: RetryOptions,
        shipped: ShippedRecords | None = None,
    ) -> None:
        """`shipped` takes copies of delivered records, for a sink that may be set back."""
        self._sink = sink
        self._shipped = shipped
        self._quarantine = quarantine
        self._options = options
        folder = directory / f"retry-{sink.name}"
        self._spool = RetrySpool(folder, max_records=options.max_records, max_bytes=options.max_bytes)
        self._ordering = Ordering()
        self._last_tried: str | None = None  # a partition
        self._woken = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._call = SinkCall()
        self._logged = 0
        self.kept_at = 0.0  # when the sink last took anything, from here or from a delivery (monotonic)
        self.kept = 0
        self.error: RecordNotAccepted | None = None  # why the waiting records were not accepted

    def __len__(self) -> int:
        return len(self._spool)

    @property
    def in_flight(self) -> asyncio.Task[None] | None:
        return self._call.in_flight

    # --- life --------------------------------------------------------------------------------------------------------

    async def load(self) -> None:
        """Indexes the files that an earlier process left. Retries begin with `start`."""
        await self._scan()
        for path in self._spool.paths:
            with suppress(OSError, ValueError, LookupError, TypeError):  # `_try` handles a damaged file
                metadata = orjson.loads((await in_thread(path.read_bytes)).partition(b"\n")[0])
                self._ordering.remember(PartitionKey(metadata["lane"][USER_LETTERS:], tuple(metadata["marks"])))

    def start(self) -> None:
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name=f"retries of {self._sink.name}")

    async def aclose(self) -> None:
        """Ends the task. A call in flight goes on: see `in_flight`."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})

    def release(self) -> None:
        """Lets another process make the retries. Nothing may be in flight any more."""
        self._spool.release()

    def has_record(self, id: UUID) -> bool:
        """Returns whether a record waits here, as far as the index shows."""
        return self._spool.has_record(id)

    def wake(self) -> None:
        """Makes the next round come now: the sink takes records again."""
        self._woken.set()

    # --- in ----------------------------------------------------------------------------------------------------------

    async def split(self, records: Sequence[Record]) -> tuple[list[Record], list[tuple[Record, PartitionKey]]]:
        """Returns the records that may go to the sink, and those whose conversation waits here.

        Costs nothing while the queue is empty; else only records of the same users are parsed.
        """
        if not self._spool:
            return list(records), []
        users = {partition[:USER_LETTERS] for partition in self._spool.partitions}
        free: list[Record] = []
        behind: list[tuple[Record, PartitionKey]] = []
        for record in records:
            key = await self.key_of(record) if _user(record) in users else None
            if key is not None and key.value in self._spool:
                behind.append((record, key))
            else:
                free.append(record)
        return free, behind

    async def key_of(self, record: Record) -> PartitionKey:
        """Returns the record's partition key, which begins with a digest of the user."""
        value, fingerprints = await self._ordering.key_of(record)
        return PartitionKey(_user(record) + value, fingerprints)

    async def add(self, record: Record, key: PartitionKey, error: RecordNotAccepted | None = None) -> bool:
        """Writes a record to disk; without an error it waits behind another. Returns False if there is no room."""
        if self._spool.has_record(record.interaction.id):  # the database was set back, or the process died
            return True
        if not self._spool.has_room:
            return False
        try:
            path = await in_thread(
                self._spool.write,
                key.value,
                record.interaction.id,
                encode_record(record, lane=key.value, marks=key.fingerprints),
            )
        except OSError as error:
            log.warning("record_not_spooled", interaction_id=str(record.interaction.id), error=safe_text(error))
            return False
        self._spool.add(path, record.size)
        if error is not None:
            self._log_refusal(record, error)
        return True

    def _log_refusal(self, record: Record, error: RecordNotAccepted) -> None:
        """Logs why records wait: once for each cause, and again when their number has doubled."""
        is_new = self.error is None or self.error.cause != error.cause
        self.error = error
        count = len(self._spool)
        if is_new or count >= 2 * self._logged:
            self._logged = count
            log.warning(
                "record_waits_apart",
                sink=self._sink.name,
                interaction_id=str(record.interaction.id),
                cause=error.cause,
                error=error.message,
                waiting=count,
                exc_info=unexpected_error(error),
            )

    # --- out ---------------------------------------------------------------------------------------------------------

    async def _run(self) -> None:
        failures = 0
        while True:
            pause = self._options.backoff.pause_s(failures) if failures else self._options.scan_s
            await wait_at_most(pause, self._woken)
            self._woken.clear()
            try:
                await self._scan()
                if not self._spool:
                    failures = 0
                    self._note_empty()
                elif self._spool.claim():
                    failures = 0 if await self._round() else failures + 1
            except Exception:  # the task's outermost loop: the next round may succeed
                log.exception("retries_failed", sink=self._sink.name)

    async def _scan(self) -> None:
        self._spool.update(await in_thread(self._spool.scan))

    def _note_empty(self) -> None:
        if self.error is not None:
            log.info("records_no_longer_wait", sink=self._sink.name)
            self.error, self._logged = None, 0

    async def _round(self) -> bool:
        """Tries the oldest records of each partition until too many fail. Returns whether any record left."""
        failures, has_left = 0, False
        for partition in self._partitions_by_turn():
            self._last_tried = partition
            while (path := self._spool.first(partition)) is not None:
                if not await self._try(path):
                    failures += 1
                    break
                self._spool.remove(path)
                has_left = True
            if failures == MAX_FAILURES:
                break
        if not self._spool:
            self._note_empty()
        return has_left

    def _partitions_by_turn(self) -> list[str]:
        """Returns all partitions, from the one after the last tried: each gets its turn."""
        partitions = self._spool.partitions
        after = partitions.index(self._last_tried) + 1 if self._last_tried in partitions else 0
        return partitions[after:] + partitions[:after]

    async def _try(self, path: Path) -> bool:
        """Returns whether the record is delivered or in quarantine."""
        try:
            record = await in_thread(read_record, path)
        except FileNotFoundError:
            return True
        except (ValueError, LookupError, TypeError) as error:
            reason = f"cannot be read: {safe_text(error)}"
            await in_thread(lambda: self._quarantine.put_frames(path.name, read_frames(path), reason))
            return True
        try:
            await self._call.run(keep_record(self._sink, record))
        except RecordNotAccepted as error:
            self._log_refusal(record, error)
            return False
        except RecordRefused as error:
            await in_thread(self._quarantine.put_record, record, error.message, self._sink.name)
        except Exception as error:  # noqa: BLE001 - the sink is down; the delivery of new records logs that
            log.debug("retry_failed", sink=self._sink.name, error=safe_text(error))
            return False
        else:
            self.kept += 1
            self.kept_at = time.monotonic()
            if self._shipped is not None:
                await in_thread(self._shipped.move, path)
        return True


def _user(record: Record) -> str:
    user = record.interaction.principal.user
    return sha256(user.encode("utf-8", "backslashreplace")).hexdigest()[:USER_LETTERS]
