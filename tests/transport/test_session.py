"""The upstream side of a call on a client session: streamed uploads, and what a proxied call takes too."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import time
from typing import TYPE_CHECKING, Any
from unittest.mock import Mock

import aiohttp
import pytest
from aioresponses import aioresponses

from gateway.errors import CallerError, UpstreamError, UpstreamGarbled, UpstreamStalled, UpstreamUnreachable
from gateway.transport import session as session_module
from gateway.transport.call import Call, Ending
from gateway.transport.origin import Origin, Timeouts
from gateway.transport.session import Session
from tests import loopback
from tests.fakes import Basin
from tests.loopback import Fin, LoopbackUpstream, Pause, Script, Send, Stall
from tests.transport.backpressure import written_at_rest

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from gateway.transport.call import Reply

PATIENCE = Timeouts(connect_s=2.0, head_s=2.0, stall_s=2.0, idle_s=30.0)
CHAT = Call("POST", "/chat/completions", ((b"Content-Type", b"application/json"),), b'{"stream":true}')
MEGABYTE = b"m" * 1_000_000


@contextlib.asynccontextmanager
async def session_to(upstream: LoopbackUpstream, **patience: float) -> AsyncIterator[Session]:
    terms = {name: getattr(PATIENCE, name) for name in PATIENCE.__slots__} | patience
    session = Session(Origin.of_base(upstream.url, "Bearer sk-ours"), Timeouts(**terms))
    try:
        yield session
    finally:
        await session.aclose()


async def answer_to(session: Session, call: Call = CHAT, **basin: Any) -> tuple[Ending, bytes]:
    reply = await session.open(call)
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
    async with session_to(upstream) as session:
        ending, _ = await answer_to(session, upload(b"one ", b"two", length=7))
    (request,) = upstream.requests
    assert (ending, request.body) == (Ending.WHOLE, b"one two")
    assert (request.header("content-length"), request.header("transfer-encoding")) == ("7", None)
    assert request.header("content-type") == "audio/mpeg"


async def test_upload_of_unknown_length_is_chunked(upstream: LoopbackUpstream) -> None:
    async with session_to(upstream) as session:
        ending, body = await answer_to(session, upload(b"one ", b"two"))
    (request,) = upstream.requests
    assert (ending, request.body) == (Ending.WHOLE, b"one two")
    assert (request.header("content-length"), request.header("transfer-encoding")) == (None, "chunked")
    assert json.loads(body)["sha256"] == hashlib.sha256(b"one two").hexdigest()


async def test_empty_upload_arrives(upstream: LoopbackUpstream) -> None:
    async with session_to(upstream) as session:
        for length in (None, 0):
            assert (await answer_to(session, upload(length=length)))[0] is Ending.WHOLE
    assert [request.body for request in upstream.requests] == [b"", b""]


@pytest.mark.stopwatch
async def test_upload_waits_for_an_upstream_that_does_not_read(upstream: LoopbackUpstream) -> None:
    taken = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal taken
        while True:
            taken += len(MEGABYTE)
            yield MEGABYTE

    async with session_to(upstream, stall_s=0.5) as session:
        calling = asyncio.create_task(session.open(Call("POST", "/files", (), endless())))
        await begun(upstream)
        upstream.pause_reading()
        with pytest.raises(UpstreamStalled):
            await calling
        assert taken < 30_000_000  # the kernel's buffers, and ours
    upstream.resume_reading()


@pytest.mark.stopwatch
async def test_slow_caller_is_not_the_upstreams_stall(upstream: LoopbackUpstream) -> None:
    async with session_to(upstream, connect_s=0.1, head_s=0.1, stall_s=0.1) as session:
        ending, _ = await answer_to(session, upload(b"a", b"b", b"c", pause=0.3))
    assert (ending, upstream.requests[0].body) == (Ending.WHOLE, b"abc")


@pytest.mark.stopwatch
async def test_upstream_that_is_silent_after_an_upload_stalls_after_head_s(upstream: LoopbackUpstream) -> None:
    upstream.script(loopback.stall_before_headers())
    async with session_to(upstream, connect_s=5, head_s=0.3, stall_s=5) as session:
        began = time.monotonic()
        with pytest.raises(UpstreamStalled, match=r"0\.3 s"):
            await session.open(upload(b"a"))
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

    async with session_to(upstream) as session:
        reply = await session.open(Call("POST", "/files", (), endless()))
        sink = Basin()
        assert await reply.pump(sink) is Ending.WHOLE
        reply.close()
        assert reply.head.status == 413
        assert b"Too much." in sink.body
        await upstream.wait_until(lambda: not upstream.connections, within=0.5)  # half a request cannot be gone on from
        seen = sent
        await asyncio.sleep(0.05)
        assert sent == seen  # nobody is read who is not listened to
        assert (await answer_to(session))[0] is Ending.WHOLE


async def test_refusal_that_closes_in_the_middle_of_an_upload_is_an_answer_or_unreachable(
    upstream: LoopbackUpstream,
) -> None:
    """TCP decides whether the refusal survives the reset that follows it."""
    upstream.early = lambda request: loopback.error(413, close=True).then(Pause(0.05), Fin())
    async with session_to(upstream) as session:
        for _ in range(5):
            try:
                reply = await session.open(upload(*[MEGABYTE] * 20))
            except UpstreamUnreachable:
                continue
            assert reply.head.status == 413
            reply.close()


async def test_failure_of_the_callers_body_is_the_callers(upstream: LoopbackUpstream) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield b"half of "
        raise ConnectionResetError("the caller left")

    async with session_to(upstream) as session:
        with pytest.raises(ConnectionResetError, match="the caller left"):
            await session.open(Call("POST", "/files", (), broken()))
    await upstream.wait_until(lambda: not upstream.connections)
    assert upstream.requests[0].received_at is None  # a broken upload never looks whole


@pytest.mark.stopwatch
async def test_upload_that_is_cancelled_closes_its_connection_at_once(upstream: LoopbackUpstream) -> None:
    async with session_to(upstream) as session:
        calling = asyncio.create_task(session.open(upload(*[b"x"] * 100, pause=0.05)))
        await begun(upstream)
        began = time.monotonic()
        calling.cancel()
        with pytest.raises(asyncio.CancelledError):
            await calling
        assert await upstream.wait_closed(upstream.requests[0]) - began < 0.2


async def test_upload_is_never_sent_on_a_connection_that_may_be_stale() -> None:
    async with LoopbackUpstream(reuse="stale-rst") as upstream, session_to(upstream) as session:
        for _ in range(5):
            assert (await answer_to(session, upload(b"once")))[0] is Ending.WHOLE
        assert (upstream.request_count, upstream.stale_hits) == (5, 0)


# ── an answer ────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("cut_at", [None, 1, 7])
async def test_body_arrives_as_it_was_sent_at_any_cut(upstream: LoopbackUpstream, cut_at: int | None) -> None:
    script = loopback.chat_stream("Grüße 🙂")
    upstream.script(script.dripped(cut_at) if cut_at else script)
    async with session_to(upstream) as session:
        assert await answer_to(session) == (Ending.WHOLE, script.payload)


async def test_request_says_what_was_asked_and_nothing_else(upstream: LoopbackUpstream) -> None:
    headers = ((b"X-One", "Grüße".encode()), (b"X-Odd", b"\xff"), (b"Accept", b"*/*"))
    async with session_to(upstream) as session:
        await answer_to(session, Call("POST", "/echo?a=%20b&c=%C3%BC", headers, b"body"))
        await answer_to(session, Call("GET", "/models"))
    asked, listed = upstream.requests
    assert (asked.method, asked.target, asked.body) == ("POST", "/v1/echo?a=%20b&c=%C3%BC", b"body")
    assert sorted(asked.headers) == [
        (b"Accept", b"*/*"),
        (b"Accept-Encoding", b"identity"),
        (b"Authorization", b"Bearer sk-ours"),
        (b"Content-Length", b"4"),
        (b"Host", f"127.0.0.1:{upstream.port}".encode()),
        (b"X-One", "Grüße".encode()),  # what is no UTF-8 cannot be sent by aiohttp, and stays behind
    ]
    assert {name for name, _ in listed.headers} == {b"Host", b"Accept-Encoding", b"Authorization"}


async def test_path_is_not_rewritten_on_its_way(upstream: LoopbackUpstream) -> None:
    path = "/files/a%2Fb/%7E/c%20d?x=a+b&y=%2B"
    async with session_to(upstream) as session:
        await answer_to(session, Call("GET", path))
        with pytest.raises(CallerError):
            await session.open(Call("GET", "/%2e%2e/admin"))
    assert [request.target for request in upstream.requests] == [f"/v1{path}"]


async def test_redirect_is_an_answer_and_is_not_followed(upstream: LoopbackUpstream) -> None:
    upstream.script(loopback.redirect(location=f"{upstream.url}/elsewhere"))
    async with session_to(upstream) as session:
        reply = await session.open(CHAT)
        await reply.pump(Basin())
    assert (reply.head.status, upstream.request_count) == (307, 1)


async def test_cookies_are_not_kept(upstream: LoopbackUpstream) -> None:
    upstream.script(loopback.json_answer({}, headers=[("set-cookie", "who=someone-else")]))
    async with session_to(upstream) as session:
        await answer_to(session)
        await answer_to(session)
    assert upstream.requests[1].header("cookie") is None


async def test_compressed_body_is_left_as_it_is(upstream: LoopbackUpstream) -> None:
    script = loopback.chat_stream("hello", gzip=True)
    upstream.script(script)
    async with session_to(upstream) as session:
        reply = await session.open(CHAT)
        sink = Basin()
        await reply.pump(sink)
    assert sink.body.startswith(b"\x1f\x8b")
    assert reply.head.get(b"content-encoding") == b"gzip"


@pytest.mark.parametrize(
    ("call", "script"),
    [
        (Call("HEAD", "/models"), Script([Send(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n")])),
        (CHAT, loopback.answer([], status=204, content_type=None, framing="close")),
        (CHAT, Script([Send(b"HTTP/1.1 304 Not Modified\r\n\r\n")])),
    ],
)
async def test_answer_without_a_body_is_whole(upstream: LoopbackUpstream, call: Call, script: Script) -> None:
    upstream.script(script)
    async with session_to(upstream) as session:
        assert await answer_to(session, call) == (Ending.WHOLE, b"")


async def test_informational_answers_huge_lines_and_headers_pass(upstream: LoopbackUpstream) -> None:
    many = loopback.chat_stream("hello", headers=[(f"x-{number}", "1") for number in range(300)])
    async with session_to(upstream) as session:
        for script in (loopback.early_hints_103_then_answer(), loopback.big_line(), loopback.huge_headers(), many):
            upstream.script(script)
            assert await answer_to(session) == (Ending.WHOLE, script.payload)


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
    async with session_to(upstream, connect_s=0.2, head_s=0.2) as session:
        with pytest.raises(fault):
            await session.open(upload(b"x") if is_upload else CHAT)
    assert upstream.request_count == 1


@pytest.mark.stopwatch
@pytest.mark.parametrize(
    ("script", "ending"),
    [
        (loopback.cut_after(3, "fin"), Ending.CUT),
        (loopback.cut_after(3, "rst", torn=5), Ending.CUT),
        (loopback.cut_completion(20, "fin"), Ending.CUT),
        (loopback.cut_completion(20, "rst"), Ending.CUT),
        (loopback.chat_stream("hello", framing="close"), Ending.UNPROVED),
        (loopback.stall_after(3), Ending.STALLED),
        (loopback.bad_chunk_size(3).dripped(300, 0.01), Ending.GARBLED),
        (Script([*loopback.bad_chunk_size(3).steps[:-2], Pause(0.05), Send(b"zz\r\n"), Stall()]), Ending.GARBLED),
    ],
)
async def test_faults_in_the_body(upstream: LoopbackUpstream, script: Script, ending: Ending) -> None:
    upstream.script(script)
    async with session_to(upstream, stall_s=0.3) as session:
        assert await answer_to(session) == (ending, script.payload)
        await upstream.wait_until(lambda: not upstream.connections, within=0.5)


@pytest.mark.stopwatch
async def test_silence_in_the_body_is_measured_by_stall_s_alone(upstream: LoopbackUpstream) -> None:
    upstream.script(loopback.stall_after(3))
    async with session_to(upstream, head_s=30.0, stall_s=0.2) as session:
        began = time.monotonic()
        assert (await answer_to(session))[0] is Ending.STALLED
        assert time.monotonic() - began < 3.0
    upstream.script(loopback.chat_stream(["x"] * 3, pace=0.3))
    async with session_to(upstream, head_s=0.1, stall_s=2.0) as session:
        assert (await answer_to(session))[0] is Ending.WHOLE


# ── connections and backpressure ─────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("reuse", ["stale-fin", "stale-rst"])
async def test_call_that_meets_a_stale_connection_is_sent_once_more_on_a_fresh_one(reuse: Any) -> None:
    async with LoopbackUpstream(reuse=reuse) as upstream, session_to(upstream) as session:
        for _ in range(6):
            assert (await answer_to(session))[0] is Ending.WHOLE
        assert upstream.request_count == 6
        assert upstream.stale_hits == 3


async def test_upstream_that_worked_for_long_and_died_is_not_asked_again(
    upstream: LoopbackUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session_module, "STALE_SECONDS", 0.1)
    async with session_to(upstream) as session:
        await answer_to(session)
        upstream.script(Script([Pause(0.2), Fin()]))
        with pytest.raises(UpstreamUnreachable):
            await session.open(CHAT)
    assert upstream.request_count == 2


async def test_connection_serves_again_after_enough_when_the_end_follows(upstream: LoopbackUpstream) -> None:
    async with session_to(upstream) as session:
        for _ in range(3):
            upstream.script(loopback.chat_stream("hello"))
            reply = await session.open(CHAT)
            assert await reply.pump(Basin(enough=lambda body: body.endswith(b"[DONE]\n\n"))) is Ending.ENOUGH
            await asyncio.sleep(0.02)
            reply.close()
    assert upstream.connection_count == 1


async def test_connection_is_closed_after_enough_when_more_follows(upstream: LoopbackUpstream) -> None:
    upstream.script(loopback.endless_stream())
    async with session_to(upstream) as session:
        assert (await answer_to(session, enough=lambda body: len(body) > 100_000))[0] is Ending.ENOUGH
        await upstream.wait_until(lambda: not upstream.connections, within=0.5)


@pytest.mark.stopwatch
async def test_full_sink_pauses_the_upstream(upstream: LoopbackUpstream) -> None:
    upstream.script(loopback.endless_stream())
    async with session_to(upstream, stall_s=0.2) as session:
        reply = await session.open(CHAT)
        sink = Basin(room=100_000, enough=lambda body: len(body) > 20_000_000)
        pumping = asyncio.create_task(reply.pump(sink))
        await sink.filled.wait()
        assert await written_at_rest(upstream) < 16_000_000  # and longer than a stall
        assert len(sink.body) < 1_000_000
        sink.empty()
        assert await pumping is Ending.ENOUGH
        reply.close()


async def test_failure_of_the_sink_is_raised_and_closes_the_connection(upstream: LoopbackUpstream) -> None:
    class Broken(Basin):
        def feed(self, data: bytes) -> bool:
            raise ZeroDivisionError

    upstream.script(loopback.endless_stream())
    async with session_to(upstream) as session:
        reply = await session.open(CHAT)
        with pytest.raises(ZeroDivisionError):
            await reply.pump(Broken())
        await upstream.wait_until(lambda: not upstream.connections, within=0.5)


@pytest.mark.stopwatch
@pytest.mark.parametrize("script", [loopback.stall_before_headers(), loopback.stall_after(2)])
async def test_cancelled_call_closes_the_connection_at_once(upstream: LoopbackUpstream, script: Script) -> None:
    upstream.script(script)
    async with session_to(upstream) as session:
        calling = asyncio.create_task(answer_to(session))
        (request,) = await upstream.wait_for_requests(1)
        await asyncio.sleep(0.05)
        began = time.monotonic()
        calling.cancel()
        with pytest.raises(asyncio.CancelledError):
            await calling
        assert await upstream.wait_closed(request) - began < 0.2


# ── in aiohttp's words ───────────────────────────────────────────────────────────────────────────────────────────────


class MockedResponse(aiohttp.ClientResponse):
    """aioresponses 0.7.9 does not know of an argument that aiohttp wants since 3.14."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, stream_writer=Mock(output_size=0), **options)


async def opened(fault: Exception) -> Reply:
    session = Session(Origin.of_base("http://upstream.example/v1", None), PATIENCE)
    try:
        with aioresponses() as mocked:
            mocked.post("http://upstream.example/v1/chat/completions", exception=fault)
            return await session.open(CHAT)
    finally:
        await session.aclose()


@pytest.mark.parametrize(
    ("fault", "ours"),
    [
        (aiohttp.ConnectionTimeoutError("too long"), UpstreamUnreachable),
        (aiohttp.ServerDisconnectedError(), UpstreamUnreachable),
        (aiohttp.ClientOSError(104, "reset"), UpstreamUnreachable),
        (aiohttp.ClientConnectionResetError("closing"), UpstreamUnreachable),
        (aiohttp.SocketTimeoutError("silence"), UpstreamStalled),
        (TimeoutError(), UpstreamStalled),
        (aiohttp.ClientResponseError(Any, (), message="bad"), UpstreamGarbled),  # type: ignore[arg-type]
        (aiohttp.ClientPayloadError("odd"), UpstreamUnreachable),
    ],
)
async def test_each_of_aiohttps_errors_is_one_of_ours(fault: Exception, ours: type[UpstreamError]) -> None:
    with pytest.raises(ours):
        await opened(fault)


async def test_answer_is_read_as_aiohttp_gives_it() -> None:
    session = Session(Origin.of_base("http://upstream.example/v1", None), PATIENCE)
    try:
        with aioresponses() as mocked:
            mocked.post(
                "http://upstream.example/v1/chat/completions",
                body=b'{"choices": []}',
                headers={"X-Request-Id": "r-1"},
                response_class=MockedResponse,
            )
            reply = await session.open(CHAT)
            sink = Basin()
            assert await reply.pump(sink) is Ending.UNPROVED
            assert sink.body == b'{"choices": []}'
            assert reply.head.get(b"x-request-id") == b"r-1"
            reply.close()
    finally:
        await session.aclose()
