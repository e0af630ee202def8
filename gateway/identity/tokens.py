"""The jwt mode: verifies tokens of the company's OpenID issuer, and caches them by digest until they expire."""

from __future__ import annotations

import time
from collections import OrderedDict
from dataclasses import replace
from hashlib import sha256
from typing import TYPE_CHECKING

from gateway.identity.claims import ClaimRules
from gateway.identity.jwks import KEY_TYPES
from gateway.identity.jws import parse_header, verified_claims

if TYPE_CHECKING:
    from collections.abc import Callable

    from gateway.identity.issuer import Issuer
    from gateway.model import Principal
    from gateway.settings import AuthSettings

MAX_CACHED = 20_000


class TokenVerifier:
    """Verifies tokens, with a cache of valid ones: a signature costs about as much as the rest of a request."""

    __slots__ = ("_algorithms", "_cache", "_clock", "_edition", "_issuer", "_max_cached", "_rules")

    def __init__(
        self,
        auth: AuthSettings,
        issuer: Issuer,
        clock: Callable[[], float] = time.time,
        *,
        max_cached: int = MAX_CACHED,
    ) -> None:
        key_types = {KEY_TYPES[name] for name in auth.algorithms}
        self._algorithms = frozenset(name for name, key_type in KEY_TYPES.items() if key_type in key_types)
        self._rules = ClaimRules(auth)
        self._issuer = issuer
        self._clock = clock
        self._max_cached = max_cached
        self._edition = issuer.edition
        self._cache: OrderedDict[bytes, tuple[Principal, float]] = OrderedDict()  # least recently used first

    async def principal(self, token: bytes) -> Principal:
        """The principal of the token. Raises NotAuthenticated, IdentityUnavailable."""
        self._issuer.refresh_if_old()
        self._forget_old_keys()
        digest = sha256(token).digest()
        cached = self._cache.get(digest)
        if cached is not None:
            if self._clock() < cached[1]:
                self._cache.move_to_end(digest)
                return cached[0]
            del self._cache[digest]
        return await self._verify(token, digest)

    async def _verify(self, token: bytes, digest: bytes) -> Principal:
        header = parse_header(token, self._algorithms)
        key = await self._issuer.key_for(header)
        self._forget_old_keys()  # no await from here on: the cached entry must be of these keys
        claims = verified_claims(token, header, key)
        expires_at = self._rules.check(claims, self._clock())
        principal = replace(self._rules.principal(claims), ends_at=expires_at, may_make_keys=True)
        self._cache[digest] = principal, expires_at
        if len(self._cache) > self._max_cached:
            self._cache.popitem(last=False)
        return principal

    def _forget_old_keys(self) -> None:
        """Empties the cache when the issuer's keys change: a withdrawn key no longer counts."""
        if self._issuer.edition != self._edition:
            self._cache.clear()
            self._edition = self._issuer.edition
