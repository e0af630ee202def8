"""Those who watch get what has come since they looked, however quick they are, and nobody is asked for nobody."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from gateway.errors import StoreUnavailable, TooManyReaders
from gateway.in_flight.live_tail import MOST_OF_USER, MOST_READERS, LiveTail
from gateway.model import Principal, Role
from gateway.store.change_feed import Change, ChangeFeed, End
from tests.store.samples import chat, store, user

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from gateway.store.interactions import Interactions

EVE, ANN = (Principal(name, roles=frozenset((Role.AUDITOR,))) for name in ("eve", "ann"))


@asynccontextmanager
async def hub(dsn: str, *, most_kept: int = 100, batch: int = 10) -> AsyncIterator[tuple[LiveTail, Interactions]]:
    async with store(dsn) as (db, interactions):
        tail = LiveTail(ChangeFeed(db), every_s=0.02, batch=batch, most_kept=most_kept)
        yield tail, interactions
        await tail.aclose()


async def read(tail: LiveTail, position: int, wanted: int) -> list[int]:
    """The positions of so many, as one gets them who asks again and again."""
    seen: list[int] = []
    async with asyncio.timeout(20):
        while len(seen) < wanted:
            fresh, position = await tail.after(EVE, position, 0.05)
            seen += [each.position for each in fresh]
    again, _ = await tail.after(EVE, position, 0.1)
    assert again == ()
    return seen


@pytest.mark.parametrize("most_kept", [5, 10, 1000])
async def test_a_slow_reader_gets_each_change_once(database: str, most_kept: int) -> None:
    """Also when more has come than is kept for all: then Postgres is asked."""
    async with hub(database, most_kept=most_kept) as (tail, interactions):
        with tail.reading(EVE):
            position, has_missed = await tail.begin(None)
            assert (position, has_missed) == (0, False)
            await asyncio.sleep(0.1)
            await interactions.keep([chat(user(str(n))) for n in range(64)])
            await asyncio.sleep(0.3)
            assert await read(tail, position, 64) == list(range(1, 65))


async def test_a_waiting_reader_gets_new_changes(database: str) -> None:
    async with hub(database) as (tail, interactions):
        with tail.reading(EVE):
            reading = asyncio.create_task(read(tail, 0, 3))
            for text in "abc":
                await asyncio.sleep(0.05)
                await interactions.keep([chat(user(text))])
            assert await reading == [1, 2, 3]


async def test_a_reader_that_returns_after_all_left_continues(database: str) -> None:
    async with hub(database) as (tail, interactions):
        with tail.reading(EVE):
            await interactions.keep([chat(user("a"))])
            assert await read(tail, 0, 1) == [1]
        async with asyncio.timeout(5):
            while tail.position is not None:
                await asyncio.sleep(0.01)
        await interactions.keep([chat(user(text)) for text in "bc"])
        with tail.reading(EVE):
            assert await tail.begin(1) == (1, False)
            assert await read(tail, 1, 2) == [2, 3]


class Unwell:
    """A database that is away, and then is not."""

    def __init__(self) -> None:
        self.is_down = False
        self.asked = 0

    async def number(self, most: int) -> int:
        self.asked += 1
        if self.is_down:
            raise StoreUnavailable("away")
        return 0

    async def end(self) -> End:
        return End(7, 0)

    async def after(self, caller: Principal, position: int, most: int) -> Sequence[Change]:
        return []


async def test_an_outage_of_postgres_and_its_end_are_noticed() -> None:
    source = Unwell()
    tail = LiveTail(source, every_s=0.01)
    with tail.reading(EVE):
        for is_down in (True, False, True, False):
            source.is_down = is_down
            async with asyncio.timeout(5):
                while tail.is_down is not is_down:
                    assert await tail.after(EVE, 7, 0.05) == ((), 7)
    await tail.aclose()


@pytest.mark.stopwatch
async def test_one_task_asks_the_database_and_only_while_there_are_readers() -> None:
    source = Unwell()
    tail = LiveTail(source, every_s=0.05)
    await asyncio.sleep(0.1)
    assert source.asked == 0
    with tail.reading(EVE), tail.reading(EVE), tail.reading(ANN):
        await asyncio.sleep(0.5)
    assert 2 <= source.asked <= 11
    await asyncio.sleep(0.1)
    asked = source.asked
    await asyncio.sleep(0.2)
    assert source.asked == asked
    await tail.aclose()


async def test_readers_are_limited_in_total_and_per_user() -> None:
    tail = LiveTail(Unwell(), every_s=0.05)
    taken = [tail.reading(Principal(f"user {n // MOST_OF_USER}")) for n in range(MOST_READERS)]
    for each in taken[:MOST_OF_USER]:
        each.__enter__()
    with pytest.raises(TooManyReaders), tail.reading(Principal("user 0")):
        pass
    for each in taken[MOST_OF_USER:]:
        each.__enter__()
    with pytest.raises(TooManyReaders), tail.reading(Principal("another")):
        pass
    for each in taken:
        each.__exit__(None, None, None)
    with tail.reading(Principal("user 0")):
        pass
    await tail.aclose()
