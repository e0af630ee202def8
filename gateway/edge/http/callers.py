"""Makes the `RequestContext` of an HTTP request, and the client for its caller."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.edge.http.app_keys import IDENTITY, LINKS, ORIGIN_CHECK, SETTINGS
from gateway.edge.http.paths import models_named
from gateway.edge.http.request_keys import CONTEXT, ID, REQUEST_ID
from gateway.edge.http.response import HttpClient
from gateway.errors import NotAllowed
from gateway.exchange.context import RequestContext
from gateway.identity.authenticators import LOCAL_ADMIN, LOCAL_USER
from gateway.identity.credentials import Credentials
from gateway.transport.origin import check_path

if TYPE_CHECKING:
    from aiohttp import web

    from gateway.model import Principal


async def caller_of(request: web.Request) -> Principal:
    """The caller. Raises NotAuthenticated; IdentityUnavailable if nobody can be identified now; NotAllowed if a page
    of another site may have made the caller's browser send the request."""
    app = request.app
    identity = app[IDENTITY]
    if identity.is_open_only:
        caller = LOCAL_USER
    else:
        caller = await identity.identify(Credentials.of(request.raw_headers, request.remote))
    if caller.is_ambient:
        app[ORIGIN_CHECK].check(request)
        cookies = request.headers.getall("Cookie", ())
        if cookies and caller is LOCAL_USER and app[LINKS].has_session("; ".join(cookies)):
            return LOCAL_ADMIN
    return caller


def not_allowed(caller: Principal, words: str, param: str | None = None) -> NotAllowed:
    """The error for a caller without the role; in open mode it explains how to get the role."""
    if caller is not LOCAL_USER:
        return NotAllowed(words, param=param)
    how = "open the link that the gateway prints when it starts, or a new one, which `llm-gateway open` prints"
    return NotAllowed(f"{words}; to be one here, {how}", code="link_needed", param=param)


def path_of(request: web.Request) -> str:
    """Path and query as the caller wrote them, also if the request line has a whole URL (RFC 9112, 3.2.2).

    Raises CallerError for a path that climbs."""
    path = request.raw_path
    if not path.startswith("/"):
        path = "/" + path.partition("://")[2].partition("/")[2]
    check_path(path.partition("?")[0])
    return path


async def open_context(request: web.Request, *, shows_ids: bool = False) -> RequestContext:
    """The context of a request whose body has not been read yet. Raises NotAuthenticated, CallerError."""
    path = path_of(request)
    headers = request.raw_headers
    app = request.app
    identity = app[IDENTITY]
    if identity.reads_proxy_headers or app[SETTINGS].upstream.pass_credentials:
        headers = identity.forwardable(headers)
    caller = await caller_of(request)
    context = RequestContext(
        id=request[ID],
        caller=caller,
        request_id=request[REQUEST_ID],
        method=request.method,
        path=path,
        headers=headers,
        content_type=request.headers.get("Content-Type"),
        query=path.partition("?")[2],
        further_models=models_named(path) if caller.allowed_models is not None else (),
        shows_ids=shows_ids,
    )
    request[CONTEXT] = context
    return context


def client_of(request: web.Request, context: RequestContext, **more: str) -> HttpClient:
    """The client that gets the answer of `context`, which may be another request's. `more` are further headers, with
    underscores for dashes."""
    server = request.app[SETTINGS].server
    headers = {"x-request-id": request[REQUEST_ID], "x-interaction-id": str(context.id)}
    for name, value in more.items():
        headers[name.replace("_", "-")] = value
    return HttpClient(request, headers, context, heartbeat_s=server.heartbeat_s, stall_s=server.client_stall_s)
