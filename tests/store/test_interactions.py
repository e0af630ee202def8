"""Interactions as rows: everything that was said, exactly, once, in the table of its kind."""

from __future__ import annotations

import asyncio
import errno
import json
import random
import time
from datetime import UTC, datetime

import pytest
from msgspec.structs import replace

from gateway.errors import RecordNotAccepted, RecordRefused, StoreUnavailable
from gateway.model import Answer, Kind, Outcome, PolicyOutcome, Principal, Record, Ruling, Usage
from gateway.store.interactions import Interactions
from gateway.store.rows import indexed_text
from tests.journal.samples import answer, interaction
from tests.store.samples import chat, record, rows_of, store, user

RAW = "select request::text as request, response::text as response, request_raw, response_raw from llm_logs."


async def test_all_that_is_known_stands_in_the_row(database: str) -> None:
    asked = interaction(
        b'{"model":"m","messages":[{"role":"user","content":"hi"}]}',
        is_stream=True,
        convo_title="a title",
        convo_show=False,
        request_type="application/json",
        started_at=1_800_000_000.25,
        policy=Ruling(PolicyOutcome.REDIRECTED, ("card numbers", "keep it inside")),
    )
    said = answer(
        error="nothing",
        usage_cost=0.5,
        upstream_request_id="up-1",
        response_size=5,
        response_sha256="ab",
        request_size=6,
        request_sha256="cd",
        finished_at=1_800_000_002.5,
    )
    async with store(database) as (db, interactions):
        await interactions.keep([Record(asked, said)])
        (row,) = await rows_of(db, "select * from llm_logs.chatgpt_logs")
        wanted = {
            "id": asked.id,
            "kind": "chat",
            "user_name": "ann",
            "title": "engineer",
            "key_id": "k1",
            "request": {"model": "m", "messages": [{"role": "user", "content": "hi"}]},
            "response": {"choices": [{"message": {"role": "assistant", "content": "ho"}}]},
            "usage_info": {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7},
            "convo_title": "a title",
            "convo_show": False,
            "root_gpt_id": str(asked.id),
            "parent_id": None,
            "root_inferred": True,
            "outcome": "complete",
            "policy_outcome": "redirected",
            "policy_rules": ["card numbers", "keep it inside"],
            "status": 200,
            "method": "POST",
            "path": "/v1/chat/completions",
            "model": "m",
            "answered_model": "m-2026",
            "upstream": "openai",
            "request_id": "req-1",
            "upstream_request_id": "up-1",
            "is_stream": True,
            "started_at": datetime.fromtimestamp(1_800_000_000.25, UTC),
            "finished_at": datetime.fromtimestamp(1_800_000_002.5, UTC),
            "response_time": datetime.fromtimestamp(1_800_000_002.5, UTC).replace(tzinfo=None),
            "first_token_ms": 1.5,
            "duration_ms": 12.25,
            "prompt_tokens": 3,
            "completion_tokens": 4,
            "usage_estimated": False,
            "usage_cost": 0.5,
            "bytes_in": 10,
            "bytes_out": 11,
            "error": "nothing",
            "request_type": "application/json",
            "response_type": "application/json",
            "request_size": 6,
            "response_size": 5,
            "request_sha256": "cd",
            "response_sha256": "ab",
            "request_raw": None,
            "response_raw": None,
            "parent_hash": None,
            "answer_hash": None,
            "item_hash": None,
        }
        found = dict(row)
        assert len(found.pop("snapshot_hash")) == 32
        assert found == wanted


@pytest.mark.parametrize(
    ("kind", "table"),
    [
        (Kind.CHAT, "chatgpt_logs"),
        (Kind.RESPONSE, "chatgpt_logs"),
        (Kind.IMAGE, "image_logs"),
        (Kind.OTHER, "api_logs"),
    ],
)
async def test_each_kind_has_its_table(database: str, kind: Kind, table: str) -> None:
    one = record(b'{"input":"x"}', b'{"output":"y"}', kind=kind)
    async with store(database) as (db, interactions):
        await interactions.keep([one])
        (row,) = await rows_of(db, f"select * from llm_logs.{table}")
        assert (row["id"], row["kind"], row["response"]) == (one.interaction.id, kind.value, {"output": "y"})


async def test_a_mixed_batch_goes_into_all_tables(database: str) -> None:
    batch = [record(kind=kind) for kind in Kind for _ in range(5)]
    async with store(database) as (db, interactions):
        await interactions.keep(batch)
        found = [
            row["id"]
            for table in ("chatgpt_logs", "image_logs", "api_logs")
            for row in await rows_of(db, f"select id from llm_logs.{table}")
        ]
        assert sorted(found) == sorted(one.interaction.id for one in batch)


async def test_the_same_records_again_change_nothing(database: str) -> None:
    batch = [chat(user(str(number))) for number in range(10)]
    altered = [Record(one.interaction, replace(one.answer, body=b'{"other":1}')) for one in batch]
    async with store(database) as (db, interactions):
        await interactions.keep(batch)
        before = await rows_of(db, "select * from llm_logs.chatgpt_logs order by id")
        await interactions.keep(altered)
        await interactions.keep(batch[3:] + batch[:3])
        assert await rows_of(db, "select * from llm_logs.chatgpt_logs order by id") == before


async def test_a_batch_is_kept_by_two_processes_at_once_without_harm(database: str) -> None:
    batch = [chat(user(str(number)), by=f"user {number % 7}") for number in range(200)]
    async with store(database) as (db, one), store(database) as (_, other):
        await asyncio.gather(one.keep(batch), other.keep(list(reversed(batch))), one.keep(batch[50:]))
        (row,) = await rows_of(db, "select count(*) as n from llm_logs.chatgpt_logs")
        assert row["n"] == 200


# --- exactness --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [Kind.CHAT, Kind.IMAGE, Kind.OTHER])
async def test_what_jsonb_cannot_hold_is_there_as_bytes(database: str, kind: Kind) -> None:
    lossy = [b'{"a":"\\u0000"}', b'{"a":1,"a":2}', b"\x89PNG\x00\xff"]
    bodies = [*lossy, b'{"n":18446744073709551616}', b'{"plain":true}']
    batch = [record(body, bodies[-1 - number], kind=kind) for number, body in enumerate(bodies)]
    table = {Kind.CHAT: "chatgpt_logs", Kind.IMAGE: "image_logs", Kind.OTHER: "api_logs"}[kind]
    async with store(database) as (db, interactions):
        await interactions.keep(batch)
        rows = await rows_of(db, RAW + table + " order by id")
        assert [row["request_raw"] for row in rows] == [*lossy, None, None]
        assert [row["response_raw"] for row in rows] == [None, None, *reversed(lossy)]
        assert [row["request"] for row in rows] == [
            '{"a": "\ufffd"}',
            '{"a": 2}',
            None,
            '{"n": 18446744073709551616}',
            '{"plain": true}',
        ]


async def test_names_that_postgres_refuses_are_written_out(database: str) -> None:
    odd = "b\udcffob\x00"
    one = Record(
        replace(
            chat(user("hi")).interaction, principal=Principal(odd, title=odd), root_id=odd, convo_title=odd, path=odd
        ),
        answer(error=odd, model=odd),
    )
    async with store(database) as (db, interactions):
        await interactions.keep([one, chat(user("hello"))])
        (row,) = await rows_of(db, "select * from llm_logs.chatgpt_logs where id = $1", one.interaction.id)
        for column in ("user_name", "title", "root_gpt_id", "convo_title", "path", "error", "answered_model"):
            assert row[column] == "b\\udcffob\ufffd", column


async def test_names_that_are_too_long_for_an_index_are_abbreviated(database: str) -> None:
    long, other = random.Random(1).randbytes(4000).hex(), random.Random(2).randbytes(4000).hex()
    batch = [chat(user("1"), by=long, root_id=other), chat(user("2"), by=long, root_id=other), chat(user("3"))]
    async with store(database) as (db, interactions):
        await interactions.keep(batch)
        rows = await rows_of(db, "select * from llm_logs.chatgpt_logs order by id")
        assert len(rows) == 3
        assert rows[0]["user_name"] == rows[1]["user_name"] != long
        assert rows[0]["root_gpt_id"] == rows[1]["root_gpt_id"] != other
        assert rows[0]["user_name"].startswith(long[:100])
        assert len("é" * 250) == len(indexed_text("é" * 250)) == len(indexed_text("é" * 251))


@pytest.mark.parametrize(
    ("kind", "table"), [(Kind.RESPONSE, "chatgpt_logs"), (Kind.IMAGE, "image_logs"), (Kind.OTHER, "api_logs")]
)
async def test_whatever_rules_are_called_each_table_keeps_them(database: str, kind: Kind, table: str) -> None:
    odd = ("b\udcffob\x00", "", "é" * 1000, 'a,"b"{}')
    asked = interaction(kind=kind, policy=Ruling(PolicyOutcome.MASKED, odd))
    async with store(database) as (db, interactions):
        await interactions.keep([Record(asked, answer())])
        (row,) = await rows_of(db, f"select policy_outcome, policy_rules from llm_logs.{table}")
        assert row["policy_outcome"] == "masked"
        assert row["policy_rules"] == ["b\\udcffob\ufffd", "", indexed_text("é" * 1000), 'a,"b"{}']


@pytest.mark.parametrize(
    "usage",
    [
        Usage(1, 2, is_estimate=True),
        Usage(2**70, 2**63),
        Usage(1, 2, raw={"prompt_tokens": 2**80, "odd\x00": "\ud800", "n": float("nan")}),
        Usage(1, 2, raw={}),
    ],
)
async def test_any_usage_is_kept(database: str, usage: Usage) -> None:
    async with store(database) as (db, interactions):
        await interactions.keep([Record(interaction(), answer(usage=usage))])
        (row,) = await rows_of(db, "select usage_info::text as info, prompt_tokens from llm_logs.chatgpt_logs")
        assert row["prompt_tokens"] == min(usage.prompt_tokens, 2**63 - 1)
        info = json.loads(row["info"])
        if usage.raw is None:
            assert (info["total_tokens"], info["estimated"]) == (usage.total_tokens, usage.is_estimate)
        elif usage.raw:
            assert info["prompt_tokens"] == 2**80


async def test_every_outcome_is_kept(database: str) -> None:
    batch = [Record(interaction(), Answer(outcome=outcome, finished_at=time.time())) for outcome in Outcome]
    async with store(database) as (db, interactions):
        await interactions.keep(batch)
        rows = await rows_of(db, "select outcome, response, usage_info, status from llm_logs.chatgpt_logs")
        assert {row["outcome"] for row in rows} == {outcome.value for outcome in Outcome}
        assert all(row["response"] is row["usage_info"] is row["status"] is None for row in rows)


async def test_a_very_large_record_is_kept(database: str) -> None:
    large = chat(user("x" * 8_000_000), says="y" * 4_000_000)
    raw = record(b"\x00" * 5_000_000, kind=Kind.OTHER)
    async with store(database) as (db, interactions):
        await interactions.keep([large, raw])
        sql = "select length(response->'choices'->0->'message'->>'content') as n from llm_logs.chatgpt_logs"
        (row,) = await rows_of(db, sql)
        assert row["n"] == 4_000_000
        (row,) = await rows_of(db, "select length(request_raw) as n from llm_logs.api_logs")
        assert row["n"] == 5_000_000


# --- refusals and absences --------------------------------------------------------------------------------------------

REFUSE = """
create function refuse() returns trigger language plpgsql as $$
begin
    if new.error = 'poison' and ({condition}) then
        raise exception 'not here';
    end if;
    return new;
end
$$;
create trigger refuse before insert on llm_logs.chatgpt_logs for each row execute function refuse();
"""


def poison() -> Record:
    return Record(interaction(), answer(error="poison"))


async def test_a_record_whose_data_is_refused_is_told_from_an_absence_and_has_a_plain_form(database: str) -> None:
    async with store(database) as (db, interactions):
        async with db.connection() as connection:
            await connection.execute("create index on llm_logs.chatgpt_logs (((request ->> 'n')::integer))")
        good, bad = chat(user("hi")), record(b'{"n":"canary"}', b'{"said":1}')
        with pytest.raises(RecordRefused, match="22P02") as caught:
            await interactions.keep([good, bad])
        assert "canary" not in caught.value.message
        assert await rows_of(db, "select id from llm_logs.chatgpt_logs") == []  # all or nothing
        await interactions.keep([good])
        await interactions.keep_raw(bad)
        (row,) = await rows_of(db, RAW + "chatgpt_logs where request is null")
        assert row["response"] is None
        assert (row["request_raw"], row["response_raw"]) == (bad.interaction.body, bad.answer.body)


@pytest.mark.parametrize(
    ("trouble", "cause", "says"),
    [
        ("alter table llm_logs.chatgpt_logs add check (error <> 'poison')", "23514", "violates check constraint"),
        (REFUSE.format(condition="true"), "P0001", "raised in the function refuse"),
        (
            REFUSE.replace("raise exception", "raise exception using errcode = '22P02', message =").format(
                condition="true"
            ),
            "22P02",
            "raised in the function refuse",
        ),
        ("alter table llm_logs.chatgpt_logs drop column bytes_out", "42703", 'column "bytes_out"'),
        ("alter table llm_logs.chatgpt_logs rename to elsewhere", "42P01", 'relation "llm_logs.chatgpt_logs"'),
        ("revoke insert on llm_logs.chatgpt_logs from llm_gateway", "42501", "permission denied for table"),
    ],
)
async def test_e1_what_is_no_fault_of_the_data_is_never_taken_for_it(
    database: str, trouble: str, cause: str, says: str
) -> None:
    async with store(database) as (db, interactions):
        async with db.connection() as connection:
            await connection.execute(trouble)
        for keeping in (interactions.keep([chat(user("hi")), poison()]), interactions.keep_raw(poison())):
            with pytest.raises(RecordNotAccepted, match=says) as caught:
                await keeping
            assert caught.value.cause == cause
            assert "Failing row" not in caught.value.message


@pytest.mark.parametrize(
    ("error", "refusal"),
    [
        (OSError(errno.EMFILE, "Too many open files"), RecordNotAccepted),
        (MemoryError(), RecordNotAccepted),
        (RuntimeError("can't start new thread"), RecordNotAccepted),
        (KeyError("a bug of ours"), RecordNotAccepted),
        (UnicodeError("surrogates not allowed"), RecordRefused),
        (RecursionError(), RecordRefused),
        (TypeError("Integer exceeds 64-bit range"), RecordRefused),
    ],
)
async def test_e7_only_an_error_of_encoding_is_a_records_own(
    database: str, error: Exception, refusal: type[Exception]
) -> None:
    is_failing = True

    def cost_of(_record: Record) -> float | None:
        if is_failing:
            raise error
        return None

    async with store(database) as (db, _):
        interactions = Interactions(db, cost_of)
        one = chat(user("hi"))
        for keeping in (interactions.keep([one]), interactions.keep_raw(one)):
            with pytest.raises(refusal) as caught:
                await keeping
            assert type(caught.value) is refusal
        is_failing = False
        await interactions.keep([one])
        await interactions.aclose()
        assert await rows_of(db, "select id from llm_logs.chatgpt_logs where request_raw is null")


async def test_a_missing_table_is_no_fault_of_the_records(database: str) -> None:
    async with store(database) as (db, interactions):
        async with db.connection() as connection:
            await connection.execute("alter table llm_logs.chatgpt_logs rename to elsewhere")
        with pytest.raises(StoreUnavailable):
            await interactions.keep([chat(user("hi"))])
        async with db.connection() as connection:
            await connection.execute("alter table llm_logs.elsewhere rename to chatgpt_logs")
        await interactions.keep([chat(user("hi"))])


async def test_a_full_postgres_is_no_fault_of_the_records(database: str) -> None:
    async with store(database) as (db, interactions):
        async with db.connection() as connection:
            await connection.execute(
                REFUSE.replace("raise exception 'not here'", "raise exception using errcode = '53100'").format(
                    condition="true"
                )
            )
        with pytest.raises(StoreUnavailable):
            await interactions.keep([poison()])


@pytest.mark.stopwatch
async def test_what_is_abandoned_ends_at_once(database: str) -> None:
    async with store(database) as (db, interactions), db.connection() as connection:
        async with connection.transaction():
            await connection.execute("lock table llm_logs.chatgpt_logs")
            keeping = asyncio.create_task(interactions.keep([chat(user("hi"))]))
            await asyncio.sleep(0.3)
            assert not keeping.done()
            interactions.abandon()
            with pytest.raises(StoreUnavailable):
                async with asyncio.timeout(1):
                    await keeping
        with pytest.raises(StoreUnavailable):
            await interactions.keep([chat(user("hi"))])


async def test_a_statement_that_takes_too_long_is_an_absence(database: str) -> None:
    async with store(database) as (db, interactions), db.connection() as connection:
        async with connection.transaction():
            await connection.execute("lock table llm_logs.chatgpt_logs")
            with pytest.raises(StoreUnavailable):
                await interactions.keep([chat(user("hi"))])
        await interactions.keep([chat(user("hi"))])


@pytest.mark.stopwatch
async def test_the_event_loop_has_turns_while_a_batch_is_made(database: str) -> None:
    longest = 0.0

    async def watch() -> None:
        nonlocal longest
        while True:
            started = time.perf_counter()
            await asyncio.sleep(0)
            longest = max(longest, time.perf_counter() - started)

    async with store(database) as (_, interactions):
        await keep_many(interactions)
        watching = asyncio.create_task(watch())
        await keep_many(interactions)
        watching.cancel()
    assert longest < 0.2  # generous: the machine may be busy


async def keep_many(interactions: Interactions) -> None:
    await interactions.keep([chat(user("hello " * 100), says="word " * 200) for _ in range(500)])
