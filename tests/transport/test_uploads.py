"""Streamed uploads to an upstream, and the parts of an answer that the client must leave alone."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import time
from typing import TYPE_CHECKING, Any

import pytest

from gateway.errors import (
    CallerError,
    MalformedBody,
    UpstreamError,
    UpstreamGarbled,
    UpstreamStalled,
    UpstreamUnreachable,
)
from gateway.transport.call import Call, Ending
from gateway.transport.origin import Origin, Timeouts
from gateway.transport.pool import ConnectionPool
from tests import loopback
from tests.fakes import Basin
from tests.loopback import Fin, LoopbackUpstream, Pause, Script

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

TIMEOUTS = Timeouts(connect_s=2.0, head_s=2.0, stall_s=2.0, idle_s=30.0)
CHAT = Call("POST", "/chat/completions", ((b"Content-Type", b"application/json"),), b'{"stream":true}')
MEGABYTE = b"m" * 1_000_000


@contextlib.asynccontextmanager
async def pool_to(upstream: LoopbackUpstream, **timeouts: float) -> AsyncIterator[ConnectionPool]:
    limits = {name: getattr(TIMEOUTS, name) for name in TIMEOUTS.__slots__} | timeouts
    pool = ConnectionPool(Origin.of_base(upstream.url, "Bearer sk-ours"), Timeouts(**limits))
    try:
        yield pool
    finally:
        await pool.aclose()


async def answer_to(pool: ConnectionPool, call: Call = CHAT, **basin: Any) -> tuple[Ending, bytes]:
    reply = await pool.open(call)
    sink = Basin(**basin)
    try:
        return await reply.pump(sink), bytes(sink.body)
    finally:
        reply.close()


async def begun(upstream: LoopbackUpstream) -> None:
    """The head of a request has arrived."""
    while not upstream.requests:
        await asyncio.sleep(0.01)


async def parts(*pieces: bytes, pause: float = 0.0) -> AsyncIterator[bytes]:
    for piece in pieces:
        await asyncio.sleep(pause)
        yield piece


def upload(*pieces: bytes, path: str = "/echo", length: int | None = None, pause: float = 0.0) -> Call:
    return Call("POST", path, ((b"Content-Type", b"audio/mpeg"),), parts(*pieces, pause=pause), length)


# ── uploads ──────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_upload_of_known_length_says_its_length(upstream: LoopbackUpstream) -> None:
    async with pool_to(upstream) as pool:
        ending, _ = await answer_to(pool, upload(b"one ", b"two", length=7))
    (request,) = upstream.requests
    assert (ending, request.body) == (Ending.WHOLE, b"one two")
    assert (request.header("content-length"), request.header("transfer-encoding")) == ("7", None)
    assert request.header("content-type") == "audio/mpeg"


async def test_upload_of_unknown_length_is_chunked(upstream: LoopbackUpstream) -> None:
    async with pool_to(upstream) as pool:
        ending, body = await answer_to(pool, upload(b"one ", b"two"))
    (request,) = upstream.requests
    assert (ending, request.body) == (Ending.WHOLE, b"one two")
    assert (request.header("content-length"), request.header("transfer-encoding")) == (None, "chunked")
    assert json.loads(body)["sha256"] == hashlib.sha256(b"one two").hexdigest()


async def test_empty_upload_arrives(upstream: LoopbackUpstream) -> None:
    async with pool_to(upstream) as pool:
        for length in (None, 0):
            assert (await answer_to(pool, upload(length=length)))[0] is Ending.WHOLE
    assert [request.body for request in upstream.requests] == [b"", b""]


@pytest.mark.stopwatch
async def test_upload_waits_for_an_upstream_that_does_not_read(upstream: LoopbackUpstream) -> None:
    taken = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal taken
        while True:
            taken += len(MEGABYTE)
            yield MEGABYTE

    async with pool_to(upstream, stall_s=0.5) as pool:
        calling = asyncio.create_task(pool.open(Call("POST", "/files", (), endless())))
        await begun(upstream)
        upstream.pause_reading()
        with pytest.raises(UpstreamStalled):
            await calling
        assert taken < 30_000_000  # the kernel's buffers, and ours
    upstream.resume_reading()


@pytest.mark.stopwatch
async def test_slow_caller_is_not_the_upstreams_stall(upstream: LoopbackUpstream) -> None:
    async with pool_to(upstream, connect_s=0.1, head_s=0.1, stall_s=0.1) as pool:
        ending, _ = await answer_to(pool, upload(b"a", b"b", b"c", pause=0.3))
    assert (ending, upstream.requests[0].body) == (Ending.WHOLE, b"abc")


@pytest.mark.stopwatch
async def test_upstream_that_is_silent_after_an_upload_stalls_after_head_s(upstream: LoopbackUpstream) -> None:
    upstream.script(loopback.stall_before_headers())
    async with pool_to(upstream, connect_s=5, head_s=0.3, stall_s=5) as pool:
        began = time.monotonic()
        with pytest.raises(UpstreamStalled, match=r"0\.3 s"):
            await pool.open(upload(b"a"))
        assert 0.25 < time.monotonic() - began < 3.0


async def test_answer_that_comes_before_the_upload_is_over_is_taken(upstream: LoopbackUpstream) -> None:
    upstream.early = lambda request: loopback.error(413, message="Too much.") if request.number == 1 else None
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while True:
            sent += 1
            yield b"x" * 10_000
            await asyncio.sleep(0.01)

    async with pool_to(upstream) as pool:
        reply = await pool.open(Call("POST", "/files", (), endless()))
        sink = Basin()
        assert await reply.pump(sink) is Ending.WHOLE
        reply.close()
        assert reply.head.status == 413
        assert b"Too much." in sink.body
        await upstream.wait_until(lambda: not upstream.connections, within=0.5)  # half a request cannot be gone on from
        seen = sent
        await asyncio.sleep(0.05)
        assert sent == seen  # nobody is read who is not listened to
        assert (await answer_to(pool))[0] is Ending.WHOLE


async def test_refusal_that_closes_in_the_middle_of_an_upload_is_an_answer_or_unreachable(
    upstream: LoopbackUpstream,
) -> None:
    """TCP decides whether the refusal survives the reset that follows it."""
    upstream.early = lambda request: loopback.error(413, close=True).then(Pause(0.05), Fin())
    async with pool_to(upstream) as pool:
        for _ in range(5):
            try:
                reply = await pool.open(upload(*[MEGABYTE] * 20))
            except UpstreamUnreachable:
                continue
            assert reply.head.status == 413
            reply.close()


async def test_failure_of_the_callers_body_is_the_callers(upstream: LoopbackUpstream) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield b"half of "
        raise ConnectionResetError("the caller left")

    async with pool_to(upstream) as pool:
        with pytest.raises(ConnectionResetError, match="the caller left"):
            await pool.open(Call("POST", "/files", (), broken()))
    await upstream.wait_until(lambda: not upstream.connections)
    assert upstream.requests[0].received_at is None  # a broken upload never looks whole


@pytest.mark.stopwatch
async def test_upload_that_is_cancelled_closes_its_connection_at_once(upstream: LoopbackUpstream) -> None:
    async with pool_to(upstream) as pool:
        calling = asyncio.create_task(pool.open(upload(*[b"x"] * 100, pause=0.05)))
        await begun(upstream)
        began = time.monotonic()
        calling.cancel()
        with pytest.raises(asyncio.CancelledError):
            await calling
        assert await upstream.wait_closed(upstream.requests[0]) - began < 0.2


async def test_upload_is_never_sent_on_a_connection_that_may_be_stale() -> None:
    async with LoopbackUpstream(reuse="stale-rst") as upstream, pool_to(upstream) as pool:
        for _ in range(5):
            assert (await answer_to(pool, upload(b"once")))[0] is Ending.WHOLE
        assert (upstream.request_count, upstream.stale_hits) == (5, 0)


async def test_parts_of_any_size_arrive_as_one_body(upstream: LoopbackUpstream) -> None:
    pieces = (b"", b"one ", b"", b"two", MEGABYTE, b"")  # an empty part is not the last chunk
    whole = b"".join(pieces)
    async with pool_to(upstream) as pool:
        for length in (None, len(whole)):
            assert (await answer_to(pool, upload(*pieces, length=length)))[0] is Ending.WHOLE
    assert [request.body == whole for request in upstream.requests] == [True, True]


@pytest.mark.parametrize(("length", "fault"), [(2, "longer"), (4, "shorter")])
async def test_body_that_differs_from_its_length_is_malformed_and_never_complete(
    upstream: LoopbackUpstream, length: int, fault: str
) -> None:
    """A surplus would be the server's next request."""
    async with pool_to(upstream) as pool:
        with pytest.raises(MalformedBody, match=fault):
            await pool.open(upload(b"one", length=length))
        await upstream.wait_until(lambda: not upstream.connections)
    assert [request.received_at for request in upstream.requests] in ([], [None])


async def test_connection_serves_the_next_call_after_an_upload(upstream: LoopbackUpstream) -> None:
    async with pool_to(upstream) as pool:
        assert (await answer_to(pool, upload(b"one")))[0] is Ending.WHOLE
        assert (await answer_to(pool))[0] is Ending.WHOLE
        assert (await answer_to(pool, upload(b"two")))[0] is Ending.WHOLE
    assert upstream.connection_count == 2  # an upload always gets a fresh one


@pytest.mark.stopwatch
async def test_upload_goes_on_while_its_answer_streams(upstream: LoopbackUpstream) -> None:
    upstream.early = lambda request: loopback.chat_stream(["x"] * 20, pace=0.02)
    given = 0

    async def slow() -> AsyncIterator[bytes]:
        nonlocal given
        for _ in range(5):
            given += 1
            yield b"x" * 1000
            await asyncio.sleep(0.05)

    async with pool_to(upstream, stall_s=0.2) as pool:
        reply = await pool.open(Call("POST", "/files", (), slow()))
        begun_with = given
        assert await reply.pump(Basin()) is Ending.WHOLE
        assert given > begun_with


@pytest.mark.stopwatch
async def test_caller_that_breaks_off_during_the_answer_cuts_it(upstream: LoopbackUpstream) -> None:
    upstream.early = lambda request: loopback.stall_after(2)

    async def broken() -> AsyncIterator[bytes]:
        yield b"half of "
        await asyncio.sleep(0.1)
        raise ConnectionResetError("the caller left")

    async with pool_to(upstream) as pool:
        reply = await pool.open(Call("POST", "/files", (), broken()))
        assert await reply.pump(Basin()) is Ending.CUT
        await upstream.wait_until(lambda: not upstream.connections, within=0.5)


# ── an answer ────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_request_says_what_was_asked_and_nothing_else(upstream: LoopbackUpstream) -> None:
    headers = ((b"X-One", "Grüße".encode()), (b"X-Odd", b"\xff"), (b"Accept", b"*/*"))
    async with pool_to(upstream) as pool:
        await answer_to(pool, Call("POST", "/echo?a=%20b&c=%C3%BC", headers, b"body"))
        await answer_to(pool, Call("GET", "/models"))
    asked, listed = upstream.requests
    assert (asked.method, asked.target, asked.body) == ("POST", "/v1/echo?a=%20b&c=%C3%BC", b"body")
    assert sorted(asked.headers) == [
        (b"Accept", b"*/*"),
        (b"Accept-Encoding", b"identity"),
        (b"Authorization", b"Bearer sk-ours"),
        (b"Content-Length", b"4"),
        (b"Host", f"127.0.0.1:{upstream.port}".encode()),
        (b"X-Odd", b"\xff"),
        (b"X-One", "Grüße".encode()),
    ]
    assert {name for name, _ in listed.headers} == {b"Host", b"Accept-Encoding", b"Authorization"}


async def test_path_is_not_rewritten_on_its_way(upstream: LoopbackUpstream) -> None:
    path = "/files/a%2Fb/%7E/c%20d?x=a+b&y=%2B"
    async with pool_to(upstream) as pool:
        await answer_to(pool, Call("GET", path))
        with pytest.raises(CallerError):
            await pool.open(Call("GET", "/%2e%2e/admin"))
    assert [request.target for request in upstream.requests] == [f"/v1{path}"]


async def test_redirect_is_an_answer_and_is_not_followed(upstream: LoopbackUpstream) -> None:
    upstream.script(loopback.redirect(location=f"{upstream.url}/elsewhere"))
    async with pool_to(upstream) as pool:
        reply = await pool.open(CHAT)
        await reply.pump(Basin())
    assert (reply.head.status, upstream.request_count) == (307, 1)


async def test_cookies_are_not_kept(upstream: LoopbackUpstream) -> None:
    upstream.script(loopback.json_answer({}, headers=[("set-cookie", "who=someone-else")]))
    async with pool_to(upstream) as pool:
        await answer_to(pool)
        await answer_to(pool)
    assert upstream.requests[1].header("cookie") is None


async def test_compressed_body_is_left_as_it_is(upstream: LoopbackUpstream) -> None:
    script = loopback.chat_stream("hello", gzip=True)
    upstream.script(script)
    async with pool_to(upstream) as pool:
        reply = await pool.open(CHAT)
        sink = Basin()
        await reply.pump(sink)
    assert sink.body.startswith(b"\x1f\x8b")
    assert reply.head.get(b"content-encoding") == b"gzip"


async def test_informational_answers_huge_lines_and_headers_pass(upstream: LoopbackUpstream) -> None:
    many = loopback.chat_stream("hello", headers=[(f"x-{number}", "1") for number in range(300)])
    async with pool_to(upstream) as pool:
        for script in (loopback.early_hints_103_then_answer(), loopback.big_line(), loopback.huge_headers(), many):
            upstream.script(script)
            assert await answer_to(pool) == (Ending.WHOLE, script.payload)


# ── faults ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.stopwatch
@pytest.mark.parametrize(
    ("script", "fault"),
    [
        (loopback.cut_before_head("fin"), UpstreamUnreachable),
        (loopback.cut_before_head("rst"), UpstreamUnreachable),
        (loopback.cut_in_head("fin"), UpstreamUnreachable),
        (loopback.cut_in_head("rst"), UpstreamUnreachable),
        (loopback.garbage(), UpstreamGarbled),
        (loopback.endless_headers(), UpstreamGarbled),
        (loopback.huge_headers(100_000), UpstreamGarbled),
        (loopback.stall_before_headers(), UpstreamStalled),
    ],
)
@pytest.mark.parametrize("is_upload", [False, True])
async def test_faults_before_the_head(
    upstream: LoopbackUpstream, script: Script, fault: type[UpstreamError], is_upload: bool
) -> None:
    upstream.script(script)
    async with pool_to(upstream, connect_s=0.2, head_s=0.2) as pool:
        with pytest.raises(fault):
            await pool.open(upload(b"x") if is_upload else CHAT)
    assert upstream.request_count == 1
