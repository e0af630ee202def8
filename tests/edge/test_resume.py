"""Answers that are being made are listed, and joined from their beginning; the memory for that is bounded."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING
from uuid import uuid4

from gateway.edge.http.app_keys import REPLAY_BUDGET
from gateway.in_flight.replay import MemoryBudget, ReplayBuffer
from tests.edge.app import hello, house
from tests.loopback import Pause, Script, WaitFor, chat_completion, chat_stream, cut_before_head, stall_after

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

    from tests.edge.app import Answer, House

LONG = "tell me a long story " * 20


async def running_id(it: House, by: str = "ann") -> str:
    """Of the one answer that is being made."""
    async with asyncio.timeout(5):
        while not (data := (await it.ask("/chat/running", by=by)).json()["data"]):
            await asyncio.sleep(0.01)
    (one,) = data
    return str(one["id"])


async def joined(it: House, interaction_id: str, by: str = "ann") -> Answer:
    return await it.ask(f"/chat/{interaction_id}/stream", by=by)


async def test_a_client_that_resumes_late_gets_the_same_bytes(tmp_path: Path, database: str) -> None:
    async with house(tmp_path, database, pace=0.02) as it:
        first = asyncio.create_task(it.chat(LONG, stream=True, root_id="talk"))
        interaction_id = await running_id(it)
        await asyncio.sleep(0.3)
        followers = [asyncio.create_task(joined(it, interaction_id))]
        await asyncio.sleep(0.3)
        followers.append(asyncio.create_task(joined(it, interaction_id)))
        told = await first
        assert told.body.endswith(b"data: [DONE]\n\n")
        for follower in followers:
            answer = await follower
            assert answer.status == 200
            assert answer.body == told.body
            assert answer.headers["Content-Type"] == "text/event-stream; charset=utf-8"
            assert answer.headers["x-interaction-id"] == interaction_id
            assert answer.headers["x-conversation-id"] == "talk"
            assert answer.headers["x-request-id"] != told.headers["x-request-id"]


async def test_a_reloaded_page_resumes_its_answer(tmp_path: Path, database: str) -> None:
    async with house(tmp_path, database, pace=0.02) as it:
        async with it.open("/chat", hello(LONG, stream=True)) as stream:
            await stream.content.readany()
            interaction_id = stream.headers["x-interaction-id"]
            stream.close()
        assert await running_id(it) == interaction_id
        told = await joined(it, interaction_id)
        assert told.body.endswith(b"data: [DONE]\n\n")
        assert LONG.encode().strip() in b"".join(
            line.partition(b'"content":"')[2].partition(b'"')[0] for line in told.body.split(b"\n")
        ).replace(b"\\n", b"\n")
        (row,) = await it.rows(1)
        assert row["outcome"] == "complete"


async def test_running_answers_are_listed_for_their_caller_only(tmp_path: Path, database: str) -> None:
    async with house(tmp_path, database) as it:
        go = asyncio.Event()
        it.upstream.script(Script([WaitFor(go)]) + chat_completion("ok"), Script([WaitFor(go)]) + chat_stream("ok"))
        asking = [
            asyncio.create_task(it.chat("one", root_id="talk")),
            asyncio.create_task(it.chat("two", by="bob", stream=True)),
        ]
        await it.upstream.wait_for_requests(2)
        (hers,) = (await it.ask("/chat/running")).json()["data"]
        assert hers["root_id"] == "talk"
        assert hers["model"] == "loopback-1"
        assert hers["stream"] is False
        assert (
            abs(hers["started_at"] - (await it.fetch("select extract(epoch from now())::float8 as now"))[0]["now"]) < 5
        )
        (his,) = (await it.ask("/chat/running", by="bob")).json()["data"]
        assert his["stream"] is True
        assert (await it.ask("/chat/running", by="eve/auditors,admins")).json()["data"] == []
        for by in ("ann", "eve/auditors,admins"):
            strange = await joined(it, his["id"], by=by)
            made_up = await joined(it, str(uuid4()), by=by)
            assert (strange.status, strange.body) == (404, made_up.body)
            stopped = await it.ask(f"/chat/{his['id']}/stop", by=by, method="POST")
            assert (stopped.status, stopped.body) == (404, made_up.body)
        no_stream = await joined(it, hers["id"])
        assert (no_stream.status, no_stream.code) == (400, "not_a_stream")
        go.set()
        await asyncio.gather(*asking)
        assert (await it.ask("/chat/running")).json() == {"object": "list", "data": []}


async def test_a_client_that_resumes_before_the_first_event_waits_for_it(tmp_path: Path, database: str) -> None:
    async with house(tmp_path, database) as it:
        it.upstream.script(Script([Pause(0.4)]) + chat_stream("slow to begin"))
        first = asyncio.create_task(it.chat("hm", stream=True))
        follower = asyncio.create_task(joined(it, await running_id(it)))
        assert (await follower).body == (await first).body


async def test_an_answer_that_fails_before_it_begins_has_its_own_status(tmp_path: Path, database: str) -> None:
    async with house(tmp_path, database) as it:
        gone = Script([Pause(0.3)]) + cut_before_head()
        it.upstream.script(gone, gone)
        first = asyncio.create_task(it.ask("/chat", hello("hm", stream=True)))
        follower = await joined(it, await running_id(it))
        assert (follower.status, follower.code) == (502, "upstream_unreachable")
        assert (await first).status == 502


async def test_a_stopped_answer_ends_for_all_clients(tmp_path: Path, database: str) -> None:
    async with house(tmp_path, database, pace=0.05) as it:
        first = asyncio.create_task(it.ask("/chat", hello(LONG, stream=True)))
        interaction_id = await running_id(it)
        follower = asyncio.create_task(joined(it, interaction_id))
        await asyncio.sleep(0.4)
        assert (await it.ask(f"/chat/{interaction_id}/stop", method="POST")).status == 200
        assert (await follower).body == (await first).body
        assert b'"code":"stopped"' in (await follower).body
        assert (await joined(it, interaction_id)).status == 404


async def test_a_silent_answer_has_heartbeats_for_followers(tmp_path: Path, database: str) -> None:
    async with house(tmp_path, database, GATEWAY_HEARTBEAT_S="0.2", GATEWAY_UPSTREAM_STALL_S="1.2") as it:
        it.upstream.script(stall_after(2))
        first = asyncio.create_task(it.ask("/chat", hello("hm", stream=True)))
        told = await joined(it, await running_id(it))
        assert told.body.count(b": heartbeat\n") >= 2
        assert b'"code":"upstream_timeout"' in told.body
        await first


async def test_a_follower_who_leaves_disturbs_nobody(tmp_path: Path, database: str) -> None:
    async with house(tmp_path, database, pace=0.02) as it:
        first = asyncio.create_task(it.chat(LONG, stream=True))
        interaction_id = await running_id(it)
        async with it.open(f"/chat/{interaction_id}/stream") as stream:
            await stream.content.readany()
            stream.close()
        assert (await first).body.endswith(b"data: [DONE]\n\n")


async def test_replay_memory_is_released(tmp_path: Path, database: str) -> None:
    async with house(tmp_path, database) as it:
        before = it.app[REPLAY_BUDGET]._left
        for number in range(5):
            await it.chat(f"{number}", stream=True)
        assert it.app[REPLAY_BUDGET]._left == before


async def test_an_answer_too_large_for_the_replay_buffer_cannot_be_resumed(
    tmp_path: Path, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with house(tmp_path, database, pace=0.02) as it:
        monkeypatch.setitem(it.app._state, REPLAY_BUDGET, MemoryBudget(most=2000))
        first = asyncio.create_task(it.chat(LONG, stream=True))
        interaction_id = await running_id(it)
        await asyncio.sleep(0.5)
        late = await joined(it, interaction_id)
        assert (late.status, late.code) == (404, "not_found")
        assert (await first).body.endswith(b"data: [DONE]\n\n")


def test_replay_buffers_share_a_budget_that_is_never_exceeded() -> None:
    room = MemoryBudget(most=100)
    first, second = ReplayBuffer(room), ReplayBuffer(room, most=50)
    first.add(b"x" * 60)
    second.add(b"y" * 40)
    first.add(b"x")
    assert first.is_lost
    assert first.text == b""
    second.add(b"y" * 10)
    assert second.text == b"y" * 50
    second.add(b"y")
    assert second.is_lost
    first.close()
    second.close()
    second.close()
    assert room.take(100)
    assert not room.take(1)
