"""`/docs` and `/openapi.json`: the API's description, for people and for programs."""

from __future__ import annotations

import asyncio

from aiohttp import web

from gateway.edge.http.app_keys import PAGE
from gateway.edge.ops.openapi import document_json
from gateway.edge.ops.page import HEADERS


async def page(request: web.Request) -> web.StreamResponse:
    return web.FileResponse(request.app[PAGE] / "docs.html", headers=HEADERS)


async def openapi(request: web.Request) -> web.Response:
    body = await asyncio.to_thread(document_json)  # the first time takes 40 ms, which streams would feel
    return web.Response(body=body, content_type="application/json", headers=HEADERS)
