"""Sends submissions to the monitor through a circuit breaker, and turns hopeless ones into dead letters."""

from __future__ import annotations

import asyncio
import math
import time
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Protocol

import structlog

from gateway.journal.disk import in_thread
from gateway.shipping.circuit_breaker import CircuitBreaker, CircuitOpen
from gateway.submissions.client import MonitorUnavailable, SubmissionRefused

if TYPE_CHECKING:
    from uuid import UUID

    from gateway.submissions.options import SubmissionsOptions
    from gateway.submissions.spool import DeadLetters, Submission

log = structlog.get_logger()


class Monitor(Protocol):
    """The security monitor, by HTTP or a fake."""

    async def submit(self, id: UUID, payload: bytes) -> None:
        """Returns when the monitor has taken it. Raises MonitorUnavailable, SubmissionRefused."""
        ...

    async def aclose(self) -> None: ...


class Sender:
    """Shared by new submissions and those of the spool."""

    def __init__(
        self, monitor: Monitor, dead_letters: DeadLetters, *, calls: int, give_up_s: float, options: SubmissionsOptions
    ) -> None:
        self._monitor = monitor
        self._dead_letters = dead_letters
        self._give_up_s = give_up_s
        self._options = options
        self.breaker = CircuitBreaker(calls, options.backoff)
        self.fault: str | None = None  # of the last call
        self.delivered = 0
        self.failed = 0  # calls

    async def send(self, submission: Submission, *, may_give_up: bool) -> Submission | None:
        """Makes one call as soon as the breaker admits it.

        Returns None if the monitor has taken the submission, else the submission with this failure. With `may_give_up`
        it also returns, without a call, when the time to give up comes first.
        """
        max_wait_s = partial(self._time_left_s, submission) if may_give_up else lambda: math.inf
        try:
            async with self.breaker.slot(max_wait_s) as started_at:
                failed, retry_after_s = await self.submit(submission)
                if (
                    failed is not None
                    and failed.refusals == submission.refusals
                    and self.breaker.record_failure(started_at, retry_after_s)
                ):
                    log.warning("monitor_is_away", reason=failed.reason)
                return failed
        except CircuitOpen:
            return replace(submission, reason=submission.reason or self.fault or "")

    async def submit(self, submission: Submission) -> tuple[Submission | None, float | None]:
        """Makes one call past the breaker. Returns as `send` does, with the pause that the monitor asks for, if any."""
        now = time.time()
        try:
            await self._monitor.submit(submission.id, submission.payload)
        except MonitorUnavailable as error:
            self._count_failure(error.reason)
            return submission.failed(error.reason, now), error.retry_after_s
        except SubmissionRefused as error:
            self._note_answer()
            self._count_failure(error.reason)
            return submission.failed(error.reason, now, is_refusal=True), None
        except Exception as error:  # no error is a reason to drop the submission
            log.exception("submission_failed", interaction_id=str(submission.id))
            self._count_failure(type(error).__name__)
            return submission.failed(type(error).__name__, now), None
        self._note_answer()
        self.delivered += 1
        return None, None

    def _count_failure(self, reason: str) -> None:
        self.fault = reason
        self.failed += 1

    def _note_answer(self) -> None:
        self.fault = None
        if self.breaker.record_success():
            log.info("monitor_is_back")

    # --- giving up ---------------------------------------------------------------------------------------------------

    def is_hopeless(self, submission: Submission) -> bool:
        return submission.refusals >= self._options.max_refusals or self._time_left_s(submission) <= 0

    def _time_left_s(self, submission: Submission) -> float:
        """Returns the seconds until the submission is given up.

        Its age decides, which a restart does not change; but it, or every call, must have failed here for a while.
        """
        now, down_since = time.time(), self.breaker.down_since
        since = now if submission.failing_since is None else submission.failing_since
        if down_since is not None:
            since = min(since, now - (time.monotonic() - down_since))
        grace_s = min(self._give_up_s, self._options.grace_s)
        return max(submission.finished_at + self._give_up_s, since + grace_s) - now

    async def give_up(self, submission: Submission) -> bool:
        """Makes a dead letter. Returns False after a pause if the disk refuses it."""
        try:
            await in_thread(self._dead_letters.put, submission)
        except OSError as error:
            log.error("dead_letter_not_written", interaction_id=str(submission.id), error=str(error))  # noqa: TRY400
            await asyncio.sleep(self._options.disk_pause_s)
            return False
        self._dead_letters.count += 1
        log.error("dead_letter", interaction_id=str(submission.id), reason=submission.reason, tries=submission.tries)
        return True
