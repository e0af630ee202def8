"""`/open`: the one-time link that a gateway in open mode prints at start. It opens report, live page, keys."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog
from aiohttp import web

from gateway.edge.http.app_keys import LINKS, ORIGIN_CHECK, PAGE, SETTINGS
from gateway.edge.ops.page import HEADERS
from gateway.errors import NotAllowed, NotFound, ServiceError
from gateway.identity.one_time_link import COOKIE, SESSION_S

if TYPE_CHECKING:
    from pathlib import Path

log = structlog.get_logger()


async def open_once(request: web.Request) -> web.Response:
    """GET /open?token=: exchange the token for a session cookie. For a used or expired link, a page explains it."""
    settings = request.app[SETTINGS]
    if not settings.auth.is_open:
        raise NotFound("there is nothing at /open: callers of this gateway log in")
    request.app[ORIGIN_CHECK].check_host(request)
    try:
        session = await asyncio.to_thread(request.app[LINKS].use, request.query.get("token", ""))
    except OSError as error:
        log.warning("a one-time link could not be used", error=str(error))
        raise ServiceError("the data directory takes no file, so that this link cannot be used now") from error
    if session is None:
        return await _refusal(request)
    log.info("a one-time link was used", remote=request.remote)
    response = web.Response(status=303, headers={**HEADERS, "Location": "live", "Cache-Control": "no-store"})
    is_https = (settings.server.public_url or "").startswith("https://")
    response.set_cookie(
        COOKIE, session, max_age=int(SESSION_S), path="/", httponly=True, samesite="Strict", secure=is_https
    )
    return response


async def _refusal(request: web.Request) -> web.Response:
    """The page for a used or expired link. Raises NotAllowed for programs, which cannot read a page."""
    if "text/html" not in request.headers.get("Accept", ""):
        raise NotAllowed("this link was used, or has ended: `llm-gateway open` prints a new one", code="link_used")
    page: Path = request.app[PAGE] / "open.html"
    body = await asyncio.to_thread(page.read_bytes)
    headers = {**HEADERS, "Cache-Control": "no-store"}
    return web.Response(status=403, body=body, content_type="text/html", charset="utf-8", headers=headers)
