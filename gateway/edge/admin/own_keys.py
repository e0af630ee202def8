"""Endpoints for the caller's own keys: list them, and where the gateway allows it, create keys with a limited life."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.edge.admin.keys import KEY_SERVICE, json_response, key_id, list_response, page_of, refuse_unknown, text_of
from gateway.edge.http.callers import caller_of
from gateway.edge.http.params import read_object
from gateway.identity.key_service import to_wire

if TYPE_CHECKING:
    from aiohttp import web

FIELDS = frozenset(("name",))


async def list_own(request: web.Request) -> web.Response:
    """GET /keys?limit=&before=: the caller's own keys, newest first."""
    caller = await caller_of(request)
    limit, before = page_of(request)
    return list_response(await request.app[KEY_SERVICE].list_own(caller, limit=limit + 1, before=before), limit)


async def create(request: web.Request) -> web.Response:
    """POST /keys: create a key. Only this response has the key itself, in `value`."""
    caller = await caller_of(request)
    body = await read_object(request)
    refuse_unknown(body, FIELDS)
    made = await request.app[KEY_SERVICE].create_own(text_of(body, "name") or "", caller)
    return json_response({**to_wire(made.key), "value": made.secret.reveal()}, status=201)


async def revoke(request: web.Request) -> web.Response:
    """DELETE /keys/{id}: revoke a key that the caller has created."""
    caller = await caller_of(request)
    return json_response(to_wire(await request.app[KEY_SERVICE].revoke_own(key_id(request), caller)))
