"""Brings records back from quarantine: by a person's command, or by the gateway itself when it is another version."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from gateway.errors import RecordNotAccepted, RecordRefused, StoreUnavailable, safe_text
from gateway.journal.disk import in_thread
from gateway.shipping.retries import keep_one

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from gateway.shipping.copies import Copies
    from gateway.shipping.quarantine import Quarantine
    from gateway.shipping.sink import Sink

LOOK_S = 2.0
CHECK_S = 30.0

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Stays:
    """It cannot be brought back now. `is_final`: trying again with the same versions changes nothing."""

    reason: str
    is_final: bool


async def retry_quarantined(
    quarantine: Quarantine, sink: Sink, name: str, copies: Copies | None = None
) -> Stays | None:
    """None: its records are rows, and its files are gone; each is a row once, whoever else does the same.

    Raises FileNotFoundError when there is no such item, StoreUnavailable while the sink is away, OSError.
    """
    async with quarantine.lock():
        try:
            item = await in_thread(quarantine.item, name)
            records = await in_thread(item.records)
        except (ValueError, LookupError, TypeError) as error:
            return Stays(f"it cannot be read: {safe_text(error)}", is_final=True)
        if item.sink != sink.name:
            return Stays(f"it is for {item.sink}", is_final=True)
        try:
            for record in records:
                await keep_one(sink, record)
                if copies is not None:
                    await in_thread(copies.put, record)
        except RecordRefused as error:
            return Stays(error.message, is_final=True)
        except RecordNotAccepted as error:
            return Stays(error.message, is_final=False)
        await in_thread(quarantine.remove, name)
        return None


class QuarantineRetry:
    """A task of the gateway: keeps the count, and tries all of it again when the gateway's or the schema's version is
    another one than at the last try."""

    def __init__(
        self,
        quarantine: Quarantine,
        sink: Sink,
        versions: Callable[[], Awaitable[str]],
        copies: Copies | None = None,
    ) -> None:
        """`versions` raises StoreUnavailable."""
        self._quarantine = quarantine
        self._sink = sink
        self._copies = copies
        self._versions = versions

    async def run(self) -> None:
        """For ever; cancel it."""
        while True:
            try:
                await in_thread(self._quarantine.look)
                if self._quarantine.count:
                    await self._try_all()
            except StoreUnavailable:
                pass  # whoever ships says so
            except Exception:  # the task's outermost loop: the next round looks again
                log.exception("quarantine_not_tried")
            for _ in range(round(CHECK_S / LOOK_S)):
                await asyncio.sleep(LOOK_S)
                with suppress(OSError):  # no descriptor, perhaps: the count is as it was
                    await in_thread(self._quarantine.look)

    async def _try_all(self) -> None:
        versions = await self._versions()
        if await in_thread(lambda: self._quarantine.tried_with) == versions:
            return
        back, staying = 0, []
        for name in await in_thread(self._quarantine.names):
            try:
                stays = await retry_quarantined(self._quarantine, self._sink, name, self._copies)
            except FileNotFoundError:
                continue
            except OSError as error:
                stays = Stays(safe_text(error), is_final=False)
            if stays is None:
                back += 1
            else:
                staying.append(stays)
        await in_thread(self._quarantine.look)
        log.info("quarantine_tried_again", brought_back=back, staying=len(staying), versions=versions)
        if all(stays.is_final for stays in staying):
            await in_thread(setattr, self._quarantine, "tried_with", versions)
