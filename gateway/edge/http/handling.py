"""A request whose handler runs, in the form that `in_flight` needs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.edge.http.aiohttp_private import close_after_response
from gateway.edge.http.request_keys import CONTEXT, FOLLOWED

if TYPE_CHECKING:
    from aiohttp import web

    from gateway.exchange.context import RequestContext


class HttpHandling:
    """Implements `in_flight.Handling` for a request of aiohttp's server."""

    __slots__ = ("_request",)

    def __init__(self, request: web.Request) -> None:
        self._request = request

    @property
    def context(self) -> RequestContext | None:
        return self._request.get(CONTEXT)

    @property
    def followed(self) -> RequestContext | None:
        return self._request.get(FOLLOWED)

    def close_after(self) -> None:
        """Close the connection after this answer; its head says so if it has not been sent."""
        close_after_response(self._request)
