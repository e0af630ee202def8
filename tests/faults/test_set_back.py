"""PostgreSQL restored from a snapshot under load: the lost rows are shipped again, once each, automatically."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import aiohttp
import pytest

from tests.faults.ledgers import Load, compare, settled_rows
from tests.faults.test_postgres_away import DURABLE
from tests.gateway_process import GatewayProcess
from tests.loopback import LoopbackUpstream
from tests.postgres import PostgresServer, running_postgres

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def server() -> Iterator[PostgresServer]:
    with running_postgres(DURABLE) as server:
        yield server


async def figures(gateway: GatewayProcess) -> dict[str, int]:
    async with aiohttp.ClientSession() as session, session.get(f"{gateway.url}/readyz") as response:
        found: dict[str, int] = (await response.json())["journal"]["reship"]
        return found


async def reported(server: PostgresServer) -> int:
    """Calls as the report adds them up."""
    await asyncio.to_thread(server.fetch, "select llm_logs.refresh_report(10000)")
    rows = await asyncio.to_thread(server.fetch, "select sum(calls)::int as n from llm_logs.report_usage_by_day")
    return int(rows[0]["n"])


@pytest.mark.timeout(900)
@pytest.mark.parametrize("is_killed", [False, True], ids=["alone", "with kill -9"])
async def test_a7_set_back_under_load_nothing_is_lost_doubled_or_altered(
    tmp_path: Path, server: PostgresServer, *, is_long: bool, is_killed: bool
) -> None:
    rounds = 8 if is_long else 2
    snapshot = server.directory.with_name("snapshot")
    async with LoopbackUpstream(pace=0.005) as upstream:
        async with GatewayProcess.upon(tmp_path, upstream.url, server.dsn) as gateway, Load(gateway.url, 16) as load:
            for number in range(rounds):
                await asyncio.sleep(1.5)
                copy = snapshot.with_name(f"snapshot {number}")
                await asyncio.to_thread(server.snapshot, copy)
                await asyncio.sleep(1.5)
                if is_killed and number % 2:
                    await gateway.kill()
                    await asyncio.to_thread(server.restore, copy)
                    await gateway.start()
                else:
                    await asyncio.to_thread(server.restore, copy)
                    if is_killed:
                        await asyncio.sleep(0.3)  # perhaps while it ships again
                        await gateway.kill()
                        await gateway.start()
            await asyncio.sleep(1.5)
            await load.stop()
            rows = await settled_rows(server.dsn, wanted=len(upstream.requests), timeout_s=60)
            again = await figures(gateway)
            assert await reported(server) == len(rows)
            assert await gateway.stop() == 0
        verdict = compare(load.seen, upstream, rows)
        print(f"\n{verdict.asked} asked, {verdict.whole} seen whole, {verdict.rows} rows, {again}")
        assert verdict.is_clean, verdict
        assert again["gone"] == 0
        events = [line["event"] for line in gateway.log()]
        assert events.count("postgres_was_set_back") >= rounds
        assert "records_gone" not in events
        if not is_killed:
            assert again["set_backs"] == rounds
            assert again["reshipped"] > 20


async def test_a7_a_database_that_was_dropped_and_made_anew_gets_again_what_is_kept(
    tmp_path: Path, server: PostgresServer
) -> None:
    dsn = await asyncio.to_thread(server.create_database)
    name = urlsplit(dsn).path.strip("/")
    async with LoopbackUpstream(pace=0.002) as upstream:
        async with GatewayProcess.upon(tmp_path, upstream.url, dsn) as gateway, Load(gateway.url, 4) as load:
            await asyncio.sleep(1.0)
            await asyncio.to_thread(server.drop_database, dsn)
            await asyncio.to_thread(server.execute, f'create database "{name}"')
            await asyncio.sleep(1.0)
            await load.stop()
            await gateway.logged(lambda line: line["event"] == "postgres_was_filled_again", 60)
            rows = await settled_rows(dsn, wanted=len(upstream.requests), timeout_s=60)
            assert await gateway.stop() == 0
        verdict = compare(load.seen, upstream, rows)
        assert verdict.is_clean, verdict
