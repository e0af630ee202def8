"""The same interface on `aiohttp.ClientSession`: for bodies that are streamed up, and for ways through a company's proxy."""

from __future__ import annotations

from typing import TYPE_CHECKING

import aiohttp
from multidict import CIMultiDict

from gateway.errors import UpstreamGarbled, UpstreamStalled, UpstreamUnreachable
from gateway.upstream.provider import Call, Ending, Head, Reply, Sink

if TYPE_CHECKING:
    from gateway.upstream.origin import Origin, Patience

MAX_LINE_BYTES = 64 * 1024


class SessionReply(Reply):
    """An answer on a `ClientResponse`."""

    __slots__ = ("_response", "head")

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response
        self.head = Head(response.status, tuple((name.lower(), value) for name, value in response.raw_headers))

    async def pump(self, sink: Sink) -> Ending:
        try:
            async for data in self._response.content.iter_any():
                if sink.feed(data):
                    return Ending.ENOUGH
                if sink.is_full:
                    await sink.drained()
        except TimeoutError:
            return Ending.STALLED
        except (aiohttp.ClientPayloadError, aiohttp.ClientConnectionError):
            return Ending.CUT
        finally:
            self.close()
        return Ending.WHOLE if self._is_framed else Ending.UNPROVED

    @property
    def _is_framed(self) -> bool:
        head = self.head
        return head.get(b"content-length") is not None or b"chunked" in (head.get(b"transfer-encoding") or b"")

    def close(self) -> None:
        """A response read to its end has given its connection back already; closing it then changes nothing."""
        self._response.close()


class Session:
    """One `ClientSession` towards one origin."""

    def __init__(self, origin: Origin, patience: Patience, proxy: str | None = None) -> None:
        self._origin = origin
        self._patience = patience
        self._proxy = proxy
        self._session = aiohttp.ClientSession(
            auto_decompress=False,
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=patience.idle_s),
            cookie_jar=aiohttp.DummyCookieJar(),
            max_field_size=MAX_LINE_BYTES,
            max_line_size=MAX_LINE_BYTES,
            skip_auto_headers=("User-Agent", "Content-Type"),
            timeout=aiohttp.ClientTimeout(
                total=None, sock_connect=patience.connect_s, sock_read=max(patience.head_s, patience.stall_s)
            ),
        )

    async def open(self, call: Call) -> Reply:
        """Send a call. Raises UpstreamUnreachable, UpstreamStalled, UpstreamGarbled, before the head."""
        headers = CIMultiDict(
            (name.decode("ascii"), value.decode()) for name, value in self._origin.headers(call) if value.isascii()
        )
        if call.content_length is not None:
            headers["Content-Length"] = str(call.content_length)
        try:
            response = await self._session.request(
                call.method,
                self._origin.url(call.path),
                data=call.body or None,
                headers=headers,
                allow_redirects=False,
                proxy=self._proxy,
            )
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            raise UpstreamUnreachable(f"no connection to {self._origin.netloc}: {error}") from error
        except TimeoutError as error:
            raise UpstreamStalled(f"the upstream sent no answer within {self._patience.head_s:g} s") from error
        except aiohttp.ClientResponseError as error:
            raise UpstreamGarbled(f"the upstream's answer is not HTTP: {error.message}") from error
        except aiohttp.ClientError as error:
            raise UpstreamUnreachable(f"the connection to {self._origin.netloc} broke: {error}") from error
        return SessionReply(response)

    async def aclose(self) -> None:
        await self._session.close()
