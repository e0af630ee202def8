"""Opens connections to one origin: directly or through a proxy, with TLS where the URL says so."""

from __future__ import annotations

import asyncio
import ipaddress
import ssl
from socket import SOCK_STREAM
from typing import TYPE_CHECKING, TypeVar

from aiohappyeyeballs import start_connection

from gateway.errors import UpstreamStalled, UpstreamUnreachable
from gateway.transport.proxy import TunnelRequest

if TYPE_CHECKING:
    from collections.abc import Callable

    from gateway.transport.connection import Connection
    from gateway.transport.origin import Origin, Timeouts
    from gateway.transport.proxy import Proxy

NEXT_ADDRESS_SECONDS = 0.25  # a host's next address is tried beside a silent one (RFC 8305)

_Protocol = TypeVar("_Protocol", bound=asyncio.Protocol)


class Dialer:
    """Opens connections to one origin."""

    def __init__(self, origin: Origin, timeouts: Timeouts, proxy: Proxy | None = None) -> None:
        self._origin = origin
        self._timeouts = timeouts
        self._proxy = proxy
        self._tls = tls_context() if origin.is_tls else None
        self._proxy_tls = tls_context() if proxy is not None and proxy.is_tls else None

    async def open(self, new_connection: Callable[[], Connection]) -> Connection:
        """Raises UpstreamUnreachable, and UpstreamStalled for a proxy that does not answer."""
        netloc = self._origin.netloc
        try:
            if self._proxy is not None:
                return await self._open_by_proxy(self._proxy, new_connection)
            async with asyncio.timeout(self._timeouts.connect_s):
                _, connection = await _connect(new_connection, self._origin.host, self._origin.port, self._tls)
                return connection
        except TimeoutError as error:
            raise UpstreamUnreachable.at(f"no connection to {netloc} within {self._timeouts.connect_s:g} s") from error
        except OSError as error:  # ssl.SSLError and socket.gaierror are OSErrors
            raise UpstreamUnreachable.at(f"no connection to {netloc}: {error}") from error

    async def _open_by_proxy(self, proxy: Proxy, new_connection: Callable[[], Connection]) -> Connection:
        connect_s = self._timeouts.connect_s
        if self._tls is None:
            async with asyncio.timeout(connect_s):
                _, connection = await _connect(new_connection, proxy.host, proxy.port, self._proxy_tls)
                return connection
        request = proxy.connect_request(self._origin.host, self._origin.port)
        async with asyncio.timeout(connect_s):
            transport, tunnel = await _connect(lambda: TunnelRequest(request), proxy.host, proxy.port, self._proxy_tls)
        try:
            await self._tunnel_opened(tunnel)
            async with asyncio.timeout(connect_s):
                return await self._start_tls(transport, new_connection(), self._tls)
        except BaseException:
            transport.abort()
            raise

    async def _tunnel_opened(self, tunnel: TunnelRequest) -> None:
        head_s = self._timeouts.head_s
        try:
            async with asyncio.timeout(head_s):
                await tunnel.opened()
        except TimeoutError as error:
            raise UpstreamStalled(f"the proxy sent no answer within {head_s:g} s") from error

    async def _start_tls(self, transport: asyncio.Transport, connection: Connection, tls: ssl.SSLContext) -> Connection:
        """TLS with the origin inside of the tunnel. The loop does not call `connection_made` here."""
        loop = asyncio.get_running_loop()
        secured = await loop.start_tls(transport, connection, tls, server_hostname=self._origin.host)
        if secured is None:
            raise ConnectionError("the connection was lost during the TLS handshake")
        connection.connection_made(secured)
        return connection


async def _connect(
    new_protocol: Callable[[], _Protocol], host: str, port: int, tls: ssl.SSLContext | None
) -> tuple[asyncio.Transport, _Protocol]:
    loop = asyncio.get_running_loop()
    if _is_address(host):
        transport, protocol = await loop.create_connection(new_protocol, host, port, ssl=tls)
        return transport, protocol
    addresses = await loop.getaddrinfo(host, port, type=SOCK_STREAM)
    connected = await start_connection(addresses, happy_eyeballs_delay=NEXT_ADDRESS_SECONDS)
    name = host if tls is not None else None
    transport, protocol = await loop.create_connection(new_protocol, sock=connected, ssl=tls, server_hostname=name)
    return transport, protocol


def _is_address(host: str) -> bool:
    """Whether a host is an IP address, so that there is no name to resolve."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def tls_context() -> ssl.SSLContext:
    """Trusts the system's authorities, or those of the file that SSL_CERT_FILE names."""
    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])
    return context
