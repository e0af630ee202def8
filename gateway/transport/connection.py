"""HTTP/1.1 to the upstream on a protocol of our own: what arrives goes into the sink in the same call, without a task.

Framing is llhttp's (`httptools`). Against `aiohttp.ClientSession` this halves the CPU of a relayed chunk (tests/bench).
Bodies that are streamed up, and ways through a proxy, take `upstream.session`.
"""

from __future__ import annotations

import asyncio
import ipaddress
import select
import socket
import ssl
from collections import deque
from typing import TYPE_CHECKING, cast

import httptools
from aiohappyeyeballs import start_connection

from gateway.errors import UpstreamGarbled, UpstreamStalled, UpstreamUnreachable
from gateway.transport.call import BodySink, Call, Ending, Head, Reply

if TYPE_CHECKING:
    from gateway.transport.origin import Origin, Timeouts

MAX_HEAD_BYTES = 64 * 1024
EARLY_BODY_BYTES = 256 * 1024  # of body that may wait for `pump`
# Bytes in a row that bring no body: a head, trailers, chunk extensions. Longer by one read, which may bring both.
MAX_FRAMING_BYTES = MAX_HEAD_BYTES + 256 * 1024
REST_BYTES = 64 * 1024  # of body behind the last event that is read away, so that the connection can serve again
REST_SECONDS = 1.0
STALE_SECONDS = 5.0  # a peer that is silent for longer and then closes has worked on the request: no second attempt
NEXT_ADDRESS_SECONDS = 0.25  # a host's next address is tried beside a silent one (RFC 8305)


class StaleConnection(Exception):
    """The peer closed before it answered anything, as idle connections do."""


class StrayBytes(Exception):
    """Bytes behind the end of an answer, which nobody asked for."""


class Connection(asyncio.Protocol):
    """One connection: at most one call at a time."""

    __slots__ = (
        "_asked_at",
        "_bodies",
        "_early",
        "_early_size",
        "_ending",
        "_failure",
        "_fault",
        "_framing",
        "_headers",
        "_headers_only",
        "_is_close_delimited",
        "_is_complete",
        "_is_reusable",
        "_last_read",
        "_parser",
        "_patience",
        "_paused",
        "_poll",
        "_pool",
        "_rest",
        "_resting",
        "_sink",
        "_transport",
        "_waiter",
        "_watching",
        "head",
        "loop",
    )

    def __init__(self, pool: ConnectionPool, patience: Timeouts) -> None:
        self._pool = pool
        self._patience = patience
        self.loop = asyncio.get_running_loop()
        self._parser = httptools.HttpResponseParser(self)
        self._transport: asyncio.Transport | None = None
        self._watching: asyncio.TimerHandle | None = None  # one for many calls: a timer costs 3 µs, and ends unheard
        self._resting: asyncio.TimerHandle | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._poll = select.poll()
        self._reset()

    def _reset(self) -> None:
        self.head: Head | None = None
        self._headers: list[tuple[bytes, bytes]] = []
        self._framing = 0  # bytes since the last of the body
        self._headers_only = False
        self._is_close_delimited = False
        self._is_complete = False
        self._is_reusable = False
        self._sink: BodySink | None = None
        self._bodies: list[bytes] = []  # of the read that is being parsed
        self._early: list[bytes] = []
        self._early_size = 0
        self._ending: Ending | None = None
        self._fault = ""
        self._failure: Exception | None = None  # of the sink
        self._paused = False
        self._rest: int | None = None  # bytes still to be read away; None while somebody wants them
        self._asked_at = self._last_read = 0.0

    @property
    def is_open(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    @property
    def can_serve(self) -> bool:
        """Open, and nothing lies unread in the socket: neither the peer's goodbye nor an answer that nobody asked for,
        which the next call would take for its own. The event loop may not have seen either yet."""
        return self.is_open and not self._poll.poll(0)

    # --- the caller's side -------------------------------------------------------------------------------------------

    async def ask(self, message: bytes, *, headers_only: bool) -> Head:
        """Send a request and wait for the head of its answer.

        Raises StaleConnection, UpstreamStalled, UpstreamGarbled, UpstreamUnreachable.
        """
        if self._transport is None:
            raise StaleConnection
        self._reset()
        self._headers_only = headers_only
        self._asked_at = self._last_read = self.loop.time()
        self._transport.write(message)
        if self._watching is None:
            self._watch(self._patience.head_s)
        try:
            await self._wait()
        except asyncio.CancelledError:
            self.abort()
            raise
        if self.head is not None:
            return self.head
        self.abort()
        raise self._no_head()

    def _no_head(self) -> Exception:
        if self._ending is Ending.STALLED:
            return UpstreamStalled(f"the upstream sent no answer within {self._patience.head_s:g} s")
        if self._ending is Ending.GARBLED:
            return UpstreamGarbled(f"the upstream's answer is not HTTP: {self._fault}")
        if self._framing:
            return UpstreamUnreachable("the upstream closed the connection in the middle of its answer's head")
        if self.loop.time() - self._asked_at < STALE_SECONDS:
            return StaleConnection()
        return UpstreamUnreachable("the upstream closed the connection without an answer")

    async def pump(self, sink: BodySink) -> Ending:
        """Feed the body into the sink until it ends or the sink has enough. What the sink raises is raised here."""
        self._sink = sink
        try:
            ending = await self._pump(sink)
        except BaseException:
            self.abort()
            raise
        self._release()
        return ending

    async def _pump(self, sink: BodySink) -> Ending:
        early, self._early = self._early, []
        for data in early:
            if sink.feed(data):
                self._ending = Ending.ENOUGH
                break
        while self._ending is None:
            if sink.is_full:
                self._pause()
                await sink.drained()
                if sink.is_full:
                    await asyncio.sleep(0)  # a sink that does not wait must not stop the world
                    continue
            self._resume()
            await self._wait(sink)
        if self._failure is not None:
            raise self._failure
        return self._ending

    def abort(self) -> None:
        """Close at once; who waits for more is told that it was cut."""
        self._end(Ending.CUT)
        self._stop_timers()
        if self._transport is not None:
            self._transport.abort()

    async def _wait(self, sink: BodySink | None = None) -> None:
        if self._ending is not None or (sink is not None and sink.is_full):
            return
        self._waiter = self.loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _end(self, ending: Ending, fault: str = "") -> None:
        if self._ending is None:
            self._ending = ending
            self._fault = fault
        self._wake()

    def _pause(self) -> None:
        if not self._paused and self._transport is not None:
            self._paused = True
            self._transport.pause_reading()

    def _resume(self) -> None:
        if self._paused and self._transport is not None:
            self._paused = False
            self._last_read = self.loop.time()  # the silence was ours
            if not self._transport.is_closing():
                self._transport.resume_reading()

    def _release(self) -> None:
        """Give the connection back, now or as soon as the rest of its body has been read away."""
        self._sink = None
        if self._is_complete:
            self._resume()  # the last read may have filled the sink, and the next call wants to hear its answer
            self._pool.give_back(self, reusable=self._is_reusable)
        elif self._ending is Ending.ENOUGH and self.is_open and not self._is_close_delimited:
            self._rest = REST_BYTES
            self._resting = self.loop.call_later(REST_SECONDS, self.abort)
            self._resume()
        else:
            self.abort()

    # --- the peer's side ---------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._poll.register(transport.get_extra_info("socket").fileno(), select.POLLIN)

    def data_received(self, data: bytes) -> None:
        if self._is_complete:  # nothing was asked: whatever this is, it must not become the answer to the next call
            self.abort()
            return
        self._last_read = self.loop.time()
        self._framing += len(data)
        fault = None
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            fault = str(error) or type(error).__name__
        if self._bodies:
            self._framing = 0
            bodies, self._bodies = self._bodies, []
            try:
                self._deliver(bodies[0] if len(bodies) == 1 else b"".join(bodies))
            except Exception as error:  # noqa: BLE001 (raised again in `pump`, to whom the sink belongs)
                self._failure = error
                self.abort()
        if self._is_complete:
            self._completed(is_clean=fault is None)
        elif fault is not None:
            self._broken(fault)
        elif self._framing > MAX_FRAMING_BYTES:
            self._broken("its head is too large" if self.head is None else "its framing is without measure")

    def _deliver(self, data: bytes) -> None:
        """All of a read at once: many small chunks that came together cost one look and one write."""
        if self._headers_only:  # an answer to HEAD has no body, whatever the upstream sends: it is nobody's
            self.abort()
            return
        sink = self._sink
        if sink is not None:
            if self._ending is not None:
                return
            if sink.feed(data):
                self._end(Ending.ENOUGH)
            elif sink.is_full:
                self._pause()
                self._wake()
        elif self._rest is not None:
            self._rest -= len(data)
            if self._rest < 0:
                self.abort()
        else:
            self._early.append(data)
            self._early_size += len(data)
            if self._early_size > EARLY_BODY_BYTES:
                self._pause()

    def _completed(self, *, is_clean: bool) -> None:
        """The answer is over. With more bytes behind it, or with our request not even sent, the connection is spent."""
        is_sent = self._transport is not None and self._transport.get_write_buffer_size() == 0
        self._is_reusable = self._is_reusable and is_clean and is_sent
        if self._rest is not None:
            self._rest = None
            if self._resting is not None:
                self._resting.cancel()
            self._pool.give_back(self, reusable=self._is_reusable)
        else:
            self._end(Ending.WHOLE)

    def _broken(self, fault: str) -> None:
        self._end(Ending.GARBLED, fault)
        self.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._stop_timers()
        self._pool.forget(self)
        is_clean_end = self.head is not None and self._is_close_delimited and exc is None
        self._end(Ending.UNPROVED if is_clean_end else Ending.CUT)

    def _watch(self, left: float) -> None:
        """Look again when patience may be over: also in time for a silence, or a call, that begins right now."""
        longest = min(self._patience.head_s, self._patience.stall_s)
        self._watching = self.loop.call_later(min(left, longest), self._check_patience)

    def _check_patience(self) -> None:
        self._watching = None
        if self._ending is not None or not self._asked_at:  # nobody waits for anything
            return
        now = self.loop.time()
        if self.head is None:
            left = self._asked_at + self._patience.head_s - now
        elif self._paused:
            left = self._patience.stall_s
        else:
            left = self._last_read + self._patience.stall_s - now
        if left > 0:
            self._watch(left)
        else:
            self._end(Ending.STALLED)
            self.abort()

    def _stop_timers(self) -> None:
        for timer in (self._watching, self._resting):
            if timer is not None:
                timer.cancel()
        self._watching = self._resting = None

    # --- llhttp's side -----------------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        if self._is_complete:
            raise StrayBytes

    def on_header(self, name: bytes, value: bytes) -> None:
        if self.head is None:  # else it is a trailer, which nobody reads
            self._headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if status < 200:  # 100 Continue, 103 Early Hints: an answer is still to come
            self._headers = []
            return
        if self._framing > MAX_HEAD_BYTES and sum(map(_size, self._headers)) > MAX_HEAD_BYTES:
            self._broken("its head is too large")
            return
        self.head = Head(status, tuple(self._headers))
        self._is_reusable = self._parser.should_keep_alive()  # llhttp has forgotten it when the message is complete
        self._is_close_delimited = (
            status not in (204, 304)
            and self.head.get(b"content-length") is None
            and b"chunked" not in (self.head.get(b"transfer-encoding") or b"").lower()
        )
        if self._headers_only:
            self._ending = Ending.ENOUGH  # llhttp does not know that HEAD has no body: the connection is spent
            self._is_close_delimited = True
        self._wake()

    def on_body(self, data: bytes) -> None:
        self._bodies.append(data)

    def on_message_complete(self) -> None:
        if self.head is not None:  # else it was a 1xx
            self._is_complete = True


class ConnectionReply(Reply):
    """An answer on a wire. Once pumped, the wire is no longer its own: it may serve another call already."""

    __slots__ = ("_wire", "head")

    def __init__(self, wire: Connection, head: Head) -> None:
        self._wire: Connection | None = wire
        self.head = head

    async def pump(self, sink: BodySink) -> Ending:
        wire, self._wire = self._wire, None
        if wire is None:
            raise RuntimeError("an answer can be pumped only once, and not after it was closed")
        return await wire.pump(sink)

    def close(self) -> None:
        if self._wire is not None:
            self._wire.abort()
            self._wire = None


class ConnectionPool:
    """Connections to one origin; the most recently used idle one serves first, and each new call may open another."""

    def __init__(self, origin: Origin, patience: Timeouts) -> None:
        self._origin = origin
        self._patience = patience
        self._ssl = tls_context() if origin.is_tls else None
        self._is_literal = _is_address(origin.host)
        self._idle: deque[tuple[Connection, float]] = deque()
        self._open: set[Connection] = set()
        self._sweeper: asyncio.TimerHandle | None = None
        self._is_closed = False
        self._is_empty = asyncio.Event()
        self._is_empty.set()

    async def open(self, call: Call, body: bytes) -> Reply:
        """Send a call whose body is at hand. One that meets a stale connection is sent once more, on a fresh one."""
        message = self._origin.request_head(call, len(body)) + body
        headers_only = call.method == "HEAD"
        wire = self._take_idle()
        if wire is not None:
            try:
                return ConnectionReply(wire, await wire.ask(message, headers_only=headers_only))
            except StaleConnection:
                pass
        wire = await self._connect()
        try:
            return ConnectionReply(wire, await wire.ask(message, headers_only=headers_only))
        except StaleConnection as error:
            raise UpstreamUnreachable("the upstream closed the connection without an answer") from error

    async def aclose(self) -> None:
        """Cut all connections, and return when they are gone."""
        self._is_closed = True
        if self._sweeper is not None:
            self._sweeper.cancel()
        for wire in tuple(self._open):
            wire.abort()
        await self._is_empty.wait()

    async def _connect(self) -> Connection:
        if self._is_closed:
            raise UpstreamUnreachable.at(f"no connection to {self._origin.netloc}: the gateway is closing")
        try:
            async with asyncio.timeout(self._patience.connect_s):
                wire = await self._new_wire()
        except TimeoutError as error:
            raise UpstreamUnreachable.at(
                f"no connection to {self._origin.netloc} within {self._patience.connect_s:g} s"
            ) from error
        except OSError as error:  # ssl.SSLError and socket.gaierror are OSErrors
            raise UpstreamUnreachable.at(f"no connection to {self._origin.netloc}: {error}") from error
        if wire.is_open:  # not in `connection_made`: uvloop does not tell of the end of one that is cancelled after it
            self._open.add(wire)
            self._is_empty.clear()
        if self._is_closed:
            wire.abort()
        return wire

    async def _new_wire(self) -> Connection:
        loop = asyncio.get_running_loop()
        host, port = self._origin.host, self._origin.port
        if self._is_literal:
            _, wire = await loop.create_connection(self._make_wire, host, port, ssl=self._ssl)
            return wire
        addresses = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        connected = await start_connection(addresses, happy_eyeballs_delay=NEXT_ADDRESS_SECONDS)
        name = host if self._ssl else None
        _, wire = await loop.create_connection(self._make_wire, sock=connected, ssl=self._ssl, server_hostname=name)
        return wire

    def _make_wire(self) -> Connection:
        return Connection(self, self._patience)

    def _take_idle(self) -> Connection | None:
        while self._idle:
            wire, _ = self._idle.pop()
            if wire.can_serve:
                return wire
            wire.abort()
        return None

    def give_back(self, wire: Connection, *, reusable: bool) -> None:
        if self._is_closed or not (reusable and wire.is_open):
            wire.abort()
            return
        loop = wire.loop
        self._idle.append((wire, loop.time()))
        if self._sweeper is None:
            self._sweeper = loop.call_later(self._patience.idle_s, self._sweep)

    def forget(self, wire: Connection) -> None:
        self._open.discard(wire)
        if not self._open:
            self._is_empty.set()

    def _sweep(self) -> None:
        """Close what has been idle for long, before the peer does it in the middle of a call."""
        loop = asyncio.get_running_loop()
        oldest = loop.time() - self._patience.idle_s
        while self._idle and self._idle[0][1] <= oldest:
            self._idle.popleft()[0].abort()
        self._sweeper = loop.call_later(self._patience.idle_s / 2, self._sweep) if self._idle else None


def _size(header: tuple[bytes, bytes]) -> int:
    return len(header[0]) + len(header[1])


def tls_context() -> ssl.SSLContext:
    """Trusts whom the system trusts, or the file that SSL_CERT_FILE names."""
    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])
    return context


def _is_address(host: str) -> bool:
    """Whether a host is an IP address already, and there is nothing to look up."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
