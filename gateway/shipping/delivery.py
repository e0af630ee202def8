"""Brings batches of records to one sink: waits while it is away, and finds the records that it does not accept.

A record whose own data is refused goes in the plainest form, or into quarantine. Any other refusal says nothing about
the record: when all are refused, all wait; when the sink takes others meanwhile, those that are refused wait apart
(`Retries`), so that they hold up nobody.
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
from gateway.shipping.retries import bug_in, cause_of

if TYPE_CHECKING:
    from collections.abc import Coroutine, Sequence

    from gateway.model import Record
    from gateway.shipping.ordering import PartitionKey
    from gateway.shipping.quarantine import Quarantine
    from gateway.shipping.retries import Retries
    from gateway.shipping.sink import Sink

    Unit = list[tuple[Record, PartitionKey]]  # records of one conversation, in order

FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 5.0
CLOSING_PAUSE_S = 0.2
SLOW_S = 5.0  # a failed batch that took longer is tried in halves: perhaps it was only too large
PROBES = 8  # records that are tried alone when a batch is not accepted: is it all of them, or some?
MOST_HOPELESS = 3  # in a row, while the sink takes nothing else: more are no accident of their data

log = structlog.get_logger()


class Delivery:
    """One at a time."""

    def __init__(self, keeper: Sink, quarantine: Quarantine, closing: asyncio.Event, retries: Retries) -> None:
        self._keeper = keeper
        self._quarantine = quarantine
        self._closing = closing
        self._retries = retries
        self._failures = 0  # in a row
        self._refused_since: float | None = None  # of records that wait: the first refusal (monotonic)
        self._hopeless = 0
        self._hopeless_since = 0.0
        self.in_flight: asyncio.Task[None] | None = None
        self.kept = 0
        self.fault: str | None = None  # of the last attempt
        self.cause: str | None = None  # the same, short and stable

    async def deliver(self, records: Sequence[Record]) -> bool:
        """True: each of them is kept, waits apart, or is in quarantine. False, after a pause: deliver them again, with
        what has come meanwhile; by that it shows whether all are refused, or these.

        While the sink is away it takes as long as it takes. May be cancelled; then some may be kept, and all should be
        delivered again.
        """
        free, apart = await self._retries.split(records)
        refused, error = await self._keep_all(free)
        if error is not None and not self._takes_others:
            await self._pause(error)
            return False
        for record, place in apart + refused:
            if not await self._retries.add(record, place, error):
                await self._pause(_no_room(error or self._retries.error))
                return False
        self._refused_since = None
        return True

    @property
    def _takes_others(self) -> bool:
        """Whether the sink has taken anything since it refused the first of those that wait."""
        return self._refused_since is not None and self._retries.kept_at > self._refused_since

    async def _keep_all(self, records: list[Record]) -> tuple[Unit, RecordNotAccepted | None]:
        """Those that are not accepted, and why not."""
        rest = records
        while rest:
            # A batch, unless the window of those that were refused has grown.
            batch = rest if self._refused_since is None else next(batches(rest))
            error = await self._keep(batch)
            if error is not None:
                return await self._search(rest, error)
            rest = rest[len(batch) :]
        return [], None

    async def _search(self, records: list[Record], error: Exception) -> tuple[Unit, RecordNotAccepted | None]:
        """Find those that are refused by halving; in one conversation, by trying one after the other."""
        units = await self._units(records)
        refused: Unit = []
        found: RecordNotAccepted | None = None
        if isinstance(error, RecordNotAccepted):
            await self._probe(units)
            units = [unit for unit in units if unit]
            if not self._takes_others:
                return [pair for unit in units for pair in unit], error if units else None
        stack = [units]
        while stack:
            part = stack.pop()
            if len(part) == 1:
                failure = await self._one_by_one(part[0])
                refused += part[0]
                found = failure or found
                if failure is not None and failure.cause == RecordRefused.code and not self._takes_others:
                    return refused + [pair for part in stack for unit in part for pair in unit], found
            elif part and (_is_too_large(part) or await self._keep(_records_of(part)) is not None):
                half = len(part) // 2
                stack += (part[half:], part[:half])
        return refused, found

    async def _units(self, records: list[Record]) -> list[Unit]:
        units: dict[str, Unit] = {}
        for record in records:
            place = await self._retries.place(record)
            units.setdefault(place.lane, []).append((record, place))
        return list(units.values())

    async def _probe(self, units: list[Unit]) -> None:
        """Try a few of them alone, of different kinds and users; what is kept leaves its unit."""
        shuffled = random.sample(units, len(units))
        first_of = {(unit[0][0].interaction.kind, unit[0][0].interaction.principal.user): unit for unit in shuffled}
        for unit in [*first_of.values(), *shuffled][:PROBES]:
            if unit and await self._single(unit[0][0]) is None:
                del unit[0]

    async def _one_by_one(self, unit: Unit) -> RecordNotAccepted | None:
        """Take out of the unit what is kept, up to the first one that is not accepted: the others wait behind it."""
        while unit:
            if (error := await self._single(unit[0][0])) is not None:
                return error
            del unit[0]
        return None

    # --- one call ----------------------------------------------------------------------------------------------------

    async def _single(self, record: Record) -> RecordNotAccepted | None:
        """None: it is kept, or in quarantine."""
        error = await self._keep([record])
        if isinstance(error, RecordRefused):
            return await self._keep_raw(record, error)
        return error if isinstance(error, RecordNotAccepted) else None

    async def _keep(self, batch: list[Record]) -> Exception | None:
        """Why not all of them are kept. An absence is waited for; if several took long, they should be tried apart."""
        while True:
            started = time.monotonic()
            try:
                await self._attempt(self._keeper.keep(batch))
            except RecordRefused as error:
                return error
            except RecordNotAccepted as error:
                self._note_refusal()
                return error
            except Exception as error:  # noqa: BLE001 - whatever it is, the records must not be dropped for it
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
                await self._attempt(self._keeper.keep_raw(record))
            except RecordRefused as error:
                if self._is_no_accident():
                    self._note_refusal()
                    return RecordNotAccepted(error.message, error.code)
                if await self._set_aside(record, error.message):
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

    def _is_no_accident(self) -> bool:
        """Whether several in a row were set aside and nothing else was taken: then it is not their data."""
        if self._retries.kept_at >= self._hopeless_since:
            self._hopeless, self._hopeless_since = 0, time.monotonic()
        return self._hopeless == MOST_HOPELESS

    async def _set_aside(self, record: Record, reason: str) -> bool:
        try:
            await in_thread(self._quarantine.put_record, record, reason, self._keeper.name)
        except OSError as error:
            await self._pause(error)
            return False
        self._hopeless += 1
        return True

    async def _attempt(self, keeping: Coroutine[None, None, None]) -> None:
        """In a task of its own, so that cancelling us does not cancel an insert, whose outcome would be unknown."""
        self.in_flight = asyncio.ensure_future(keeping)
        await asyncio.wait({self.in_flight})
        task, self.in_flight = self.in_flight, None
        task.result()
        self._retries.kept_at = time.monotonic()
        if self._failures:
            log.info("keeper_is_back", keeper=self._keeper.name, failures=self._failures)
            self._retries.wake()
        self._failures = 0
        self.fault = self.cause = None

    async def _pause(self, error: Exception) -> None:
        fault, cause = safe_text(error), cause_of(error)
        if cause != self.cause:  # each cause is said once, not for every try
            event = "keeper_accepts_nothing" if isinstance(error, RecordNotAccepted) else "keeper_is_away"
            log.warning(event, keeper=self._keeper.name, cause=cause, error=fault, exc_info=bug_in(error))
        self.fault, self.cause = fault, cause
        longest = CLOSING_PAUSE_S if self._closing.is_set() else LONGEST_PAUSE_S
        pause = min(longest, FIRST_PAUSE_S * 2 ** min(self._failures, 10)) * random.uniform(0.5, 1.0)  # noqa: S311
        self._failures += 1
        try:
            async with asyncio.timeout(pause):
                await self._closing.wait()
                await asyncio.sleep(pause)
        except TimeoutError:
            pass


def _records_of(units: list[Unit]) -> list[Record]:
    return [record for unit in units for record, _ in unit]


def _is_too_large(units: list[Unit]) -> bool:
    records = _records_of(units)
    return len(records) > BATCH_ROWS or sum(record.size for record in records) > BATCH_BYTES


def _no_room(error: RecordNotAccepted | None) -> RecordNotAccepted:
    reason = "" if error is None else f": {error.message}"
    return RecordNotAccepted(f"no more records can wait apart{reason}", "retry_spool_full")
