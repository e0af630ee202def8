"""One HTTP/1.1 connection as bytes: what was sent is what was written here, and each piece comes with its time."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import socket
import struct
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import TracebackType

PATIENCE_S = 10.0


@dataclass(slots=True)
class Head:
    status: int
    headers: list[tuple[str, str]]
    version: str

    def __getitem__(self, name: str) -> str:
        return next(value for key, value in self.headers if key == name)

    def get(self, name: str) -> str | None:
        return next((value for key, value in self.headers if key == name), None)


@dataclass(slots=True)
class Raw:
    """`async with` or `close`. Whatever waits, waits for `PATIENCE_S` at most."""

    host: str
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    head: Head | None = None
    arrivals: list[tuple[float, bytes]] = field(default_factory=list)  # pieces of the last body, as they were framed

    @classmethod
    async def to(cls, port: int, *, receive_buffer: int | None = None) -> Self:
        connected = socket.socket()
        if receive_buffer is not None:
            connected.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        connected.setblocking(False)
        try:
            await asyncio.get_running_loop().sock_connect(connected, ("127.0.0.1", port))
        except OSError:
            connected.close()
            raise
        reader, writer = await asyncio.open_connection(sock=connected, limit=64 * 1024)
        return cls(f"127.0.0.1:{port}", reader, writer)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        self.writer.close()
        with contextlib.suppress(ConnectionError):
            await self.writer.wait_closed()

    def reset(self) -> None:
        """Go as a killed process with unread data goes: with RST."""
        connected: socket.socket = self.writer.get_extra_info("socket")
        connected.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    # --- saying ---

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    def ask(
        self,
        method: str,
        path: str,
        headers: Iterable[tuple[str, str]] = (),
        body: bytes | None = None,
        *,
        version: str = "1.1",
    ) -> None:
        """A request; `Content-Length` is written for a body."""
        lines = [
            f"{method} {path} HTTP/{version}",
            f"Host: {self.host}",
            *(f"{name}: {value}" for name, value in headers),
        ]
        lines += [f"Content-Length: {len(body)}"] if body is not None else []
        self.send("\r\n".join([*lines, "", ""]).encode("latin-1") + (body or b""))

    def post(self, path: str, body: object, request_id: str, *headers: tuple[str, str], version: str = "1.1") -> None:
        """A request with a JSON body."""
        named = [("Content-Type", "application/json"), ("X-Request-Id", request_id), *headers]
        self.ask("POST", path, named, json.dumps(body).encode(), version=version)

    # --- hearing ---

    async def answer(self) -> Head:
        """The next head."""
        async with asyncio.timeout(PATIENCE_S):
            text = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *lines = text.split("\r\n")[:-2]
        found = re.fullmatch(r"HTTP/(1\.[01]) (\d{3}) ?(.*)", first)
        assert found, first
        pairs = [line.partition(":") for line in lines]
        self.head = Head(int(found[2]), [(name.lower(), value.strip()) for name, _, value in pairs], found[1])
        self.arrivals = []
        return self.head

    async def piece(self) -> bytes:
        """The next piece of the body, as it was framed; empty at its end. Raises IncompleteReadError when cut."""
        assert self.head is not None
        async with asyncio.timeout(PATIENCE_S):
            data = await (self._chunk() if self.head.get("transfer-encoding") == "chunked" else self._bytes())
        if data:
            self.arrivals.append((time.monotonic(), data))
        return data

    async def _chunk(self) -> bytes:
        line = await self.reader.readuntil(b"\r\n")
        data = await self.reader.readexactly(int(line, 16))
        assert await self.reader.readexactly(2) == b"\r\n"
        return data

    async def _bytes(self) -> bytes:
        assert self.head is not None
        length = self.head.get("content-length")
        if length is None:
            return await self.reader.read(65_536)
        left = int(length) - sum(len(data) for _, data in self.arrivals)
        if left == 0:
            return b""
        data = await self.reader.read(min(left, 65_536))
        if not data:
            raise asyncio.IncompleteReadError(b"", left)
        return data

    async def body(self) -> bytes:
        """The rest of the body."""
        parts = [data for _, data in self.arrivals]
        while data := await self.piece():
            parts.append(data)
        return b"".join(parts)

    async def until(self, mark: bytes) -> bytes:
        """The body so far, once it holds a mark."""
        while mark not in (said := b"".join(data for _, data in self.arrivals)):
            assert await self.piece(), f"the body ended without {mark!r}: {said!r}"
        return said

    async def is_closed(self) -> bool:
        """Whether the peer says nothing more and closes."""
        async with asyncio.timeout(PATIENCE_S):
            try:
                return await self.reader.read(1) == b""
            except ConnectionError:
                return True
