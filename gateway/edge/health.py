"""`/healthz` and `/ping`: the process lives. `/readyz`: it can do its work, and what is wrong when it cannot."""

from __future__ import annotations

from aiohttp import web

from gateway.edge.keys import LIVE, READINESS


async def healthz(request: web.Request) -> web.Response:
    return web.json_response({"status": "ok"})


async def ping(request: web.Request) -> web.Response:
    """The seed's sign of life."""
    return web.json_response({"message": "pong"})


async def readyz(request: web.Request) -> web.Response:
    """503 while a request would be refused: shutting down, or no room in the journal. Postgres away or not
    prepared is told, but does not count against it: the gateway serves on, and the journal keeps the records."""
    report = await request.app[READINESS].ask()
    is_draining = request.app[LIVE].is_draining
    is_ready = report.can_serve and not is_draining
    body = {"status": "ready" if is_ready else "not ready", "draining": is_draining, **report.checks}
    return web.json_response(body, status=200 if is_ready else 503)
