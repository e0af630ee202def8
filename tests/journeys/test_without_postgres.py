"""Postgres is away: requests are served, readiness says so, and the rows come when it is back."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio

from tests.gateway_process import GatewayProcess
from tests.journeys.stage import Stage, hello, new_id
from tests.loopback import LoopbackUpstream, Script, WaitFor, chat_stream
from tests.polling import until
from tests.postgres import PostgresServer, running_postgres

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from tests.journeys.stage import Row

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    with running_postgres() as server:
        yield server


@pytest_asyncio.fixture(loop_scope="module")
async def alone(tmp_path: Path, server: PostgresServer) -> AsyncIterator[Stage]:
    """A gateway that is not yet started, and whose Postgres may be stopped."""
    await asyncio.to_thread(server.start) if server._embedded is None else None
    dsn = await asyncio.to_thread(server.create_database)
    async with LoopbackUpstream() as upstream:
        gateway = GatewayProcess.upon(tmp_path, upstream.url, dsn, GATEWAY_DB_CONNECT_S="1")
        stage = Stage(gateway, upstream, dsn)
        try:
            yield stage
        finally:
            if gateway.is_running:
                await gateway.kill()
            await stage.clear()
            await stage.aclose()


async def readiness(stage: Stage, postgres: str, within_s: float = 15.0) -> dict[str, Any]:
    """What /readyz says, once it says this of Postgres."""
    deadline = time.monotonic() + within_s
    while True:
        answer = await stage.ask("/readyz", method="GET")
        body: dict[str, Any] = answer.json()
        if body["postgres"] == postgres:
            assert answer.status == 200
            return body
        assert time.monotonic() < deadline, body
        await asyncio.sleep(0.1)


async def all_kinds(stage: Stage) -> list[str]:
    """One call of each kind, all of them served; their request ids."""
    answers = [
        await stage.chat("whole"),
        await stage.chat("streamed", stream=True),
        await stage.chat("seed", path="/chat"),
        await stage.ask("/v1/responses", {"model": "m", "input": "response"}),
        await stage.ask("/v1/images/generations", {"model": "m", "prompt": "x"}),
        await stage.ask("/v1/embeddings", {"model": "m", "input": "x"}),
    ]
    assert [answer.status for answer in answers] == [200] * len(answers)
    return [answer.request_id for answer in answers]


async def check_rows(stage: Stage, ids: list[str]) -> list[Row]:
    rows = [await stage.row(request_id, patience_s=20.0) for request_id in ids]
    assert {row["outcome"] for row in rows} == {"complete"}
    return rows


async def test_it_starts_without_postgres_and_ships_when_there_is_one(alone: Stage, server: PostgresServer) -> None:
    await asyncio.to_thread(server.stop)
    async with alone.gateway:
        body = await readiness(alone, "away")
        assert body["status"] == "ready"
        ids = await all_kinds(alone)
        body = await readiness(alone, "away")
        await asyncio.to_thread(server.start)
        await readiness(alone, "ok")
        rows = await check_rows(alone, ids)
        assert {row["table"] for row in rows} == {"chatgpt_logs", "image_logs", "api_logs"}
        assert await alone.gateway.stop() == 0
    assert list((alone.gateway.folder / "data/journal").glob("*/*.seg")) == []


async def test_a_schema_that_cannot_be_prepared_is_told_and_waited_for(alone: Stage, server: PostgresServer) -> None:
    await alone.fetch("create schema llm_logs")
    await alone.fetch("create view llm_logs.chatgpt_logs as select 1 as id")  # somebody else's, in our place
    await alone.aclose()
    await asyncio.to_thread(server.stop)
    async with alone.gateway:
        await readiness(alone, "away")
        await asyncio.to_thread(server.start)
        body = await readiness(alone, "unprepared")
        assert body["status"] == "ready"
        answer = await alone.chat("Is anybody listening?")
        assert answer.status == 200
        await alone.fetch("drop view llm_logs.chatgpt_logs")
        await readiness(alone, "ok")
        await check_rows(alone, [answer.request_id])


@pytest.mark.stopwatch
async def test_it_serves_on_when_postgres_goes_and_ships_when_it_comes_back(
    alone: Stage, server: PostgresServer
) -> None:
    go_on, request_id = asyncio.Event(), new_id()
    async with alone.gateway:
        before = await all_kinds(alone)
        await check_rows(alone, before)
        steps = chat_stream("one two three four").steps
        alone.upstream.script(Script([*steps[:4], WaitFor(go_on), *steps[4:]]))
        raw = await alone.stream(request_id=request_id)
        await raw.answer()
        await raw.until(b"two")
        await asyncio.to_thread(server.stop)
        await readiness(alone, "away")
        began = time.monotonic()
        during = await all_kinds(alone)
        assert time.monotonic() - began < 2.0
        go_on.set()
        assert (await raw.body()).endswith(b"data: [DONE]\n\n")
        await asyncio.to_thread(server.start)
        await readiness(alone, "ok")
        await check_rows(alone, [*before, request_id, *during])
        count = await alone.fetch("select count(*) from llm_logs.chatgpt_logs")
        assert count == [{"count": 9}]


@pytest.mark.parametrize("end", ["stopped", "killed"])
async def test_what_was_said_while_postgres_was_away_outlives_the_gateway(
    alone: Stage, server: PostgresServer, end: str
) -> None:
    await asyncio.to_thread(server.stop)
    async with alone.gateway:
        ids = await all_kinds(alone)
        if end == "stopped":
            async with asyncio.timeout(20):
                assert await alone.gateway.stop() == 0
        else:
            await alone.gateway.kill()
        assert list((alone.gateway.folder / "data/journal").glob("*/*.seg"))
        await asyncio.to_thread(server.start)
        await alone.gateway.start()
        await check_rows(alone, ids)
        assert (await alone.ask("/v1/chat/completions", hello())).status == 200
        journals = alone.gateway.folder / "data/journal"
        await until(lambda: len({path.parent for path in journals.glob("*/*.seg")}) <= 1)  # the others are kept
        assert await alone.gateway.stop() == 0
    assert list((alone.gateway.folder / "data/journal").glob("*/*.seg")) == []
