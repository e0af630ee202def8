"""Titles and metadata by a model: asked through the exchange, on record, checked, and stored."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from gateway.dialects.summaries import METADATA_INSTRUCTIONS, TITLE_INSTRUCTIONS
from tests.dialects.test_summaries import GOOD
from tests.edge.app import house
from tests.loopback import chat_completion, chat_stream, cut_completion, error, json_answer

if TYPE_CHECKING:
    from pathlib import Path

    from tests.edge.app import House
    from tests.loopback import Request


def asked_of(request: Request) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(request.body)
    return body


async def context(it: House, **more: Any) -> str:
    """A conversation in Postgres; its id."""
    await it.chat("write me a 1 sentence horror story", root_id="talk", **more)
    await it.rows(1)
    return "talk"


async def test_a_model_writes_the_title_and_the_call_is_on_record(tmp_path: Path, database: str) -> None:
    async with house(tmp_path, database) as it:
        root = await context(it)
        it.upstream.script(chat_completion('"A Horror Story."'))
        answer = await it.ask("/update_title_openai", {"root_id": root}, headers={"X-Title": "engineer"})
        assert answer.json() == {"message": "the title is set", "new_title": "A Horror Story"}
        asked = asked_of(it.upstream.requests[-1])
        assert asked["model"] == "loopback-1"
        assert asked["messages"] == [
            {"role": "system", "content": TITLE_INSTRUCTIONS},
            {"role": "user", "content": "write me a 1 sentence horror story"},
        ]
        said, internal = await it.rows(2)
        assert said["convo_title"] == "A Horror Story"
        assert internal["request"] == asked
        assert internal["root_gpt_id"] == str(internal["id"])
        assert {
            name: internal[name] for name in ("user_name", "title", "convo_title", "convo_show", "outcome", "path")
        } == {
            "user_name": "ann",
            "title": "engineer",
            "convo_title": "summarizer",
            "convo_show": False,
            "outcome": "complete",
            "path": "/update_title_openai",
        }
        shown = (await it.ask("/history_v2")).json()["Historical_Conversations"]
        assert [row["root_gpt_id"] for row in shown] == ["talk"]


async def test_the_callers_credential_stays_here_and_the_gateways_own_is_sent(tmp_path: Path, database: str) -> None:
    async with house(tmp_path, database) as it:
        root = await context(it)
        await it.ask("/update_title_openai", {"root_id": root}, headers={"x-api-key": "the caller's"})
        request = it.upstream.requests[-1]
        assert request.header("authorization") == "Bearer sk-upstream-secret"
        values = {value for _, value in request.headers}
        assert values.isdisjoint((b"the caller's", b"ann")), request.headers


async def test_another_model_may_be_set_for_it(tmp_path: Path, database: str) -> None:
    async with house(tmp_path, database, GATEWAY_ASSISTANT_MODEL="small-one") as it:
        await it.ask("/update_title_openai", {"root_id": await context(it)})
        assert asked_of(it.upstream.requests[-1])["model"] == "small-one"


async def test_a_title_of_a_conversation_in_the_other_dialect(tmp_path: Path, database: str) -> None:
    async with house(tmp_path, database) as it:
        await it.ask("/v1/responses", {"model": "loopback-1", "input": "tell me of whales"})
        (row,) = await it.rows(1)
        it.upstream.script(chat_completion("Whales"))
        answer = await it.ask("/update_title_openai", {"root_id": row["root_gpt_id"]})
        assert answer.json()["new_title"] == "Whales"
        assert asked_of(it.upstream.requests[-1])["messages"][-1]["content"] == "tell me of whales"


async def test_an_answer_that_is_streamed_all_the_same_is_understood(tmp_path: Path, database: str) -> None:
    async with house(tmp_path, database) as it:
        root = await context(it)
        it.upstream.script(chat_stream("Streamed title"))
        assert (await it.ask("/update_title_openai", {"root_id": root})).json()["new_title"] == "Streamed title"


@pytest.mark.parametrize("path", ["/update_title_openai", "/metadata_check"])
async def test_what_the_model_fails_is_told_and_nothing_is_set(tmp_path: Path, database: str, path: str) -> None:
    async with house(tmp_path, database) as it:
        root = await context(it)
        for script, told in (
            (error(429, message="too many tokens"), "too many tokens"),
            (cut_completion(60), "before it was whole"),
            (chat_completion(""), "did not answer"),
            (json_answer([]), "not an answer"),
        ):
            it.upstream.script(script)
            answer = await it.ask(path, {"root_id": root})
            assert answer.status == 502, answer
            assert told in answer.json()["error"]["message"]
        it.upstream.script(chat_completion("***"), chat_completion("***"))
        assert (await it.ask(path, {"root_id": root})).status == 502
        said, *internal = await it.rows(6 if path == "/update_title_openai" else 7)
        assert said["convo_title"] is None
        assert {row["convo_title"] for row in internal} == {"summarizer"}
        assert await it.fetch("select from llm_logs.meta_summarizer_log") == []


@pytest.mark.parametrize("path", ["/update_title_openai", "/metadata_check"])
async def test_a_conversation_without_words_is_not_asked_about(tmp_path: Path, database: str, path: str) -> None:
    async with house(tmp_path, database) as it:
        it.upstream.script(chat_completion(""))
        picture = {"type": "image_url", "image_url": {"url": "data:,"}}
        await it.ask("/chat", {"model": "m", "root_id": "talk", "messages": [{"role": "user", "content": [picture]}]})
        await it.rows(1)
        answer = await it.ask(path, {"root_id": "talk"})
        assert (answer.status, answer.code) == (400, "nothing_said")
        assert len(it.upstream.requests) == 1


async def test_metadata_are_derived_from_the_newest_snapshot_and_stored(tmp_path: Path, database: str) -> None:
    async with house(tmp_path, database) as it:
        root = await context(it)
        it.upstream.script(chat_completion(f"```json\n{json.dumps(GOOD)}\n```"))
        answer = await it.ask("/metadata_check", {"root_id": root}, headers={"X-Title": "engineer"})
        assert answer.json() == {"message": "the metadata are stored", "metadata": GOOD}
        system, question = asked_of(it.upstream.requests[-1])["messages"]
        assert system["content"] == METADATA_INSTRUCTIONS
        assert question["content"].startswith("user: write me a 1 sentence horror story\n\nassistant: You said: write")
        said, internal = await it.rows(2)
        (kept,) = await it.rows(1, "meta_summarizer_log")
        assert kept["id"] == internal["id"]
        assert kept["orig_summarized_id"] == str(said["id"])
        assert kept["metadata"] == GOOD
        assert kept["request"] == internal["request"]
        assert kept["response"] == internal["response"]
        assert kept["usage_info"] == internal["usage_info"]
        assert (kept["user_name"], kept["title"]) == ("ann", "engineer")
        assert abs((kept["response_time"] - internal["response_time"]).total_seconds()) < 5


async def test_wrong_metadata_are_asked_for_once_more(tmp_path: Path, database: str) -> None:
    async with house(tmp_path, database) as it:
        root = await context(it)
        wrong = json.dumps({**GOOD, "satisfaction_score": 7})
        it.upstream.script(chat_completion(wrong), chat_completion(json.dumps(GOOD)))
        answer = await it.ask("/metadata_check", {"root_id": root})
        assert answer.json()["metadata"] == GOOD
        again = asked_of(it.upstream.requests[-1])["messages"]
        assert again[2] == {"role": "assistant", "content": wrong}
        assert "`satisfaction_score` must be a number from 0 to 1" in again[3]["content"]
        said, first, second = await it.rows(3)
        assert first["root_gpt_id"] != second["root_gpt_id"]
        assert {first["convo_show"], second["convo_show"]} == {False}
        (kept,) = await it.rows(1, "meta_summarizer_log")
        assert (kept["id"], kept["orig_summarized_id"]) == (second["id"], str(said["id"]))


async def test_metadata_that_are_wrong_twice_are_an_error_that_says_so(tmp_path: Path, database: str) -> None:
    async with house(tmp_path, database) as it:
        root = await context(it)
        it.upstream.script(
            chat_completion("I would rather not."), chat_completion(json.dumps({**GOOD, "languages": 1}))
        )
        answer = await it.ask("/metadata_check", {"root_id": root})
        assert (answer.status, answer.code) == (502, "metadata_invalid")
        assert "`languages` must be an array of strings" in answer.json()["error"]["message"]
        await it.rows(3)
        assert await it.fetch("select from llm_logs.meta_summarizer_log") == []


async def test_the_internal_call_has_a_log_line_of_its_own_request(tmp_path: Path, database: str) -> None:
    async with house(tmp_path, database) as it:
        root = await context(it)
        answer = await it.ask("/update_title_openai", {"root_id": root}, headers={"x-request-id": "req-title"})
        assert answer.headers["x-request-id"] == "req-title"
        _, internal = await it.rows(2)
        assert internal["request_id"] == "req-title"
