"""`/healthz` and `/ping`: the process runs. `/readyz`: it can serve requests; operators see the reasons."""

from __future__ import annotations

from aiohttp import web

from gateway.edge.http.app_keys import IN_FLIGHT, READINESS
from gateway.edge.ops.operators import is_operator


async def healthz(request: web.Request) -> web.Response:
    return web.json_response({"status": "ok"})


async def ping(request: web.Request) -> web.Response:
    """GET /ping: the health check of the seed system."""
    return web.json_response({"message": "pong"})


async def readyz(request: web.Request) -> web.Response:
    """GET /readyz: 503 while requests are refused, because of a shutdown or a full journal. A Postgres that is down or
    not prepared is reported but does not change the status: the gateway serves, and the journal keeps the records.

    A probe gets `status` only. Callers who may read /metrics also get URLs, paths and faults."""
    report = request.app[READINESS].report()
    is_draining = request.app[IN_FLIGHT].is_draining
    is_ready = report.can_serve and not is_draining
    body: dict[str, object] = {"status": "ready" if is_ready else "not ready"}
    if await is_operator(request):
        body |= {"draining": is_draining, **report.checks}
    return web.json_response(body, status=200 if is_ready else 503, headers={"Cache-Control": "no-store"})
