"""Titles and removal hold for every row of a conversation: those that are there, and those that are on their way."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from gateway.model import Principal
from gateway.store.conversation_settings import ConversationSettings
from tests.store.samples import PATIENT, chat, model, rows_of, store, user

if TYPE_CHECKING:
    from gateway.store.pool import Database

ANN, BOB = Principal("ann"), Principal("bob")
NOW = 1_800_000_100.0  # after all samples have begun


async def titles(db: Database) -> dict[tuple[str, str], set[str | None]]:
    found: dict[tuple[str, str], set[str | None]] = {}
    for row in await rows_of(db, "select user_name, root_gpt_id, convo_title from llm_logs.chatgpt_logs"):
        found.setdefault((row["user_name"], row["root_gpt_id"]), set()).add(row["convo_title"])
    return found


async def shown(db: Database, root: str = "talk") -> list[bool]:
    sql = "select convo_show from llm_logs.chatgpt_logs where root_gpt_id = $1 order by id"
    return [row["convo_show"] for row in await rows_of(db, sql, root)]


async def test_every_row_gets_the_title_and_no_row_of_others(database: str) -> None:
    async with store(database) as (db, interactions):
        for by in ("ann", "bob"):
            await interactions.keep(
                [chat(user("one"), by=by, root_id="talk"), chat(user("two"), by=by, root_id="talk")]
            )
        await interactions.keep([chat(user("three"), root_id="other")])
        assert await ConversationSettings(db).set_title(ANN, "talk", "Mine", NOW, is_known=False)
        assert await titles(db) == {("ann", "talk"): {"Mine"}, ("bob", "talk"): {None}, ("ann", "other"): {None}}


@pytest.mark.parametrize("caller", [BOB, Principal("eve", roles=frozenset(("auditor", "admin")))])
async def test_others_conversations_cannot_be_set_nor_told_from_none(database: str, caller: Principal) -> None:
    async with store(database) as (db, interactions):
        await interactions.keep([chat(user("one"), root_id="talk")])
        settings = ConversationSettings(db)
        for root in ("talk", "nothing", "", "\x00"):
            assert not await settings.set_title(caller, root, "Stolen", NOW, is_known=False)
            assert not await settings.set_shown(caller, root, NOW, is_shown=False, is_known=False)
        assert await titles(db) == {("ann", "talk"): {None}}
        assert await shown(db) == [True]
        assert await rows_of(db, "select from llm_logs.conversation_settings") == []


async def test_rows_that_come_later_get_the_title(database: str) -> None:
    async with store(database) as (db, interactions):
        settings = ConversationSettings(db)
        assert await settings.set_title(ANN, "talk", "Before any row", NOW, is_known=True)
        await interactions.keep([chat(user("one"), root_id="talk", convo_title="what the page still believes")])
        assert await titles(db) == {("ann", "talk"): {"Before any row"}}
        await settings.set_title(ANN, "talk", "Again", NOW + 1, is_known=False)
        await interactions.keep([chat(user("two"), root_id="talk")])
        assert await titles(db) == {("ann", "talk"): {"Again"}}


async def test_a_conversation_that_is_found_from_its_messages_keeps_its_title(database: str) -> None:
    async with store(database) as (db, interactions):
        first = chat(user("hi"), says="ho")
        await interactions.keep([first])
        root = str(first.interaction.id)
        await ConversationSettings(db).set_title(ANN, root, "Greetings", NOW, is_known=False)
        await interactions.keep([chat(user("hi"), model("ho"), user("and?"))])
        assert await titles(db) == {("ann", root): {"Greetings"}}


async def test_removal_holds_for_what_began_before_it_and_not_for_what_comes_after(database: str) -> None:
    async with store(database) as (db, interactions):
        settings = ConversationSettings(db)
        await interactions.keep([chat(user("one"), root_id="talk", started_at=NOW - 10)])
        assert await settings.set_shown(ANN, "talk", NOW, is_shown=False, is_known=False)
        await interactions.keep([chat(user("was on its way"), root_id="talk", started_at=NOW - 1)])
        assert await shown(db) == [False, False]
        await interactions.keep([chat(user("goes on"), root_id="talk", started_at=NOW + 1)])
        assert await shown(db) == [False, False, True]
        assert await settings.set_shown(ANN, "talk", NOW + 2, is_shown=True, is_known=False)
        assert await shown(db) == [True, True, True]
        await interactions.keep([chat(user("late"), root_id="talk", started_at=NOW - 2)])
        assert await shown(db) == [True, True, True, True]


async def test_what_the_gateway_asks_by_itself_stays_hidden(database: str) -> None:
    async with store(database) as (db, interactions):
        await interactions.keep([chat(user("name it"), root_id="internal", convo_title="summarizer", convo_show=False)])
        assert await shown(db, "internal") == [False]
        assert await titles(db) == {("ann", "internal"): {"summarizer"}}


async def test_a_seeds_rows_are_named_and_removed(database: str) -> None:
    async with store(database) as (db, _):
        sql = "insert into llm_logs.chatgpt_logs (request, user_name) values ('{}', 'ann') returning id::text"
        ((root,),) = await rows_of(db, sql)
        settings = ConversationSettings(db)
        assert await settings.set_title(ANN, root, "Old", NOW, is_known=False)
        assert await settings.set_shown(ANN, root, NOW, is_shown=False, is_known=False)
        (row,) = await rows_of(db, "select convo_title, convo_show from llm_logs.chatgpt_logs")
        assert tuple(row) == ("Old", False)


async def test_no_row_slips_through_between_a_title_and_a_batch(database: str) -> None:
    async with store(database, PATIENT) as (db, interactions):
        settings = ConversationSettings(db)

        async def ship(number: int) -> None:
            await interactions.keep([chat(user(f"{number}"), root_id=f"talk {number % 10}")])

        async def name(number: int) -> None:
            await settings.set_title(ANN, f"talk {number}", f"title {number}", NOW, is_known=True)

        work: list[Any] = [ship(number) for number in range(60)]
        for number in range(10):
            work.insert(number * 6 + 3, name(number))
        await asyncio.gather(*work)
        assert await titles(db) == {("ann", f"talk {n}"): {f"title {n}"} for n in range(10)}


async def test_titles_may_hold_anything(database: str) -> None:
    async with store(database) as (db, interactions):
        await interactions.keep([chat(user("one"), root_id="a \x00 \udcff root")])
        settings = ConversationSettings(db)
        assert await settings.set_title(ANN, "a \x00 \udcff root", "\x00 \ud83d '; drop table", NOW, is_known=False)
        (row,) = await rows_of(db, "select convo_title from llm_logs.chatgpt_logs")
        assert row["convo_title"] == "\ufffd \\ud83d '; drop table"
