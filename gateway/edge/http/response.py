"""The caller's side of an exchange over HTTP: sends whole events, heartbeats between them, and the end."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from aiohttp import web
from aiohttp_sse import EventSourceResponse
from multidict import CIMultiDict

from gateway.codec.sse import heartbeat_after
from gateway.edge.http.aiohttp_private import mark_as_sent
from gateway.edge.http.policy_headers import policy_headers
from gateway.edge.http.response_head import CHUNKED, SANDBOX, harmless, head_of, is_ours_alone
from gateway.exchange.client import Client
from gateway.transport.headers import as_text, response_fields

if TYPE_CHECKING:
    from aiohttp.abc import AbstractStreamWriter

    from gateway.exchange.context import RequestContext
    from gateway.transport.call import Head

_OF_STREAMS = [
    (name.lower().encode(), f"{name}: {value}".encode()) for name, value in EventSourceResponse().headers.items()
]
_FIRST_HEARTBEAT = heartbeat_after(b"")


class EventStream(EventSourceResponse):
    """An `EventSourceResponse` for any method, whose heartbeats the ticker sends: a task for each stream's pings would
    cost more than relaying its events. TCP_USER_TIMEOUT (set in `process.server`) detects a peer that has vanished."""

    def __init__(self, headers: CIMultiDict[str]) -> None:
        super().__init__(allow_all_methods=True)
        self.headers.update(headers)
        self.headers.popall("Connection", None)  # EventSourceResponse sets keep-alive even if the connection closes

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        return await web.StreamResponse.prepare(self, request)


class HttpClient(Client):
    """One caller on one connection. It writes to the transport itself, in the call that brings the upstream's bytes:
    aiohttp's writer would need an await, and with it a task, for each chunk. It also writes status and headers, where
    aiohttp adds nothing to them. They go out with the first event, because a write costs as much as five events on
    loopback."""

    __slots__ = (
        "_chunked",
        "_context",
        "_headers",
        "_heartbeat",
        "_heartbeat_s",
        "_is_direct",
        "_is_gone",
        "_request",
        "_silent_since",
        "_stall_s",
        "_transport",
        "_unsent",
        "_written",
        "response",
    )

    def __init__(
        self,
        request: web.Request,
        headers: dict[str, str],
        context: RequestContext | None = None,
        *,
        heartbeat_s: float,
        stall_s: float,
    ) -> None:
        self._request = request
        self._context = context
        self._headers = headers
        self._heartbeat_s = heartbeat_s
        self._stall_s = stall_s
        self._transport = request.transport
        self._chunked = False
        self._is_direct = False  # the whole answer is written here, and aiohttp writes nothing
        self._is_gone = False
        self._unsent = b""  # the head, until the first bytes of the body go out with it
        self._silent_since = 0.0
        self._written: bytes | None = None  # the last block since the last tick
        self._heartbeat: bytes | None = _FIRST_HEARTBEAT  # the heartbeat that may follow that block
        self.response: web.StreamResponse | None = None

    def leave(self) -> None:
        """Drop further writes: the caller has left, and the answer goes on."""
        self._is_gone = True

    @property
    def starts_at_once(self) -> bool:
        return is_ours_alone(self._request, 200)

    def start_now(self, head: Head) -> bool:
        return self._start_directly(head, None, is_events=True)

    async def start(self, head: Head, *, is_events: bool) -> None:
        length = None if is_events else head.content_length
        if self._start_directly(head, length, is_events=is_events):
            asyncio.get_running_loop().call_soon(self.send_head)  # alone, if no bytes of the body come first
        else:
            await self._start_by_aiohttp(head, length, is_events=is_events)

    def _start_directly(self, head: Head, length: int | None, *, is_events: bool) -> bool:
        """Make the head here. Returns False if aiohttp has to make it."""
        missing = [line for name, line in _OF_STREAMS if head.get(name) is None] if is_events else ()
        framing = CHUNKED if length is None else b"Content-Length: %d" % length
        message = self._head(head.status, head, framing, *missing)
        self._silent_since = asyncio.get_running_loop().time()
        if message is None:
            return False
        self.response = _already_sent(head.status)
        self._is_direct = True
        self._chunked = length is None
        self._unsent = message
        return True

    async def _start_by_aiohttp(self, head: Head, length: int | None, *, is_events: bool) -> None:
        headers = self._headers_of(head)
        self.response = EventStream(headers) if is_events else web.StreamResponse(status=head.status, headers=headers)
        if length is not None:
            self.response.content_length = length
        try:
            writer = await self.response.prepare(self._request)
        except ConnectionError:
            self._is_gone = True
            return
        self._chunked = bool(getattr(writer, "chunked", False))

    def send_head(self) -> None:
        if self._unsent:
            self._put(b"")

    @property
    def is_full(self) -> bool:
        protocol = self._request.protocol
        # aiohttp leaves a writer paused when its connection is lost: a caller who has left is never full.
        return protocol.writing_paused and not self._is_gone and protocol.transport is not None

    def write(self, block: bytes) -> None:
        self._written = block  # for `tick`: reading the clock for each chunk is expensive
        self._put(b"%x\r\n%b\r\n" % (len(block), block) if self._chunked else block)

    def _put(self, data: bytes) -> None:
        transport = self._transport
        if self._is_gone or transport is None or transport.is_closing():
            return
        if self._unsent:
            writer = self._request.writer
            if writer.output_size:  # an error response has gone out instead
                self._is_gone = True
                return
            data = self._unsent + data
            self._unsent = b""
            writer.output_size += len(data)  # other code reads here that an answer has begun
        transport.write(data)

    def tick(self, now: float) -> bool:
        if self._written is not None:
            self._heartbeat = heartbeat_after(self._written)
            self._written = None
            self._silent_since = now
        elif self._heartbeat is not None and self.is_silent(now):
            self.write(self._heartbeat)
            return True
        return False

    def is_silent(self, now: float) -> bool:
        """Whether nothing was written for so long that the next tick sends a heartbeat."""
        return self._written is None and 0.0 < self._silent_since <= now - self._heartbeat_s

    async def drained(self) -> None:
        """Wait for a slow reader; cut the connection of one that reads nothing for `stall_s`."""
        writer = self._request.writer
        try:
            async with asyncio.timeout(self._stall_s):
                await writer.drain()
        except TimeoutError:
            self.cut()
        except ConnectionError:
            self._is_gone = True

    async def end(self, last: bytes) -> None:
        """Send the last bytes and the end in one write, so that the client sees both at once."""
        if self._is_gone or self.response is None:
            return
        if self._is_direct:
            if self._chunked:
                last = b"%x\r\n%b\r\n0\r\n\r\n" % (len(last), last) if last else b"0\r\n\r\n"
            self._put(last)
            await self._drain_if_full()
            return
        try:
            await self.response.write_eof(last)
        except ConnectionError:
            self._is_gone = True

    async def _drain_if_full(self) -> None:
        """Back-pressure: drain before the next response on this connection."""
        if self.is_full:
            await self.drained()

    def cut(self) -> None:
        self._is_gone = True
        if self._transport is not None:
            self._transport.abort()

    def answered(self) -> web.StreamResponse:
        """The response for aiohttp to finish; aiohttp does nothing if all has been sent."""
        assert self.response is not None
        return self.response

    async def send(self, status: int, head: Head, body: bytes) -> None:
        message = self._head(status, head, b"Content-Length: %d" % len(body))
        if message is None:
            self.response = web.Response(status=status, body=body, headers=self._headers_of(head))
            return
        self.response = _already_sent(status)
        self._unsent = message
        self._put(body)
        await self._drain_if_full()

    def _head(self, status: int, head: Head, *lines: bytes) -> bytes | None:
        """Status and headers as bytes, with these lines; None: aiohttp has to make them."""
        if not is_ours_alone(self._request, status) or head.get(b"content-type") is None:
            return None
        ours = {**self._headers, **policy_headers(self._context)}
        return head_of(status, harmless(head, response_fields(head)), ours, *lines)

    def _headers_of(self, head: Head) -> CIMultiDict[str]:
        headers = CIMultiDict(as_text(harmless(head, response_fields(head))))
        headers.update(SANDBOX)
        headers.update(self._headers)
        if of_policy := policy_headers(self._context):
            headers.update(of_policy)
        return headers


def _already_sent(status: int) -> web.StreamResponse:
    """A response for aiohttp in place of one that it has not written."""
    response = web.StreamResponse(status=status)
    mark_as_sent(response)
    return response
