"""Framing of a request body that is sent while it arrives: Content-Length or chunked (RFC 9112 sections 6 and 7.1)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.errors import MalformedBody

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


class Upload:
    """A streamed body and its framing: `content_length` bytes, or chunked where the length is not known."""

    __slots__ = ("_is_chunked", "_left", "parts")

    def __init__(self, parts: AsyncIterator[bytes], content_length: int | None) -> None:
        self.parts = parts
        self._is_chunked = content_length is None
        self._left = content_length or 0

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
