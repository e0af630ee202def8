"""One list of columns: the tables, the function `llm_logs.keep`, the rows and the OpenAPI document agree with it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import orjson
import pytest
from msgspec.structs import replace

from gateway.edge.ops.openapi import document
from gateway.model import Kind, PolicyOutcome, Record, Ruling, Usage
from gateway.store.columns import COLUMNS, json_schema
from gateway.store.rows import Batch, ConversationPlace, row_of
from tests.journal.samples import answer, interaction
from tests.store.samples import SQL, rows_of, store, user

ROOT = Path(__file__).parents[2]
TABLES = {"chatgpt_logs": True, "image_logs": False, "api_logs": False}
IN_TABLE = """
select a.attname as name, format_type(a.atttypid, a.atttypmod) as type, col_description(a.attrelid, a.attnum) as comment
from pg_attribute as a
where a.attrelid = $1::text::regclass and a.attnum > 0 and not a.attisdropped
"""
FUNCTION = "create or replace function llm_logs.keep("


def printed(program: str) -> str:
    return subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True).stdout


def test_the_newest_migration_of_keep_is_made_from_the_list() -> None:
    made = printed("import deploy.keep_sql as it; print(it.keep_function())").strip()
    migrations = [text for path in sorted(SQL.glob("*.sql")) if FUNCTION in (text := path.read_text("utf-8"))]
    assert made in migrations[-1]


@pytest.mark.parametrize(("table", "is_chats"), TABLES.items())
async def test_the_list_has_each_column_of_the_tables_with_its_type_and_comment(
    database: str, table: str, is_chats: bool
) -> None:
    async with store(database) as (db, _):
        found = {row["name"]: (row["type"], row["comment"]) for row in await rows_of(db, IN_TABLE, f"llm_logs.{table}")}
    wanted = {column.name: (column.type, column.comment) for column in COLUMNS if is_chats or not column.chats_only}
    assert found == wanted


@pytest.mark.parametrize("kind", [Kind.CHAT, Kind.IMAGE, Kind.OTHER])
def test_a_full_row_has_each_column_of_the_list(kind: Kind) -> None:
    ruling = Ruling(PolicyOutcome.MASKED, ("a rule",))
    body = orjson.dumps({"messages": [user("a"), {"role": "assistant", "content": "b"}, user("c")]})
    said = replace(answer(usage=Usage(1, 2)), request_sha256="a", response_sha256="b")
    row = row_of(Record(interaction(b"\xef\xbb\xbf" + body, kind=kind, policy=ruling), said))
    if kind is Kind.CHAT:
        row.fingerprints = row.fingerprints._replace(snapshot=b"s", answer=b"a", item=b"i")
        row.set_place(ConversationPlace("root", None, True, None))
    row.response_raw = b"raw"
    batch = Batch()
    batch.add(row)
    (members,) = orjson.loads(batch.json)
    named = [column for column in COLUMNS if column.is_member and (kind is Kind.CHAT or not column.chats_only)]
    assert members.keys() == {column.name for column in named}


@pytest.mark.parametrize("schema", ["Row", "Interaction", "Turn"])
def test_the_openapi_document_gives_columns_the_types_of_the_list(schema: str) -> None:
    known = {column.name: json_schema(column) for column in COLUMNS}
    found = document()["components"]["schemas"][schema]
    properties: dict[str, Any] = found.get("allOf", [found])[-1]["properties"]
    types = {name: each["type"] for name, each in properties.items() if name in known and "type" in each}
    assert len(types) > 4
    assert {name: kind for name, kind in types.items() if isinstance(kind, list) and kind != known[name]["type"]} == {}
    # The views replace null in some columns.
    assert all(kind == known[name]["type"][0] for name, kind in types.items() if isinstance(kind, str))


async def test_a_new_column_takes_one_row_of_the_list_a_value_and_a_migration(database: str) -> None:
    program = """
import deploy.keep_sql as it
from gateway.store.columns import COLUMNS, Column
print(it.keep_function([*COLUMNS, Column("region", "text", "where the upstream is")]))
"""
    one = Record(interaction(), answer())
    row = row_of(one)
    row.columns["region"] = "eu"
    row.set_place(ConversationPlace("root", None, True, None))
    batch = Batch()
    batch.add(row)
    async with store(database) as (db, _), db.connection() as connection:
        for table in TABLES:
            await connection.execute(f"alter table llm_logs.{table} add column region text")
        await connection.execute(printed(program))
        assert await connection.fetchval("select llm_logs.keep('chat', $1, $2)", batch.json, batch.raws) == 1
        assert await connection.fetchval("select region from llm_logs.chatgpt_logs") == "eu"
