"""PostgreSQL refuses all inserts for some seconds, through no fault of the records: they wait, and become rows."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import aiohttp
import asyncpg
import pytest

from tests.faults.ledgers import Load, compare, settled_rows
from tests.gateway_process import GatewayProcess
from tests.loopback import LoopbackUpstream

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

SHORT_S, LONG_S = 1.5, 5.0

RAISING = """
create function public.company_rule() returns trigger language plpgsql as $$
begin
    raise exception 'not now: %', new.request;
end
$$;
create trigger company_rule before insert on llm_logs.chatgpt_logs for each row execute function public.company_rule()
"""
DETACH = """
do $$
declare
    part text;
begin
    for part in select inhrelid::regclass::text from pg_inherits where inhparent = 'llm_logs.chatgpt_logs'::regclass
    loop
        execute format('create table if not exists detached as select %L::text as name, '
            'pg_get_expr(relpartbound, oid) as bound from pg_class where false', part);
        execute format('insert into detached select %L, pg_get_expr(relpartbound, oid) '
            'from pg_class where oid = %L::regclass', part, part);
        execute format('alter table llm_logs.chatgpt_logs detach partition %s', part);
    end loop;
end
$$
"""
ATTACH = """
do $$
declare
    part record;
begin
    for part in select name, bound from detached loop
        execute format('alter table llm_logs.chatgpt_logs attach partition %s %s', part.name, part.bound);
    end loop;
end
$$
"""
SEND_AWAY = "select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()"  # noqa: E501

# By kind: the cause that is named, what brings it about, and what takes it away again.
TROUBLES = {
    "check_constraint": (
        "23514",
        "alter table llm_logs.chatgpt_logs add constraint c check (user_name = 'nobody') not valid",
        "alter table llm_logs.chatgpt_logs drop constraint c",
    ),
    "raising_trigger": ("P0001", RAISING, "drop trigger company_rule on llm_logs.chatgpt_logs"),
    "dropped_column": (
        "42703",
        "alter table llm_logs.chatgpt_logs drop column bytes_out",
        "alter table llm_logs.chatgpt_logs add column bytes_out bigint",
    ),
    "detached_partition": ("23514", DETACH, ATTACH),
    "revoked_insert": (
        "42501",
        "revoke insert on llm_logs.chatgpt_logs from llm_gateway",
        "grant insert on llm_logs.chatgpt_logs to llm_gateway",
    ),
    "read_only": (
        "25006",
        f'alter database "{{name}}" set default_transaction_read_only = on; {SEND_AWAY}',
        f'set transaction read write; alter database "{{name}}" reset default_transaction_read_only; {SEND_AWAY}',
    ),
}


@asynccontextmanager
async def connected(dsn: str) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
    connection = await asyncpg.connect(dsn)
    try:
        yield connection
    finally:
        await connection.close()


async def run(dsn: str, statement: str) -> None:
    async with connected(dsn) as connection:
        await connection.execute(statement.replace("{name}", urlsplit(dsn).path.strip("/")))


async def sink_fault(gateway: GatewayProcess) -> str:
    async with aiohttp.ClientSession() as session, session.get(f"{gateway.url}/metrics") as response:
        return "\n".join(line for line in (await response.text()).split("\n") if "sink_fault{" in line)


async def until_named(gateway: GatewayProcess, cause: str) -> None:
    async with asyncio.timeout(20):
        while f'cause="{cause}"' not in await sink_fault(gateway):
            await asyncio.sleep(0.05)


def assert_whole(rows: list[asyncpg.Record], gateway: GatewayProcess, tmp_path: Path) -> None:
    assert [row for row in rows if row["request_raw"] is not None or row["response_raw"] is not None] == []
    assert list((tmp_path / "data" / "journal").glob("quarantine/*")) == []
    assert list((tmp_path / "data" / "journal").glob("retry-postgres/*")) == []
    log = gateway.log_path.read_text()
    assert "Failing row" not in log
    assert "DETAIL" not in log
    assert " asks " not in log  # a part of every prompt


@pytest.mark.timeout(300)
@pytest.mark.parametrize("trouble", list(TROUBLES))
async def test_e1_seconds_in_which_every_insert_is_refused_cost_no_row(
    tmp_path: Path, database: str, is_long: bool, trouble: str
) -> None:
    cause, begin, end = TROUBLES[trouble]
    async with LoopbackUpstream(pace=0.005) as upstream:
        async with GatewayProcess.upon(tmp_path, upstream.url, database) as gateway, Load(gateway.url, 16) as load:
            await asyncio.sleep(0.7)
            await run(database, begin)
            await until_named(gateway, cause)
            await asyncio.sleep(LONG_S if is_long else SHORT_S)
            await run(database, end)
            await asyncio.sleep(0.7)
            await load.stop()
            rows = await settled_rows(database, wanted=len(load.seen), timeout_s=60)
            assert await gateway.stop() == 0
        assert [one for one in load.seen if not one.saw_end] == []
        verdict = compare(load.seen, upstream, rows)
        assert verdict.is_clean, verdict
        assert verdict.rows == len(load.seen)
        assert_whole(rows, gateway, tmp_path)
        said = [line for line in gateway.log() if line.get("cause") == cause]
        assert 0 < len(said) < 8  # not for every try


@pytest.mark.timeout(300)
async def test_e1_refused_records_of_some_users_delay_no_other_and_survive_a_kill(
    tmp_path: Path, database: str
) -> None:
    rule = "alter table llm_logs.chatgpt_logs add constraint c check (request::text not like '%3 asks%') not valid"
    async with LoopbackUpstream(pace=0.005) as upstream:
        async with GatewayProcess.upon(tmp_path, upstream.url, database) as gateway, Load(gateway.url, 12) as load:
            await asyncio.sleep(0.5)
            await run(database, rule)
            await until_named(gateway, "23514")
            before = len(load.seen)
            await asyncio.sleep(0.5)
            await gateway.kill()
            await gateway.start()
            await asyncio.sleep(0.5)
            async with connected(database) as connection:
                assert await connection.fetchval("select count(*) from llm_logs.chatgpt_logs") >= before // 2
            await run(database, "alter table llm_logs.chatgpt_logs drop constraint c")
            await load.stop()
            rows = await settled_rows(database, wanted=len(upstream.requests), timeout_s=60)
            await asyncio.sleep(1.0)
            assert await gateway.stop() == 0
        verdict = compare(load.seen, upstream, rows)
        assert verdict.is_clean, verdict
        assert_whole(rows, gateway, tmp_path)
