"""The listening process: start, greeting, and a shutdown that loses no answer."""

from __future__ import annotations

import asyncio
import gc
import sys
from typing import TYPE_CHECKING

import structlog
from aiohttp import http_parser, web

from gateway.app import build_app, open_database
from gateway.edge.http.app_keys import IN_FLIGHT, LINKS
from gateway.edge.http.connection import Runner
from gateway.errors import ServiceError
from gateway.peers.peers import WorkerIdentity
from gateway.process.listener import BACKLOG, accept_queued, bind_listener
from gateway.process.signals import install_signal_handlers
from gateway.process.supervisor import watch_parent
from gateway.resources import resource_folder
from gateway.store.migrations import migrate as migrate_schema
from gateway.store.partitions import Partitions

if TYPE_CHECKING:
    import socket

    from gateway.exchange.recording import BeginEntry
    from gateway.identity.one_time_link import OneTimeLinks
    from gateway.settings import Settings

MAX_HEADER_BYTES = 32 * 1024
GC_THRESHOLDS = (20_000, 50, 50)  # objects: requests leave few cycles, and each collection costs CPU
CANCEL_TIMEOUT_S = 2.0  # for cancelling and recording the requests that outlast GATEWAY_SHUTDOWN_S

log = structlog.get_logger()


async def serve(settings: Settings, begin: BeginEntry | None = None, *, worker: WorkerIdentity | None = None) -> None:
    """Serves until SIGTERM or another of `signals.STOPS`; a worker also stops when its supervisor is gone.

    `begin`: as in `build_app`. Raises ServiceError if the start fails.
    """
    refuse_python_parser()
    stopping = asyncio.Event()
    install_signal_handlers(stopping)
    if worker is not None:
        watch_parent(stopping)
    identity = worker or WorkerIdentity()
    app = build_app(settings, begin, identity)
    runner = Runner(
        app,
        access_log=None,
        auto_decompress=False,
        handler_cancellation=True,
        keepalive_timeout=settings.server.keepalive_s,
        max_field_size=MAX_HEADER_BYTES,
        max_line_size=MAX_HEADER_BYTES,
        shutdown_timeout=CANCEL_TIMEOUT_S,
    )
    await runner.setup()
    try:
        site, listening = await _listen(runner, settings)
        await _announce(runner, settings, identity)
        gc.collect()
        gc.freeze()  # the collector skips objects that live until the end
        gc.set_threshold(*GC_THRESHOLDS)
        await stopping.wait()
        log.info("stopping", patience_s=settings.server.shutdown_s)
        if identity.number == 0:
            app[LINKS].withdraw()
        app[IN_FLIGHT].begin_drain()
        await _stop_listening(runner, site, listening)
        if not await runner.drained(app[IN_FLIGHT], settings.server.shutdown_s):
            log.warning("answers are cut short: the patience for the shutdown is over")
            app[IN_FLIGHT].cut_short()
            await app[IN_FLIGHT].idle(CANCEL_TIMEOUT_S)
    finally:
        await runner.cleanup()
    log.info("stopped")


async def migrate(settings: Settings) -> None:
    """Migrates the database's schema, and creates its partitions."""
    async with open_database(settings) as database:
        applied = await migrate_schema(database, resource_folder("sql"))
        await Partitions(database).keep()
    log.info("migrated", versions=applied)


async def _listen(runner: web.AppRunner, settings: Settings) -> tuple[web.SockSite, socket.socket]:
    """The site, and a second handle of its socket for after its stop. Raises ServiceError."""
    listening = bind_listener(settings.server, reuse_port=settings.server.workers > 1)
    try:
        listening.listen(BACKLOG)
        site = web.SockSite(runner, listening, backlog=BACKLOG)
        await site.start()
        return site, listening.dup()
    except OSError as error:  # another program may have listened after our bind
        raise ServiceError(f"cannot listen on {settings.server.host}:{settings.server.port}: {error}") from error


async def _stop_listening(runner: web.AppRunner, site: web.SockSite, listening: socket.socket) -> None:
    """Stops listening, and serves the connections that the kernel has accepted already."""
    await site.stop()
    assert runner.server is not None
    for each in accept_queued(listening):
        await asyncio.get_running_loop().connect_accepted_socket(runner.server, each)


async def _announce(runner: web.AppRunner, settings: Settings, worker: WorkerIdentity) -> None:
    """Logs the start. The first worker also greets on a terminal, and creates the one-time link."""
    host, port = runner.addresses[0][:2]
    url = f"http://{f'[{host}]' if ':' in host else host}:{port}"
    model = "the built-in demo model" if settings.is_demo else settings.upstream_base
    is_own = settings.store.url is None or worker.shares_embedded
    database = "its own PostgreSQL" if is_own else "the PostgreSQL of DATABASE_URL"
    log.info("listening", url=url, model=model, database=database)
    if worker.number > 0:
        return
    link = await _one_time_link(runner.app[LINKS], settings, port) if settings.auth.is_open else None
    if sys.stderr.isatty():
        rows = [("Chat", f"{url}/"), ("SDKs", f"{url}/v1"), ("Model", model), ("Database", database)]
        rows += [("Live, report", f"{link}  (once)")] if link is not None else []
        print("\n" + "".join(f"  {f'{name}:':<13} {value}\n" for name, value in rows), file=sys.stderr)


async def _one_time_link(links: OneTimeLinks, settings: Settings, port: int) -> str | None:
    """A new one-time link; None if it cannot be written: the gateway serves without it."""
    host = settings.server.host
    link_host = "127.0.0.1" if host in ("0.0.0.0", "::") else f"[{host}]" if ":" in host else host  # noqa: S104
    try:
        return await asyncio.to_thread(links.make, settings.server.public_url or f"http://{link_host}:{port}")
    except OSError as error:
        log.warning("no one-time link could be made", error=str(error))
        return None


def refuse_python_parser() -> None:
    """Raises ServiceError without aiohttp's parser in C: the one in Python accepts forms of request smuggling."""
    if http_parser.HttpRequestParser is http_parser.HttpRequestParserPy:
        raise ServiceError("aiohttp's C extensions are missing, and without them HTTP is not parsed safely")
