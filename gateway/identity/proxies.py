"""The header mode: a trusted proxy in front authenticates the user and names the user in headers."""

from __future__ import annotations

from ipaddress import IPv6Address, ip_address
from typing import TYPE_CHECKING

from gateway.errors import NotAuthenticated
from gateway.identity.names import MAX_NAME_LENGTH, RoleTable, is_name
from gateway.model import Principal

if TYPE_CHECKING:
    from gateway.identity.credentials import Credentials
    from gateway.settings import AuthSettings

MAX_CACHED_PEERS = 4096
MAX_GROUPS_LENGTH = 8192


class TrustedProxies:
    """The trusted proxies, by address. Headers from other addresses are ignored."""

    __slots__ = ("_groups", "_networks", "_roles", "_title", "_trusted_peers", "_user", "user_header")

    def __init__(self, auth: AuthSettings) -> None:
        self.user_header = auth.user_header
        self._user = auth.user_header.lower().encode()
        self._title = auth.title_header.lower().encode() if auth.title_header else None
        self._groups = auth.groups_header.lower().encode() if auth.groups_header else None
        self._networks = auth.trusted_networks
        self._roles = RoleTable(auth)
        self._trusted_peers: dict[str, bool] = {}

    @property
    def headers(self) -> frozenset[bytes]:
        """Names of the proxy's headers, in lower case."""
        return frozenset(name for name in (self._user, self._title, self._groups) if name is not None)

    def is_trusted(self, peer: str | None) -> bool:
        if peer is None:
            return False
        is_trusted = self._trusted_peers.get(peer)
        if is_trusted is None:
            if len(self._trusted_peers) >= MAX_CACHED_PEERS:
                self._trusted_peers.clear()
            is_trusted = self._trusted_peers[peer] = self._is_listed(peer)
        return is_trusted

    def _is_listed(self, peer: str) -> bool:
        try:
            address = ip_address(peer)
        except ValueError:
            return False
        if isinstance(address, IPv6Address):
            address = address.ipv4_mapped or address  # an IPv4 peer on a dual-stack listener
        return any(address in network for network in self._networks)

    def has_user_header(self, credentials: Credentials) -> bool:
        """Whether the request has the user header, from any address."""
        return bool(credentials.values(self._user))

    def principal(self, credentials: Credentials) -> Principal | None:
        """The user named by a trusted proxy; None if the peer is not one or names none. Raises NotAuthenticated."""
        if not self.is_trusted(credentials.peer):
            return None
        user = self._header_text(credentials, self._user)
        if user is None:
            return None
        groups = self._header_text(credentials, self._groups, MAX_GROUPS_LENGTH) or ""
        return Principal(
            user=user,
            title=self._header_text(credentials, self._title),
            roles=self._roles.roles(each.strip() for each in groups.split(",")),
            may_make_keys=True,
            is_ambient=True,
        )

    def _header_text(self, credentials: Credentials, header: bytes | None, limit: int = MAX_NAME_LENGTH) -> str | None:
        """The header's value; None if it is empty or missing. Raises NotAuthenticated."""
        values = credentials.values(header) if header is not None else []
        if header is None or not any(values):
            return None
        if len(values) > 1:  # one may be the caller's own, forwarded beside the proxy's, which may be empty
            raise self._invalid(header, "came more than once")
        try:
            text = values[0].decode()
        except UnicodeDecodeError:
            raise self._invalid(header, "has bytes that are not UTF-8") from None
        if not is_name(text, limit):
            raise self._invalid(header, f"has control characters or more than {limit} characters")
        return text

    def _invalid(self, header: bytes, reason: str) -> NotAuthenticated:
        return NotAuthenticated(f"the proxy's header {header.decode()} {reason}", code="invalid_proxy_header")
