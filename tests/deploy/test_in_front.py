"""The default gateway behind plain nginx and HAProxy: their local address gives nobody a role."""

from __future__ import annotations

import asyncio
import os
import shutil
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from tests.gateway_process import ENDS_WITH_PARENT, GatewayProcess, free_port
from tests.loopback import LoopbackUpstream

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from pathlib import Path

SBIN = f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin"
NGINX, HAPROXY = shutil.which("nginx", path=SBIN), shutil.which("haproxy", path=SBIN)
KINDS = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
NGINX_CONFIG = """
daemon off;
master_process off;
pid {folder}/nginx.pid;
events {{}}
http {{
    access_log off;
    {temporary}
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass http://127.0.0.1:{gateway};
            {more}
        }}
    }}
}}
"""
HAPROXY_CONFIG = """
defaults
    mode http
    timeout connect 5s
    timeout client 30s
    timeout server 30s
listen gateway
    bind 127.0.0.1:{port}
    server gateway 127.0.0.1:{gateway}
"""
FRONTS = [
    pytest.param("nginx", marks=pytest.mark.skipif(NGINX is None, reason="no nginx here (Debian: nginx-light)")),
    pytest.param(
        "nginx passes Host", marks=pytest.mark.skipif(NGINX is None, reason="no nginx here (Debian: nginx-light)")
    ),
    pytest.param("haproxy", marks=pytest.mark.skipif(HAPROXY is None, reason="no haproxy here (Debian: haproxy)")),
]
EVIL = "evil.example"
READ = ("/live/search", "/live/events", "/admin/keys", "/history?user=ann", "/metrics")


def command(front: str, folder: Path, port: int, gateway: int) -> list[str]:
    config = folder / "front.conf"
    if front == "haproxy":
        config.write_text(HAPROXY_CONFIG.format(port=port, gateway=gateway))
        return [str(HAPROXY), "-db", "-f", str(config)]
    more = "proxy_set_header Host $http_host;" if "Host" in front else ""
    temporary = "".join(f"{kind}_temp_path {folder}/{kind}; " for kind in KINDS)
    config.write_text(NGINX_CONFIG.format(folder=folder, temporary=temporary, port=port, gateway=gateway, more=more))
    return [str(NGINX), "-c", str(config), "-e", str(folder / "front.log")]


@asynccontextmanager
async def in_front(front: str, folder: Path, gateway: GatewayProcess) -> AsyncIterator[str]:
    """The proxy's URL."""
    port = free_port()
    process = await asyncio.create_subprocess_exec(*ENDS_WITH_PARENT, *command(front, folder, port, gateway.port))
    try:
        async with asyncio.timeout(10):
            while True:
                try:
                    _, writer = await asyncio.open_connection("127.0.0.1", port)
                    break
                except OSError:
                    assert process.returncode is None
                    await asyncio.sleep(0.02)
        writer.close()
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        await process.wait()


async def asked(
    session: aiohttp.ClientSession, url: str, body: object = None, headers: Mapping[str, str] | None = None
) -> tuple[int, Any]:
    """Status and JSON of the answer."""
    method = "GET" if body is None else "POST"
    async with session.request(method, url, json=body, headers=headers) as response:
        return response.status, await response.json()


@pytest.mark.parametrize("front", FRONTS)
async def test_f2_behind_a_proxy_nobody_is_admin_or_auditor_by_its_address(
    tmp_path: Path, database: str, front: str
) -> None:
    chat = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
    key = {"user": "x", "name": "x", "roles": ["admin"]}
    async with LoopbackUpstream() as upstream:
        default = GatewayProcess.upon(tmp_path, upstream.url, database, GATEWAY_METRICS_NETWORKS="")
        async with (
            default as gateway,
            in_front(front, tmp_path, gateway) as url,
            aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as session,
        ):
            assert (await asked(session, f"{url}/chat", chat))[0] == 200
            for path in READ:
                status, said = await asked(session, url + path)
                assert (status, said["error"]["code"]) == (403, "link_needed"), path
            assert (await asked(session, f"{url}/admin/keys", key))[0] == 403
            assert (await asked(session, f"{url}/readyz")) == (200, {"status": "ready"})
            assert (await asked(session, f"{url}/report/figures"))[1]["is_of_everybody"] is False

            # A page whose name leads here: where the proxy passes Host, it is known by that; else by its Origin.
            for headers in ({"Host": EVIL}, {"Host": EVIL, "Origin": f"http://{EVIL}"}):
                status, said = await asked(session, f"{url}/chat", chat, headers)
                is_hidden = front == "nginx" and "Origin" not in headers
                assert status == (200 if is_hidden else 403), (front, headers, said)
            if front != "nginx":
                assert (await asked(session, f"{url}/history", None, {"Host": EVIL}))[0] == 403

            # The link opens it through the proxy, too, for the one who has it.
            link = (tmp_path / "data" / "open" / "link").read_text().strip()
            async with session.get(link.replace(gateway.url, url)) as response:
                assert (response.status, response.url.path) == (200, "/live")
            assert (await asked(session, f"{url}/live/search"))[0] == 200
            assert (await asked(session, f"{url}/admin/keys", key))[0] == 201
            status, _ = await asked(session, f"{url}/admin/keys", key, {"Origin": f"http://{EVIL}"})
            assert status == 403


@pytest.mark.parametrize("front", FRONTS)
async def test_f2_what_a_proxy_tells_of_itself_is_heard_where_networks_are_set(
    tmp_path: Path, database: str, front: str
) -> None:
    """Set for a scraper on this machine, it lets in all whom a plain proxy passes on: watching.md says so."""
    async with LoopbackUpstream() as upstream:
        near = GatewayProcess.upon(tmp_path, upstream.url, database, GATEWAY_METRICS_NETWORKS="127.0.0.1")
        async with near as gateway, in_front(front, tmp_path, gateway) as url, aiohttp.ClientSession() as session:
            assert "postgres" in (await asked(session, f"{gateway.url}/readyz"))[1]
            assert "postgres" in (await asked(session, f"{url}/readyz"))[1]
            for header in ("X-Forwarded-For", "Forwarded", "Via"):
                assert (await asked(session, f"{url}/readyz", None, {header: "x"}))[1] == {"status": "ready"}
