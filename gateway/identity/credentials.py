"""Credentials of a request as bytes, with its headers and the peer's address."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

RawHeaders = tuple[tuple[bytes, bytes], ...]

CREDENTIAL_HEADERS = frozenset((b"authorization", b"x-api-key", b"api-key"))
_LENGTHS = frozenset((7, 9, 13))  # of the three names; most headers need no other comparison


class Credentials(NamedTuple):
    """Credentials of one request. Commas join repeated headers (RFC 9110 section 5.3); no key contains a comma."""

    authorization: bytes | None = None
    x_api_key: bytes | None = None
    api_key: bytes | None = None
    headers: RawHeaders = ()
    peer: str | None = None  # IP address; None: unknown, as for a Unix socket

    @classmethod
    def of(cls, headers: RawHeaders, peer: str | None) -> Credentials:
        """From raw headers. Bytes that are not UTF-8 stay bytes, so that no decoding fails later."""
        by_name: dict[bytes, bytes] = {}
        for name, value in headers:
            if len(name) in _LENGTHS:
                lower = name.lower()
                by_name[lower] = by_name[lower] + b", " + value if lower in by_name else value
        return cls(by_name.get(b"authorization"), by_name.get(b"x-api-key"), by_name.get(b"api-key"), headers, peer)

    @property
    def has_credential(self) -> bool:
        """Whether there is any, including an empty one or one of an unknown form."""
        return self.authorization is not None or self.x_api_key is not None or self.api_key is not None

    def candidates(self) -> list[bytes]:
        """Keys and tokens in their order of precedence, each once."""
        found = [] if self.authorization is None else [_bearer(self.authorization)]
        for value in (self.x_api_key, self.api_key):
            if value is not None and (stripped := value.strip()) not in found:
                found.append(stripped)
        return [each for each in found if each]

    def values(self, name: bytes) -> list[bytes]:
        """Values of the header `name`, given in lower case."""
        return values_of(self.headers, name)

    def __repr__(self) -> str:
        return f"Credentials(peer={self.peer!r}, has_credential={self.has_credential})"


def values_of(headers: Iterable[tuple[bytes, bytes]], name: bytes) -> list[bytes]:
    return [value.strip() for each, value in headers if len(each) == len(name) and each.lower() == name]


def _bearer(value: bytes) -> bytes:
    """The token of `Bearer …` (RFC 6750); empty for any other scheme."""
    scheme, _, token = value.strip().partition(b" ")
    return token.strip() if scheme.lower() == b"bearer" else b""
