"""Error responses: OpenAI's JSON form, and the status of each error. The only module with statuses of errors."""

from __future__ import annotations

import orjson
from aiohttp import web

from gateway import errors
from gateway.edge.http.app_keys import SETTINGS
from gateway.edge.http.paths import PREFIX, lacks_prefix

# Subclasses before their base classes. `type` as in https://platform.openai.com/docs/guides/error-codes.
_STATUSES: tuple[tuple[type[errors.GatewayError], int, str], ...] = (
    (errors.HeadTooLarge, 431, "invalid_request_error"),
    (errors.BodyTooLarge, 413, "invalid_request_error"),
    (errors.BodyTooSlow, 408, "invalid_request_error"),
    (errors.UnsupportedMediaType, 415, "invalid_request_error"),
    (errors.UpgradeRequired, 426, "invalid_request_error"),
    (errors.NotAuthenticated, 401, "authentication_error"),
    (errors.NotAllowed, 403, "permission_error"),
    (errors.TooManyKeys, 409, "invalid_request_error"),
    (errors.NotFound, 404, "invalid_request_error"),
    (errors.NoAnswerYet, 404, "invalid_request_error"),
    (errors.AnswerNotWhole, 409, "invalid_request_error"),
    (errors.MethodNotAllowed, 405, "invalid_request_error"),
    (errors.CallerError, 400, "invalid_request_error"),
    (errors.PolicyRejected, 403, "policy_error"),
    (errors.UpstreamStalled, 504, "upstream_error"),
    (errors.UpstreamError, 502, "upstream_error"),
    (errors.Stopped, 409, "stopped"),
    (errors.NotConfigured, 501, "invalid_request_error"),
    (errors.ServiceError, 503, "server_error"),
)
# A retry cannot succeed; SDKs read x-should-retry before the status.
_FINAL = (errors.CallerError, errors.PolicyRejected, errors.NotConfigured, errors.Stopped)


def status_of(error: errors.GatewayError) -> tuple[int, str]:
    """HTTP status and OpenAI's `type` for an error."""
    return next(((status, kind) for cls, status, kind in _STATUSES if isinstance(error, cls)), (500, "server_error"))


def error_response(error: errors.GatewayError) -> web.Response:
    """The response for an error that occurred before anything was sent."""
    status, kind = status_of(error)
    headers = {"x-should-retry": "false"} if isinstance(error, _FINAL) else {"Retry-After": "1"}
    headers["X-Content-Type-Options"] = "nosniff"
    if status == 401:
        headers["WWW-Authenticate"] = "Bearer"  # required by RFC 9110 section 15.5.2
    elif status == 426:
        headers |= {
            "Upgrade": "HTTP/1.1",
            "Connection": "upgrade, close",
        }  # Upgrade is required by RFC 9110 section 15.5.22
    body = {"error": {"message": error.message, "type": kind, "param": error.param, "code": error.code}}
    response = web.Response(status=status, body=orjson.dumps(body), content_type="application/json", headers=headers)
    if status == 426:
        response.force_close()
    return response


def unexpected() -> web.Response:
    """The response for an unexpected exception; the log has its details, the caller gets none."""
    return error_response(errors.GatewayError("the gateway failed; the request id names the entry in its log"))


def http_error_response(error: web.HTTPException, request: web.Request) -> web.Response:
    """The response for an error of aiohttp's router or parser."""
    response = error_response(of_http_exception(error, request))
    if "Allow" in error.headers and response.status == 405:
        response.headers["Allow"] = error.headers["Allow"]
    return response


def of_http_exception(error: web.HTTPException, request: web.Request) -> errors.GatewayError:
    path = request.path
    if error.status in (404, 405) and lacks_prefix(path):
        return errors.NotFound(f"there is nothing at {path}: set the client's base URL to {_base_url(request)}")
    if error.status == 404:
        return errors.NotFound(f"there is nothing at {path}")
    if error.status == 405:
        return errors.MethodNotAllowed(f"{path} does not take this method")
    if error.status == 413:
        return errors.BodyTooLarge("the body is too large")
    return errors.CallerError(error.reason)


def _base_url(request: web.Request) -> str:
    """The base URL that an SDK needs: `server.public_url`, or the scheme and host of this request."""
    public = request.app[SETTINGS].server.public_url
    return (public.rstrip("/") if public else f"{request.scheme}://{request.host}") + PREFIX
