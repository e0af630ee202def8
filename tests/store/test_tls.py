"""C2: the URLs that clouds hand out, against a server with TLS and SCRAM."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest

from gateway.errors import StoreUnavailable
from gateway.store.pool import Database
from tests.postgres import HASTY, running_postgres
from tests.store.samples import IMPATIENT
from tests.transport.certificates import Authority

if TYPE_CHECKING:
    from collections.abc import Iterator

DEBIANS = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
PASSWORD = "p#a/s?s%w@rd:é"


class Cloud:
    """Where it is, and the authority that its certificate is from."""

    def __init__(self, address: str, authority: Path) -> None:
        self.address = address
        self.authority = authority

    def url(self, query: str, host: str = "") -> str:
        return f"postgresql://llm_gateway:{quote(PASSWORD, safe='')}@{host or self.address}/llm_gateway?{query}"


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    folder = tmp_path_factory.mktemp("certificates")
    authority = Authority(folder)
    address = f"127.{random.randint(1, 250)}.{random.randint(1, 250)}.{random.randint(1, 250)}"
    authority.server_context(address=address)
    if not DEBIANS:
        pytest.skip("Debian's PostgreSQL is not installed, and that of the wheel has no TLS (.ci/tools installs it)")
    with running_postgres({**HASTY, "listen_addresses": address}, folders=DEBIANS) as server:
        data = server.directory / "data"
        shutil.copy(folder / f"localhost-{address}.pem", data / "server.pem")
        (data / "server.pem").chmod(0o600)
        os.chown(data / "server.pem", data.stat().st_uid, data.stat().st_gid)
        hba = data / "pg_hba.conf"
        hba.write_text(f"hostssl all all 127.0.0.0/8 scram-sha-256\n{hba.read_text()}")
        for sql in (
            "alter system set ssl_cert_file = 'server.pem'",
            "alter system set ssl_key_file = 'server.pem'",
            "alter system set ssl = on",
            f"alter role llm_gateway password '{PASSWORD}'",
            "select pg_reload_conf()",
        ):
            server.execute(sql, server.admin_dsn)
        deadline = time.monotonic() + 10
        while server.fetch("show ssl")[0]["ssl"] != "on":
            assert time.monotonic() < deadline
        yield Cloud(address, authority.path)


async def is_encrypted(url: str) -> bool:
    database = Database(url, IMPATIENT)
    try:
        async with database.connection() as connection:
            return bool(await connection.fetchval("select ssl from pg_stat_ssl where pid = pg_backend_pid()"))
    finally:
        await database.aclose()


@pytest.mark.parametrize(
    "query",
    [
        "sslmode=require&channel_binding=require",
        "sslmode=require",
        "ssl=true",
        "",
        "sslmode=require&target_session_attrs=read-write&connect_timeout=10&keepalives=1&application_name=a+b",
    ],
)
async def test_c2_a_clouds_url_connects_with_tls(cloud: Cloud, query: str) -> None:
    assert await is_encrypted(cloud.url(query))


async def test_c2_of_several_hosts_the_one_that_is_there_is_used(cloud: Cloud) -> None:
    assert await is_encrypted(cloud.url("sslmode=require", host=f"{cloud.address}:9,{cloud.address}:5432"))


async def test_c2_verify_full_makes_sure_of_the_server(cloud: Cloud) -> None:
    trusted = f"sslmode=verify-full&sslrootcert={quote(str(cloud.authority), safe='')}"
    assert await is_encrypted(cloud.url(trusted))
    with pytest.raises(StoreUnavailable) as refused:
        await is_encrypted(cloud.url("sslmode=verify-full&sslrootcert=system"))
    assert "certificate verify failed" in refused.value.message


async def test_c2_what_the_server_does_not_take_is_reported(cloud: Cloud) -> None:
    with pytest.raises(StoreUnavailable):
        await is_encrypted(cloud.url("sslmode=disable"))
    with pytest.raises(StoreUnavailable) as refused:
        await asyncio.wait_for(is_encrypted(cloud.url("sslmode=require").replace("rd%3A", "rd%3B")), 10)
    assert "InvalidPassword" in refused.value.message
    assert "p#a" not in refused.value.message
