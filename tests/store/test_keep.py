"""`llm_logs.keep`: the one way in for our writers, beside gateways that still insert with their own statements."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import asyncpg
import pytest
from msgspec.structs import replace

from gateway.errors import RecordNotAccepted, RecordRefused
from gateway.model import Kind, PolicyOutcome, Record, Ruling, Usage
from gateway.store import interactions as module
from gateway.store.interactions import Interactions
from gateway.store.migrations import migrate
from gateway.store.pool import Database
from gateway.store.rows import Batch, ConversationPlace, row_of
from tests.journal.samples import answer, interaction
from tests.store.old_writer import OLD_STATEMENTS
from tests.store.samples import IMPATIENT, SQL, chat, model, rows_of, store, user

if TYPE_CHECKING:
    from pathlib import Path

    from gateway.store.pool import PooledConnection
    from tests.postgres import PostgresServer

TABLES = {"chat": "chatgpt_logs", "image": "image_logs", "api": "api_logs"}
KINDS = {"chat": Kind.CHAT, "image": Kind.IMAGE, "api": Kind.OTHER}


def full(kind: Kind) -> Record:
    """A record that fills every column, with bodies that jsonb cannot hold exactly."""
    asked = interaction(
        b'{"messages":[{"role":"user","content":"\\u0000"}],"a":1,"a":2}',
        kind=kind,
        convo_title="title",
        policy=Ruling(PolicyOutcome.MASKED, ("a", 'b"{},')),
        request_type="application/json",
        started_at=1_800_000_000.123456,
    )
    said = replace(
        answer(b"\xff no JSON", usage=Usage(3, 4, is_estimate=True), usage_cost=0.25, error="cut"),
        request_sha256="a" * 64,
        request_size=1,
        finished_at=1_800_000_002.654321,
    )
    return Record(asked, said)


def batch_of(*records: Record) -> Batch:
    batch = Batch()
    for record in records:
        row = row_of(record)
        if row.kind is Kind.CHAT:
            row.set_place(ConversationPlace("root", None, True, row.convo_title))
        batch.add(row)
    return batch


async def keep(connection: PooledConnection, source: str, batch: Batch) -> Any:
    return await connection.fetchval(module.KEEP, source, batch.json, batch.raws)


@pytest.mark.parametrize("source", TABLES)
async def test_keep_writes_the_rows_that_an_older_gateway_writes_byte_for_byte(database: str, source: str) -> None:
    plain = Record(interaction(kind=KINDS[source]), answer())
    stored = f"select t::text as row from llm_logs.{TABLES[source]} as t order by id"
    async with store(database) as (db, _), db.connection() as connection:
        batch = batch_of(full(KINDS[source]), plain)
        await connection.execute(OLD_STATEMENTS[source], batch.json, batch.raws)
        old = await connection.fetch(stored)
        assert await keep(connection, source, batch) == 0, "what is there stays"
        await connection.execute(f"truncate llm_logs.{TABLES[source]}")
        assert await keep(connection, source, batch) == 2
        assert await connection.fetch(stored) == old


async def test_a_gateway_of_an_older_version_inserts_beside_ours(database: str) -> None:
    first = chat(user("a"), says="b")
    second = chat(user("a"), model("b"), user("c"), says="d")
    async with store(database) as (db, interactions), db.connection() as connection:
        row = row_of(first)
        row.set_place(ConversationPlace(str(row.id), None, True, None))
        batch = Batch()
        batch.add(row)
        await connection.execute(OLD_STATEMENTS["chat"], batch.json, batch.raws)
        await interactions.keep([first, second])
        rows = await rows_of(db, "select id, parent_id, root_gpt_id from llm_logs.chatgpt_logs order by id")
    assert [row["id"] for row in rows] == [first.interaction.id, second.interaction.id]
    assert rows[1]["parent_id"] == first.interaction.id
    assert rows[1]["root_gpt_id"] == str(first.interaction.id)


async def test_an_unknown_source_is_refused(database: str) -> None:
    async with store(database) as (db, _), db.connection() as connection:
        with pytest.raises(asyncpg.RaiseError, match="no table keeps the source x"):
            await keep(connection, "x", batch_of(chat(user("a"))))


async def test_the_data_of_a_record_is_at_fault_also_inside_of_the_function(database: str) -> None:
    """The context of every error names the function, which is no trigger of the company's."""
    async with store(database) as (_, interactions):
        one = chat(user("a secret"))
        with pytest.raises(RecordRefused) as refused:
            await interactions.keep([replace(one, answer=replace(one.answer, status=2**40))])
        assert "22003" in str(refused.value)
        assert "secret" not in str(refused.value)


async def test_a_trigger_of_the_company_is_named_although_the_function_encloses_it(database: str) -> None:
    async with store(database) as (db, interactions):
        await rows_of(
            db,
            "create function public.veto() returns trigger language plpgsql as "
            "$$ begin raise exception using errcode = '22000', message = new.user_name; end $$",
        )
        await rows_of(
            db,
            "create trigger veto before insert on llm_logs.chatgpt_logs for each row execute function public.veto()",
        )
        with pytest.raises(RecordNotAccepted, match="veto") as refused:
            await interactions.keep([chat(user("a"), by="secret")])
        assert "secret" not in str(refused.value)


async def test_records_wait_while_the_schema_is_older_than_keep(database: str, tmp_path: Path) -> None:
    for path in SQL.glob("*.sql"):
        if path.name < "0016":
            (tmp_path / path.name).write_bytes(path.read_bytes())
    db = Database(database, IMPATIENT)
    interactions = Interactions(db)
    one = chat(user("a"))
    try:
        await migrate(db, tmp_path)
        with pytest.raises(RecordNotAccepted) as refused:
            await interactions.keep([one])
        assert refused.value.cause == "42883"
        await migrate(db, SQL)
        await interactions.keep([one])
        assert len(await rows_of(db, "select from llm_logs.chatgpt_logs")) == 1
    finally:
        await interactions.aclose()
        await db.aclose()


async def test_a_role_that_may_only_read_and_write_keeps_records(postgres: PostgresServer, database: str) -> None:
    role = f"app_{urlsplit(database).path.strip('/')}"
    async with store(database) as (db, _):
        await asyncio.to_thread(postgres.execute, f'create role "{role}" login', postgres.admin_dsn)
        for grant in (
            "usage on schema llm_logs",
            "select, insert, update, delete on all tables in schema llm_logs",
            "execute on all routines in schema llm_logs",
        ):
            await rows_of(db, f'grant {grant} to "{role}"')
        app = Database(database.replace("llm_gateway@", f"{role}@", 1), IMPATIENT)
        interactions = Interactions(app)
        try:
            await interactions.keep([chat(user("a")), full(Kind.IMAGE), full(Kind.OTHER)])
        finally:
            await interactions.aclose()
            await app.aclose()
        assert len(await rows_of(db, "select from llm_logs.interactions")) == 3
    admin = urlsplit(postgres.admin_dsn)
    superuser = database.replace("llm_gateway@", f"{admin.username}@", 1)
    await asyncio.to_thread(postgres.execute, f'drop owned by "{role}"; drop role "{role}"', superuser)
