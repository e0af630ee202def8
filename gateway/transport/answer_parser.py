"""Parses HTTP/1.1 answers on one connection by llhttp (`httptools`). No I/O."""

from __future__ import annotations

from typing import TYPE_CHECKING

import httptools

from gateway.transport.call import Head

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_HEAD_BYTES = 64 * 1024
# Consecutive bytes without body: a head, trailers, chunk extensions. Longer by one read, which may hold both.
MAX_FRAMING_BYTES = MAX_HEAD_BYTES + 256 * 1024
PARSER_ERRORS = (httptools.HttpParserError, httptools.HttpParserUpgrade)


class StrayBytes(Exception):
    """Bytes behind the end of an answer, which no request asked for."""


class AnswerParser:
    """Parses one answer after the other. The owner calls `feed` with each read, and takes `bodies` after it.

    `feed` raises PARSER_ERRORS. It is httptools' own method, so that a read costs no further call. `on_head` is called
    when the head is complete.
    """

    __slots__ = (
        "_headers",
        "_on_head",
        "_parser",
        "bodies",
        "fault",
        "feed",
        "framing",
        "head",
        "headers_only",
        "is_close_delimited",
        "is_complete",
        "is_reusable",
    )

    def __init__(self, on_head: Callable[[], None]) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self._on_head = on_head
        self.feed = self._parser.feed_data
        self.reset(headers_only=False)

    def reset(self, *, headers_only: bool) -> None:
        """Forget the last answer. `headers_only`: the next one answers a HEAD request."""
        self._headers: list[tuple[bytes, bytes]] = []
        self.head: Head | None = None
        self.bodies: list[bytes] = []  # of the read that is being parsed
        self.fault = ""
        self.framing = 0  # bytes since the last byte of body; the owner counts
        self.headers_only = headers_only
        self.is_close_delimited = False
        self.is_complete = False
        self.is_reusable = False

    # --- called by httptools -----------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        if self.is_complete:
            raise StrayBytes

    def on_header(self, name: bytes, value: bytes) -> None:
        if self.head is None:  # else it is a trailer, which is ignored
            self._headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if status < 200:  # 100 Continue, 103 Early Hints: the answer is still to come
            self._headers = []
            return
        if self.framing > MAX_HEAD_BYTES and sum(map(_size, self._headers)) > MAX_HEAD_BYTES:
            self.fault = "its head is too large"
            return
        self.head = Head(status, tuple(self._headers))
        self.is_reusable = self._parser.should_keep_alive()  # llhttp forgets this before `on_message_complete`
        self.is_close_delimited = self.headers_only or (  # llhttp expects a body after HEAD too
            status not in (204, 304)
            and self.head.get(b"content-length") is None
            and b"chunked" not in (self.head.get(b"transfer-encoding") or b"").lower()
        )
        self._on_head()

    def on_body(self, data: bytes) -> None:
        self.bodies.append(data)

    def on_message_complete(self) -> None:
        if self.head is not None:  # else it was a 1xx
            self.is_complete = True


def _size(header: tuple[bytes, bytes]) -> int:
    return len(header[0]) + len(header[1])
