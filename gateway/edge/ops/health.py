"""`/healthz` and `/ping`: the process lives. `/readyz`: it can do its work, and for operators what is wrong."""

from __future__ import annotations

from aiohttp import web

from gateway.edge.http.app_keys import IN_FLIGHT, READINESS
from gateway.edge.ops.operators import is_operator


async def healthz(request: web.Request) -> web.Response:
    return web.json_response({"status": "ok"})


async def ping(request: web.Request) -> web.Response:
    """The seed's sign of life."""
    return web.json_response({"message": "pong"})


async def readyz(request: web.Request) -> web.Response:
    """503 while a request would be refused: shutting down, or no room in the journal. Postgres away or not
    prepared is reported, but does not count against it: the gateway serves on, and the journal keeps the records.

    A probe gets one word. URLs, paths and faults are for those who may read /metrics."""
    report = request.app[READINESS].report()
    is_draining = request.app[IN_FLIGHT].is_draining
    is_ready = report.can_serve and not is_draining
    body: dict[str, object] = {"status": "ready" if is_ready else "not ready"}
    if await is_operator(request):
        body |= {"draining": is_draining, **report.checks}
    return web.json_response(body, status=200 if is_ready else 503, headers={"Cache-Control": "no-store"})
