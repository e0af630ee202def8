"""The subjects: no relay, a splice, plain relays, and the gateway as the process that users start."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import os
import signal
import socket
import sys
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, BinaryIO

import asyncpg
from aiohttp import ClientError, ClientSession, ClientTimeout

from tests.bench import processes

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from pathlib import Path

START_S = 60.0
LOG = "output.log"
COUNT = "select count(*), count(*) filter (where outcome = 'complete') from llm_logs.chatgpt_logs"


@dataclass(frozen=True, slots=True)
class Variant:
    """`argv` may name `{port}` and `{upstream}`, the ports to listen on and to relay to. Empty: the upstream itself."""

    name: str
    argv: tuple[str, ...] = ()
    is_gateway: bool = False
    keeps_rows: bool = False
    checkout: Path | None = None  # of another version of this project; None: this one


DIRECT = Variant("direct to upstream (client's CPU)")
SPLICE = Variant("raw TCP splice", ("-m", "tests.bench.splice", "{port}", "{upstream}"))
PLAIN_AIOHTTP = Variant("plain aiohttp relay, no log", ("-m", "tests.bench.plain_aiohttp", "{port}", "{upstream}"))
WITHOUT_LOG = Variant("gateway without its log", ("-m", "tests.bench.gateway_without_log"), is_gateway=True)
GATEWAY = Variant("gateway", ("-m", "gateway", "serve"), is_gateway=True, keeps_rows=True)


BASELINE = "baseline"
BASELINE_AGAIN = "baseline again"


def baselines(checkout: Path) -> list[Variant]:
    """Another version, twice: a difference counts only beyond the one between the two."""
    return [replace(GATEWAY, name=name, checkout=checkout) for name in (BASELINE, BASELINE_AGAIN)]


def variants(*, with_plain: bool) -> list[Variant]:
    """In the order of the report."""
    found = [DIRECT, SPLICE]
    if with_plain:
        found.append(PLAIN_AIOHTTP)
    if importlib.util.find_spec(WITHOUT_LOG.argv[1]) is not None:
        found.append(WITHOUT_LOG)
    return [*found, GATEWAY]


@dataclass(slots=True)
class Subject:
    """A variant that runs."""

    variant: Variant
    port: int
    pid: int | None = None
    postgres: int | None = None  # pid of the server that keeps its rows
    dsn: str | None = None
    answered: int = 0  # requests that clients have seen whole
    failures: list[str] = field(default_factory=list)

    def cpu(self) -> processes.Cpu:
        return processes.cpu(self.pid, self.postgres)

    async def settled(self, within: float = 10.0) -> processes.Cpu:
        """Waits until all work of a load is done; returns the time used until then."""
        deadline = time.monotonic() + within
        before = self.cpu()
        while True:
            await asyncio.sleep(0.1)
            now = self.cpu()
            if (sum(now - before) < 4_000_000) or time.monotonic() > deadline:
                return now
            before = now

    async def rows(self, within: float = 60.0) -> tuple[int, int]:
        """Rows in the log, and how many of them are complete; waits until there are as many as answers."""
        connection = await asyncpg.connect(self.dsn)
        try:
            deadline = time.monotonic() + within
            while True:
                kept, complete = await connection.fetchrow(COUNT) or (0, 0)
                if kept >= self.answered or time.monotonic() > deadline:
                    return kept, complete
                await asyncio.sleep(0.2)
        finally:
            await connection.close()


@contextlib.asynccontextmanager
async def running(
    variant: Variant, upstream: int, directory: Path, dsn: str | None, postgres: int | None
) -> AsyncIterator[Subject]:
    if not variant.argv:
        yield Subject(variant, upstream)
        return
    port = _free_port()
    argv = [part.format(port=port, upstream=upstream) for part in variant.argv]
    environ = gateway_environ(port, upstream, directory, dsn) if variant.is_gateway else None
    with _new_log(directory) as log:
        process = await asyncio.create_subprocess_exec(
            sys.executable, *argv, stdout=log, stderr=log, env=environ, cwd=variant.checkout
        )
    try:
        await _until_ready(process, port, "/healthz" if variant.is_gateway else None, directory)
        yield Subject(variant, port, process.pid, postgres if variant.is_gateway else None, dsn)
    finally:
        await _stop(process)


def gateway_environ(port: int, upstream: int, directory: Path, dsn: str | None) -> Mapping[str, str]:
    """The caller's own GATEWAY_ settings are kept, so that their effect can be measured."""
    kept = {name: value for name, value in os.environ.items() if name.startswith(("GATEWAY_", "PATH", "HOME", "LANG"))}
    ours = {
        "GATEWAY_PORT": str(port),
        "OPENAI_BASE_URL": f"http://127.0.0.1:{upstream}/v1",
        "OPENAI_API_KEY": "x",
        "GATEWAY_DATA_DIR": str(directory / "data"),
        "GATEWAY_LOG_FORMAT": "json",
    }
    return {**kept, **ours, **({"DATABASE_URL": dsn} if dsn else {})}


def _new_log(directory: Path) -> BinaryIO:
    directory.mkdir(mode=0o755)
    return (directory / LOG).open("wb")


def _log_tail(directory: Path) -> str:
    return (directory / LOG).read_text(errors="replace")[-3000:]


async def _until_ready(process: asyncio.subprocess.Process, port: int, path: str | None, directory: Path) -> None:
    deadline = time.monotonic() + START_S
    while not await _is_ready(port, path):
        if process.returncode is not None or time.monotonic() > deadline:
            raise RuntimeError(f"not ready (exit code {process.returncode}); its log ends:\n{_log_tail(directory)}")
        await asyncio.sleep(0.05)


async def _is_ready(port: int, path: str | None) -> bool:
    if path is None:
        return await _listens(port)
    try:
        async with (
            ClientSession(timeout=ClientTimeout(total=2)) as session,
            session.get(f"http://127.0.0.1:{port}{path}") as answer,
        ):
            return answer.status == 200
    except (ClientError, OSError):
        return False


async def _listens(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    return True


async def _stop(process: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.send_signal(signal.SIGTERM)
    try:
        await asyncio.wait_for(process.wait(), 15)
    except TimeoutError:
        process.kill()
        await process.wait()


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port
