"""Records that a sink does not accept though it accepts others: they wait on disk and are tried again by themselves.

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

from gateway.errors import RecordNotAccepted, RecordRefused, StoreUnavailable, safe_text
from gateway.journal.disk import in_thread
from gateway.shipping.circuit_breaker import Backoff
from gateway.shipping.ordering import Ordering, PartitionKey, record_fingerprints
from gateway.shipping.retry_spool import RetrySpool, decoded, encoded, frames_in

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path
    from uuid import UUID

    from gateway.model import Record
    from gateway.shipping.copies import Copies
    from gateway.shipping.quarantine import Quarantine
    from gateway.shipping.sink import Sink

LARGE_BYTES = 64 * 1024  # a record from this size on is read and written in a thread
MOST_FAILURES = 8  # of a round: then there is a pause
USER_LETTERS = 8  # of a lane's name, which stand for its user

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class RetryTuning:
    """What nobody has to set, but tests."""

    review_s: float = 5.0  # other processes of this journal write and remove files, too
    backoff: Backoff = field(default_factory=lambda: Backoff(first_s=1.0, longest_s=15.0))


class Retries:
    """Of one sink, in a folder that all processes of this journal share; the one that holds its lock tries again."""

    def __init__(
        self,
        sink: Sink,
        directory: Path,
        quarantine: Quarantine,
        tuning: RetryTuning,
        copies: Copies | None = None,
    ) -> None:
        """`copies` are for a sink that may be set back."""
        self._sink = sink
        self._copies = copies
        self._quarantine = quarantine
        self._tuning = tuning
        self._spool = RetrySpool(directory / f"retry-{sink.name}")
        self._lanes = Ordering()
        self._turn: str | None = None  # the lane that was tried last
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._logged = 0
        self.in_flight: asyncio.Task[None] | None = None
        self.kept_at = 0.0  # when the sink last took anything, by whatever way (monotonic)
        self.kept = 0
        self.error: RecordNotAccepted | None = None  # why those that wait were not accepted

    def __len__(self) -> int:
        return len(self._spool)

    # --- life --------------------------------------------------------------------------------------------------------

    async def look(self) -> None:
        """Take up what an earlier process has left; nothing is tried before `start`."""
        await self._review()
        for path in self._spool.paths:
            with suppress(OSError, ValueError, LookupError, TypeError):  # its turn comes, and then it is dealt with
                note = orjson.loads((await in_thread(path.read_bytes)).partition(b"\n")[0])
                self._lanes.remember(PartitionKey(note["lane"][USER_LETTERS:], tuple(note["marks"])))

    def start(self) -> None:
        if self._task is None:
            self._task = asyncio.create_task(self._try_for_ever(), name=f"retries of {self._sink.name}")

    async def aclose(self) -> None:
        """What is in flight goes on: see `in_flight`."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})

    def release(self) -> None:
        """Let another process try; nothing may be in flight any more."""
        self._spool.release()

    def waits_for(self, id: UUID) -> bool:
        """Whether a record is to be tried again, as far as is known."""
        return self._spool.holds(id)

    def wake(self) -> None:
        """The sink takes records again."""
        self._wake.set()

    # --- what goes in ------------------------------------------------------------------------------------------------

    async def split(self, records: Sequence[Record]) -> tuple[list[Record], list[tuple[Record, PartitionKey]]]:
        """Those that may go to the sink, and those whose conversation waits here. While nothing waits it costs
        nothing; while something does, only records of the same users are looked into."""
        if not self._spool:
            return list(records), []
        users = {lane[:USER_LETTERS] for lane in self._spool.lanes}
        free: list[Record] = []
        behind: list[tuple[Record, PartitionKey]] = []
        for record in records:
            place = await self.place(record) if _user(record) in users else None
            if place is not None and place.lane in self._spool:
                behind.append((record, place))
            else:
                free.append(record)
        return free, behind

    async def place(self, record: Record) -> PartitionKey:
        marks = (
            await in_thread(record_fingerprints, record) if record.size > LARGE_BYTES else record_fingerprints(record)
        )
        lane, own = self._lanes.place(record, marks)
        return PartitionKey(_user(record) + lane, own)

    async def add(self, record: Record, place: PartitionKey, error: RecordNotAccepted | None = None) -> bool:
        """Whether it lies safely on disk; if not, there is no room. No error: it waits behind another."""
        if self._spool.holds(record.interaction.id):  # the database was set back meanwhile, or its process died
            return True
        if not self._spool.has_room:
            return False
        try:
            path = await in_thread(
                self._spool.write,
                place.lane,
                record.interaction.id,
                encoded(record, lane=place.lane, marks=place.marks),
            )
        except OSError as error:
            log.warning("record_not_spooled", interaction_id=str(record.interaction.id), error=safe_text(error))
            return False
        self._spool.add(path, record.size)
        if error is not None:
            self._tell(record, error)
        return True

    def _tell(self, record: Record, error: RecordNotAccepted) -> None:
        """Log why records wait: each cause once, and their number now and then."""
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
                exc_info=bug_in(error),
            )

    # --- what comes out ----------------------------------------------------------------------------------------------

    async def _try_for_ever(self) -> None:
        failures = 0
        while True:
            pause = self._tuning.backoff.pause_s(failures) if failures else self._tuning.review_s
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._wake.wait()
            self._wake.clear()
            try:
                await self._review()
                if not self._spool:
                    failures = 0
                    self._is_empty()
                elif self._spool.claim():
                    failures = 0 if await self._round() else failures + 1
            except Exception:
                log.exception("retries_failed", sink=self._sink.name)

    async def _review(self) -> None:
        self._spool.review(await in_thread(self._spool.scan))

    def _is_empty(self) -> None:
        if self.error is not None:
            log.info("records_no_longer_wait", sink=self._sink.name)
            self.error, self._logged = None, 0

    async def _round(self) -> bool:
        """Try each lane's first ones until too many failed; whether any has left."""
        failures, has_left = 0, False
        for lane in self._in_turn():
            self._turn = lane
            while (path := self._spool.first(lane)) is not None:
                if not await self._try(path):
                    failures += 1
                    break
                self._spool.remove(path)
                has_left = True
            if failures == MOST_FAILURES:
                break
        if not self._spool:
            self._is_empty()
        return has_left

    def _in_turn(self) -> list[str]:
        """All lanes, beginning behind the last one that was tried: none is left out for ever."""
        lanes = self._spool.lanes
        after = lanes.index(self._turn) + 1 if self._turn in lanes else 0
        return lanes[after:] + lanes[:after]

    async def _try(self, path: Path) -> bool:
        """Whether it has arrived, or lies in quarantine."""
        try:
            record = await in_thread(decoded, path)
        except FileNotFoundError:
            return True
        except (ValueError, LookupError, TypeError) as error:
            reason = f"cannot be read: {safe_text(error)}"
            await in_thread(lambda: self._quarantine.put_frames(path.name, frames_in(path), reason))
            return True
        try:
            await self._attempt(record)
        except RecordNotAccepted as error:
            self._tell(record, error)
            return False
        except RecordRefused as error:
            await in_thread(self._quarantine.put_record, record, error.message, self._sink.name)
        except Exception as error:  # noqa: BLE001 - the sink is away, and whoever brings it new ones says so
            log.debug("retry_failed", sink=self._sink.name, error=safe_text(error))
            return False
        else:
            self.kept += 1
            self.kept_at = time.monotonic()
            if self._copies is not None:
                await in_thread(self._copies.take, path)
        return True

    async def _attempt(self, record: Record) -> None:
        """In a task of its own, so that cancelling us does not cancel an insert, whose outcome would be unknown."""
        self.in_flight = asyncio.ensure_future(keep_one(self._sink, record))
        await asyncio.wait({self.in_flight})
        task, self.in_flight = self.in_flight, None
        task.result()


async def keep_one(sink: Sink, record: Record) -> None:
    """Whole, or in the plainest form where its own data is refused. Raises what `keep_raw` raises."""
    try:
        await sink.keep([record])
    except RecordRefused:
        await sink.keep_raw(record)


def cause_of(error: Exception) -> str:
    """Of a fault, short and stable: a metric's label."""
    if isinstance(error, RecordNotAccepted):
        return error.cause
    return "away" if isinstance(error, StoreUnavailable | OSError) else type(error).__name__


def bug_in(error: Exception) -> BaseException | None:
    """What nobody foresaw, whose traceback is worth a log line: neither an absence nor a refusal of Postgres."""
    found = error.__cause__ if isinstance(error, RecordNotAccepted) else error
    is_known = isinstance(found, StoreUnavailable | OSError) or hasattr(found, "sqlstate")
    return None if is_known else found


def _user(record: Record) -> str:
    user = record.interaction.principal.user
    return sha256(user.encode("utf-8", "backslashreplace")).hexdigest()[:USER_LETTERS]
