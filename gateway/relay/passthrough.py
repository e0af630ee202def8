"""Sinks for answers that are not event streams: one buffers the whole body, one streams it through with a digest."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from gateway.transport.call import BodySink

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from gateway.relay.stream import AnswerRecord, RelayClient


class BufferSink(BodySink):
    """Holds a body until it is whole, up to `limit` bytes. Calls `on_first` with the first of them."""

    __slots__ = ("_limit", "_on_first", "_parts", "is_too_large", "size")

    is_full = False

    def __init__(self, limit: int, on_first: Callable[[], None] | None = None) -> None:
        self._limit = limit
        self._on_first = on_first
        self._parts: list[bytes] = []
        self.size = 0
        self.is_too_large = False

    def feed(self, data: bytes) -> bool:
        if not self.size and self._on_first is not None:
            self._on_first()
        self.size += len(data)
        self.is_too_large = self.size > self._limit
        if not self.is_too_large:
            self._parts.append(data)
        return self.is_too_large

    async def drained(self) -> None:
        """Returns at once: this sink is never full."""

    @property
    def body(self) -> bytes:
        return self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)


class Digest:
    """Size and SHA-256 of a body, and the body itself as long as it is at most `keep` bytes."""

    __slots__ = ("_hash", "_keep", "_kept", "size")

    def __init__(self, keep: int) -> None:
        self._hash = hashlib.sha256()
        self._keep = keep
        self._kept: list[bytes] = []
        self.size = 0

    def update(self, data: bytes) -> None:
        self.size += len(data)
        self._hash.update(data)
        if self.size <= self._keep:
            self._kept.append(data)
        else:
            self._kept.clear()

    @property
    def hexdigest(self) -> str:
        return self._hash.hexdigest()

    @property
    def body(self) -> bytes | None:
        """The body, or None when it was too large to keep."""
        return b"".join(self._kept) if self.size <= self._keep else None

    def over(self, parts: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """The same parts; each updates the digest as it passes."""
        return _DigestedParts(self, parts)


class _DigestedParts:
    """Iterates over parts and updates a digest. It is not a generator: the event loop closes an unfinished generator in
    a task of its own, some time later."""

    __slots__ = ("_digest", "_parts")

    def __init__(self, digest: Digest, parts: AsyncIterator[bytes]) -> None:
        self._digest = digest
        self._parts = aiter(parts)

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        part = await anext(self._parts)
        self._digest.update(part)
        return part


class PassthroughSink(BodySink):
    """Streams a body through. `last` holds back what shows the caller the end, until the record is written: the piece
    that meets the announced length, or a closing `[DONE]`. Other bodies end with the frame of the last chunk."""

    __slots__ = ("_client", "_expected", "_recording", "digest", "last")

    def __init__(self, client: RelayClient, recording: AnswerRecord, digest: Digest, expected: int | None) -> None:
        self._client = client
        self._recording = recording
        self._expected = expected  # bytes, as Content-Length announces them
        self.digest = digest
        self.last = b""

    @property
    def is_full(self) -> bool:
        return self._client.is_full

    async def drained(self) -> None:
        await self._client.drained()

    def feed(self, data: bytes) -> bool:
        if not self.digest.size:
            self._recording.first_token()
        self.digest.update(data)
        if self.last:
            self._client.write(self.last)
            self.last = b""
        if self.digest.size == self._expected or data[-16:].rstrip().endswith(b"[DONE]"):
            self.last = data
        else:
            self._client.write(data)
        return False
