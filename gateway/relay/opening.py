"""Decides by the first bytes of an answer whether it is an event stream, whatever its Content-Type."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

from gateway.codec.sse import begins_like_events, begins_like_json
from gateway.relay.passthrough import BufferSink
from gateway.transport.call import BodySink

if TYPE_CHECKING:
    from collections.abc import Callable

    from gateway.relay.stream import Relay
    from gateway.transport.call import Head

EVENTS = "text/event-stream"
FIRST_EVENT_S = 2.0  # after which the head of a declared stream goes out alone, and heartbeats may follow it
MOST_UNDECIDED = 64 * 1024  # bytes; some upstreams send blank lines to keep a connection alive


class Enough(Exception):
    """The relay settled the answer while the client's head was on its way."""


class Starter(Protocol):
    """The caller's side, as needed to send an answer's head."""

    @property
    def starts_at_once(self) -> bool: ...

    def start_now(self, head: Head) -> bool: ...

    def send_head(self) -> None: ...

    async def start(self, head: Head, *, is_events: bool) -> None: ...


class Opening(BodySink):
    """Feeds an answer to the relay if it begins as an event stream, else to the buffer `held`. `head` fits what the
    client gets."""

    __slots__ = (
        "_client",
        "_early",
        "_held",
        "_is_declared",
        "_limit",
        "_on_first",
        "_relay",
        "_silent_since",
        "_target",
        "head",
        "is_starting",
    )

    def __init__(
        self, head: Head, client: Starter, relay: Relay, limit: int, on_first: Callable[[], None] | None = None
    ) -> None:
        self._client = client
        self._relay = relay
        self._is_declared = head.media_type == EVENTS
        self._early = b""
        self._target: Relay | BufferSink | None = None
        self._silent_since: float | None = None
        self.head = head
        self._limit = limit
        self._on_first = on_first
        self._held: BufferSink | None = None
        self.is_starting = False  # this is a stream, and the client's head is not out yet

    @property
    def held(self) -> BufferSink:
        """The body of an answer that is not a stream."""
        self._held = held = self._held or BufferSink(self._limit, self._on_first)
        return held

    @property
    def is_stream(self) -> bool:
        return self._target is self._relay

    @property
    def waits_for_head(self) -> bool:
        """Whether the head must go out first: of a declared stream whose head cannot go out later without a wait."""
        return self._is_declared and not self._client.starts_at_once

    @property
    def is_full(self) -> bool:
        target = self._target
        return self.is_starting if target is None else target.is_full

    def feed(self, data: bytes) -> bool:
        target = self._target
        if target is not None:
            return target.feed(data)
        self._early += data
        if self.is_starting or (is_events := self._decided()) is None:
            return False
        if not is_events:
            return self._buffer()
        return self._start_now()

    def _decided(self) -> bool | None:
        if self._is_declared:
            is_json = begins_like_json(self._early)
            found = None if is_json is None else not is_json
        else:
            found = begins_like_events(self._early)
        return self._is_declared if found is None and len(self._early) > MOST_UNDECIDED else found

    def _buffer(self) -> bool:
        if self._is_declared:
            self.head = _of_type(self.head, b"application/json")
        self._target = self.held
        return self.held.feed(self._taken())

    def _start_now(self) -> bool:
        if not self._client.start_now(self._stream_head()):
            self.is_starting = True  # the pump waits until `drained` has sent the head
            return False
        self._target = self._relay
        is_over = self._relay.feed(self._taken())
        if not is_over:
            self._client.send_head()
        return is_over

    async def start(self) -> None:
        """Send the head, then the bytes that have come. Raises Enough if they settle the answer."""
        await self._client.start(self._stream_head(), is_events=True)
        self._target = self._relay
        self.is_starting = False
        if self._relay.feed(self._taken()):
            raise Enough

    def _stream_head(self) -> Head:
        if not self._is_declared:
            self.head = _of_type(self.head, EVENTS.encode())
        return self.head

    def _taken(self) -> bytes:
        early, self._early = self._early, b""
        return early

    async def drained(self) -> None:
        if self.is_starting:
            await self.start()
        elif self._target is not None:
            await self._target.drained()

    async def over(self) -> None:
        """End of the body: an answer that is still undecided is what its Content-Type declares."""
        if self._target is None:
            if self.is_starting or self._is_declared:
                with suppress(Enough):
                    await self.start()
            else:
                self._buffer()

    def tick(self, now: float) -> None:
        if self.is_stream:
            self._relay.tick(now)
        elif self._target is None and self._is_declared and not self.is_starting:
            self._silent_since = self._silent_since or now
            if now - self._silent_since >= FIRST_EVENT_S and self._client.starts_at_once:
                self._start_now()


def _of_type(head: Head, kind: bytes) -> Head:
    headers = tuple(each for each in head.headers if each[0] not in (b"content-type", b"content-length"))
    return replace(head, headers=(*headers, (b"content-type", kind)))
