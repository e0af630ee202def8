"""`/docs` and `/openapi.json`: what can be asked here, for people and for programs."""

from __future__ import annotations

import orjson
from aiohttp import web

from gateway.edge.http.app_keys import PAGE
from gateway.edge.ops.openapi.document import document
from gateway.edge.ops.page import HEADERS


async def page(request: web.Request) -> web.StreamResponse:
    return web.FileResponse(request.app[PAGE] / "docs.html", headers=HEADERS)


async def openapi(request: web.Request) -> web.Response:
    return web.Response(body=orjson.dumps(document()), content_type="application/json", headers=HEADERS)
