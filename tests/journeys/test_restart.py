"""A rolling restart: two gateways behind nginx are stopped and started in turns, under load."""

from __future__ import annotations

import asyncio
import os
import shutil
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import aiohttp
import pytest

from tests.faults.ledgers import Load, compare, settled_rows
from tests.gateway_process import ENDS_WITH_PARENT, GatewayProcess, free_port
from tests.loopback import LoopbackUpstream

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

NGINX = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
CONFIG = """
daemon off;
master_process off;
pid {folder}/nginx.pid;
error_log {folder}/nginx.log warn;
events {{}}
http {{
    access_log off;
    {temporary}
    upstream gateways {{
        server 127.0.0.1:{first} fail_timeout=1s;
        server 127.0.0.1:{second} fail_timeout=1s;
        keepalive 16;
    }}
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass http://gateways;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_set_header Host $http_host;
            proxy_buffering off;
        }}
    }}
}}
"""
KINDS = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")


@asynccontextmanager
async def nginx_before(folder: Path, first: int, second: int) -> AsyncIterator[str]:
    """Its URL."""
    assert NGINX is not None
    port = free_port()
    temporary = "".join(f"{kind}_temp_path {folder}/{kind}; " for kind in KINDS)
    config = folder / "nginx.conf"
    config.write_text(CONFIG.format(folder=folder, temporary=temporary, first=first, second=second, port=port))
    process = await asyncio.create_subprocess_exec(*ENDS_WITH_PARENT, NGINX, "-c", config, "-e", folder / "nginx.log")
    try:
        async with aiohttp.ClientSession() as session, asyncio.timeout(10):
            while True:
                try:
                    async with session.get(f"http://127.0.0.1:{port}/healthz"):
                        break
                except aiohttp.ClientError:
                    assert process.returncode is None, (folder / "nginx.log").read_text()
                    await asyncio.sleep(0.02)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        await process.wait()


@pytest.mark.skipif(NGINX is None, reason="nginx is not installed (apt-get install nginx-light)")
@pytest.mark.parametrize("workers", ["1", "2"])
async def test_e10_a_rolling_restart_behind_nginx_fails_no_request(tmp_path: Path, database: str, workers: str) -> None:
    async with LoopbackUpstream(pace=0.005) as upstream:
        gateways = []
        for name in ("first", "second"):
            (tmp_path / name).mkdir()
            env = {"GATEWAY_WORKERS": workers}
            gateways.append(GatewayProcess.upon(tmp_path / name, upstream.url, database, **env))
        async with gateways[0] as first, gateways[1] as second:
            async with nginx_before(tmp_path, first.port, second.port) as url, Load(url, 12) as load:
                for gateway in (first, second):
                    await asyncio.sleep(3.0)  # nginx tries the other one again after two seconds
                    assert await gateway.stop() == 0
                    await gateway.start()
                await asyncio.sleep(0.5)
                await load.stop()
            rows = await settled_rows(database, wanted=len(upstream.requests))
            assert await first.stop() == await second.stop() == 0
        failed = [one for one in load.seen if one.error or not one.saw_end]
        assert failed == []
        assert len(load.seen) > 100
        verdict = compare(load.seen, upstream, rows)
        assert verdict.is_clean, verdict
