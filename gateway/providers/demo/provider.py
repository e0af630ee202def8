"""The built-in demo model: a provider without a network, so that the first run needs no key.

It answers on the real path, as an upstream would: an answer with a head, then a body that is pumped into a sink at the
pace of a person reading.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING
from uuid import uuid4

import orjson

from gateway.providers.demo import protocol as wire
from gateway.transport.call import Ending, Head, Provider, Reply

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable

    from gateway.settings import DemoSettings
    from gateway.transport.call import BodySink, Call

LARGEST_BODY = 32 * 1024 * 1024


class DemoProvider(Provider):
    """Answers chats from templates; everything else is a 404 that says so."""

    def __init__(self, settings: DemoSettings, clock: Callable[[], float] = time.time) -> None:
        self.name = "demo"
        self._words_per_second = settings.words_per_second
        self._clock = clock
        self._since = int(clock())

    async def open(self, call: Call) -> Reply:
        path = call.path.partition("?")[0].rstrip("/")
        try:
            match call.method, path:
                case "POST", "/chat/completions":
                    return self._chat(await _read(call.body))
                case "POST", "/responses":
                    return self._respond(await _read(call.body))
                case "GET", "/models":
                    return self._whole(200, wire.models(self._since))
                case "GET", "/models/demo":
                    return self._whole(200, wire.model(self._since))
                case _:
                    raise wire.only_chats(call.method, path)
        except wire.RefusalError as refusal:
            return self._whole(refusal.status, refusal.body)

    async def aclose(self) -> None:
        """Nothing is held open: each reply belongs to whoever pumps it."""

    def _chat(self, body: bytes) -> Reply:
        asked = wire.parse_chat(body)
        stamp = wire.Stamp(f"chatcmpl-demo-{uuid4().hex}", int(self._clock()))
        if asked.is_stream:
            return self._stream(wire.completion_stream(asked, stamp))
        return self._whole(200, wire.completion(asked, stamp))

    def _respond(self, body: bytes) -> Reply:
        asked = wire.parse_response(body)
        stamp = wire.Stamp(f"resp_demo_{uuid4().hex}", int(self._clock()))
        if asked.is_stream:
            return self._stream(wire.response_stream(asked, stamp))
        return self._whole(200, wire.response(asked, stamp))

    def _whole(self, status: int, body: wire.Json) -> Reply:
        data = orjson.dumps(body)
        headers = ((b"content-type", b"application/json"), (b"content-length", b"%d" % len(data)))
        return DemoReply(Head(status, headers), [wire.Timed(0, data)], self._words_per_second)

    def _stream(self, events: Iterable[wire.Timed]) -> Reply:
        headers = ((b"content-type", b"text/event-stream; charset=utf-8"), (b"cache-control", b"no-cache"))
        return DemoReply(Head(200, headers), events, self._words_per_second)


class DemoReply(Reply):
    """An answer being said. Its clock stands still while the sink is full: a slow reader gets no burst afterwards."""

    def __init__(self, head: Head, events: Iterable[wire.Timed], words_per_second: float) -> None:
        self.head = head
        self._events = events
        self._pace = words_per_second
        self._closed = asyncio.Event()

    async def pump(self, sink: BodySink) -> Ending:
        loop = asyncio.get_running_loop()
        began = loop.time()
        for words, data in self._events:
            if sink.is_full:
                full_since = loop.time()
                await sink.drained()
                began += loop.time() - full_since
            await self._wait(began + words / self._pace - loop.time())
            if self._closed.is_set():
                return Ending.CUT
            if sink.feed(data):
                return Ending.ENOUGH
        return Ending.WHOLE

    def close(self) -> None:
        self._closed.set()

    async def _wait(self, seconds: float) -> None:
        """Until the next word is due, or the reply is closed; at least once around the loop, whatever the pace."""
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        try:
            async with asyncio.timeout(seconds):
                await self._closed.wait()
        except TimeoutError:
            pass


async def _read(body: bytes | AsyncIterator[bytes]) -> bytes:
    if isinstance(body, bytes):
        return body
    parts: list[bytes] = []
    size = 0
    async for part in body:
        size += len(part)
        if size > LARGEST_BODY:
            raise wire.RefusalError("The body is too large for the demo model.", code="body_too_large", status=413)
        parts.append(part)
    return b"".join(parts)
