"""What auditors find in the whole log, and what nobody else does."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
from msgspec import structs

from gateway.errors import NotFound, TooBroad
from gateway.model import Kind, Outcome, PolicyOutcome, Principal, Record, Role, Ruling
from gateway.store.audit import ANY, Audit, AuditFilter, Search
from gateway.store.page_cursor import OLDEST
from tests.journal.samples import answer, interaction
from tests.store.samples import chat, model, record, rows_of, store, user

if TYPE_CHECKING:
    from gateway.store.page_cursor import Page

EVE = Principal("eve", roles=frozenset((Role.AUDITOR,)))
MASKED = Ruling(PolicyOutcome.MASKED, ("card numbers",))
REJECTED = Ruling(PolicyOutcome.REJECTED, ("no weapons",))
MIB = 1 << 20


def ended(one: Record, *, days_ago: float = 0.0, **more: Any) -> Record:
    """The same, ended otherwise or earlier."""
    moment = datetime.now(UTC) - timedelta(days=days_ago)
    return Record(one.interaction, structs.replace(one.answer, finished_at=moment.timestamp(), **more))


def asked(page: Page) -> list[str | None]:
    return [json.loads(row)["asked"] for row in page.rows]


async def found(audit: Audit, words: str = "", /, **more: Any) -> list[str | None]:
    wanted = AuditFilter(**{name: more.pop(name) for name in list(more) if name in AuditFilter.__slots__})
    return asked(await audit.search(Search(EVE, wanted, words, **more)))


LOG = [
    ended(chat(user("first"), by="ann", policy=MASKED), days_ago=4),
    ended(chat(user("second"), by="bob", model="gpt-5"), days_ago=3, outcome=Outcome.TRUNCATED),
    ended(record(b'{"prompt":"third"}', kind=Kind.IMAGE, principal=Principal("ann")), days_ago=2),
    ended(record(b'{"input":"fourth"}', kind=Kind.OTHER, principal=Principal("bob")), days_ago=1),
    ended(chat(user("fifth"), by="ann", policy=REJECTED), outcome=Outcome.POLICY_BLOCKED),
]


async def test_all_kinds_are_found_newest_first(database: str) -> None:
    async with store(database) as (db, interactions):
        await interactions.keep(LOG)
        assert await found(Audit(db)) == ["fifth", "fourth", "third", "second", "first"]


@pytest.mark.parametrize(
    ("wanted", "lines"),
    [
        ({"user": "ann"}, ["fifth", "third", "first"]),
        ({"user": "nobody"}, []),
        ({"model": "gpt-5"}, ["second"]),
        ({"source": "image"}, ["third"]),
        ({"outcome": "truncated"}, ["second"]),
        ({"outcome": "complete"}, ["fourth", "third", "first"]),
        ({"policy": ANY}, ["fifth", "first"]),
        ({"policy": "masked"}, ["first"]),
        ({"policy": "rejected", "user": "ann", "outcome": "policy_blocked"}, ["fifth"]),
        ({"policy": "rejected", "user": "bob"}, []),
        ({"since": datetime.now(UTC).replace(tzinfo=None) - timedelta(days=2.5)}, ["fifth", "fourth", "third"]),
    ],
)
async def test_what_is_wanted_is_found_and_nothing_else(
    database: str, wanted: dict[str, Any], lines: list[str]
) -> None:
    async with store(database) as (db, interactions):
        await interactions.keep(LOG)
        assert await found(Audit(db), **wanted) == lines


async def test_pages_show_each_line_once_also_where_moments_are_equal(database: str) -> None:
    async with store(database) as (db, interactions):
        batch = [Record(chat(user(str(n))).interaction, answer(finished_at=1_800_000_000.0)) for n in range(23)]
        await interactions.keep(batch)
        search, seen = Search(EVE, AuditFilter(), limit=5), list[str | None]()
        while True:
            page = await Audit(db).search(search)
            seen += asked(page)
            if page.next is None:
                break
            search = replace(search, before=page.next)
        assert seen == [str(n) for n in reversed(range(23))]


@pytest.mark.parametrize("words", ["", "first"])
async def test_who_is_no_auditor_finds_nothing_not_even_of_their_own(database: str, words: str) -> None:
    """The edge refuses first; this is what holds should it ever forget."""
    async with store(database) as (db, interactions):
        await interactions.keep(LOG)
        audit = Audit(db)
        assert (await audit.search(Search(Principal("ann"), AuditFilter(), words))).rows == []
        with pytest.raises(NotFound):
            await audit.conversation(Principal("ann"), LOG[0].interaction.id, limit=10, budget=MIB)


async def test_words_of_everybody_are_found_by_their_beginnings(database: str) -> None:
    async with store(database) as (db, interactions):
        await interactions.keep(
            [
                chat(user("the quarterly figures"), says="here they are", by="ann"),
                chat(user("figures of speech"), says="quarterly", by="bob"),
                chat(user("nothing of it"), says="no", by="o'neil \\ & | :* 'x"),
            ]
        )
        audit = Audit(db)
        assert await found(audit, "quarter figures") == ["figures of speech", "the quarterly figures"]
        assert await found(audit, "quarter figures", user="ann") == ["the quarterly figures"]
        assert await found(audit, "quarter figures", source="image") == []
        assert await found(audit, "nothing") == ["nothing of it"]
        assert await found(audit, "it's & | ! ( :* \\ ' nothing") == []
        assert await found(audit, "!!! &&&") == []


async def test_rare_words_are_found_beyond_the_newest_rows_and_in_pages(database: str) -> None:
    async with store(database) as (db, interactions):
        await interactions.keep(
            [chat(user("needle" if n % 100 == 7 else f"hay {n}"), by=f"user {n % 9}") for n in range(900)]
        )
        audit = Audit(db)
        page = await audit.search(Search(EVE, AuditFilter(), "needle", limit=5))
        assert page.next is not None
        rest = await audit.search(Search(EVE, AuditFilter(), "needle", limit=5, before=page.next))
        ids = [json.loads(row)["id"] for row in (*page.rows, *rest.rows)]
        assert len(set(ids)) == 9
        assert rest.next is None


async def test_a_seeds_rows_are_found_too(database: str) -> None:
    async with store(database) as (db, _):
        seed = """insert into llm_logs.chatgpt_logs (id, request, response, user_name) values
            ($1, '{"messages": [{"role": "user", "content": "from the seed"}]}', '{}', 'old')"""
        await rows_of(db, seed, uuid4())
        audit = Audit(db)
        assert await found(audit) == await found(audit, "seed") == await found(audit, outcome="complete")
        assert await found(audit) == ["from the seed"]


async def test_too_many_words_are_refused_in_words(database: str) -> None:
    async with store(database) as (db, _):
        with pytest.raises(TooBroad, match="8 words"):
            await found(Audit(db), "a b c d e f g h i")


async def test_a_conversation_is_whole_and_each_turn_has_what_it_adds(database: str) -> None:
    first = [{"role": "system", "content": "Be brief."}, user("one?")]
    second = [*first, model("1"), user("two?")]
    batch = [chat(*first, says="1", policy=MASKED), chat(*second, says="2"), chat(*second, says="two")]
    async with store(database) as (db, interactions):
        for each in batch:
            await interactions.keep([each])
        await interactions.keep([chat(user("elsewhere"), by="bob")])
        opened = await Audit(db).conversation(EVE, batch[2].interaction.id, limit=10, budget=MIB)
        assert (opened.user, opened.root) == ("ann", str(batch[0].interaction.id))
        turns = [json.loads(row) for row in opened.turns.rows]
        assert [turn["messages"] for turn in turns] == [first, [user("two?")], [user("two?")]]
        assert [turn["response"]["choices"][0]["message"]["content"] for turn in turns] == ["1", "2", "two"]
        assert [turn["parent_id"] for turn in turns] == [None, turns[0]["id"], turns[0]["id"]]
        assert [turn["policy_rules"] for turn in turns] == [["card numbers"], None, None]


async def test_the_same_conversation_id_of_two_users_is_two_conversations(database: str) -> None:
    mine, theirs = (chat(user(by), by=by, root_id="shared") for by in ("ann", "bob"))
    async with store(database) as (db, interactions):
        await interactions.keep([mine, theirs])
        opened = await Audit(db).conversation(EVE, mine.interaction.id, limit=10, budget=MIB)
        assert [json.loads(row)["id"] for row in opened.turns.rows] == [str(mine.interaction.id)]


async def test_a_long_conversation_comes_in_pages(database: str) -> None:
    async with store(database) as (db, interactions):
        batch = [chat(user(str(n)), root_id="long") for n in range(7)]
        await interactions.keep(batch)
        audit, seen, after = Audit(db), list[str](), OLDEST
        for wanted in (3, 3, 1):
            opened = await audit.conversation(EVE, batch[4].interaction.id, after=after, limit=3, budget=MIB)
            assert len(opened.turns.rows) == wanted
            seen += [json.loads(row)["id"] for row in opened.turns.rows]
            after = opened.turns.next or after
        assert seen == [str(each.interaction.id) for each in batch]
        small = await audit.conversation(EVE, batch[4].interaction.id, limit=100, budget=1)
        assert len(small.turns.rows) == 1
        assert small.turns.next is not None


@pytest.mark.parametrize("kind", list(Kind))
@pytest.mark.parametrize("body", [b"", b"\xff\x00<script>", b"[]", b"5", b'{"messages":5}', b'{"messages":[5,null]}'])
async def test_whatever_a_row_holds_it_can_be_opened(database: str, kind: Kind, body: bytes) -> None:
    one = Record(interaction(body, kind=kind), answer(body))
    async with store(database) as (db, interactions):
        await interactions.keep([one])
        opened = await Audit(db).conversation(EVE, one.interaction.id, limit=10, budget=MIB)
        (turn,) = [json.loads(row) for row in opened.turns.rows]
        assert turn["id"] == str(one.interaction.id)
        if body.startswith(b"\xff"):
            assert turn["request_text"] == turn["response_text"] == "\\377\\000<script>"
