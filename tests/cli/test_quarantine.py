"""`llm-gateway quarantine`: beside a running gateway, and several at once; whole rows, exactly once."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from typing import TYPE_CHECKING

import aiohttp
import asyncpg
import orjson
from msgspec.structs import replace

from gateway.model import Principal, Record
from gateway.shipping.quarantine import Quarantine
from tests.gateway_process import ROOT, GatewayProcess
from tests.loopback import LoopbackUpstream
from tests.polling import until
from tests.store.samples import chat, model, rows_of, store, user

if TYPE_CHECKING:
    from pathlib import Path


async def command(tmp_path: Path, database: str, *arguments: str) -> tuple[int, str, str]:
    env = {
        "PATH": os.environ["PATH"],
        "HOME": os.environ.get("HOME", "/"),
        "DATABASE_URL": database,
        "GATEWAY_DATA_DIR": str(tmp_path / "data"),
    }
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "gateway", "quarantine", *arguments),
        cwd=ROOT,
        env=env,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    said, complained = await process.communicate()
    assert process.returncode is not None
    return process.returncode, said.decode(), complained.decode()


def conversation() -> list[Record]:
    first = chat(user("hi"), says="ho", by="ann")
    second = chat(user("hi"), model("ho"), user("again"), says="yes", by="ann")
    return [replace(first, answer=replace(first.answer, finished_at=1_700_000_000.5)), second]


def put(tmp_path: Path, *records: Record) -> list[str]:
    quarantine = Quarantine(tmp_path / "data" / "journal")
    for each in records:
        quarantine.put_record(each, "Postgres refuses it", "postgres")
    return [str(each.interaction.id) for each in records]


async def test_records_come_back_with_id_conversation_and_times(tmp_path: Path, database: str) -> None:
    first, second = conversation()
    async with store(database) as (db, interactions):
        await interactions.keep([second])  # the second turn was kept; the first lies in quarantine
        (name,) = put(tmp_path, first)
        status, said, _ = await command(tmp_path, database, "list")
        assert status == 0
        assert name in said
        assert "Postgres refuses it" in said
        status, said, _ = await command(tmp_path, database, "list", "--json")
        assert (json.loads(said)["id"], json.loads(said)["user"]) == (name, "ann")
        status, said, _ = await command(tmp_path, database, "show", name)
        assert '"content":"hi"' in said
        status, said, _ = await command(tmp_path, database, "retry", name)
        assert (status, said) == (0, f"{name}  is a row\n")
        rows = await rows_of(db, "select * from llm_logs.chatgpt_logs order by id")
        assert [row["id"] for row in rows] == [first.interaction.id, second.interaction.id]
        assert rows[1]["parent_id"] == first.interaction.id
        assert rows[0]["root_gpt_id"] == rows[1]["root_gpt_id"]
        assert rows[0]["finished_at"].timestamp() == 1_700_000_000.5
        assert rows[0]["request"] == orjson.loads(first.interaction.body)
        assert rows[0]["request_raw"] is None
        assert not list((tmp_path / "data" / "journal" / "quarantine").iterdir())


async def test_what_stays_and_what_is_not_there_is_said_by_the_exit_status(tmp_path: Path, database: str) -> None:
    async with store(database) as (db, _):
        (name,) = put(tmp_path, chat(user("a canary"), by="bob"))
        await rows_of(db, "alter table llm_logs.chatgpt_logs add constraint c check (user_name <> 'bob')")
        status, said, complained = await command(tmp_path, database, "retry", "--all")
        assert status == 1
        assert "constraint c" in said
        assert "canary" not in said + complained
        assert (await command(tmp_path, database, "retry", "no-such"))[0] == 1
        assert (await command(tmp_path, database, "show", "no-such"))[0] == 1
        assert (await command(tmp_path, database, "retry"))[0] == 2
        await rows_of(db, "alter table llm_logs.chatgpt_logs drop constraint c")
        assert (await command(tmp_path, database, "retry", name))[0] == 0
        assert len(await rows_of(db, "select id from llm_logs.chatgpt_logs")) == 1


async def test_text_of_a_record_cannot_steer_the_operators_terminal(tmp_path: Path, database: str) -> None:
    (name,) = put(tmp_path, chat(user("\x1b]0;owned\x07"), by="a\x1b[31mb"))
    _, said, _ = await command(tmp_path, database, "show", name)
    _, listed, _ = await command(tmp_path, database, "list")
    assert "\x1b" not in said + listed


async def test_several_retries_beside_a_running_gateway_make_each_row_once_and_its_counts_fall(
    tmp_path: Path, database: str
) -> None:
    async with (
        LoopbackUpstream() as upstream,
        GatewayProcess.upon(tmp_path, upstream.url, database) as gateway,
        aiohttp.ClientSession() as session,
    ):
        names = put(tmp_path, *(replace_user(chat(user(str(number))), f"user {number}") for number in range(20)))

        async def quarantined() -> int:
            async with session.get(f"{gateway.url}/metrics") as response:
                lines = (await response.text()).split("\n")
            return int(
                float(next(one for one in lines if one.startswith("llm_gateway_quarantined_records{")).split()[1])
            )

        async def counts(wanted: int) -> bool:
            return await quarantined() == wanted

        await until(lambda: counts(20), timeout_s=20, period_s=0.1)
        ended = await asyncio.gather(*(command(tmp_path, database, "retry", "--all") for _ in range(3)))
        assert sum(said.count("is a row") for _, said, _ in ended) == 20
        await until(lambda: counts(0), timeout_s=20, period_s=0.1)
        connection = await asyncpg.connect(database)
        rows = await connection.fetch("select id::text as id from llm_logs.chatgpt_logs")
        await connection.close()
        assert sorted(row["id"] for row in rows) == sorted(names)


def replace_user(one: Record, name: str) -> Record:
    return replace(one, interaction=replace(one.interaction, principal=Principal(name)))


async def test_an_upgraded_gateway_brings_back_by_itself_what_an_older_one_set_aside(
    tmp_path: Path, database: str
) -> None:
    names = put(tmp_path, *(chat(user(str(number))) for number in range(3)))
    async with LoopbackUpstream() as upstream, GatewayProcess.upon(tmp_path, upstream.url, database) as gateway:
        line = await gateway.logged(lambda line: line["event"] == "quarantine_tried_again", 30)
        assert (line["restored"], line["remaining"]) == (3, 0)
        connection = await asyncpg.connect(database)
        rows = await connection.fetch("select id::text as id from llm_logs.chatgpt_logs")
        await connection.close()
        assert sorted(row["id"] for row in rows) == sorted(names)


async def test_a_journal_that_cannot_be_read_is_named_in_a_sentence(tmp_path: Path, database: str) -> None:
    status, _, complained = await command(tmp_path / ("x" * 300), database, "list")
    assert status == 1
    assert complained.startswith("llm-gateway: the journal cannot be read (")
    assert "Traceback" not in complained
