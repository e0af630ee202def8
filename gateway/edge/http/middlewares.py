"""The middleware around every request: id, error responses, one log line, one count."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, NamedTuple

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
_QUIET = frozenset(("/healthz", "/readyz", "/metrics"))  # probes call them every few seconds
UNKNOWN_ROUTE = "none"
log = structlog.get_logger()


class _Failure(NamedTuple):
    """The error of a request: message and code as the caller got them; `detail` replaces the message in the log."""

    message: str | None = None
    code: str | None = None
    detail: str | None = None


NO_FAILURE = _Failure()


@web.middleware
async def one_line_per_request(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Give the request an id, turn errors into responses, and write the canonical log line at the end."""
    started = time.perf_counter()
    app = request.app
    request[ID] = own = app[IDS].new()
    request[IS_DETACHED] = False  # a lookup that misses would raise a KeyError inside
    given = request.headers.get("x-request-id")
    request[REQUEST_ID] = request_id = given if given and _SANE_ID.match(given) else f"req_{own.hex}"
    response: web.StreamResponse | None = None
    failure = NO_FAILURE
    in_flight = app[IN_FLIGHT]
    task: asyncio.Task[object] | None = None
    try:
        task = in_flight.enter(HttpHandling(request))
        response = await handler(request)
    except GatewayError as error:
        failure = _failure_of(error)
        response = error_response(error)
        response.headers.update(policy_headers(request.get(CONTEXT)))
        _cut_if_begun(request)
    except web.HTTPException as error:
        if error.status < 400:
            raise
        known = of_http_exception(error, request)
        failure = _Failure(known.message, known.code)
        response = http_error_response(error, request)
    except Exception as error:  # the outermost loop: a bug of ours is logged, and the caller gets one form of error
        failure = _failure_of(error)
        log.exception("request failed", request_id=request_id, path=request.path)
        _cut_if_begun(request)
        response = unexpected()
    finally:
        if task is not None:
            in_flight.leave(task)
        if not request[IS_DETACHED]:
            _conclude(request, request_id, response, started, failure)
    if not response.prepared:
        response.headers["x-request-id"] = request_id
    return response


def _cut_if_begun(request: web.Request) -> None:
    """Abort the connection of a half-sent answer: it must not look whole, and no error response may follow it."""
    if request.transport is not None and request.writer.output_size:
        request.transport.abort()


def _conclude(
    request: web.Request,
    request_id: str,
    response: web.StreamResponse | None,
    started: float,
    failure: _Failure,
) -> None:
    """Count a request that is over, and write its canonical line."""
    context, path = request.get(CONTEXT), request.path
    status = response.status if response is not None else None
    _count(request, context, status, failure.code)
    if path in _QUIET and status == 200:
        return
    line = canonical_line(
        context,
        request_id=request_id,
        method=request.method,
        path=path,
        status=status,
        duration_ms=round((time.perf_counter() - started) * 1000, 1),
        error=failure.message,
    )
    if failure.detail is not None:
        line["error"] = failure.detail
    log.info(REQUEST, fields=line)


def _count(request: web.Request, context: RequestContext | None, status: int | None, code: str | None) -> None:
    resource = request.match_info.route.resource
    answer = context.recording.answer if context is not None and context.recording is not None else None
    route = resource.canonical if resource is not None else UNKNOWN_ROUTE
    request.app[METRICS].request_finished(route, request.method, status, answer, code)


def write_detached_line(request: web.Request, task: asyncio.Task[None]) -> None:
    """Write the line of a request when its answer is over: the caller has left, and the answer goes on."""
    request[IS_DETACHED] = True
    started = time.perf_counter()

    def write(done: asyncio.Task[None]) -> None:
        error = None if done.cancelled() else done.exception()
        _conclude(request, request[REQUEST_ID], None, started, _failure_of(error))

    task.add_done_callback(write)


def _failure_of(error: BaseException | None) -> _Failure:
    if error is None:
        return NO_FAILURE
    if isinstance(error, GatewayError):
        return _Failure(error.message, error.code, error.detail)
    return _Failure(type(error).__name__, GatewayError.code)
