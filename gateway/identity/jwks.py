"""An issuer's published keys (RFC 7517), sifted: only those by which an allowed signature can be checked. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from joserfc.errors import JoseError
from joserfc.jwk import ECKey, OKPKey, RSAKey
from joserfc.util import base64_to_int

from gateway.identity.names import is_name

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    Key = RSAKey | ECKey | OKPKey

MOST_KEYS = 100
LONGEST_KID = 512
LONGEST_NUMBER = 1366  # base64url of 8192 bits: a larger RSA key would take long to check
LEAST_RSA_BITS = 2048


class Family(NamedTuple):
    """Kind and curve of the keys that an algorithm works with. It is the key that decides: a token's `alg` only chooses
    among the keys of its own family, so that no key is ever used in another way than its own."""

    kty: str
    crv: str | None


FAMILIES: Mapping[str, Family] = {
    "EdDSA": Family("OKP", "Ed25519"),
    "Ed25519": Family("OKP", "Ed25519"),  # the same by its name of RFC 9864
    "ES256": Family("EC", "P-256"),
    "RS256": Family("RSA", None),
}
_IMPORTS: Mapping[str, tuple[type[Key], tuple[str, ...]]] = {
    "OKP": (OKPKey, ("crv", "x")),
    "EC": (ECKey, ("crv", "x", "y")),
    "RSA": (RSAKey, ("n", "e")),
}


class KeySet:
    """The keys of one issuer at one time."""

    __slots__ = ("_by_id", "_facts")

    def __init__(self, document: Mapping[str, Any], algorithms: tuple[str, ...]) -> None:
        """Raises ValueError when this is no key set; keys that cannot be used are left out."""
        listed = document.get("keys")
        if not isinstance(listed, list):
            raise ValueError("it has no list `keys`")  # noqa: TRY004
        families = {FAMILIES[name] for name in algorithms}
        self._by_id: dict[tuple[Family, str | None], Key] = {}
        self._facts: set[tuple[str | None, str]] = set()
        for each in listed[:MOST_KEYS]:
            for family, kid, key in _usable(each, families):
                self._by_id.setdefault((family, kid), key)
                self._facts.add((kid, key.thumbprint()))

    def __len__(self) -> int:
        return len(self._by_id)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, KeySet) and other._facts == self._facts

    __hash__ = None  # type: ignore[assignment]

    def find(self, algorithm: str, kid: str | None) -> Key | None:
        """The key that a token names; without a name, the only one that there is for the algorithm."""
        family = FAMILIES[algorithm]
        if kid is not None:
            return self._by_id.get((family, kid))
        fitting = [key for (each, _), key in self._by_id.items() if each == family]
        return fitting[0] if len(fitting) == 1 else None


def _usable(jwk: object, families: set[Family]) -> Iterator[tuple[Family, str | None, Key]]:
    if not isinstance(jwk, dict) or "d" in jwk:  # a private key that is published is everybody's
        return
    kty, crv, kid = jwk.get("kty"), jwk.get("crv"), jwk.get("kid")
    if not isinstance(kty, str) or kty not in _IMPORTS or not (kid is None or is_name(kid, LONGEST_KID)):
        return
    family = Family(kty, crv if kty != "RSA" and isinstance(crv, str) else None)
    if family not in families or not _is_for_signatures(jwk, family):
        return
    key = _imported(kty, jwk)
    if key is not None:
        yield family, kid, key


def _is_for_signatures(jwk: Mapping[str, Any], family: Family) -> bool:
    use, operations, algorithm = jwk.get("use", "sig"), jwk.get("key_ops", ["verify"]), jwk.get("alg")
    if use != "sig" or not isinstance(operations, list) or "verify" not in operations:
        return False
    return algorithm is None or (isinstance(algorithm, str) and FAMILIES.get(algorithm) == family)


def _imported(kty: str, jwk: Mapping[str, Any]) -> Key | None:
    """The key from its own numbers alone; whatever else stands beside them has no say."""
    cls, members = _IMPORTS[kty]
    numbers = {name: jwk.get(name) for name in members}
    if not all(isinstance(value, str) and len(value) <= LONGEST_NUMBER for value in numbers.values()):
        return None
    try:
        if kty == "RSA" and base64_to_int(str(numbers["n"])).bit_length() < LEAST_RSA_BITS:
            return None
        return cls.import_key({"kty": kty, **numbers})  # type: ignore[dict-item]  # they are texts, as just checked
    except (JoseError, ValueError, TypeError):
        return None
