"""Any text in any column of the three tables: a row in the right table, never a refusal."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import orjson
import pytest
from msgspec.structs import replace

from gateway.model import Kind, PolicyOutcome, Principal, Record, Ruling, Usage
from gateway.store.audit import AuditFilter
from gateway.store.history import History, HistoryQuery
from gateway.store.reports import Reports
from gateway.store.rows import MAX_NAME_CHARS, MAX_SEARCHED_CHARS, indexed_text, searched_text
from tests.journal.samples import answer, interaction
from tests.store.samples import chat, record, rows_of, store, user

if TYPE_CHECKING:
    from collections.abc import Iterator

TABLES = {Kind.CHAT: "chatgpt_logs", Kind.RESPONSE: "chatgpt_logs", Kind.IMAGE: "image_logs", Kind.OTHER: "api_logs"}
OF_PRINCIPAL = {"user_name": "user", "title": "title", "key_id": "key_id"}
OF_INTERACTION = {
    "method": "method",
    "path": "path",
    "model": "model",
    "upstream": "upstream",
    "request_id": "request_id",
    "request_type": "request_type",
    "convo_title": "convo_title",
    "root_gpt_id": "root_id",
}
OF_ANSWER = {
    "answered_model": "model",
    "upstream_request_id": "upstream_request_id",
    "error": "error",
    "response_type": "body_type",
    "request_sha256": "request_sha256",
    "response_sha256": "response_sha256",
}
OURS = {"kind", "outcome", "policy_outcome"}  # words of enumerations
ALPHABETS = (
    "abcdefghijklmnopqrstuvwxyz0123456789",
    "\x00\x01\x7f\ud800\udcff\udfff\ufffe\uffff\ufeff",
    "éß天气🎉\u0301\u200d\u2028",
    "'\"\\{}[],:;%$\t\n\r <>&|!*()",
)


def hostile(seed: int) -> Iterator[str]:
    chance = random.Random(seed)
    yield from ("", "\x00", "\ud800", "\\u0000", "\\udcff", "NULL", "{}", "%s$1", "\u0000" * 3000)
    for length in (1, 40, 249, 250, 251, 2700, 9000, 300_000):
        for alphabet in (*ALPHABETS, "".join(ALPHABETS)):
            yield "".join(chance.choices(alphabet, k=length))


def with_text(kind: Kind, column: str, text: str) -> Record:
    asked, said = interaction(kind=kind), answer()
    if column == "policy_rules":
        return Record(replace(asked, policy=Ruling(PolicyOutcome.MASKED, (text, "rule"))), said)
    if column in OF_PRINCIPAL:
        names: dict[str, Any] = {"user": "ann", OF_PRINCIPAL[column]: text}
        return Record(replace(asked, principal=Principal(**names)), said)
    if column in OF_INTERACTION:
        return Record(replace(asked, **{OF_INTERACTION[column]: text}), said)
    return Record(asked, replace(said, **{OF_ANSWER[column]: text}))


@pytest.mark.parametrize("kind", list(Kind))
async def test_a1_any_text_in_any_column_is_a_row_in_the_right_table(database: str, kind: Kind) -> None:
    table = TABLES[kind]
    async with store(database) as (db, interactions):
        found = await rows_of(
            db,
            "select attname from pg_attribute where attrelid = $1::regclass and attnum > 0 "
            "and atttypid in ('text'::regtype, 'text[]'::regtype, 'varchar'::regtype)",
            f"llm_logs.{table}",
        )
        columns = {str(row["attname"]) for row in found} - OURS
        assert columns <= {*OF_PRINCIPAL, *OF_INTERACTION, *OF_ANSWER, "policy_rules"}
        for number, column in enumerate(sorted(columns)):
            batch = [with_text(kind, column, text) for text in hostile(number)]
            await interactions.keep(batch)
            sql = f"select count(*) as n from llm_logs.{table} where id = any($1) and request_raw is null"
            (row,) = await rows_of(db, sql, [each.interaction.id for each in batch])
            assert row["n"] == len(batch), column
        await Reports(db).refresh()  # its tables have indexes of their own


async def test_a1_a_model_of_2700_random_letters_is_a_row_and_the_request_keeps_it_whole(database: str) -> None:
    chance = random.Random(1)
    models = ["".join(chance.choices("abcdefghijklmnopqrstuvwxyz", k=2700)) for _ in range(2)]
    models += [models[0][:-1] + "!"]
    batch = [record(orjson.dumps({"model": name}), model=name) for name in models]
    async with store(database) as (db, interactions):
        await interactions.keep(batch)
        rows = await rows_of(db, "select model, request from llm_logs.chatgpt_logs order by id")
        assert [row["request"]["model"] for row in rows] == models
        assert len({row["model"] for row in rows}) == 3  # long names stay different
        for row, name in zip(rows, models, strict=True):
            assert row["model"].startswith(name[:150])
            assert "…" in row["model"]  # a visible cut
            assert len(row["model"]) <= MAX_NAME_CHARS
        (wanted,) = {column for column in AuditFilter(model=models[1]).columns if column is not None}
        assert wanted == rows[1]["model"]  # who looks for the long name finds it


async def test_a1_a_user_with_the_longest_name_reads_what_is_theirs(database: str) -> None:
    name = "é" * 256
    async with store(database) as (db, interactions):
        await interactions.keep([chat(user("hi"), by=name)])
        found = await History(db).rows(HistoryQuery(Principal(name), name, limit=10, budget=1 << 20))
        assert len(found.rows) == 1


@pytest.mark.parametrize(
    ("usage", "cost"),
    [(Usage(2**70, 2**70), 1e300), (Usage(-(2**70), -(2**70)), 1e-300), (None, float("nan")), (None, float("inf"))],
)
async def test_a1_numbers_beyond_their_columns_are_bounded(database: str, usage: Any, cost: float) -> None:
    async with store(database) as (db, interactions):
        await interactions.keep([Record(interaction(kind=kind), answer(usage=usage, usage_cost=cost)) for kind in Kind])
        for table in set(TABLES.values()):
            assert await rows_of(db, f"select 1 from llm_logs.{table} where request_raw is null")


def test_a1_texts_that_are_short_enough_stay_as_they_are() -> None:
    assert indexed_text("é" * MAX_NAME_CHARS) == "é" * MAX_NAME_CHARS
    assert searched_text("é" * MAX_SEARCHED_CHARS) == "é" * MAX_SEARCHED_CHARS
    assert len(searched_text("é" * (MAX_SEARCHED_CHARS + 1))) == MAX_SEARCHED_CHARS
