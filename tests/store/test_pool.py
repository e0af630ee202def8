"""Connections: nothing hangs on a server that is away, frozen or full."""

from __future__ import annotations

import asyncio
import gc
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import asyncpg
import pytest

from gateway.errors import StoreUnavailable
from gateway.store.pool import Database
from tests.postgres import running_postgres
from tests.store.samples import IMPATIENT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.postgres import PostgresServer


@pytest.fixture
def own_postgres() -> Iterator[PostgresServer]:
    with running_postgres() as server:
        yield server


async def test_nothing_connects_before_it_is_needed(tmp_path: Path) -> None:
    database = Database(f"postgresql://nobody@/nowhere?host={tmp_path}", IMPATIENT)
    with pytest.raises(StoreUnavailable):
        async with database.connection():
            pass
    assert await database.ping(1) is False
    await database.aclose()


async def test_json_comes_and_goes_as_values(database: str) -> None:
    db = Database(database, IMPATIENT)
    async with db.connection() as connection:
        value = {"a": [1, 2.5, None, "é"]}
        assert await connection.fetchval("select $1::jsonb", value) == value
        assert await connection.fetchval("select $1::json", b'{"b": 1}') == {"b": 1}
    await db.aclose()


async def test_a_wrong_statement_is_no_absence(database: str) -> None:
    db = Database(database, IMPATIENT)
    with pytest.raises(Exception, match="does not exist") as caught:
        async with db.connection() as connection:
            await connection.execute("select * from nowhere")
    assert not isinstance(caught.value, StoreUnavailable)
    await db.aclose()


@pytest.mark.stopwatch
async def test_a_slow_statement_ends(database: str) -> None:
    db = Database(database, replace(IMPATIENT, statement_s=0.3))
    started = time.monotonic()
    with pytest.raises(StoreUnavailable):
        async with db.connection() as connection:
            await connection.execute("select pg_sleep(30)")
    assert time.monotonic() - started < 3
    assert await db.ping(1)
    await db.aclose()


@pytest.mark.stopwatch
async def test_connections_are_bounded_and_the_next_one_waits(database: str) -> None:
    db = Database(database, replace(IMPATIENT, pool_max=2, connect_s=0.2, statement_s=0.2))
    async with db.connection(), db.connection():
        with pytest.raises(StoreUnavailable):
            async with db.connection():
                pass
    assert await db.ping(1)
    await db.aclose()


@pytest.mark.stopwatch
@pytest.mark.parametrize("is_of_pool", [False, True])
async def test_whoever_stops_waiting_for_a_connection_leaves_none_behind(database: str, is_of_pool: bool) -> None:
    async def use(db: Database) -> None:
        if is_of_pool:
            async with db.connection():
                await asyncio.sleep(60)
        else:
            connection = await db.connect()
            try:
                await asyncio.sleep(60)
            finally:
                connection.terminate()

    for moment in range(40):
        db = Database(database, IMPATIENT, application=f"moment {moment}")
        task = asyncio.create_task(use(db))
        await asyncio.sleep(moment * 0.001)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await db.aclose()
    gc.collect()  # a connection that nobody has closed warns here
    watcher = await asyncpg.connect(database)
    async with asyncio.timeout(5):
        while await watcher.fetchval("select count(*) from pg_stat_activity where application_name like 'moment %'"):
            await asyncio.sleep(0.02)
    await watcher.close()


async def test_a_frozen_server_hangs_neither_ping_nor_readers_nor_the_end(own_postgres: PostgresServer) -> None:
    db = Database(own_postgres.dsn, replace(IMPATIENT, connect_s=0.5, statement_s=0.5))
    assert await db.ping(1)
    await asyncio.to_thread(own_postgres.freeze)
    try:
        started = time.monotonic()
        for _ in range(3):
            assert await db.ping(0.2) is False
        with pytest.raises(StoreUnavailable):
            async with db.connection() as connection:
                await connection.fetchval("select 1")
        assert time.monotonic() - started < 6
        started = time.monotonic()
        await db.aclose()
        assert time.monotonic() - started < 3
    finally:
        await asyncio.to_thread(own_postgres.thaw)
    again = Database(own_postgres.dsn, IMPATIENT)
    assert await again.ping(3)
    await again.aclose()


async def test_a_server_that_was_frozen_or_restarted_serves_again(own_postgres: PostgresServer) -> None:
    db = Database(own_postgres.dsn, IMPATIENT)
    assert await db.ping(1)
    await asyncio.to_thread(own_postgres.freeze)
    assert await db.ping(0.2) is False
    await asyncio.to_thread(own_postgres.thaw)
    await asyncio.sleep(0.1)
    async with asyncio.timeout(10):
        while not await db.ping(1):
            await asyncio.sleep(0.05)
    await asyncio.to_thread(own_postgres.restart)
    async with asyncio.timeout(10):
        while not await db.ping(1):
            await asyncio.sleep(0.05)
    await db.aclose()
