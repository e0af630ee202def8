"""`--workers`: several processes on one port, kept alive, gone with their supervisor."""

from __future__ import annotations

import asyncio
import os
import signal
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import aiohttp
import asyncpg
import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.faults.ledgers import Load, compare, settled_rows
from tests.gateway_process import GatewayProcess
from tests.journeys.stage import hello
from tests.loopback import LoopbackUpstream, Script, WaitFor, chat_stream
from tests.polling import until

if TYPE_CHECKING:
    from pathlib import Path


def workers_of(gateway: GatewayProcess) -> list[psutil.Process]:
    return [child for child in psutil.Process(gateway.pid).children() if "--worker" in command_of(child)]


def command_of(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:  # it has just ended
        return []


def calls(worker: psutil.Process, port: int) -> bool:
    """Whether it has a connection to this port of an upstream."""
    return any(each.raddr and each.raddr.port == port for each in worker.net_connections("tcp"))


async def test_workers_share_the_port_and_a_killed_one_loses_nothing(tmp_path: Path, database: str) -> None:
    async with LoopbackUpstream(pace=0.01) as upstream:
        two = GatewayProcess.upon(tmp_path, upstream.url, database, GATEWAY_WORKERS="2")
        async with two as gateway, Load(gateway.url, 12) as load:
            await until(lambda: len(workers_of(gateway)) == 2)
            await asyncio.sleep(1.5)
            victim = workers_of(gateway)[0].pid
            os.kill(victim, signal.SIGKILL)
            await until(lambda: len({worker.pid for worker in workers_of(gateway)} - {victim}) == 2)
            await asyncio.sleep(2.0)
            await load.stop()
            rows = await settled_rows(database, wanted=len(upstream.requests))
            assert await gateway.stop() == 0
        verdict = compare(load.seen, upstream, rows)
        assert verdict.is_clean, verdict
        assert verdict.whole > 20


async def test_workers_do_not_outlive_their_supervisor(tmp_path: Path) -> None:
    async with GatewayProcess(tmp_path, {"GATEWAY_WORKERS": "2"}) as gateway:
        async with aiohttp.ClientSession() as session, session.get(f"{gateway.url}/healthz") as response:
            assert response.status == 200
        workers = workers_of(gateway)
        assert len(workers) == 2
        said = await gateway.logged(lambda line: line["event"] == "listening")
        assert said["database"] == "its own PostgreSQL"
        await gateway.kill()
        await until(lambda: not any(map(command_of, workers)))


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2])
async def test_e12_a_signal_to_the_supervisor_leaves_its_workers_at_work(
    tmp_path: Path, database: str, number: signal.Signals
) -> None:
    go_on = asyncio.Event()
    steps = chat_stream("one two three four").steps
    async with LoopbackUpstream() as upstream:
        upstream.on = lambda _: Script([*steps[:4], WaitFor(go_on), *steps[4:]])
        two = GatewayProcess.upon(tmp_path, upstream.url, database, GATEWAY_WORKERS="2")
        async with two as gateway, fresh() as session:
            streams = [
                await session.post(f"{gateway.url}/v1/chat/completions", json=hello(stream=True)) for _ in "1234"
            ]
            before = {worker.pid for worker in workers_of(gateway)}
            gateway.signal(number)
            await gateway.logged(lambda line: line["event"] == "signal ignored")
            go_on.set()
            for stream in streams:
                assert (await stream.read()).endswith(b"data: [DONE]\n\n")
            assert {worker.pid for worker in workers_of(gateway)} == before
            assert await gateway.stop() == 0
        assert not gateway.complaints()


async def scraped(gateway: GatewayProcess) -> dict[tuple[str, str], float]:
    """The counters of all workers, by their name with labels and by their worker. Each time on a new connection: any
    worker may answer."""
    async with aiohttp.ClientSession() as session, session.get(f"{gateway.url}/metrics") as response:
        assert response.status == 200
        families = list(text_string_to_metric_families(await response.text()))
    return {
        (f"{sample.name} {sorted((sample.labels | {'worker': ''}).items())}", sample.labels["worker"]): sample.value
        for family in families
        for sample in family.samples
        if sample.name.endswith(("_total", "_count", "_sum", "_bucket", "worker_up"))
    }


async def both_up(gateway: GatewayProcess) -> dict[tuple[str, str], float]:
    """What is scraped when both workers tell their figures."""
    async with asyncio.timeout(30):
        while True:
            found = await scraped(gateway)
            if [value for (name, _), value in found.items() if "worker_up" in name] == [1, 1]:
                return found
            await asyncio.sleep(0.05)


async def test_whichever_worker_is_asked_tells_of_all_and_no_counter_runs_backwards(
    tmp_path: Path, database: str
) -> None:
    async with LoopbackUpstream(pace=0.001) as upstream:
        two = GatewayProcess.upon(tmp_path, upstream.url, database, GATEWAY_WORKERS="2")
        async with two as gateway:
            await until(lambda: sum(line["event"] == "listening" for line in gateway.log()) == 2)
            async with Load(gateway.url, 24) as load:
                before: dict[tuple[str, str], float] = {}
                for _ in range(40):
                    now = await scraped(gateway)
                    backwards = [series for series, value in before.items() if now.get(series, value) < value]
                    assert backwards == []
                    before = now
                    await asyncio.sleep(0.05)
            now = await scraped(gateway)
            done = {worker: value for (name, worker), value in now.items() if "/v1/chat/completions" in name}
            assert done.keys() == {"0", "1"}
            answered = sum(value for (name, _), value in now.items() if "/v1/chat/completions" in name)
            assert answered == len(load.seen)
            victim = workers_of(gateway)[1].pid
            os.kill(victim, signal.SIGKILL)
            await until(lambda: len({worker.pid for worker in workers_of(gateway)} - {victim}) == 2)
            after = await both_up(gateway)
            kept = {key: value for key, value in now.items() if key[1] == "0"}
            assert all(after[key] >= value for key, value in kept.items())
            assert await gateway.stop() == 0


def fresh() -> aiohttp.ClientSession:
    """Whose every request takes a connection of its own, and so any of the workers."""
    return aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True))


MANY = 24  # requests, of which one worker alone gets all in one case of 2**23


async def test_an_answer_is_found_joined_and_stopped_through_any_worker(tmp_path: Path, database: str) -> None:
    go_on = asyncio.Event()
    steps = chat_stream("one two three four").steps
    async with LoopbackUpstream() as upstream:
        upstream.on = lambda _: Script([*steps[:4], WaitFor(go_on), *steps[4:]])
        two = GatewayProcess.upon(tmp_path, upstream.url, database, GATEWAY_WORKERS="2")
        async with two as gateway, fresh() as session:
            await until(lambda: sum(line["event"] == "listening" for line in gateway.log()) == 2)
            first = await session.post(f"{gateway.url}/chat", json=hello(stream=True))
            id_ = first.headers["x-interaction-id"]

            async def shown(path: str) -> dict[str, Any]:
                async with session.get(gateway.url + path) as response:
                    assert response.status == 200
                    found: dict[str, Any] = await response.json()
                    return found

            for running in await asyncio.gather(*(shown("/chat/running") for _ in range(MANY))):
                assert [story["id"] for story in running["data"]] == [id_]
            for one in await asyncio.gather(*(shown(f"/chat/{id_}") for _ in range(MANY))):
                assert (one["uuid"], one["running"]) == (id_, True)
            async with session.post(f"{gateway.url}/checkchat", json=hello(stream=True)) as response:
                assert (response.status, (await response.json())["error"]["code"]) == (404, "still_running")
            joined = [await session.get(f"{gateway.url}/chat/{id_}/stream") for _ in range(MANY)]
            assert {each.headers["x-interaction-id"] for each in joined} == {id_}
            go_on.set()
            said = await first.read()
            assert said.endswith(b"data: [DONE]\n\n")
            assert {await each.read() for each in joined} == {said}
            go_on.clear()
            for _ in range(8):
                stopped = await session.post(f"{gateway.url}/chat", json=hello(stream=True))
                id_ = stopped.headers["x-interaction-id"]
                async with session.post(f"{gateway.url}/chat/{id_}/stop") as response:
                    assert response.status == 200
                assert b'"code":"stopped"' in await stopped.read()
                async with session.post(f"{gateway.url}/chat/{id_}/stop") as response:
                    assert response.status == 404
            assert await gateway.stop() == 0


async def test_an_answer_that_has_just_ended_is_found_through_any_worker_before_its_row_is_there(
    tmp_path: Path, database: str
) -> None:
    async with LoopbackUpstream() as upstream:
        two = GatewayProcess.upon(tmp_path, upstream.url, database, GATEWAY_WORKERS="2")
        async with two as gateway, fresh() as session:
            await until(lambda: sum(line["event"] == "listening" for line in gateway.log()) == 2)
            async with session.get(f"{gateway.url}/readyz") as response:
                assert (await response.json())["postgres"] == "ok"
            locking = await asyncpg.connect(database)
            async with locking.transaction():
                await locking.execute("lock table llm_logs.chatgpt_logs in exclusive mode")  # reads may pass
                async with session.post(f"{gateway.url}/chat", json=hello()) as response:
                    said = await response.json()

                async def found(number: int) -> dict[str, Any]:
                    path = f"/chat/{said['uuid']}" if number % 2 else "/checkchat"
                    call = (
                        session.get(gateway.url + path)
                        if number % 2
                        else session.post(gateway.url + path, json=hello())
                    )
                    async with call as response:
                        assert response.status == 200, await response.text()
                        one: dict[str, Any] = await response.json()
                        return one["response"] if number % 2 else one

                for one in await asyncio.gather(*map(found, range(2 * MANY))):
                    assert one == said
                async with session.get(f"{gateway.url}/chat/{uuid4()}") as response:
                    assert response.status == 404
                async with session.post(f"{gateway.url}/checkchat", json=hello(text="another one")) as response:
                    assert (response.status, (await response.json())["error"]["code"]) == (404, "not_found")
            await locking.close()
            assert await gateway.stop() == 0


async def test_a_joined_answer_of_a_worker_that_dies_is_cut_and_does_not_look_whole(
    tmp_path: Path, database: str
) -> None:
    steps = chat_stream("one two three four").steps
    async with LoopbackUpstream() as upstream:
        upstream.on = lambda _: Script([*steps[:4], WaitFor(asyncio.Event())])
        two = GatewayProcess.upon(tmp_path, upstream.url, database, GATEWAY_WORKERS="2")
        async with two as gateway, fresh() as session:
            await until(lambda: sum(line["event"] == "listening" for line in gateway.log()) == 2)
            first = await session.post(f"{gateway.url}/chat", json=hello(stream=True))
            path = f"{gateway.url}/chat/{first.headers['x-interaction-id']}/stream"
            joined = [await session.get(path) for _ in range(MANY)]
            (maker,) = [worker for worker in workers_of(gateway) if calls(worker, upstream.port)]
            maker.kill()
            for response in (first, *joined):
                with pytest.raises(aiohttp.ClientError):
                    await response.read()
            async with session.get(path) as response:
                assert response.status == 404


async def test_f2_one_worker_makes_the_link_and_each_takes_its_session(tmp_path: Path, database: str) -> None:
    async with LoopbackUpstream() as upstream:
        two = GatewayProcess.upon(tmp_path, upstream.url, database, GATEWAY_WORKERS="2")
        async with two as gateway:
            path = tmp_path / "data" / "open" / "link"
            await until(path.exists)
            await until(lambda: len([line for line in gateway.log() if line["event"] == "listening"]) == 2)
            link = path.read_text().strip()
            jar = aiohttp.CookieJar(unsafe=True)
            fresh = aiohttp.TCPConnector(force_close=True)  # the kernel chooses a worker for each connection
            async with aiohttp.ClientSession(cookie_jar=jar, connector=fresh) as session:
                used = await asyncio.gather(*(session.get(link, allow_redirects=False) for _ in range(12)))
                assert sorted(answer.status for answer in used) == [303, *[403] * 11]
                for _ in range(12):
                    async with session.get(f"{gateway.url}/live/search") as answer:
                        assert answer.status == 200
            assert await gateway.stop() == 0
            assert not path.exists()
