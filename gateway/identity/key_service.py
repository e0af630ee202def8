"""Where keys are made, listed and revoked, for the admin API and the command line alike."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol
from uuid import UUID

import structlog

from gateway.errors import CallerError, NotAllowed, NotFound, TooManyKeys
from gateway.identity.key_cache import HINT_LENGTH, PREFIX, digest_of, new_secret
from gateway.identity.names import is_name
from gateway.model import ApiKey, Principal, Role
from gateway.settings.secret import Secret

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from gateway.ids import Ids

LATEST_EXPIRY = 253_402_300_799  # the end of the year 9999, the last that Python's dates know
MOST_MODELS = 1000
MOST_LISTED = 1000
MOST_OWN = 10  # in force at once, of those that a user has made
MOST_OWN_MADE = 100  # that would still be in force, had they not been revoked: making and revoking fills no table
log = structlog.get_logger()


class KeyStore(Protocol):
    """The database's side; its verbs raise StoreUnavailable."""

    async def add(self, key: ApiKey, by: Principal) -> bool: ...

    async def visible(
        self, to: Principal, *, limit: int, user: str | None = None, before: UUID | None = None
    ) -> list[ApiKey]: ...

    async def revoke(self, key_id: UUID, by: Principal, at: float) -> ApiKey | None: ...

    async def add_own(self, key: ApiKey, by: Principal, *, most: int, most_made: int) -> bool: ...

    async def revoke_own(self, key_id: UUID, by: Principal, at: float) -> ApiKey | None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyOrder:
    """What is wanted of a new key."""

    user: str
    name: str
    title: str | None = None
    roles: frozenset[str] = frozenset()
    expires_at: float | None = None  # Unix time
    allowed_models: frozenset[str] | None = None


@dataclass(frozen=True, slots=True)
class NewKey:
    """The only place and time where the key itself is seen."""

    secret: Secret
    key: ApiKey


class KeyService:
    """Checks who may, and what is ordered. `changed` is awaited after each change, so that this process knows it; it
    must not fail, for by then the change is made. `own_life_s`: how long a key lasts that a user makes; 0: they make
    none."""

    def __init__(
        self,
        store: KeyStore,
        ids: Ids,
        changed: Callable[[], Awaitable[None]] | None = None,
        clock: Callable[[], float] = time.time,
        *,
        own_life_s: float = 0.0,
    ) -> None:
        self._store = store
        self._ids = ids
        self._changed = changed
        self._clock = clock
        self._own_life_s = own_life_s

    async def create(self, order: KeyOrder, by: Principal) -> NewKey:
        """Raises NotAllowed, CallerError, StoreUnavailable."""
        _require(by.is_admin, "only admins make keys")
        now = self._clock()
        _check(order, now)
        made = self._made(order, by, now)
        _require(await self._store.add(made.key, by), "only admins make keys")
        await self._tell_made(made.key)
        return made

    async def create_own(self, name: str, by: Principal) -> NewKey:
        """A key for who asks, which may use models and no more, for as long as the gateway allows and no longer than
        the credential it is asked with. Raises NotAllowed, CallerError, TooManyKeys, StoreUnavailable."""
        _require(self._own_life_s > 0, "this gateway makes no keys for its users")
        _require(by.may_make_keys, "this key makes no others for its user: log in, or ask an admin for one")
        now = self._clock()
        ends = [now + self._own_life_s] if by.ends_at is None else [now + self._own_life_s, by.ends_at]
        order = KeyOrder(
            user=by.user, name=name, title=by.title, expires_at=min(ends), allowed_models=by.allowed_models
        )
        _check(order, now)
        made = self._made(order, by, now)
        with_key = None if by.key_id is None else UUID(by.key_id)
        made = replace(made, key=replace(made.key, is_own=True, made_with=with_key))
        if not await self._store.add_own(made.key, by, most=MOST_OWN, most_made=MOST_OWN_MADE):
            raise TooManyKeys("you have made as many keys as one may have: revoke one, or wait until they expire")
        await self._tell_made(made.key)
        return made

    def _made(self, order: KeyOrder, by: Principal, now: float) -> NewKey:
        secret = new_secret()
        holder = Principal(
            user=order.user,
            title=order.title,
            roles=order.roles | {Role.USER.value},
            allowed_models=order.allowed_models,
        )
        key = ApiKey(
            id=self._ids.new(),
            digest=digest_of(secret.encode()),
            hint=secret[-HINT_LENGTH:],
            name=order.name,
            holder=holder,
            created_at=now,
            created_by=by.user,
            expires_at=order.expires_at,
        )
        return NewKey(Secret(secret), key)

    async def list_all(
        self, by: Principal, *, limit: int = MOST_LISTED, user: str | None = None, before: UUID | None = None
    ) -> Sequence[ApiKey]:
        """Everybody's, newest first. Raises NotAllowed, StoreUnavailable."""
        _require(by.is_admin or by.is_auditor, "only admins and auditors see everybody's keys")
        return await self._store.visible(by, limit=limit, user=user, before=before)

    async def list_own(
        self, by: Principal, *, limit: int = MOST_LISTED, before: UUID | None = None
    ) -> Sequence[ApiKey]:
        """The principal's own, newest first. Raises StoreUnavailable."""
        return await self._store.visible(by, limit=limit, user=by.user, before=before)

    async def revoke(self, key_id: UUID, by: Principal) -> ApiKey:
        """Raises NotAllowed, NotFound, StoreUnavailable."""
        _require(by.is_admin, "only admins revoke keys")
        return await self._revoked(await self._store.revoke(key_id, by, self._clock()), by)

    async def revoke_own(self, key_id: UUID, by: Principal) -> ApiKey:
        """One that its user has made; those that an admin made are an admin's to revoke. Raises NotFound,
        StoreUnavailable."""
        return await self._revoked(await self._store.revoke_own(key_id, by, self._clock()), by)

    async def _revoked(self, key: ApiKey | None, by: Principal) -> ApiKey:
        if key is None:
            raise NotFound("there is no key with this id")
        log.info("key revoked", key_id=str(key.id), user=key.holder.user, by=by.user)
        await self._tell()
        return key

    async def _tell_made(self, key: ApiKey) -> None:
        holder = key.holder
        log.info("key created", key_id=str(key.id), user=holder.user, roles=sorted(holder.roles), by=key.created_by)
        await self._tell()

    async def _tell(self) -> None:
        if self._changed is not None:
            await self._changed()


def shown(key: ApiKey) -> dict[str, Any]:
    """A key for people and programs, in the manner of OpenAI's admin API: times in whole Unix seconds."""
    holder = key.holder
    return {
        "object": "api_key",
        "id": str(key.id),
        "name": key.name,
        "redacted_value": f"{PREFIX.decode()}…{key.hint}",
        "user": holder.user,
        "title": holder.title,
        "roles": sorted(holder.roles),
        "allowed_models": None if holder.allowed_models is None else sorted(holder.allowed_models),
        "created_at": int(key.created_at),
        "created_by": key.created_by,
        "expires_at": _whole(key.expires_at),
        "last_used_at": _whole(key.last_used_at),
        "revoked_at": _whole(key.revoked_at),
        "revoked_by": key.revoked_by,
        "is_own": key.is_own,
    }


def _whole(seconds: float | None) -> int | None:
    return None if seconds is None else int(seconds)


def _require(is_allowed: bool, words: str) -> None:
    if not is_allowed:
        raise NotAllowed(words)


def _check(order: KeyOrder, now: float) -> None:
    if not is_name(order.user):
        raise _wrong("user", "must be a printable text of 1 to 256 characters without outer spaces")
    if not is_name(order.name):
        raise _wrong("name", "must be a printable text of 1 to 256 characters without outer spaces")
    if order.title is not None and not is_name(order.title):
        raise _wrong("title", "must be a printable text of 1 to 256 characters without outer spaces")
    if not order.roles <= set(Role):
        raise _wrong("roles", f"can be {', '.join(Role)}")
    if order.expires_at is not None and not now < order.expires_at <= LATEST_EXPIRY:
        raise _wrong("expires_at", "must lie in the future")
    models = order.allowed_models
    if models is not None and not (0 < len(models) <= MOST_MODELS and all(is_name(each) for each in models)):
        raise _wrong("allowed_models", "must name at least one model, or be left out")


def _wrong(param: str, words: str) -> CallerError:
    return CallerError(f"`{param}` {words}", param=param)
