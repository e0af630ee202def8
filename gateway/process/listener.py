"""The listening socket: bind errors with advice, and a close that resets no accepted connection."""

from __future__ import annotations

import errno
import socket
from typing import TYPE_CHECKING, Any

from gateway.errors import ServiceError

if TYPE_CHECKING:
    from gateway.settings import ServerSettings

BACKLOG = 4096
TCP_USER_TIMEOUT_MS = 120_000

_ADVICE = {
    errno.EADDRINUSE: "GATEWAY_PORT or --port chooses another port",
    errno.EACCES: "ports below 1024 need a privilege; GATEWAY_PORT or --port chooses another port",
}
_HOST_ADVICE = "GATEWAY_HOST or --host must name an address of this machine"


def bind_listener(server: ServerSettings, *, reuse_port: bool = False) -> socket.socket:
    """A TCP socket, bound to the configured address and not listening yet. Connections in TIME_WAIT do not block the
    port. Raises ServiceError."""
    try:
        family, address = _resolve(server.host, server.port)
        return _bind(family, address, reuse_port=reuse_port)
    except OSError as error:
        advice = _HOST_ADVICE if isinstance(error, socket.gaierror) else _ADVICE.get(error.errno or 0, _HOST_ADVICE)
        raise ServiceError(
            f"cannot listen on {server.host}:{server.port}: {error.strerror or error} ({advice})"
        ) from error


def reserve_port(server: ServerSettings) -> socket.socket:
    """A bound socket that never listens: it reserves the port for the workers, or picks a free port. Raises
    ServiceError, also if another program listens on the port and would share it."""
    if server.port:
        bind_listener(server).close()  # without SO_REUSEPORT, this fails beside another listener
    return bind_listener(server, reuse_port=True)


def accept_queued(listening: socket.socket) -> list[socket.socket]:
    """Accepts all queued connections and closes the socket. A close alone would reset them."""
    listening.setblocking(False)
    accepted = []
    with listening:
        while True:
            try:
                accepted.append(listening.accept()[0])
            except BlockingIOError:
                return accepted
            except OSError as error:
                # Linux also reports errors of a queued connection here.
                if error.errno not in (errno.ECONNABORTED, errno.EPROTO, errno.EPERM):
                    return accepted


def _resolve(host: str, port: int) -> tuple[socket.AddressFamily, tuple[Any, ...]]:
    """An address of the host, IPv4 if it has one."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    family, _, _, _, address = min(found, key=lambda each: each[0] != socket.AF_INET)
    return family, address


def _bind(family: socket.AddressFamily, address: tuple[Any, ...], *, reuse_port: bool) -> socket.socket:
    """Accepted connections inherit these options, without a system call for each."""
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if reuse_port:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            is_any = address[0] == "::" and socket.has_dualstack_ipv6()
            listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, not is_any)
        if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux: detects a vanished peer within this time
            listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, TCP_USER_TIMEOUT_MS)
        listening.bind(address)
    except BaseException:
        listening.close()
        raise
    return listening
