"""Snapshot of the interactions in flight on this host, in all its workers, for the live page.

It is refreshed twice a second for all readers together, and only while there are readers; a worker that hangs delays
nobody.
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
MOST_ROWS = 200  # the oldest ones, which are those that a reader looks for
_SOURCES = {Kind.CHAT: "chat", Kind.RESPONSE: "chat", Kind.IMAGE: "image", Kind.OTHER: "api"}


def rows_of(in_flight: InFlight) -> list[dict[str, Any]]:
    """The interactions in flight in this process, oldest first, at most MOST_ROWS."""
    return [_row(context) for context in sorted(in_flight.contexts(), key=lambda context: context.id)[:MOST_ROWS]]


def _row(context: RequestContext) -> dict[str, Any]:
    assert context.recording is not None
    interaction = context.recording.interaction
    return {
        "id": str(interaction.id),
        "source": _SOURCES[interaction.kind],
        "user_name": indexed_text(interaction.principal.user),
        "title": indexed_text(interaction.principal.title or ""),
        "model": indexed_text(interaction.model or ""),
        "path": storable_text(interaction.path.partition("?")[0]),
        "started_at": interaction.started_at,
    }


class InFlightSnapshot:
    """The newest rows of this process and its peers; `now` never waits."""

    def __init__(self, in_flight: InFlight, ask_peers: Callable[[], Awaitable[Iterable[Any]]]) -> None:
        self._in_flight = in_flight
        self._ask_peers = ask_peers
        self._rows: list[dict[str, Any]] = []
        self._refreshed_at = float("-inf")
        self._refreshing: asyncio.Task[None] | None = None

    def now(self) -> list[dict[str, Any]]:
        """The rows of at most a second ago, oldest first."""
        loop = asyncio.get_running_loop()
        is_due = loop.time() - self._refreshed_at >= EVERY_S
        if is_due and (self._refreshing is None or self._refreshing.done()):
            self._refreshed_at = loop.time()
            self._refreshing = loop.create_task(self._refresh(), name="in_flight_snapshot")
        return self._rows

    async def aclose(self) -> None:
        if self._refreshing is not None:
            self._refreshing.cancel()
            with suppress(asyncio.CancelledError):
                await self._refreshing

    async def _refresh(self) -> None:
        rows = rows_of(self._in_flight)
        for of_peer in await self._ask_peers():
            rows += of_peer or ()
        rows.sort(key=lambda row: str(row["id"]))
        self._rows = rows[:MOST_ROWS]
