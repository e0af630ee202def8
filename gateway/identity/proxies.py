"""The header mode: a proxy in front has logged the user in, and says in headers who it is."""

from __future__ import annotations

from ipaddress import IPv6Address, ip_address
from typing import TYPE_CHECKING

from gateway.errors import NotAuthenticated
from gateway.identity.names import LONGEST, RoleTable, is_name
from gateway.model import Principal

if TYPE_CHECKING:
    from gateway.identity.credentials import Credentials
    from gateway.settings import AuthSettings

REMEMBERED_PEERS = 4096
LONGEST_GROUPS = 8192


class Proxies:
    """The proxies that are believed. From any other address the headers are worth nothing."""

    __slots__ = ("_groups", "_networks", "_peers", "_roles", "_title", "_user", "user_header")

    def __init__(self, auth: AuthSettings) -> None:
        self.user_header = auth.user_header
        self._user = auth.user_header.lower().encode()
        self._title = auth.title_header.lower().encode() if auth.title_header else None
        self._groups = auth.groups_header.lower().encode() if auth.groups_header else None
        self._networks = auth.trusted_networks
        self._roles = RoleTable(auth)
        self._peers: dict[str, bool] = {}

    @property
    def headers(self) -> frozenset[bytes]:
        """Names, in lower case, of the headers in which a proxy speaks to this gateway."""
        return frozenset(name for name in (self._user, self._title, self._groups) if name is not None)

    def is_trusted(self, peer: str | None) -> bool:
        if peer is None:
            return False
        known = self._peers.get(peer)
        if known is None:
            if len(self._peers) >= REMEMBERED_PEERS:
                self._peers.clear()
            known = self._peers[peer] = self._is_listed(peer)
        return known

    def _is_listed(self, peer: str) -> bool:
        try:
            address = ip_address(peer)
        except ValueError:
            return False
        if isinstance(address, IPv6Address):
            address = address.ipv4_mapped or address  # an IPv4 peer on a listener for both
        return any(address in network for network in self._networks)

    def is_claimed(self, evidence: Credentials) -> bool:
        """Whether the header is there, from wherever."""
        return bool(evidence.values(self._user))

    def principal(self, evidence: Credentials) -> Principal | None:
        """Who a trusted proxy says it is; None when it is no trusted proxy or says nothing. Raises NotAuthenticated."""
        if not self.is_trusted(evidence.peer):
            return None
        user = self._text(evidence, self._user)
        if user is None:
            return None
        groups = self._text(evidence, self._groups, LONGEST_GROUPS) or ""
        return Principal(
            user=user,
            title=self._text(evidence, self._title),
            roles=self._roles.roles(each.strip() for each in groups.split(",")),
            may_make_keys=True,
            is_ambient=True,
        )

    def _text(self, evidence: Credentials, header: bytes | None, longest: int = LONGEST) -> str | None:
        """What the header says; None where it is empty or missing. Raises NotAuthenticated."""
        values = evidence.values(header) if header is not None else []
        if header is None or not any(values):
            return None
        if len(values) > 1:  # one of them may be the caller's own, passed on beside the proxy's, which may be empty
            raise self._refusal(header, "came more than once")
        try:
            text = values[0].decode()
        except UnicodeDecodeError:
            raise self._refusal(header, "has bytes that are not UTF-8") from None
        if not is_name(text, longest):
            raise self._refusal(header, f"has control characters or more than {longest} letters")
        return text

    def _refusal(self, header: bytes, reason: str) -> NotAuthenticated:
        return NotAuthenticated(f"the proxy's header {header.decode()} {reason}", code="invalid_proxy_header")
