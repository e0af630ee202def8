"""The load of a benchmark, as a program: opens streams, reads them whole, and compares every byte with what must come.

Takes one `Load` at a time as a line of JSON on standard input, and answers with lines of JSON: for held streams one
when all are open, and in the end the `Result`.
"""

from __future__ import annotations

import asyncio
import json
import re
import struct
import sys
import time
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, cast

import httptools
import uvloop

from tests.bench import processes
from tests.bench.payload import CHUNK_SIZE, HURRY, Manner, Order, plain_body, request_body, stream_body

if TYPE_CHECKING:
    from tests.bench.processes import Cpu

COMMENT = re.compile(rb"^:[^\n]*\n\n?", re.MULTILINE)  # heartbeats between events are allowed
TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True)
class Load:
    """`streams` connections, started over `stagger_s`; each asks once, or again and again until `again_until_s`."""

    port: int
    streams: int
    chunks: int = 0  # 0: not streamed
    manner: Manner = "burst"
    pace_us: int = 0
    body_bytes: int = 300
    stagger_s: float = 0.0
    again_until_s: float = 0.0
    arrivals: int = 0  # port at which the emulator hears what has arrived; for steps
    window_s: tuple[float, float] | None = None  # measure processor time and chunks only from here to there
    watch: int | None = None  # pid of what is measured
    watch_postgres: int | None = None

    @property
    def order(self) -> Order | None:
        return Order(self.chunks, self.manner, self.pace_us) if self.chunks else None


@dataclass(slots=True)
class Result:
    requests: int = 0  # answered whole
    failed: int = 0
    errors: list[str] = field(default_factory=list)  # the first few
    chunks: float = 0.0  # in the window
    seconds: float = 0.0  # of the window
    own_ns: int = 0
    postgres_ns: int = 0
    client_ns: int = 0
    requests_in_window: int = 0
    reads_per_chunk: float = 0.0
    first_ms: list[float] = field(default_factory=list)  # p50 and p99 of the time to the first byte of a body


@dataclass(frozen=True, slots=True)
class _Mark:
    at: float
    cpu: Cpu
    client_ns: int
    body_bytes: int
    reads: int
    requests: int


class Run:
    """One load, from the first connection to the last answer."""

    def __init__(self, load: Load) -> None:
        self.load = load
        self.expected = stream_body(load.chunks) if load.chunks else plain_body()
        self.result = Result()
        self.body_bytes = 0
        self.reads = 0
        self.first_s: list[float] = []
        self._sessions = 0
        self._waiting_for_first = load.streams
        self._numbers = iter(range(1_000_000_000))
        self._started = time.monotonic()
        self._all_done = asyncio.Event()
        self._arrived: list[int] = []
        self._arrivals: asyncio.WriteTransport | None = None

    async def go(self) -> Result:
        self._started = time.monotonic()
        begin = self._mark()
        if self.load.manner == "steps":
            loop = asyncio.get_running_loop()
            self._arrivals, _ = await loop.create_connection(asyncio.Protocol, "127.0.0.1", self.load.arrivals)
        window = asyncio.create_task(self._window()) if self.load.window_s else None
        await self._connect_all()
        try:
            await asyncio.wait_for(self._all_done.wait(), self._patience())
        except TimeoutError:
            self.failed(f"{self._sessions} streams did not end")
        first, last = await window if window is not None else (begin, self._mark())
        if self._arrivals is not None:
            self._arrivals.close()
        self._conclude(first, last)
        return self.result

    def next_request(self) -> tuple[int, bytes] | None:
        """Returns the next request and its number; None when it is time to stop."""
        number = next(self._numbers)
        if number >= self.load.streams and time.monotonic() - self._started >= self.load.again_until_s:
            return None
        body = request_body(self.load.order, number, self.load.body_bytes)
        head = (
            "POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\nauthorization: Bearer x\r\n"
            f"accept: application/json\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        )
        return number, head.encode() + body

    def first_byte(self, seconds: float) -> None:
        self.first_s.append(seconds)
        self._waiting_for_first -= 1
        if self._waiting_for_first == 0 and self.load.manner == "held":
            say({"open": self.load.streams})

    def arrived(self, number: int) -> None:
        """Reports a chunk to the emulator, once a turn of the loop for all streams together."""
        if not self._arrived:
            asyncio.get_running_loop().call_soon(self._tell_arrivals)
        self._arrived.append(number)

    def answered(self, body: bytes, status: int) -> None:
        if status == 200 and (body == self.expected or COMMENT.sub(b"", body) == self.expected):
            self.result.requests += 1
            return
        shown = body if len(body) < 300 else body[:100] + b" ... " + body[-150:]
        self.failed(f"status {status}, {len(body)} bytes instead of {len(self.expected)}: {shown!r}")

    def failed(self, why: str) -> None:
        self.result.failed += 1
        if len(self.result.errors) < 5:
            self.result.errors.append(why)

    def session_over(self) -> None:
        self._sessions -= 1
        if self._sessions == 0:
            self._all_done.set()

    async def _connect_all(self) -> None:
        loop = asyncio.get_running_loop()
        self._sessions = self.load.streams
        for number in range(self.load.streams):
            due = self._started + number * self.load.stagger_s / self.load.streams
            if (ahead := due - time.monotonic()) > 0.001:
                await asyncio.sleep(ahead)
            try:
                await loop.create_connection(lambda: Session(self), "127.0.0.1", self.load.port)
            except OSError as error:
                self.failed(f"no connection: {error}")
                self.session_over()

    async def _window(self) -> tuple[_Mark, _Mark]:
        opens, closes = cast("tuple[float, float]", self.load.window_s)
        await asyncio.sleep(self._started + opens - time.monotonic())
        first = self._mark()
        await asyncio.sleep(self._started + closes - time.monotonic())
        last = self._mark()
        self.arrived(HURRY)
        return first, last

    def _tell_arrivals(self) -> None:
        if self._arrivals is not None:
            self._arrivals.write(struct.pack(f"={len(self._arrived)}I", *self._arrived))
        self._arrived.clear()

    def _mark(self) -> _Mark:
        watched = processes.cpu(self.load.watch, self.load.watch_postgres)
        done = self.result.requests
        return _Mark(time.monotonic(), watched, time.process_time_ns(), self.body_bytes, self.reads, done)

    def _patience(self) -> float:
        longest = self.load.chunks * self.load.pace_us / 1e6
        return TIMEOUT_S + self.load.again_until_s + longest

    def _conclude(self, first: _Mark, last: _Mark) -> None:
        result = self.result
        result.seconds = last.at - first.at
        result.own_ns, result.postgres_ns = last.cpu - first.cpu
        result.client_ns = last.client_ns - first.client_ns
        result.chunks = (last.body_bytes - first.body_bytes) / CHUNK_SIZE
        result.reads_per_chunk = (last.reads - first.reads) / max(result.chunks, 1)
        result.requests_in_window = last.requests - first.requests
        ordered = sorted(self.first_s)
        if ordered:
            result.first_ms = [1000 * ordered[int(share * (len(ordered) - 1))] for share in (0.5, 0.99)]


class Session(asyncio.Protocol):
    """One connection: asks, reads the answer whole, asks again."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._parser = httptools.HttpResponseParser(self)
        self._parts: list[bytes] = []
        self._is_stepping = run.load.manner == "steps"
        self._number = 0
        self._size = 0
        self._asked_at = 0.0
        self._is_waiting = False
        self._is_over = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._ask()

    def data_received(self, data: bytes) -> None:
        self._run.reads += 1
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._is_waiting = False
            self._run.failed(f"not HTTP: {error}")
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._is_over:
            return
        self._is_over = True
        if self._is_waiting:
            self._run.failed(f"the connection ended after {sum(map(len, self._parts))} bytes of a body: {exc}")
        self._run.session_over()

    def on_body(self, body: bytes) -> None:
        if not self._parts:
            self._run.first_byte(time.monotonic() - self._asked_at)
        self._parts.append(body)
        self._run.body_bytes += len(body)
        if self._is_stepping:
            self._size += len(body)
            if self._size % CHUNK_SIZE == 0:
                self._run.arrived(self._number)

    def on_message_complete(self) -> None:
        self._is_waiting = False
        self._run.answered(b"".join(self._parts), self._parser.get_status_code())
        self._parser = httptools.HttpResponseParser(self)
        self._ask()

    def _ask(self) -> None:
        request = self._run.next_request()
        if request is None:
            self._is_over = True
            self._transport.close()
            self._run.session_over()
            return
        self._parts = []
        self._size = 0
        self._is_waiting = True
        self._asked_at = time.monotonic()
        self._number, data = request
        self._transport.write(data)


def say(line: dict[str, Any]) -> None:
    print(json.dumps(line), flush=True)


async def obey() -> None:
    commands = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(commands), sys.stdin)
    while line := await commands.readline():
        say(asdict(await Run(Load(**json.loads(line))).go()))


if __name__ == "__main__":
    uvloop.run(obey())
