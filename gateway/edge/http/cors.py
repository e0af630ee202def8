"""CORS for the origins that the settings name.

A page of another origin sends a key that its user entered. Cookies are never accepted, so credentials are not allowed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_METHODS = "GET, POST, PUT, PATCH, DELETE"
_HEADERS = "Authorization, Content-Type, X-Api-Key, Api-Key, X-Conversation-Id, X-Request-Id"
_EXPOSED = "x-request-id, x-interaction-id, x-conversation-id, x-policy-outcome, x-policy-rule, Retry-After, Link"
_MAX_AGE_S = 600  # a browser caches a preflight for so long


def allow_origins(app: web.Application, origins: tuple[str, ...]) -> None:
    """Answers CORS requests of pages of these origins. Without origins nothing changes: browsers refuse all pages."""
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
            "Access-Control-Max-Age": str(_MAX_AGE_S),
        }
        if request.headers.get("Access-Control-Request-Private-Network") == "true":
            headers["Access-Control-Allow-Private-Network"] = (
                "true"  # a public page calls a gateway in a private network
            )
        return web.Response(status=204, headers=headers)

    async def add_headers(request: web.Request, response: web.StreamResponse) -> None:
        response.headers.add("Vary", "Origin")
        origin = request.headers.get("Origin")
        if origin in known:
            response.headers["Access-Control-Allow-Origin"] = origin
            response.headers["Access-Control-Expose-Headers"] = _EXPOSED

    app.middlewares.insert(0, preflights)
    app.on_response_prepare.append(add_headers)
