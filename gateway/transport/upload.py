"""Sends a request body while it arrives: framed by Content-Length or chunked (RFC 9112 sections 6 and 7.1)."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from gateway.errors import MalformedBody

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable


class Upload:
    """A streamed body and its framing: `content_length` bytes, or chunked where the length is not known.

    It runs in a task of its own, which takes no more from the source than the upstream takes.
    """

    __slots__ = ("_is_chunked", "_left", "_parts", "_task", "_writable", "is_awaiting_source", "paused_at")

    def __init__(self, parts: AsyncIterator[bytes], content_length: int | None) -> None:
        self._parts = parts
        self._is_chunked = content_length is None
        self._left = content_length or 0
        self._task: asyncio.Task[None] | None = None
        self._writable: asyncio.Future[None] | None = None  # while the transport's write buffer is full
        self.is_awaiting_source = True
        self.paused_at = 0.0  # on the event loop's clock

    def start(self, transport: asyncio.Transport, on_end: Callable[[Exception | None], None]) -> None:
        """Begin to send. `on_end` gets the error of the source, or None when the body is complete."""
        self._task = asyncio.get_running_loop().create_task(self._run(transport, on_end))

    def cancel(self) -> None:
        """Stop without a call of `on_end`."""
        if self._task is not None:
            self._task.cancel()

    def pause(self) -> None:
        """Write no more until `resume`."""
        loop = asyncio.get_running_loop()
        self._writable = loop.create_future()
        self.paused_at = loop.time()

    def resume(self) -> None:
        if self._writable is not None and not self._writable.done():
            self._writable.set_result(None)
        self._writable = None

    async def _run(self, transport: asyncio.Transport, on_end: Callable[[Exception | None], None]) -> None:
        try:
            await self._send(transport)
        except Exception as error:  # noqa: BLE001 (`on_end` raises it to the caller)
            on_end(error)
        else:
            on_end(None)

    async def _send(self, transport: asyncio.Transport) -> None:
        parts = aiter(self._parts)
        while True:
            self.is_awaiting_source = True
            part = await anext(parts, None)
            self.is_awaiting_source = False
            if part is None:
                break
            transport.write(self.framed(part))
            if self._writable is not None:
                await self._writable
        transport.write(self.end())

    def framed(self, part: bytes) -> bytes:
        """One part with its framing. Raises MalformedBody for a body longer than its Content-Length."""
        if self._is_chunked:
            return b"%x\r\n%b\r\n" % (len(part), part) if part else b""  # an empty chunk would end the body
        self._left -= len(part)
        if self._left < 0:  # the server would take the surplus for another request
            raise MalformedBody("the body is longer than its Content-Length")
        return part

    def end(self) -> bytes:
        """The bytes behind the last part. Raises MalformedBody for a body shorter than its Content-Length."""
        if self._is_chunked:
            return b"0\r\n\r\n"
        if self._left:
            raise MalformedBody("the body is shorter than its Content-Length")
        return b""
