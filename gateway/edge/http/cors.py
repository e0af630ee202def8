"""Pages of other origins that may call this gateway: those that the settings name, and no others.

A page elsewhere sends the key that its reader pasted; cookies never count, so none are asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_METHODS = "GET, POST, PUT, PATCH, DELETE"
_HEADERS = "Authorization, Content-Type, X-Api-Key, Api-Key, X-Conversation-Id, X-Request-Id"
_SHOWN = "x-request-id, x-interaction-id, x-conversation-id, x-policy-outcome, x-policy-rule, Retry-After, Link"
_ASKED_AGAIN_S = 600  # seconds for which a browser remembers what it may do


def allow_origins(app: web.Application, origins: tuple[str, ...]) -> None:
    """Let pages of these origins call. Without any, nothing is added: browsers then refuse all of them."""
    if not origins:
        return
    known = frozenset(origins)

    @web.middleware
    async def preflights(request: web.Request, handler: Handler) -> web.StreamResponse:
        is_preflight = request.method == "OPTIONS" and "Access-Control-Request-Method" in request.headers
        if not is_preflight or request.headers.get("Origin") not in known:
            return await handler(request)
        headers = {
            "Access-Control-Allow-Methods": _METHODS,
            "Access-Control-Allow-Headers": _HEADERS,
            "Access-Control-Max-Age": str(_ASKED_AGAIN_S),
        }
        if request.headers.get("Access-Control-Request-Private-Network") == "true":
            headers["Access-Control-Allow-Private-Network"] = "true"  # a public page that asks a gateway within
        return web.Response(status=204, headers=headers)

    async def mark(request: web.Request, response: web.StreamResponse) -> None:
        response.headers.add("Vary", "Origin")
        origin = request.headers.get("Origin")
        if origin in known:
            response.headers["Access-Control-Allow-Origin"] = origin
            response.headers["Access-Control-Expose-Headers"] = _SHOWN

    app.middlewares.insert(0, preflights)
    app.on_response_prepare.append(mark)
