"""Forwards every interaction to the company's security monitor: at least once, none skipped, in order per conversation.

A keeper as the store is one, with its own cursor in the journal, so that nothing is lost that the monitor has not got;
a caller's request knows nothing of it. Conversations go side by side, each in its lane. A monitor that is away is
waited for, and the journal is the buffer. A conversation that alone does not get through must not hold up the others
(nor keep the journal from letting go of what they said): it waits in files of its own, in order.
"""

from __future__ import annotations

import asyncio
import math
import time
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Protocol

import structlog

from gateway.errors import StoreUnavailable
from gateway.journal.disk import in_thread
from gateway.shipping.circuit_breaker import Backoff, CircuitBreaker, PatienceOver
from gateway.shipping.ordering import Ordering, PartitionKey, record_fingerprints
from gateway.shipping.retry_spool import RetrySpool
from gateway.submissions.client import MonitorAway, SubmissionRefused
from gateway.submissions.payload import payload_of
from gateway.submissions.spool import WAITING, DeadLetters, SpooledSubmission, read_place, read_spooled

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path
    from uuid import UUID

    from gateway.model import Record

LARGE_BYTES = 64 * 1024  # a record from this size on is read and written in a thread
SLICE = 16  # records that are looked at in one go; then the event loop has a turn
DISK_PAUSE_S = 1.0

log = structlog.get_logger()


class Receiver(Protocol):
    async def submit(self, id: UUID, payload: bytes) -> None:
        """Return when it was taken. Raises MonitorAway, SubmissionRefused."""
        ...

    async def aclose(self) -> None: ...


@dataclass(frozen=True, slots=True)
class SubmissionsOptions:
    """What nobody has to set, but tests."""

    backoff: Backoff = field(default_factory=Backoff)
    later: Backoff = field(default_factory=lambda: Backoff(first_s=5.0, longest_s=300.0))  # for what was set aside
    later_calls: int = 2
    patience_s: float = 10.0  # of failing, until a lane is set aside, to let others through
    most_refusals: int = 3
    grace_s: float = 900.0  # nothing is given up before it has failed for so long here, however old it is
    review_s: float = 5.0


@dataclass(frozen=True, slots=True)
class SubmissionsState:
    """For readiness and metrics."""

    monitor: str  # ok, away, or idle: nothing was sent yet
    fault: str | None  # why the last call failed, if it did
    away_s: float
    delivered: int
    failed: int  # attempts
    waiting: int  # set aside, and tried again and again
    dead_letters: int  # given up, for people to look at


class Submissions:
    """The monitor's keeper."""

    name = "submissions"

    def __init__(
        self,
        monitor: Receiver,
        directory: Path,
        *,
        calls: int,
        give_up_s: float,
        tuning: SubmissionsOptions = SubmissionsOptions(),
    ) -> None:
        self._monitor = monitor
        self._give_up_s = give_up_s
        self._tuning = tuning
        self._pace = CircuitBreaker(calls, tuning.backoff)
        self._later_slots = asyncio.Semaphore(tuning.later_calls)
        self._lanes = Ordering()
        self._tails: dict[str, asyncio.Task[None]] = {}  # the last one in each lane
        self._sending: set[asyncio.Task[None]] = set()
        self._waiting = RetrySpool(directory / WAITING)
        self._visits: dict[str, asyncio.Task[None]] = {}  # to those who wait, by lane
        self._dead = DeadLetters(directory)
        self._reviewing: asyncio.Task[None] | None = None
        self._is_closing = False
        self._fault: str | None = None
        self._delivered = 0
        self._failed = 0

    # --- life --------------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Take up what an earlier process has set aside."""
        await self._review()
        for path in self._waiting.paths:
            try:
                self._lanes.remember(await in_thread(read_place, path))
            except (OSError, ValueError, LookupError):
                log.warning("submission_unreadable", file=path.name)  # and dealt with when its turn comes
        self._reviewing = asyncio.create_task(self._review_for_ever(), name="submissions set aside")

    async def aclose(self) -> None:
        self.abandon()
        tasks = {*self._sending, *self._visits.values()} | ({self._reviewing} if self._reviewing else set())
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        self._waiting.release()
        await self._monitor.aclose()

    def state(self) -> SubmissionsState:
        away_since, is_idle = self._pace.away_since, self._fault is None and self._pace.taken_at is None
        return SubmissionsState(
            monitor="away" if away_since is not None else "idle" if is_idle else "ok",
            fault=self._fault,
            away_s=0.0 if away_since is None else time.monotonic() - away_since,
            delivered=self._delivered,
            failed=self._failed,
            waiting=len(self._waiting),
            dead_letters=self._dead.count,
        )

    # --- the keeper's part -------------------------------------------------------------------------------------------

    async def keep(self, records: Sequence[Record]) -> None:
        """Return when each of them has arrived, or lies safely elsewhere. Raises StoreUnavailable only at the end."""
        lanes: dict[str, list[tuple[Record, PartitionKey]]] = {}
        for count, record in enumerate(records, 1):
            marks = (
                await in_thread(record_fingerprints, record)
                if record.size > LARGE_BYTES
                else record_fingerprints(record)
            )
            place = self._lanes.place(record, marks)
            lanes.setdefault(place.lane, []).append((record, place))
            if count % SLICE == 0:
                await asyncio.sleep(0)
        if self._is_closing:
            raise StoreUnavailable("the gateway is stopping")
        sending = [self._send_all(lane, records_of_it) for lane, records_of_it in lanes.items()]
        if sending:
            await asyncio.wait(sending)
        if any(task.cancelled() for task in sending):
            raise StoreUnavailable("the gateway is stopping")
        for task in sending:
            task.result()

    async def keep_raw(self, record: Record) -> None:
        await self.keep([record])

    def abandon(self) -> None:
        self._is_closing = True
        for task in self._sending:
            task.cancel()

    def _send_all(self, lane: str, records: Sequence[tuple[Record, PartitionKey]]) -> asyncio.Task[None]:
        """Behind those that are under way in the same lane: what the dead have left may come beside what is new."""
        task = asyncio.create_task(self._send_in_order(self._tails.get(lane), records))
        self._tails[lane] = task
        self._sending.add(task)

        def forget(task: asyncio.Task[None]) -> None:
            self._sending.discard(task)
            if self._tails.get(lane) is task:
                del self._tails[lane]

        task.add_done_callback(forget)
        return task

    async def _send_in_order(
        self, before: asyncio.Task[None] | None, records: Sequence[tuple[Record, PartitionKey]]
    ) -> None:
        if before is not None:
            await asyncio.wait({before})
        for record, place in records:
            await self._send(await _letter_of(record, place))

    async def _send(self, letter: SpooledSubmission) -> None:
        """Return when it has arrived, is set aside, or is a dead letter.

        It steps aside when it has failed again and again, for perhaps the monitor only dislikes this one. While the
        monitor is away that happens to few, because few are tried.
        """
        failed_at: float | None = None
        may_give_up = True
        while True:
            if letter.place.lane in self._waiting:
                if await self._set_aside(letter):
                    return
                await asyncio.sleep(DISK_PAUSE_S)
                continue
            failed = await self._call(letter, may_give_up=may_give_up)
            if failed is None:
                return
            may_give_up = not self._is_hopeless(failed)
            if not may_give_up and await self._bury(failed):
                return
            letter = failed
            failed_at = failed_at or time.monotonic()
            has_failed_for_s = time.monotonic() - failed_at
            if has_failed_for_s >= self._tuning.patience_s and await self._set_aside(letter):
                log.warning("submission_set_aside", interaction_id=str(letter.id), reason=letter.reason)
                return
            if not self._pace.is_down:
                await self._pace.rest(self._tuning.backoff.pause_s(letter.tries))

    async def _call(self, letter: SpooledSubmission, *, may_give_up: bool) -> SpooledSubmission | None:
        """None when it has arrived, else the letter with what is new about it."""
        try:
            async with self._pace.turn(partial(self._patience_s, letter) if may_give_up else lambda: math.inf) as began:
                failed, retry_after_s = await self._submit(letter)
                if (
                    failed is not None
                    and failed.refusals == letter.refusals
                    and self._pace.failed(began, retry_after_s)
                ):
                    log.warning("monitor_is_away", reason=failed.reason)
                return failed
        except PatienceOver:
            return replace(letter, reason=letter.reason or self._fault or "")

    async def _submit(self, letter: SpooledSubmission) -> tuple[SpooledSubmission | None, float | None]:
        """As `_call`; with the pause that the monitor asks for, if it does."""
        now = time.time()
        try:
            await self._monitor.submit(letter.id, letter.payload)
        except MonitorAway as error:
            self._failed_for(error.reason)
            return letter.failed(error.reason, now), error.retry_after_s
        except SubmissionRefused as error:
            self._answered()
            self._failed_for(error.reason)
            return letter.failed(error.reason, now, is_refusal=True), None
        except Exception as error:  # whatever it is, the submission must not be dropped for it
            log.exception("submission_failed", interaction_id=str(letter.id))
            self._failed_for(type(error).__name__)
            return letter.failed(type(error).__name__, now), None
        self._answered()
        self._delivered += 1
        return None, None

    def _failed_for(self, reason: str) -> None:
        self._fault = reason
        self._failed += 1

    def _answered(self) -> None:
        self._fault = None
        if self._pace.succeeded():
            log.info("monitor_is_back")

    # --- giving up ---------------------------------------------------------------------------------------------------

    def _is_hopeless(self, letter: SpooledSubmission) -> bool:
        return letter.refusals >= self._tuning.most_refusals or self._patience_s(letter) <= 0

    def _patience_s(self, letter: SpooledSubmission) -> float:
        """Seconds until it is given up: by its age, which a restart does not change; but not before it, or everything,
        has failed here for a while."""
        now, away_since = time.time(), self._pace.away_since
        since = now if letter.failing_since is None else letter.failing_since
        if away_since is not None:
            since = min(since, now - (time.monotonic() - away_since))
        return max(letter.finished_at + self._give_up_s, since + min(self._give_up_s, self._tuning.grace_s)) - now

    async def _bury(self, letter: SpooledSubmission) -> bool:
        try:
            await in_thread(self._dead.put, letter)
        except OSError as error:
            log.error("dead_letter_not_written", interaction_id=str(letter.id), error=str(error))  # noqa: TRY400
            await asyncio.sleep(DISK_PAUSE_S)
            return False
        self._dead.count += 1
        log.error("dead_letter", interaction_id=str(letter.id), reason=letter.reason, tries=letter.tries)
        return True

    # --- those set aside ---------------------------------------------------------------------------------------------

    async def _set_aside(self, letter: SpooledSubmission) -> bool:
        if not self._waiting.has_room:
            return False
        try:
            data = letter.note() + b"\n" + letter.payload
            path = await in_thread(self._waiting.write, letter.place.lane, letter.id, data)
        except OSError as error:
            log.warning("submission_not_set_aside", interaction_id=str(letter.id), error=str(error))
            return False
        self._waiting.add(path, len(letter.payload))
        self._visit_all()
        return True

    async def _review_for_ever(self) -> None:
        while True:
            await asyncio.sleep(self._tuning.review_s)
            await self._review()

    async def _review(self) -> None:
        try:
            await in_thread(self._dead.look)  # people take them away, and other processes add theirs
            self._waiting.review(await in_thread(self._waiting.scan))
            self._visit_all()
        except Exception:
            log.exception("submissions_review_failed")  # a bad folder; what is said still goes out, or waits

    def _visit_all(self) -> None:
        if not self._waiting.claim():
            return
        for lane in self._waiting.lanes:
            if lane not in self._visits:
                self._visits[lane] = asyncio.create_task(self._visit(lane), name="submissions of a lane set aside")

    async def _visit(self, lane: str) -> None:
        """Bring out the letters of this lane, one after the other."""
        try:
            while (path := self._waiting.first(lane)) is not None:
                await self._carry_out(path)
                self._waiting.remove(path)
        except Exception:
            log.exception("submissions_visit_failed")  # the next review begins anew
        finally:
            del self._visits[lane]

    async def _carry_out(self, path: Path) -> None:
        try:
            letter = await in_thread(read_spooled, path)
        except (ValueError, LookupError):
            await in_thread(self._dead.put_unreadable, path)
            self._dead.count += 1
            log.error("submission_unreadable", file=path.name)  # noqa: TRY400 (the trace tells nothing)
            return
        failures = 0
        while True:
            async with self._later_slots:
                failed, wish_s = await self._submit(letter)
            if failed is None or (self._is_hopeless(failed) and await self._bury(failed)):
                return
            letter = failed
            failures += 1
            await self._pace.rest(max(wish_s or 0.0, self._tuning.later.pause_s(failures)))


async def _letter_of(record: Record, place: PartitionKey) -> SpooledSubmission:
    payload = await in_thread(payload_of, record) if record.size > LARGE_BYTES else payload_of(record)
    return SpooledSubmission(record.interaction.id, place, record.answer.finished_at, payload)
