"""One benchmark from end to end: starts everything, takes the samples in turn, checks that nothing was lost."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import time
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit, urlunsplit

import asyncpg

from gateway.embedded_postgres.server import EmbeddedPostgres
from tests.bench import processes
from tests.bench.client import Load
from tests.bench.measures import Measure, held
from tests.bench.subjects import DIRECT, Subject, Variant, running
from tests.bench.workers import Worker

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Sequence
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class Plan:
    variants: Sequence[Variant]
    measures: Sequence[Measure]
    repetitions: int
    seconds: float  # of load in each sample
    open_streams: int  # at once; 0: not tried


@dataclass(frozen=True, slots=True)
class Sample:
    """`value` is µs of processor time for each chunk or request, or milliseconds to the first token (p50)."""

    value: float
    postgres: float = 0.0  # µs
    p99: float = 0.0
    rate: float = 0.0  # chunks or requests a second
    reads_per_chunk: float = 0.0


@dataclass(slots=True)
class Findings:
    """Samples by measure and variant, in the order in which they were taken: the n-th of all belong together."""

    samples: dict[str, dict[str, list[Sample]]] = field(default_factory=dict)
    memory: dict[str, float] = field(default_factory=dict)  # kB a stream
    opened: dict[str, int] = field(default_factory=dict)  # streams that were open at once, and all whole in the end
    rows: dict[str, dict[str, int]] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    others: float = 0.0  # cores that were busy with anything else meanwhile


async def bench(plan: Plan, directory: Path, tell: Callable[[str], None]) -> Findings:
    async with contextlib.AsyncExitStack() as stack:
        emulator = await stack.enter_async_context(Worker("tests.bench.emulator"))
        client = await stack.enter_async_context(Worker("tests.bench.client"))
        ports = await emulator.read_reply()
        databases = await stack.enter_async_context(_databases(plan, directory / "postgres"))
        run = _Run(plan, emulator, client, tell, ports["arrivals"])
        for number, variant in enumerate(plan.variants):
            tell(f"starting: {variant.name}")
            dsn, postgres = databases.get(variant.name, (None, None))
            subject = running(variant, ports["port"], directory / f"subject-{number}", dsn, postgres)
            run.subjects.append(await stack.enter_async_context(subject))
        began, busy, ours = time.monotonic(), processes.busy(), sum(processes.cpu(os.getpid()))
        await run.go()
        elsewhere = processes.busy() - busy - (sum(processes.cpu(os.getpid())) - ours)
        run.findings.others = max(0.0, elsewhere / 1e9 / (time.monotonic() - began))
        return run.findings


class _Run:
    def __init__(
        self, plan: Plan, emulator: Worker, client: Worker, tell: Callable[[str], None], arrivals: int
    ) -> None:
        self.findings = Findings()
        self.subjects: list[Subject] = []
        self._plan = plan
        self._emulator = emulator
        self._client = client
        self._tell = tell
        self._arrivals = arrivals

    async def go(self) -> None:
        for subject in self.subjects:
            await self._load(subject, {"streams": 16, "chunks": 20, "again_until_s": 0.5})  # first-time costs
        if self._plan.open_streams:
            for subject in self.subjects:
                await self._open_many(subject)
        for repetition in range(self._plan.repetitions):
            for measure in self._plan.measures:
                self._tell(f"{repetition + 1} of {self._plan.repetitions}: {measure.title}")
                # In turn, so that a change of the machine's mood meets all of them.
                for subject in self.subjects:
                    await self._sample(subject, measure)
        for subject in self.subjects:
            await self._count_rows(subject)
            self.findings.faults += [f"{subject.variant.name}: {failure}" for failure in subject.failures]

    async def _sample(self, subject: Subject, measure: Measure) -> None:
        before = await subject.settled()
        result = await self._load(subject, measure.load(self._plan.seconds))
        used = await subject.settled() - before
        sample = _sample_of(measure, result, used, is_direct=subject.variant is DIRECT)
        self.findings.samples.setdefault(measure.name, {}).setdefault(subject.variant.name, []).append(sample)
        self.findings.warnings += [
            f"{measure.name}: {subject.variant.name} {doubt}" for doubt in _faults_of(measure, sample)
        ]

    async def _open_many(self, subject: Subject) -> None:
        """All streams open at once and silent: memory; then they go on, and each must come whole."""
        streams = self._plan.open_streams
        self._tell(f"{streams:,} open streams: {subject.variant.name}")
        await subject.settled()
        empty = processes.rss(subject.pid) if subject.pid is not None else 0
        await self._emulator.ask("stats")
        self._client.tell(self._command(subject, held(streams)))
        opened = await self._client.read_reply()
        if "open" in opened:
            await asyncio.sleep(0.5)
            full = processes.rss(subject.pid) if subject.pid is not None else 0
            self.findings.memory[subject.variant.name] = (full - empty) / streams / 1000
            await self._emulator.ask("release")
            opened = await self._client.read_reply()
        peak = (await self._emulator.ask("stats"))["peak_open"]
        self._account(subject, opened)
        self.findings.opened[subject.variant.name] = min(peak, opened["requests"])
        if not opened["failed"] and peak < streams:
            subject.failures.append(f"only {peak} of {streams} streams were open at once")

    def _command(self, subject: Subject, fields: dict[str, Any]) -> str:
        watched: dict[str, Any] = {"watch": subject.pid, "watch_postgres": subject.postgres}
        return json.dumps(asdict(Load(port=subject.port, arrivals=self._arrivals, **watched, **fields)))

    async def _load(self, subject: Subject, fields: dict[str, Any]) -> dict[str, Any]:
        result = await self._client.ask(self._command(subject, fields))
        self._account(subject, result)
        return result

    def _account(self, subject: Subject, result: dict[str, Any]) -> None:
        subject.answered += result["requests"]
        if result["failed"]:
            subject.failures.append(f"{result['failed']} answers were not whole: {result['errors']}")

    async def _count_rows(self, subject: Subject) -> None:
        if not subject.variant.keeps_rows:
            return
        kept, complete = await subject.rows()
        counts = {"answered": subject.answered, "rows": kept, "complete": complete}
        self.findings.rows[subject.variant.name] = counts
        if not subject.failures and not kept == complete == subject.answered:
            subject.failures.append(f"the log does not agree with the clients: {counts}")


def _faults_of(measure: Measure, sample: Sample) -> Iterator[str]:
    if measure.nominal_rate is None:
        return
    if sample.rate < 0.95 * measure.nominal_rate:
        yield f"kept up with {sample.rate:,.0f} of {measure.nominal_rate:,.0f} chunks/s"
    if sample.reads_per_chunk < 0.9:
        yield f"came joined: {sample.reads_per_chunk:.2f} reads a chunk, which flatters it"


def _sample_of(measure: Measure, result: dict[str, Any], used: processes.Cpu, *, is_direct: bool) -> Sample:
    """`used` covers the load and all work that it causes; chunks have their own window."""
    seconds = max(result["seconds"], 1e-9)
    if measure.per == "first":
        p50, p99 = result["first_ms"] or (float("nan"), float("nan"))
        return Sample(p50, p99=p99, rate=result["requests"] / seconds)
    if measure.per == "chunk":
        count, own, postgres = result["chunks"], result["own_ns"], result["postgres_ns"]
    else:
        count, own, postgres = result["requests"], used.own, used.postgres
    count = max(count, 1)
    own = result["client_ns"] if is_direct else own
    return Sample(own / count / 1000, postgres / count / 1000, 0.0, count / seconds, result["reads_per_chunk"])


@contextlib.asynccontextmanager
async def _databases(plan: Plan, directory: Path) -> AsyncIterator[dict[str, tuple[str, int | None]]]:
    """One server for all gateways, a database each: by name of variant the DSN, and the server's pid."""
    gateways = [variant for variant in plan.variants if variant.is_gateway]
    if not gateways:
        yield {}
        return
    async with EmbeddedPostgres(directory) as server:
        found = {}
        connection = await asyncpg.connect(server.dsn)
        for number, variant in enumerate(gateways):
            await connection.execute(f"create database bench_{number}")
            url = urlsplit(server.dsn)
            found[variant.name] = (urlunsplit(url._replace(path=f"/bench_{number}")), server.pid)
        await connection.close()
        yield found
