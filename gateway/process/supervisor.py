"""Several processes on one port (SO_REUSEPORT), each a whole gateway; this one only keeps them alive.

What it owns is what they share: the embedded PostgreSQL, if there is no other, and the folder where they tell each
other their figures. The kernel spreads the connections.
"""

from __future__ import annotations

import asyncio
import os
import sys
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import structlog

from gateway.app import open_database
from gateway.health.database_watch import START_S
from gateway.process.listener import shared
from gateway.process.signals import heed_signals

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gateway.settings import Settings

RESTART_S = 1.0  # between the end of a worker and the next one, so that a fault at the start does not spin
KILL_S = 20.0  # beyond the workers' own patience

log = structlog.get_logger()


async def supervise(settings: Settings, environ: Mapping[str, str]) -> None:
    """Run `server.workers` gateways until SIGTERM or another of `signals.STOPS`.

    Raises ServiceError when they cannot start at all."""
    stopping = asyncio.Event()
    heed_signals(stopping)
    with shared(settings.server) as held, TemporaryDirectory(prefix="llm-gateway-") as meeting:
        async with open_database(settings, START_S) as database:
            if settings.store.url is None:
                environ = {**environ, "DATABASE_URL": database.dsn}
            port = held.getsockname()[1]
            its = ["--meeting", meeting, "--port", str(port), *(["--embedded"] if settings.store.url is None else [])]
            workers = [_Worker(number, its, environ) for number in range(settings.server.workers)]
            async with asyncio.TaskGroup() as group:
                for worker in workers:
                    group.create_task(worker.keep_running(stopping, settings.server.shutdown_s + KILL_S))
    log.info("all workers stopped")


class _Worker:
    """One gateway. It reads our end of a pipe, and stops when that breaks, however we die."""

    def __init__(self, number: int, its: Sequence[str], environ: Mapping[str, str]) -> None:
        self._number = number
        self._arguments = ["-m", "gateway", "serve", "--worker", str(number), *its]
        self._environ = dict(environ)

    async def keep_running(self, stopping: asyncio.Event, patience_s: float) -> None:
        while not stopping.is_set():
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                *self._arguments,
                env=self._environ,
                stdin=asyncio.subprocess.PIPE,
                start_new_session=True,  # Ctrl-C at the terminal is for us to pass on
            )
            log.info("worker started", worker=self._number, pid=process.pid)
            ended = asyncio.ensure_future(process.wait())
            told = asyncio.ensure_future(stopping.wait())
            await asyncio.wait((ended, told), return_when=asyncio.FIRST_COMPLETED)
            told.cancel()
            if not ended.done():
                await _end(process, patience_s)
                return
            log.error("worker ended", worker=self._number, pid=process.pid, status=process.returncode)
            await _rest(stopping, RESTART_S)


async def _end(process: asyncio.subprocess.Process, patience_s: float) -> None:
    process.terminate()
    try:
        async with asyncio.timeout(patience_s):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()


async def _rest(stopping: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await stopping.wait()
    except TimeoutError:
        return


def watch_parent(stopping: asyncio.Event) -> None:
    """In a worker: stop when the supervisor's end of our standard input is gone."""

    def look() -> None:
        if not os.read(0, 1):
            asyncio.get_running_loop().remove_reader(0)
            stopping.set()

    asyncio.get_running_loop().add_reader(0, look)
