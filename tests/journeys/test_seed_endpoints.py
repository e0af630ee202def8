"""What the seed's users do, through the real process: ask, lose the connection, find the answer, name it, tidy up."""

from __future__ import annotations

import asyncio
import json
import time
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import ClientSession

from tests.gateway_process import GatewayProcess
from tests.journeys.stage import Stage, hello, open_stage
from tests.loopback import LoopbackUpstream, chat_completion
from tests.postgres import PostgresServer, running_postgres

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

LONG = "tell me a long story " * 20


async def as_stage(folder: Path, dsn: str, *, pace: float = 0.0, **env: str) -> AsyncIterator[Stage]:
    async with LoopbackUpstream(pace=pace) as upstream:
        async for stage in open_stage(GatewayProcess.upon(folder, upstream.url, dsn, **env), upstream, dsn):
            yield stage


async def first_row(stage: Stage) -> dict[str, Any]:
    """The one chat in Postgres, once it is there."""
    deadline = time.monotonic() + 20
    while not (rows := await stage.fetch("select * from llm_logs.chatgpt_logs order by id limit 1")):
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)
    return rows[0]


async def test_a_day_with_the_first_runs_demo_model(tmp_path: Path, database: str) -> None:
    gateway = GatewayProcess(tmp_path, {"DATABASE_URL": database, "GATEWAY_DEMO_WORDS_PER_SECOND": "1000"})
    async with gateway, ClientSession(gateway.url) as session:

        async def ask(path: str, body: object = None) -> Any:
            async with session.request("GET" if body is None else "POST", path, json=body) as response:
                assert response.status == 200, await response.text()
                return await response.json()

        asked = {"model": "demo", "messages": [{"role": "user", "content": "write me a 1 sentence horror story"}]}
        chat = await ask("/chat", asked)
        root = {"root_id": chat["root_uuid"]}
        assert await ask("/checkchat", asked) == chat
        titled = await ask("/update_title_openai", root)
        assert titled["new_title"] == "write me a 1 sentence horror story"
        assert len(titled["new_title"]) <= 49
        metadata = (await ask("/metadata_check", root))["metadata"]
        assert 0 <= metadata["satisfaction_score"] <= 1
        (row,) = (await ask("/history_v2"))["Historical_Conversations"]
        assert (row["id"], row["convo_title"]) == (chat["uuid"], titled["new_title"])
        assert len((await ask("/history_v2?q=horror"))["Historical_Conversations"]) == 1
        await ask("/remove_convo", root)
        assert (await ask("/history_v2"))["Historical_Conversations"] == []
        await ask("/restore_convo", root)
        assert len((await ask("/history_v2"))["Historical_Conversations"]) == 1
        assert (await ask("/ping")) == {"message": "pong"}


async def test_an_answer_outlives_its_page_and_is_joined_by_the_next(tmp_path: Path, database: str) -> None:
    async for stage in as_stage(tmp_path, database, pace=0.03):
        raw = await stage.stream(LONG, path="/chat")
        await stage.upstream.wait_for_requests(1)
        await asyncio.sleep(0.3)
        await raw.close()
        (running,) = (await stage.ask("/chat/running", method="GET")).json()["data"]
        again = await stage.ask("/checkchat", hello(LONG, stream=True))
        assert (again.status, again.error["code"]) == (404, "still_running")
        joined = await stage.ask(f"/chat/{running['id']}/stream", method="GET")
        assert joined.data[-1] == "[DONE]"
        assert joined.text.startswith(f"You said: {LONG}".strip())
        found = await stage.ask("/checkchat", hello(LONG, stream=True))
        assert found.json()["choices"][0]["message"]["content"] == joined.text
        assert found.json()["uuid"] == running["id"]


async def test_after_a_crash_the_part_that_was_said_is_found(tmp_path: Path, database: str) -> None:
    async for stage in as_stage(tmp_path, database, pace=0.05):
        raw = await stage.stream(LONG, path="/chat")
        await stage.upstream.wait_for_requests(1)
        (running,) = (await stage.ask("/chat/running", method="GET")).json()["data"]
        await asyncio.sleep(1.0)
        await stage.gateway.kill()
        await raw.close()
        await stage.gateway.start()
        row = await first_row(stage)
        assert row["outcome"] == "interrupted"
        shown = (await stage.ask(f"/chat/{running['id']}", method="GET")).json()
        assert (shown["running"], shown["outcome"]) == (False, "interrupted")
        assert shown["response"]["choices"][0]["message"]["content"].startswith("You said")
        ended = await stage.ask("/checkchat", hello(LONG, stream=True))
        assert (ended.status, ended.error["code"]) == (409, "interrupted")


async def test_a_finished_answer_is_found_after_a_crash(tmp_path: Path, database: str) -> None:
    async for stage in as_stage(tmp_path, database):
        chat = await stage.chat("once", path="/chat")
        await stage.gateway.kill()
        await stage.gateway.start()
        await first_row(stage)
        assert (await stage.ask("/checkchat", hello("once"))).json() == chat.json()


@pytest.mark.timeout(180)
async def test_without_postgres_answers_are_found_and_a_title_waits_for_it(tmp_path: Path) -> None:
    with running_postgres({"max_connections": "200"}) as server:
        async for stage in as_stage(tmp_path, server.dsn, GATEWAY_DB_CONNECT_S="1"):
            await _without_postgres(stage, server)


async def _without_postgres(stage: Stage, server: PostgresServer) -> None:
    await stage.chat("before", path="/chat", root_id="talk")
    await first_row(stage)
    await asyncio.to_thread(server.stop)
    chat = await stage.chat("meanwhile", path="/chat", root_id="other")
    assert (await stage.ask("/checkchat", hello("meanwhile"))).body == chat.body
    title = {"root_id": "other", "convo_title": "Set when it was back"}
    for path, body in (("/update_title", title), ("/history", None), ("/history_v2", None)):
        away = await stage.ask(path, body, method="GET" if body is None else "POST")
        assert (away.status, away.error["code"]) == (503, "store_unavailable")
        assert away.headers["Retry-After"] == "1"
    await asyncio.to_thread(server.start)
    deadline = time.monotonic() + 30
    while (await stage.ask("/update_title", title)).status != 200:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.2)
    while not (rows := await stage.fetch("select convo_title from llm_logs.chatgpt_logs where root_gpt_id = 'other'")):
        assert time.monotonic() < deadline
        await asyncio.sleep(0.1)
    assert [row["convo_title"] for row in rows] == ["Set when it was back"]


async def test_titles_and_metadata_are_on_record_like_any_call(tmp_path: Path, database: str) -> None:
    async for stage in as_stage(tmp_path, database, GATEWAY_ASSISTANT_MODEL="small-one"):
        await stage.chat("write a story", path="/chat", root_id="talk")
        await first_row(stage)
        stage.upstream.script(chat_completion("A Story"))
        titled = await stage.ask("/update_title_openai", {"root_id": "talk"})
        assert titled.json()["new_title"] == "A Story"
        row = await stage.row(titled.request_id)
        assert (row["convo_title"], row["convo_show"], row["model"]) == ("summarizer", False, "small-one")
        line = await stage.line(titled.request_id)
        assert (line["path"], line["outcome"], line["model"]) == ("/update_title_openai", "complete", "small-one")
        assert "story" not in json.dumps(line).lower()


async def test_images_are_on_record_with_their_price(tmp_path: Path, database: str) -> None:
    async for stage in as_stage(tmp_path, database):
        made = await stage.ask("/image_gen", {"prompt": "a cat", "n": 2, "size": "256x256"})
        assert len(made.json()["data"]) == 2
        row = await stage.row(made.request_id)
        assert (row["table"], row["usage_cost"]) == ("image_logs", pytest.approx(0.032))
