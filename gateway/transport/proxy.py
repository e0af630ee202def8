"""An HTTP proxy on the way to an upstream: absolute-form requests, and CONNECT tunnels (RFC 9110 section 9.3.6)."""

from __future__ import annotations

import asyncio
import re
from base64 import b64encode
from dataclasses import dataclass
from typing import cast
from urllib.parse import unquote, urlsplit

MAX_ANSWER_BYTES = 64 * 1024  # of the proxy's answer to CONNECT
_STATUS_LINE = re.compile(rb"HTTP/1\.[01] ([0-9]{3})[ \r]")
_HEAD_END = b"\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Proxy:
    """Address and credentials of a proxy. `authorization` is the value of its Proxy-Authorization header."""

    is_tls: bool
    host: str
    port: int
    authorization: bytes | None = None

    @classmethod
    def of_url(cls, url: str) -> Proxy:
        """From a URL such as `http://user:password@proxy.example:3128`."""
        parts = urlsplit(url)
        is_tls = parts.scheme == "https"
        credentials = None
        if parts.username is not None:
            credentials = f"{unquote(parts.username)}:{unquote(parts.password or '')}".encode()
        return cls(
            is_tls=is_tls,
            host=parts.hostname or "",
            port=parts.port or (443 if is_tls else 80),
            authorization=None if credentials is None else b"Basic " + b64encode(credentials),
        )

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        """Headers for the proxy itself."""
        return [] if self.authorization is None else [(b"Proxy-Authorization", self.authorization)]

    def connect_request(self, host: str, port: int) -> bytes:
        """The request that asks for a tunnel to an origin."""
        authority = b"%b:%d" % ((f"[{host}]" if ":" in host else host).encode("ascii"), port)
        lines = [b"CONNECT %b HTTP/1.1" % authority, b"Host: %b" % authority]
        lines += [b"%b: %b" % header for header in self.headers]
        return b"\r\n".join(lines) + _HEAD_END


class TunnelRequest(asyncio.Protocol):
    """Sends CONNECT on a fresh connection to a proxy; `opened` returns once the proxy agrees."""

    def __init__(self, request: bytes) -> None:
        self._request = request
        self._answer = bytearray()
        self._opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        cast("asyncio.Transport", transport).write(self._request)

    async def opened(self) -> None:
        """Wait for the proxy's agreement. Raises ConnectionError."""
        await self._opened

    def data_received(self, data: bytes) -> None:
        self._answer += data
        if self._opened.done():
            return
        end = self._answer.find(_HEAD_END)
        if end < 0:
            if len(self._answer) > MAX_ANSWER_BYTES:
                self._fail("the head of the proxy's answer is too large")
            return
        status_line = _STATUS_LINE.match(self._answer)
        if status_line is None:
            self._fail("the proxy's answer is not HTTP")
        elif not status_line[1].startswith(b"2"):
            self._fail(f"the proxy answered {status_line[1].decode()}")
        elif len(self._answer) > end + len(_HEAD_END):  # a TLS server never speaks first
            self._fail("the proxy sent bytes into the tunnel before the gateway used it")
        else:
            self._opened.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail("the proxy closed the connection without an answer")

    def _fail(self, reason: str) -> None:
        if not self._opened.done():
            self._opened.set_exception(ConnectionError(reason))
            self._opened.exception()  # mark it as retrieved: a cancelled caller never awaits it
