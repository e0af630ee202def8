"""The journal's disk full: nothing is asked that cannot be kept, and it goes on by itself when there is room again."""

from __future__ import annotations

import asyncio
import os
import subprocess
from typing import TYPE_CHECKING

import aiohttp
import pytest

from tests.faults.ledgers import Load, compare, settled_rows
from tests.gateway_process import GatewayProcess
from tests.loopback import LoopbackUpstream
from tests.postgres import running_postgres

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MEGABYTE = 1024 * 1024
DISK = {
    "GATEWAY_JOURNAL_SEGMENT_BYTES": "1MiB",
    "GATEWAY_JOURNAL_MAX_BYTES": "1GiB",
    "GATEWAY_JOURNAL_MIN_FREE_BYTES": "2MiB",
}


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 12 MB, of its own."""
    if os.geteuid() != 0:
        pytest.skip("only root may mount a small disk")
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=12m", "tmpfs", str(disk)], capture_output=True, text=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip(f"no small disk can be mounted here: {mounted.stderr.strip()}")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


async def readiness(gateway: GatewayProcess) -> tuple[int, dict[str, object]]:
    async with aiohttp.ClientSession() as session, session.get(f"{gateway.url}/readyz") as response:
        return response.status, await response.json()


@pytest.mark.timeout(180)
async def test_on_a_full_disk_requests_are_refused_before_the_upstream_hears_of_them(
    tmp_path: Path, small_disk: Path
) -> None:
    with running_postgres() as server:
        async with LoopbackUpstream(pace=0.002) as upstream:
            env = {**DISK, "GATEWAY_JOURNAL_DIR": str(small_disk / "journal")}
            gateway = GatewayProcess.upon(tmp_path, upstream.url, server.dsn, **env)
            async with gateway, Load(gateway.url, 16) as load:
                await asyncio.sleep(0.5)
                await asyncio.to_thread(server.freeze)
                filler = small_disk / "somebody else's"
                free = os.statvfs(small_disk).f_bavail * os.statvfs(small_disk).f_frsize
                filler.write_bytes(b"\0" * (free - MEGABYTE // 2))
                await asyncio.sleep(2.5)
                status, body = await readiness(gateway)
                assert status == 503, body
                refused = [one for one in load.seen if one.status == 503]
                assert refused
                asked_while_full = upstream.request_count
                await asyncio.sleep(1.0)
                assert upstream.request_count == asked_while_full
                filler.unlink()
                await asyncio.to_thread(server.thaw)
                await asyncio.sleep(3.0)
                assert upstream.request_count > asked_while_full
                assert (await readiness(gateway))[0] == 200
                await load.stop()
                rows = await settled_rows(server.dsn, wanted=len(upstream.requests))
                assert await gateway.stop() == 0
            verdict = compare(load.seen, upstream, rows)
            assert verdict.is_clean, verdict
            assert all("journal_full" in (one.error or "") for one in load.seen if one.status == 503)
