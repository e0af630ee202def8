"""A caller's connection, below the handlers. Answers malformed HTTP with our JSON error body."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import structlog
from aiohttp.http_exceptions import LineTooLong

from gateway.edge.http.aiohttp_private import ConnectionRunner, ServerConnection
from gateway.edge.http.app_keys import IDS
from gateway.edge.http.errors import error_response, unexpected
from gateway.errors import GatewayError, HeadTooLarge, MalformedRequest

if TYPE_CHECKING:
    from aiohttp import web

    from gateway.ids import Ids
    from gateway.in_flight.in_flight import InFlight

LAST_CHANCE_S = 2.0  # an idle connection that is closed at the moment of its next request fails that request
POLL_S = 0.02

log = structlog.get_logger()


class Runner(ConnectionRunner):
    """Runs the application on `CallerConnection`s."""

    def new_connection(self, server: web.Server, **options: Any) -> CallerConnection:
        return CallerConnection(self.app[IDS], server, **options)

    async def drained(self, in_flight: InFlight, seconds: float) -> bool:
        """Wait until all requests have ended and all connections are closed; False when a request still runs.

        A proxy may send its next request over an idle connection at any moment, and does not retry it when the
        connection closes (nginx never repeats a POST): each idle connection stays open for `LAST_CHANCE_S` more."""
        clock = asyncio.get_running_loop().time
        end = clock() + seconds
        idle: dict[CallerConnection, float] = {}  # since when
        while (now := clock()) < end:
            connections = self.server.connections if self.server is not None else []
            if not connections and in_flight.is_idle:
                return True
            idle = {
                each: idle.get(each, now) for each in connections if isinstance(each, CallerConnection) and each.is_idle
            }
            for connection, since in idle.items():
                if now - since > LAST_CHANCE_S:
                    connection.force_close()
            await asyncio.sleep(POLL_S)
        return in_flight.is_idle


class CallerConnection(ServerConnection):
    """A caller's connection: faults in HTTP get our JSON error body, and the log does not repeat the request."""

    __slots__ = ("_ids",)

    def __init__(self, ids: Ids, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self._ids = ids

    def framing_error(self, exc: BaseException, message: str | None) -> GatewayError:
        return _refusal(exc, message)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Replaces aiohttp's handler, which answers in plain text and logs what it could not parse, keys included."""
        request_id = f"req_{self._ids.new().hex}"
        if status >= 500:
            log.error("request failed", request_id=request_id, exc_info=exc)
        if request.writer.output_size > 0:
            raise ConnectionError("the response has begun already")
        error = _refusal(exc, message) if status < 500 else None
        response = error_response(error) if error is not None else unexpected()
        response.headers["x-request-id"] = request_id
        response.force_close()
        reason = error.message if error is not None else None
        log.info("request", request_id=request_id, status=response.status, remote=request.remote, error=reason)
        return response


def _refusal(exc: BaseException | None, message: str | None) -> GatewayError:
    """The error with the parser's reason, without its quotation of the request after a colon or in the next line."""
    reason = (message or "").partition("\n")[0].partition(":")[0].strip(" .") or "it cannot be parsed"
    text = f"this is not a request of HTTP: {reason}"
    is_large = isinstance(exc, LineTooLong) or reason.startswith("Too many headers")
    return HeadTooLarge(text) if is_large else MalformedRequest(text)
