"""Checks a token's claims (RFC 7519, RFC 8725) and makes a principal of them. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gateway.errors import NotAuthenticated
from gateway.identity.jws import invalid_token
from gateway.identity.names import RoleTable, is_name
from gateway.model import Principal

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gateway.settings import AuthSettings

Claims = dict[str, Any]


class ClaimRules:
    """Rules for claims, from the settings."""

    __slots__ = ("_audience", "_auth", "_roles")

    def __init__(self, auth: AuthSettings) -> None:
        self._auth = auth
        self._audience = frozenset(auth.audience)
        self._roles = RoleTable(auth)

    def check(self, claims: Claims, now: float) -> float:
        """The Unix time at which the token expires. Raises NotAuthenticated if it is not valid now."""
        auth = self._auth
        if claims.get("iss") != auth.issuer:
            raise invalid_token(f"is not of the issuer {auth.issuer}")
        audience = claims.get("aud")
        audiences = audience if isinstance(audience, list) else [audience]
        if not any(isinstance(each, str) and each in self._audience for each in audiences):
            raise invalid_token(f"is not for this gateway, whose audience is {', '.join(auth.audience)}")
        until = _numeric_date(claims, "exp", is_needed=True) + auth.leeway_s
        if now >= until:
            raise NotAuthenticated("the token has expired; get a new one", code="expired_token")
        for name in ("nbf", "iat"):
            if _numeric_date(claims, name, is_needed=False) > now + auth.leeway_s:
                raise invalid_token(f"is not valid yet (`{name}`)")
        return until

    def principal(self, claims: Claims) -> Principal:
        """The token's user, title and roles. Raises NotAuthenticated for a token without a usable user."""
        name = self._auth.user_claim
        user, title = claim_value(claims, name), claim_value(claims, self._auth.title_claim)
        if not is_name(user):
            raise invalid_token(f"has no usable claim `{name}`, which names the user (GATEWAY_AUTH_USER_CLAIM)")
        if name == "email" and claims.get("email_verified", True) not in (True, "true"):
            # A user who may choose any address at the issuer could choose a colleague's.
            raise invalid_token("has an email address that the issuer has not verified")
        groups = claim_value(claims, self._auth.groups_claim)
        listed = groups if isinstance(groups, list) else [groups]
        return Principal(
            user=user,
            title=title if is_name(title) else None,
            roles=self._roles.roles(each for each in listed if isinstance(each, str)),
        )


def claim_value(claims: Mapping[str, Any], name: str) -> object:
    """The claim of that name; otherwise, a name with dots is a path (`realm_access.roles`)."""
    if name in claims:
        return claims[name]
    value: object = claims
    for part in name.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return value


def _numeric_date(claims: Claims, name: str, *, is_needed: bool) -> float:
    value = claims.get(name)
    if value is None and not is_needed:
        return 0.0
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise invalid_token(f"has no usable time `{name}`")
    return float(value)
