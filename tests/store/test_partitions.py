"""Months can always be made and dropped, whatever ids lie in their way; search indexes never stop an insert."""

from __future__ import annotations

import asyncio
import random
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from uuid import UUID, uuid4

import asyncpg
import pytest
from structlog.testing import capture_logs

from gateway.errors import StoreUnavailable
from gateway.health.database_watch import DatabaseState
from gateway.health.readiness import Readiness
from gateway.process.server import migrate
from gateway.settings import load
from gateway.store.partitions import Partitions
from gateway.store.pool import Database
from tests.journal.samples import IDS
from tests.store.samples import IMPATIENT, chat, make_partitions, rows_of, store, user

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from gateway.store.interactions import Interactions
    from tests.postgres import PostgresServer

INSERT = "insert into llm_logs.chatgpt_logs (id, user_name, request, response) values ($1, $2, '{}', '{}')"


@asynccontextmanager
async def tables(dsn: str) -> AsyncIterator[tuple[Database, Interactions, Partitions]]:
    async with store(dsn) as (db, interactions):
        yield db, interactions, Partitions(db)


async def add(db: Database, *ids: UUID | str, by: str = "ann") -> None:
    async with db.connection() as connection:
        await connection.executemany(INSERT, [(str(id_), by) for id_ in ids])


async def id_of(db: Database, months: int, *, version: int = 7) -> UUID:
    """A random id of the time of so many months from now, in the middle of the month."""
    moment = "date_trunc('month', now() at time zone 'utc') + make_interval(months => $1, days => 14)"
    (row,) = await rows_of(db, f"select llm_logs.first_id(({moment}) at time zone 'utc') as id", months)
    return UUID(int=row["id"].int | version << 76 | 2 << 62 | random.getrandbits(62))


async def name_of(db: Database, months: int) -> str:
    month = "to_char(now() at time zone 'utc' + make_interval(months => $1), 'YYYY_MM')"
    (row,) = await rows_of(db, f"select 'chatgpt_logs_' || {month} as name", months)
    return str(row["name"])


async def places(db: Database, table: str = "chatgpt_logs") -> dict[UUID, str]:
    rows = await rows_of(db, f"select id, tableoid::regclass::text as place from llm_logs.{table}")
    return {UUID(int=row["id"].int): row["place"].removeprefix("llm_logs.") for row in rows}


async def found(db: Database, word: str) -> int:
    """How many of ann's chats a search finds."""
    query = "select id from llm_logs.chats_with(llm_logs.search_query('ann', $1), current_date, current_date)"
    return len(await rows_of(db, query, word))


async def crowd(db: Database, months: int, count: int = 150) -> list[UUID]:
    """More rows of a month in the default partition than move at once."""
    async with db.connection() as connection:
        await connection.execute(f"drop table llm_logs.{await name_of(db, months)}")
    ids = [await id_of(db, months) for _ in range(count)]
    await add(db, *ids)
    assert set((await places(db)).values()) == {"chatgpt_logs_default"}
    return ids


async def test_e11_a_month_is_made_although_random_ids_of_its_range_are_there(database: str) -> None:
    async with tables(database) as (db, _, _partitions):
        foreign, ours = await id_of(db, 5, version=4), await id_of(db, 5)
        await add(db, foreign, ours)
        assert await make_partitions(db, 8) == 2 * 6
        assert await places(db) == dict.fromkeys((foreign, ours), await name_of(db, 5))


async def test_g1_random_ids_lie_apart_from_the_months(database: str) -> None:
    async with tables(database) as (db, _, _partitions):
        await add(db, *[uuid4() for _ in range(2000)])
        counts: dict[str, int] = {}
        for place in (await places(db)).values():
            counts[place] = counts.get(place, 0) + 1
        assert counts.pop("chatgpt_logs_foreign") > 1900
        assert counts.pop("chatgpt_logs_before", 0) < 60
        assert sum(counts.values()) < 30  # in the default one, which is looked through whenever a month is made


async def test_g1_a_crowded_default_partition_is_regrouped_while_rows_come_and_change(database: str) -> None:
    async with tables(database) as (db, interactions, partitions):
        ids = await crowd(db, 0)
        assert await make_partitions(db) == 0
        stopping = asyncio.Event()
        changed: list[UUID] = []
        deleted: list[UUID] = []

        async def change() -> None:
            chance = random.Random(1)
            while not stopping.is_set():
                new, old, gone = await id_of(db, 0), chance.choice(ids), chance.choice(ids)
                await add(db, new)
                ids.append(new)
                await rows_of(db, "update llm_logs.chatgpt_logs set convo_title = 'changed' where id = $1", str(old))
                changed.append(old)
                if len(deleted) < 20 and gone not in changed:
                    await rows_of(db, "delete from llm_logs.chatgpt_logs where id = $1", str(gone))
                    deleted.append(gone)
                    ids.remove(gone)

        changing = asyncio.create_task(change())
        await partitions.keep()
        stopping.set()
        await changing
        assert partitions.missing == ()
        assert await places(db) == dict.fromkeys(ids, await name_of(db, 0))
        rows = await rows_of(db, "select id from llm_logs.chatgpt_logs where convo_title = 'changed'")
        assert {UUID(int=row["id"].int) for row in rows} == set(changed) - set(deleted)
        left = await rows_of(db, "select relname from pg_class where relname ~ '_(new|old)(_|$)'")
        assert left == []
        await interactions.keep([chat(user("hello"))])


async def test_g1_a_regrouped_partition_is_as_every_other(database: str) -> None:
    async with tables(database) as (db, interactions, partitions):
        await crowd(db, 0)
        await partitions.keep()
        shape = """
            select regexp_replace(pg_get_indexdef(i.indexrelid), '^.* USING', '') as what
            from pg_index as i where i.indrelid = ('llm_logs.' || $1)::regclass
            union all
            select format('%s %s %s %s', a.attname, a.atttypid::regtype, a.attnotnull, a.attcompression)
            from pg_attribute as a where a.attrelid = ('llm_logs.' || $1)::regclass and a.attnum > 0
            union all
            select pg_get_constraintdef(oid) from pg_constraint where conrelid = ('llm_logs.' || $1)::regclass
            order by 1
        """
        ours = await rows_of(db, shape, await name_of(db, 0))
        assert ours == await rows_of(db, shape, await name_of(db, 1))
        await interactions.keep([chat(user("a needle in it"))])
        assert await found(db, "needle") == 1


async def test_g1_a_regrouping_goes_on_where_another_process_died(database: str) -> None:
    async with tables(database) as (db, _, partitions):
        ids = await crowd(db, 1)
        for wanted in ("begun", "copying", "copying"):
            assert [(r["regroup"]) for r in await rows_of(db, "select llm_logs.regroup('chatgpt_logs', 60, 2)")] == [
                wanted
            ]
        late = await id_of(db, 1)
        await add(db, late)
        await partitions.keep()
        assert await places(db) == dict.fromkeys([*ids, late], await name_of(db, 1))


async def test_g1_a_row_that_changes_often_hides_no_other_change_from_a_regrouping(database: str) -> None:
    async with tables(database) as (db, _, partitions):
        ids = await crowd(db, 0)
        state = ""
        while state != "copied":
            ((state,),) = await rows_of(db, "select llm_logs.regroup('chatgpt_logs', 2000, 2)")
        rename = "update llm_logs.chatgpt_logs set convo_title = $2 where id = $1"
        async with db.connection() as connection:
            await connection.executemany(rename, [(str(ids[0]), f"title {nth}") for nth in range(350)])
            late = [await id_of(db, 0) for _ in range(30)]
            await add(db, *late)
            await connection.execute(rename, str(ids[1]), "the last change")
        await partitions.keep()
        assert await places(db) == dict.fromkeys([*ids, *late], await name_of(db, 0))
        titled = await rows_of(
            db, "select convo_title as it from llm_logs.chatgpt_logs where convo_title <> '' order by 1"
        )
        assert [row["it"] for row in titled] == ["the last change", "title 349"]


async def test_g1_a_column_that_comes_while_it_is_regrouped_begins_it_anew(database: str) -> None:
    async with tables(database) as (db, _, partitions):
        ids = await crowd(db, 1)
        await rows_of(db, "select llm_logs.regroup('chatgpt_logs', 60, 2)")
        await rows_of(db, "alter table llm_logs.chatgpt_logs add column later text default 'x'")
        await partitions.keep()
        assert partitions.missing != ()
        await partitions.keep()
        assert await places(db) == dict.fromkeys(ids, await name_of(db, 1))
        assert {row["later"] for row in await rows_of(db, "select later from llm_logs.chatgpt_logs")} == {"x"}


async def test_g1_a_table_that_is_in_use_keeps_nobody_waiting_for_a_month(database: str) -> None:
    async with tables(database) as (db, _, partitions):
        await rows_of(db, f"drop table llm_logs.{await name_of(db, 2)}")
        reader = await asyncpg.connect(database)
        try:
            reading = reader.transaction()
            await reading.start()
            await reader.fetch("select count(*) from llm_logs.chatgpt_logs")
            keeping = asyncio.create_task(partitions.keep())
            loop = asyncio.get_running_loop()
            waits: list[float] = []
            while len(waits) < 100:
                began = loop.time()
                await rows_of(db, "select count(*) from llm_logs.chatgpt_logs")
                waits.append(loop.time() - began)
                await asyncio.sleep(0.01)
            assert max(waits) < 0.5  # 0.1, and what a busy machine adds
            assert list(partitions.missing) == [await name_of(db, 2)]
            await reading.rollback()
            async with asyncio.timeout(20):
                await keeping
            assert partitions.missing == ()
        finally:
            await reader.close()


async def test_e11_a_month_that_cannot_be_made_is_in_the_log_and_in_what_operators_see(database: str) -> None:
    async with tables(database) as (db, _, partitions):
        name = await name_of(db, 2)
        await rows_of(db, f"drop table llm_logs.{name}")
        await rows_of(
            db,
            "create or replace function llm_logs.make_partitions(months_ahead integer) returns integer"
            " language sql as 'select 0'",
        )
        await rows_of(db, "drop function llm_logs.regroup")
        with capture_logs() as logs, pytest.raises(StoreUnavailable):
            await partitions.keep()
        (line,) = [line for line in logs if line["log_level"] == "warning"]
        assert line["partitions"] == (name,)
        journal = {"refusal": None}
        readiness = Readiness("demo", DatabaseState, lambda: journal, missing_partitions=lambda: partitions.missing)
        report = readiness.report()
        assert (report.can_serve, report.checks["missing_partitions"]) == (True, [name])


async def test_g1_a_month_is_dropped_and_random_ids_of_its_range_stay(database: str) -> None:
    async with tables(database) as (db, _, _partitions):
        name = await name_of(db, -1)
        gone, foreign, kept = await id_of(db, -1), await id_of(db, -1, version=4), IDS.new()
        await add(db, kept)
        await make_last_month(db, "chatgpt_logs")
        await add(db, gone, foreign)
        assert (await places(db))[gone] == name
        (dropped,) = await rows_of(db, "select llm_logs.drop_month((now() - interval '1 month')::date) as n")
        assert dropped["n"] == 1
        assert await places(db) == {kept: await name_of(db, 0), foreign: "chatgpt_logs_default"}
        with pytest.raises(asyncpg.RaiseError, match="is not over"):
            await rows_of(db, "select llm_logs.drop_month(now()::date)")


async def test_g1_a_reader_of_one_table_keeps_nobody_from_the_other_while_a_month_is_dropped(database: str) -> None:
    async with tables(database) as (db, _, _partitions):
        for table in ("chatgpt_logs", "api_logs"):
            await make_last_month(db, table)
        reader = await asyncpg.connect(database)
        try:
            reading = reader.transaction()
            await reading.start()
            await reader.fetch("select count(*) from llm_logs.api_logs")
            drop = "select llm_logs.drop_month((now() - interval '1 month')::date) as n"
            dropping = asyncio.create_task(rows_of(db, drop))
            loop = asyncio.get_running_loop()
            began = loop.time()
            waits: list[float] = []
            while loop.time() - began < 1.5:
                asked = loop.time()
                await rows_of(db, "select count(*) from llm_logs.chatgpt_logs")
                waits.append(loop.time() - asked)
                await asyncio.sleep(0.01)
            assert max(waits) < 0.5  # 0.2, and what a busy machine adds
            await reading.rollback()
            async with asyncio.timeout(10):
                assert (await dropping)[0]["n"] == 2
        finally:
            await reader.close()


async def make_last_month(db: Database, table: str) -> None:
    """As it was made a month ago."""
    name = (await name_of(db, -1)).replace("chatgpt_logs", table)
    bounds = f"('{await first(db, -1)}') to ('{await first(db, 0)}')"
    async with db.connection() as connection:
        await connection.execute(f"drop table llm_logs.{table}_before")
        await connection.execute(f"create table llm_logs.{name} partition of llm_logs.{table} for values from {bounds}")


async def first(db: Database, months: int) -> UUID:
    (row,) = await rows_of(
        db,
        "select llm_logs.first_id((date_trunc('month', now() at time zone 'utc') + make_interval(months => $1))"
        " at time zone 'utc') as id",
        months,
    )
    return UUID(int=row["id"].int)


# --- the search index -------------------------------------------------------------------------------------------------

PENDING = "gin_pending_list_limit=65536"
FROM_SEARCH_INDEXES = """
from pg_class as c inner join pg_am as a on a.oid = c.relam and a.amname = 'gin'
where c.relnamespace = 'llm_logs'::regnamespace and c.relkind = 'i'
"""


async def test_g3_every_search_index_grows_by_large_batches_also_a_later_months(database: str) -> None:
    async with tables(database) as (db, _, partitions):
        await partitions.keep(5)
        indexes: list[Any] = await rows_of(
            db, f"select coalesce(c.reloptions, '{{}}') as options {FROM_SEARCH_INDEXES}"
        )
        assert len(indexes) == 6 + 3  # months, default, before, foreign
        assert all(PENDING in row["options"] for row in indexes), indexes


async def test_g3_what_waits_to_be_sorted_in_is_found_and_sorting_in_leaves_nothing(database: str) -> None:
    async with tables(database) as (db, interactions, partitions):
        await partitions.keep()
        (index,) = [
            row["indexrelid"]
            for row in await rows_of(
                db,
                "select i.indexrelid from pg_index as i inner join pg_class as c on c.oid = i.indexrelid"
                " inner join pg_am as a on a.oid = c.relam and a.amname = 'gin'"
                f" where i.indrelid = 'llm_logs.{await name_of(db, 0)}'::regclass",
            )
        ]
        for is_sorted in (False, True):
            await interactions.keep([chat(user(f"needle{is_sorted} in a haystack of words"))])
            if is_sorted:
                await partitions.clean_search()
                assert (await rows_of(db, "select gin_clean_pending_list($1::oid) as n", index))[0]["n"] == 0
            assert await found(db, f"needle{is_sorted}") == 1


async def test_g3_a_role_that_owns_nothing_sorts_in_too_and_is_content(database: str, postgres: PostgresServer) -> None:
    role = f"app_{uuid4().hex}"
    await asyncio.to_thread(postgres.execute, f"create role {role} login", postgres.admin_dsn)
    try:
        async with tables(database) as (db, interactions, partitions):
            await partitions.keep()
            for right in (
                "usage on schema llm_logs",
                "select, insert, update, delete on all tables in schema llm_logs",
                "execute on all routines in schema llm_logs",
            ):
                await rows_of(db, f"grant {right} to {role}")
            await interactions.keep([chat(user("a needle"))])
            theirs = Database(database.replace("llm_gateway@", f"{role}@", 1), IMPATIENT)
            with capture_logs() as logs:
                await Partitions(theirs).keep()
                await Partitions(theirs).clean_search()
            assert logs == []
            (waiting,) = await rows_of(db, f"select sum(gin_clean_pending_list(c.oid)) as n {FROM_SEARCH_INDEXES}")
            assert waiting["n"] == 0
            await theirs.aclose()
    finally:
        here = postgres.admin_dsn.replace("@/postgres?", f"@{urlsplit(database).path}?")
        await asyncio.to_thread(postgres.execute, f"drop owned by {role}; drop role {role}", here)


async def test_g1_the_command_that_migrates_does_all_of_it(database: str) -> None:
    async with tables(database) as (db, _, _partitions):
        ids = await crowd(db, 0)
    await migrate(load({"DATABASE_URL": database}, None, {}))
    async with tables(database) as (db, _, _partitions):
        assert await places(db) == dict.fromkeys(ids, await name_of(db, 0))
        assert (await rows_of(db, "select llm_logs.tune_next() as name"))[0]["name"] is None


# --- compression ------------------------------------------------------------------------------------------------------


async def test_g10_rows_are_compressed_by_lz4_in_every_partition_also_a_later_one(database: str) -> None:
    async with tables(database) as (db, interactions, partitions):
        (has,) = await rows_of(
            db,
            "select coalesce(bool_or('lz4' = any(enumvals)), false) as it"
            " from pg_settings where name = 'default_toast_compression'",
        )
        await partitions.keep(4)
        columns = await rows_of(
            db,
            "select c.relname, a.attname, a.attcompression::text as how from pg_class as c"
            " inner join pg_attribute as a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped"
            " and a.atttypid in ('jsonb'::regtype, 'bytea'::regtype)"
            " where c.relnamespace = 'llm_logs'::regnamespace and c.relkind in ('r', 'p')"
            " and c.relname ~ '^(chatgpt|api|image)_logs'",
        )
        assert len(columns) > 60
        assert {row["how"] for row in columns} == ({"l"} if has["it"] else {""})
        await interactions.keep([chat(user("word " * 20_000))])
        (row,) = await rows_of(db, "select pg_column_compression(request) as how from llm_logs.chatgpt_logs")
        assert row["how"] == ("lz4" if has["it"] else "pglz")
