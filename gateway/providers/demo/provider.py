"""The built-in demo model: a provider without a network, so that the first run needs no key.

It answers as an upstream does: a head, then a body that is pumped into a sink at reading speed.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING
from uuid import uuid4

import orjson

from gateway.providers.demo import events, requests
from gateway.transport.call import Ending, Head, Provider, Reply

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable

    from gateway.settings import DemoSettings
    from gateway.transport.call import BodySink, Call

LARGEST_BODY = 32 * 1024 * 1024


class DemoProvider(Provider):
    """Answers chats from templates, and everything else with a 404."""

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
                    return self._whole(200, events.models(self._since))
                case "GET", "/models/demo":
                    return self._whole(200, events.model(self._since))
                case _:
                    raise requests.only_chats(call.method, path)
        except requests.RefusalError as refusal:
            return self._whole(refusal.status, refusal.body)

    async def aclose(self) -> None:
        """Nothing to do: the provider holds nothing open."""

    def _chat(self, body: bytes) -> Reply:
        request = requests.parse_chat(body)
        answer_id = events.AnswerId(f"chatcmpl-demo-{uuid4().hex}", int(self._clock()))
        if request.is_stream:
            return self._stream(events.completion_stream(request, answer_id))
        return self._whole(200, events.completion(request, answer_id))

    def _respond(self, body: bytes) -> Reply:
        request = requests.parse_response(body)
        answer_id = events.AnswerId(f"resp_demo_{uuid4().hex}", int(self._clock()))
        if request.is_stream:
            return self._stream(events.response_stream(request, answer_id))
        return self._whole(200, events.response(request, answer_id))

    def _whole(self, status: int, body: requests.Json) -> Reply:
        data = orjson.dumps(body)
        headers = ((b"content-type", b"application/json"), (b"content-length", b"%d" % len(data)))
        return DemoReply(Head(status, headers), [events.TimedBytes(0, data)], self._words_per_second)

    def _stream(self, timed: Iterable[events.TimedBytes]) -> Reply:
        headers = ((b"content-type", b"text/event-stream; charset=utf-8"), (b"cache-control", b"no-cache"))
        return DemoReply(Head(200, headers), timed, self._words_per_second)


class DemoReply(Reply):
    """An answer in words per second. Its clock stops while the sink is full, so a slow reader gets no burst later."""

    def __init__(self, head: Head, timed: Iterable[events.TimedBytes], words_per_second: float) -> None:
        self.head = head
        self._timed = timed
        self._pace = words_per_second
        self._closed = asyncio.Event()

    async def pump(self, sink: BodySink) -> Ending:
        loop = asyncio.get_running_loop()
        began = loop.time()
        for words, data in self._timed:
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
        """Wait until the next word is due or the reply is closed; yields to the event loop at least once."""
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
            raise requests.RefusalError("The body is too large for the demo model.", code="body_too_large", status=413)
        parts.append(part)
    return b"".join(parts)
