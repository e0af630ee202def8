"""What a request shows of its caller: credentials and headers as bytes, and the address that they came from."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

RawHeaders = tuple[tuple[bytes, bytes], ...]

CREDENTIALS = frozenset((b"authorization", b"x-api-key", b"api-key"))
_LENGTHS = frozenset((7, 9, 13))  # of the three names below; most headers are told apart by this alone


class Credentials(NamedTuple):
    """Of one request. A header that came twice is joined by a comma (RFC 9110 section 5.3), which no key has."""

    authorization: bytes | None = None
    x_api_key: bytes | None = None
    api_key: bytes | None = None
    headers: RawHeaders = ()
    peer: str | None = None  # IP address; None: not known, as for a unix socket

    @classmethod
    def of(cls, headers: RawHeaders, peer: str | None) -> Credentials:
        """From raw headers: a byte that is no text stays what it is, instead of failing somewhere later."""
        shown: dict[bytes, bytes] = {}
        for name, value in headers:
            if len(name) in _LENGTHS:
                lower = name.lower()
                shown[lower] = shown[lower] + b", " + value if lower in shown else value
        return cls(shown.get(b"authorization"), shown.get(b"x-api-key"), shown.get(b"api-key"), headers, peer)

    @property
    def has_credential(self) -> bool:
        """Whether there is one at all, be it empty or of no known form."""
        return self.authorization is not None or self.x_api_key is not None or self.api_key is not None

    def credentials(self) -> list[bytes]:
        """Keys and tokens, in the order in which they count, each once."""
        found = [] if self.authorization is None else [_bearer(self.authorization)]
        for value in (self.x_api_key, self.api_key):
            if value is not None and (stripped := value.strip()) not in found:
                found.append(stripped)
        return [each for each in found if each]

    def values(self, name: bytes) -> list[bytes]:
        """Of the header with this name, which is in lower case."""
        return values_of(self.headers, name)

    def __repr__(self) -> str:
        return f"Evidence(peer={self.peer!r}, has_credential={self.has_credential})"


def values_of(headers: Iterable[tuple[bytes, bytes]], name: bytes) -> list[bytes]:
    return [value.strip() for each, value in headers if len(each) == len(name) and each.lower() == name]


def _bearer(value: bytes) -> bytes:
    """The token of `Bearer …` (RFC 6750); nothing for any other scheme."""
    scheme, _, token = value.strip().partition(b" ")
    return token.strip() if scheme.lower() == b"bearer" else b""
