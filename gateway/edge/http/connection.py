"""A caller's connection, below the handlers: what is no HTTP is told so in our shape, and the log never repeats it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import structlog
from aiohttp import web
from aiohttp.http_exceptions import LineTooLong
from aiohttp.web_protocol import RequestHandler, _ErrInfo

from gateway.edge.http.app_keys import IDS
from gateway.edge.http.errors import error_response, unexpected
from gateway.errors import GatewayError, HeadTooLarge, MalformedRequest

if TYPE_CHECKING:
    from gateway.ids import Ids
    from gateway.in_flight.in_flight import InFlight

LAST_CHANCE_S = 2.0  # an idle connection that is closed at the moment of its next request fails that request
LOOK_S = 0.02

log = structlog.get_logger()


class Runner(web.AppRunner):
    """Runs an application on connections of this kind."""

    async def _make_server(self) -> web.Server:
        return _Server(await super()._make_server(), self.app[IDS])

    async def drained(self, live: InFlight, seconds: float) -> bool:
        """Wait until all that runs has ended and all connections are closed; False when something still runs.

        A proxy may send its next request over a kept connection at any moment, and then does not try another gateway
        (nginx never repeats a POST): each idle connection stays open for one more request, for `LAST_CHANCE_S`."""
        clock = asyncio.get_running_loop().time
        end = clock() + seconds
        idle: dict[RequestHandler, float] = {}  # since when
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


class _Server(web.Server):
    """As the one that aiohttp made, but for its connections."""

    def __init__(self, made: web.Server, ids: Ids) -> None:
        super().__init__(
            made.request_handler,
            request_factory=made.request_factory,
            handler_cancellation=made.handler_cancellation,
            loop=made._loop,
            **made._kwargs,
        )
        self._ids = ids

    def __call__(self) -> RequestHandler:
        return CallerConnection(self._ids, self, loop=self._loop, **self._kwargs)


class CallerConnection(RequestHandler):
    __slots__ = ("_ids",)

    def __init__(self, ids: Ids, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self._ids = ids

    @property
    def is_idle(self) -> bool:
        """It waits for a request."""
        return self._waiter is not None and not self._waiter.done() and not self._messages

    def data_received(self, data: bytes) -> None:
        request = self._current_request
        super().data_received(data)
        if request is not None and self._messages:
            self._break_off(request)

    def _break_off(self, request: web.BaseRequest) -> None:
        """The body that is being read breaks its framing. aiohttp takes that for the next request, and lets this one
        wait for the rest of its body for ever; here it is told itself, and is the last one."""
        broken = self._messages[-1][0]
        is_whole = getattr(request.content, "_eof", True)  # `is_eof` would also ask whether it has been read
        if is_whole or not isinstance(broken, _ErrInfo):
            return
        self._messages.pop()
        self._lingering_time = 0.0  # nothing more can be read
        request.content.set_exception(_refusal(broken.exc, broken.message))

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
