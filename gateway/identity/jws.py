"""Signed tokens (RFC 7515, RFC 8725): what a token says of its own signature, and whether that holds. Pure."""

from __future__ import annotations

import re
from base64 import urlsafe_b64decode
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson
from joserfc.errors import JoseError
from joserfc.jws import JWSRegistry, deserialize_compact

from gateway.errors import NotAuthenticated
from gateway.identity.jwks import FAMILIES, LONGEST_KID

if TYPE_CHECKING:
    from joserfc._rfc7515.model import JWSAlgModel

    from gateway.identity.jwks import Key

LONGEST_TOKEN = 16 * 1024
LONGEST_HEADER = 4096
# What a token is for stands in `typ` (RFC 8725 section 3.11): a logout token of the same issuer is no access token.
TYPES = frozenset(("jwt", "at+jwt", "application/jwt", "application/at+jwt"))
_SHAPE = re.compile(rb"([A-Za-z0-9_-]+)\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*\Z")


class TokenHeader(NamedTuple):
    algorithm: str
    kid: str | None


def looks_like_token(credential: bytes) -> bool:
    """Three parts with dots between them. No key of this gateway has a dot, so none is taken for a token."""
    return credential.count(b".") == 2


def header_of(token: bytes, algorithms: frozenset[str]) -> TokenHeader:
    """How the token says that it is signed. Raises NotAuthenticated unless that is a way that may be taken."""
    if len(token) > LONGEST_TOKEN:
        raise invalid(f"is longer than {LONGEST_TOKEN} bytes")
    shape = _SHAPE.match(token)
    if shape is None:
        raise invalid("is no signed token")
    header = _json_of(shape[1])
    algorithm, kid, kind = header.get("alg"), header.get("kid"), header.get("typ", "JWT")
    if not isinstance(algorithm, str) or algorithm not in algorithms:
        raise invalid(f"is not signed by one of {', '.join(sorted(algorithms))}")
    if "crit" in header or "b64" in header:  # RFC 7515 section 4.1.11: what is not understood must be refused
        raise invalid("has a critical extension, which is not known here")
    if not isinstance(kind, str) or kind.lower() not in TYPES:
        raise invalid("is of a type that is not for access")
    if not (kid is None or (isinstance(kid, str) and len(kid) <= LONGEST_KID)):
        raise invalid("has an odd key id")
    return TokenHeader(algorithm, kid)


def payload_of(token: bytes, header: TokenHeader, key: Key) -> dict[str, Any]:
    """The claims, when the signature holds. Raises NotAuthenticated."""
    registry = _Registry(algorithms=(FULL_NAMES.get(header.algorithm, header.algorithm),), strict_check_header=False)
    registry.max_header_length = LONGEST_HEADER
    try:
        payload = deserialize_compact(token, key, registry=registry).payload
        claims = orjson.loads(payload)
    except (JoseError, ValueError, TypeError, RecursionError):
        raise invalid("has no valid signature of the issuer") from None
    if not isinstance(claims, dict):
        raise invalid("holds no claims")
    return claims


def invalid(what: str) -> NotAuthenticated:
    return NotAuthenticated(f"the token {what}", code="invalid_token")


FULL_NAMES = {name: family.crv for name, family in FAMILIES.items() if family.kty == "OKP" and family.crv is not None}


class _Registry(JWSRegistry):
    """Most issuers still say `EdDSA`, which RFC 9864 replaced by full names. With an Ed25519 key (no other is taken) it
    means Ed25519."""

    def get_alg(self, name: str) -> JWSAlgModel:
        return super().get_alg(FULL_NAMES.get(name, name))


def _json_of(part: bytes) -> dict[str, Any]:
    if len(part) > LONGEST_HEADER:
        raise invalid(f"has a header of more than {LONGEST_HEADER} bytes")
    try:
        header = orjson.loads(urlsafe_b64decode(part + b"=" * (-len(part) % 4)))
    except ValueError:
        raise invalid("has a header that cannot be read") from None
    if not isinstance(header, dict):
        raise invalid("has a header that cannot be read")
    return header
