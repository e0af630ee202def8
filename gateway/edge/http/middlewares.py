"""Around every request: its id, its one log line, and errors in one shape."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING

import structlog
from aiohttp import web

from gateway.edge.http.app_keys import IDS, IN_FLIGHT, METRICS
from gateway.edge.http.errors import error_response, http_error_response, of_http_exception, unexpected
from gateway.edge.http.handling import HttpHandling
from gateway.edge.http.log_line import canonical_line
from gateway.edge.http.policy_headers import policy_headers
from gateway.edge.http.request_keys import CONTEXT, ID, IS_DETACHED, REQUEST_ID
from gateway.errors import GatewayError
from gateway.telemetry.logs import REQUEST

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Awaitable, Callable

    from gateway.exchange.context import RequestContext

    Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_SANE_ID = re.compile(r"[A-Za-z0-9._:/+=-]{1,128}\Z")
_QUIET = frozenset(("/healthz", "/readyz", "/metrics"))  # asked every few seconds by machines
UNKNOWN_ROUTE = "none"
log = structlog.get_logger()


@web.middleware
async def one_line_per_request(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Gives the request an id, turns errors into answers, and writes the canonical log line when all is over."""
    started = time.perf_counter()
    app = request.app
    request[ID] = own = app[IDS].new()
    request[IS_DETACHED] = False  # to miss it would raise a KeyError within
    given = request.headers.get("x-request-id")
    request[REQUEST_ID] = request_id = given if given and _SANE_ID.match(given) else f"req_{own.hex}"
    response: web.StreamResponse | None = None
    fault: str | None = None
    code: str | None = None
    detail: str | None = None
    live = app[IN_FLIGHT]
    task: asyncio.Task[object] | None = None
    try:
        task = live.enter(HttpHandling(request))
        response = await handler(request)
    except GatewayError as error:
        fault, code, detail = _told(error)
        response = error_response(error)
        response.headers.update(policy_headers(request.get(CONTEXT)))
        _cut_if_begun(request)
    except web.HTTPException as error:
        if error.status < 400:
            raise
        known = of_http_exception(error, request)
        fault, code = known.message, known.code
        response = http_error_response(error, request)
    except Exception as error:  # the outermost place: an error of ours is told in one shape, and logged
        fault, code, detail = _told(error)
        log.exception("request failed", request_id=request_id, path=request.path)
        _cut_if_begun(request)
        response = unexpected()
    finally:
        if task is not None:
            live.leave(task)
        if not request[IS_DETACHED]:
            _conclude(request, request_id, response, started, fault, code, detail)
    if not response.prepared:
        response.headers["x-request-id"] = request_id
    return response


def _cut_if_begun(request: web.Request) -> None:
    """A half-sent answer must not look whole, and no other may stand behind its part."""
    if request.transport is not None and request.writer.output_size:
        request.transport.abort()


def _conclude(
    request: web.Request,
    request_id: str,
    response: web.StreamResponse | None,
    started: float,
    fault: str | None,
    code: str | None,
    detail: str | None,
) -> None:
    """Count a request that is over, and write its canonical line."""
    context, path = request.get(CONTEXT), request.path
    status = response.status if response is not None else None
    _count(request, context, status, code)
    if path in _QUIET and status == 200:
        return
    line = canonical_line(
        context,
        request_id=request_id,
        method=request.method,
        path=path,
        status=status,
        duration_ms=round((time.perf_counter() - started) * 1000, 1),
        error=fault,
    )
    if detail is not None:
        line["error"] = detail
    log.info(REQUEST, fields=line)


def _count(request: web.Request, context: RequestContext | None, status: int | None, code: str | None) -> None:
    resource = request.match_info.route.resource
    answer = context.recording.answer if context is not None and context.recording is not None else None
    route = resource.canonical if resource is not None else UNKNOWN_ROUTE
    request.app[METRICS].answered(route, request.method, status, answer, code)


def write_detached_line(request: web.Request, task: asyncio.Task[None]) -> None:
    """The caller left, the answer goes on: its line is written when it is over, and its error is told there."""
    request[IS_DETACHED] = True
    started = time.perf_counter()

    def write(done: asyncio.Task[None]) -> None:
        error = None if done.cancelled() else done.exception()
        _conclude(request, request[REQUEST_ID], None, started, *_told(error))

    task.add_done_callback(write)


def _told(error: BaseException | None) -> tuple[str | None, str | None, str | None]:
    """What is told of an error, its code, and what the log says instead."""
    if error is None:
        return None, None, None
    if isinstance(error, GatewayError):
        return error.message, error.code, error.detail
    return type(error).__name__, GatewayError.code, None
