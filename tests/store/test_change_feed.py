"""Rows as they arrive: each once, whoever commits when."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING

import asyncpg

from gateway.model import Kind, PolicyOutcome, Principal, Role, Ruling
from gateway.store.change_feed import Change, ChangeFeed, End
from tests.journal.samples import answer, interaction
from tests.store.samples import chat, record, rows_of, store, user

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

EVE = Principal("eve", roles=frozenset((Role.AUDITOR,)))
NOTED = "insert into llm_logs.chatgpt_logs (id) values ($1)"


async def seen_from(arrivals: ChangeFeed, position: int) -> Sequence[Change]:
    await arrivals.number(1000)
    return await arrivals.after(EVE, position, 1000)


async def test_none_but_an_auditor_is_told_a_line(database: str) -> None:
    async with store(database) as (db, interactions):
        await interactions.keep([chat(user("a secret"), by="bob")])
        arrivals = ChangeFeed(db)
        (seen,) = await seen_from(arrivals, 0)
        assert "a secret" in (seen.body or "")
        for other in (Principal("bob"), Principal("ann", roles=frozenset((Role.ADMIN,)))):
            (told,) = await arrivals.after(other, 0, 10)
            assert told == Change(1, None, None, None, None, None, None)


async def test_each_kind_of_row_is_told_with_its_line(database: str) -> None:
    async with store(database) as (db, interactions):
        ruling = Ruling(PolicyOutcome.MASKED, ("card numbers",))
        batch = [
            chat(user("hello"), says="hi there", policy=ruling),
            record(b'{"prompt":"a cat"}', kind=Kind.IMAGE, model=None),
            record(b'{"input":"embed me"}', kind=Kind.OTHER),
        ]
        await interactions.keep(batch)
        found = await seen_from(ChangeFeed(db), 0)
        assert [each.position for each in found] == [1, 2, 3]
        assert {each.source for each in found} == {"chat", "image", "api"}
        (one,) = [each for each in found if each.source == "chat"]
        assert (one.user, one.model, one.outcome, one.policy) == ("ann", "m", "complete", "masked")
        assert one.body is not None
        assert '"asked":"hello"' in one.body
        assert '"said":"hi there"' in one.body
        assert "\n" not in one.body


async def test_a_row_is_told_once_though_it_is_kept_again(database: str) -> None:
    async with store(database) as (db, interactions):
        one = chat(user("hello"))
        await interactions.keep([one])
        await interactions.keep([one])
        assert len(await seen_from(ChangeFeed(db), 0)) == 1
        assert await seen_from(ChangeFeed(db), 1) == []


async def test_one_that_commits_late_comes_after_those_that_were_seen(database: str) -> None:
    """Written first, visible last: a mark in time or of ids would have passed it by."""
    async with store(database) as (db, interactions):
        arrivals = ChangeFeed(db)
        slow = await asyncpg.connect(database)
        late, soon = chat(user("late")).interaction.id, chat(user("soon"))
        transaction = slow.transaction()
        await transaction.start()
        await slow.execute(NOTED, late)
        await interactions.keep([soon])
        assert [each.position for each in await seen_from(arrivals, 0)] == [1]
        await transaction.commit()
        (found,) = await seen_from(arrivals, 1)
        assert found.position == 2
        assert found.body is not None
        assert str(late) in found.body
        await slow.close()


async def test_rows_of_many_writers_are_all_seen_once_by_many_readers(database: str) -> None:
    """Writers commit in any order while two processes number, and two read."""
    async with store(database) as (db, _):
        is_over = asyncio.Event()
        written: set[UUID] = set()

        async def write(number: int) -> None:
            connection = await asyncpg.connect(database)
            for round_ in range(12):
                async with connection.transaction():
                    ids = [interaction().id for _ in range(3)]
                    await connection.executemany(NOTED, [(id_,) for id_ in ids])
                    await asyncio.sleep(0.001 * ((number * 7 + round_ * 13) % 11))
                written.update(ids)
            await connection.close()

        async def read() -> list[str]:
            arrivals, seen, position = ChangeFeed(db), list[str](), 0
            while True:
                ends = is_over.is_set()
                await arrivals.number(7)
                fresh = await arrivals.after(EVE, position, 5)
                seen += [each.body or "" for each in fresh]
                position = fresh[-1].position if fresh else position
                if ends and not fresh and not await arrivals.number(1):
                    return seen

        readers = [asyncio.create_task(read()) for _ in range(2)]
        await asyncio.gather(*(write(number) for number in range(6)))
        is_over.set()
        for seen in await asyncio.gather(*readers):
            assert len(seen) == len(written) == 216
            assert all(sum(str(id_) in body for body in seen) == 1 for id_ in written)


async def test_a_transaction_that_fails_leaves_no_gap(database: str) -> None:
    async with store(database) as (db, interactions):
        connection = await asyncpg.connect(database)
        transaction = connection.transaction()
        await transaction.start()
        await connection.execute(NOTED, interaction().id)
        await transaction.rollback()
        await connection.close()
        await interactions.keep([chat(user("hello"))])
        assert [each.position for each in await seen_from(ChangeFeed(db), 0)] == [1]


async def test_what_is_forgotten_is_known_to_be_missed(database: str) -> None:
    async with store(database) as (db, interactions):
        arrivals = ChangeFeed(db)
        await interactions.keep([chat(user(text)) for text in "abc"])
        await arrivals.number(1000)
        assert await arrivals.forget(timedelta(hours=1)) == 0
        assert await arrivals.end() == End(3, 0)
        assert await arrivals.forget(timedelta(0)) == 3
        assert await arrivals.end() == End(3, 3)


async def test_rows_that_nobody_numbered_count_as_missed_as_well(database: str) -> None:
    async with store(database) as (db, interactions):
        arrivals = ChangeFeed(db)
        await interactions.keep([chat(user("seen"))])
        assert len(await seen_from(arrivals, 0)) == 1
        await interactions.keep([chat(user("not seen"))])
        await arrivals.forget(timedelta(0))
        end = await arrivals.end()
        assert end.forgotten > 1  # who has seen 1 has missed something
        await interactions.keep([chat(user("later"))])
        (found,) = await seen_from(arrivals, end.position)
        assert found.position > end.position


async def test_a_row_that_is_no_more_has_a_place_but_no_line(database: str) -> None:
    async with store(database) as (db, interactions):
        await interactions.keep([chat(user("a")), chat(user("b"))])
        await rows_of(db, "delete from llm_logs.chatgpt_logs where request #>> '{messages,0,content}' = 'a'")
        assert [each.body is None for each in await seen_from(ChangeFeed(db), 0)] == [True, False]


async def test_any_row_has_a_line(database: str) -> None:
    """Whatever was said: no JSON, other shapes than are known, an insert by hand."""
    odd = [b"", b"\xff", b"[]", b'"text"', b"5", b'{"messages":5}', b'{"messages":{}}', b'{"messages":[5]}']
    odd += [
        b'{"messages":[{"content":[5,{"text":7},"x"]}]}',
        b'{"input":[[]]}',
        b'{"prompt":["a"]}',
        b'{"choices":[[]]}',
    ]
    async with store(database) as (db, interactions):
        await interactions.keep([record(text, text) for text in odd])
        await interactions.keep([record(text, text, kind=Kind.OTHER) for text in odd])
        await rows_of(db, "insert into llm_logs.chatgpt_logs (user_name) values ('by hand')")
        found = await seen_from(ChangeFeed(db), 0)
        assert len(found) == 2 * len(odd) + 1
        assert all(each.body is not None for each in found)


async def test_a_very_large_request_is_not_looked_into(database: str) -> None:
    async with store(database) as (db, interactions):
        large = answer().body.replace(b"ho", b"z" * 3_000_000)
        noise = chat(user("".join(chr(0x4E00 + n * 7919 % 20000) for n in range(600_000))))
        await interactions.keep([noise, record(said=large)])
        asked = [each.body or "" for each in await seen_from(ChangeFeed(db), 0)]
        assert '"asked":null' in asked[0]
        assert all(len(body) < 5000 for body in asked)
