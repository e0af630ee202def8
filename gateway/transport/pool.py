"""Connections to one origin, kept for reuse: the HTTP client for relayed calls."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING

from gateway.errors import UpstreamUnreachable
from gateway.transport.call import BodySink, Call, Ending, Head, Reply
from gateway.transport.connection import Connection, StaleConnection
from gateway.transport.dialing import Dialer
from gateway.transport.upload import Upload

if TYPE_CHECKING:
    from gateway.transport.origin import Origin, Timeouts
    from gateway.transport.proxy import Proxy


class ConnectionReply(Reply):
    """An answer on a connection. After `pump` the connection may already serve another call."""

    __slots__ = ("_connection", "head")

    def __init__(self, connection: Connection, head: Head) -> None:
        self._connection: Connection | None = connection
        self.head = head

    async def pump(self, sink: BodySink) -> Ending:
        connection, self._connection = self._connection, None
        if connection is None:
            raise RuntimeError("an answer can be pumped only once, and not after it was closed")
        return await connection.pump(sink)

    def close(self) -> None:
        if self._connection is not None:
            self._connection.abort()
            self._connection = None


class ConnectionPool:
    """Connections to one origin. The most recently used idle one serves first; each new call may open another."""

    def __init__(self, origin: Origin, timeouts: Timeouts, proxy: Proxy | None = None) -> None:
        self._origin = origin
        self._timeouts = timeouts
        self._dialer = Dialer(origin, timeouts, proxy)
        self._proxy = None if origin.is_tls else proxy  # a tunnel is invisible to the requests in it
        self._idle: deque[tuple[Connection, float]] = deque()
        self._open: set[Connection] = set()
        self._sweeper: asyncio.TimerHandle | None = None
        self._is_closed = False
        self._is_empty = asyncio.Event()
        self._is_empty.set()

    async def open(self, call: Call) -> Reply:
        """Send a call and wait for the head of its answer.

        A call with its body in memory is sent once more, on a fresh connection, if the first one was stale. A streamed
        body can be sent only once, so it always gets a fresh connection.

        Raises UpstreamUnreachable, UpstreamStalled, UpstreamGarbled, and whatever the streamed body raises.
        """
        headers_only = call.method == "HEAD"
        if not isinstance(call.body, bytes):
            message = self._origin.request_head(call, call.content_length, self._proxy)
            return await self._send_fresh(message, Upload(call.body, call.content_length), headers_only=headers_only)
        message = self._origin.request_head(call, len(call.body), self._proxy) + call.body
        connection = self._take_idle()
        if connection is not None:
            try:
                return ConnectionReply(connection, await connection.send(message, headers_only=headers_only))
            except StaleConnection:
                pass
        return await self._send_fresh(message, headers_only=headers_only)

    async def _send_fresh(self, message: bytes, upload: Upload | None = None, *, headers_only: bool) -> Reply:
        connection = await self._connect()
        try:
            return ConnectionReply(connection, await connection.send(message, upload, headers_only=headers_only))
        except StaleConnection as error:
            raise UpstreamUnreachable("the upstream closed the connection without an answer") from error

    async def aclose(self) -> None:
        """Close all connections at once, and return when they are gone."""
        self._is_closed = True
        if self._sweeper is not None:
            self._sweeper.cancel()
        for connection in tuple(self._open):
            connection.abort()
        await self._is_empty.wait()

    async def _connect(self) -> Connection:
        if self._is_closed:
            raise UpstreamUnreachable.at(f"no connection to {self._origin.netloc}: the gateway is closing")
        connection = await self._dialer.open(self._new_connection)
        if connection.is_open:  # not in `connection_made`: uvloop reports no end of one that is cancelled after it
            self._open.add(connection)
            self._is_empty.clear()
        if self._is_closed:
            connection.abort()
        return connection

    def _new_connection(self) -> Connection:
        return Connection(self, self._timeouts)

    def _take_idle(self) -> Connection | None:
        while self._idle:
            connection, _ = self._idle.pop()
            if connection.can_serve:
                return connection
            connection.abort()
        return None

    def give_back(self, connection: Connection, *, reusable: bool) -> None:
        """Keep a connection for the next call, or close it."""
        if self._is_closed or not (reusable and connection.is_open):
            connection.abort()
            return
        loop = connection.loop
        self._idle.append((connection, loop.time()))
        if self._sweeper is None:
            self._sweeper = loop.call_later(self._timeouts.idle_s, self._sweep)

    def forget(self, connection: Connection) -> None:
        """Drop a connection that is closed."""
        self._open.discard(connection)
        if not self._open:
            self._is_empty.set()

    def _sweep(self) -> None:
        """Close long idle connections, before the peer closes them in the middle of a call."""
        loop = asyncio.get_running_loop()
        oldest = loop.time() - self._timeouts.idle_s
        while self._idle and self._idle[0][1] <= oldest:
            self._idle.popleft()[0].abort()
        self._sweeper = loop.call_later(self._timeouts.idle_s / 2, self._sweep) if self._idle else None
