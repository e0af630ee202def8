"""The schema: from nothing, from what a seed system left, by any number of processes at once, and beside dbmate."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import pytest

from gateway.errors import StoreUnavailable, StoreUnusable
from gateway.store.migrations import migrate, read_migrations
from gateway.store.pool import Database
from tests.store.samples import IMPATIENT, SQL, make_partitions, rows_of, store

if TYPE_CHECKING:
    from tests.postgres import PostgresServer

DBMATE = Path(sys.executable).with_name("dbmate")

# The seed's own tables, and an INSERT of its kind.
SEED_TABLES = """
create schema llm_logs;
create table llm_logs.chatgpt_logs (
    id uuid primary key default gen_random_uuid(), request jsonb, usage_info jsonb, user_name text, title text,
    response_time timestamp default now(), response jsonb, convo_title text, convo_show boolean default true,
    root_gpt_id text
);
create table llm_logs.image_logs (
    id uuid primary key default gen_random_uuid(), request jsonb, response jsonb, usage_cost real, user_name text,
    title text, response_time timestamp default now()
);
create table llm_logs.meta_summarizer_log (
    id uuid primary key default gen_random_uuid(), request jsonb, response jsonb, usage_info jsonb, user_name text,
    title text, response_time timestamp default now(), orig_summarized_id uuid
);
"""
SEED_ROWS = """
insert into llm_logs.chatgpt_logs
    (id, request, usage_info, user_name, title, response_time, response, convo_title, convo_show, root_gpt_id)
values
    ('1a481b96-c7fd-4526-91b8-57bfb2a255a5', '{"model": "gpt-3.5-turbo", "messages": []}', '{"total_tokens": 33}',
     'user', 'app', '2023-04-27 16:25:48.872857', '{"id": "chatcmpl-79yj"}', null, true,
     '1a481b96-c7fd-4526-91b8-57bfb2a255a5');
insert into llm_logs.chatgpt_logs (request, user_name, root_gpt_id) values ('{}', 'other', 'chatcmpl-79yj');
insert into llm_logs.image_logs (request, response, usage_cost, user_name, title)
values ('{"prompt": "a cat"}', '{"data": []}', 0.016, 'user', 'app');
insert into llm_logs.meta_summarizer_log (request, response, usage_info, user_name, title, orig_summarized_id)
values ('{}', '{}', '{}', 'user', 'app', '1a481b96-c7fd-4526-91b8-57bfb2a255a5');
"""
COLUMNS = """
select column_name, data_type, column_default, is_nullable
from information_schema.columns
where table_schema = 'llm_logs' and table_name = $1
"""


async def test_the_schema_is_made_once(database: str) -> None:
    async with store(database) as (db, _):
        assert await migrate(db, SQL) == []
        versions = await rows_of(db, "select version from schema_migrations order by version")
        assert [row["version"] for row in versions] == [one.version for one in read_migrations(SQL)]


async def test_the_seeds_columns_have_its_names_types_and_defaults(database: str) -> None:
    jsonb, text = ("jsonb", None), ("text", None)
    time = ("timestamp without time zone", "now()")
    common = {"request": jsonb, "response": jsonb, "user_name": text, "title": text, "response_time": time}
    wanted: dict[str, dict[str, tuple[str, str | None]]] = {
        "chatgpt_logs": common
        | {"usage_info": jsonb, "convo_title": text, "convo_show": ("boolean", "true"), "root_gpt_id": text},
        "image_logs": common | {"usage_cost": ("real", None)},
        "meta_summarizer_log": common | {"usage_info": jsonb, "orig_summarized_id": text},
    }
    async with store(database) as (db, _):
        for table, columns in wanted.items():
            found = {row["column_name"]: row for row in await rows_of(db, COLUMNS, table)}
            assert found["id"]["data_type"] == "uuid"
            for name, (kind, default) in columns.items():
                assert (found[name]["data_type"], found[name]["column_default"]) == (kind, default), f"{table}.{name}"


async def test_the_seeds_inserts_succeed_and_are_visible(database: str) -> None:
    async with store(database) as (db, _):
        async with db.connection() as connection:
            await connection.execute(SEED_ROWS)
        (first, second) = await rows_of(db, "select * from llm_logs.chatgpt_logs order by response_time")
        assert (first["user_name"], first["convo_show"]) == ("user", True)
        assert first["response_time"] == datetime(2023, 4, 27, 16, 25, 48, 872857)  # noqa: DTZ001
        assert (second["root_gpt_id"], second["convo_show"]) == ("chatcmpl-79yj", True)
        assert second["response_time"] is not None


async def test_every_table_and_column_says_what_it_is(database: str) -> None:
    sql = """
    select c.relname, a.attname from pg_class as c
    inner join pg_attribute as a on a.attrelid = c.oid and a.attnum >= 0 and not a.attisdropped
    where c.relnamespace = 'llm_logs'::regnamespace and c.relkind in ('r', 'p') and not c.relispartition
        and (col_description(c.oid, a.attnum) is null or obj_description(c.oid) is null)
    """
    async with store(database) as (db, _):
        assert await rows_of(db, sql) == []


async def test_a_seeds_database_is_taken_over_with_its_rows(database: str, postgres: PostgresServer) -> None:
    await asyncio.to_thread(postgres.execute, SEED_TABLES + SEED_ROWS, database)
    async with store(database) as (db, _):
        for table, count in (("chatgpt_logs", 2), ("image_logs", 1), ("meta_summarizer_log", 1)):
            (row,) = await rows_of(db, f"select count(*) as n from llm_logs.{table}")
            assert row["n"] == count
        (row,) = await rows_of(db, "select usage_cost from llm_logs.image_logs")
        assert row["usage_cost"] == pytest.approx(0.016)


async def test_many_processes_may_migrate_at_once(database: str) -> None:
    databases = [Database(database, IMPATIENT) for _ in range(12)]
    applied = await asyncio.gather(*[migrate(db, SQL) for db in databases])
    names = [one.name for one in read_migrations(SQL)]
    assert sorted(name for found in applied for name in found) == sorted(names)


async def test_e3_a_newer_gateways_database_is_left_as_it_is(database: str) -> None:
    async with store(database) as (db, _):
        await rows_of(db, "insert into schema_migrations values ('0999')")
        assert await migrate(db, SQL) == []


async def test_e3_a_newer_gateways_database_that_lacks_a_migration_is_refused_in_words(database: str) -> None:
    async with store(database) as (db, _):
        await rows_of(db, "update schema_migrations set version = '0999' where version = '0003'")
        with pytest.raises(StoreUnusable, match=r"newer gateway.*lacks version 0003"):
            await migrate(db, SQL)


async def test_another_programs_versions_do_not_disturb(database: str) -> None:
    async with store(database) as (db, _):
        await rows_of(db, "insert into schema_migrations values ('20240101120000')")
        assert await migrate(db, SQL) == []


async def test_a_migration_that_fails_leaves_nothing_behind(database: str, tmp_path: Path) -> None:
    for path in SQL.glob("*.sql"):
        shutil.copy(path, tmp_path)
    async with store(database) as (db, _):
        broken = tmp_path / "9998_broken.sql"
        broken.write_text("-- migrate:up\ncreate table half (id bigint);\nselect 1 / 0;\n")
        with pytest.raises(StoreUnavailable, match="DivisionByZeroError"):
            await migrate(db, tmp_path)
        (row,) = await rows_of(db, "select to_regclass('half') as half")
        assert row["half"] is None
        broken.write_text("-- migrate:up\ncreate table half (id bigint);\n\n-- migrate:down\n\ndrop table half;\n")
        assert await migrate(db, tmp_path) == ["9998_broken.sql"]


@pytest.mark.parametrize(("name", "text"), [("0001_x.sql", "select 1"), ("first.sql", "-- migrate:up\nselect 1")])
def test_a_file_that_is_no_migration_is_named(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(StoreUnavailable, match=name):
        read_migrations(tmp_path)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailable, match="no migrations"):
        read_migrations(tmp_path / "nowhere")


def dbmate(dsn: str, *arguments: str) -> str:
    parts = urlsplit(dsn)
    host = parse_qs(parts.query)["host"][0]
    url = f"postgres://{parts.username}@/{parts.path.strip('/')}?host={host}"
    return subprocess.run(
        [DBMATE, "--no-dump-schema", "-d", SQL, "--url", url, *arguments], capture_output=True, text=True, check=True
    ).stdout


@pytest.mark.skipif(not DBMATE.exists(), reason="dbmate is not installed")
async def test_dbmate_and_the_gateway_take_each_other_for_themselves(database: str) -> None:
    assert "Applied: 0001" in await asyncio.to_thread(dbmate, database, "up")
    async with store(database) as (db, _):
        assert await migrate(db, SQL) == []
        assert "Pending: 0" in await asyncio.to_thread(dbmate, database, "status")


# --- partitions -------------------------------------------------------------------------------------------------------


async def partition_of(db: Database, table: str, id_: str) -> str:
    sql = f"insert into llm_logs.{table} (id) values ($1::text::uuid) returning tableoid::regclass::text as name"
    (row,) = await rows_of(db, sql, id_)
    return str(row["name"]).removeprefix("llm_logs.")


async def first_id(db: Database, moment: datetime) -> str:
    (row,) = await rows_of(db, "select llm_logs.first_id($1)::text as id", moment)
    return str(row["id"])


@pytest.mark.parametrize("table", ["chatgpt_logs", "api_logs"])
async def test_rows_find_the_partition_of_their_month(database: str, table: str) -> None:
    now = datetime.now(UTC)
    async with store(database) as (db, _):
        this = await partition_of(db, table, await first_id(db, now))
        assert this == f"{table}_{now:%Y_%m}"
        assert await partition_of(db, table, "1a481b96-c7fd-4526-91b8-57bfb2a255a5") == f"{table}_foreign"
        start = now.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
        assert await partition_of(db, table, await first_id(db, start)) == this


async def test_first_id_is_the_time_of_uuid7(database: str) -> None:
    async with store(database) as (db, _):
        found = await first_id(db, datetime(2026, 1, 1, tzinfo=UTC))
        assert int(found.replace("-", "")[:12], 16) == 1767225600000
        assert found.endswith("-0000-0000-000000000000")


async def test_partitions_are_made_ahead_and_once(database: str) -> None:
    async with store(database) as (db, _):
        assert await make_partitions(db, 2) == 0
        assert await make_partitions(db, 5) == 6  # three more months, two tables


async def test_partitions_may_be_made_by_many_at_once(database: str) -> None:
    async with store(database) as (db, _):
        made: list[Any] = await asyncio.gather(*[make_partitions(db, 6) for _ in range(6)])
        assert sum(made) == 8
