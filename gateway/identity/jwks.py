"""An issuer's published keys (RFC 7517), filtered: only those that can verify an allowed signature. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from joserfc.errors import JoseError
from joserfc.jwk import ECKey, OKPKey, RSAKey
from joserfc.util import base64_to_int

from gateway.identity.names import is_name

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    Key = RSAKey | ECKey | OKPKey

MAX_KEYS = 100
MAX_KID_LENGTH = 512
MAX_NUMBER_LENGTH = 1366  # base64url of 8192 bits: verification with a larger RSA key is slow
MIN_RSA_BITS = 2048


class KeyType(NamedTuple):
    """Type and curve of the keys that an algorithm uses. A token's `alg` selects only among the keys of its own type,
    so that no key is used with another algorithm (RFC 8725 section 3.1)."""

    kty: str
    crv: str | None


KEY_TYPES: Mapping[str, KeyType] = {
    "EdDSA": KeyType("OKP", "Ed25519"),
    "Ed25519": KeyType("OKP", "Ed25519"),  # the name of the same algorithm in RFC 9864
    "ES256": KeyType("EC", "P-256"),
    "RS256": KeyType("RSA", None),
}
_IMPORTERS: Mapping[str, tuple[type[Key], tuple[str, ...]]] = {
    "OKP": (OKPKey, ("crv", "x")),
    "EC": (ECKey, ("crv", "x", "y")),
    "RSA": (RSAKey, ("n", "e")),
}


class KeySet:
    """The keys of one issuer at one time."""

    __slots__ = ("_by_id", "_fingerprints")

    def __init__(self, document: Mapping[str, Any], algorithms: tuple[str, ...]) -> None:
        """Takes the usable keys of `document`, and skips the others. Raises ValueError if it is not a key set."""
        entries = document.get("keys")
        if not isinstance(entries, list):
            raise ValueError("it has no list `keys`")  # noqa: TRY004
        key_types = {KEY_TYPES[name] for name in algorithms}
        self._by_id: dict[tuple[KeyType, str | None], Key] = {}
        self._fingerprints: set[tuple[str | None, str]] = set()
        for each in entries[:MAX_KEYS]:
            for key_type, kid, key in _usable(each, key_types):
                self._by_id.setdefault((key_type, kid), key)
                self._fingerprints.add((kid, key.thumbprint()))

    def __len__(self) -> int:
        return len(self._by_id)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, KeySet) and other._fingerprints == self._fingerprints

    __hash__ = None  # type: ignore[assignment]

    def find(self, algorithm: str, kid: str | None) -> Key | None:
        """The key with this id; without an id, the only key for the algorithm."""
        key_type = KEY_TYPES[algorithm]
        if kid is not None:
            return self._by_id.get((key_type, kid))
        matching = [key for (each, _), key in self._by_id.items() if each == key_type]
        return matching[0] if len(matching) == 1 else None


def _usable(jwk: object, key_types: set[KeyType]) -> Iterator[tuple[KeyType, str | None, Key]]:
    if not isinstance(jwk, dict) or "d" in jwk:  # a published private key is known to everybody
        return
    kty, crv, kid = jwk.get("kty"), jwk.get("crv"), jwk.get("kid")
    if not isinstance(kty, str) or kty not in _IMPORTERS or not (kid is None or is_name(kid, MAX_KID_LENGTH)):
        return
    key_type = KeyType(kty, crv if kty != "RSA" and isinstance(crv, str) else None)
    if key_type not in key_types or not _is_for_signatures(jwk, key_type):
        return
    key = _imported(kty, jwk)
    if key is not None:
        yield key_type, kid, key


def _is_for_signatures(jwk: Mapping[str, Any], key_type: KeyType) -> bool:
    use, operations, algorithm = jwk.get("use", "sig"), jwk.get("key_ops", ["verify"]), jwk.get("alg")
    if use != "sig" or not isinstance(operations, list) or "verify" not in operations:
        return False
    return algorithm is None or (isinstance(algorithm, str) and KEY_TYPES.get(algorithm) == key_type)


def _imported(kty: str, jwk: Mapping[str, Any]) -> Key | None:
    """The key from its required members only; other members are ignored."""
    cls, members = _IMPORTERS[kty]
    numbers = {name: jwk.get(name) for name in members}
    if not all(isinstance(value, str) and len(value) <= MAX_NUMBER_LENGTH for value in numbers.values()):
        return None
    try:
        if kty == "RSA" and base64_to_int(str(numbers["n"])).bit_length() < MIN_RSA_BITS:
            return None
        return cls.import_key({"kty": kty, **numbers})  # type: ignore[dict-item]  # strings, as checked above
    except (JoseError, ValueError, TypeError):
        return None
