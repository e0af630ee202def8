"""The real gateway with an unreliable monitor and kill -9: no submission is lost, the order holds."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections import defaultdict
from typing import TYPE_CHECKING, Any

import aiohttp
import asyncpg
import pytest

from tests.gateway_process import GatewayProcess
from tests.loopback import LoopbackUpstream
from tests.polling import until
from tests.submissions.monitors import TROUBLES, LoopbackMonitor, slow

if TYPE_CHECKING:
    from pathlib import Path

    from tests.loopback import Script

TURNS = 5


class Talkers:
    """People in conversations, one question after the other, known by their messages, a header or a field."""

    def __init__(self, url: str, count: int) -> None:
        self._url = url
        self._count = count
        self._stopping = asyncio.Event()
        self._random = random.Random(5)
        self.whole = 0
        self.slowest_s = 0.0

    async def __aenter__(self) -> Talkers:
        self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(30))
        self._tasks = [asyncio.create_task(self._talk_on(number)) for number in range(self._count)]
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()
        await self._session.close()

    async def stop(self) -> None:
        self._stopping.set()
        await asyncio.gather(*self._tasks)

    async def _talk_on(self, number: int) -> None:
        for talk in range(1_000_000):
            style = ("plain", "header", "seed")[(number + talk) % 3]
            messages: list[dict[str, Any]] = []
            root: str | None = f"talk {number}-{talk}" if style == "header" else None
            for turn in range(TURNS):
                messages.append({"role": "user", "content": f"{style} {number} {talk} {turn}"})
                while (said := await self._ask(style, messages, root)) is None:
                    if self._stopping.is_set():
                        return
                    await asyncio.sleep(0.1)
                messages.append(said["choices"][0]["message"])
                root = said.get("root_uuid", root)
                if self._stopping.is_set():
                    return

    async def _ask(self, style: str, messages: list[dict[str, Any]], root: str | None) -> dict[str, Any] | None:
        body: dict[str, Any] = {"model": "m", "messages": messages}
        if style == "seed" and root:
            body["root_id"] = root
        headers = {"x-conversation-id": root} if style == "header" and root else {}
        path = "/chat" if style == "seed" else "/v1/chat/completions"
        began = time.monotonic()
        try:
            async with self._session.post(self._url + path, json=body, headers=headers) as response:
                said = await response.json()
        except (aiohttp.ClientError, OSError, ValueError):
            return None
        if response.status != 200:
            return None
        self.whole += 1
        self.slowest_s = max(self.slowest_s, time.monotonic() - began)
        return dict(said)


async def rows_of(dsn: str) -> list[asyncpg.Record]:
    connection = await asyncpg.connect(dsn)
    try:
        return await connection.fetch("select id::text, root_gpt_id, outcome from llm_logs.chatgpt_logs order by id")
    finally:
        await connection.close()


async def settled(dsn: str, monitor: LoopbackMonitor, timeout_s: float = 60.0) -> list[asyncpg.Record]:
    """The rows, once the monitor has as many and no more come."""
    deadline, before = time.monotonic() + timeout_s, -1
    while True:
        rows = await rows_of(dsn)
        if (len(rows) == len(monitor.ids) == before) or time.monotonic() > deadline:
            return rows
        before = len(rows)
        await asyncio.sleep(0.5)


def assert_all_in_order(rows: list[asyncpg.Record], monitor: LoopbackMonitor) -> None:
    """The monitor has every row there is, and each conversation's in the order in which they were asked."""
    ids = monitor.ids
    assert set(ids) == {row["id"] for row in rows}
    place = {id: number for number, id in enumerate(ids)}
    conversations: dict[str, list[int]] = defaultdict(list)
    for row in rows:
        conversations[row["root_gpt_id"]].append(place[row["id"]])
    assert max(map(len, conversations.values())) > 1
    wrong = [root for root, places in conversations.items() if places != sorted(places)]
    assert wrong == []


def watched(tmp_path: Path, upstream: LoopbackUpstream, database: str, monitor: LoopbackMonitor) -> GatewayProcess:
    return GatewayProcess.upon(
        tmp_path,
        upstream.url,
        database,
        ENABLE_SUBMISSIONS_API="true",
        SUBMISSIONS_API_URL=monitor.url,
        SUBMISSIONS_API_AUTHORIZATION="Bearer for-the-monitor",
        GATEWAY_SUBMISSIONS_TIMEOUT_S="0.5",
    )


async def change_moods(monitor: LoopbackMonitor, chance: random.Random) -> None:
    def trouble(name: str, share: float) -> Script | None:
        return TROUBLES[name]() if chance.random() < share else None

    while True:
        name, share = chance.choice([*TROUBLES]), chance.choice((0.0, 0.2, 0.6, 1.0))
        monitor.mood = lambda _told, name=name, share=share: trouble(name, share)  # type: ignore[misc]
        await asyncio.sleep(chance.uniform(0.2, 1.5))


@pytest.mark.timeout(900)
async def test_an_unreliable_monitor_and_kill_9_lose_nothing_and_keep_the_order(
    tmp_path: Path, database: str, is_long: bool
) -> None:
    chance = random.Random(9)
    async with LoopbackUpstream(pace=0.005) as upstream, LoopbackMonitor() as monitor:
        async with watched(tmp_path, upstream, database, monitor) as gateway, Talkers(gateway.url, 12) as talkers:
            moodiness = asyncio.create_task(change_moods(monitor, chance))
            for _ in range(60 if is_long else 5):
                await asyncio.sleep(chance.uniform(0.3, 1.5))
                await gateway.kill()
                await gateway.start()
            await asyncio.sleep(1.0)
            await talkers.stop()
            moodiness.cancel()
            monitor.mood = lambda _told: None
            rows = await settled(database, monitor)
            assert await gateway.stop() == 0
        assert_all_in_order(rows, monitor)
        assert talkers.whole > 50
        assert {row["outcome"] for row in rows} == {"complete", "interrupted"}
        told = {one["outcome"] for one in monitor.taken}
        assert told == {"complete", "interrupted"}
        print(f"\n{len(rows)} rows, {len(monitor.asked)} calls, {len(monitor.taken) - len(rows)} duplicates")
    assert list((tmp_path / "data" / "journal").glob("*/*.seg")) == []
    assert not (tmp_path / "data" / "journal" / "dead_letters").exists()


@pytest.mark.timeout(300)
async def test_a_monitor_that_is_away_for_a_minute_gets_what_it_missed(
    tmp_path: Path, database: str, is_long: bool
) -> None:
    async with LoopbackUpstream(pace=0.002) as upstream, LoopbackMonitor() as monitor:
        async with watched(tmp_path, upstream, database, monitor) as gateway, Talkers(gateway.url, 6) as talkers:
            await asyncio.sleep(0.5)
            await monitor.go_away()
            await asyncio.sleep(30 if is_long else 1.5)
            ready = await readiness(gateway)
            assert ready["status"] == "ready"
            assert ready["submissions"]["monitor"] == "away"
            assert "Connect" in ready["submissions"]["fault"]
            assert ready["journal"]["pending_for"]["submissions"] > 0
            await gateway.kill()
            await gateway.start()
            await asyncio.sleep(30 if is_long else 1.5)
            await talkers.stop()
            missed = len(await rows_of(database)) - len(monitor.ids)
            await monitor.come_back()
            rows = await settled(database, monitor)
            ready = await readiness(gateway)
            assert ready["submissions"]["monitor"] == "ok"
            assert ready["submissions"]["waiting"] == ready["submissions"]["dead_letters"] == 0
            events = [line["event"] for line in gateway.log()]
            assert "monitor_is_away" in events
            assert "monitor_is_back" in events
            assert await gateway.stop() == 0
        assert missed > 20
        assert_all_in_order(rows, monitor)
        request = monitor.requests[-1]
        assert request.header("Authorization") == "Bearer for-the-monitor"
        assert request.header("Idempotency-Key") == json.loads(request.body)["interaction_id"]
        log = gateway.log_path.read_text()
        assert "for-the-monitor" not in log
        assert "let-me-in" not in log


async def readiness(gateway: GatewayProcess) -> dict[str, Any]:
    async with aiohttp.ClientSession() as session, session.get(f"{gateway.url}/readyz") as response:
        return dict(await response.json())


@pytest.mark.stopwatch
async def test_a_monitor_that_hangs_delays_nobody(tmp_path: Path, database: str) -> None:
    async with LoopbackUpstream() as upstream, LoopbackMonitor() as monitor:
        monitor.mood = lambda _told: slow(60)
        async with watched(tmp_path, upstream, database, monitor) as gateway, Talkers(gateway.url, 4) as talkers:
            await asyncio.sleep(3)
            await talkers.stop()
            assert len(monitor.asked) > 0
            assert talkers.whole > 50
            assert talkers.slowest_s < 1.0


async def test_images_and_refused_calls_are_submitted_too(tmp_path: Path, database: str) -> None:
    async with LoopbackUpstream() as upstream, LoopbackMonitor() as monitor:
        async with watched(tmp_path, upstream, database, monitor) as gateway, aiohttp.ClientSession() as session:
            for path, body in (
                ("/v1/images/generations", {"prompt": "a cat"}),
                ("/v1/responses", {"model": "m", "input": "hello"}),
                (
                    "/v1/chat/completions",
                    {"model": "m", "stream": True, "messages": [{"role": "user", "content": "x"}]},
                ),
                ("/v1/models/nothing-like-it", None),
            ):
                method = "GET" if body is None else "POST"
                async with session.request(method, gateway.url + path, json=body) as answered:
                    await answered.read()
            await until(lambda: len(monitor.ids) == 4)
            assert await gateway.stop() == 0
        image, response, stream, missing = sorted(monitor.taken, key=lambda one: one["interaction_id"])
        assert image["raw_response"]["data"][0]["b64_json"]
        assert response["raw_request"]["input"] == "hello"
        assert response["raw_response"]["object"] == "response"
        assert stream["raw_response"]["object"] == "chat.completion"  # put together from its stream
        assert missing["raw_request"] is None
        assert missing["raw_response"]["error"]["code"] == "model_not_found"
        assert {one["llm_provider"] for one in monitor.taken} == {image["llm_provider"]}


async def test_the_monitor_need_not_wait_for_postgres(tmp_path: Path) -> None:
    nowhere = "postgresql://nobody@127.0.0.1:1/nothing"
    async with (
        LoopbackUpstream() as upstream,
        LoopbackMonitor() as monitor,
        watched(tmp_path, upstream, nowhere, monitor) as gateway,
        Talkers(gateway.url, 2),
    ):
        await until(lambda: len(monitor.ids) >= 5, timeout_s=20)
