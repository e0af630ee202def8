"""What is being answered at this moment, by all workers of this host: for those who watch.

It is looked at twice a second for all of them, and only while somebody watches; a worker that hangs holds up nobody.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from gateway.model import Kind
from gateway.store.rows import indexed_text, storable_text

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from gateway.exchange.context import RequestContext
    from gateway.in_flight.in_flight import InFlight

EVERY_S = 0.5
MOST_TOLD = 200  # the oldest: those are what one looks for
_SOURCES = {Kind.CHAT: "chat", Kind.RESPONSE: "chat", Kind.IMAGE: "image", Kind.OTHER: "api"}


def told_of(live: InFlight) -> list[dict[str, Any]]:
    """What this process is answering, the oldest first, and not more than are shown."""
    return [_told(context) for context in sorted(live.contexts(), key=lambda context: context.id)[:MOST_TOLD]]


def _told(context: RequestContext) -> dict[str, Any]:
    assert context.recording is not None
    asked = context.recording.interaction
    return {
        "id": str(asked.id),
        "source": _SOURCES[asked.kind],
        "user_name": indexed_text(asked.principal.user),
        "title": indexed_text(asked.principal.title or ""),
        "model": indexed_text(asked.model or ""),
        "path": storable_text(asked.path.partition("?")[0]),
        "started_at": asked.started_at,
    }


class InFlightSnapshot:
    """The newest known state; `now` never waits."""

    def __init__(self, live: InFlight, ask_others: Callable[[], Awaitable[Iterable[Any]]]) -> None:
        self._live = live
        self._ask_others = ask_others
        self._known: list[dict[str, Any]] = []
        self._looked_at = float("-inf")
        self._looking: asyncio.Task[None] | None = None

    def now(self) -> list[dict[str, Any]]:
        """As it was a second ago at most, the oldest first."""
        loop = asyncio.get_running_loop()
        is_due = loop.time() - self._looked_at >= EVERY_S
        if is_due and (self._looking is None or self._looking.done()):
            self._looked_at = loop.time()
            self._looking = loop.create_task(self._look(), name="underway")
        return self._known

    async def aclose(self) -> None:
        if self._looking is not None:
            self._looking.cancel()
            with suppress(asyncio.CancelledError):
                await self._looking

    async def _look(self) -> None:
        told = told_of(self._live)
        for others in await self._ask_others():
            told += others or ()
        told.sort(key=lambda one: str(one["id"]))
        self._known = told[:MOST_TOLD]
