"""One connection of the scripted upstream: parses requests, plays scripts, honours backpressure, notes who closed."""

from __future__ import annotations

import asyncio
import hashlib
import socket
import struct
import time
from collections import deque
from typing import TYPE_CHECKING, Protocol, cast

import httptools

from tests.loopback.answers import error
from tests.loopback.script import Fin, Flood, Pause, Rst, Script, Send, Stall, Step, WaitFor

if TYPE_CHECKING:
    from tests.loopback.request import Request
    from tests.loopback.server import Reuse

SLICE = 65_536
LINGER_0 = struct.pack("ii", 1, 0)  # closing sends RST


class House(Protocol):
    """What a connection needs of the server it belongs to."""

    reuse: Reuse
    keep_body_bytes: int

    def connected(self, connection: Connection) -> None: ...

    def disconnected(self, connection: Connection) -> None: ...

    def begun(
        self, connection: Connection, method: str, target: str, headers: list[tuple[bytes, bytes]]
    ) -> Request: ...

    def received(self, request: Request) -> None: ...

    def ended(self, request: Request) -> None: ...

    def early_answer(self, request: Request) -> Script | None: ...

    def answer(self, request: Request) -> Script: ...

    def stale_hit(self) -> None: ...


class Connection(asyncio.Protocol):
    def __init__(self, house: House, number: int) -> None:
        self.number = number
        self.task: asyncio.Task[None] | None = None
        self._house = house
        self._parser = httptools.HttpRequestParser(self)
        self._requests: list[Request] = []
        self._waiting: deque[tuple[Request, Script | None]] = deque()
        self._writable = asyncio.Event()
        self._writable.set()
        self._handed = 0
        self._we_close = False
        self._answered = 0
        self._url = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._body: list[bytes] = []
        self._digest = hashlib.sha256()
        self._request: Request | None = None
        self._is_answered_early = False

    @property
    def bytes_written(self) -> int:
        """What the kernel has taken so far."""
        return self._handed - self._transport.get_write_buffer_size()

    def set_reading(self, is_reading: bool) -> None:
        if is_reading:
            self._transport.resume_reading()
        else:
            self._transport.pause_reading()

    def abort(self) -> None:
        self._we_close = True
        self._transport.abort()
        if self.task is not None:
            self.task.cancel()

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(high=1, low=0)  # a reader's slowness is felt at once (0 wedges TLS)
        self._house.connected(self)

    def data_received(self, data: bytes) -> None:
        if self._answered and self._house.reuse.startswith("stale"):
            self._house.stale_hit()
            self._close(with_reset=self._house.reuse == "stale-rst")
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            pass  # the request is answered as if nothing was said of an upgrade
        except httptools.HttpParserError as mistake:
            self._transport.write(error(400, message=f"not HTTP: {mistake}", close=True).wire)
            self._close()

    def eof_received(self) -> None:
        self._seen_closed()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._we_close:
            self._seen_closed()
        self._writable.set()
        if self.task is not None:
            self.task.cancel()
        self._house.disconnected(self)

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    # httptools' callbacks

    def on_message_begin(self) -> None:
        self._url = b""
        self._headers = []
        self._body = []
        self._digest = hashlib.sha256()
        self._is_answered_early = False

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        method = self._parser.get_method().decode()
        request = self._house.begun(self, method, self._url.decode("latin-1"), self._headers)
        self._request = request
        self._requests.append(request)
        request.keep_alive = self._parser.should_keep_alive()
        early = self._house.early_answer(request)
        if early is not None:
            self._is_answered_early = True
            self._enqueue(request, early)
        elif (request.header("expect") or "").lower() == "100-continue":
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        request = cast("Request", self._request)
        if request.body_size < self._house.keep_body_bytes:
            self._body.append(body)
        request.body_size += len(body)
        self._digest.update(body)

    def on_message_complete(self) -> None:
        request = cast("Request", self._request)
        request.body = b"".join(self._body)[: self._house.keep_body_bytes]
        request.body_sha256 = self._digest.hexdigest()
        request.received_at = time.monotonic()
        self._house.received(request)
        if not self._is_answered_early:
            self._enqueue(request, None)

    # Playing

    def _enqueue(self, request: Request, script: Script | None) -> None:
        self._waiting.append((request, script))
        if self.task is None or self.task.done():
            self.task = asyncio.get_running_loop().create_task(self._serve())

    async def _serve(self) -> None:
        while self._waiting and not self._transport.is_closing():
            request, script = self._waiting.popleft()
            if script is None:
                script = self._house.answer(request)
            try:
                await self._play(request, script)
                request.finished_at = time.monotonic()
            finally:
                self._answered += 1
                self._house.ended(request)
            if not request.keep_alive or self._house.reuse in {"announce", "drop"}:
                self._close()

    async def _play(self, request: Request, script: Script) -> None:
        for step in script.steps:
            if self._transport.is_closing():
                return
            await self._do(request, step)

    async def _do(self, request: Request, step: Step) -> None:
        match step:
            case Send(data, says):
                await self._send(request, data, says)
            case Flood(data, says, times):
                await self._flood(request, data, says, times)
            case Pause(seconds):
                await asyncio.sleep(seconds)
            case WaitFor(event):
                await event.wait()
            case Fin():
                self._close()
            case Rst():
                await self._writable.wait()  # a reset throws away what the kernel has not taken
                self._close(with_reset=True)
            case Stall():
                await asyncio.get_running_loop().create_future()

    async def _send(self, request: Request, data: bytes, says: bytes) -> None:
        if says:
            request.said.append(says)  # before it is written: never less than what the client can have
        for start in range(0, len(data), SLICE):
            await self._writable.wait()
            if self._transport.is_closing():
                return
            piece = data[start : start + SLICE]
            self._handed += len(piece)
            request.bytes_written += len(piece)
            self._transport.write(piece)

    async def _flood(self, request: Request, data: bytes, says: bytes, times: int | None) -> None:
        sent = 0
        while (times is None or sent < times) and not self._transport.is_closing():
            await self._send(request, data, says)
            sent += 1
            await asyncio.sleep(0)  # a peer that takes everything must not starve the loop

    def _close(self, *, with_reset: bool = False) -> None:
        if self._transport.is_closing():
            return
        self._we_close = True
        if with_reset:
            sock: socket.socket = self._transport.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_0)
            self._transport.abort()
        else:
            self._transport.close()

    def _seen_closed(self) -> None:
        now = time.monotonic()
        for request in self._requests:
            if request.closed_at is None:
                request.closed_at = now
