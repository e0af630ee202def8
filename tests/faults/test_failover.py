"""The primary is lost and an asynchronous standby is promoted: rows that it never got are shipped again."""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import contextmanager
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, quote, urlsplit

import pytest

from tests.faults.ledgers import Load, compare, settled_rows
from tests.gateway_process import GatewayProcess
from tests.loopback import LoopbackUpstream
from tests.postgres import HASTY, PostgresServer, running_postgres

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

BEHIND_S = 2.0


@contextmanager
def standby_of(primary: PostgresServer) -> Iterator[PostgresServer]:
    copy = primary.directory.with_name("standby")
    primary.snapshot(copy)
    (copy / "data" / "standby.signal").touch()
    source = f"host={_sockets(primary)} port=5432 user=postgres"
    standby = PostgresServer(copy, {**HASTY, "primary_conninfo": source}).open()
    try:
        yield standby
    finally:
        standby.close()


def _sockets(server: PostgresServer) -> str:
    return parse_qs(urlsplit(server.dsn).query)["host"][0]


def both(*servers: PostgresServer) -> str:
    hosts = quote(",".join(map(_sockets, servers)), safe="")
    return f"postgresql://llm_gateway@/llm_gateway?host={hosts}&port=5432,5432&target_session_attrs=read-write"


@pytest.mark.timeout(300)
@pytest.mark.parametrize("is_killed", [False, True], ids=["alone", "with kill -9"])
async def test_g2_a_standby_that_is_behind_takes_over_and_nothing_is_lost(tmp_path: Path, *, is_killed: bool) -> None:
    with running_postgres() as primary, standby_of(primary) as standby:
        async with LoopbackUpstream(pace=0.005) as upstream:
            gateway = GatewayProcess.upon(tmp_path, upstream.url, both(primary, standby))
            async with gateway, Load(gateway.url, 16) as load:
                await asyncio.sleep(1.5)
                senders = await asyncio.to_thread(
                    primary.fetch, "select pid from pg_stat_replication", primary.admin_dsn
                )
                assert len(senders) == 1
                os.kill(senders[0]["pid"], signal.SIGSTOP)
                await asyncio.sleep(BEHIND_S)
                await asyncio.to_thread(primary.kill)
                if is_killed:
                    await gateway.kill()
                await asyncio.to_thread(standby.execute, "select pg_promote()", standby.admin_dsn)
                if is_killed:
                    await gateway.start()
                await gateway.logged(lambda line: line["event"] == "postgres_was_filled_again", 20)
                await load.stop()
                rows = await settled_rows(standby.dsn, wanted=len(upstream.requests), timeout_s=60)
                assert await gateway.stop() == 0
        verdict = compare(load.seen, upstream, rows)
        filled = [line for line in gateway.log() if line["event"] == "postgres_was_filled_again"]
        print(f"\n{verdict.asked} asked, {verdict.whole} seen whole, {verdict.rows} rows, {filled[0]['new']} again")
        assert verdict.is_clean, verdict
        assert filled[0]["new"] > 20
        assert "records_gone" not in [line["event"] for line in gateway.log()]
