"""Answers that are no event streams: held until they are whole, or streamed through with their size and digest."""

from __future__ import annotations

import hashlib
import time
from typing import TYPE_CHECKING

from gateway.transport.call import BodySink

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from gateway.relay.stream import RelayClient


class BufferSink(BodySink):
    """Holds a body until it is whole, up to a limit."""

    __slots__ = ("_limit", "_parts", "first_at", "is_too_large", "size")

    is_full = False

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._parts: list[bytes] = []
        self.size = 0
        self.is_too_large = False
        self.first_at: float | None = None

    def feed(self, data: bytes) -> bool:
        if self.first_at is None:
            self.first_at = time.perf_counter()
        self.size += len(data)
        self.is_too_large = self.size > self._limit
        if not self.is_too_large:
            self._parts.append(data)
        return self.is_too_large

    async def drained(self) -> None:
        """It is never full."""

    @property
    def body(self) -> bytes:
        return self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)


class Digest:
    """Size and SHA-256 of a body that is not held, and the body itself as long as it is small."""

    __slots__ = ("_hash", "_keep", "_kept", "size")

    def __init__(self, keep: int) -> None:
        self._hash = hashlib.sha256()
        self._keep = keep  # bytes; more than these are not kept
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
        """The same parts, counted as they pass."""
        return _Counted(self, parts)


class _Counted:
    """No generator: one that is not read to its end would be closed by a task, some time later."""

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
    """Streams a body through. What would show the caller its end is held in `last` until the record is written: the
    piece that meets the announced length, or a closing `[DONE]`. Of other bodies the end is the last chunk's frame."""

    __slots__ = ("_client", "_expected", "digest", "first_at", "last")

    def __init__(self, client: RelayClient, digest: Digest, expected: int | None) -> None:
        self._client = client
        self._expected = expected
        self.digest = digest
        self.last = b""
        self.first_at: float | None = None

    @property
    def is_full(self) -> bool:
        return self._client.is_full

    async def drained(self) -> None:
        await self._client.drained()

    def feed(self, data: bytes) -> bool:
        if self.first_at is None:
            self.first_at = time.perf_counter()
        self.digest.update(data)
        if self.last:
            self._client.write(self.last)
            self.last = b""
        if self.digest.size == self._expected or data[-16:].rstrip().endswith(b"[DONE]"):
            self.last = data
        else:
            self._client.write(data)
        return False
