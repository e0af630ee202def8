"""The simplest relay in aiohttp, as a yardstick: no log, no checks. A program."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import uvloop
from aiohttp import ClientSession, ClientTimeout, DummyCookieJar, TCPConnector, web

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

SESSION = web.AppKey("session", ClientSession)
PASSED_ON = ("content-type", "x-request-id")


def build_app(upstream_port: int) -> web.Application:
    async def session(app: web.Application) -> AsyncIterator[None]:
        connector = TCPConnector(limit=0)
        timeout = ClientTimeout(total=None)
        async with ClientSession(connector=connector, timeout=timeout, cookie_jar=DummyCookieJar()) as opened:
            app[SESSION] = opened
            yield

    async def relay(request: web.Request) -> web.StreamResponse:
        url = f"http://127.0.0.1:{upstream_port}{request.raw_path}"
        headers = {"content-type": request.content_type, "accept-encoding": "identity", "authorization": "Bearer x"}
        body = await request.read()
        async with request.app[SESSION].request(request.method, url, data=body, headers=headers) as upstream:
            kept = {name: upstream.headers[name] for name in PASSED_ON if name in upstream.headers}
            answer = web.StreamResponse(status=upstream.status, headers=kept)
            answer.content_length = upstream.content_length
            await answer.prepare(request)
            async for data in upstream.content.iter_any():
                await answer.write(data)
            await answer.write_eof()
            return answer

    app = web.Application(client_max_size=64 * 1024 * 1024)
    app.cleanup_ctx.append(session)
    app.router.add_route("*", "/{path:.*}", relay)
    return app


async def app_on_loop(upstream_port: int) -> web.Application:
    return build_app(upstream_port)


if __name__ == "__main__":
    web.run_app(
        app_on_loop(int(sys.argv[2])),
        host="127.0.0.1",
        port=int(sys.argv[1]),
        access_log=None,
        print=None,
        backlog=4096,
        loop=uvloop.new_event_loop(),
    )
