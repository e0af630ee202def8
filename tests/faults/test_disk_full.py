"""The journal's disk is full: requests that cannot be kept are refused, and service resumes when there is room."""

from __future__ import annotations

import asyncio
import os
import subprocess
from contextlib import suppress
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


@pytest.mark.timeout(180)
async def test_a10_at_the_stop_of_a_full_disk_every_record_in_memory_is_written_or_counted_and_named(
    tmp_path: Path, small_disk: Path
) -> None:
    with running_postgres() as server:
        async with LoopbackUpstream(pace=0.002) as upstream:
            env = {
                "GATEWAY_JOURNAL_DIR": str(small_disk / "journal"),
                "GATEWAY_JOURNAL_SEGMENT_BYTES": "256KiB",
                "GATEWAY_JOURNAL_MAX_BYTES": "1GiB",
                "GATEWAY_JOURNAL_WHEN_FULL": "serve",
            }
            gateway = GatewayProcess.upon(tmp_path, upstream.url, server.dsn, **env)
            async with gateway, Load(gateway.url, 16) as load:
                await asyncio.sleep(0.5)
                await asyncio.to_thread(server.stop)
                filler = small_disk / "somebody else's"
                with suppress(OSError), filler.open("wb", buffering=0) as file:
                    while file.write(bytes(4096)):
                        pass
                full_at = sum(one.saw_end for one in load.seen)
                while sum(one.saw_end for one in load.seen) < full_at + 200:
                    await asyncio.sleep(0.02)
                await load.stop()
                assert await gateway.stop() == 0
                lines = [line for line in gateway.log() if line["event"] == "records_lost_at_close"]
                filler.unlink()
                await asyncio.to_thread(server.start)
                await gateway.start()
                lost = {key for line in lines for key in line["interaction_ids"]}
                rows = await settled_rows(server.dsn, wanted=len(upstream.requests) - len(lost))
                assert await gateway.stop() == 0
        verdict = compare(load.seen, upstream, rows)
        print(f"\n{verdict.asked} asked, {verdict.rows} rows, {len(lost)} lost and said")
        assert all(one.saw_end for one in load.seen)
        assert len(set(verdict.lost)) == len(lost)
        assert not lost & {str(row["id"]) for row in rows}
        assert all(line["lost"] == len(lost) for line in lines)
        assert (verdict.twice, verdict.wrong) == ([], [])
        assert 0 < len(lost) < 200
