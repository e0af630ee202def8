"""Answers found again: what /chat answered, to whom it answered it, from memory or from Postgres."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest

from tests.edge.app import hello, house
from tests.loopback import Pause, Script, WaitFor, chat_completion, cut_before_head, cut_completion, error

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.edge.app import House


@asynccontextmanager
async def two(folder: Path, dsn: str, *, pace: float = 0.0) -> AsyncIterator[tuple[House, House]]:
    """Two gateways with one Postgres: what the second knows, it knows from there."""
    async with house(folder / "one", dsn, pace=pace) as one, house(folder / "two", dsn) as other:
        yield one, other


def slowly(text: str, seconds: float = 0.4) -> Script:
    return Script([Pause(seconds)]) + chat_completion(text)


async def test_a_recovered_answer_has_the_bytes_of_chat(tmp_path: Path, database: str) -> None:
    async with house(tmp_path, database) as it:
        chat = await it.chat("once")
        found = await it.ask("/checkchat", hello("once"))
        assert (found.status, found.body) == (200, chat.body)
        assert found.headers["x-interaction-id"] == chat.json()["uuid"]
        assert found.headers["Cache-Control"] == "no-store"


async def test_the_order_of_members_and_the_gateways_own_fields_do_not_matter(tmp_path: Path, database: str) -> None:
    async with house(tmp_path, database) as it:
        chat = await it.chat("once", temperature=1, convo_title="A title")
        turned = dict(reversed(hello("once", temperature=1).items()))
        assert (await it.ask("/checkchat", turned)).body == chat.body


async def test_a_streamed_answer_is_found_whole(tmp_path: Path, database: str) -> None:
    async with house(tmp_path, database) as it:
        stream = await it.chat("once", stream=True)
        found = (await it.ask("/checkchat", hello("once", stream=True))).json()
        assert found["object"] == "chat.completion"
        assert found["choices"][0]["message"]["content"].startswith("You said: once")
        assert found["uuid"] == stream.headers["x-interaction-id"]
        assert found["root_uuid"] == stream.headers["x-conversation-id"]


async def test_an_answer_of_another_process_is_found_in_postgres(tmp_path: Path, database: str) -> None:
    async with two(tmp_path, database) as (it, other):
        chat = await it.chat("once \u00e9\U0001f600", temperature=0.5, root_id='a "root"\\')
        await it.rows(1)
        found = await other.ask("/checkchat", hello("once \u00e9\U0001f600", temperature=0.5))
        assert found.status == 200
        assert found.json() == chat.json()
        assert found.json()["root_uuid"] == 'a "root"\\'


async def test_a_request_that_jsonb_cannot_hold_is_found(tmp_path: Path, database: str) -> None:
    async with two(tmp_path, database) as (it, other):
        asked = hello("a NUL \x00 and half a pair \ud83d", seed=2**70)
        chat = await it.ask("/chat", asked)
        assert chat.status == 200
        assert (await it.ask("/checkchat", asked)).json() == chat.json()
        await it.rows(1)
        assert (await other.ask("/checkchat", asked)).json() == chat.json()


async def test_a_running_answer_gives_still_running(tmp_path: Path, database: str) -> None:
    async with house(tmp_path, database) as it:
        it.upstream.script(slowly("slow"))
        asking = asyncio.create_task(it.ask("/chat", hello("slow")))
        await it.upstream.wait_for_requests(1)
        running = await it.ask("/checkchat", hello("slow"))
        assert (running.status, running.code, running.headers["Retry-After"]) == (404, "still_running", "1")
        assert "x-should-retry" not in running.headers
        other = await it.ask("/checkchat", hello("slow"), by="bob")
        assert (other.status, other.code) == (404, "not_found")
        assert (await it.ask("/checkchat", hello("another"))).code == "not_found"
        assert (await it.ask("/checkchat", hello("slow", root_id=str(uuid4())))).code == "not_found"
        chat = await asking
        assert (await it.ask("/checkchat", hello("slow"))).body == chat.body


async def test_a_caller_who_left_finds_its_answer(tmp_path: Path, database: str) -> None:
    async with house(tmp_path, database) as it:
        it.upstream.script(slowly("late"))
        asking = asyncio.create_task(it.ask("/chat", hello("hasty")))
        await it.upstream.wait_for_requests(1)
        asking.cancel()
        for _ in range(100):
            found = await it.ask("/checkchat", hello("hasty"))
            if found.status == 200:
                break
            assert found.code == "still_running"
            await asyncio.sleep(0.02)
        assert found.json()["choices"][0]["message"]["content"] == "late"
        (row,) = await it.rows(1)
        assert row["response"] == found.json()


async def test_no_user_finds_an_answer_of_another_user(tmp_path: Path, database: str) -> None:
    async with two(tmp_path, database) as (it, other):
        await it.chat("secret")
        await it.rows(1)
        for each in (it, other):
            for by in ("bob", "eve/auditors", "root/admins"):
                found = await each.ask("/checkchat", hello("secret"), by=by)
                assert (found.status, found.code) == (404, "not_found")


async def test_the_newest_answer_counts_and_with_root_id_that_of_the_conversation(
    tmp_path: Path, database: str
) -> None:
    async with two(tmp_path, database) as (it, other):
        first = await it.chat("again", root_id="one")
        second = await it.chat("again", root_id="two")
        await it.rows(2)
        for each in (it, other):
            assert (await each.ask("/checkchat", hello("again"))).json() == second.json()
            assert (await each.ask("/checkchat", hello("again", root_id="one"))).json() == first.json()
            named = await each.ask("/checkchat", hello("again"), headers={"x-conversation-id": "one"})
            assert named.json() == first.json()


async def test_an_answer_that_is_older_than_fifteen_minutes_is_not_found(tmp_path: Path, database: str) -> None:
    async with two(tmp_path, database) as (it, other):
        await it.chat("old")
        await it.rows(1)
        await it.fetch("update llm_logs.chatgpt_logs set response_time = response_time - interval '16 minutes'")
        assert (await other.ask("/checkchat", hello("old"))).code == "not_found"


async def test_answers_of_the_openai_endpoint_are_not_those_of_chat(tmp_path: Path, database: str) -> None:
    async with house(tmp_path, database) as it:
        await it.ask("/v1/chat/completions", hello("elsewhere"))
        await it.rows(1)
        assert (await it.ask("/checkchat", hello("elsewhere"))).code == "not_found"


async def test_a_failed_answer_is_final(tmp_path: Path, database: str) -> None:
    async with two(tmp_path, database) as (it, other):
        it.upstream.script(error(429, message="too much"), cut_completion(60))
        assert (await it.ask("/chat", hello("fails"))).status == 429
        cut = await it.ask("/chat", hello("cut"))
        assert cut.status == 502
        await it.rows(2)
        for each in (it, other):
            failed = await each.ask("/checkchat", hello("fails"))
            assert (failed.status, failed.code) == (409, "upstream_error")
            assert failed.headers["x-should-retry"] == "false"
            assert (await each.ask("/checkchat", hello("cut"))).code == "truncated"


async def test_a_successful_retry_replaces_a_failure(tmp_path: Path, database: str) -> None:
    async with house(tmp_path, database) as it:
        it.upstream.script(error(500, message="no"))
        assert (await it.ask("/chat", hello("twice"))).status == 500
        second = await it.chat("twice")
        assert (await it.ask("/checkchat", hello("twice"))).body == second.body


async def test_another_processes_answer_counts_when_it_is_newer_than_a_failure_here(
    tmp_path: Path, database: str
) -> None:
    async with two(tmp_path, database) as (one, other):
        one.upstream.script(error(500, message="no"))
        await one.ask("/chat", hello("twice"))
        second = await other.chat("twice")
        await one.rows(2)
        assert (await one.ask("/checkchat", hello("twice"))).json() == second.json()


async def test_a_wrong_body_is_refused_as_chat_does(tmp_path: Path, database: str) -> None:
    async with house(tmp_path, database) as it:
        assert (await it.ask("/checkchat", [])).status == 400
        broken = await it.ask("/checkchat", method="POST", data=b"{", headers={"Content-Type": "application/json"})
        assert (broken.status, broken.code) == (400, "malformed_body")


# --- by id ---


async def test_a_running_or_ended_interaction_is_found_by_its_id(tmp_path: Path, database: str) -> None:
    async with two(tmp_path, database) as (it, other):
        it.upstream.script(slowly("said"))
        asking = asyncio.create_task(it.ask("/chat", hello("question", root_id="talk")))
        await it.upstream.wait_for_requests(1)
        (running,) = (await it.ask("/chat/running")).json()["data"]
        shown = (await it.ask(f"/chat/{running['id']}")).json()
        assert shown["running"] is True
        assert (shown["outcome"], shown["response"], shown["root_uuid"]) == (None, None, "talk")
        chat = (await asking).json()
        await it.rows(1)
        for each in (it, other):
            over = (await each.ask(f"/chat/{running['id']}")).json()
            assert over["response"] == chat
            assert (over["running"], over["outcome"], over["error"]) == (False, "complete", None)
            assert over["model"] == "loopback-1"
            assert over["started_at"] == pytest.approx(running["started_at"], abs=1e-3)


async def test_the_part_of_a_stopped_answer_is_shown(tmp_path: Path, database: str) -> None:
    async with two(tmp_path, database, pace=0.05) as (it, other):
        async with it.open("/chat", hello("go on " * 30, stream=True)) as stream:
            interaction_id = stream.headers["x-interaction-id"]
            await asyncio.sleep(0.4)
            assert (await it.ask(f"/chat/{interaction_id}/stop", method="POST")).status == 200
            await stream.read()
        assert (await it.ask("/checkchat", hello("go on " * 30, stream=True))).code == "client_cancelled"
        await it.rows(1)
        for each in (it, other):
            shown = (await each.ask(f"/chat/{interaction_id}")).json()
            assert shown["outcome"] == "client_cancelled"
            assert shown["response"]["choices"][0]["message"]["content"].startswith("You said")
            assert shown["response"]["choices"][0]["finish_reason"] is None


async def test_interactions_of_other_users_look_missing(tmp_path: Path, database: str) -> None:
    async with two(tmp_path, database) as (it, other):
        theirs = (await it.chat("secret")).json()["uuid"]
        await it.rows(1)
        for each in (it, other):
            there_is_one = await each.ask(f"/chat/{theirs}", by="bob")
            there_is_none = await each.ask(f"/chat/{uuid4()}", by="bob")
            no_id = await each.ask("/chat/nonsense", by="bob")
            assert there_is_one.body == there_is_none.body == no_id.body
            assert there_is_one.status == there_is_none.status == no_id.status == 404
        assert (await it.ask(f"/chat/{theirs}", by="eve/auditors")).status == 200


async def test_any_chat_of_the_caller_is_found_by_its_id(tmp_path: Path, database: str) -> None:
    async with house(tmp_path, database) as it:
        chat = await it.ask("/v1/chat/completions", hello("elsewhere"))
        await it.rows(1)
        shown = await it.ask(f"/chat/{chat.headers['x-interaction-id']}")
        assert shown.json()["response"] == chat.json()


async def test_an_answer_that_never_came_is_null(tmp_path: Path, database: str) -> None:
    async with house(tmp_path, database) as it:
        it.upstream.script(cut_before_head(), cut_before_head())
        chat = await it.ask("/chat", hello())
        assert chat.status == 502
        (row,) = await it.rows(1)
        shown = (await it.ask(f"/chat/{row['id']}")).json()
        assert (shown["outcome"], shown["response"]) == ("upstream_error", None)
        assert shown["error"]


async def test_names_that_no_json_can_hold_are_shown_as_they_are_stored(tmp_path: Path, database: str) -> None:
    go = asyncio.Event()
    asked = b'{"model":"m\\ud800","root_id":"r\\ud800","messages":[{"role":"user","content":"hi"}]}'
    headers = {"X-User": "ann", "Content-Type": "application/json"}
    async with house(tmp_path, database) as it:
        it.upstream.on = lambda _: Script([WaitFor(go)]) + chat_completion("ok")
        asking = asyncio.create_task(it.ask("/chat", by="ann", method="POST", data=asked, headers=headers))
        async with asyncio.timeout(10):
            while not (running := (await it.ask("/chat/running")).json()["data"]):
                await asyncio.sleep(0.01)
        assert (running[0]["model"], running[0]["root_id"]) == ("m\\ud800", "r\\ud800")
        again = await it.ask("/checkchat", by="ann", method="POST", data=asked, headers=headers)
        assert again.code == "still_running"
        path = f"/chat/{running[0]['id']}"
        assert (await it.ask(path)).json()["model"] == "m\\ud800"
        go.set()
        assert (await asking).status == 200
        recent = (await it.ask(path)).json()
        assert (recent["running"], recent["model"], recent["root_uuid"]) == (False, "m\\ud800", "r\\ud800")
        await it.rows(1)
    async with house(tmp_path / "another", database) as it:  # which has the row alone
        stored = (await it.ask(path)).json()
        assert stored | {"started_at": recent["started_at"]} == recent  # the row's is exact to the microsecond
