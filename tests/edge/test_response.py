"""The caller's side over HTTP, where the caller does not behave."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING
from unittest.mock import Mock

from aiohttp import web
from aiohttp.test_utils import make_mocked_request

from gateway.edge.http.response import HttpClient
from gateway.transport.call import Head
from tests.journeys.raw import Raw

if TYPE_CHECKING:
    from pytest_aiohttp import AiohttpServer

EVENTS = Head(200, ((b"content-type", b"text/event-stream"),))


def client_on(request: web.Request) -> HttpClient:
    return HttpClient(request, {}, heartbeat_s=15, stall_s=30)


def test_a_slow_reader_is_full_and_one_who_has_gone_is_not() -> None:
    """aiohttp's protocol stays paused when its connection is lost; who waits for it to drain would wait in circles."""
    protocol = Mock(writing_paused=True)
    client = client_on(make_mocked_request("POST", "/chat", protocol=protocol))
    assert client.is_full
    protocol.transport = None
    assert not client.is_full


async def test_no_head_follows_an_error_that_was_told_in_its_place(aiohttp_server: AiohttpServer) -> None:
    """What fails between a stream's head and its first event is answered by aiohttp, in the same turn of the loop."""

    async def broken(request: web.Request) -> web.StreamResponse:
        client = client_on(request)
        await client.start(EVENTS, is_events=True)
        return web.Response(status=502, text="broken")

    async def fine(request: web.Request) -> web.StreamResponse:
        return web.Response(text="fine")

    app = web.Application()
    app.add_routes([web.get("/broken", broken), web.get("/fine", fine)])
    server = await aiohttp_server(app)
    async with await Raw.to(server.port or 0) as raw:
        for path, status, body in (("/broken", 502, b"broken"), ("/fine", 200, b"fine"), ("/broken", 502, b"broken")):
            raw.ask("GET", path)
            assert (await raw.answer()).status == status
            assert await raw.body() == body
            await asyncio.sleep(0.01)


async def test_a_head_goes_out_alone_where_no_event_follows_it(aiohttp_server: AiohttpServer) -> None:
    go_on = asyncio.Event()

    async def slow(request: web.Request) -> web.StreamResponse:
        client = client_on(request)
        await client.start(EVENTS, is_events=True)
        await go_on.wait()
        client.write(b"data: 1\n\n")
        await client.end(b"data: [DONE]\n\n")
        return client.answered()

    app = web.Application()
    app.add_routes([web.get("/", slow)])
    server = await aiohttp_server(app)
    async with await Raw.to(server.port or 0) as raw:
        for _ in range(2):
            raw.ask("GET", "/")
            head = await raw.answer()
            assert (head.get("content-type"), head.get("x-accel-buffering")) == ("text/event-stream", "no")
            go_on.set()
            assert await raw.body() == b"data: 1\n\ndata: [DONE]\n\n"
            go_on.clear()
