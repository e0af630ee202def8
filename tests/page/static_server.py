"""A static server of the chat page and an OpenAI-compatible API, without a gateway, under the gateway's page policy.

For development, `python -m tests.page.static_server` serves the page with the demo model.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from aiohttp import web

from gateway.edge.ops.page import CHAT_HEADERS
from gateway.providers.demo.provider import DemoProvider
from gateway.settings import DemoSettings
from gateway.transport.call import Call

if TYPE_CHECKING:
    from gateway.transport.call import Provider

STATIC = Path(__file__).resolve().parents[2] / "static"


class Downstream:
    """A sink that writes to a response, one event at a time."""

    is_full = False

    def __init__(self, response: web.StreamResponse) -> None:
        self._response = response
        self._waiting: list[bytes] = []

    def feed(self, data: bytes) -> bool:
        self._waiting.append(data)
        self.is_full = True
        return False

    async def drained(self) -> None:
        await self.flush()

    async def flush(self) -> None:
        if self._waiting:
            data, self._waiting = b"".join(self._waiting), []
            await self._response.write(data)
        self.is_full = False


def page_app(provider: Provider) -> web.Application:
    async def index(request: web.Request) -> web.FileResponse:
        return web.FileResponse(STATIC / "index.html")

    async def config(request: web.Request) -> web.Response:
        return web.json_response({"gateway": "v1", "api": "openai"})

    async def v1(request: web.Request) -> web.StreamResponse:
        call = Call(request.method, request.path.removeprefix("/v1"), body=await request.read())
        reply = await provider.open(call)
        headers = {name.decode(): value.decode() for name, value in reply.head.headers}
        response = web.StreamResponse(status=reply.head.status, headers=headers)
        await response.prepare(request)
        sink = Downstream(response)
        await reply.pump(sink)
        await sink.flush()
        return response

    async def add_policy(request: web.Request, response: web.StreamResponse) -> None:
        response.headers.update(CHAT_HEADERS)

    app = web.Application()
    app.on_response_prepare.append(add_policy)
    app.router.add_get("/", index)
    app.router.add_get("/page.json", config)
    app.router.add_static("/static", STATIC)
    app.router.add_route("*", "/v1/{path:.*}", v1)
    return app


if __name__ == "__main__":
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 8001
    web.run_app(page_app(DemoProvider(DemoSettings(words_per_second=60))), host="127.0.0.1", port=port)
