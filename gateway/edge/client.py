"""The caller's side of an exchange over HTTP: whole events at once, heartbeats between them, an honest end."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

from aiohttp import HttpVersion11, web
from aiohttp.helpers import rfc822_formatted_time
from aiohttp.http import SERVER_SOFTWARE
from aiohttp_sse import EventSourceResponse
from multidict import CIMultiDict

from gateway.edge.policy_headers import policy_headers
from gateway.exchange import Client
from gateway.upstream.headers import response_fields, response_headers

if TYPE_CHECKING:
    from aiohttp.abc import AbstractStreamWriter

    from gateway.exchange import Talk
    from gateway.upstream.provider import Head

HEARTBEAT = b": heartbeat\n\n"  # a comment: the one thing between events that breaks no client


class EventStream(EventSourceResponse):
    """An `EventSourceResponse` that answers any method, and leaves heartbeats to the pulse: a task for each stream's
    pings would cost more than relaying its events. A peer that vanished is noticed by TCP_USER_TIMEOUT (`server`)."""

    def __init__(self, headers: CIMultiDict[str]) -> None:
        super().__init__(allow_all_methods=True)
        self._send_headers_immediately = False  # `HttpClient` sends them, with the first events where those are at hand
        self.headers.update(headers)

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        return await web.StreamResponse.prepare(self, request)


class HttpClient(Client):
    """One caller on one connection. It writes to the transport itself, in the same call in which the upstream's bytes
    came: aiohttp's writer would want an await, and with it a task, for each chunk."""

    __slots__ = (
        "_chunked",
        "_headers",
        "_heartbeat_s",
        "_is_gone",
        "_request",
        "_silent_since",
        "_stall_s",
        "_talk",
        "_transport",
        "_unsent_head",
        "response",
    )

    def __init__(
        self,
        request: web.Request,
        headers: dict[str, str],
        talk: Talk | None = None,
        *,
        heartbeat_s: float,
        stall_s: float,
    ) -> None:
        self._request = request
        self._talk = talk
        self._headers = headers
        self._heartbeat_s = heartbeat_s
        self._stall_s = stall_s
        self._transport = request.transport
        self._chunked = False
        self._is_gone = False
        self._unsent_head: AbstractStreamWriter | None = None
        self._silent_since = 0.0
        self.response: web.StreamResponse | None = None

    def leave(self) -> None:
        """The caller has gone; the answer goes on without one."""
        self._is_gone = True

    async def start(self, head: Head, *, is_events: bool) -> None:
        headers = self._headers_of(head)
        if is_events:
            self.response = EventStream(headers)
        else:
            self.response = web.StreamResponse(status=head.status, headers=headers)
            if head.content_length is not None:
                self.response.content_length = head.content_length
        try:
            writer = await self.response.prepare(self._request)
        except ConnectionError:
            self._is_gone = True
            return
        loop = asyncio.get_running_loop()
        if is_events:
            self._unsent_head = writer
            loop.call_soon(self._send_head)
        self._chunked = bool(getattr(writer, "chunked", False))
        self._silent_since = loop.time()

    def _send_head(self) -> None:
        """Status and headers go alone when no event is there to go with them."""
        writer, self._unsent_head = self._unsent_head, None
        if writer is not None and not self._is_gone:
            with suppress(ConnectionError):
                writer.send_headers()

    @property
    def is_full(self) -> bool:
        protocol = self._request.protocol
        # aiohttp leaves a writer paused whose connection was lost: one who is gone is never full.
        return protocol.writing_paused and not self._is_gone and protocol.transport is not None

    def write(self, block: bytes) -> None:
        transport = self._transport
        if self._is_gone or transport is None or transport.is_closing():
            return
        self._silent_since = 0.0
        if self._unsent_head is not None:
            self._write_with_head(self._unsent_head, block)
        else:
            transport.write(b"%x\r\n%b\r\n" % (len(block), block) if self._chunked else block)

    def _write_with_head(self, writer: AbstractStreamWriter, block: bytes) -> None:
        """Head and first events in one write: on loopback a write costs as much as relaying five events. aiohttp's
        writer joins them; without a drain it never suspends, so that one step runs it to its end."""
        self._unsent_head = None
        step = writer.write(block, drain=False)  # type: ignore[call-arg] # of StreamWriter; its base does not name it
        with suppress(StopIteration, ConnectionError):
            step.send(None)

    def beat(self, now: float) -> None:
        if (
            self._silent_since == 0.0
        ):  # something was written since the last beat; asking the clock for each chunk is dear
            self._silent_since = now
        elif now - self._silent_since >= self._heartbeat_s:
            self.write(HEARTBEAT)

    def is_silent(self, now: float) -> bool:
        """Whether nothing was written for so long that the next beat is a heartbeat."""
        return 0.0 < self._silent_since <= now - self._heartbeat_s

    async def drained(self) -> None:
        """Wait for a slow reader; one who reads nothing for too long is taken for gone."""
        writer = self._request._payload_writer
        try:
            async with asyncio.timeout(self._stall_s):
                await writer.drain()
        except TimeoutError:
            self.cut()
        except ConnectionError:
            self._is_gone = True

    async def end(self, last: bytes) -> None:
        if self._is_gone or self.response is None:
            return
        try:
            await self.response.write_eof(last)  # in one write: a waiting client sees the end with the last event
        except ConnectionError:
            self._is_gone = True

    def cut(self) -> None:
        self._is_gone = True
        if self._transport is not None:
            self._transport.abort()

    def answered(self) -> web.StreamResponse:
        """The response for aiohttp to finish, which does nothing more when all has been sent."""
        assert self.response is not None
        return self.response

    async def send(self, status: int, head: Head, body: bytes) -> None:
        self.response = self._sent_at_once(status, head, body) or web.Response(
            status=status, body=body, headers=self._headers_of(head)
        )

    def _sent_at_once(self, status: int, head: Head, body: bytes) -> web.StreamResponse | None:
        """Head and body in one write, put together from the upstream's own bytes: aiohttp decodes each header and
        encodes it again, which costs a twentieth of a request. None: something else has a say in this answer."""
        request, transport = self._request, self._transport
        if (
            transport is None
            or transport.is_closing()
            or request.version != HttpVersion11
            or request.method == "HEAD"
            or not request.keep_alive
            or request.app.on_response_prepare
            or status in (204, 304)
            or head.get(b"content-type") is None
        ):
            return None
        response = web.StreamResponse(status=status)
        ours = {**self._headers, **policy_headers(self._talk)}
        lines = [b"%b: %b" % field for field in response_fields(head)]
        lines += [f"{name}: {value}".encode() for name, value in ours.items()]
        lines.append(
            b"Content-Length: %d\r\nDate: %b\r\nServer: %b"
            % (len(body), rfc822_formatted_time().encode(), SERVER_SOFTWARE.encode())
        )
        message = b"\r\n".join([b"HTTP/1.1 %d %b" % (status, (response.reason or "").encode()), *lines, b""])
        if message.count(b"\n") != len(lines) + 3 or message.count(b"\r") != len(lines) + 3:
            return None  # a line too many, in somebody's header
        message += b"\r\n" + body
        request._payload_writer.output_size += len(message)
        transport.write(message)
        response._keep_alive = response._eof_sent = True  # nothing is left for aiohttp to do
        return response

    def _headers_of(self, head: Head) -> CIMultiDict[str]:
        headers = CIMultiDict(response_headers(head))
        headers.update(self._headers)
        if of_policy := policy_headers(self._talk):
            headers.update(of_policy)
        return headers
