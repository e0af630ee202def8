"""The gateway's own keys: how one is made, and the ring in memory by which its holder is known again. No I/O.

A key holds 256 random bits, so nobody finds it by trying, however quick the digest is: SHA-256 does. A slow password
hash is for secrets that people choose; here it would cost each request 50 ms, and let an attacker keep us busy.
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
ADMIN = Principal(user="admin", roles=frozenset(Role))  # makes no key for itself, which would outlive the settings' key


def new_secret() -> str:
    """A key as its holder gets it, once."""
    return PREFIX.decode() + secrets.token_urlsafe(RANDOM_BYTES)


def digest_of(secret: bytes) -> bytes:
    return sha256(secret).digest()


class _Held(NamedTuple):
    digest: bytes
    id: UUID
    principal: Principal
    expires_at: float


class KeyCache:
    """All keys that are not revoked. Reading it is the hot path; it is replaced as a whole."""

    __slots__ = ("_admin", "_clock", "_held", "_used")

    def __init__(self, clock: Callable[[], float] = time.time, *, admin: bytes | None = None) -> None:
        """`admin`: the digest of the settings' key, which counts whatever the database says."""
        self._admin = admin
        self._clock = clock
        self._held: dict[bytes, _Held] | None = None
        self._used: dict[UUID, float] = {}

    def __len__(self) -> int:
        return len(self._held or ())

    @property
    def is_loaded(self) -> bool:
        return self._held is not None

    def replace(self, keys: Iterable[ApiKey]) -> None:
        self._held = {
            key.digest[:INDEX_BYTES]: _Held(
                key.digest,
                key.id,
                replace(key.holder, key_id=str(key.id), ends_at=key.expires_at, may_make_keys=not key.is_own),
                float("inf") if key.expires_at is None else key.expires_at,
            )
            for key in keys
            if key.revoked_at is None
        }

    def principal(self, secret: bytes) -> Principal:
        """Whose key this is. Raises NotAuthenticated; IdentityUnavailable before the first load."""
        digest = digest_of(secret)
        if self._admin is not None and compare_digest(digest, self._admin):
            return ADMIN
        if len(secret) != KEY_LENGTH or not secret.startswith(PREFIX):
            raise NotAuthenticated(f"this is no key of this gateway; its keys begin with {PREFIX.decode()}")
        if self._held is None:
            raise IdentityUnavailable("keys cannot be checked now: the database has not been reached yet")
        # Half of the digest finds the entry, so that how long the search takes tells nothing of the other half.
        held = self._held.get(digest[:INDEX_BYTES])
        if held is None or not compare_digest(held.digest, digest):
            raise NotAuthenticated("this key is not known here; it may have been revoked")
        now = self._clock()
        if now >= held.expires_at:
            moment = datetime.fromtimestamp(held.expires_at, UTC)
            raise NotAuthenticated(f"this key expired on {moment:%Y-%m-%d %H:%M} UTC", code="expired_api_key")
        self._used[held.id] = now
        return held.principal

    def is_admin_key(self, secret: bytes) -> bool:
        return self._admin is not None and compare_digest(digest_of(secret), self._admin)

    def take_uses(self) -> dict[UUID, float]:
        """When which keys were last used, since the last time this was asked."""
        used, self._used = self._used, {}
        return used

    def put_back(self, uses: dict[UUID, float]) -> None:
        """Uses that could not be written; newer ones stand."""
        self._used = uses | self._used
