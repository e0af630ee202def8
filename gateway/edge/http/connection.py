"""A caller's connection, below the handlers: what is no HTTP is told so in our shape, and the log never repeats it."""

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
LOOK_S = 0.02

log = structlog.get_logger()


class Runner(ConnectionRunner):
    """Runs the application on `CallerConnection`s."""

    def new_connection(self, server: web.Server, **options: Any) -> CallerConnection:
        return CallerConnection(self.app[IDS], server, **options)

    async def drained(self, live: InFlight, seconds: float) -> bool:
        """Wait until all that runs has ended and all connections are closed; False when something still runs.

        A proxy may send its next request over a kept connection at any moment, and then does not try another gateway
        (nginx never repeats a POST): each idle connection stays open for one more request, for `LAST_CHANCE_S`."""
        clock = asyncio.get_running_loop().time
        end = clock() + seconds
        idle: dict[CallerConnection, float] = {}  # since when
        while (now := clock()) < end:
            open_ones = self.server.connections if self.server is not None else []
            if not open_ones and live.is_idle:
                return True
            idle = {
                each: idle.get(each, now) for each in open_ones if isinstance(each, CallerConnection) and each.is_idle
            }
            for connection, since in idle.items():
                if now - since > LAST_CHANCE_S:
                    connection.force_close()
            await asyncio.sleep(LOOK_S)
        return live.is_idle


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
        """aiohttp's own answers in plain text, and logs what it could not parse, with the key that was in it."""
        request_id = f"req_{self._ids.new().hex}"
        if status >= 500:
            log.error("request failed", request_id=request_id, exc_info=exc)
        if request.writer.output_size > 0:
            raise ConnectionError("an answer has been begun already")
        error = _refusal(exc, message) if status < 500 else None
        response = error_response(error) if error is not None else unexpected()
        response.headers["x-request-id"] = request_id
        response.force_close()
        reason = error.message if error is not None else None
        log.info("request", request_id=request_id, status=response.status, remote=request.remote, error=reason)
        return response


def _refusal(exc: BaseException | None, message: str | None) -> GatewayError:
    """In the parser's words, without what it quotes: that stands behind a colon or in the next line."""
    reason = (message or "").partition("\n")[0].partition(":")[0].strip(" .") or "it cannot be parsed"
    told = f"this is not a request of HTTP: {reason}"
    is_large = isinstance(exc, LineTooLong) or reason.startswith("Too many headers")
    return HeadTooLarge(told) if is_large else MalformedRequest(told)
