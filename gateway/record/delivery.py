"""Brings batches of records to one keeper: waits while it is away, and finds the one record that it refuses."""

from __future__ import annotations

import asyncio
import random
import time
from typing import TYPE_CHECKING

import structlog

from gateway.errors import RecordRefused, StoreUnavailable
from gateway.record.disk import in_thread

if TYPE_CHECKING:
    from collections.abc import Coroutine, Sequence

    from gateway.model import Record
    from gateway.record.keeper import Keeper
    from gateway.record.quarantine import Quarantine

FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 5.0
CLOSING_PAUSE_S = 0.2
SLOW_S = 5.0  # a failed batch that took longer is tried in halves: perhaps it was only too large

log = structlog.get_logger()


class Delivery:
    """One at a time: `deliver` returns when every record is kept, or set aside in quarantine."""

    def __init__(self, keeper: Keeper, quarantine: Quarantine, closing: asyncio.Event) -> None:
        self._keeper = keeper
        self._quarantine = quarantine
        self._closing = closing
        self._failures = 0  # in a row
        self.in_flight: asyncio.Task[None] | None = None
        self.kept = 0
        self.fault: str | None = None  # of the last attempt

    async def deliver(self, records: Sequence[Record]) -> None:
        """Takes as long as it takes. May be cancelled; then some may be kept, and all should be delivered again."""
        stack = [list(records)]
        while stack:
            batch = stack.pop()
            halves = [part for part in (batch[len(batch) // 2 :], batch[: len(batch) // 2]) if part]
            started = time.monotonic()
            try:
                await self._attempt(self._keeper.keep(batch))
                self.kept += len(batch)
            except RecordRefused as error:
                if len(batch) == 1:
                    await self._deliver_raw(batch[0], error)
                else:
                    stack += halves
            except Exception as error:  # noqa: BLE001 - whatever it is, the records must not be dropped for it
                stack += halves if time.monotonic() - started > SLOW_S else [batch]
                await self._pause(error)

    async def _deliver_raw(self, record: Record, refusal: RecordRefused) -> None:
        log.error("record_refused", interaction_id=str(record.interaction.id), error=refusal.message)
        while True:
            try:
                await self._attempt(self._keeper.keep_raw(record))
            except RecordRefused as error:
                if await self._set_aside(record, error.message):
                    return
            except Exception as error:  # noqa: BLE001 - as above
                await self._pause(error)
            else:
                self.kept += 1
                return

    async def _set_aside(self, record: Record, reason: str) -> bool:
        try:
            await in_thread(self._quarantine.put_record, record, reason)
        except OSError as error:
            await self._pause(error)
            return False
        return True

    async def _attempt(self, keeping: Coroutine[None, None, None]) -> None:
        """In a task of its own, so that cancelling us does not cancel an insert, whose outcome would be unknown."""
        self.in_flight = asyncio.ensure_future(keeping)
        await asyncio.wait({self.in_flight})
        task, self.in_flight = self.in_flight, None
        task.result()
        if self._failures:
            log.info("keeper_is_back", keeper=self._keeper.name, failures=self._failures)
        self._failures = 0
        self.fault = None

    async def _pause(self, error: Exception) -> None:
        self.fault = str(error) or repr(error)
        is_ours = not isinstance(error, StoreUnavailable | OSError)
        if self._failures == 0 or is_ours:
            log.warning(
                "keeper_is_away", keeper=self._keeper.name, error=self.fault, exc_info=error if is_ours else None
            )
        longest = CLOSING_PAUSE_S if self._closing.is_set() else LONGEST_PAUSE_S
        pause = min(longest, FIRST_PAUSE_S * 2 ** min(self._failures, 10)) * random.uniform(0.5, 1.0)  # noqa: S311
        self._failures += 1
        try:
            async with asyncio.timeout(pause):
                await self._closing.wait()
                await asyncio.sleep(pause)
        except TimeoutError:
            pass
