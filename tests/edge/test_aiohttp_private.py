"""Each private name of aiohttp that `edge/http/aiohttp_private.py` uses still does what the gateway needs."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web

from gateway.edge.http.aiohttp_private import (
    ConnectionRunner,
    ServerConnection,
    close_after_response,
    mark_as_sent,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

GET = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"
CHUNKED = b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n"


class BrokenBodyError(Exception):
    pass


class Connection(ServerConnection):
    def framing_error(self, exc: BaseException, message: str | None) -> Exception:
        return BrokenBodyError(message)


class Runner(ConnectionRunner):
    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.connections: list[Connection] = []

    def new_connection(self, server: web.Server, **options: Any) -> Connection:
        self.connections.append(Connection(server, **options))
        return self.connections[-1]


@contextlib.asynccontextmanager
async def client_of(
    handler: Callable[[web.Request], Awaitable[web.StreamResponse]], **options: Any
) -> AsyncIterator[tuple[Runner, asyncio.StreamReader, asyncio.StreamWriter]]:
    """A server with one handler, and a client's connection to it."""
    app = web.Application()
    app.router.add_route("*", "/", handler)
    runner = Runner(app, **options)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    reader, writer = await asyncio.open_connection(*runner.addresses[0])
    try:
        async with asyncio.timeout(10):
            yield runner, reader, writer
    finally:
        writer.transport.abort()
        await runner.cleanup()


async def answer(request: web.Request) -> web.StreamResponse:
    return web.Response(text="whole")


async def test_make_server_and_its_arguments_reach_our_connection() -> None:
    """`AppRunner._make_server`, `Server._loop`, `Server._kwargs`."""
    async with client_of(answer, keepalive_timeout=12.5) as (runner, reader, writer):
        writer.write(GET)
        assert (await reader.readuntil(b"whole")).startswith(b"HTTP/1.1 200 OK")
        (connection,) = runner.connections
        assert connection.keepalive_timeout == 12.5
        assert runner.server is not None
        assert runner.server.connections == [connection]


async def test_connection_is_idle_between_requests_alone() -> None:
    """`RequestHandler._waiter`, `RequestHandler._messages`."""
    in_handler: list[bool] = []

    async def look(request: web.Request) -> web.StreamResponse:
        in_handler.append(runner.connections[0].is_idle)
        return await answer(request)

    async with client_of(look) as (runner, reader, writer):
        for _ in range(2):
            writer.write(GET)
            await reader.readuntil(b"whole")
            while not runner.connections[0].is_idle:
                await asyncio.sleep(0)
    assert in_handler == [False, False]


@pytest.mark.parametrize("broken", [b"zz\r\n", b"2\r\nabc\r\n"])
async def test_reader_of_a_body_with_broken_framing_gets_our_error(broken: bytes) -> None:
    """`RequestHandler._current_request`, `_messages`, `_lingering_time`, `_ErrInfo`, `StreamReader._eof`."""
    reading = asyncio.Event()
    caught: list[Exception] = []

    async def read(request: web.Request) -> web.StreamResponse:
        assert await request.content.readany() == b"ok"
        reading.set()
        try:
            await request.content.read()
        except BrokenBodyError as error:
            caught.append(error)
        return await answer(request)

    async with client_of(read) as (_, reader, writer):
        writer.write(CHUNKED)
        await reading.wait()
        writer.write(broken)
        assert (await reader.read()).endswith(b"whole")  # and the connection ends with it
    assert len(caught) == 1


async def test_garbage_behind_a_whole_body_is_the_next_requests_fault() -> None:
    """`StreamReader._eof`: the handler of the first request is not disturbed."""
    reading = asyncio.Event()
    go_on = asyncio.Event()

    async def read(request: web.Request) -> web.StreamResponse:
        reading.set()
        await go_on.wait()
        return web.Response(body=await request.read())

    async with client_of(read) as (_, reader, writer):
        writer.write(CHUNKED + b"0\r\n\r\n")
        await reading.wait()
        writer.write(b"\x00 nothing of HTTP\r\n\r\n")
        await asyncio.sleep(0.05)
        go_on.set()
        assert (await reader.readuntil(b"ok")).startswith(b"HTTP/1.1 200 OK")


async def test_closing_after_a_response_is_announced_in_its_head() -> None:
    """`BaseRequest._message`."""

    async def close(request: web.Request) -> web.StreamResponse:
        close_after_response(request)
        return await answer(request)

    async with client_of(close) as (_, reader, writer):
        writer.write(GET)
        assert b"Connection: close\r\n" in await reader.read()


async def test_response_that_is_marked_as_sent_is_not_written_and_keeps_its_connection() -> None:
    """`StreamResponse._keep_alive`, `StreamResponse._eof_sent`."""

    async def write(request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        request.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nours")
        response = web.StreamResponse()
        mark_as_sent(response)
        return response

    async with client_of(write) as (_, reader, writer):
        for _ in range(2):
            writer.write(GET)
            assert await reader.readuntil(b"ours") == b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nours"
