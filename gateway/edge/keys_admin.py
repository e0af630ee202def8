"""Keys over HTTP: admins make and revoke them, auditors see them all, everybody sees their own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import UUID

import orjson
from aiohttp import web

from gateway.edge.bodies import parse_object, read_body
from gateway.edge.keys import SETTINGS
from gateway.edge.talks import caller_of
from gateway.errors import CallerError, MalformedBody, NotAllowed, NotFound, UnsupportedMediaType
from gateway.identity.names import is_name
from gateway.identity.office import KeyOffice, KeyOrder, shown

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gateway.model import ApiKey

KEY_OFFICE = web.AppKey("key office", KeyOffice)
FIELDS = frozenset(("user", "name", "title", "roles", "expires_at", "allowed_models"))
USUAL_LIMIT, MOST = 100, 1000


async def create(request: web.Request) -> web.Response:
    """POST /admin/keys. The key itself stands in `value`, in this answer only."""
    caller = await caller_of(request)
    if not caller.is_admin:  # before the body is looked at
        raise NotAllowed("only admins make keys")
    # Said, not guessed: a form on a strange site can send any text to us, but not this type without being asked first.
    if request.content_type != "application/json":
        raise UnsupportedMediaType("the body must be application/json")
    settings = request.app[SETTINGS]
    order = _order(parse_object(await read_body(request, settings), settings.server.max_depth))
    made = await request.app[KEY_OFFICE].create(order, caller)
    return _answer({**shown(made.key), "value": made.secret.reveal()}, status=201)


async def list_all(request: web.Request) -> web.Response:
    """GET /admin/keys?limit=&before=&user=, newest first."""
    caller = await caller_of(request)
    limit, before = _page(request)
    user = request.query.get("user")
    if not (user is None or is_name(user)):
        raise CallerError("`user` is no user's name", param="user")
    keys = await request.app[KEY_OFFICE].list_all(caller, limit=limit + 1, user=user, before=before)
    return _listed(keys, limit)


async def list_own(request: web.Request) -> web.Response:
    """GET /keys?limit=&before=: the caller's own."""
    caller = await caller_of(request)
    limit, before = _page(request)
    return _listed(await request.app[KEY_OFFICE].list_own(caller, limit=limit + 1, before=before), limit)


async def revoke(request: web.Request) -> web.Response:
    """DELETE /admin/keys/{id}."""
    caller = await caller_of(request)
    if not caller.is_admin:
        raise NotAllowed("only admins revoke keys")
    try:
        key_id = UUID(request.match_info["id"])
    except ValueError as error:
        raise NotFound("there is no key with this id") from error
    return _answer(shown(await request.app[KEY_OFFICE].revoke(key_id, caller)))


def _order(body: dict[str, Any]) -> KeyOrder:
    unknown = sorted(body.keys() - FIELDS)
    if unknown:  # a misspelt `expires_at` must not make a key that never expires
        name = ascii(unknown[0][:100]).strip("'")
        raise CallerError(f"`{name}` is not known here", code="unknown_field", param=name)
    roles, models = _texts(body, "roles"), _texts(body, "allowed_models")
    expires_at = body.get("expires_at")
    if expires_at is not None and (not isinstance(expires_at, int | float) or isinstance(expires_at, bool)):
        raise MalformedBody("`expires_at` must be a number: Unix time in seconds", param="expires_at")
    return KeyOrder(
        user=_text(body, "user") or "",
        name=_text(body, "name") or "",
        title=_text(body, "title"),
        roles=roles or frozenset(),
        expires_at=expires_at,
        allowed_models=models,
    )


def _text(body: dict[str, Any], name: str) -> str | None:
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


def _page(request: web.Request) -> tuple[int, UUID | None]:
    given, before = request.query.get("limit", str(USUAL_LIMIT)), request.query.get("before")
    if not (given.isascii() and given.isdigit() and len(given) <= 4 and 1 <= int(given) <= MOST):
        raise CallerError(f"`limit` must be a number from 1 to {MOST}", param="limit")
    try:
        return int(given), None if before is None else UUID(before)
    except ValueError as error:
        raise CallerError("`before` must be the id of a key", param="before") from error


def _listed(keys: Sequence[ApiKey], limit: int) -> web.Response:
    """A page of a list; one more key than fits was asked for, to tell whether there are more."""
    data = [shown(key) for key in keys[:limit]]
    last_id = data[-1]["id"] if data else None
    return _answer({"object": "list", "data": data, "last_id": last_id, "has_more": len(keys) > limit})


def _answer(body: dict[str, Any], status: int = 200) -> web.Response:
    headers = {"Cache-Control": "no-store"}
    return web.Response(status=status, body=orjson.dumps(body), content_type="application/json", headers=headers)
