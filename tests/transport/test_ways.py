"""Ways to an upstream: TLS, IPv6, names with several addresses, and proxies."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import time
from base64 import b64encode
from typing import TYPE_CHECKING, Any

import pytest

from gateway.errors import UpstreamStalled, UpstreamUnreachable
from gateway.providers.openai import OpenAICompatible
from gateway.transport.call import Call, Ending
from gateway.transport.origin import Origin, Timeouts
from tests import loopback
from tests.fakes import Basin
from tests.loopback import LoopbackUpstream, Script, Stall
from tests.transport.backpressure import written_at_rest
from tests.transport.certificates import Authority

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator

TIMEOUTS = Timeouts(connect_s=2.0, head_s=2.0, stall_s=1.0, idle_s=30.0)
CHAT = Call("POST", "/chat/completions", ((b"Content-Type", b"application/json"),), b'{"stream":true}')


@pytest.fixture
def authority(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> Authority:
    """Trusted, as SSL_CERT_FILE makes it."""
    authority = Authority(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.path))
    return authority


@contextlib.asynccontextmanager
async def provider_of(
    url: str, proxy: str | None = None, timeouts: Timeouts = TIMEOUTS
) -> AsyncIterator[OpenAICompatible]:
    provider = OpenAICompatible(Origin.of_base(url, "Bearer sk-ours"), timeouts, proxy)
    try:
        yield provider
    finally:
        await provider.aclose()


async def answer_of(provider: OpenAICompatible, call: Call = CHAT) -> tuple[Ending, bytes]:
    reply = await provider.open(call)
    sink = Basin()
    try:
        return await reply.pump(sink), bytes(sink.body)
    finally:
        reply.close()


# ── TLS ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_tls_upstream_answers_and_keeps_its_connection(authority: Authority) -> None:
    script = loopback.chat_stream("Grüße 🙂")
    async with LoopbackUpstream(tls=authority.server_context()) as upstream, provider_of(upstream.url) as provider:
        for _ in range(3):
            upstream.script(script)
            assert await answer_of(provider) == (Ending.WHOLE, script.payload)
        assert upstream.connection_count == 1


@pytest.mark.parametrize("body", [b"{}", "streamed"])
async def test_certificate_of_an_unknown_authority_is_refused(tmp_path: Any, body: Any) -> None:
    context = Authority(tmp_path).server_context()
    call = CHAT if body == b"{}" else Call("POST", "/files", (), parts(b"x"))
    async with LoopbackUpstream(tls=context) as upstream, provider_of(upstream.url) as provider:
        with pytest.raises(UpstreamUnreachable, match=r"(?i)certificate"):
            await provider.open(call)
        assert upstream.request_count == 0


async def test_certificate_of_another_host_is_refused(authority: Authority) -> None:
    context = authority.server_context(address="127.0.0.9", name="other.example")
    async with LoopbackUpstream(tls=context) as upstream, provider_of(upstream.url) as provider:
        with pytest.raises(UpstreamUnreachable, match=r"(?i)certificate"):
            await provider.open(CHAT)


async def test_server_without_tls_is_unreachable_over_tls(upstream: LoopbackUpstream) -> None:
    async with provider_of(upstream.url.replace("http:", "https:")) as provider:
        with pytest.raises(UpstreamUnreachable, match="no connection"):
            await provider.open(CHAT)


async def test_tls_handshake_that_never_comes_is_given_up() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"https://127.0.0.1:{silent.getsockname()[1]}/v1"
        async with provider_of(url, timeouts=Timeouts(0.2, 1, 1, 1)) as provider:
            with pytest.raises(UpstreamUnreachable, match=r"within 0\.2 s"):
                await provider.open(CHAT)
            await asyncio.sleep(0)


@pytest.mark.parametrize("how", ["fin", "rst"])
async def test_tls_stream_that_is_cut_is_cut(authority: Authority, how: Any) -> None:
    script = loopback.cut_after(3, how)
    async with LoopbackUpstream(tls=authority.server_context()) as upstream, provider_of(upstream.url) as provider:
        upstream.script(script)
        assert await answer_of(provider) == (Ending.CUT, script.payload)


async def test_tls_backpressure_reaches_the_upstream(authority: Authority) -> None:
    async with LoopbackUpstream(tls=authority.server_context()) as upstream, provider_of(upstream.url) as provider:
        upstream.script(loopback.endless_stream())
        reply = await provider.open(CHAT)
        sink = Basin(room=100_000, enough=lambda body: len(body) > 20_000_000)
        pumping = asyncio.create_task(reply.pump(sink))
        await sink.filled.wait()
        assert await written_at_rest(upstream) < 16_000_000
        assert len(sink.body) < 1_000_000
        sink.empty()
        assert await pumping is Ending.ENOUGH


@pytest.mark.stopwatch
async def test_tls_call_that_is_cancelled_closes_at_once(authority: Authority) -> None:
    async with LoopbackUpstream(tls=authority.server_context()) as upstream, provider_of(upstream.url) as provider:
        upstream.script(loopback.stall_after(3))
        calling = asyncio.create_task(answer_of(provider))
        (request,) = await upstream.wait_for_requests(1)
        await asyncio.sleep(0.05)
        began = time.monotonic()
        calling.cancel()
        with pytest.raises(asyncio.CancelledError):
            await calling
        assert await upstream.wait_closed(request) - began < 0.2


# ── addresses ────────────────────────────────────────────────────────────────────────────────────────────────────────


async def say_ok(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(asyncio.IncompleteReadError):
        head = await reader.readuntil(b"\r\n\r\n")
        host = next(line for line in head.split(b"\r\n") if line.lower().startswith(b"host:"))
        writer.write(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: %d\r\n\r\n%b" % (len(host), host))
    writer.close()


async def test_ipv6_upstream_and_its_host_header() -> None:
    try:
        server = await asyncio.start_server(say_ok, "::1", 0)
    except OSError:
        pytest.skip("this machine has no IPv6")
    port = server.sockets[0].getsockname()[1]
    async with server, provider_of(f"http://[::1]:{port}/v1") as provider:
        assert await answer_of(provider) == (Ending.WHOLE, b"Host: [::1]:%d" % port)


async def test_name_is_looked_up(upstream: LoopbackUpstream) -> None:
    async with provider_of(f"http://localhost:{upstream.port}/v1") as provider:
        assert (await answer_of(provider))[0] is Ending.WHOLE
    assert upstream.requests[0].header("host") == f"localhost:{upstream.port}"


@pytest.mark.stopwatch
async def test_next_address_of_a_name_is_tried_beside_a_silent_one(
    upstream: LoopbackUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a host with an IPv6 address that leads nowhere."""
    with contextlib.ExitStack() as stack:
        silent = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(4):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(silent.getsockname())
        addresses = [silent.getsockname(), ("127.0.0.1", upstream.port)]
        found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", address) for address in addresses]

        loop = asyncio.get_running_loop()
        really = loop.getaddrinfo

        async def look_up(host: Any, port: Any, **options: Any) -> object:
            return found if host == "two.example" else await really(host, port, **options)

        monkeypatch.setattr(loop, "getaddrinfo", look_up)
        async with provider_of("http://two.example/v1", timeouts=Timeouts(5, 5, 5, 5)) as provider:
            began = time.monotonic()
            assert (await answer_of(provider))[0] is Ending.WHOLE
            assert time.monotonic() - began < 2.0


# ── proxies ──────────────────────────────────────────────────────────────────────────────────────────────────────────


AGREEMENT = b"HTTP/1.1 200 Connection established\r\nVia: 1.1 proxy\r\n\r\n"


class Proxy:
    """A small HTTP proxy: tunnels after CONNECT, passes absolute-form requests on to the upstream."""

    def __init__(
        self,
        *,
        refusal: bytes | None = None,
        agreement: tuple[bytes, ...] = (AGREEMENT,),
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._agreement = agreement
        self._tls = tls
        self.requests: list[list[bytes]] = []
        self.port = 0
        self._refusal = refusal
        self._server: asyncio.Server | None = None
        self._running: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        return f"{'https' if self._tls else 'http'}://user:secret%21@127.0.0.1:{self.port}"

    async def __aenter__(self) -> Proxy:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0, ssl=self._tls)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._pass(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.transport.abort()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        self.requests.append(head.split(b"\r\n"))
        method, target, _ = head.split(b"\r\n")[0].split(b" ")
        if self._refusal is not None:
            writer.write(self._refusal)
            await reader.read()
            return
        if method == b"CONNECT":
            host, port = target.decode().rsplit(":", 1)
        else:
            host, port = target.decode().split("/")[2].rsplit(":", 1)
        far_reader, far_writer = await asyncio.open_connection(host, int(port))
        if method == b"CONNECT":
            for piece in self._agreement:
                writer.write(piece)
                await asyncio.sleep(0.01)
        else:
            far_writer.write(head)
        async with asyncio.TaskGroup() as both:
            both.create_task(shovel(reader, far_writer))
            both.create_task(shovel(far_reader, writer))


async def shovel(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """One direction, until it ends; then the other has nobody to talk to."""
    try:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65_536):
                writer.write(data)
                await writer.drain()
    finally:
        writer.transport.abort()


async def parts(*pieces: bytes) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece


async def test_tls_upstream_is_reached_through_a_tunnel_that_sees_nothing(authority: Authority) -> None:
    script = loopback.chat_stream("hello")
    async with (
        LoopbackUpstream(tls=authority.server_context()) as upstream,
        Proxy() as proxy,
        provider_of(upstream.url, proxy.url) as provider,
    ):
        for _ in range(3):
            upstream.script(script)
            assert await answer_of(provider) == (Ending.WHOLE, script.payload)
        assert upstream.requests[0].header("authorization") == "Bearer sk-ours"
        assert upstream.requests[0].header("proxy-authorization") is None
        (tunnel,) = proxy.requests  # one for all three
        assert tunnel[0] == b"CONNECT 127.0.0.1:%d HTTP/1.1" % upstream.port
        assert b"Proxy-Authorization: Basic " + b64encode(b"user:secret!") in tunnel
        assert not any(b"sk-ours" in line for line in tunnel)


@pytest.mark.parametrize("body", [b"{}", "streamed"])
async def test_plain_upstream_is_reached_by_an_absolute_target(upstream: LoopbackUpstream, body: Any) -> None:
    call = CHAT if body == b"{}" else Call("POST", "/chat/completions", (), parts(b"one", b"two"))
    async with Proxy() as proxy, provider_of(upstream.url, proxy.url) as provider:
        assert (await answer_of(provider, call))[0] is Ending.WHOLE
        assert proxy.requests[0][0] == f"POST {upstream.url}/chat/completions HTTP/1.1".encode()
        assert b"Proxy-Authorization: Basic " + b64encode(b"user:secret!") in proxy.requests[0]
        assert f"Host: 127.0.0.1:{upstream.port}".encode() in proxy.requests[0]


async def test_tunnel_goes_through_a_proxy_that_speaks_tls(authority: Authority) -> None:
    async with (
        LoopbackUpstream(tls=authority.server_context()) as upstream,
        Proxy(tls=authority.server_context()) as proxy,
        provider_of(upstream.url, proxy.url) as provider,
    ):
        for _ in range(2):
            assert (await answer_of(provider))[0] is Ending.WHOLE
        assert len(proxy.requests) == 1


async def test_proxys_agreement_may_come_in_pieces(authority: Authority) -> None:
    pieces = tuple(AGREEMENT[at : at + 7] for at in range(0, len(AGREEMENT), 7))
    async with (
        LoopbackUpstream(tls=authority.server_context()) as upstream,
        Proxy(agreement=pieces) as proxy,
        provider_of(upstream.url, proxy.url) as provider,
    ):
        assert (await answer_of(provider))[0] is Ending.WHOLE


@pytest.mark.parametrize(
    ("answer", "fault"),
    [
        (AGREEMENT + b"HTTP/1.1 200 OK\r\n\r\n", "into the tunnel"),
        (b"SSH-2.0-OpenSSH\r\n\r\n", "not HTTP"),
        (b"HTTP/1.1 200 OK\r\nx: " + b"m" * 70_000, "too large"),
    ],
)
async def test_odd_answer_to_connect_is_refused(authority: Authority, answer: bytes, fault: str) -> None:
    async with Proxy(refusal=answer) as proxy, provider_of("https://127.0.0.1:9/v1", proxy.url) as provider:
        with pytest.raises(UpstreamUnreachable, match=fault):
            await provider.open(CHAT)


async def test_certificate_inside_of_a_tunnel_is_checked(authority: Authority) -> None:
    context = authority.server_context(address="127.0.0.9", name="other.example")
    async with (
        LoopbackUpstream(tls=context) as upstream,
        Proxy() as proxy,
        provider_of(upstream.url, proxy.url) as provider,
    ):
        with pytest.raises(UpstreamUnreachable, match=r"(?i)certificate"):
            await answer_of(provider)


async def test_upload_goes_through_the_tunnel(authority: Authority) -> None:
    async with (
        LoopbackUpstream(tls=authority.server_context()) as upstream,
        Proxy() as proxy,
        provider_of(upstream.url, proxy.url) as provider,
    ):
        ending, body = await answer_of(provider, Call("POST", "/echo/x", (), parts(b"one", b"two")))
        assert (ending, json.loads(body)["size"]) == (Ending.WHOLE, 6)


@pytest.mark.parametrize("status", ["407 Proxy Authentication Required", "502 Bad Gateway", "403 Forbidden"])
async def test_refusal_of_the_proxy_names_its_status(authority: Authority, status: str) -> None:
    refusal = f"HTTP/1.1 {status}\r\ncontent-length: 4\r\n\r\nsad\n".encode()
    async with Proxy(refusal=refusal) as proxy, provider_of("https://127.0.0.1:9/v1", proxy.url) as provider:
        with pytest.raises(UpstreamUnreachable, match=f"the proxy answered {status[:3]}") as caught:
            await provider.open(CHAT)
        assert "secret" not in caught.value.message


async def test_proxy_that_is_not_there_is_unreachable(authority: Authority) -> None:
    async with provider_of("https://127.0.0.1:9/v1", "http://user:secret@127.0.0.1:9") as provider:
        with pytest.raises(UpstreamUnreachable) as caught:
            await provider.open(CHAT)
        assert "secret" not in caught.value.message


async def test_proxy_that_never_answers_is_given_up(authority: Authority) -> None:
    timeouts = Timeouts(0.2, 0.2, 0.2, 1)
    async with Proxy(refusal=b"") as proxy, provider_of("https://127.0.0.1:9/v1", proxy.url, timeouts) as provider:
        with pytest.raises(UpstreamStalled):
            await provider.open(CHAT)


@pytest.mark.stopwatch
async def test_call_through_a_tunnel_that_is_cancelled_closes_at_once(authority: Authority) -> None:
    async with (
        LoopbackUpstream(tls=authority.server_context()) as upstream,
        Proxy() as proxy,
        provider_of(upstream.url, proxy.url) as provider,
    ):
        upstream.script(Script([*loopback.cut_after(2).steps[:-1], Stall()]))
        calling = asyncio.create_task(answer_of(provider))
        (request,) = await upstream.wait_for_requests(1)
        await asyncio.sleep(0.05)
        began = time.monotonic()
        calling.cancel()
        with pytest.raises(asyncio.CancelledError):
            await calling
        assert await upstream.wait_closed(request) - began < 0.2
