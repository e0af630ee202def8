"""Titles by hand, removal and return: of the caller's own conversations, whether their rows have come yet or not."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

from tests.edge.app import hello, house
from tests.loopback import Script, WaitFor, chat_completion

if TYPE_CHECKING:
    from pathlib import Path

    from tests.edge.app import House

CHANGES = ("/update_title", "/remove_convo", "/restore_convo", "/update_title_openai", "/metadata_check")


async def shown(it: House, by: str = "ann") -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (await it.ask("/history_v2", by=by)).json()["Historical_Conversations"]
    return found


async def test_a_title_is_set_on_every_row(tmp_path: Path, database: str) -> None:
    async with house(tmp_path, database) as it:
        root = (await it.chat("one")).json()["root_uuid"]
        await it.chat("two", root_id=root)
        answer = await it.ask("/update_title", {"root_id": root, "convo_title": "  A   new\ntitle "})
        assert answer.json() == {"message": "the title is set", "new_title": "A new title"}
        assert [row["convo_title"] for row in await it.rows(2)] == ["A new title"] * 2
        await it.chat("three", root_id=root, convo_title="what the page still believes")
        assert [row["convo_title"] for row in await it.rows(3)] == ["A new title"] * 3


async def test_a_title_is_set_while_the_first_answer_is_still_being_made(tmp_path: Path, database: str) -> None:
    async with house(tmp_path, database) as it:
        go = asyncio.Event()
        it.upstream.script(Script([WaitFor(go)]) + chat_completion("ok"))
        asking = asyncio.create_task(it.chat("one", root_id="talk"))
        await it.upstream.wait_for_requests(1)
        answer = await it.ask("/update_title", {"root_id": "talk", "convo_title": "Early"})
        assert answer.status == 200
        go.set()
        await asking
        assert (await it.rows(1))[0]["convo_title"] == "Early"


async def test_another_process_names_what_this_one_has_just_begun(tmp_path: Path, database: str) -> None:
    async with house(tmp_path / "a", database) as one, house(tmp_path / "b", database) as other:
        root = (await one.chat("one")).json()["root_uuid"]
        answer = await other.ask("/update_title", {"root_id": root, "convo_title": "There already"})
        assert answer.status == 200
        assert (await one.rows(1))[0]["convo_title"] == "There already"


async def test_a_removed_conversation_comes_back_when_it_goes_on_or_is_restored(tmp_path: Path, database: str) -> None:
    async with house(tmp_path, database) as it:
        await it.chat("one", root_id="talk")
        await it.chat("other", root_id="other")
        await it.rows(2)
        answer = await it.ask("/remove_convo", {"root_id": "talk"})
        assert answer.json() == {"message": "the conversation is removed from the history"}
        assert [row["root_gpt_id"] for row in await shown(it)] == ["other"]
        assert len((await it.ask("/history")).json()["Historical_list"]) == 2
        await it.ask("/restore_convo", {"root_id": "talk"})
        assert {row["root_gpt_id"] for row in await shown(it)} == {"talk", "other"}
        await it.ask("/remove_convo", {"root_id": "talk"})
        await it.chat("again", root_id="talk")
        await it.rows(3)
        assert {row["root_gpt_id"] for row in await shown(it)} == {"talk", "other"}


@pytest.mark.parametrize("path", CHANGES)
async def test_others_conversations_look_as_if_there_were_none(tmp_path: Path, database: str, path: str) -> None:
    async with house(tmp_path, database) as it:
        root = (await it.chat("secret")).json()["root_uuid"]
        await it.rows(1)
        for by in ("bob", "eve/auditors,admins"):
            theirs = await it.ask(path, {"root_id": root, "convo_title": "Stolen"}, by=by)
            nobodys = await it.ask(path, {"root_id": str(uuid4()), "convo_title": "Stolen"}, by=by)
            assert (theirs.status, theirs.body) == (404, nobodys.body)
        (row,) = await it.rows(1)
        assert (row["convo_title"], row["convo_show"]) == (None, True)
        assert len(it.upstream.requests) == 1


@pytest.mark.parametrize("path", CHANGES)
async def test_wrong_requests_are_told_what_is_wrong(tmp_path: Path, database: str, path: str) -> None:
    async with house(tmp_path, database) as it:
        for body in ({}, {"root_id": 7}, {"root_id": ""}, {"root_id": " "}, {"root_id": "x" * 513}, {"root_id": None}):
            answer = await it.ask(path, {**body, "convo_title": "x"})
            assert (answer.status, answer.json()["error"]["param"]) == (400, "root_id")
        assert (await it.ask(path, [])).status == 400
        as_text = await it.ask(path, method="POST", data=b'{"root_id": "x"}', headers={"Content-Type": "text/plain"})
        assert as_text.status == 415
        unsaid = await it.ask(path, method="POST", data=b'{"root_id": "x"}', skip_auto_headers=["Content-Type"])
        assert unsaid.status == 415


async def test_a_title_must_be_a_text(tmp_path: Path, database: str) -> None:
    async with house(tmp_path, database) as it:
        for title in (None, 7, "", " \n", "x" * 513):
            answer = await it.ask("/update_title", {"root_id": "talk", "convo_title": title})
            assert (answer.status, answer.json()["error"]["param"]) == (400, "convo_title")


async def test_without_a_database_changes_are_refused_and_chats_are_served(tmp_path: Path) -> None:
    nowhere = "postgresql://nobody@127.0.0.1:9/none"
    async with house(tmp_path, nowhere, GATEWAY_DB_CONNECT_S="0.5") as it:
        chat = await it.chat("one", root_id="talk")
        assert (await it.ask("/checkchat", hello("one", root_id="talk"))).body == chat.body
        assert (await it.ask(f"/chat/{chat.json()['uuid']}")).status == 200
        for path in CHANGES:
            answer = await it.ask(path, {"root_id": "talk", "convo_title": "x"})
            assert (answer.status, answer.code) == (503, "store_unavailable")
        for path in ("/history", "/history_v2", "/history_v2?q=x", f"/chat/{uuid4()}"):
            answer = await it.ask(path)
            assert (answer.status, answer.code) == (503, "store_unavailable")
        unknown = await it.ask("/checkchat", hello("never asked"))
        assert (unknown.status, unknown.headers["Retry-After"]) == (503, "1")
