"""C1: everything works through PgBouncer in transaction mode, in its default form."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from gateway.cli.check import inspect_database
from gateway.settings import load
from gateway.store.migrations import migrate, read_migrations
from gateway.store.pool import Database
from tests.edge.app import house
from tests.pgbouncer import needs_pgbouncer, running_pgbouncer
from tests.store.samples import IMPATIENT, SQL

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = needs_pgbouncer
IGNORES = "statement_timeout,idle_in_transaction_session_timeout,plan_cache_mode,enable_seqscan,jit"
FORMS: tuple[dict[str, str], ...] = ({}, {"ignore_startup_parameters": IGNORES}, {"default_pool_size": "2"})
SETTINGS = """
select current_setting('statement_timeout') as statement, current_setting('plan_cache_mode') as plans,
    current_setting('application_name') as application
"""


@pytest.fixture(params=FORMS, ids=["default", "ignoring", "narrow"])
def pooled(request: pytest.FixtureRequest, database: str) -> Iterator[str]:
    with running_pgbouncer(database, **request.param) as dsn:
        yield dsn


async def test_c1_the_gateway_works_and_none_of_300_reads_is_refused(tmp_path: Path, pooled: str) -> None:
    async with house(tmp_path, pooled, GATEWAY_AUTH="header, keys") as it:
        await asyncio.gather(*[it.chat(f"question {number} about rain") for number in range(20)])
        async with asyncio.timeout(20):
            while len((await it.ask("/history")).json()["Historical_list"]) < 20:
                await asyncio.sleep(0.05)
        paths = ("/history", "/history_v2?q=rain", "/report/figures", "/history?limit=3")
        reads = [it.ask(paths[number % 4]) for number in range(300)]
        assert {answer.status for answer in await asyncio.gather(*reads)} == {200}
        assert (await it.ask("/live/search?q=rain", by="eve/auditors")).status == 200
        key = (await it.ask("/admin/keys", {"user": "bob", "name": "x"}, by="root/admins")).json()["value"]
        assert (await it.ask("/history", by="", headers={"x-api-key": key})).status == 200


async def test_c1_many_clients_do_not_meet_each_others_statements(pooled: str) -> None:
    databases = [Database(pooled, replace(IMPATIENT, pool_max=4)) for _ in range(4)]

    async def ask(db: Database, number: int) -> None:
        async with db.asking() as connection:
            assert await connection.fetchval(f"select $1::bigint + {number % 7}", number) == number + number % 7
        async with db.asking() as connection, connection.transaction(isolation="repeatable_read", readonly=True):
            rows = [
                row["n"] async for row in connection.cursor("select generate_series(1, $1::int) as n", 9, prefetch=2)
            ]
            assert rows == list(range(1, 10))

    try:
        await asyncio.gather(*[ask(db, number) for number in range(100) for db in databases])
        assert all(db.is_pooled for db in databases)
    finally:
        await asyncio.gather(*[db.aclose() for db in databases])


async def test_c1_settings_hold_in_transactions_and_are_not_left_behind(pooled: str) -> None:
    db = Database(pooled, replace(IMPATIENT, statement_s=7))
    keeping = await db.connect({"plan_cache_mode": "force_generic_plan"})
    async with keeping.transaction():
        found = await keeping.fetchrow(SETTINGS)
        assert found is not None
        assert dict(found) == {"statement": "7s", "plans": "force_generic_plan", "application": "llm-gateway"}
    after = await keeping.fetchrow(SETTINGS)
    assert after is not None
    assert (after["statement"], after["plans"]) == ("0", "auto")
    keeping.terminate()
    await db.aclose()


async def test_c1_migrations_by_many_through_a_pooler(pooled: str) -> None:
    databases = [Database(pooled, IMPATIENT) for _ in range(5)]
    applied = await asyncio.gather(*[migrate(db, SQL) for db in databases])
    assert sorted(name for found in applied for name in found) == sorted(one.name for one in read_migrations(SQL))
    await asyncio.gather(*[db.aclose() for db in databases])


async def test_c1_check_names_the_pooler(pooled: str) -> None:
    facts, faults = await inspect_database(load({"DATABASE_URL": pooled}))
    assert "behind a connection pooler" in facts[0]
    assert not faults


async def test_c1_what_the_pooler_does_not_take_is_named(database: str) -> None:
    with running_pgbouncer(database) as pooled:
        facts, faults = await inspect_database(load({"DATABASE_URL": f"{pooled}&options=-c%20search_path%3Dpublic"}))
        assert not facts
        assert "unsupported startup parameter: options" in faults[0]


async def test_c1_without_a_pooler_statements_are_prepared_and_settings_are_the_sessions(database: str) -> None:
    db = Database(database, replace(IMPATIENT, statement_s=7, pool_max=1))
    for _ in range(2):
        async with db.connection() as connection:
            found = await connection.fetchrow(SETTINGS)
            assert found is not None
            assert found["statement"] == "7s"
    async with db.connection() as connection:
        assert (
            await connection.fetchval("select count(*) from pg_prepared_statements where statement = $1", SETTINGS) == 1
        )
    assert not db.is_pooled
    await db.aclose()
    facts, _ = await inspect_database(load({"DATABASE_URL": database}))
    assert facts[0].endswith("connected directly")
