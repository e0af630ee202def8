"""Signed tokens (RFC 7515, RFC 8725): parses the header and verifies the signature. Pure."""

from __future__ import annotations

import re
from base64 import urlsafe_b64decode
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson
from joserfc.errors import JoseError
from joserfc.jws import JWSRegistry, deserialize_compact

from gateway.errors import NotAuthenticated
from gateway.identity.jwks import KEY_TYPES, MAX_KID_LENGTH

if TYPE_CHECKING:
    from joserfc._rfc7515.model import JWSAlgModel

    from gateway.identity.jwks import Key

MAX_TOKEN_LENGTH = 16 * 1024
MAX_HEADER_LENGTH = 4096
# `typ` is the token's purpose (RFC 8725 section 3.11): a logout token of the same issuer is not an access token.
TYPES = frozenset(("jwt", "at+jwt", "application/jwt", "application/at+jwt"))
_COMPACT_FORM = re.compile(rb"([A-Za-z0-9_-]+)\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*\Z")


class TokenHeader(NamedTuple):
    algorithm: str
    kid: str | None


def looks_like_token(credential: bytes) -> bool:
    """Whether it has three parts separated by dots. The gateway's own keys contain no dot."""
    return credential.count(b".") == 2


def parse_header(token: bytes, algorithms: frozenset[str]) -> TokenHeader:
    """The token's algorithm and key id. Raises NotAuthenticated unless both are acceptable."""
    if len(token) > MAX_TOKEN_LENGTH:
        raise invalid_token(f"is longer than {MAX_TOKEN_LENGTH} bytes")
    match = _COMPACT_FORM.match(token)
    if match is None:
        raise invalid_token("is not a signed token")
    header = _header_from(match[1])
    algorithm, kid, token_type = header.get("alg"), header.get("kid"), header.get("typ", "JWT")
    if not isinstance(algorithm, str) or algorithm not in algorithms:
        raise invalid_token(f"is not signed by one of {', '.join(sorted(algorithms))}")
    if "crit" in header or "b64" in header:  # RFC 7515 section 4.1.11: refuse unknown critical extensions
        raise invalid_token("has an unknown critical extension")
    if not isinstance(token_type, str) or token_type.lower() not in TYPES:
        raise invalid_token("is not an access token by its type")
    if not (kid is None or (isinstance(kid, str) and len(kid) <= MAX_KID_LENGTH)):
        raise invalid_token("has an invalid key id")
    return TokenHeader(algorithm, kid)


def verified_claims(token: bytes, header: TokenHeader, key: Key) -> dict[str, Any]:
    """The claims, if the signature is valid. Raises NotAuthenticated."""
    registry = _Registry(algorithms=(FULL_NAMES.get(header.algorithm, header.algorithm),), strict_check_header=False)
    registry.max_header_length = MAX_HEADER_LENGTH
    try:
        payload = deserialize_compact(token, key, registry=registry).payload
        claims = orjson.loads(payload)
    except (JoseError, ValueError, TypeError, RecursionError):
        raise invalid_token("has no valid signature of the issuer") from None
    if not isinstance(claims, dict):
        raise invalid_token("contains no claims")
    return claims


def invalid_token(fault: str) -> NotAuthenticated:
    return NotAuthenticated(f"the token {fault}", code="invalid_token")


FULL_NAMES = {
    name: key_type.crv for name, key_type in KEY_TYPES.items() if key_type.kty == "OKP" and key_type.crv is not None
}


class _Registry(JWSRegistry):
    """Maps `EdDSA`, which most issuers still use, to `Ed25519` (RFC 9864). No other curve is accepted."""

    def get_alg(self, name: str) -> JWSAlgModel:
        return super().get_alg(FULL_NAMES.get(name, name))


def _header_from(part: bytes) -> dict[str, Any]:
    if len(part) > MAX_HEADER_LENGTH:
        raise invalid_token(f"has a header of more than {MAX_HEADER_LENGTH} bytes")
    try:
        header = orjson.loads(urlsafe_b64decode(part + b"=" * (-len(part) % 4)))
    except ValueError:
        raise invalid_token("has an unreadable header") from None
    if not isinstance(header, dict):
        raise invalid_token("has an unreadable header")
    return header
