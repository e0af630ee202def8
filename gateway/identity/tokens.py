"""The jwt mode: tokens of the company's OpenID issuer. Checked once each; then known by their digest until they end."""

from __future__ import annotations

import time
from collections import OrderedDict
from dataclasses import replace
from hashlib import sha256
from typing import TYPE_CHECKING

from gateway.identity.claims import ClaimRules
from gateway.identity.jwks import FAMILIES
from gateway.identity.jws import header_of, payload_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from gateway.identity.issuer import Issuer
    from gateway.model import Principal
    from gateway.settings import AuthSettings

MOST_REMEMBERED = 20_000


class Tokens:
    """Checks tokens, and remembers the good ones: a signature costs about as much as the rest of a request."""

    __slots__ = ("_algorithms", "_clock", "_edition", "_issuer", "_known", "_most", "_rules")

    def __init__(
        self,
        auth: AuthSettings,
        issuer: Issuer,
        clock: Callable[[], float] = time.time,
        *,
        most: int = MOST_REMEMBERED,
    ) -> None:
        families = {FAMILIES[name] for name in auth.algorithms}
        self._algorithms = frozenset(name for name, family in FAMILIES.items() if family in families)
        self._rules = ClaimRules(auth)
        self._issuer = issuer
        self._clock = clock
        self._most = most
        self._edition = issuer.edition
        self._known: OrderedDict[bytes, tuple[Principal, float]] = OrderedDict()  # least recently used first

    async def principal(self, token: bytes) -> Principal:
        """Whose token this is. Raises NotAuthenticated, IdentityUnavailable."""
        self._issuer.look_after()
        self._forget_withdrawn()
        digest = sha256(token).digest()
        known = self._known.get(digest)
        if known is not None:
            if self._clock() < known[1]:
                self._known.move_to_end(digest)
                return known[0]
            del self._known[digest]
        return await self._checked(token, digest)

    async def _checked(self, token: bytes, digest: bytes) -> Principal:
        header = header_of(token, self._algorithms)
        key = await self._issuer.key_for(header)
        self._forget_withdrawn()  # from here on no await, so that what is remembered below is of these keys
        claims = payload_of(token, header, key)
        until = self._rules.check(claims, self._clock())
        principal = replace(self._rules.principal(claims), ends_at=until, may_make_keys=True)
        self._known[digest] = principal, until
        if len(self._known) > self._most:
            self._known.popitem(last=False)
        return principal

    def _forget_withdrawn(self) -> None:
        """What a key has signed that the issuer no longer publishes counts no more."""
        if self._issuer.edition != self._edition:
            self._known.clear()
            self._edition = self._issuer.edition
