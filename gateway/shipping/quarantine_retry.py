"""Retries records of the quarantine: at a person's command, or by the gateway itself after a change of version."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from gateway.errors import RecordNotAccepted, RecordRefused, safe_text
from gateway.journal.disk import in_thread
from gateway.polling import PeriodicTask
from gateway.shipping.sink import keep_record

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from gateway.shipping.quarantine import Quarantine
    from gateway.shipping.shipped_records import ShippedRecords
    from gateway.shipping.sink import Sink

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class RetryFailure:
    """Why an item stays in quarantine. `is_final`: a retry with the same versions changes nothing."""

    reason: str
    is_final: bool


@dataclass(frozen=True, slots=True)
class QuarantineOptions:
    """Only tests set these."""

    count_s: float = 2.0
    versions_s: float = 30.0


async def retry_quarantined(
    quarantine: Quarantine, sink: Sink, name: str, shipped: ShippedRecords | None = None
) -> RetryFailure | None:
    """Stores the records of an item and removes its files; each becomes one row, however many do this at once.

    Returns None if this is done. Raises FileNotFoundError if there is no such item, StoreUnavailable while the sink is
    down, OSError.
    """
    async with quarantine.lock():
        try:
            item = await in_thread(quarantine.item, name)
            records = await in_thread(item.records)
        except (ValueError, LookupError, TypeError) as error:
            return RetryFailure(f"it cannot be read: {safe_text(error)}", is_final=True)
        if item.sink != sink.name:
            return RetryFailure(f"it is for {item.sink}", is_final=True)
        try:
            for record in records:
                await keep_record(sink, record)
                if shipped is not None:
                    await in_thread(shipped.add, record)
        except RecordRefused as error:
            return RetryFailure(error.message, is_final=True)
        except RecordNotAccepted as error:
            return RetryFailure(error.message, is_final=False)
        await in_thread(quarantine.remove, name)
        return None


class QuarantineRetry:
    """A task that keeps the count of items, and retries all of them when the gateway's or the schema's version is not
    that of the last retry."""

    def __init__(
        self,
        quarantine: Quarantine,
        sink: Sink,
        versions: Callable[[], Awaitable[str]],
        shipped: ShippedRecords | None = None,
        options: QuarantineOptions = QuarantineOptions(),
    ) -> None:
        """`versions` raises StoreUnavailable."""
        self._quarantine = quarantine
        self._sink = sink
        self._shipped = shipped
        self._versions = versions
        self._versions_s = options.versions_s
        self._check_at = 0.0
        self._task = PeriodicTask("retry quarantine", self.check, options.count_s)

    def start(self) -> None:
        self._task.start()

    async def aclose(self) -> None:
        await self._task.aclose()

    async def check(self) -> None:
        """Updates the count; now and then compares the versions. Raises StoreUnavailable."""
        with suppress(OSError):  # no free descriptor, for example: the count stays as it was
            await in_thread(self._quarantine.update_count)
        if time.monotonic() >= self._check_at:
            self._check_at = time.monotonic() + self._versions_s
            if self._quarantine.count:
                await self._retry_all()

    async def _retry_all(self) -> None:
        versions = await self._versions()
        if await in_thread(lambda: self._quarantine.tried_with) == versions:
            return
        restored = 0
        failures: list[RetryFailure] = []
        for name in await in_thread(self._quarantine.names):
            try:
                failure = await retry_quarantined(self._quarantine, self._sink, name, self._shipped)
            except FileNotFoundError:
                continue
            except OSError as error:
                failure = RetryFailure(safe_text(error), is_final=False)
            if failure is None:
                restored += 1
            else:
                failures.append(failure)
        await in_thread(self._quarantine.update_count)
        log.info("quarantine_tried_again", restored=restored, remaining=len(failures), versions=versions)
        if all(failure.is_final for failure in failures):
            await in_thread(setattr, self._quarantine, "tried_with", versions)
