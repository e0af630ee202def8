"""A disk whose writes fail (EIO), and a process that may open no more files (EMFILE): under load, and with kill -9."""

from __future__ import annotations

import asyncio
import random
import resource
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.faults.ledgers import Load, compare, settled_rows
from tests.gateway_process import GatewayProcess
from tests.loopback import LoopbackUpstream

SMALL = {"GATEWAY_JOURNAL_SEGMENT_BYTES": "64KiB", "GATEWAY_JOURNAL_MAX_BYTES": "1GiB"}
SHORT, LONG = 3, 40


@pytest.fixture(scope="module")
def bad_writes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A library that makes writes fail, for LD_PRELOAD."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler, which makes the library that lets writes fail")
    library = tmp_path_factory.mktemp("preload") / "bad_writes.so"
    source = Path(__file__).with_name("bad_writes.c")
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", str(library), str(source), "-ldl"], check=True)
    return library


def whole(load: Load) -> int:
    return sum(one.saw_end for one in load.seen)


async def more_answers(load: Load, count: int) -> None:
    wanted = whole(load) + count
    while whole(load) < wanted:
        await asyncio.sleep(0.01)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("when_full", ["refuse", "serve"])
async def test_a9_writes_that_fail_with_eio_lose_nothing_also_when_the_gateway_is_killed(
    tmp_path: Path, database: str, bad_writes: Path, when_full: str, is_long: bool
) -> None:
    chance = random.Random(9)
    control = tmp_path / "bad"
    env = {**SMALL, "LD_PRELOAD": str(bad_writes), "BAD_WRITES": str(control), "GATEWAY_JOURNAL_WHEN_FULL": when_full}
    async with LoopbackUpstream(pace=0.002) as upstream:
        gateway = GatewayProcess.upon(tmp_path, upstream.url, database, **env)
        async with gateway, Load(gateway.url, 16) as load:
            for number in range(LONG if is_long else SHORT):
                await more_answers(load, 20)
                control.touch()
                await more_answers(load, 30)  # there is always a file that takes them
                if number % 2 and when_full == "refuse":  # what `serve` has in memory only is lost by kill -9
                    await gateway.kill()
                    control.unlink()
                    await gateway.start()
                else:
                    control.unlink()
                await asyncio.sleep(chance.uniform(0, 0.3))
            await more_answers(load, 20)
            await load.stop()
            rows = await settled_rows(database, wanted=len(upstream.requests))
            assert await gateway.stop() == 0
        verdict = compare(load.seen, upstream, rows)
        print(f"\n{verdict.asked} asked, {verdict.whole} seen whole, {verdict.rows} rows")
        assert verdict.is_clean, verdict
        assert any(line["event"] == "journal_file_failed" for line in gateway.log())


@pytest.mark.timeout(600)
async def test_a9_a_gateway_that_may_open_no_more_files_goes_on_and_loses_nothing(
    tmp_path: Path, database: str, is_long: bool
) -> None:
    chance = random.Random(24)
    async with LoopbackUpstream(pace=0.002) as upstream:
        gateway = GatewayProcess.upon(tmp_path, upstream.url, database, **SMALL)
        async with gateway, Load(gateway.url, 16) as load:
            for number in range(LONG if is_long else SHORT):
                await more_answers(load, 20)
                before = resource.prlimit(gateway.pid, resource.RLIMIT_NOFILE)
                resource.prlimit(gateway.pid, resource.RLIMIT_NOFILE, (gateway.open_files(), before[1]))
                await asyncio.sleep(chance.uniform(1.0, 2.0))
                if number % 2:
                    await gateway.kill()
                    await gateway.start()
                else:
                    resource.prlimit(gateway.pid, resource.RLIMIT_NOFILE, before)
            await more_answers(load, 50)
            await load.stop()
            rows = await settled_rows(database, wanted=len(upstream.requests))
            assert await gateway.stop() == 0
        verdict = compare(load.seen, upstream, rows)
        print(f"\n{verdict.asked} asked, {verdict.whole} seen whole, {verdict.rows} rows")
        assert verdict.is_clean, verdict
        assert any("Too many open files" in line for line in gateway.log_lines())
