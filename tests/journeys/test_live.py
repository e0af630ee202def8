"""Watching a whole gateway: what any of its processes keeps is told once, and a stop keeps nobody waiting."""

from __future__ import annotations

import asyncio
import json
import time
from typing import TYPE_CHECKING, Any

import aiohttp

from tests.gateway_process import GatewayProcess
from tests.journeys.stage import hello
from tests.loopback import LoopbackUpstream, Script, WaitFor, chat_completion

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

ADMIN = "the-key-of-an-admin-who-reads-all-0123456789"
ENV = {"GATEWAY_WORKERS": "2", "GATEWAY_AUTH": "keys", "GATEWAY_ADMIN_KEY": ADMIN}
KEY = {"Authorization": f"Bearer {ADMIN}"}
MANY = 24  # requests, of which one worker alone gets all in one case of 2**23


async def told(response: aiohttp.ClientResponse) -> AsyncIterator[tuple[str, Any]]:
    """The events of a stream, each by its name and data, until it ends; but for what is under way."""
    while block := await response.content.readuntil(b"\n\n"):
        fields = dict(line.split(": ", 1) for line in block.decode().strip().split("\n") if not line.startswith(":"))
        if fields and fields["event"] != "underway":
            yield fields["event"], json.loads(fields["data"])


async def test_the_answers_of_all_workers_are_told_once_and_a_stop_ends_the_watch(
    tmp_path: Path, database: str
) -> None:
    async with (
        LoopbackUpstream() as upstream,
        GatewayProcess.upon(tmp_path, upstream.url, database, **ENV) as gateway,
        aiohttp.ClientSession(gateway.url, headers=KEY) as session,
        session.get("/live/events") as response,
    ):
        events = told(response)
        assert (await anext(events))[0] == "begun"

        async def say(number: int) -> None:
            # Each over a connection of its own, which the kernel gives to either process.
            asked = hello(f"number {number}")
            async with (
                aiohttp.ClientSession(gateway.url, headers=KEY) as caller,
                caller.post("/v1/chat/completions", json=asked) as answer,
            ):
                assert answer.status == 200

        await asyncio.gather(*(say(number) for number in range(40)))
        async with asyncio.timeout(30):
            asked = [(await anext(events))[1]["asked"] for _ in range(40)]
        assert sorted(asked) == sorted(f"number {number}" for number in range(40))

        began = time.monotonic()
        stopping = asyncio.create_task(gateway.stop())
        name, data = await anext(events)
        assert (name, data["code"]) == ("ended", "shutting_down")
        assert await response.content.read() == b""
        assert await stopping == 0
        assert time.monotonic() - began < 10  # of the 30 s that answers would have
        assert gateway.complaints() == []


async def test_what_each_worker_is_answering_is_told_by_any(tmp_path: Path, database: str) -> None:
    go, all_know = asyncio.Event(), asyncio.Barrier(4)
    async with (
        LoopbackUpstream() as upstream,
        GatewayProcess.upon(tmp_path, upstream.url, database, **ENV) as gateway,
        aiohttp.ClientSession(gateway.url, headers=KEY, connector=aiohttp.TCPConnector(force_close=True)) as session,
    ):
        upstream.on = lambda _: Script([WaitFor(go)]) + chat_completion("ok")

        async def ask() -> int:
            async with session.post("/v1/chat/completions", json=hello()) as answer:
                await answer.read()
                return answer.status

        async def watch() -> None:
            async with session.get("/live/events") as watched, asyncio.timeout(30):
                while len(await underway(watched)) != MANY:
                    pass
                await all_know.wait()
                go.set()
                while await underway(watched):
                    pass

        answers, _ = await asyncio.gather(
            asyncio.gather(*(ask() for _ in range(MANY))), asyncio.gather(*(watch() for _ in range(4)))
        )
        assert answers == [200] * MANY


async def underway(response: aiohttp.ClientResponse) -> list[Any]:
    """What is being answered, when that is told next."""
    while b"event: underway" not in (block := await response.content.readuntil(b"\n\n")):
        assert block, "the stream has ended"
    data: list[Any] = json.loads(block.partition(b"data: ")[2])["data"]
    return data
