"""The upstream side of a call on our own protocol, against a server that misbehaves byte by byte."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import time
from typing import TYPE_CHECKING, Any

import pytest

from gateway.errors import UpstreamError, UpstreamGarbled, UpstreamStalled, UpstreamUnreachable
from gateway.transport.call import Call, Ending
from gateway.transport.connection import DISCARD_BYTES
from gateway.transport.origin import Origin, Timeouts
from gateway.transport.pool import ConnectionPool
from tests import loopback
from tests.fakes import Basin
from tests.loopback import Fin, Flood, LoopbackUpstream, Pause, Script, Send, Stall, WaitFor
from tests.transport.backpressure import written_at_rest

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from gateway.transport.call import Reply
    from tests.loopback import Request

TIMEOUTS = Timeouts(connect_s=2.0, head_s=2.0, stall_s=2.0, idle_s=30.0)
CHAT = Call("POST", "/chat/completions", ((b"Content-Type", b"application/json"),), b'{"stream":true}')
DONE = b"[DONE]\n\n"


@contextlib.asynccontextmanager
async def pool_to(upstream: LoopbackUpstream | str, **timeouts: float) -> AsyncIterator[ConnectionPool]:
    url = upstream if isinstance(upstream, str) else upstream.url
    limits = {name: getattr(TIMEOUTS, name) for name in TIMEOUTS.__slots__} | timeouts
    pool = ConnectionPool(Origin.of_base(url, "Bearer sk-ours"), Timeouts(**limits))
    try:
        yield pool
    finally:
        await pool.aclose()


async def ask(pool: ConnectionPool, call: Call = CHAT) -> Reply:
    return await pool.open(call)


def until_done(body: bytearray) -> bool:
    return body.endswith(DONE)


async def answer_to(pool: ConnectionPool, call: Call = CHAT, **basin: Any) -> tuple[Ending, bytes]:
    """Asked and read as an exchange does it: opened, pumped, and closed in any case."""
    reply = await ask(pool, call)
    sink = Basin(**basin)
    try:
        return await reply.pump(sink), bytes(sink.body)
    finally:
        reply.close()


# ── an answer ────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("framing", ["chunked", "length"])
@pytest.mark.parametrize("cut_at", [None, 1, 7])
async def test_body_arrives_as_it_was_sent_at_any_cut(upstream: LoopbackUpstream, framing: Any, cut_at: Any) -> None:
    script = loopback.chat_stream("Grüße 🙂 an alle", framing=framing)
    upstream.script(script.dripped(cut_at) if cut_at else script)
    async with pool_to(upstream) as pool:
        assert await answer_to(pool) == (Ending.WHOLE, script.payload)


async def test_request_says_what_was_asked(upstream: LoopbackUpstream) -> None:
    async with pool_to(upstream) as pool:
        await answer_to(pool, Call("POST", "/echo?a=%20b&c", ((b"X-One", b"\xff"), (b"X-One", b"2")), b"body"))
    (request,) = upstream.requests
    assert (request.method, request.target, request.body) == ("POST", "/v1/echo?a=%20b&c", b"body")
    assert request.headers == [
        (b"Host", f"127.0.0.1:{upstream.port}".encode()),
        (b"X-One", b"\xff"),
        (b"X-One", b"2"),
        (b"Accept-Encoding", b"identity"),
        (b"Authorization", b"Bearer sk-ours"),
        (b"Content-Length", b"4"),
    ]


async def test_head_has_status_and_lower_case_names_and_odd_values(upstream: LoopbackUpstream) -> None:
    head = b"HTTP/1.1 429 Slow Down\r\nX-Odd: a\xffb\r\nX-EMPTY:\r\nX-Two: 1\r\nX-Two: 2\r\nContent-Length: 0\r\n\r\n"
    upstream.script(Script([Send(head)]))
    async with pool_to(upstream) as pool:
        reply = await ask(pool)
        assert await reply.pump(Basin()) is Ending.WHOLE
    assert reply.head.status == 429
    assert reply.head.headers == (
        (b"x-odd", b"a\xffb"),
        (b"x-empty", b""),
        (b"x-two", b"1"),
        (b"x-two", b"2"),
        (b"content-length", b"0"),
    )


async def test_first_bytes_are_there_before_the_rest_is_sent(upstream: LoopbackUpstream) -> None:
    more = asyncio.Event()
    whole = loopback.chat_stream("one two three")
    upstream.script(Script([*whole.steps[:3], WaitFor(more), *whole.steps[3:]]))
    async with pool_to(upstream) as pool:
        reply = await ask(pool)
        sink = Basin()
        pumping = asyncio.create_task(reply.pump(sink))
        while sink.feeds == 0:
            await asyncio.sleep(0.001)
        assert sink.body == whole.first(2).payload
        more.set()
        assert await pumping is Ending.WHOLE
        assert sink.body == whole.payload


async def test_many_chunks_of_one_read_are_fed_in_one_piece(upstream: LoopbackUpstream) -> None:
    whole = loopback.chat_stream(["x"] * 50)
    upstream.script(Script([Send(whole.wire, whole.payload)]))
    async with pool_to(upstream) as pool:
        reply = await ask(pool)
        sink = Basin()
        assert await reply.pump(sink) is Ending.WHOLE
    assert sink.body == whole.payload
    assert sink.feeds == 1


async def test_body_that_came_with_the_head_waits_for_the_pump(upstream: LoopbackUpstream) -> None:
    whole = loopback.chat_completion("hello")
    upstream.script(Script([Send(whole.wire, whole.payload)]))
    async with pool_to(upstream) as pool:
        reply = await ask(pool)
        await asyncio.sleep(0.05)
        sink = Basin()
        assert await reply.pump(sink) is Ending.WHOLE
    assert sink.body == whole.payload


async def test_sink_may_have_enough_of_what_came_with_the_head(upstream: LoopbackUpstream) -> None:
    whole = loopback.chat_stream("hello")
    upstream.script(Script([Send(whole.wire, whole.payload)]))
    async with pool_to(upstream) as pool:
        assert await answer_to(pool, enough=until_done) == (Ending.ENOUGH, whole.payload)


@pytest.mark.parametrize("status", [204, 304])
async def test_answer_without_a_body_by_its_status(upstream: LoopbackUpstream, status: int) -> None:
    upstream.script(loopback.answer([], status=status, content_type=None, framing="close"))
    async with pool_to(upstream) as pool:
        assert await answer_to(pool) == (Ending.WHOLE, b"")


async def test_head_request_has_no_body_whatever_its_length_says(upstream: LoopbackUpstream) -> None:
    upstream.script(Script([Send(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n")]))
    async with pool_to(upstream) as pool:
        reply = await ask(pool, Call("HEAD", "/models"))
        assert await reply.pump(Basin()) is Ending.ENOUGH
        assert reply.head.content_length == 1000
        assert (await answer_to(pool))[0] is Ending.WHOLE
    assert upstream.connection_count == 2


async def test_line_of_a_megabyte_passes(upstream: LoopbackUpstream) -> None:
    script = loopback.big_line()
    upstream.script(script)
    async with pool_to(upstream) as pool:
        assert await answer_to(pool) == (Ending.WHOLE, script.payload)


async def test_informational_answers_are_passed_over(upstream: LoopbackUpstream) -> None:
    continues = Script([Send(b"HTTP/1.1 100 Continue\r\n\r\n"), Pause(0.01), Send(b"HTTP/1.1 102 Processing\r\n\r\n")])
    script = loopback.early_hints_103_then_answer()
    upstream.script(continues + script)
    async with pool_to(upstream) as pool:
        reply = await ask(pool)
        sink = Basin()
        assert await reply.pump(sink) is Ending.WHOLE
    assert reply.head.status == 200
    assert sink.body == script.payload
    assert reply.head.get(b"link") is None


async def test_trailers_and_chunk_extensions_are_ignored(upstream: LoopbackUpstream) -> None:
    head = loopback.head(200, [("transfer-encoding", "chunked")])
    upstream.script(Script([Send(head + b"2;a=b\r\nok\r\n0\r\nX-Trailer: late\r\n\r\n")]))
    async with pool_to(upstream) as pool:
        reply = await ask(pool)
        sink = Basin()
        assert await reply.pump(sink) is Ending.WHOLE
    assert sink.body == b"ok"
    assert reply.head.get(b"x-trailer") is None


async def test_large_headers_pass_and_larger_ones_do_not(upstream: LoopbackUpstream) -> None:
    upstream.script(loopback.huge_headers(60_000), loopback.huge_headers(70_000))
    async with pool_to(upstream) as pool:
        assert (await answer_to(pool))[0] is Ending.WHOLE
        with pytest.raises(UpstreamGarbled, match="too large"):
            await ask(pool)


# ── an upstream that fails before its head ───────────────────────────────────────────────────────────────────────────


async def test_refused_connection_is_unreachable() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        async with pool_to(f"http://127.0.0.1:{taken.getsockname()[1]}/v1") as pool:
            with pytest.raises(UpstreamUnreachable, match="no connection to 127"):
                await ask(pool)


async def test_unknown_host_is_unreachable() -> None:
    async with pool_to("http://nowhere.invalid/v1") as pool:
        with pytest.raises(UpstreamUnreachable, match="no connection to nowhere"):
            await ask(pool)


@pytest.mark.stopwatch
async def test_connection_that_nobody_accepts_is_given_up() -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
        address = full.getsockname()
        queue = [socket.socket() for _ in range(4)]
        for waiting in queue:
            waiting.setblocking(False)
            waiting.connect_ex(address)
        async with pool_to(f"http://127.0.0.1:{address[1]}/v1", connect_s=0.2) as pool:
            with pytest.raises(UpstreamUnreachable, match=r"within 0\.2 s"):
                await ask(pool)
        for waiting in queue:
            waiting.close()


@pytest.mark.parametrize("how", ["fin", "rst"])
async def test_close_without_an_answer_is_unreachable(upstream: LoopbackUpstream, how: Any) -> None:
    upstream.script(loopback.cut_before_head(how))
    async with pool_to(upstream) as pool:
        with pytest.raises(UpstreamUnreachable, match="without an answer"):
            await ask(pool)
    assert upstream.request_count == 1


@pytest.mark.parametrize("how", ["fin", "rst"])
async def test_close_in_the_head_is_unreachable(upstream: LoopbackUpstream, how: Any) -> None:
    upstream.script(loopback.cut_in_head(how))
    async with pool_to(upstream) as pool:
        with pytest.raises(UpstreamUnreachable, match=r"middle of its answer|without an answer"):
            await ask(pool)
    assert upstream.request_count == 1


async def test_server_that_closes_each_connection_at_once_is_unreachable() -> None:
    async def close(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.abort()

    server = await asyncio.start_server(close, "127.0.0.1", 0)
    async with server, pool_to(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1") as pool:
        for _ in range(20):
            with pytest.raises(UpstreamUnreachable):
                await ask(pool)


@pytest.mark.stopwatch
async def test_silence_before_the_head_is_a_stall_after_head_s(upstream: LoopbackUpstream) -> None:
    upstream.script(loopback.stall_before_headers())
    async with pool_to(upstream, head_s=0.3, stall_s=0.1) as pool:
        began = time.monotonic()
        with pytest.raises(UpstreamStalled, match=r"within 0\.3 s"):
            await ask(pool)
        assert 0.25 < time.monotonic() - began < 3.0
    assert await upstream.wait_closed(upstream.requests[0])


@pytest.mark.stopwatch
async def test_head_that_drips_is_a_stall(upstream: LoopbackUpstream) -> None:
    drops: list[loopback.Step] = [Send(b"x"), Pause(0.05)]
    upstream.script(Script([Send(b"HTTP/1.1 200 OK\r\n"), *drops * 100]))
    async with pool_to(upstream, head_s=0.3) as pool:
        with pytest.raises(UpstreamStalled):
            await ask(pool)


async def test_garbage_instead_of_http(upstream: LoopbackUpstream) -> None:
    upstream.script(loopback.garbage())
    async with pool_to(upstream) as pool:
        with pytest.raises(UpstreamGarbled, match="not HTTP"):
            await ask(pool)


@pytest.mark.parametrize(
    "lines",
    [
        b"content-length: 2\r\ncontent-length: 3\r\n\r\nok!",
        b"content-length: 2\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        b"content-length: -1\r\n\r\n",
        b"content-length: 99999999999999999999999\r\n\r\n",
        b"x: folded\r\n value\r\ncontent-length: 0\r\n\r\n",
        b"bad name: x\r\n\r\n",
        b"x: nul\0\r\n\r\n",
    ],
)
async def test_head_that_could_be_read_in_two_ways_is_garbled(upstream: LoopbackUpstream, lines: bytes) -> None:
    upstream.script(Script([Send(b"HTTP/1.1 200 OK\r\n" + lines)]))
    async with pool_to(upstream) as pool:
        with pytest.raises(UpstreamGarbled):
            await ask(pool)


@pytest.mark.stopwatch
@pytest.mark.parametrize("upgrade", [b"", b"connection: upgrade\r\nupgrade: websocket\r\n"])
async def test_switching_protocols_is_garbled(upstream: LoopbackUpstream, upgrade: bytes) -> None:
    upstream.script(Script([Send(b"HTTP/1.1 101 Switching Protocols\r\n" + upgrade + b"\r\n\x81\x05hello"), Stall()]))
    async with pool_to(upstream, head_s=0.5) as pool:
        with pytest.raises(UpstreamError):
            await ask(pool)


@pytest.mark.parametrize("flood", [b"x-more: " + b"m" * 1000 + b"\r\n", b"m" * 1000])
async def test_endless_head_is_given_up_with_little_memory(upstream: LoopbackUpstream, flood: bytes) -> None:
    upstream.script(Script([Send(b"HTTP/1.1 200 OK\r\nx: "), Flood(flood)]))
    async with pool_to(upstream) as pool:
        with pytest.raises(UpstreamGarbled, match="too large"):
            await ask(pool)
    assert upstream.requests[0].bytes_written < 8_000_000  # most of them in the kernel's buffers


async def test_endless_informational_answers_are_given_up(upstream: LoopbackUpstream) -> None:
    upstream.script(Script([Flood(b"HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n" * 20)]))
    async with pool_to(upstream) as pool:
        with pytest.raises(UpstreamGarbled, match="too large"):
            await ask(pool)


# ── an upstream that fails in its body ───────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("how", ["fin", "rst"])
@pytest.mark.parametrize("torn", [0, 10])
async def test_chunked_body_cut_is_cut(upstream: LoopbackUpstream, how: Any, torn: int) -> None:
    script = loopback.cut_after(3, how, torn=torn)
    upstream.script(script)
    async with pool_to(upstream) as pool:
        assert await answer_to(pool) == (Ending.CUT, script.payload)


@pytest.mark.parametrize("how", ["fin", "rst"])
async def test_body_shorter_than_announced_is_cut(upstream: LoopbackUpstream, how: Any) -> None:
    script = loopback.cut_completion(20, how)
    upstream.script(script)
    async with pool_to(upstream) as pool:
        assert await answer_to(pool) == (Ending.CUT, script.payload)


async def test_end_of_a_close_delimited_body_proves_nothing(upstream: LoopbackUpstream) -> None:
    script = loopback.chat_stream("hello", framing="close")
    upstream.script(script)
    async with pool_to(upstream) as pool:
        assert await answer_to(pool) == (Ending.UNPROVED, script.payload)


async def test_reset_of_a_close_delimited_body_is_a_cut(upstream: LoopbackUpstream) -> None:
    upstream.script(loopback.cut_after(3, "rst", framing="close"))
    async with pool_to(upstream) as pool:
        assert (await answer_to(pool))[0] is Ending.CUT


@pytest.mark.parametrize("size", [None, 1])
async def test_bad_chunk_size_is_garbled_and_all_before_it_arrives(
    upstream: LoopbackUpstream, size: int | None
) -> None:
    script = loopback.bad_chunk_size(after=3)
    upstream.script(script.dripped(size) if size else Script([Send(script.wire, script.payload), Stall()]))
    async with pool_to(upstream) as pool:
        assert await answer_to(pool) == (Ending.GARBLED, script.payload)


@pytest.mark.stopwatch
async def test_silence_in_the_body_is_a_stall_although_the_head_came_at_once(upstream: LoopbackUpstream) -> None:
    script = loopback.stall_after(3)
    upstream.script(script)
    async with pool_to(upstream, head_s=30.0, stall_s=0.2) as pool:
        began = time.monotonic()
        assert await answer_to(pool) == (Ending.STALLED, script.payload)
        assert 0.15 < time.monotonic() - began < 3.0
    assert await upstream.wait_closed(upstream.requests[0])


@pytest.mark.stopwatch
async def test_slow_but_steady_body_is_no_stall(upstream: LoopbackUpstream) -> None:
    script = loopback.chat_stream(["x"] * 10, pace=0.1)
    upstream.script(script)
    async with pool_to(upstream, head_s=0.3, stall_s=0.3) as pool:
        assert await answer_to(pool) == (Ending.WHOLE, script.payload)


@pytest.mark.stopwatch
async def test_head_that_comes_late_leaves_its_body_the_whole_patience(upstream: LoopbackUpstream) -> None:
    whole = loopback.chat_stream("hello")
    upstream.script(Script([Pause(0.3), *whole.steps[:2], Pause(0.3), *whole.steps[2:]]))
    async with pool_to(upstream, head_s=0.5, stall_s=0.5) as pool:
        assert await answer_to(pool) == (Ending.WHOLE, whole.payload)


@pytest.mark.parametrize("endless", [b"0\r\n" + b"x-trailer: " + b"t" * 1000 + b"\r\n", b"2;ext=" + b"e" * 1000])
async def test_endless_framing_without_body_is_given_up(upstream: LoopbackUpstream, endless: bytes) -> None:
    head = loopback.head(200, [("transfer-encoding", "chunked")])
    first, more = endless[: endless.index(b"t" if b"trailer" in endless else b"e")], endless[-1000:]
    upstream.script(Script([Send(head + b"2\r\nok\r\n" + first), Flood(more)]))
    async with pool_to(upstream) as pool:
        assert await answer_to(pool) == (Ending.GARBLED, b"ok")
    assert upstream.requests[0].bytes_written < 8_000_000


# ── the connection afterwards ────────────────────────────────────────────────────────────────────────────────────────


async def test_connection_serves_one_call_after_the_other(upstream: LoopbackUpstream) -> None:
    async with pool_to(upstream) as pool:
        for _ in range(5):
            assert (await answer_to(pool))[0] is Ending.WHOLE
    assert upstream.connection_count == 1
    assert upstream.request_count == 5


async def test_closing_a_reply_that_was_pumped_leaves_the_next_call_alone(upstream: LoopbackUpstream) -> None:
    async with pool_to(upstream) as pool:
        first = await ask(pool)
        await first.pump(Basin())
        upstream.script(loopback.chat_stream("hello", pace=0.01))
        second = await ask(pool)
        first.close()
        assert await second.pump(Basin()) is Ending.WHOLE
    assert upstream.connection_count == 1


async def test_calls_at_the_same_time_have_a_connection_each(upstream: LoopbackUpstream) -> None:
    async with pool_to(upstream) as pool:
        answers = await asyncio.gather(*(answer_to(pool) for _ in range(20)))
        assert {ending for ending, _ in answers} == {Ending.WHOLE}
        assert (await answer_to(pool))[0] is Ending.WHOLE
    assert upstream.connection_count == 20


async def test_announced_close_is_obeyed() -> None:
    async with LoopbackUpstream(reuse="announce") as upstream, pool_to(upstream) as pool:
        for _ in range(3):
            assert (await answer_to(pool))[0] is Ending.WHOLE
        assert upstream.connection_count == 3
        assert upstream.stale_hits == 0


async def test_http_1_0_connection_is_not_used_again(upstream: LoopbackUpstream) -> None:
    upstream.script(Script([Send(b"HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nok")]))
    async with pool_to(upstream) as pool:
        assert await answer_to(pool) == (Ending.WHOLE, b"ok")
        await answer_to(pool)
    assert upstream.connection_count == 2


async def test_connection_closed_while_idle_is_not_used() -> None:
    async with LoopbackUpstream(reuse="drop") as upstream, pool_to(upstream) as pool:
        for _ in range(3):
            assert (await answer_to(pool))[0] is Ending.WHOLE
            await asyncio.sleep(0.02)
        assert (upstream.request_count, upstream.connection_count) == (3, 3)


@pytest.mark.parametrize("reuse", ["stale-fin", "stale-rst"])
async def test_call_that_meets_a_stale_connection_is_sent_once_more_on_a_fresh_one(reuse: Any) -> None:
    async with LoopbackUpstream(reuse=reuse) as upstream, pool_to(upstream) as pool:
        for _ in range(10):
            assert (await answer_to(pool))[0] is Ending.WHOLE
        assert upstream.stale_hits == 9
        assert upstream.request_count == 10


async def test_fresh_connection_that_closes_without_an_answer_is_not_tried_again(upstream: LoopbackUpstream) -> None:
    async with pool_to(upstream) as pool:
        await answer_to(pool)
        upstream.on = lambda request: loopback.cut_before_head()
        with pytest.raises(UpstreamUnreachable):
            await ask(pool)
    assert upstream.request_count == 3  # one whole, one stale, one fresh


@pytest.mark.parametrize("said", [b"H", b"HTTP/1.1 103 Early Hints\r\n\r\n"])
async def test_call_is_not_sent_again_after_a_byte_of_an_answer(upstream: LoopbackUpstream, said: bytes) -> None:
    async with pool_to(upstream) as pool:
        await answer_to(pool)
        upstream.script(Script([Send(said), Pause(0.02), Fin()]))
        with pytest.raises(UpstreamUnreachable, match="middle"):
            await ask(pool)
    assert upstream.request_count == 2


async def test_upstream_that_worked_for_long_and_died_is_not_asked_again(upstream: LoopbackUpstream) -> None:
    async with pool_to(upstream, stale_s=0.1) as pool:
        await answer_to(pool)
        upstream.script(Script([Pause(0.2), Fin()]))
        with pytest.raises(UpstreamUnreachable, match="without an answer"):
            await ask(pool)
    assert upstream.request_count == 2


@pytest.mark.stopwatch
async def test_idle_connections_are_closed_in_time(upstream: LoopbackUpstream) -> None:
    async with pool_to(upstream, idle_s=0.1) as pool:
        await asyncio.gather(*(answer_to(pool) for _ in range(5)))
        assert len(upstream.connections) == 5
        await upstream.wait_until(lambda: not upstream.connections, within=1.0)
        assert (await answer_to(pool))[0] is Ending.WHOLE


async def test_bytes_behind_an_answer_are_nobodys(upstream: LoopbackUpstream) -> None:
    script = loopback.extra_bytes_after()
    upstream.script(script)
    async with pool_to(upstream) as pool:
        assert await answer_to(pool) == (Ending.WHOLE, script.payload)
        _, next_body = await answer_to(pool)
    assert b"belongs to nobody" not in next_body
    assert upstream.connection_count == 2


@pytest.mark.parametrize("framing", ["chunked", "length"])
@pytest.mark.parametrize("extra", [b"H", b"HTTP/1.1 200 OK\r\nx: ", b"stray", b"\x00"])
async def test_bytes_behind_an_answer_spoil_its_connection(
    upstream: LoopbackUpstream, framing: Any, extra: bytes
) -> None:
    script = loopback.chat_stream("hello", framing=framing)
    upstream.script(Script([Send(script.wire + extra, script.payload)]))
    async with pool_to(upstream) as pool:
        assert await answer_to(pool, enough=until_done) == (Ending.ENOUGH, script.payload)
        assert (await answer_to(pool))[0] is Ending.WHOLE
    assert upstream.connection_count == 2


async def test_bytes_that_come_to_an_idle_connection_spoil_it(upstream: LoopbackUpstream) -> None:
    stray = loopback.json_answer({"stray": "this belongs to nobody"})
    script = loopback.chat_completion("hello")
    upstream.script(Script([*script.steps, Pause(0.05), Send(stray.wire)]))
    async with pool_to(upstream) as pool:
        assert await answer_to(pool) == (Ending.WHOLE, script.payload)
        await asyncio.sleep(0.15)
        _, body = await answer_to(pool)
    assert b"belongs to nobody" not in body
    assert upstream.connection_count == 2


async def test_bytes_that_lie_unread_in_the_socket_are_not_the_answer(upstream: LoopbackUpstream) -> None:
    """The event loop has not seen them yet when the next call is made."""
    stray = loopback.json_answer({"stray": "this belongs to nobody"})
    async with pool_to(upstream) as pool:
        await answer_to(pool)
        (connection,) = upstream.connections
        os.write(connection._transport.get_extra_info("socket").fileno(), stray.wire)
        time.sleep(0.02)  # noqa: ASYNC251  # so that no loop runs
        _, body = await answer_to(pool)
    assert b"belongs to nobody" not in body
    assert upstream.connection_count == 2


# ── a sink that has enough ───────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("pause", [0.0, 0.05])
async def test_connection_is_used_again_when_the_end_follows_the_last_event(
    upstream: LoopbackUpstream, pause: float
) -> None:
    whole = loopback.chat_stream("hello")
    upstream.script(Script([*whole.steps[:-1], Pause(pause), whole.steps[-1]]))
    async with pool_to(upstream) as pool:
        assert await answer_to(pool, enough=until_done) == (Ending.ENOUGH, whole.payload)
        await asyncio.sleep(pause + 0.05)
        await answer_to(pool)
    assert upstream.connection_count == 1


async def test_connection_is_closed_when_the_end_does_not_follow_in_time(upstream: LoopbackUpstream) -> None:
    whole = loopback.chat_stream("hello")
    upstream.script(Script([*whole.steps[:-1], Stall()]))
    async with pool_to(upstream, discard_s=0.2) as pool:
        assert (await answer_to(pool, enough=until_done))[0] is Ending.ENOUGH
        assert upstream.connections
        await upstream.wait_until(lambda: not upstream.connections, within=1.0)


async def test_connection_is_closed_when_more_than_an_end_follows(upstream: LoopbackUpstream) -> None:
    whole = loopback.chat_stream("hello")
    more = b"data: " + b"x" * 1000 + b"\n\n"
    upstream.script(Script([*whole.steps[:-1], Flood(loopback.http_chunk(more))]))
    async with pool_to(upstream) as pool:
        ending, body = await answer_to(pool, enough=lambda body: DONE in body[-300_000:])
        assert (ending, body.startswith(whole.payload)) == (Ending.ENOUGH, True)
        await upstream.wait_until(lambda: not upstream.connections, within=1.0)
    assert upstream.requests[0].bytes_written < DISCARD_BYTES + 8_000_000


async def test_close_delimited_answer_is_closed_when_there_is_enough(upstream: LoopbackUpstream) -> None:
    script = loopback.chat_stream("hello", framing="close")
    upstream.script(Script([*script.steps[:-1], Stall()]))
    async with pool_to(upstream) as pool:
        assert await answer_to(pool, enough=until_done) == (Ending.ENOUGH, script.payload)
        await upstream.wait_until(lambda: not upstream.connections, within=0.2)


# ── backpressure ─────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_full_sink_pauses_the_upstream_and_resumes_it(upstream: LoopbackUpstream) -> None:
    upstream.script(loopback.endless_stream())
    async with pool_to(upstream) as pool:
        reply = await ask(pool)
        sink = Basin(room=100_000, enough=lambda body: len(body) > 30_000_000)
        pumping = asyncio.create_task(reply.pump(sink))
        await sink.filled.wait()
        assert await written_at_rest(upstream) < 16_000_000  # the kernel's buffers
        assert len(sink.body) < 100_000 + 300_000  # and one read
        sink.empty()
        assert await pumping is Ending.ENOUGH
        assert len(sink.body) > 30_000_000


async def test_answer_that_nobody_pumps_is_not_read_into_memory(upstream: LoopbackUpstream) -> None:
    upstream.script(loopback.endless_stream())
    async with pool_to(upstream) as pool:
        reply = await ask(pool)
        assert await written_at_rest(upstream) < 16_000_000
        sink = Basin(enough=lambda body: len(body) > 20_000_000)
        assert await reply.pump(sink) is Ending.ENOUGH
        said = upstream.requests[0].said_bytes
        assert said.startswith(sink.body)


@pytest.mark.stopwatch
async def test_silence_while_we_pause_is_not_a_stall(upstream: LoopbackUpstream) -> None:
    script = loopback.chat_stream(["x" * 10_000] * 500)
    upstream.script(script)
    async with pool_to(upstream, stall_s=0.15) as pool:
        reply = await ask(pool)
        sink = Basin(room=2000)
        pumping = asyncio.create_task(reply.pump(sink))
        await sink.filled.wait()
        await asyncio.sleep(0.5)
        assert not pumping.done()
        sink.empty()
        assert await pumping is Ending.WHOLE
        assert sink.body == script.payload


@pytest.mark.stopwatch
async def test_silence_after_a_pause_is_a_stall(upstream: LoopbackUpstream) -> None:
    upstream.script(loopback.stall_after(3, pace=0.02))
    async with pool_to(upstream, stall_s=0.15) as pool:
        reply = await ask(pool)
        sink = Basin(room=1)
        pumping = asyncio.create_task(reply.pump(sink))
        await sink.filled.wait()
        await asyncio.sleep(0.3)
        sink.empty()
        began = time.monotonic()
        assert await pumping is Ending.STALLED
        assert 0.1 < time.monotonic() - began < 3.0


async def test_sink_that_stays_full_and_does_not_wait_stops_nobody_else(upstream: LoopbackUpstream) -> None:
    class Impatient(Basin):
        async def drained(self) -> None:
            pass

    upstream.script(loopback.endless_stream())
    async with pool_to(upstream) as pool:
        reply = await ask(pool)
        pumping = asyncio.create_task(reply.pump(Impatient(room=1)))
        await asyncio.sleep(0.05)
        pumping.cancel()
        with pytest.raises(asyncio.CancelledError):
            await pumping


async def test_failure_of_the_sink_is_raised_where_it_is_pumped(upstream: LoopbackUpstream) -> None:
    class Broken(Basin):
        def feed(self, data: bytes) -> bool:
            raise ZeroDivisionError

    for script in (loopback.chat_stream("hello", pace=0.01), loopback.chat_completion("hello")):
        late = Script([script.steps[0], Pause(0.1), *script.steps[1:]])  # with the head, and after it
        upstream.script(Script([Send(script.wire)]), late)
        async with pool_to(upstream) as pool:
            for _ in range(2):
                reply = await ask(pool)
                with pytest.raises(ZeroDivisionError):
                    await reply.pump(Broken())
        await upstream.wait_until(lambda: not upstream.connections, within=0.2)


# ── leaving ──────────────────────────────────────────────────────────────────────────────────────────────────────────


async def closed_within(upstream: LoopbackUpstream, request: Request, began: float) -> float:
    return await upstream.wait_closed(request, within=1.0) - began


@pytest.mark.stopwatch
async def test_closed_reply_closes_the_connection_at_once(upstream: LoopbackUpstream) -> None:
    upstream.script(loopback.chat_stream(["x"] * 100, pace=0.05))
    async with pool_to(upstream) as pool:
        reply = await ask(pool)
        reply.close()
        assert await closed_within(upstream, upstream.requests[0], time.monotonic()) < 0.2
        reply.close()
        with pytest.raises(RuntimeError):
            await reply.pump(Basin())


@pytest.mark.stopwatch
@pytest.mark.parametrize("stage", ["head", "first bytes", "mid-body", "full"])
async def test_cancelled_call_closes_the_connection_at_once(upstream: LoopbackUpstream, stage: str) -> None:
    body = loopback.stall_after(3) if stage != "full" else loopback.endless_stream()
    upstream.script(loopback.stall_before_headers() if stage == "head" else body)
    sink = Basin(room=1000 if stage == "full" else None)

    async def call(pool: ConnectionPool) -> None:
        reply = await ask(pool)
        await reply.pump(sink)

    async with pool_to(upstream) as pool:
        calling = asyncio.create_task(call(pool))
        (request,) = await upstream.wait_for_requests(1)
        if stage == "first bytes":
            while not request.bytes_written:
                await asyncio.sleep(0)
        else:
            await asyncio.sleep(0.1)
        began = time.monotonic()
        calling.cancel()
        with pytest.raises(asyncio.CancelledError):
            await calling
        assert await closed_within(upstream, request, began) < 0.2


async def test_cancelled_while_connecting_leaves_no_connection() -> None:
    accepted = 0

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal accepted
        accepted += 1
        writer.transport.abort()

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    async with server, pool_to(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1") as pool:
        for turns in range(8):
            calling = asyncio.create_task(ask(pool))
            for _ in range(turns):
                await asyncio.sleep(0)
            calling.cancel()
            with pytest.raises((asyncio.CancelledError, UpstreamUnreachable)):
                await calling
        await asyncio.sleep(0.05)
        assert not pool._open


@pytest.mark.parametrize("script", [loopback.stall_before_headers(), loopback.stall_after(2), None])
async def test_closing_the_pool_ends_every_call(upstream: LoopbackUpstream, script: Script | None) -> None:
    upstream.script(script or loopback.chat_stream(["x"] * 100, pace=0.05, framing="close"))
    async with pool_to(upstream) as pool:
        calling = asyncio.create_task(answer_to(pool))
        await upstream.wait_for_requests(1)
        await asyncio.sleep(0.05)
        await pool.aclose()
        if script is not None and not script.payload:
            with pytest.raises(UpstreamUnreachable):
                await calling
        else:
            assert (await calling)[0] is Ending.CUT
        with pytest.raises(UpstreamUnreachable, match="closing"):
            await ask(pool)
