"""`/metrics`: the metrics of all workers for Prometheus."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from aiohttp import web
from prometheus_client import exposition
from prometheus_client.openmetrics import exposition as openmetrics

from gateway.edge.http.app_keys import PEER_METRICS
from gateway.edge.ops.operators import require_operator

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from prometheus_client import Metric


async def metrics(request: web.Request) -> web.Response:
    """GET /metrics: OpenMetrics where the Accept header asks for it, else Prometheus' text format."""
    await require_operator(request)
    found = _Families(await request.app[PEER_METRICS].collect())
    write: Callable[..., bytes]
    if "application/openmetrics-text" in request.headers.get("Accept", ""):
        write, kind = openmetrics.generate_latest, openmetrics.CONTENT_TYPE_LATEST
    else:
        write, kind = exposition.generate_latest, exposition.CONTENT_TYPE_PLAIN_0_0_4
    # In a thread: thousands of series take tens of milliseconds, which would delay streams.
    body = await asyncio.to_thread(write, found)
    return web.Response(body=body, headers={"Content-Type": kind, "Cache-Control": "no-store"})


class _Families:
    """Collected families as a registry, which the library's writers require."""

    def __init__(self, families: list[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterator[Metric]:
        return iter(self._families)
