"""HTTP between the workers of one supervisor, over unix sockets in a folder that only this account may enter.

Any worker can so answer for all of them: with their metrics, and with the answers that they are making.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import aiohttp
import orjson
import structlog
from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from pathlib import Path

TIMEOUT_S = 2.0  # for a worker that hangs
SHUTDOWN_S = 1.0  # for streams that another worker resumes from this one when it shuts down
_HOST = "http://worker"  # a URL needs a host; this one is never resolved

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class WorkerIdentity:
    """The worker's number, and the folder of its supervisor's sockets; a process without a supervisor is worker 0."""

    number: int = 0
    folder: Path | None = None
    shares_embedded: bool = False  # DATABASE_URL names the supervisor's embedded PostgreSQL

    def socket(self, number: int) -> Path:
        assert self.folder is not None
        return self.folder / f"{number}.sock"

    def numbers(self) -> list[int]:
        """The numbers of all workers that have ever had a socket in the folder."""
        if self.folder is None:
            return [self.number]
        return sorted({self.number, *(int(path.stem) for path in self.folder.glob("*.sock"))})


class Peers:
    """Asks the other workers, and serves an application to them."""

    def __init__(self, identity: WorkerIdentity) -> None:
        self._identity = identity
        self._runner: web.AppRunner | None = None

    @property
    def number(self) -> int:
        """The number of this worker."""
        return self._identity.number

    async def open(self, app: web.Application) -> None:
        """Serves `app` to the other workers. If that fails, they go on without this one, and `worker_up` is 0."""
        if self._identity.folder is None:
            return
        path = self._identity.socket(self._identity.number)
        self._runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=SHUTDOWN_S)
        await self._runner.setup()
        try:
            path.unlink(missing_ok=True)  # of the worker that had this number before
            await web.UnixSite(self._runner, path).start()
        except OSError as error:
            log.warning("worker_cannot_be_asked", worker=self._identity.number, error=str(error))

    async def aclose(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    async def ask_all(self, path: str, **query: str) -> dict[int, Any]:
        """GETs `path` from each other worker: the JSON of its response by its number; None for a worker that is gone,
        restarts, hangs, or is killed meanwhile."""
        others = [number for number in self._identity.numbers() if number != self._identity.number]
        responses = await asyncio.gather(*(self._ask(number, path, query) for number in others))
        return dict(zip(others, responses, strict=True))

    async def _ask(self, number: int, path: str, query: Mapping[str, str]) -> Any:
        with suppress(OSError, aiohttp.ClientError, TimeoutError, ValueError):
            async with asyncio.timeout(TIMEOUT_S), self.call(number, "GET", path, **query) as response:
                return orjson.loads(await response.read()) if response.status == 200 else None

    @asynccontextmanager
    async def call(self, number: int, method: str, path: str, **query: str) -> AsyncIterator[aiohttp.ClientResponse]:
        """Sends a request to one worker, on a connection of its own and without a time limit. Raises OSError,
        aiohttp.ClientError."""
        connector = aiohttp.UnixConnector(str(self._identity.socket(number)), force_close=True)
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=TIMEOUT_S)
        async with (
            aiohttp.ClientSession(connector=connector, timeout=timeout, auto_decompress=False) as session,
            session.request(method, _HOST + path, params=query) as response,
        ):
            yield response
