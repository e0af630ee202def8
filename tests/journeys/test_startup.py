"""It starts and serves whatever Postgres does; /readyz says what ails it, and the rows come when it is over."""

from __future__ import annotations

import asyncio
import re
import shutil
import time
import uuid
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import aiohttp
import asyncpg
import pytest
import pytest_asyncio

from gateway.resources import resource_folder
from gateway.settings import load
from gateway.store.migrations import LOCK, migrate
from gateway.store.pool import Database
from tests.gateway_process import GatewayProcess
from tests.journeys.stage import Stage
from tests.loopback import LoopbackUpstream
from tests.postgres import PostgresServer, running_postgres

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from tests.journeys.stage import Answer

ROOT = Path(__file__).parents[2]
PORT_S = 15.0  # within which it listens, whatever Postgres does, on a machine that is busy


@pytest_asyncio.fixture
async def stage(tmp_path: Path, database: str) -> AsyncIterator[Stage]:
    """A gateway that is not yet started."""
    async with on_stage(tmp_path, database) as it:
        yield it


@asynccontextmanager
async def on_stage(folder: Path, dsn: str, **env: str) -> AsyncIterator[Stage]:
    async with LoopbackUpstream() as upstream:
        it = Stage(GatewayProcess.upon(folder, upstream.url, dsn, **env), upstream, dsn)
        try:
            yield it
        finally:
            if it.gateway.is_running:
                await it.gateway.kill()
            await it.aclose()


async def prepared(dsn: str) -> None:
    database = Database(dsn, load({"DATABASE_URL": dsn}).store)
    await migrate(database, resource_folder("sql"))
    await database.aclose()


async def started(stage: Stage) -> None:
    began = time.monotonic()
    await stage.gateway.start()
    assert time.monotonic() - began < PORT_S


async def readiness(stage: Stage, postgres: str, detail: str = "", within_s: float = 15.0) -> dict[str, Any]:
    """What /readyz says once it says this of Postgres."""
    deadline = time.monotonic() + within_s
    while True:
        answer = await stage.ask("/readyz", method="GET")
        body: dict[str, Any] = answer.json()
        if body["postgres"] == postgres and detail in (body["database"]["detail"] or ""):
            assert answer.status == 200
            return body
        assert time.monotonic() < deadline, body
        await asyncio.sleep(0.1)


async def serves(stage: Stage) -> Answer:
    answer = await stage.chat("Is anybody listening?")
    assert answer.status == 200
    return answer


async def check_row(stage: Stage, answer: Answer) -> None:
    assert (await stage.row(answer.request_id, patience_s=20.0))["outcome"] == "complete"


def name_of(dsn: str) -> str:
    return urlsplit(dsn).path.strip("/")


# --- E3 ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("has_schema", [True, False])
async def test_e3_it_starts_while_the_database_is_read_only(stage: Stage, has_schema: bool) -> None:
    if has_schema:
        await prepared(stage.dsn)
    await stage.fetch(f'alter database "{name_of(stage.dsn)}" set default_transaction_read_only = on')
    await started(stage)
    await readiness(stage, "read-only" if has_schema else "unprepared", "takes no writes now")
    answer = await serves(stage)
    if has_schema:
        assert (await stage.ask("/history", method="GET")).status == 200
    await stage.fetch(f'alter database "{name_of(stage.dsn)}" reset default_transaction_read_only')
    await readiness(stage, "ok")
    await check_row(stage, answer)


async def test_a_database_that_is_not_there_is_named_in_the_log_at_the_start(tmp_path: Path, database: str) -> None:
    async with on_stage(tmp_path, f"{database.partition('?')[0]}_no?{database.partition('?')[2]}") as stage:
        await started(stage)
        said = await stage.gateway.logged(lambda line: line["event"] == "postgres_is_away")
        assert "does not exist" in said["error"]


async def test_e3_it_starts_on_a_hot_standby_and_ships_when_that_is_promoted(tmp_path: Path) -> None:
    with running_postgres() as primary:
        await prepared(primary.dsn)
        await asyncio.to_thread(primary.stop)
        copy = primary.directory.parent / "standby"
        copy.mkdir(mode=0o711)
        await asyncio.to_thread(shutil.copytree, primary.directory / "data", copy / "data", copy_function=copied)
        shutil.copystat(primary.directory / "data", copy / "data")
        owner = (primary.directory / "data").stat()
        shutil.chown(copy / "data", owner.st_uid, owner.st_gid)
        for path in (copy / "data").rglob("*"):
            shutil.chown(path, owner.st_uid, owner.st_gid)
        (copy / "data/standby.signal").touch()
        with running_postgres(directory=copy) as standby:
            async with on_stage(tmp_path, standby.dsn) as stage:
                await started(stage)
                await readiness(stage, "read-only")
                answer = await serves(stage)
                await asyncio.to_thread(standby.execute, "select pg_promote()", standby.admin_dsn)
                await readiness(stage, "ok", within_s=30)
                await check_row(stage, answer)


def copied(source: str, target: str) -> str:
    with suppress(FileNotFoundError):  # a file of the moment
        shutil.copy2(source, target)
    return target


async def test_e3_it_starts_while_somebody_holds_the_migration_lock(stage: Stage) -> None:
    holder = await asyncpg.connect(stage.dsn, server_settings={"application_name": "a long migration"})
    await holder.execute("select pg_advisory_lock($1)", LOCK)
    await started(stage)
    await readiness(stage, "unprepared", "a long migration")
    answer = await serves(stage)
    await holder.close()
    await readiness(stage, "ok")
    await check_row(stage, answer)


async def test_e3_a_long_migration_does_not_keep_the_port_closed(stage: Stage) -> None:
    """One that waits for a table that somebody holds, which is of the seed."""
    holder = await asyncpg.connect(stage.dsn)
    await holder.execute("create schema llm_logs; create table llm_logs.chatgpt_logs (id uuid primary key)")
    transaction = holder.transaction()
    await transaction.start()
    await holder.execute("lock table llm_logs.chatgpt_logs in access share mode")
    await started(stage)
    await readiness(stage, "unprepared", "is being made")
    await serves(stage)
    await transaction.rollback()
    await holder.close()
    await readiness(stage, "unprepared", "a migration cannot be applied")  # for the seed has more columns than that
    await stage.fetch("drop table llm_logs.chatgpt_logs")
    await readiness(stage, "ok")


async def test_e3_no_lock_is_needed_when_the_schema_is_up_to_date(stage: Stage) -> None:
    await prepared(stage.dsn)
    holder = await asyncpg.connect(stage.dsn)
    await holder.execute("select pg_advisory_lock($1)", LOCK)
    await started(stage)
    await check_row(stage, await serves(stage))
    await holder.close()


async def test_e3_a_newer_schema_is_lived_with_and_reported(stage: Stage) -> None:
    await prepared(stage.dsn)
    await stage.fetch("insert into schema_migrations values ('0999')")
    await stage.fetch("alter table llm_logs.chatgpt_logs add column of_tomorrow text")
    await started(stage)
    body = await readiness(stage, "ok", "newer gateway (version 0999")
    assert body["database"]["schema"] == "0999"
    await check_row(stage, await serves(stage))
    assert [line for line in stage.gateway.log() if line["event"] == "schema_is_newer"]


async def test_e3_a_role_with_the_documented_rights_is_enough_for_a_gateways_whole_life(
    tmp_path: Path, postgres: PostgresServer
) -> None:
    """Before its owner has made the schema, and afterwards."""
    async with least_privilege(postgres) as (owner, dsn, grant), on_stage(tmp_path, dsn, **BY_HEADER) as stage:
        connector = aiohttp.TCPConnector(force_close=True)
        stage._session = aiohttp.ClientSession(headers={"X-User": "eve", "X-Groups": "audit"}, connector=connector)
        await started(stage)
        await readiness(stage, "unprepared", "permission denied")
        early = await serves(stage)
        await prepared(owner)
        await grant()
        await readiness(stage, "ok")
        await check_row(stage, early)
        await whole_life(stage)
        assert await stage.gateway.stop() == 0
        await started(stage)
        await whole_life(stage)
        assert not [line for line in stage.complaints() if "database_unusable" not in line]


async def test_e3_a_table_that_the_owner_adds_later_is_open_to_the_role(
    tmp_path: Path, postgres: PostgresServer
) -> None:
    async with least_privilege(postgres) as (owner, dsn, grant):
        await prepared(owner)
        await grant()
        await asyncio.to_thread(postgres.execute, "create table llm_logs.of_tomorrow (id bigint primary key)", owner)
        await asyncio.to_thread(postgres.execute, "insert into llm_logs.of_tomorrow values (1)", dsn)
        refused = asyncio.to_thread(postgres.execute, "drop table llm_logs.of_tomorrow", dsn)
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await refused


@asynccontextmanager
async def least_privilege(postgres: PostgresServer) -> AsyncIterator[tuple[str, str, Callable[[], Awaitable[None]]]]:
    """The roles of deploy/docs/install.md in a database of their own: owner's DSN, gateway's DSN, what grants it."""
    mark = uuid.uuid4().hex[:8]
    text = (ROOT / "deploy/docs/install.md").read_text().replace("llm_gateway_", f"test_{mark}_")
    first, second = re.findall(r"```sql\n(.*?)```", text, re.DOTALL)
    first = first.replace("create database llm_logs", f"create database test_{mark}")
    for statement in first.strip().split("\n"):
        await asyncio.to_thread(postgres.execute, statement, postgres.admin_dsn)
    here = postgres.dsn.replace("@/llm_gateway?", f"@/test_{mark}?")
    owner, app = (here.replace("//llm_gateway@", f"//test_{mark}_{role}@") for role in ("owner", "app"))
    try:
        yield owner, app, lambda: asyncio.to_thread(postgres.execute, second, owner)
    finally:
        await asyncio.to_thread(postgres.drop_database, here)
        await asyncio.to_thread(
            postgres.execute, f"drop role test_{mark}_app; drop role test_{mark}_owner", postgres.admin_dsn
        )


BY_HEADER = {
    "GATEWAY_AUTH": "header, keys",
    "GATEWAY_AUTH_TRUSTED_NETWORKS": "127.0.0.1",
    "GATEWAY_AUTH_USER_HEADER": "X-User",
    "GATEWAY_AUTH_GROUPS_HEADER": "X-Groups",
    "GATEWAY_AUTH_AUDITOR_GROUPS": "audit",
    "GATEWAY_AUTH_ADMIN_GROUPS": "audit",
}


async def whole_life(stage: Stage) -> None:
    """Something of all that the gateway does with its database."""
    said = await stage.chat("About rain", path="/chat")
    calls = [
        said,
        await stage.chat("streamed", stream=True),
        await stage.ask("/v1/responses", {"model": "m", "input": "response"}),
        await stage.ask("/v1/images/generations", {"model": "m", "prompt": "x"}),
        await stage.ask("/v1/embeddings", {"model": "m", "input": "x"}),
    ]
    for call in calls:
        assert call.status == 200
        await check_row(stage, call)
    root = said.headers["x-conversation-id"]
    key = (await stage.ask("/admin/keys", {"user": "bob", "name": "x"})).json()
    for path, body in (
        ("/update_title", {"root_id": root, "convo_title": "Weather"}),
        ("/remove_convo", {"root_id": root}),
        ("/restore_convo", {"root_id": root}),
        ("/update_title_openai", {"root_id": root}),
    ):
        assert (await stage.ask(path, body)).status == 200, path
    for path in ("/history", "/history_v2?q=rain", "/report/figures", "/live/search?q=rain", "/admin/keys"):
        assert (await stage.ask(path, method="GET")).status == 200, path
    assert (await stage.ask(f"/admin/keys/{key['id']}", method="DELETE")).status in (200, 204)


async def test_e3_workers_open_their_port_while_the_schema_waits(stage: Stage) -> None:
    holder = await asyncpg.connect(stage.dsn)
    await holder.execute("select pg_advisory_lock($1)", LOCK)
    async with on_stage(stage.gateway.folder, stage.dsn, GATEWAY_WORKERS="2") as it:
        await started(it)
        await readiness(it, "unprepared", "migration lock")
        answer = await serves(it)
        await holder.close()
        await readiness(it, "ok")
        await check_row(it, answer)


# --- E4 ---------------------------------------------------------------------------------------------------------------


async def test_e4_a_database_that_is_dropped_and_made_again_gets_its_schema_and_all_rows(
    stage: Stage, postgres: PostgresServer
) -> None:
    name = name_of(stage.dsn)
    await started(stage)
    before = await serves(stage)
    await check_row(stage, before)
    await asyncio.to_thread(postgres.execute, f'drop database "{name}" with (force)', postgres.admin_dsn)
    await readiness(stage, "away", "does not exist")
    between = await serves(stage)
    await asyncio.to_thread(postgres.execute, f'create database "{name}" owner llm_gateway', postgres.admin_dsn)
    await readiness(stage, "ok")
    for answer in (between, await serves(stage), before):
        await check_row(stage, answer)


async def test_e4_a_schema_that_is_dropped_is_made_again_or_reported(stage: Stage) -> None:
    await started(stage)
    await check_row(stage, await serves(stage))
    await stage.fetch("drop schema llm_logs cascade")
    await readiness(stage, "unprepared", "drop that table, too")
    answer = await serves(stage)
    await stage.fetch("drop table schema_migrations")
    await readiness(stage, "ok")
    await check_row(stage, answer)


# --- readiness has a connection of its own ----------------------------------------------------------------------------


async def test_f8_slow_readers_do_not_make_postgres_look_away_nor_delay_keeping(stage: Stage) -> None:
    stage._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True, limit=0))
    await started(stage)
    await check_row(stage, await serves(stage))
    holder = await asyncpg.connect(stage.dsn)
    transaction = holder.transaction()
    await transaction.start()
    await holder.execute("lock table llm_logs.chatgpt_logs in access exclusive mode")
    readers = [asyncio.create_task(stage.ask("/history", method="GET")) for _ in range(120)]
    try:
        for _ in range(12):
            began = time.monotonic()
            answer = await stage.ask("/readyz", method="GET")
            assert time.monotonic() - began < 1.0
            assert answer.json()["postgres"] == "ok"
            await asyncio.sleep(0.25)
        kept = (await stage.ask("/v1/embeddings", {"model": "m", "input": "x"})).request_id
        async with asyncio.timeout(10):
            while not await stage.fetch("select from llm_logs.api_logs where request_id = $1", kept):
                await asyncio.sleep(0.05)
        assert not any(reader.done() for reader in readers)
    finally:
        await transaction.rollback()
        await holder.close()
        await asyncio.gather(*readers)


@pytest.mark.stopwatch
async def test_g12_readyz_does_not_wait_for_a_frozen_postgres(tmp_path: Path) -> None:
    with running_postgres() as server:
        async with on_stage(tmp_path, server.dsn) as stage:
            await started(stage)
            await readiness(stage, "ok")
            await asyncio.to_thread(server.freeze)
            try:
                assert await seconds_of_readyz(stage) < 0.5
                await readiness(stage, "away")
                assert await seconds_of_readyz(stage) < 0.5
                answer = await serves(stage)
                await stage.gateway.kill()
                await started(stage)
                assert await seconds_of_readyz(stage) < 0.5
            finally:
                await asyncio.to_thread(server.thaw)
            await readiness(stage, "ok", within_s=30)
            await check_row(stage, answer)


async def seconds_of_readyz(stage: Stage) -> float:
    """The first answer's seconds."""
    began = time.monotonic()
    assert (await stage.ask("/readyz", method="GET")).status == 200
    return time.monotonic() - began
