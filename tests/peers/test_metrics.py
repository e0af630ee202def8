"""The figures of all workers, whichever is asked: one that is gone or hangs is told of, and takes nothing along."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from aiohttp import web
from prometheus_client.core import CounterMetricFamily

from gateway.edge.chats.peer_app import peer_app
from gateway.edge.http.app_keys import IN_FLIGHT, PEER_METRICS, RECENT, SETTINGS
from gateway.in_flight.in_flight import InFlight
from gateway.in_flight.recent import RecentAnswers
from gateway.peers.metrics import PeerMetrics
from gateway.peers.peers import TIMEOUT_S, Peers, WorkerIdentity
from gateway.settings import Settings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from prometheus_client import Metric


@asynccontextmanager
async def worker(folder: Path | None, number: int, count: int) -> AsyncIterator[PeerMetrics]:
    """One that has counted so many requests."""

    async def look() -> list[Metric]:
        return [CounterMetricFamily("requests", "Requests.", value=count)]

    app = web.Application()
    peers = Peers(WorkerIdentity(number, folder))
    app[IN_FLIGHT], app[RECENT] = InFlight(), RecentAnswers()
    app[SETTINGS], app[PEER_METRICS] = Settings(data_dir=folder or Path()), PeerMetrics(peers, look)
    await peers.open(peer_app(app))
    try:
        yield app[PEER_METRICS]
    finally:
        await peers.aclose()


async def told(scrape: PeerMetrics, name: str = "requests") -> dict[str, float]:
    """The values of a family, by worker."""
    (family,) = [family for family in await scrape.collect() if family.name == name]
    return {sample.labels["worker"]: sample.value for sample in family.samples}


async def test_a_lone_process_is_worker_0() -> None:
    async with worker(None, 0, 3) as scrape:
        assert await told(scrape) == {"0": 3}
        assert await told(scrape, "llm_gateway_worker_up") == {"0": 1}


async def test_each_worker_has_the_metrics_of_all(tmp_path: Path) -> None:
    async with worker(tmp_path, 0, 3) as first, worker(tmp_path, 1, 40) as second, worker(tmp_path, 2, 500):
        assert await told(first) == await told(second) == {"0": 3, "1": 40, "2": 500}


async def test_a_dead_worker_is_down_and_its_successor_is_up(tmp_path: Path) -> None:
    async with worker(tmp_path, 0, 3) as first:
        async with worker(tmp_path, 1, 40):
            assert await told(first) == {"0": 3, "1": 40}
        (tmp_path / "1.sock").touch()  # as kill -9 leaves it: there, and nobody behind it
        assert await told(first) == {"0": 3}
        assert await told(first, "llm_gateway_worker_up") == {"0": 1, "1": 0}
        async with worker(tmp_path, 1, 1):
            assert await told(first) == {"0": 3, "1": 1}


async def test_a_worker_that_hangs_or_sends_garbage_delays_nobody_for_long(tmp_path: Path) -> None:
    async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async def babble(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b'[["requests", ')
        writer.close()

    async with (
        worker(tmp_path, 0, 3) as first,
        await asyncio.start_unix_server(hang, tmp_path / "1.sock"),
        await asyncio.start_unix_server(babble, tmp_path / "2.sock"),
    ):
        began = time.monotonic()
        assert await told(first, "llm_gateway_worker_up") == {"0": 1, "1": 0, "2": 0}
        assert time.monotonic() - began < TIMEOUT_S + 1


async def test_a_cancelled_scrape_does_no_harm(tmp_path: Path) -> None:
    async with worker(tmp_path, 0, 3), worker(tmp_path, 1, 4) as second:
        for _ in range(50):
            _, writer = await asyncio.open_unix_connection(tmp_path / "0.sock")
            writer.transport.abort()
        assert await told(second) == {"0": 3, "1": 4}


async def test_a_worker_without_a_socket_misses_only_in_the_metrics(tmp_path: Path) -> None:
    async with worker(tmp_path / ("x" * 200), 1, 4) as lonely:
        assert await told(lonely) == {"1": 4}
