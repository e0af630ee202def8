"""SIGTERM with live streams: they finish, nothing new begins, the journal is shipped, the exit status is 0."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from tests.faults.ledgers import Load, compare, rows_of, settled_rows
from tests.gateway_process import GatewayProcess
from tests.loopback import LoopbackUpstream

if TYPE_CHECKING:
    from pathlib import Path


async def test_live_streams_finish_at_a_shutdown(tmp_path: Path, database: str) -> None:
    async with LoopbackUpstream(pace=0.03) as upstream:
        async with GatewayProcess.upon(tmp_path, upstream.url, database) as gateway, Load(gateway.url, 24) as load:
            await asyncio.sleep(1.0)
            stopping = asyncio.create_task(gateway.stop())
            await asyncio.sleep(0.2)
            load_stopped = asyncio.create_task(load.stop())
            assert await stopping == 0
            await load_stopped
        begun = [one for one in load.seen if one.status == 200]
        assert [one for one in begun if not one.saw_end] == []
        rows = await rows_of(database)
        verdict = compare(load.seen, upstream, rows)
        assert verdict.is_clean, verdict
        assert verdict.rows == len(begun)
        assert {row["outcome"] for row in rows} == {"complete"}


async def test_streams_that_outlast_the_shutdown_time_end_with_an_error_and_are_kept_as_interrupted(
    tmp_path: Path, database: str
) -> None:
    async with LoopbackUpstream(pace=0.3) as upstream:
        gateway = GatewayProcess.upon(tmp_path, upstream.url, database, GATEWAY_SHUTDOWN_S="0.5")
        async with gateway, Load(gateway.url, 6, streams=1.0) as load:
            await asyncio.sleep(1.0)
            stopping = asyncio.create_task(gateway.stop())
            await asyncio.sleep(0.1)
            load_stopped = asyncio.create_task(load.stop())
            assert await stopping == 0
            await load_stopped
        cut = [one for one in load.seen if one.status == 200 and not one.saw_end]
        assert cut
        assert {one.error for one in cut} == {"shutting_down"}
        rows = await settled_rows(database, wanted=len(upstream.requests))
        verdict = compare(load.seen, upstream, rows)
        assert verdict.is_clean, verdict
        assert sum(row["outcome"] == "interrupted" for row in rows) == len(cut)
