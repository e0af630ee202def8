"""kill -9 at random moments under load: 0 lost, 0 twice, 0 wrong bytes."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING

import pytest

from tests.faults.ledgers import Load, compare, settled_rows
from tests.gateway_process import GatewayProcess
from tests.loopback import LoopbackUpstream

if TYPE_CHECKING:
    from pathlib import Path

SHORT, LONG = 8, 120


@pytest.mark.timeout(900)
async def test_killed_at_random_moments_nothing_said_is_lost_doubled_or_altered(
    tmp_path: Path, database: str, is_long: bool
) -> None:
    moments = random.Random(11)
    async with LoopbackUpstream(pace=0.02) as upstream:
        async with GatewayProcess.upon(tmp_path, upstream.url, database) as gateway, Load(gateway.url, 24) as load:
            for _ in range(LONG if is_long else SHORT):
                await asyncio.sleep(moments.uniform(0.05, 1.2))
                await gateway.kill()
                await gateway.start()
            await asyncio.sleep(1.5)
            await load.stop()
            rows = await settled_rows(database, wanted=len(upstream.requests))
            assert await gateway.stop() == 0
        verdict = compare(load.seen, upstream, rows)
        print(f"\n{verdict.asked} asked, {verdict.whole} seen whole, {verdict.rows} rows")
        assert verdict.is_clean, verdict
        assert verdict.whole > 50
        outcomes = {row["outcome"] for row in rows}
        assert outcomes == {"complete", "interrupted"}


async def test_journals_of_dead_processes_are_left_empty(tmp_path: Path, database: str) -> None:
    async with LoopbackUpstream(pace=0.02) as upstream:
        async with GatewayProcess.upon(tmp_path, upstream.url, database) as gateway, Load(gateway.url, 8) as load:
            for _ in range(2):
                await asyncio.sleep(0.5)
                await gateway.kill()
                await gateway.start()
            await load.stop()
            await settled_rows(database, wanted=len(upstream.requests))
            assert await gateway.stop() == 0
        assert list((tmp_path / "data" / "journal").glob("*/*.seg")) == []
