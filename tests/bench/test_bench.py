"""The benchmark measures correctly, and notices lost, altered or expensive answers."""

from __future__ import annotations

import asyncio
import json
import math
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import asyncpg
import pytest

from tests import loopback
from tests.bench import payload, processes
from tests.bench.client import Load, Run
from tests.bench.measures import MEASURES, Measure, closed_loop, saturated, steady
from tests.bench.report import Verdict, as_json, as_text, comparisons, exit_code, log_cost, verdicts
from tests.bench.run import Findings, Plan, Sample, bench
from tests.bench.subjects import (
    BASELINE,
    BASELINE_AGAIN,
    DIRECT,
    GATEWAY,
    PLAIN_AIOHTTP,
    SPLICE,
    WITHOUT_LOG,
    Subject,
    baselines,
    gateway_environ,
    running,
)
from tests.bench.ticker import Ticker

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.loopback import Request, Script

BURN = "import threading, time\ndef burn():\n while time.thread_time() < 0.15: pass\n"


def test_chunks_have_their_size_and_are_a_chat_stream() -> None:
    events = payload.events(100)
    assert {len(event) for event in events} == {payload.CHUNK_SIZE}
    chunks = [json.loads(event.removeprefix(b"data: ")) for event in events]
    assert chunks[0]["choices"][0]["delta"]["role"] == "assistant"
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks] == [None] * 99 + ["stop"]
    assert len(payload.plain_body()) == payload.PLAIN_SIZE
    assert json.loads(payload.plain_body())["object"] == "chat.completion"


def test_a_request_orders_its_answer() -> None:
    order = payload.Order(100, "paced", 10_000)
    body = payload.request_body(order, 17, 1000)
    assert payload.order_in(body) == order
    assert payload.number_in(body) == 17
    assert abs(len(body) - 1000) < 80
    assert payload.order_in(payload.request_body(None, 0, 300)) is None


async def test_the_ticker_keeps_time_and_order() -> None:
    ticker = Ticker()
    begin = time.monotonic_ns()
    fired: list[tuple[int, int]] = []
    for place in (5, 1, 4, 2, 3):
        ticker.at(begin + place * 2_000_000, lambda place=place: fired.append((place, time.monotonic_ns())))  # type: ignore[misc]
    await asyncio.sleep(0.05)
    ticker.close()
    assert [place for place, _ in fired] == [1, 2, 3, 4, 5]
    assert all(at >= begin + place * 2_000_000 for place, at in fired)


def test_processor_time_counts_ended_threads_and_children_but_postgres_apart() -> None:
    thread = "t = threading.Thread(target=burn); t.start(); t.join()\n"
    child = (
        f"import subprocess, sys\nsubprocess.Popen([sys.executable, '-c', {BURN + 'burn()'!r} + '\\ntime.sleep(9)'])\n"
    )
    code = f"{BURN}{thread}{child}time.sleep(9)"
    with subprocess.Popen([sys.executable, "-c", code]) as process:
        deadline = time.monotonic() + 10
        while processes.cpu(process.pid).own < 300_000_000 and time.monotonic() < deadline:
            time.sleep(0.05)
        family = processes.tree(process.pid)
        used, own = processes.cpu(process.pid), processes.cpu_of(process.pid)
        grown = processes.rss(process.pid)
        for member in family:
            subprocess.run(["kill", "-9", str(member.pid)], check=False)
    assert len(family) == 2
    assert 150_000_000 < own < used.own < 1_000_000_000
    assert used.postgres == 0
    assert grown > 5_000_000


async def measured(load: Load, answer: Callable[[Request], Script | None]) -> list[str]:
    """Returns the client's result for answers that differ from the order."""
    async with loopback.LoopbackUpstream() as upstream:
        upstream.on = answer
        result = await Run(Load(port=upstream.port, streams=load.streams, chunks=load.chunks)).go()
        assert result.requests + result.failed == load.streams
        return result.errors


def ordered(chunks: int, **wire: object) -> Script:
    return loopback.stream([*payload.events(chunks), payload.DONE], **wire)  # type: ignore[arg-type]


async def test_the_client_accepts_whole_answers_and_heartbeats_between_events() -> None:
    def with_heartbeat(_: Request) -> Script:
        first, *rest = payload.events(5)
        return loopback.stream([first, b": still here\n\n", *rest, payload.DONE])

    for answer in (lambda _: ordered(5), lambda _: ordered(5, split_at=7), with_heartbeat):
        assert await measured(Load(0, streams=3, chunks=5), answer) == []


@pytest.mark.parametrize(
    "wrong",
    [
        lambda _: ordered(4),
        lambda _: ordered(5).first(3).then(loopback.Fin()),
        lambda _: ordered(5).first(3).then(loopback.Rst()),
        lambda _: loopback.stream(payload.events(5)),
        lambda _: loopback.stream([payload.stream_body(5).replace(b"word1", b"w0rd1")]),
        lambda _: loopback.error(500),
        lambda _: loopback.garbage(),
    ],
)
async def test_the_client_notices_what_is_not_whole(wrong: Callable[[Request], Script]) -> None:
    errors = await measured(Load(0, streams=2, chunks=5), wrong)
    assert len(errors) == 2


async def test_a_splice_and_a_plain_relay_are_measured_beside_the_upstream_itself(tmp_path: Path) -> None:
    measures = [
        Measure("mid", "paced", "chunk", steady(10, 100), 1000),
        Measure("saturated", "steps", "chunk", saturated),
        Measure("whole", "turns", "request", closed_loop(4, chunks=100, manner="turns")),
        Measure("first", "first", "first", closed_loop(1, chunks=3)),
    ]
    plan = Plan([DIRECT, SPLICE, PLAIN_AIOHTTP], measures, repetitions=1, seconds=0.2, open_streams=50)
    findings = await bench(plan, tmp_path, lambda _: None)
    assert findings.faults == []
    for name in ("mid", "whole"):
        assert all(samples[0].value > 1 for samples in findings.samples[name].values())
    for samples in findings.samples["saturated"].values():
        assert 0.95 < samples[0].reads_per_chunk < 1.05
    assert findings.opened == {variant.name: 50 for variant in plan.variants}
    assert findings.memory[PLAIN_AIOHTTP.name] > 1
    text = as_text(findings)
    assert "raw TCP splice" in text and "added: p50" in text
    assert json.loads(as_json(findings))["samples"]["mid"][SPLICE.name][0]["rate"] > 900


async def test_rows_that_are_missing_are_noticed(database: str) -> None:
    connection = await asyncpg.connect(database)
    await connection.execute("create schema llm_logs; create table llm_logs.chatgpt_logs (outcome text)")
    await connection.execute("insert into llm_logs.chatgpt_logs values ('complete'), ('truncated')")
    await connection.close()
    assert await Subject(GATEWAY, 0, dsn=database, answered=2).rows() == (2, 1)
    assert await Subject(GATEWAY, 0, dsn=database, answered=3).rows(within=0.1) == (2, 1)


def figures(**values: float) -> Findings:
    samples = {name: {GATEWAY.name: [Sample(value)]} for name, value in values.items()}
    return Findings(samples=samples)


def test_figures_are_held_against_their_budgets() -> None:
    assert [verdict.is_over() for verdict in verdicts(figures(mid=79.0, plain=301.0))] == [False, True]
    assert Verdict("mid", math.nan, 80).is_over(2.0)
    assert exit_code(figures(mid=81.0), None) == 0
    assert exit_code(figures(mid=81.0), 1.0) == 1
    assert exit_code(figures(mid=81.0), 1.1) == 0
    lost = figures(mid=1.0)
    lost.faults.append("rows are missing")
    assert exit_code(lost, None) == 1
    assert "budget 80: OVER" in as_text(figures(mid=81.0))


def test_the_cost_of_the_log_is_taken_within_each_repetition() -> None:
    findings = figures()
    findings.samples["short"] = {
        WITHOUT_LOG.name: [Sample(300), Sample(500), Sample(310)],
        GATEWAY.name: [Sample(390), Sample(620), Sample(400)],
    }
    assert log_cost(findings, "short") == 90
    assert {verdict.name: verdict.value for verdict in verdicts(findings)}["log short"] == 90


@pytest.mark.parametrize(
    ("ours", "again", "is_worse"),
    [
        ([103, 103, 103, 103], [104, 96, 104, 96], False),  # within what the baseline differs from itself
        ([103, 103, 103, 103], [101, 99, 101, 99], True),
        ([106, 106, 106, 106], [110, 90, 110, 90], True),  # a loud machine excuses 5 % at most
        ([90, 90, 90, 90], [100, 100, 100, 100], False),
    ],
)
def test_a_version_is_worse_by_more_than_its_baseline_differs_from_itself(
    ours: list[float], again: list[float], is_worse: bool
) -> None:
    findings = figures()
    findings.samples["plain"] = {
        GATEWAY.name: [Sample(value) for value in ours],
        BASELINE: [Sample(100)] * 4,
        BASELINE_AGAIN: [Sample(value) for value in again],
    }
    assert [one.is_worse for one in comparisons(findings)] == [is_worse]
    assert ("WORSE" in as_text(findings)) is is_worse


async def test_a_baseline_is_the_gateway_of_its_own_checkout(tmp_path: Path) -> None:
    checkout = tmp_path / "checkout"
    package = checkout / "gateway"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "__main__.py").write_text("raise SystemExit('the gateway of the checkout')")
    with pytest.raises(RuntimeError, match="the gateway of the checkout"):
        async with running(baselines(checkout)[0], 1, tmp_path / "subject", None, None):
            raise AssertionError("it has no server")


def test_the_callers_own_gateway_settings_are_kept_but_not_its_proxies(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("GATEWAY_JOURNAL_SYNC", "interval")
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy")
    environ = gateway_environ(1234, 5678, tmp_path, None)
    assert environ["GATEWAY_JOURNAL_SYNC"] == "interval"
    assert environ["OPENAI_BASE_URL"] == "http://127.0.0.1:5678/v1"
    assert "HTTPS_PROXY" not in environ


def test_the_command_prints_a_table_and_writes_json(tmp_path: Path) -> None:
    file = tmp_path / "bench.json"
    words = ["--variants", "direct", "splice", "--only", "short", "--seconds", "0.2", "--repetitions", "1"]
    done = subprocess.run(
        [sys.executable, "-m", "tests.bench", *words, "--json", str(file)], capture_output=True, text=True, check=True
    )
    assert next(measure.title for measure in MEASURES if measure.name == "short") in done.stdout
    assert set(json.loads(file.read_text())["samples"]) == {"short"}
