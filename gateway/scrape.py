"""The figures of all workers on this host, whichever of them is asked.

Each worker's series carry its number. So a counter begins anew only where its own worker did, and never jumps because
another one answered, as sums over those that happen to be alive would. A worker tells its figures at a unix socket in
a folder of the supervisor's that only this account may enter: they are fresh, and nothing is done while nobody looks.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson
import structlog
from prometheus_client import Metric

from gateway.telemetry.metrics import PREFIX

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable
    from pathlib import Path

PATIENCE_S = 2.0  # with a worker that hangs; the others' figures do not wait longer for it
WORKER = "worker"

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Seat:
    """Which worker this is, and where the workers of its supervisor meet; a process without one is worker 0."""

    number: int = 0
    folder: Path | None = None

    def socket(self, number: int) -> Path:
        assert self.folder is not None
        return self.folder / f"{number}.sock"

    def numbers(self) -> list[int]:
        """Of all workers that have ever had a socket there."""
        if self.folder is None:
            return [self.number]
        return sorted({self.number, *(int(path.stem) for path in self.folder.glob("*.sock"))})


class Scrape:
    """One worker's figures, and those of all."""

    def __init__(self, seat: Seat, look: Callable[[], Awaitable[Iterable[Metric]]]) -> None:
        self._seat = seat
        self._look = look
        self._server: asyncio.Server | None = None

    async def open(self) -> None:
        """Be there for the others. Where that fails, they miss this worker's figures, and `worker_up` says so."""
        if self._seat.folder is None:
            return
        path = self._seat.socket(self._seat.number)
        try:
            path.unlink(missing_ok=True)  # of the one that sat here before
            self._server = await asyncio.start_unix_server(self._tell, path)
        except OSError as error:
            log.warning("metrics_not_shared", worker=self._seat.number, error=str(error))

    def close(self) -> None:
        if self._server is not None:
            self._server.close()

    async def collect(self) -> list[Metric]:
        """The families of all workers, each series with the number of its own."""
        numbers = self._seat.numbers()
        told = await asyncio.gather(*(self._figures(number) for number in numbers))
        is_up = Metric(f"{PREFIX}_worker_up", "0: a worker has not told its figures.", "gauge")
        families = {is_up.name: is_up}
        for number, figures in zip(numbers, told, strict=True):
            label = {WORKER: str(number)}
            is_up.add_sample(is_up.name, label, float(figures is not None))
            for name, text, kind, unit, samples in figures or ():
                family = families.setdefault(name, Metric(name, text, kind, unit))
                for sample, labels, value in samples:
                    family.add_sample(sample, labels | label, value)
        return list(families.values())

    async def _figures(self, number: int) -> list[Any] | None:
        if number == self._seat.number:
            return await self._own()
        try:
            async with asyncio.timeout(PATIENCE_S):
                return list(orjson.loads(await _ask(self._seat.socket(number))))
        except (OSError, ValueError):  # gone, restarting, frozen, or killed in the middle of it
            return None

    async def _own(self) -> list[Any]:
        return [
            [
                metric.name,
                metric.documentation,
                metric.type,
                metric.unit,
                [(sample.name, sample.labels, sample.value) for sample in metric.samples],
            ]
            for metric in await self._look()
        ]

    async def _tell(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(PATIENCE_S):
                writer.write(orjson.dumps(await self._own()))
                writer.write_eof()
                await reader.read()  # until the other has it all, or has gone
        except OSError:
            writer.transport.abort()
        finally:
            writer.close()


async def _ask(path: Path) -> bytes:
    reader, writer = await asyncio.open_unix_connection(path)
    try:
        return await reader.read()
    finally:
        writer.close()
