"""Conversations are found from their messages: with branches, out of order, by two processes, never across users."""

from __future__ import annotations

import asyncio
import itertools
import random
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest

from gateway.model import Record
from gateway.store.conversations import shifted
from gateway.store.interactions import TUNE
from gateway.store.placement import FIND_EARLY, FIND_NAMED, FIND_SNAPSHOTS, MONTH_MS
from tests.journal.samples import IDS
from tests.store.samples import chat, make_partitions, model, response, rows_of, spoken, store, user

if TYPE_CHECKING:
    from gateway.store.pool import Database


class Tree:
    """What Postgres says of some records, in their own numbers."""

    def __init__(self, records: list[Record], rows: list[Any]) -> None:
        self._number: dict[UUID | str | None, int | str | None] = {None: None}
        for number, record in enumerate(records):
            self._number[record.interaction.id] = self._number[str(record.interaction.id)] = number
        found = {row["id"]: row for row in rows}
        self.rows = [found[record.interaction.id] for record in records]

    @property
    def roots(self) -> list[int | str | None]:
        return [self._number.get(row["root_gpt_id"], row["root_gpt_id"]) for row in self.rows]

    @property
    def parents(self) -> list[int | str | None]:
        return [self._number[row["parent_id"]] for row in self.rows]


async def tree(db: Database, *records: Record) -> Tree:
    return Tree(list(records), await rows_of(db, "select * from llm_logs.chatgpt_logs"))


def talk(turns: int, by: str = "ann") -> list[Record]:
    """A conversation as clients have it: each request repeats all that was said before."""
    messages: list[dict[str, Any]] = []
    records = []
    for turn in range(turns):
        messages.append(user(f"question {turn}"))
        records.append(chat(*messages, says=f"answer {turn}", by=by))
        messages.append(model(f"answer {turn}"))
    return records


async def test_a_plain_clients_turns_are_one_conversation(database: str) -> None:
    records = talk(4)
    async with store(database) as (db, interactions):
        for record in records:
            await interactions.keep([record])
        found = await tree(db, *records)
        assert found.roots == [0, 0, 0, 0]
        assert found.parents == [None, 0, 1, 2]
        assert all(row["root_inferred"] for row in found.rows)


async def test_turns_in_one_batch_are_one_conversation(database: str) -> None:
    records = talk(4)
    async with store(database) as (db, interactions):
        await interactions.keep(list(reversed(records)))
        found = await tree(db, *records)
        assert (found.roots, found.parents) == ([0, 0, 0, 0], [None, 0, 1, 2])


async def test_any_order_of_arrival_gives_the_same_conversation(database: str) -> None:
    async with store(database) as (db, interactions):
        for order in itertools.permutations(range(4)):
            records = talk(4, by=str(order))
            for number in order:
                await interactions.keep([records[number]])
            found = await tree(db, *records)
            assert (found.roots, found.parents) == ([0, 0, 0, 0], [None, 0, 1, 2]), order


async def test_any_order_in_any_batches_by_two_processes_at_once(database: str) -> None:
    async with store(database) as (db, one), store(database) as (_, other):
        for seed in range(12):
            chance = random.Random(seed)
            records = talk(6, by=f"user {seed}")
            shuffled = chance.sample(records, 6)
            cut = chance.randrange(1, 6)
            halves = [shuffled[:cut], shuffled[cut:]]
            await asyncio.gather(
                *[keeper.keep(half) for keeper, half in zip((one, other), halves, strict=True)],
            )
            found = await tree(db, *records)
            assert (found.roots, found.parents) == ([0] * 6, [None, 0, 1, 2, 3, 4]), seed


async def test_an_edited_question_is_a_branch_of_the_same_conversation(database: str) -> None:
    first = chat(user("1"), says="one")
    second = chat(user("1"), model("one"), user("2"), says="two")
    edited = chat(user("1"), model("one"), user("2, but nicely"), says="zwei")
    after = chat(user("1"), model("one"), user("2, but nicely"), model("zwei"), user("3"), says="drei")
    async with store(database) as (db, interactions):
        for record in (first, second, edited, after):
            await interactions.keep([record])
        found = await tree(db, first, second, edited, after)
        assert found.roots == [0, 0, 0, 0]
        assert found.parents == [None, 0, 0, 2]


async def test_an_edited_first_question_is_a_new_conversation(database: str) -> None:
    async with store(database) as (db, interactions):
        records = [chat(user("1"), says="one"), chat(user("1!"), says="one")]
        for record in records:
            await interactions.keep([record])
        assert (await tree(db, *records)).roots == [0, 1]


async def test_the_longest_snapshot_is_the_parent_and_of_equals_the_newest(database: str) -> None:
    old, new = chat(user("hi"), says="ho"), chat(user("hi"), says="ho")
    third = chat(user("hi"), model("ho"), user("how?"), says="so")
    other = chat(user("hi"), model("ho"), user("how?"), model("so"), user("ah"), says="yes")
    async with store(database) as (db, interactions):
        for record in (old, new, third, other):
            await interactions.keep([record])
        found = await tree(db, old, new, third, other)
        assert found.parents == [None, None, 1, 2]
        assert found.roots == [0, 1, 1, 1]


async def test_a_later_talk_with_the_same_words_is_no_parent_of_an_earlier_one(database: str) -> None:
    first, second = chat(user("hi"), says="ho"), chat(user("hi"), model("ho"), user("?"), says="!")
    later = chat(user("hi"), says="ho")
    async with store(database) as (db, interactions):
        await interactions.keep([later])
        await interactions.keep([second])
        await interactions.keep([first])
        found = await tree(db, first, second, later)
        assert (found.roots, found.parents) == ([0, 0, 2], [None, 0, None])


async def test_two_users_never_share_a_conversation(database: str) -> None:
    ann, bob = talk(3, by="ann"), talk(3, by="bob")
    records = [record for pair in zip(ann, bob, strict=True) for record in pair]
    async with store(database) as (db, interactions):
        for record in records:
            await interactions.keep([record])
        assert (await tree(db, *records)).roots == [0, 1, 0, 1, 0, 1]
        eve = chat(user("question 0"), model("answer 0"), user("and?"), by="eve")
        late = [chat(user("question 0"), says="answer 0", by="eve2")]
        await interactions.keep([eve])
        await interactions.keep(late)
        assert (await tree(db, eve)).roots == [0]


async def test_an_id_that_the_caller_gives_wins(database: str) -> None:
    first = chat(user("1"), says="one", root_id="chatcmpl-77")
    second = chat(user("1"), model("one"), user("2"), says="two", root_id="mine")
    third = chat(user("1"), model("one"), user("2"), model("two"), user("3"), says="three")
    async with store(database) as (db, interactions):
        for record in (first, second, third):
            await interactions.keep([record])
        found = await tree(db, first, second, third)
        assert found.roots == ["chatcmpl-77", "mine", "mine"]
        assert found.parents == [None, 0, 1]
        assert [row["root_inferred"] for row in found.rows] == [False, False, True]


async def test_a_conversation_whose_id_a_caller_uses_keeps_it(database: str) -> None:
    first = chat(user("1"), says="one")
    second = chat(user("1"), model("one"), user("2"), says="two")
    using = chat(user("go on"), says="yes", root_id=str(second.interaction.id))
    async with store(database) as (db, interactions):
        for record in (second, using, first):
            await interactions.keep([record])
        found = await tree(db, first, second, using)
        assert found.roots == [0, 1, 1]
        assert found.parents == [None, 0, None]


async def test_an_answer_that_was_cut_short_can_be_gone_on_from(database: str) -> None:
    first = chat(user("1"), says="on")
    second = chat(user("1"), model("on"), user("go on"), says="e")
    async with store(database) as (db, interactions):
        await interactions.keep([first, second])
        assert (await tree(db, first, second)).roots == [0, 0]


async def test_an_error_is_no_answer_to_go_on_from(database: str) -> None:
    failed = chat(user("1"), says=None)
    again = chat(user("1"), says="one")
    second = chat(user("1"), model("one"), user("2"), says="two")
    async with store(database) as (db, interactions):
        await interactions.keep([failed, again, second])
        found = await tree(db, failed, again, second)
        assert found.roots == [0, 1, 1]


async def test_a_title_goes_on_with_the_conversation(database: str) -> None:
    first = chat(user("1"), says="one", convo_title="numbers")
    second = chat(user("1"), model("one"), user("2"), says="two")
    third = chat(user("1"), model("one"), user("2"), model("two"), user("3"), says="three", convo_title="more")
    async with store(database) as (db, interactions):
        for record in (first, second, third):
            await interactions.keep([record])
        found = await tree(db, first, second, third)
        assert [row["convo_title"] for row in found.rows] == ["numbers", "numbers", "more"]


async def test_a_long_history_from_elsewhere_finds_its_short_beginning(database: str) -> None:
    first = chat(user("0"), says="a0")
    messages = [message for turn in range(30) for message in (user(str(turn)), model(f"a{turn}"))]
    imported = chat(*messages, user("and?"), says="well")
    async with store(database) as (db, interactions):
        await interactions.keep([first])
        await interactions.keep([imported])
        found = await tree(db, first, imported)
        assert (found.roots, found.parents) == ([0, 0], [None, 0])


async def test_a_parent_that_comes_late_takes_the_place_of_a_grandparent(database: str) -> None:
    records = talk(3)
    async with store(database) as (db, interactions):
        await interactions.keep([records[0]])
        await interactions.keep([records[2]])
        assert (await tree(db, *records[::2])).parents == [None, 0]
        await interactions.keep([records[1]])
        found = await tree(db, *records)
        assert (found.roots, found.parents) == ([0, 0, 0], [None, 0, 1])


# ── the Responses API ────────────────────────────────────────────────────────────────────────────────────────────────


def _previous(turn: int) -> dict[str, Any]:
    return {"previous_response_id": f"resp_{turn - 1}"} if turn else {}


def named(turns: int, by: str = "ann") -> list[Record]:
    """Each response names the one before; only what is new is sent."""
    return [response(f"question {turn}", turn, by=by, **_previous(turn)) for turn in range(turns)]


def resent(turns: int, by: str = "ann") -> list[Record]:
    """Each request repeats all items, as a client does that has nothing stored."""
    items: list[dict[str, Any]] = []
    records = []
    for turn in range(turns):
        items.append(user(f"question {turn}"))
        records.append(response(list(items), turn, f"answer {turn}", by=by, store=False))
        items.append(spoken(f"answer {turn}", turn))
    return records


def referring(turns: int, by: str = "ann") -> list[Record]:
    """Each request repeats the questions, and refers to the items that the upstream has."""
    items: list[dict[str, Any]] = []
    records = []
    for turn in range(turns):
        items.append(user(f"question {turn}"))
        records.append(response(list(items), turn, f"answer {turn}", by=by))
        items.append({"type": "item_reference", "id": f"msg_{turn}"})
    return records


WAYS = pytest.mark.parametrize("turns", [named, resent, referring])
Turns = Callable[[int, str], list[Record]]


@WAYS
async def test_responses_of_any_order_are_one_conversation(database: str, turns: Turns) -> None:
    async with store(database) as (db, interactions):
        for order in itertools.permutations(range(4)):
            records = turns(4, str(order))
            for number in order:
                await interactions.keep([records[number]])
            found = await tree(db, *records)
            assert (found.roots, found.parents) == ([0, 0, 0, 0], [None, 0, 1, 2]), order
            assert all(row["root_inferred"] for row in found.rows)


@WAYS
async def test_responses_of_one_batch_or_of_two_processes_at_once_are_one_conversation(
    database: str, turns: Turns
) -> None:
    async with store(database) as (db, one), store(database) as (_, other):
        whole = turns(4, "whole")
        await one.keep(list(reversed(whole)))
        assert (await tree(db, *whole)).parents == [None, 0, 1, 2]
        for seed in range(8):
            chance = random.Random(seed)
            records = turns(6, f"user {seed}")
            shuffled = chance.sample(records, 6)
            cut = chance.randrange(1, 6)
            await asyncio.gather(one.keep(shuffled[:cut]), other.keep(shuffled[cut:]))
            found = await tree(db, *records)
            assert (found.roots, found.parents) == ([0] * 6, [None, 0, 1, 2, 3, 4]), seed


@WAYS
async def test_nobody_goes_on_from_anothers_response_though_it_has_the_same_ids(database: str, turns: Turns) -> None:
    ann, bob = turns(3, "ann"), turns(3, "bob")
    records = [record for pair in zip(ann, bob, strict=True) for record in pair]
    async with store(database) as (db, interactions):
        for record in records:
            await interactions.keep([record])
        assert (await tree(db, *records)).roots == [0, 1, 0, 1, 0, 1]
        eve = turns(3, "eve")
        await interactions.keep([eve[2]])
        await interactions.keep([eve[0]])
        found = await tree(db, *eve[::2])
        assert found.parents[0] is None
        assert {row["user_name"] for row in found.rows} == {"eve"}
        assert found.roots[1] == 1 or found.roots == [0, 0]  # never one of ann's or bob's


async def test_a_conversation_that_requests_name_is_one_whatever_comes_first(database: str) -> None:
    async with store(database) as (db, interactions):
        for order in itertools.permutations(range(3)):
            by = str(order)
            named_by: Any = ({"conversation": "conv_1"}, {"conversation": {"id": "conv_1"}}, {"conversation": "conv_1"})
            records = [response(f"{turn}", turn, by=by, **more) for turn, more in enumerate(named_by)]
            for number in order:
                await interactions.keep([records[number]])
            found = await tree(db, *records)
            assert found.roots == ["conv_1"] * 3
            assert found.parents[0] is None
            assert found.parents[1:] in ([0, 1], [0, 0])
            assert not any(row["root_inferred"] for row in found.rows)


async def test_turns_in_a_conversation_that_come_in_order_have_the_one_before_as_their_parent(database: str) -> None:
    records = [response(f"{turn}", turn, conversation="conv_1") for turn in range(3)]
    stranger = response("0", 7, by="bob", conversation="conv_1")
    async with store(database) as (db, interactions):
        for record in (records[0], stranger, *records[1:]):
            await interactions.keep([record])
        found = await tree(db, *records, stranger)
        assert found.parents == [None, 0, 1, None]


async def test_a_response_goes_on_from_one_in_a_conversation_and_keeps_its_title(database: str) -> None:
    first = response("1", 1, conversation="conv_1")
    second = response("2", 2, previous_response_id="resp_1")
    third = response("3", 3, previous_response_id="resp_2")
    async with store(database) as (db, interactions):
        await interactions.keep([first])
        await rows_of(db, "update llm_logs.chatgpt_logs set convo_title = 'numbers'")
        await interactions.keep([second])
        await interactions.keep([third])
        found = await tree(db, first, second, third)
        assert (found.roots, found.parents) == (["conv_1"] * 3, [None, 0, 1])
        assert [row["convo_title"] for row in found.rows] == ["numbers"] * 3


async def test_two_responses_to_one_are_branches_and_an_unknown_id_is_a_new_conversation(database: str) -> None:
    first = response("1", 1)
    one, other = (response(text, number, previous_response_id="resp_1") for text, number in (("2", 2), ("2!", 3)))
    lost = response("2", 4, previous_response_id="resp_from_elsewhere")
    failed = response("2", 5, None, previous_response_id="resp_1")
    async with store(database) as (db, interactions):
        for record in (first, one, other, lost, failed):
            await interactions.keep([record])
        found = await tree(db, first, one, other, lost, failed)
        assert found.roots == [0, 0, 0, 3, 0]
        assert found.parents == [None, 0, 0, None, 0]


async def test_an_id_that_an_upstream_gives_again_is_that_of_the_newest_before(database: str) -> None:
    records = [response(f"{turn}", 1, previous_response_id="resp_1") for turn in range(4)]
    async with store(database) as (db, interactions):
        for record in records:
            await interactions.keep([record])
        assert (await tree(db, *records)).parents == [None, 0, 1, 2]


async def test_odd_ids_are_kept_and_break_nothing(database: str) -> None:
    odd = ["x" * 100_000, "\x00", "", 7, {"id": ["x"]}]
    records = [response("1", 1, previous_response_id=each, conversation=each) for each in odd]
    async with store(database) as (db, interactions):
        await interactions.keep(records)
        found = await tree(db, *records)
        assert [len(str(root)) <= 250 for root in found.roots] == [True] * 5


@pytest.mark.stopwatch
async def test_a_thousand_equal_talks_do_not_slow_each_other_down(database: str) -> None:
    async with store(database) as (db, interactions):
        for _ in range(4):
            await interactions.keep([chat(user("hi"), says="ho") for _ in range(500)])
        (row,) = await rows_of(db, "select count(*) as n, count(distinct root_gpt_id) as m from llm_logs.chatgpt_logs")
        assert (row["n"], row["m"]) == (2000, 2000)
        second = chat(user("hi"), model("ho"), user("?"))
        async with asyncio.timeout(1):
            await interactions.keep([second])


# --- many months ------------------------------------------------------------------------------------------------------

WEEK_MS = 7 * 86_400_000


def earlier(weeks: int) -> UUID:
    """An id of so many weeks ago."""
    return shifted(IDS.new(), -weeks * WEEK_MS)


def resumed(weeks: int, *, says: str = "a", by: str = "ann") -> tuple[Record, Record]:
    """A conversation that goes on after so many weeks."""
    first = chat(user("q"), says=says, by=by, id=earlier(weeks))
    return first, chat(user("q"), model(says), user("and now?"), says="b", by=by)


@pytest.mark.parametrize("weeks", [0, 4, 5, 60])
async def test_g4_a_conversation_that_is_resumed_after_weeks_is_still_one(database: str, weeks: int) -> None:
    records = resumed(weeks)
    async with store(database) as (db, interactions):
        for record in records:
            await interactions.keep([record])
        assert (await tree(db, *records)).parents == [None, 0]
        assert (await tree(db, *records)).roots == [0, 0]


@pytest.mark.parametrize("weeks", [0, 5])
async def test_g4_a_response_that_is_named_after_weeks_is_found(database: str, weeks: int) -> None:
    records = [response("q", 1, row=earlier(weeks)), response("and now?", 2, previous_response_id="resp_1")]
    async with store(database) as (db, interactions):
        for record in records:
            await interactions.keep([record])
        assert (await tree(db, *records)).parents == [None, 0]


async def test_g4_the_longest_of_what_was_said_wins_also_when_a_shorter_one_is_newer(database: str) -> None:
    said = [user("q"), model("a"), user("q2"), model("a2")]
    long_ago = chat(*said[:3], says="a2", id=earlier(5))
    lately = chat(*said[:1], says="a", id=earlier(1))
    now = chat(*said, user("and now?"))
    async with store(database) as (db, interactions):
        await interactions.keep([long_ago, lately])
        await interactions.keep([now])
        assert (await tree(db, long_ago, lately, now)).parents[2] == 0


async def test_g4_a_parent_in_the_same_batch_is_found_beside_old_ones(database: str) -> None:
    old, resumed_one = resumed(6)
    first, second = talk(2, by="bob")
    async with store(database) as (db, interactions):
        await interactions.keep([old])
        await interactions.keep([resumed_one, first, second])
        assert (await tree(db, old, resumed_one, first, second)).parents == [None, 0, None, 2]


@pytest.mark.parametrize("statement", [FIND_SNAPSHOTS, FIND_NAMED, FIND_EARLY])
async def test_g4_a_look_up_reads_the_partitions_of_the_last_month_only(database: str, statement: str) -> None:
    async with store(database) as (db, _):
        await make_partitions(db, 33)
        (month,) = await rows_of(db, "select llm_logs.first_id(date_trunc('month', now()) + '30 months') as id")
        id_ = shifted(UUID(int=month["id"].int), 86_400_000)
        connection = await db.connect(TUNE)
        try:
            bounds = [id_] if statement == FIND_EARLY else [shifted(id_, -MONTH_MS)]
            await connection.execute(f"prepare look (text[], bytea[], uuid[], uuid) as {statement}")
            asked = f"array['ann'], array['\\x00'::bytea], array['{id_}'::uuid], '{bounds[0]}'"
            plan = await connection.fetch(f"explain (analyze, costs off, timing off) execute look ({asked})")
        finally:
            connection.terminate()
        text = "\n".join(row["QUERY PLAN"] for row in plan)
        read = {line for line in text.split("\n") if " on chatgpt_logs_" in line and "never executed" not in line}
        months = set(re.findall(r"on chatgpt_logs_(\d{4}_\d\d)", "\n".join(read)))
        assert 1 <= len(months) <= (4 if statement == FIND_EARLY else 2), text
