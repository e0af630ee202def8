"""The submissions in the spool: one task per conversation sends them in order, until the monitor takes them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog

from gateway.journal.disk import in_thread
from gateway.polling import PeriodicTask
from gateway.shipping.retry_spool import RetrySpool
from gateway.submissions.spool import SPOOL, read_key, read_submission

if TYPE_CHECKING:
    from pathlib import Path

    from gateway.shipping.ordering import Ordering
    from gateway.submissions.options import SubmissionsOptions
    from gateway.submissions.sender import Sender
    from gateway.submissions.spool import DeadLetters, Submission

log = structlog.get_logger()


class SpoolRetry:
    """All processes that share the directory write to the spool; the one that holds its lock makes the retries."""

    def __init__(self, directory: Path, sender: Sender, dead_letters: DeadLetters, options: SubmissionsOptions) -> None:
        self._sender = sender
        self._dead_letters = dead_letters
        self._options = options
        self._spool = RetrySpool(
            directory / SPOOL, max_records=options.max_spooled, max_bytes=options.max_spooled_bytes
        )
        self._slots = asyncio.Semaphore(options.spool_calls)
        self._tasks: dict[str, asyncio.Task[None]] = {}  # by partition
        self._scan_task = PeriodicTask("scan spool", self._scan, options.scan_s, is_delayed=True)

    def __len__(self) -> int:
        return len(self._spool)

    def __contains__(self, partition: str) -> bool:
        return partition in self._spool

    async def start(self, ordering: Ordering) -> None:
        """Starts the retries of what an earlier process left; `ordering` gets the keys of its conversations."""
        try:
            await self._scan()
        except Exception:  # an unusable folder: new submissions are sent all the same
            log.exception("spool_scan_failed")
        for path in self._spool.paths:
            try:
                ordering.remember(await in_thread(read_key, path))
            except (OSError, ValueError, LookupError):
                log.warning("submission_unreadable", file=path.name)  # its retry makes it a dead letter
        self._scan_task.start()

    async def aclose(self) -> None:
        await self._scan_task.aclose()
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        self._spool.release()

    async def put(self, submission: Submission) -> bool:
        """Writes a submission to the spool. Returns False if there is no room or the disk refuses it."""
        if not self._spool.has_room:
            return False
        try:
            path = await in_thread(self._spool.write, submission.key.value, submission.id, submission.to_file())
        except OSError as error:
            log.warning("submission_not_spooled", interaction_id=str(submission.id), error=str(error))
            return False
        self._spool.add(path, len(submission.payload))
        self._start_tasks()
        return True

    async def _scan(self) -> None:
        await in_thread(self._dead_letters.update_count)
        self._spool.update(await in_thread(self._spool.scan))
        self._start_tasks()

    def _start_tasks(self) -> None:
        if not self._spool.claim():
            return
        for partition in self._spool.partitions:
            if partition not in self._tasks:
                self._tasks[partition] = asyncio.create_task(self._send_all(partition), name="retry of submissions")

    async def _send_all(self, partition: str) -> None:
        """Sends the submissions of one partition, oldest first."""
        try:
            while (path := self._spool.first(partition)) is not None:
                await self._send(path)
                self._spool.remove(path)
        except Exception:
            log.exception("submission_retry_failed")  # the next scan starts another task
        finally:
            del self._tasks[partition]

    async def _send(self, path: Path) -> None:
        """Returns when the submission is delivered or a dead letter."""
        try:
            submission = await in_thread(read_submission, path)
        except (ValueError, LookupError):
            await in_thread(self._dead_letters.put_damaged, path)
            self._dead_letters.count += 1
            log.error("submission_unreadable", file=path.name)  # noqa: TRY400 (the traceback adds nothing)
            return
        failures = 0
        while True:
            async with self._slots:
                failed, retry_after_s = await self._sender.submit(submission)
            if failed is None or (self._sender.is_hopeless(failed) and await self._sender.give_up(failed)):
                return
            submission = failed
            failures += 1
            pause_s = self._options.spool_backoff.pause_s(failures)
            await self._sender.breaker.pause(max(retry_after_s or 0.0, pause_s))
