"""Creates, lists and revokes keys, for the admin API and the command line."""

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

LATEST_EXPIRY = 253_402_300_799  # end of the year 9999, the last year of Python's dates
MOST_MODELS = 1000
MAX_LISTED = 1000
MAX_OWN_KEYS = 10  # valid at once, created by one user
MAX_OWN_KEYS_CREATED = 100  # not expired, revoked ones included: create and revoke cannot fill the table
log = structlog.get_logger()


class KeyStore(Protocol):
    """The keys in the database. All methods raise StoreUnavailable."""

    async def add(self, key: ApiKey, by: Principal) -> bool: ...

    async def visible(
        self, to: Principal, *, limit: int, user: str | None = None, before: UUID | None = None
    ) -> list[ApiKey]: ...

    async def revoke(self, key_id: UUID, by: Principal, at: float) -> ApiKey | None: ...

    async def add_own(self, key: ApiKey, by: Principal, *, most: int, most_made: int) -> bool: ...

    async def revoke_own(self, key_id: UUID, by: Principal, at: float) -> ApiKey | None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class KeySpec:
    """Properties of a key to be created."""

    user: str
    name: str
    title: str | None = None
    roles: frozenset[str] = frozenset()
    expires_at: float | None = None  # Unix time
    allowed_models: frozenset[str] | None = None


@dataclass(frozen=True, slots=True)
class NewKey:
    """A created key with its secret, which is shown only now."""

    secret: Secret
    key: ApiKey


class KeyService:
    """Checks permissions and input, then changes keys in the store.

    `changed` is awaited after each change, so that this process reloads its keys; it must not raise. `own_life_s`:
    lifetime of the keys that users create for themselves; 0: users cannot create keys.
    """

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

    async def create(self, spec: KeySpec, by: Principal) -> NewKey:
        """Creates a key, as an admin. Raises NotAllowed, CallerError, StoreUnavailable."""
        _require(by.is_admin, "only admins create keys")
        now = self._clock()
        _check(spec, now)
        made = self._new_key(spec, by, now)
        _require(await self._store.add(made.key, by), "only admins create keys")
        await self._log_created(made.key)
        return made

    async def create_own(self, name: str, by: Principal) -> NewKey:
        """Creates a key for the caller, with the role user only. It expires after `own_life_s`, or with the credential
        of this request if that is earlier. Raises NotAllowed, CallerError, TooManyKeys, StoreUnavailable."""
        _require(self._own_life_s > 0, "users of this gateway cannot create keys")
        _require(by.may_make_keys, "this key cannot create other keys: log in, or ask an admin for a key")
        now = self._clock()
        ends = [now + self._own_life_s] if by.ends_at is None else [now + self._own_life_s, by.ends_at]
        spec = KeySpec(user=by.user, name=name, title=by.title, expires_at=min(ends), allowed_models=by.allowed_models)
        _check(spec, now)
        made = self._new_key(spec, by, now)
        with_key = None if by.key_id is None else UUID(by.key_id)
        made = replace(made, key=replace(made.key, is_own=True, made_with=with_key))
        if not await self._store.add_own(made.key, by, most=MAX_OWN_KEYS, most_made=MAX_OWN_KEYS_CREATED):
            raise TooManyKeys("you have the largest number of keys: revoke one, or wait until one expires")
        await self._log_created(made.key)
        return made

    def _new_key(self, spec: KeySpec, by: Principal, now: float) -> NewKey:
        secret = new_secret()
        holder = Principal(
            user=spec.user,
            title=spec.title,
            roles=spec.roles | {Role.USER.value},
            allowed_models=spec.allowed_models,
        )
        key = ApiKey(
            id=self._ids.new(),
            digest=digest_of(secret.encode()),
            hint=secret[-HINT_LENGTH:],
            name=spec.name,
            holder=holder,
            created_at=now,
            created_by=by.user,
            expires_at=spec.expires_at,
        )
        return NewKey(Secret(secret), key)

    async def list_all(
        self, by: Principal, *, limit: int = MAX_LISTED, user: str | None = None, before: UUID | None = None
    ) -> Sequence[ApiKey]:
        """Keys of all users, newest first. Raises NotAllowed, StoreUnavailable."""
        _require(by.is_admin or by.is_auditor, "only admins and auditors see everybody's keys")
        return await self._store.visible(by, limit=limit, user=user, before=before)

    async def list_own(self, by: Principal, *, limit: int = MAX_LISTED, before: UUID | None = None) -> Sequence[ApiKey]:
        """The caller's own keys, newest first. Raises StoreUnavailable."""
        return await self._store.visible(by, limit=limit, user=by.user, before=before)

    async def revoke(self, key_id: UUID, by: Principal) -> ApiKey:
        """Revokes a key, as an admin. Raises NotAllowed, NotFound, StoreUnavailable."""
        _require(by.is_admin, "only admins revoke keys")
        return await self._revoked(await self._store.revoke(key_id, by, self._clock()), by)

    async def revoke_own(self, key_id: UUID, by: Principal) -> ApiKey:
        """Revokes a key that the caller created; keys created by an admin need an admin. Raises NotFound,
        StoreUnavailable."""
        return await self._revoked(await self._store.revoke_own(key_id, by, self._clock()), by)

    async def _revoked(self, key: ApiKey | None, by: Principal) -> ApiKey:
        if key is None:
            raise NotFound("there is no key with this id")
        log.info("key revoked", key_id=str(key.id), user=key.holder.user, by=by.user)
        await self._notify()
        return key

    async def _log_created(self, key: ApiKey) -> None:
        holder = key.holder
        log.info("key created", key_id=str(key.id), user=holder.user, roles=sorted(holder.roles), by=key.created_by)
        await self._notify()

    async def _notify(self) -> None:
        if self._changed is not None:
            await self._changed()


def to_wire(key: ApiKey) -> dict[str, Any]:
    """The key as JSON, in the form of OpenAI's admin API: times in whole Unix seconds."""
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


def _require(is_allowed: bool, message: str) -> None:
    if not is_allowed:
        raise NotAllowed(message)


def _check(spec: KeySpec, now: float) -> None:
    if not is_name(spec.user):
        raise _invalid_param("user", "must be a printable text of 1 to 256 characters without outer spaces")
    if not is_name(spec.name):
        raise _invalid_param("name", "must be a printable text of 1 to 256 characters without outer spaces")
    if spec.title is not None and not is_name(spec.title):
        raise _invalid_param("title", "must be a printable text of 1 to 256 characters without outer spaces")
    if not spec.roles <= set(Role):
        raise _invalid_param("roles", f"can be {', '.join(Role)}")
    if spec.expires_at is not None and not now < spec.expires_at <= LATEST_EXPIRY:
        raise _invalid_param("expires_at", "must be in the future")
    models = spec.allowed_models
    if models is not None and not (0 < len(models) <= MOST_MODELS and all(is_name(each) for each in models)):
        raise _invalid_param("allowed_models", "must name at least one model, or be left out")


def _invalid_param(param: str, message: str) -> CallerError:
    return CallerError(f"`{param}` {message}", param=param)
