"""The caller's own keys over HTTP: everybody sees theirs, and makes some for a while where the gateway allows it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.edge.admin.keys import KEY_SERVICE, key_id, listed, page_of, refuse_unknown, text_of, told
from gateway.edge.http.callers import caller_of
from gateway.edge.http.params import read_object
from gateway.identity.key_service import to_wire

if TYPE_CHECKING:
    from aiohttp import web

FIELDS = frozenset(("name",))


async def list_own(request: web.Request) -> web.Response:
    """GET /keys?limit=&before=: the caller's own."""
    caller = await caller_of(request)
    limit, before = page_of(request)
    return listed(await request.app[KEY_SERVICE].list_own(caller, limit=limit + 1, before=before), limit)


async def create(request: web.Request) -> web.Response:
    """POST /keys. The key itself stands in `value`, in this answer only."""
    caller = await caller_of(request)
    body = await read_object(request)
    refuse_unknown(body, FIELDS)
    made = await request.app[KEY_SERVICE].create_own(text_of(body, "name") or "", caller)
    return told({**to_wire(made.key), "value": made.secret.reveal()}, status=201)


async def revoke(request: web.Request) -> web.Response:
    """DELETE /keys/{id}: one that the caller has made."""
    caller = await caller_of(request)
    return told(to_wire(await request.app[KEY_SERVICE].revoke_own(key_id(request), caller)))
