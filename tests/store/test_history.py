"""History in pages: nothing twice, nothing left out, nobody else's, and bounded however much there is."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from datetime import datetime
from itertools import chain
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import pytest
from msgspec import structs

from gateway.model import Principal, Role
from gateway.store import history as module
from gateway.store.history import History, HistoryQuery
from gateway.store.page_cursor import NEWEST, PageCursor
from tests.store.samples import chat, model, rows_of, store, user

if TYPE_CHECKING:
    from gateway.store.interactions import Interactions
    from gateway.store.page_cursor import Page
    from gateway.store.pool import Database

ANN = Principal("ann")
EVE = Principal("eve", roles=frozenset((Role.AUDITOR,)))
MANY = 1 << 30


def reading(caller: Principal = ANN, whose: str = "ann", limit: int = 1000, **more: Any) -> HistoryQuery:
    return HistoryQuery(caller, whose, limit, more.pop("budget", MANY), **more)


def questions(page: Page) -> list[str]:
    return [json.loads(row)["request"]["messages"][-1]["content"] for row in page.rows]


async def pages(read: Any, wanted: HistoryQuery, *more: Any) -> list[list[str]]:
    """All pages, one after the other."""
    found = []
    while True:
        page = await read(wanted, *more)
        found.append(questions(page))
        if page.next is None:
            return found
        wanted = replace(wanted, before=PageCursor.read(str(page.next)))


def flat(found: list[list[str]]) -> list[str]:
    return list(chain.from_iterable(found))


async def many(db: Database, count: int, *, roots: int, by: str = "ann") -> None:
    """Rows one second apart, each in the next conversation, as a company might insert them."""
    await rows_of(
        db,
        """
        insert into llm_logs.chatgpt_logs (request, user_name, response_time, root_gpt_id)
        select
            jsonb_build_object('messages', jsonb_build_array(jsonb_build_object('role', 'user', 'content', n::text))),
            $2, timestamp '2026-01-01' + n * interval '1 second', 'root ' || (n % $3)
        from generate_series(0, $1::integer - 1) as n
        """,
        count,
        by,
        roots,
    )


async def say(interactions: Interactions, *texts: str, by: str = "ann", root: str | None = None) -> None:
    for number, text in enumerate(texts):
        finished_at = 1_800_000_000.0 + number
        record = chat(user(text), by=by, root_id=root)
        await interactions.keep(
            [structs.replace(record, answer=structs.replace(record.answer, finished_at=finished_at))]
        )


async def test_rows_are_the_seeds_two_columns_newest_first(database: str) -> None:
    async with store(database) as (db, interactions):
        await say(interactions, "first", "second")
        page = await History(db).rows(reading())
        assert questions(page) == ["second", "first"]
        row = json.loads(page.rows[0])
        assert row.keys() == {"request", "response_time"}
        assert row["response_time"] == "2027-01-15T08:00:01"
        assert page.next is None


async def test_pages_show_each_row_once_also_where_moments_are_equal(database: str) -> None:
    async with store(database) as (db, _):
        await many(db, 57, roots=9)
        await rows_of(db, "update llm_logs.chatgpt_logs set response_time = date_trunc('minute', response_time)")
        for limit in (1, 7, 56, 57, 58):
            found = await pages(History(db).rows, reading(limit=limit))
            assert sorted(flat(found), key=int) == [str(n) for n in range(57)]
            assert all(len(page) == limit for page in found[:-1])


async def test_rows_that_come_meanwhile_change_no_page(database: str) -> None:
    async with store(database) as (db, interactions):
        await many(db, 20, roots=20)
        first = await History(db).rows(reading(limit=10))
        await say(interactions, "newer")
        assert first.next is not None
        second = await History(db).rows(reading(limit=10, before=first.next))
        assert questions(first) + questions(second) == [str(n) for n in range(19, -1, -1)]


async def test_nobody_reads_anothers_rows_but_an_auditor(database: str) -> None:
    async with store(database) as (db, interactions):
        await say(interactions, "secret", by="bob")
        history = History(db)
        for read in (history.rows, history.conversations, lambda wanted: history.search(wanted, "secret")):
            assert (await read(reading(ANN, "bob"))).rows == []
            assert (await read(reading(Principal("root", roles=frozenset((Role.ADMIN,))), "bob"))).rows == []
            assert (await read(reading(EVE, "ann"))).rows == []
            assert questions(await read(reading(EVE, "bob"))) == ["secret"]


async def test_a_page_is_bounded_in_bytes_and_goes_on(database: str) -> None:
    async with store(database) as (db, interactions):
        for number in range(6):
            await say(interactions, f"{number} " + "x" * 100_000, root=f"root {number}")
        history = History(db)
        for read in (history.rows, history.conversations, lambda wanted: history.search(wanted, "ok")):
            found = await pages(read, reading(budget=150_000))
            assert [len(page) for page in found] == [2, 2, 2]
            assert sorted(text[0] for text in flat(found)) == list("012345")


# --- conversations ---


async def test_each_conversation_shows_its_newest_row_once(database: str) -> None:
    async with store(database) as (db, _):
        await many(db, 60, roots=8)
        everything = [str(n) for n in range(59, 51, -1)]
        for limit in (1, 3, 8, 100):
            found = await pages(History(db).conversations, reading(limit=limit))
            assert flat(found) == everything


async def test_removed_rows_do_not_count(database: str) -> None:
    async with store(database) as (db, _):
        await many(db, 30, roots=3)
        await rows_of(db, "update llm_logs.chatgpt_logs set convo_show = false where root_gpt_id = 'root 1'")
        await rows_of(db, "update llm_logs.chatgpt_logs set convo_show = false where request::text like '%\"29\"%'")
        assert await pages(History(db).conversations, reading(limit=1)) == [["27"], ["26"]]


async def test_the_same_conversation_id_of_two_users_is_two_conversations(database: str) -> None:
    async with store(database) as (db, interactions):
        await say(interactions, "hers", root="shared")
        await say(interactions, "his", by="bob", root="shared")
        assert questions(await History(db).conversations(reading())) == ["hers"]
        assert questions(await History(db).conversations(reading(Principal("bob"), "bob"))) == ["his"]


async def test_a_conversation_that_goes_on_between_two_pages_is_shown_on_one(database: str) -> None:
    async with store(database) as (db, interactions):
        await many(db, 20, roots=10)
        first = await History(db).conversations(reading(limit=5))
        await say(interactions, "more", root="root 2")  # it stood on the second page
        assert first.next is not None
        second = await History(db).conversations(reading(limit=5, before=first.next))
        assert questions(first) == ["19", "18", "17", "16", "15"]
        assert questions(second) == ["14", "13", "11", "10"]


async def test_a_very_long_conversation_is_walked_over_in_bounded_steps(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_WALKED", 600)
    async with store(database) as (db, _):
        await many(db, 1500, roots=1)
        await many(db, 3, roots=3, by="bob")
        await rows_of(
            db, "update llm_logs.chatgpt_logs set user_name = 'ann', root_gpt_id = 'old' where user_name = 'bob'"
        )
        await rows_of(db, "update llm_logs.chatgpt_logs set response_time = '2025-01-01' where root_gpt_id = 'old'")
        found = await pages(History(db).conversations, reading(limit=10))
        assert found[0] == ["1499"]
        assert len(flat(found)) == 2
        assert len(found) == 3


async def test_a_seeds_rows_without_a_root_are_conversations_of_their_own(database: str) -> None:
    async with store(database) as (db, _):
        ids = [uuid4(), uuid4()]
        for number, row_id in enumerate(ids):
            await rows_of(
                db,
                "insert into llm_logs.chatgpt_logs (id, request, user_name, response_time) values ($1, $2, 'ann', $3)",
                row_id,
                {"messages": [user(str(number))]},
                datetime(2024, 1, 1 + number),  # noqa: DTZ001 - as the seed's column
            )
        page = await History(db).conversations(reading())
        assert [json.loads(row)["root_gpt_id"] for row in page.rows] == [str(ids[1]), str(ids[0])]


# --- search ---


async def test_words_are_found_in_titles_questions_and_answers(database: str) -> None:
    async with store(database) as (db, interactions):
        await interactions.keep(
            [chat(user("a horror story"), says="As I reached for the light", convo_title="Gruselig")]
        )
        await interactions.keep([chat(user("the weather"), says="Sunny, 25 degrees in Zürich")])
        for words, expected in {
            "horror": ["a horror story"],
            "HORROR light": ["a horror story"],
            "hor sto": ["a horror story"],
            "grus": ["a horror story"],
            "zürich": ["the weather"],
            "the": ["the weather", "a horror story"],
            "horror sunny": [],
            "orror": [],
            "???": [],
            "": [],
            "a' | b & !c:* <-> (": [],
            "\x00 horror": ["a horror story"],
            "\\' horror": ["a horror story"],
        }.items():
            assert sorted(questions(await History(db).search(reading(), words))) == sorted(expected), words


async def test_a_find_anywhere_in_a_conversation_shows_its_newest_row(database: str) -> None:
    async with store(database) as (db, interactions):
        said = [user("tell me of whales"), model("They sing.")]
        await interactions.keep([chat(said[0], says="They sing.")])
        await interactions.keep([chat(*said, user("and of ants"), says="They do not.")])
        await interactions.keep([chat(user("ants again"), says="Hm.")])
        assert questions(await History(db).search(reading(), "whales")) == ["and of ants"]
        assert sorted(questions(await History(db).search(reading(), "ants"))) == ["and of ants", "ants again"]


async def test_finds_come_in_pages_too(database: str) -> None:
    async with store(database) as (db, _):
        await many(db, 40, roots=20)
        await rows_of(db, "update llm_logs.chatgpt_logs set convo_title = 'needle'")
        for limit in (1, 7, 20, 21):
            found = await pages(History(db).search, reading(limit=limit), "needle")
            assert flat(found) == [str(n) for n in range(39, 19, -1)]


async def test_a_search_reads_an_index_and_no_other_users_words(database: str) -> None:
    async with store(database) as (db, _):
        await many(db, 2000, roots=2000)
        await rows_of(db, "update llm_logs.chatgpt_logs set convo_title = 'needle' where root_gpt_id like '%99'")
        await many(db, 3000, roots=3000, by="bob")
        await rows_of(db, "update llm_logs.chatgpt_logs set convo_title = 'needle' where user_name = 'bob'")
        await rows_of(db, "analyze llm_logs.chatgpt_logs")
        async with db.connection() as connection:
            lines = await connection.fetch(
                "explain (analyze, timing off) " + module.SEARCH, "ann", "ann", False, NEWEST.at, NEWEST.id, 50, "need"
            )
        plan = "\n".join(line[0] for line in lines)
        found = re.findall(r"Bitmap Index Scan on \w+_search_terms_idx .*actual rows=(\d+)", plan)
        assert sum(map(int, found)) == 20, plan  # of 3020 rows with the word, in all partitions
        assert "Seq Scan on chatgpt_logs_foreign" not in plan  # the months are empty


@pytest.mark.parametrize(
    "said",
    [
        {"messages": [user("x" * 3_000_000)]},
        {"messages": [user(" ".join(f"word{n}" for n in range(100_000)))]},
        {"messages": [user("y" * 2040 + " " + "z" * 2046)]},
        {"messages": [{"role": "user", "content": {"odd": []}}]},
        {"messages": [{"role": "user", "content": [1, None, {"text": {"deep": 1}}, {"text": "found"}]}]},
        {"messages": "none"},
        {"messages": [[], 7]},
        {"input": [{"role": "user", "content": [{"type": "input_text", "text": "found"}]}]},
        {"input": {"odd": 1}},
        [1, 2],
        "text",
        7,
    ],
)
async def test_no_row_is_refused_for_the_search(database: str, said: Any) -> None:
    async with store(database) as (db, _):
        await rows_of(
            db,
            "insert into llm_logs.chatgpt_logs (request, response, user_name) values ($1, $2, 'ann')",
            said,
            {"choices": said, "output": said},
        )
        assert len((await History(db).rows(reading())).rows) == 1
        await History(db).search(reading(), "found")


# --- marks ---


def test_a_mark_is_read_as_it_was_written() -> None:
    mark = PageCursor(datetime(2026, 11, 23, 9, 41, 0, 123456), UUID(int=7))  # noqa: DTZ001 - as the column
    assert PageCursor.read(str(mark)) == mark
    assert PageCursor.read(str(NEWEST)) == NEWEST


@pytest.mark.parametrize(
    "text",
    [
        "",
        "_",
        "2026-01-01",
        f"2026-13-01_{UUID(int=1)}",
        "2026-01-01T00:00:00_x",
        f"0001-01-01T00:00+23:59_{UUID(int=1)}",
    ],
)
def test_what_is_no_mark_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r".*"):
        PageCursor.read(text)
