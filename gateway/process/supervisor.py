"""Supervisor of several worker processes on one port (SO_REUSEPORT), each a complete gateway.

It restarts workers, and owns what they share: the embedded PostgreSQL, and the directory of their sockets for metrics
and answers. The kernel distributes the connections.
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
from gateway.process.listener import reserve_port
from gateway.process.signals import install_signal_handlers

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gateway.settings import Settings

RESTART_S = 1.0  # pause before a restart, so that a fault at start causes no busy loop
KILL_S = 20.0  # in addition to the workers' own shutdown time

log = structlog.get_logger()


async def supervise(settings: Settings, environ: Mapping[str, str]) -> None:
    """Runs `server.workers` gateways until one of `signals.STOPS`. Raises ServiceError if the start fails."""
    stopping = asyncio.Event()
    install_signal_handlers(stopping)
    with reserve_port(settings.server) as reserved, TemporaryDirectory(prefix="llm-gateway-") as peer_folder:
        async with open_database(settings, START_S) as database:
            if settings.store.url is None:
                environ = {**environ, "DATABASE_URL": database.dsn}
            port = reserved.getsockname()[1]
            options = [
                "--peers",
                peer_folder,
                "--port",
                str(port),
                *(["--embedded"] if settings.store.url is None else []),
            ]
            workers = [_Worker(number, options, environ) for number in range(settings.server.workers)]
            async with asyncio.TaskGroup() as group:
                for worker in workers:
                    group.create_task(worker.keep_running(stopping, settings.server.shutdown_s + KILL_S))
    log.info("all workers stopped")


class _Worker:
    """One worker. It reads a pipe from the supervisor, and stops when the pipe breaks, however the supervisor dies."""

    def __init__(self, number: int, options: Sequence[str], environ: Mapping[str, str]) -> None:
        self._number = number
        self._command = ["-m", "gateway", "serve", "--worker", str(number), *options]
        self._environ = dict(environ)

    async def keep_running(self, stopping: asyncio.Event, timeout_s: float) -> None:
        while not stopping.is_set():
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                *self._command,
                env=self._environ,
                stdin=asyncio.subprocess.PIPE,
                start_new_session=True,  # the supervisor handles Ctrl-C of the terminal
            )
            log.info("worker started", worker=self._number, pid=process.pid)
            ended = asyncio.ensure_future(process.wait())
            stop = asyncio.ensure_future(stopping.wait())
            await asyncio.wait((ended, stop), return_when=asyncio.FIRST_COMPLETED)
            stop.cancel()
            if not ended.done():
                await _terminate(process, timeout_s)
                return
            log.error("worker ended", worker=self._number, pid=process.pid, status=process.returncode)
            await _wait(stopping, RESTART_S)


async def _terminate(process: asyncio.subprocess.Process, timeout_s: float) -> None:
    process.terminate()
    try:
        async with asyncio.timeout(timeout_s):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()


async def _wait(stopping: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await stopping.wait()
    except TimeoutError:
        return


def watch_parent(stopping: asyncio.Event) -> None:
    """In a worker: sets `stopping` when the supervisor's end of standard input closes."""

    def read_stdin() -> None:
        if not os.read(0, 1):
            asyncio.get_running_loop().remove_reader(0)
            stopping.set()

    asyncio.get_running_loop().add_reader(0, read_stdin)
