"""A scripted upstream on the loopback interface, below HTTP libraries: it can misbehave at the level of bytes."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from typing import TYPE_CHECKING, Literal, Self, cast

from tests.loopback.answers import error
from tests.loopback.connection import Connection
from tests.loopback.openai_like import OpenAiLike
from tests.loopback.request import Request

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable
    from types import TracebackType

    from tests.loopback.ledger import Ledger
    from tests.loopback.script import Script

Reuse = Literal["keep", "announce", "drop", "stale-fin", "stale-rst"]


class LoopbackUpstream:
    """`async with LoopbackUpstream() as upstream`: without scripts a sane OpenAI-compatible server.

    An answer is looked for in `early` (asked when the head is there, before the body), then in the queue that `script`
    fills, then in `on`, then in the sane server.

    `reuse`: "keep" keeps connections alive; "announce" closes each after its answer and says so; "drop" closes without
    a word; "stale-fin" and "stale-rst" keep a connection until its second request comes and then close it, unanswered.
    """

    def __init__(
        self,
        *,
        port: int = 0,
        expect_authorization: str | None = None,
        pace: float = 0.0,
        reuse: Reuse = "keep",
        keep_body_bytes: int = 64 * 1024 * 1024,
        keep_requests: bool = True,
        ledger: Ledger | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.requests: list[Request] = []
        self.request_count = 0
        self.connections: set[Connection] = set()  # those that are open
        self.connection_count = 0
        self.on: Callable[[Request], Script | None] | None = None
        self.early: Callable[[Request], Script | None] | None = None
        self.sane = OpenAiLike(expect_authorization=expect_authorization, pace=pace, close=reuse == "announce")
        self.reuse: Reuse = reuse
        self.keep_body_bytes = keep_body_bytes
        self.stale_hits = 0
        self.port = port
        self.failures: list[Exception] = []  # of `on` and `early`; raised when the server is left
        self._ledger = ledger
        self._scripts: deque[Script] = deque()
        self._tls = tls
        self._keeps_requests = keep_requests
        self._bytes_of_closed = 0
        self._changed = asyncio.Event()
        self._server: asyncio.Server | None = None
        self._is_reading = True

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, raised: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()
        if self.failures and raised is None:
            raise ExceptionGroup("the loopback upstream's own scripts failed", self.failures)

    @property
    def origin(self) -> str:
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        return f"{self.origin}/v1"

    @property
    def bytes_written(self) -> int:
        """What the kernel has taken so far, over all connections."""
        return self._bytes_of_closed + sum(connection.bytes_written for connection in self.connections)

    async def start(self) -> None:
        """Listen; after `stop`, on the same port again."""
        self._server = await asyncio.get_running_loop().create_server(
            self._new_connection, "127.0.0.1", self.port, backlog=4096, ssl=self._tls
        )
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Listen no more, and cut every connection."""
        if self._server is not None:
            self._server.close()
            self._server = None
        cut = list(self.connections)
        for connection in cut:
            connection.abort()
        await asyncio.gather(*(c.task for c in cut if c.task is not None), return_exceptions=True)
        await self.wait_until(lambda: not self.connections)

    def script(self, *scripts: Script) -> None:
        """The next requests get these answers, one each, in the order in which the requests arrive."""
        self._scripts.extend(scripts)

    def forget(self) -> None:
        """As new for the next test: nothing seen, nothing scripted. What is open stays open."""
        self.requests.clear()
        self._scripts.clear()
        self.on = self.early = None

    def pause_reading(self) -> None:
        """Take nothing more from any client (and do not see it leave) until `resume_reading`."""
        self._set_reading(False)

    def resume_reading(self) -> None:
        self._set_reading(True)

    async def wait_for_requests(self, count: int, within: float = 5.0) -> list[Request]:
        """All requests that were received whole, once they are `count` or more."""
        await self.wait_until(lambda: len(self._received()) >= count, within)
        return self._received()

    async def wait_closed(self, request: Request, within: float = 5.0) -> float:
        """When the client's side of the request's connection was seen closed."""
        await self.wait_until(lambda: request.closed_at is not None, within)
        return cast("float", request.closed_at)

    async def wait_until(self, is_so: Callable[[], bool], within: float = 5.0) -> None:
        """Wait for what an arriving request, an answer's or a connection's end brings; TimeoutError if it does not."""
        async with asyncio.timeout(within):
            while not is_so():
                self._changed.clear()
                await self._changed.wait()

    # What its connections tell and ask

    def connected(self, connection: Connection) -> None:
        self.connections.add(connection)
        if not self._is_reading:
            connection.set_reading(False)

    def disconnected(self, connection: Connection) -> None:
        self.connections.discard(connection)
        self._bytes_of_closed += connection.bytes_written
        self._changed.set()

    def begun(self, connection: Connection, method: str, target: str, headers: list[tuple[bytes, bytes]]) -> Request:
        self.request_count += 1
        request = Request(self.request_count, connection.number, method, target, headers, time.monotonic())
        if self._keeps_requests:
            self.requests.append(request)
        return request

    def received(self, request: Request) -> None:
        if self._ledger is not None:
            self._ledger.received(request)
        self._changed.set()

    def ended(self, request: Request) -> None:
        if self._ledger is not None:
            self._ledger.ended(request)
        self._changed.set()

    def stale_hit(self) -> None:
        self.stale_hits += 1

    def early_answer(self, request: Request) -> Script | None:
        return self._asked(self.early, request)

    def answer(self, request: Request) -> Script:
        if self._scripts:
            return self._scripts.popleft()
        return self._asked(self.on, request) or self.sane.answer(request)

    def _asked(self, responder: Callable[[Request], Script | None] | None, request: Request) -> Script | None:
        if responder is None:
            return None
        try:
            return responder(request)
        except Exception as failure:  # noqa: BLE001  # a test's own mistake: raised when the server is left
            self.failures.append(failure)
            return error(500, message=f"the test's own responder failed: {failure!r}")

    def _new_connection(self) -> Connection:
        self.connection_count += 1
        return Connection(self, self.connection_count)

    def _received(self) -> list[Request]:
        return [request for request in self.requests if request.received_at is not None]

    def _set_reading(self, is_reading: bool) -> None:
        self._is_reading = is_reading
        for connection in self.connections:
            connection.set_reading(is_reading)
