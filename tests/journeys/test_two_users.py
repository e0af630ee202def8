"""Two users of one gateway: what is one's is nobody else's."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from tests.journeys.stage import hello, new_id
from tests.loopback import Script, WaitFor, chat_stream

if TYPE_CHECKING:
    from tests.journeys.stage import Answer, Stage

pytestmark = pytest.mark.asyncio(loop_scope="module")

ENV = {"GATEWAY_AUTH": "header", "GATEWAY_AUTH_TRUSTED_NETWORKS": "127.0.0.0/8"}


async def say(stage: Stage, user: str, messages: list[Any], **headers: str) -> Answer:
    named = {"X-Forwarded-User": user, **{name.replace("_", "-"): value for name, value in headers.items()}}
    return await stage.ask("/v1/chat/completions", {"model": "m", "messages": messages}, headers=named)


async def test_nobody_stops_the_answer_of_another(stage: Stage) -> None:
    go_on = asyncio.Event()
    steps = chat_stream("one two three four").steps
    stage.upstream.script(Script([*steps[:5], WaitFor(go_on), *steps[5:]]))
    request_id = new_id()
    async with await stage.raw() as raw:
        raw.post("/chat", hello(stream=True), request_id, ("X-Forwarded-User", "alice"))
        interaction = (await raw.answer())["x-interaction-id"]
        await raw.until(b"three")
        stop = f"/chat/{interaction}/stop"
        refused = await stage.ask(stop, headers={"X-Forwarded-User": "mallory"})
        assert refused.status == 404
        assert refused.error["code"] == "not_found"
        assert (await stage.ask(stop)).status == 401
        go_on.set()
        assert (await raw.body()).endswith(b"data: [DONE]\n\n")
    row = await stage.row(request_id)
    assert row["user_name"] == "alice"
    assert row["outcome"] == "complete"


async def test_the_same_words_of_two_users_are_two_conversations(stage: Stage) -> None:
    first: list[Any] = [{"role": "user", "content": "Are we alone?"}]
    roots: dict[str, set[str]] = {}
    for user in ("alice", "bob"):
        begun = await say(stage, user, first)
        said = begun.json()["choices"][0]["message"]
        went_on = await say(stage, user, [*first, said, {"role": "user", "content": "Sure?"}])
        rows = [await stage.row(begun.request_id), await stage.row(went_on.request_id)]
        assert {row["user_name"] for row in rows} == {user}
        roots[user] = {row["root_gpt_id"] for row in rows}
    assert len(roots["alice"]) == len(roots["bob"]) == 1
    assert roots["alice"] != roots["bob"]


async def test_a_user_who_knows_the_words_of_another_does_not_get_into_the_conversation(stage: Stage) -> None:
    first: list[Any] = [{"role": "user", "content": "A secret!"}]
    begun = await say(stage, "alice", first)
    said = begun.json()["choices"][0]["message"]
    copied = await say(stage, "mallory", [*first, said, {"role": "user", "content": "Go on."}])
    theirs, stolen = await stage.row(begun.request_id), await stage.row(copied.request_id)
    assert stolen["root_gpt_id"] == str(stolen["id"])
    assert stolen["parent_id"] is None
    assert theirs["root_gpt_id"] == str(theirs["id"])
