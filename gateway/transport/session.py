"""The same interface on `aiohttp.ClientSession`: for bodies that are streamed up, and for ways through a proxy."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import aiohttp
import yarl
from aiohttp.http_exceptions import ContentLengthError, TransferEncodingError
from multidict import CIMultiDict

from gateway.errors import UpstreamGarbled, UpstreamStalled, UpstreamUnreachable
from gateway.transport.call import BodySink, Call, Ending, Head, Reply
from gateway.transport.connection import STALE_SECONDS, StaleConnection, tls_context

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from types import SimpleNamespace

    from gateway.transport.origin import Origin, Timeouts

MAX_LINE_BYTES = 64 * 1024
MAX_HEADERS = 1024


class SessionReply(Reply):
    """An answer on a `ClientResponse`. One that was read to its end has given its connection back already; closing it
    then changes nothing. After ENOUGH the connection is kept if the end comes before `close`."""

    __slots__ = ("_has_body", "_response", "_stall_s", "head")

    def __init__(self, response: aiohttp.ClientResponse, stall_s: float) -> None:
        self._response = response
        self._stall_s = stall_s
        self._has_body = response.method != "HEAD" and response.status not in (204, 304)
        self.head = Head(response.status, tuple((name.lower(), value) for name, value in response.raw_headers))

    async def pump(self, sink: BodySink) -> Ending:
        try:
            with self._hearing_of_the_end():
                ending = await self._pump(sink)
        except TimeoutError:
            ending = Ending.STALLED
        except aiohttp.ClientError as error:
            ending = Ending.GARBLED if _is_garbled(error) else Ending.CUT
        except BaseException:
            self.close()
            raise
        if ending is not Ending.ENOUGH:
            self.close()
        return ending

    async def _pump(self, sink: BodySink) -> Ending:
        content = self._response.content
        while data := await self._next(content):
            if sink.feed(data):
                return Ending.ENOUGH
            while sink.is_full:
                await sink.drained()
                if sink.is_full:
                    await asyncio.sleep(0)  # a sink that does not wait must not stop the world
        return Ending.WHOLE if self._is_framed else Ending.UNPROVED

    @contextmanager
    def _hearing_of_the_end(self) -> Iterator[None]:
        """aiohttp does not tell a body's reader of broken framing: it closes the connection and lets them wait."""
        connection = self._response.connection
        protocol = connection.protocol if connection is not None else None
        if protocol is None:  # all was read, and the connection given back
            yield
            return
        closed = protocol.closed
        if closed is None:  # before this
            self._tell_reader()
            yield
            return
        closed.add_done_callback(self._tell_reader)
        try:
            yield
        finally:
            closed.remove_done_callback(self._tell_reader)

    def _tell_reader(self, closed: asyncio.Future[None] | None = None) -> None:
        if closed is not None:
            closed.exception()  # retrieved, for it is not ours to log
        content = self._response.content
        if not content.is_eof() and content.exception() is None:
            content.set_exception(aiohttp.ClientPayloadError("the framing is broken"))

    async def _next(self, content: aiohttp.StreamReader) -> bytes:
        async with asyncio.timeout(self._stall_s):
            return await content.readany()

    @property
    def _is_framed(self) -> bool:
        head = self.head
        return (
            not self._has_body
            or head.get(b"content-length") is not None
            or b"chunked" in (head.get(b"transfer-encoding") or b"").lower()
        )

    def close(self) -> None:
        self._response.close()


@dataclass(slots=True)
class _Connection:
    """What aiohttp tells of the connection that a request takes."""

    is_reused: bool = False


@dataclass(slots=True)
class _Sending:
    """A request on its way: how long it may still take, and what is known of it when it fails."""

    patience: asyncio.Timeout
    began: float
    is_over: bool = False
    failure: Exception | None = None  # of the body's source

    def allow(self, seconds: float | None) -> None:
        """Silence from here on; None: it is not the upstream that we wait for."""
        if not (self.is_over or self.patience.expired()):
            self.patience.reschedule(None if seconds is None else asyncio.get_running_loop().time() + seconds)


@dataclass(slots=True)
class _Upload:
    """The parts of a body. The upstream has `taking_s` to take each, and `answer_s` to answer when it has all.

    No generator: one that is not read to its end would be closed by a task, some time later.
    """

    body: AsyncIterator[bytes]
    sending: _Sending
    taking_s: float
    answer_s: float

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        self.sending.allow(None)
        try:
            part = await anext(self.body)
        except StopAsyncIteration:
            self.sending.allow(self.answer_s)
            raise
        except Exception as error:  # the caller's, which aiohttp would take for its own: told apart by `failure`
            self.sending.failure = error
            raise
        self.sending.allow(self.taking_s)
        return part


class Session:
    """Client sessions towards one origin: one that keeps connections, and one whose connections are all fresh, for what
    can be sent only once."""

    def __init__(self, origin: Origin, patience: Timeouts, proxy: str | None = None) -> None:
        self._origin = origin
        self._patience = patience
        self._proxy = proxy
        tls = tls_context() if origin.is_tls else True
        self._keeping = self._new_session(aiohttp.TCPConnector(limit=0, ssl=tls, keepalive_timeout=patience.idle_s))
        self._fresh = self._new_session(aiohttp.TCPConnector(limit=0, ssl=tls, force_close=True))

    def _new_session(self, connector: aiohttp.TCPConnector) -> aiohttp.ClientSession:
        trace = aiohttp.TraceConfig()
        trace.on_connection_reuseconn.append(_note_reuse)
        return aiohttp.ClientSession(
            auto_decompress=False,
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            max_field_size=MAX_LINE_BYTES,
            max_headers=MAX_HEADERS,
            max_line_size=MAX_LINE_BYTES,
            skip_auto_headers=("User-Agent", "Content-Type", "Accept"),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=self._patience.connect_s),
            trace_configs=[trace],
        )

    async def open(self, call: Call) -> Reply:
        """Send a call; one with its body at hand once more if it met a stale connection.

        Raises UpstreamUnreachable, UpstreamStalled, UpstreamGarbled, before the head.
        """
        url, headers = self._origin.url(call.path), self._headers(call)
        if not isinstance(call.body, bytes):
            return await self._send(self._fresh, call, url, headers)
        try:
            return await self._send(self._keeping, call, url, headers)
        except StaleConnection:
            return await self._send(self._fresh, call, url, headers)

    async def _send(self, session: aiohttp.ClientSession, call: Call, url: str, headers: CIMultiDict[str]) -> Reply:
        patience = self._patience
        now = asyncio.get_running_loop().time()
        sending = _Sending(asyncio.timeout(patience.connect_s + patience.head_s), now)
        connection = _Connection()
        if isinstance(call.body, bytes):
            body: bytes | AsyncIterator[bytes] | None = call.body or None
        else:
            body = _Upload(aiter(call.body), sending, patience.stall_s, patience.head_s)
        try:
            async with sending.patience:
                response = await session.request(
                    call.method,
                    yarl.URL(url, encoded=True),
                    data=body,
                    headers=headers,
                    allow_redirects=False,
                    proxy=self._proxy,
                    trace_request_ctx=connection,
                )
        except (aiohttp.ClientError, TimeoutError) as error:
            if sending.failure is not None:
                raise sending.failure from error
            age = asyncio.get_running_loop().time() - sending.began
            if connection.is_reused and age < STALE_SECONDS and _is_unanswered(error):
                raise StaleConnection from error
            raise self._translated(error) from error
        finally:
            sending.is_over = True
        return SessionReply(response, patience.stall_s)

    def _headers(self, call: Call) -> CIMultiDict[str]:
        """As aiohttp wants them. It cannot send a value that is not UTF-8: such a one stays behind."""
        headers: CIMultiDict[str] = CIMultiDict()
        for name, value in self._origin.headers(call):
            with suppress(UnicodeDecodeError):
                headers.add(name.decode("ascii"), value.decode())
        if call.content_length is not None and not isinstance(call.body, bytes):
            headers["Content-Length"] = str(call.content_length)
        return headers

    def _translated(self, error: aiohttp.ClientError | TimeoutError) -> Exception:
        netloc = self._origin.netloc
        match error:
            case aiohttp.ClientConnectorError() | aiohttp.ConnectionTimeoutError():
                return UpstreamUnreachable.at(f"no connection to {netloc}: {error}")
            case TimeoutError():
                return UpstreamStalled(f"the upstream sent no answer within {self._patience.head_s:g} s")
            case aiohttp.ClientHttpProxyError():
                return UpstreamUnreachable.at(f"no connection to {netloc}: the proxy answered {error.status}")
            case aiohttp.ClientResponseError():
                return UpstreamGarbled(f"the upstream's answer is not HTTP: {error.message}")
        return UpstreamUnreachable.at(f"the connection to {netloc} broke: {error}")

    async def aclose(self) -> None:
        await self._keeping.close()
        await self._fresh.close()


async def _note_reuse(session: aiohttp.ClientSession, context: SimpleNamespace, params: object) -> None:
    context.trace_request_ctx.is_reused = True


def _is_unanswered(error: Exception) -> bool:
    """The connection ended without a byte of an answer, as far as aiohttp tells."""
    if isinstance(error, aiohttp.ServerDisconnectedError):
        return isinstance(error.message, str)
    return isinstance(error, aiohttp.ClientOSError)


def _is_garbled(error: aiohttp.ClientError) -> bool:
    """The framing is broken, and not merely cut: then the cause is one of these two."""
    if isinstance(error, aiohttp.ClientPayloadError):
        return not isinstance(error.__cause__, ContentLengthError | TransferEncodingError)
    return not isinstance(error, aiohttp.ClientConnectionError)
