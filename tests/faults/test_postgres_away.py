"""PostgreSQL stopped, killed, frozen and restarted under load: clients do not notice, and no row is lost."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from tests.faults.ledgers import Load, compare, settled_rows
from tests.gateway_process import GatewayProcess
from tests.loopback import LoopbackUpstream
from tests.postgres import PostgresServer, running_postgres

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

DURABLE = {
    "max_connections": "200"
}  # the tests' usual server is in too much of a hurry to keep what a crash interrupts


@pytest.fixture
def server() -> Iterator[PostgresServer]:
    with running_postgres(DURABLE) as server:
        yield server


async def stop_and_start(server: PostgresServer) -> None:
    await asyncio.to_thread(server.stop)
    await asyncio.sleep(1.0)
    await asyncio.to_thread(server.start)


async def kill(server: PostgresServer) -> None:
    """Its supervisor brings it up again."""
    pid = server.pid
    await asyncio.to_thread(server.crash)
    await asyncio.to_thread(server.wait_for_restart, pid)


async def freeze(server: PostgresServer) -> None:
    await asyncio.to_thread(server.freeze)
    await asyncio.sleep(2.0)
    await asyncio.to_thread(server.thaw)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("trouble", [stop_and_start, kill, freeze])
async def test_with_postgres_away_every_request_is_served_and_every_row_comes_later(
    tmp_path: Path, server: PostgresServer, trouble: object
) -> None:
    assert callable(trouble)
    async with LoopbackUpstream(pace=0.005) as upstream:
        async with GatewayProcess.upon(tmp_path, upstream.url, server.dsn) as gateway, Load(gateway.url, 16) as load:
            for _ in range(2):
                await asyncio.sleep(0.7)
                await trouble(server)
            await asyncio.sleep(1.0)
            await load.stop()
            rows = await settled_rows(server.dsn, wanted=len(load.seen), timeout_s=60)
            assert await gateway.stop() == 0
        assert [one for one in load.seen if not one.saw_end] == []
        verdict = compare(load.seen, upstream, rows)
        assert verdict.is_clean, verdict
        assert verdict.rows == len(load.seen)
        assert {row["outcome"] for row in rows} == {"complete"}


async def test_a_frozen_postgres_does_not_hold_up_the_gateways_end(tmp_path: Path, server: PostgresServer) -> None:
    async with LoopbackUpstream() as upstream:
        gateway = GatewayProcess.upon(tmp_path, upstream.url, server.dsn)
        async with gateway, Load(gateway.url, 8) as load:
            await asyncio.sleep(0.5)
            await asyncio.to_thread(server.freeze)
            try:
                await asyncio.sleep(0.5)
                await load.stop()
                async with asyncio.timeout(30):
                    assert await gateway.stop() == 0
            finally:
                await asyncio.to_thread(server.thaw)
            await gateway.start()
            rows = await settled_rows(server.dsn, wanted=len(load.seen))
        verdict = compare(load.seen, upstream, rows)
        assert verdict.is_clean, verdict
        assert verdict.rows == len(load.seen)
