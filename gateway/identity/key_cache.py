"""The gateway's own keys: creation, and the cache in memory that authenticates their holders. No I/O.

A key has 256 random bits, so that SHA-256 is enough: nobody can guess a key, however fast the digest is. A slow
password hash is for secrets that people choose; here it would cost 50 ms per request, and let an attacker keep the CPU
busy.
"""

from __future__ import annotations

import secrets
import time
from dataclasses import replace
from datetime import UTC, datetime
from hashlib import sha256
from hmac import compare_digest
from typing import TYPE_CHECKING, NamedTuple

from gateway.errors import IdentityUnavailable, NotAuthenticated
from gateway.model import Principal, Role

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from uuid import UUID

    from gateway.model import ApiKey

PREFIX = b"sk-gw-"
RANDOM_BYTES = 32
KEY_LENGTH = len(PREFIX) + 43  # 32 bytes in base64url
HINT_LENGTH = 4
INDEX_BYTES = 16
ADMIN = Principal(user="admin", roles=frozenset(Role))  # creates no own keys: they would outlive the settings' key


def new_secret() -> str:
    """A new key. Only its holder sees it, once."""
    return PREFIX.decode() + secrets.token_urlsafe(RANDOM_BYTES)


def digest_of(secret: bytes) -> bytes:
    return sha256(secret).digest()


class _CachedKey(NamedTuple):
    digest: bytes
    id: UUID
    principal: Principal
    expires_at: float


class KeyCache:
    """All keys that are not revoked. Look-ups are on the hot path; an update replaces all keys at once."""

    __slots__ = ("_admin", "_clock", "_keys", "_used")

    def __init__(self, clock: Callable[[], float] = time.time, *, admin: bytes | None = None) -> None:
        """`admin`: digest of GATEWAY_ADMIN_KEY, which is valid whatever the database contains."""
        self._admin = admin
        self._clock = clock
        self._keys: dict[bytes, _CachedKey] | None = None
        self._used: dict[UUID, float] = {}

    def __len__(self) -> int:
        return len(self._keys or ())

    @property
    def is_loaded(self) -> bool:
        return self._keys is not None

    def replace(self, keys: Iterable[ApiKey]) -> None:
        self._keys = {
            key.digest[:INDEX_BYTES]: _CachedKey(
                key.digest,
                key.id,
                replace(key.holder, key_id=str(key.id), ends_at=key.expires_at, may_make_keys=not key.is_own),
                float("inf") if key.expires_at is None else key.expires_at,
            )
            for key in keys
            if key.revoked_at is None
        }

    def principal(self, secret: bytes) -> Principal:
        """The holder of the key. Raises NotAuthenticated; IdentityUnavailable before the first load."""
        digest = digest_of(secret)
        if self._admin is not None and compare_digest(digest, self._admin):
            return ADMIN
        if len(secret) != KEY_LENGTH or not secret.startswith(PREFIX):
            raise NotAuthenticated(f"this is not a key of this gateway; its keys begin with {PREFIX.decode()}")
        if self._keys is None:
            raise IdentityUnavailable("keys cannot be checked now: the database has not been reached yet")
        # Look up by half of the digest: the time of the look-up reveals nothing about the other half.
        cached = self._keys.get(digest[:INDEX_BYTES])
        if cached is None or not compare_digest(cached.digest, digest):
            raise NotAuthenticated("this key is unknown here; it may have been revoked")
        now = self._clock()
        if now >= cached.expires_at:
            expired_at = datetime.fromtimestamp(cached.expires_at, UTC)
            raise NotAuthenticated(f"this key expired on {expired_at:%Y-%m-%d %H:%M} UTC", code="expired_api_key")
        self._used[cached.id] = now
        return cached.principal

    def is_admin_key(self, secret: bytes) -> bool:
        return self._admin is not None and compare_digest(digest_of(secret), self._admin)

    def drain_uses(self) -> dict[UUID, float]:
        """Times of last use (Unix) by key id, since the last call."""
        used, self._used = self._used, {}
        return used

    def restore_uses(self, uses: dict[UUID, float]) -> None:
        """Takes back uses that could not be written; newer uses win."""
        self._used = uses | self._used
