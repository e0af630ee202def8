"""What the claims of a token must say (RFC 7519, RFC 8725), and whom they make its bearer. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gateway.errors import NotAuthenticated
from gateway.identity.jws import invalid
from gateway.identity.names import RoleTable, is_name
from gateway.model import Principal

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gateway.settings import AuthSettings

Claims = dict[str, Any]


class ClaimRules:
    """The claims as the settings want them."""

    __slots__ = ("_audience", "_auth", "_roles")

    def __init__(self, auth: AuthSettings) -> None:
        self._auth = auth
        self._audience = frozenset(auth.audience)
        self._roles = RoleTable(auth)

    def check(self, claims: Claims, now: float) -> float:
        """The Unix time from which on the token counts no more. Raises NotAuthenticated unless it counts now."""
        auth = self._auth
        if claims.get("iss") != auth.issuer:
            raise invalid(f"is not of the issuer {auth.issuer}")
        audience = claims.get("aud")
        meant_for = audience if isinstance(audience, list) else [audience]
        if not any(isinstance(each, str) and each in self._audience for each in meant_for):
            raise invalid(f"is not meant for this gateway, whose audience is {', '.join(auth.audience)}")
        until = _time(claims, "exp", is_needed=True) + auth.leeway_s
        if now >= until:
            raise NotAuthenticated("the token has expired; get a new one", code="expired_token")
        for name in ("nbf", "iat"):
            if _time(claims, name, is_needed=False) > now + auth.leeway_s:
                raise invalid(f"is of the future (`{name}`)")
        return until

    def principal(self, claims: Claims) -> Principal:
        """Who the bearer is. Raises NotAuthenticated when the token does not say it."""
        name = self._auth.user_claim
        user, title = claim(claims, name), claim(claims, self._auth.title_claim)
        if not is_name(user):
            raise invalid(f"has no usable claim `{name}`, which is to name the user (GATEWAY_AUTH_USER_CLAIM)")
        if name == "email" and claims.get("email_verified", True) not in (True, "true"):
            # Who may choose an address freely at the issuer could choose a colleague's.
            raise invalid("has an email address that the issuer has not verified")
        groups = claim(claims, self._auth.groups_claim)
        listed = groups if isinstance(groups, list) else [groups]
        return Principal(
            user=user,
            title=title if is_name(title) else None,
            roles=self._roles.roles(each for each in listed if isinstance(each, str)),
        )


def claim(claims: Mapping[str, Any], name: str) -> object:
    """The claim of that name; else, with dots in the name, the member that it leads to (`realm_access.roles`)."""
    if name in claims:
        return claims[name]
    value: object = claims
    for part in name.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return value


def _time(claims: Claims, name: str, *, is_needed: bool) -> float:
    value = claims.get(name)
    if value is None and not is_needed:
        return 0.0
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise invalid(f"has no usable time `{name}`")
    return float(value)
