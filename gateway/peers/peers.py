"""The workers of one supervisor, to each other: HTTP over unix sockets in a folder that only this account may enter.

So whichever of them a request reaches, it can be told of all: their figures, and the answers that they are making.
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

PATIENCE_S = 2.0  # with a worker that hangs; who asks them all does not wait longer for it
LAST_WORDS_S = 1.0  # for a stream that another one joins, when we end
_HOST = "http://worker"  # a name must stand there, and none is looked up

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class WorkerIdentity:
    """Which worker this is, and where the workers of its supervisor meet; a process without one is worker 0."""

    number: int = 0
    folder: Path | None = None
    shares_embedded: bool = False  # DATABASE_URL is that of the supervisor's embedded PostgreSQL

    def socket(self, number: int) -> Path:
        assert self.folder is not None
        return self.folder / f"{number}.sock"

    def numbers(self) -> list[int]:
        """Of all workers that have ever had a socket there."""
        if self.folder is None:
            return [self.number]
        return sorted({self.number, *(int(path.stem) for path in self.folder.glob("*.sock"))})


class Peers:
    """The other workers, as one of them sees them; and what it tells them when they ask."""

    def __init__(self, seat: WorkerIdentity) -> None:
        self._seat = seat
        self._runner: web.AppRunner | None = None

    @property
    def number(self) -> int:
        """Our own."""
        return self._seat.number

    async def open(self, told: web.Application) -> None:
        """Be there for the others. Where that fails they miss what we have, and `worker_up` says so."""
        if self._seat.folder is None:
            return
        path = self._seat.socket(self._seat.number)
        self._runner = web.AppRunner(told, access_log=None, handler_cancellation=True, shutdown_timeout=LAST_WORDS_S)
        await self._runner.setup()
        try:
            path.unlink(missing_ok=True)  # of the one that sat here before
            await web.UnixSite(self._runner, path).start()
        except OSError as error:
            log.warning("worker_cannot_be_asked", worker=self._seat.number, error=str(error))

    async def aclose(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    async def ask_all(self, path: str, **query: str) -> dict[int, Any]:
        """What each of the others answers, by its number; None for one that is gone, restarting, frozen, or killed in
        the middle of it."""
        others = [number for number in self._seat.numbers() if number != self._seat.number]
        told = await asyncio.gather(*(self._ask(number, path, query) for number in others))
        return dict(zip(others, told, strict=True))

    async def _ask(self, number: int, path: str, query: Mapping[str, str]) -> Any:
        with suppress(OSError, aiohttp.ClientError, TimeoutError, ValueError):
            async with asyncio.timeout(PATIENCE_S), self.call(number, "GET", path, **query) as response:
                return orjson.loads(await response.read()) if response.status == 200 else None

    @asynccontextmanager
    async def call(self, number: int, method: str, path: str, **query: str) -> AsyncIterator[aiohttp.ClientResponse]:
        """One request to one of them, on a connection of its own; it may take as long as it likes. Raises OSError,
        aiohttp.ClientError."""
        connector = aiohttp.UnixConnector(str(self._seat.socket(number)), force_close=True)
        patience = aiohttp.ClientTimeout(total=None, sock_connect=PATIENCE_S)
        async with (
            aiohttp.ClientSession(connector=connector, timeout=patience, auto_decompress=False) as session,
            session.request(method, _HOST + path, params=query) as response,
        ):
            yield response
