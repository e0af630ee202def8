"""What is under way is looked at for all who watch at once, and a worker that hangs holds up nobody."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

from gateway.ids import Ids
from gateway.in_flight.snapshot import MOST_ROWS, InFlightSnapshot, rows_of
from gateway.model import Kind
from tests.journal.samples import interaction

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gateway.in_flight.in_flight import InFlight


def busy_with(count: int) -> InFlight:
    """A process that answers so many, which it knows in no order."""
    ids = Ids()
    asked = [interaction(b"{}", id=ids.new(), kind=tuple(Kind)[n % 4], path="/v1/x?key=secret") for n in range(count)]
    contexts = [SimpleNamespace(id=each.id, recording=SimpleNamespace(interaction=each)) for each in reversed(asked)]
    return cast("InFlight", SimpleNamespace(contexts=lambda: contexts))


async def settled(underway: InFlightSnapshot) -> list[dict[str, Any]]:
    underway.now()
    await asyncio.sleep(0.05)
    return underway.now()


def test_the_oldest_rows_are_kept_and_paths_have_no_query() -> None:
    rows = rows_of(busy_with(MOST_ROWS + 50))
    assert len(rows) == MOST_ROWS
    assert rows == sorted(rows, key=lambda one: str(one["id"]))
    assert {one["source"] for one in rows} == {"chat", "image", "api"}
    assert {one["path"] for one in rows} == {"/v1/x"}


async def test_rows_of_peers_are_merged_and_a_missing_peer_is_ignored() -> None:
    here, there = busy_with(3), rows_of(busy_with(2))

    async def ask() -> Iterable[Any]:
        return [there, None]

    underway = InFlightSnapshot(here, ask)
    assert underway.now() == []
    rows = await settled(underway)
    assert [one["id"] for one in rows] == sorted(one["id"] for one in (*rows_of(here), *there))
    await underway.aclose()


async def test_a_hanging_peer_delays_nobody_and_is_asked_once() -> None:
    asked = 0

    async def ask() -> Iterable[Any]:
        nonlocal asked
        asked += 1
        await asyncio.Event().wait()
        return []

    underway = InFlightSnapshot(busy_with(1), ask)
    for _ in range(3):
        assert await settled(underway) == []
    await asyncio.sleep(0.6)
    assert await settled(underway) == []
    assert asked == 1
    await underway.aclose()
