"""The cheapest relay in Python, as a yardstick: bytes from socket to socket, with backpressure. A program."""

from __future__ import annotations

import asyncio
import sys
from typing import cast

import uvloop


class Half(asyncio.Protocol):
    """One side of a pair; sends the bytes that it receives to its peer."""

    def __init__(self) -> None:
        self.peer: Half | None = None
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._peers_transport.write(data)

    def connection_lost(self, exc: Exception | None) -> None:
        if self.peer is not None and self.peer.transport is not None:
            self.peer.transport.close()

    def pause_writing(self) -> None:
        self._peers_transport.pause_reading()

    def resume_writing(self) -> None:
        self._peers_transport.resume_reading()

    @property
    def _peers_transport(self) -> asyncio.Transport:
        return cast("asyncio.Transport", cast("Half", self.peer).transport)


class Front(Half):
    """The client's side; keeps early bytes until the other side is connected."""

    def __init__(self, upstream_port: int, connecting: set[asyncio.Task[None]]) -> None:
        super().__init__()
        self._upstream_port = upstream_port
        self._connecting = connecting
        self._early = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        task = asyncio.get_running_loop().create_task(self._connect())
        self._connecting.add(task)
        task.add_done_callback(self._connecting.discard)

    def data_received(self, data: bytes) -> None:
        if self.peer is None:
            self._early += data  # uvloop reads on, despite `pause_reading` in `connection_made`
        else:
            self._peers_transport.write(data)

    async def _connect(self) -> None:
        mine = cast("asyncio.Transport", self.transport)
        loop = asyncio.get_running_loop()
        try:
            transport, back = await loop.create_connection(Half, "127.0.0.1", self._upstream_port)
        except OSError:
            mine.abort()
            return
        self.peer, back.peer = back, self
        transport.write(self._early)
        if mine.is_closing():
            transport.close()


async def serve(port: int, upstream_port: int) -> None:
    connecting: set[asyncio.Task[None]] = set()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Front(upstream_port, connecting), "127.0.0.1", port, backlog=4096)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1]), int(sys.argv[2])))
