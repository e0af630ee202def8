"""Replay buffer of a running stream: a client that joins late gets its events from the beginning, then the new ones."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from gateway.errors import NotFound
from gateway.exchange.client import Client

if TYPE_CHECKING:
    from gateway.errors import GatewayError
    from gateway.transport.call import Head

MOST_OF_ONE = 16 << 20  # bytes of one stream; about 60,000 tokens, each in an event of its own
MOST_OF_ALL = 64 << 20
TICKS = 8  # per heartbeat interval; the client measures silence by them


class MemoryBudget:
    """Bytes that the replay buffers of a process may hold together."""

    def __init__(self, most: int = MOST_OF_ALL) -> None:
        self._left = most

    def take(self, size: int) -> bool:
        if size > self._left:
            return False
        self._left -= size
        return True

    def give_back(self, size: int) -> None:
        self._left += size


class ReplayBuffer:
    """Whole events as they were sent. A stream that grows too large is dropped from it and cannot be joined."""

    __slots__ = ("_budget", "_error", "_followers", "_is_over", "_more", "_most", "_size", "is_lost", "text")

    def __init__(self, budget: MemoryBudget, most: int = MOST_OF_ONE) -> None:
        self._budget = budget
        self._most = most
        self._size = 0
        self._followers = 0
        self._more = asyncio.Event()
        self._is_over = False
        self._error: GatewayError | None = None
        self.text = bytearray()
        self.is_lost = False

    def add(self, block: bytes) -> None:
        if self.is_lost:
            return
        size = len(block)
        if self._size + size > self._most or not self._budget.take(size):
            self.is_lost = True
            self._release()
            self.text = bytearray()
        else:
            self._size += size
            self.text += block
        self._wake()

    def close(self, error: GatewayError | None = None) -> None:
        """End the stream. Followers get `error` if there was no event at all."""
        if not self._is_over:
            self._is_over = True
            self._error = error
            self._release()  # followers read the rest; no client joins any more
            self._wake()

    def _release(self) -> None:
        self._budget.give_back(self._size)
        self._size = 0

    def _wake(self) -> None:
        if self._followers:
            self._more.set()
            self._more = asyncio.Event()

    async def _wait(self, seconds: float) -> None:
        """Wait for an event, at most so many seconds."""
        try:
            async with asyncio.timeout(seconds):
                await self._more.wait()
        except TimeoutError:
            pass

    async def follow(self, client: Client, head: Head, heartbeat_s: float) -> None:
        """Send all events to a client that joined. Raises the error of a stream that ended before its first event."""
        self._followers += 1
        try:
            while not (self.text or self._is_over or self.is_lost):
                await self._wait(heartbeat_s)
            if self._error is not None:
                raise self._error
            if not self.text:
                raise NotFound("the answer cannot be joined; when it is over, it is found by its id")
            await client.start(head, is_events=True)
            await self._send(client, heartbeat_s)
        finally:
            self._followers -= 1

    async def _send(self, client: Client, heartbeat_s: float) -> None:
        at = 0
        while True:
            block = bytes(self.text[at:])
            if self.is_lost:
                return client.cut()  # the stream grew too large: a part must not look complete
            if block:
                at += len(block)
                client.write(block)
                if client.is_full:
                    await client.drained()
            elif self._is_over:
                return await client.end(b"")
            else:
                await self._wait(heartbeat_s / TICKS)
                client.tick(asyncio.get_running_loop().time())


class ReplayingClient(Client):
    """Passes a stream on to its caller and into the replay buffer."""

    __slots__ = ("_client", "_replay")

    def __init__(self, client: Client, replay: ReplayBuffer) -> None:
        self._client = client
        self._replay = replay

    @property
    def is_full(self) -> bool:
        return self._client.is_full

    def write(self, block: bytes) -> None:
        self._replay.add(block)
        self._client.write(block)

    async def drained(self) -> None:
        await self._client.drained()

    def tick(self, now: float) -> bool:
        return self._client.tick(now)

    @property
    def starts_at_once(self) -> bool:
        return self._client.starts_at_once

    def start_now(self, head: Head) -> bool:
        return self._client.start_now(head)

    def send_head(self) -> None:
        self._client.send_head()

    async def start(self, head: Head, *, is_events: bool) -> None:
        await self._client.start(head, is_events=is_events)

    async def end(self, last: bytes) -> None:
        self._replay.add(last)
        self._replay.close()
        await self._client.end(last)

    def cut(self) -> None:
        self._replay.close()
        self._client.cut()

    async def send(self, status: int, head: Head, body: bytes) -> None:
        await self._client.send(status, head, body)
