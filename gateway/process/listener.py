"""The listening socket: bound with a sentence when it cannot be, and closed without resetting whom it has let in."""

from __future__ import annotations

import errno
import socket
from typing import TYPE_CHECKING, Any

from gateway.errors import ServiceError

if TYPE_CHECKING:
    from gateway.settings import ServerSettings

BACKLOG = 4096
UNACKNOWLEDGED_MS = 120_000

_ADVICE = {
    errno.EADDRINUSE: "GATEWAY_PORT or --port chooses another port",
    errno.EACCES: "ports below 1024 need a privilege; GATEWAY_PORT or --port chooses another port",
}
_HOST_ADVICE = "GATEWAY_HOST or --host must name an address of this machine"


def bound(server: ServerSettings, *, reuse_port: bool = False) -> socket.socket:
    """A TCP socket bound to the configured address, not yet listening. A port whose connections are in TIME_WAIT is
    free. Raises ServiceError."""
    try:
        family, address = _resolved(server.host, server.port)
        return _bound(family, address, reuse_port=reuse_port)
    except OSError as error:
        advice = _HOST_ADVICE if isinstance(error, socket.gaierror) else _ADVICE.get(error.errno or 0, _HOST_ADVICE)
        raise ServiceError(
            f"cannot listen on {server.host}:{server.port}: {error.strerror or error} ({advice})"
        ) from error


def shared(server: ServerSettings) -> socket.socket:
    """A bound socket that never listens: it keeps the port for workers, and chooses one where any will do. Raises
    ServiceError, also when another program listens there that would share the port."""
    if server.port:
        bound(server).close()  # without SO_REUSEPORT it cannot be bound beside a listener
    return bound(server, reuse_port=True)


def accept_rest(listening: socket.socket) -> list[socket.socket]:
    """Accepts what the kernel has queued, and closes the socket: a queued connection would be reset otherwise."""
    listening.setblocking(False)
    accepted = []
    with listening:
        while True:
            try:
                accepted.append(listening.accept()[0])
            except BlockingIOError:
                return accepted
            except OSError as error:
                # Linux reports a connection that broke while it was queued here, too.
                if error.errno not in (errno.ECONNABORTED, errno.EPROTO, errno.EPERM):
                    return accepted


def _resolved(host: str, port: int) -> tuple[socket.AddressFamily, tuple[Any, ...]]:
    """An IPv4 address of the host where it has one."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    family, _, _, _, address = min(found, key=lambda each: each[0] != socket.AF_INET)
    return family, address


def _bound(family: socket.AddressFamily, address: tuple[Any, ...], *, reuse_port: bool) -> socket.socket:
    """What is set on it holds for every connection, without a system call for each."""
    made = socket.socket(family, socket.SOCK_STREAM)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if reuse_port:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            is_any = address[0] == "::" and socket.has_dualstack_ipv6()
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, not is_any)
        if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux: a peer that has vanished is noticed within this time
            made.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNACKNOWLEDGED_MS)
        made.bind(address)
    except BaseException:
        made.close()
        raise
    return made
