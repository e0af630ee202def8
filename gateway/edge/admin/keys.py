"""Admin endpoints for keys: admins create and revoke keys, auditors list all of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import UUID

import orjson
from aiohttp import web

from gateway.edge.http.callers import caller_of, not_allowed
from gateway.edge.http.params import read_object
from gateway.errors import CallerError, MalformedBody, NotFound
from gateway.identity.key_service import KeyService, KeySpec, to_wire
from gateway.identity.names import is_name

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gateway.model import ApiKey

KEY_SERVICE = web.AppKey("key service", KeyService)
FIELDS = frozenset(("user", "name", "title", "roles", "expires_at", "allowed_models"))
USUAL_LIMIT, MOST = 100, 1000


async def create(request: web.Request) -> web.Response:
    """POST /admin/keys: create a key. Only this response has the key itself, in `value`."""
    caller = await caller_of(request)
    if not caller.is_admin:  # before the body is read
        raise not_allowed(caller, "only admins create keys")
    made = await request.app[KEY_SERVICE].create(_order(await read_object(request)), caller)
    return json_response({**to_wire(made.key), "value": made.secret.reveal()}, status=201)


async def list_all(request: web.Request) -> web.Response:
    """GET /admin/keys?limit=&before=&user=: the keys of all users, newest first."""
    caller = await caller_of(request)
    if not (caller.is_admin or caller.is_auditor):
        raise not_allowed(caller, "only admins and auditors see everybody's keys")
    limit, before = page_of(request)
    user = request.query.get("user")
    if not (user is None or is_name(user)):
        raise CallerError("`user` is not a valid user name", param="user")
    keys = await request.app[KEY_SERVICE].list_all(caller, limit=limit + 1, user=user, before=before)
    return list_response(keys, limit)


async def revoke(request: web.Request) -> web.Response:
    """DELETE /admin/keys/{id}: revoke a key."""
    caller = await caller_of(request)
    if not caller.is_admin:
        raise not_allowed(caller, "only admins revoke keys")
    return json_response(to_wire(await request.app[KEY_SERVICE].revoke(key_id(request), caller)))


def key_id(request: web.Request) -> UUID:
    """The `{id}` of the path. Raises NotFound where it is not a UUID, as no key has such an id."""
    try:
        return UUID(request.match_info["id"])
    except ValueError as error:
        raise NotFound("there is no key with this id") from error


def refuse_unknown(body: dict[str, Any], known: frozenset[str]) -> None:
    """Raises CallerError for an unknown member: a misspelt `expires_at` must not create a key that never expires."""
    unknown = sorted(body.keys() - known)
    if unknown:
        name = ascii(unknown[0][:100]).strip("'")
        raise CallerError(f"`{name}` is not known here", code="unknown_field", param=name)


def _order(body: dict[str, Any]) -> KeySpec:
    refuse_unknown(body, FIELDS)
    roles, models = _texts(body, "roles"), _texts(body, "allowed_models")
    expires_at = body.get("expires_at")
    if expires_at is not None and (not isinstance(expires_at, int | float) or isinstance(expires_at, bool)):
        raise MalformedBody("`expires_at` must be a number: Unix time in seconds", param="expires_at")
    return KeySpec(
        user=text_of(body, "user") or "",
        name=text_of(body, "name") or "",
        title=text_of(body, "title"),
        roles=roles or frozenset(),
        expires_at=expires_at,
        allowed_models=models,
    )


def text_of(body: dict[str, Any], name: str) -> str | None:
    value = body.get(name)
    if value is not None and not isinstance(value, str):
        raise MalformedBody(f"`{name}` must be a string", param=name)
    return value


def _texts(body: dict[str, Any], name: str) -> frozenset[str] | None:
    value = body.get(name)
    if value is None:
        return None
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise MalformedBody(f"`{name}` must be a list of strings", param=name)
    return frozenset(value)


def page_of(request: web.Request) -> tuple[int, UUID | None]:
    given, before = request.query.get("limit", str(USUAL_LIMIT)), request.query.get("before")
    if not (given.isascii() and given.isdigit() and len(given) <= 4 and 1 <= int(given) <= MOST):
        raise CallerError(f"`limit` must be a number from 1 to {MOST}", param="limit")
    try:
        return int(given), None if before is None else UUID(before)
    except ValueError as error:
        raise CallerError("`before` must be the id of a key", param="before") from error


def list_response(keys: Sequence[ApiKey], limit: int) -> web.Response:
    """A page of keys; `keys` has one more than `limit` where there is a next page."""
    data = [to_wire(key) for key in keys[:limit]]
    last_id = data[-1]["id"] if data else None
    return json_response({"object": "list", "data": data, "last_id": last_id, "has_more": len(keys) > limit})


def json_response(body: dict[str, Any], status: int = 200) -> web.Response:
    headers = {"Cache-Control": "no-store"}
    return web.Response(status=status, body=orjson.dumps(body), content_type="application/json", headers=headers)
