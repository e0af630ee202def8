"""The upstream of a benchmark, as a program: sends answers encoded beforehand, each event in its own write.

Prints `{"port": …, "arrivals": …}`; then each line `release` or `stats` on its standard input is answered by one line
of JSON. The client reports streams whose chunks have arrived to the port `arrivals`, as unsigned 32-bit numbers.
"""

from __future__ import annotations

import asyncio
import json
import os
import struct
import sys
import time
from functools import lru_cache
from typing import TYPE_CHECKING, cast

import httptools
import uvloop

from tests.bench.payload import DONE, HURRY, Order, events, number_in, order_in, plain_body, usage_event
from tests.bench.ticker import Ticker

if TYPE_CHECKING:
    from collections.abc import Callable

STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ncache-control: no-cache\r\n"
    b"x-request-id: req_bench\r\ntransfer-encoding: chunked\r\n\r\n"
)
PLAIN = (
    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nx-request-id: req_bench\r\ncontent-length: %d\r\n\r\n"
    % len(plain_body())
) + plain_body()
LAST = b"0\r\n\r\n"


class Emulator:
    """State that all connections share."""

    def __init__(self) -> None:
        self.ticker = Ticker()
        self.held: list[Callable[[float], None]] = []
        self.stepping: dict[int, Stream] = {}
        self.requests = 0
        self.open = 0
        self.peak_open = 0

    def release(self) -> int:
        held, self.held = self.held, []
        for place, go_on in enumerate(held):
            go_on(place / len(held))
        return len(held)

    def opened(self) -> None:
        self.requests += 1
        self.open += 1
        self.peak_open = max(self.peak_open, self.open)

    def stats(self) -> dict[str, int]:
        numbers = {"requests": self.requests, "open": self.open, "peak_open": self.peak_open}
        self.peak_open = self.open
        return numbers


class Arrivals(asyncio.Protocol):
    """The client's reports of arrived chunks."""

    def __init__(self, emulator: Emulator) -> None:
        self._emulator = emulator
        self._rest = b""

    def data_received(self, data: bytes) -> None:
        data = self._rest + data
        whole = len(data) // 4 * 4
        self._rest = data[whole:]
        for (number,) in struct.iter_unpack("=I", data[:whole]):
            if number == HURRY:
                for stream in list(self._emulator.stepping.values()):
                    stream.hurry()
            elif number in self._emulator.stepping:
                self._emulator.stepping[number].step()


class Upstream(asyncio.Protocol):
    def __init__(self, emulator: Emulator) -> None:
        self._emulator = emulator
        self._parser = httptools.HttpRequestParser(self)
        self._body = b""
        self._stream: Stream | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._fd = self._transport.get_extra_info("socket").fileno()

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._stream is not None:
            self._stream.leave()

    def on_message_begin(self) -> None:
        self._body = b""

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        order = order_in(self._body)
        if order is None:
            self._emulator.requests += 1
            self.write(PLAIN)
            return
        wants_usage = b'"include_usage":true' in self._body.replace(b" ", b"")
        self._stream = Stream(self._emulator, self, order, number_in(self._body), wants_usage=wants_usage)
        self._stream.start()

    def pause_writing(self) -> None:
        if self._stream is not None:
            self._stream.is_paused = True

    def resume_writing(self) -> None:
        if self._stream is not None:
            self._stream.resume()

    def write(self, data: bytes) -> None:
        """Calls send once: uvloop's own write would join all writes of one turn."""
        if self._transport.is_closing():
            return
        sent = 0
        if not self._transport.get_write_buffer_size():
            try:
                sent = os.write(self._fd, data)
            except BlockingIOError:
                sent = 0
            except OSError:
                self._transport.abort()
                return
        if sent < len(data):
            self._transport.write(data[sent:])


class Stream:
    """One streamed answer on its way."""

    def __init__(self, emulator: Emulator, upstream: Upstream, order: Order, number: int, *, wants_usage: bool) -> None:
        self._emulator = emulator
        self._upstream = upstream
        self._order = order
        self._number = number
        self._pieces = _pieces(order.chunks, wants_usage=wants_usage)
        self._next = 0
        self._due = 0
        self._has_ended = False
        self._waits = False
        self.is_paused = False

    def start(self) -> None:
        self._emulator.opened()
        self._upstream.write(STREAM_HEAD)
        self._due = time.monotonic_ns()
        match self._order.manner:
            case "paced":
                self._tick()
            case "turns":
                self._turn()
            case "steps":
                self._emulator.stepping[self._number] = self
                self.step()
            case "burst":
                self.hurry()
            case "held":
                self._send_event()
                self._emulator.held.append(self._release)

    def leave(self) -> None:
        if not self._has_ended:
            self._has_ended = True
            self._emulator.open -= 1
            self._emulator.stepping.pop(self._number, None)

    def resume(self) -> None:
        self.is_paused = False
        if self._waits:
            self._waits = False
            self._turn()

    def _send_event(self) -> None:
        """Sends the next event; the last one with the end of the framing."""
        if self._has_ended:
            return
        self._upstream.write(self._pieces[self._next])
        self._next += 1
        if self._next == len(self._pieces):
            self.leave()

    def _release(self, phase: float) -> None:
        self._due = time.monotonic_ns() + int(phase * self._order.pace_us * 1000)
        self._emulator.ticker.at(self._due, self._tick)

    def step(self) -> None:
        """The next chunk; usage and `[DONE]` follow the last one at once."""
        self._send_event()
        while self._next >= self._order.chunks and not self._has_ended:
            self._send_event()

    def hurry(self) -> None:
        while not self._has_ended:
            self._send_event()

    def _tick(self) -> None:
        self.step()
        if not self._has_ended:
            self._due += self._order.pace_us * 1000
            self._emulator.ticker.at(self._due, self._tick)

    def _turn(self) -> None:
        if self.is_paused:
            self._waits = True
            return
        self._send_event()
        if not self._has_ended:
            asyncio.get_running_loop().call_soon(self._turn)


@lru_cache(maxsize=64)
def _pieces(chunks: int, *, wants_usage: bool) -> tuple[bytes, ...]:
    sent = [*events(chunks), *([usage_event(chunks)] if wants_usage else []), DONE]
    framed = [b"%x\r\n%b\r\n" % (len(event), event) for event in sent]
    return (*framed[:-1], framed[-1] + LAST)


async def serve() -> None:
    loop = asyncio.get_running_loop()
    emulator = Emulator()
    server = await loop.create_server(lambda: Upstream(emulator), "127.0.0.1", 0, backlog=4096)
    arrivals = await loop.create_server(lambda: Arrivals(emulator), "127.0.0.1", 0)
    ports = [listener.sockets[0].getsockname()[1] for listener in (server, arrivals)]
    print(json.dumps(dict(zip(("port", "arrivals"), ports, strict=True))), flush=True)
    commands = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(commands), sys.stdin)
    while line := await commands.readline():
        answer = emulator.stats() if line.strip() == b"stats" else {"released": emulator.release()}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    uvloop.run(serve())
