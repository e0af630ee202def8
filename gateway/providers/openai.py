"""An OpenAI-compatible upstream. It speaks the callers' dialect, so calls and answers pass unchanged."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol
from urllib.parse import urlsplit

import structlog
from msgspec.structs import replace

from gateway.transport.call import BodySink, Call, Ending, Head, Provider, Reply
from gateway.transport.pool import ConnectionPool
from gateway.transport.proxy import Proxy
from gateway.transport.redirects import is_redirect, relocated

if TYPE_CHECKING:
    from gateway.transport.call import RawHeaders
    from gateway.transport.origin import Origin, Timeouts


log = structlog.get_logger()


_BODY_HEADERS = frozenset((b"content-length", b"transfer-encoding", b"content-type", b"content-encoding"))


class RelocatedReply(Reply):
    """A redirect to one of the gateway's paths, or without a location. Its body is dropped: it may name an address."""

    def __init__(self, head: Head) -> None:
        headers = [header for header in head.headers if header[0] not in _BODY_HEADERS]
        self.head = Head(head.status, (*headers, (b"content-length", b"0")))

    async def pump(self, sink: BodySink) -> Ending:
        return Ending.WHOLE

    def close(self) -> None:
        """Nothing to do: the upstream's answer is closed already."""


class CallAuth(Protocol):
    """Credentials that differ from call to call: a signature, a token that expires. Fixed ones belong to the Origin."""

    async def headers(self, call: Call) -> RawHeaders:
        """The headers to add to this call. Raises UpstreamError."""
        ...


class OpenAICompatible(Provider):
    """Sends calls to one origin, through the proxy with the URL `proxy` where one is given."""

    def __init__(
        self, origin: Origin, timeouts: Timeouts, proxy: str | None = None, auth: CallAuth | None = None
    ) -> None:
        self.name = origin.netloc
        self._origin = origin
        self._auth = auth
        self.proxy = None if proxy is None else Proxy.of_url(proxy)
        self._connections = ConnectionPool(origin, timeouts, self.proxy)

    async def open(self, call: Call) -> Reply:
        if self._auth is not None:
            call = replace(call, headers=(*call.headers, *await self._auth.headers(call)))
        reply = await self._connections.open(call)
        head = relocated(reply.head, self._origin, call.path)
        if reply.head.status >= 300 and is_redirect(reply.head):
            return self._redirected(reply, head)
        reply.head = head
        return reply

    def _redirected(self, reply: Reply, head: Head) -> Reply:
        reply.close()
        if head.get(b"location") is None:
            host = _host_in(reply.head)
            log.warning("the upstream redirects elsewhere", status=head.status, host=host, upstream=self.name)
        return RelocatedReply(head)

    async def aclose(self) -> None:
        await self._connections.aclose()


def _host_in(head: Head) -> str | None:
    try:
        return urlsplit((head.get(b"location") or b"").decode("latin-1")).hostname
    except ValueError:
        return None
