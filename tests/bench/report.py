"""Reports findings as text for a terminal and as JSON, with those over budget."""

from __future__ import annotations

import json
import os
import platform
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median, quantiles
from typing import TYPE_CHECKING, Any

from tests.bench.measures import BUDGETS, MEASURES
from tests.bench.payload import CHUNK_SIZE
from tests.bench.subjects import BASELINE, BASELINE_AGAIN, DIRECT, GATEWAY, SPLICE, WITHOUT_LOG

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tests.bench.run import Findings, Sample

NAME_WIDTH = 36


@dataclass(frozen=True, slots=True)
class Verdict:
    """One figure against its budget."""

    name: str
    value: float
    budget: float

    def is_over(self, tolerance: float = 1.0) -> bool:
        return not self.value <= self.budget * tolerance  # NaN is over


LARGEST_SPREAD = 0.05


@dataclass(frozen=True, slots=True)
class Comparison:
    """This version's CPU over the baseline's, pair by pair; and how far the baseline differs from itself."""

    name: str
    ratio: float  # median
    spread: float  # upper quartile of the baseline's distance from itself

    @property
    def is_worse(self) -> bool:
        return not self.ratio <= 1 + min(self.spread, LARGEST_SPREAD)  # NaN is worse


def comparisons(findings: Findings) -> list[Comparison]:
    """Of every measure of CPU that was taken beside a baseline."""
    found = []
    for measure in MEASURES:
        samples = findings.samples.get(measure.name, {})
        if measure.per == "first" or BASELINE not in samples:
            continue
        ours, theirs, again = ([s.value for s in samples[name]] for name in (GATEWAY.name, BASELINE, BASELINE_AGAIN))
        ratio = median(new / old for new, old in zip(ours, theirs, strict=True))
        distances = [abs(second / first - 1) for first, second in zip(theirs, again, strict=True)]
        spread = quantiles(distances, n=4)[2] if len(distances) > 1 else distances[0]
        found.append(Comparison(measure.name, ratio, spread))
    return found


def verdicts(findings: Findings) -> list[Verdict]:
    """Medians of the gateway, wherever there is a budget for them."""
    found = [Verdict(name, _value(samples[GATEWAY.name]), BUDGETS[name]) for name, samples in _budgeted(findings)]
    for name in ("short", "plain"):
        cost = log_cost(findings, name)
        if cost is not None:
            found.append(Verdict(f"log {name}", cost, BUDGETS[f"log {name}"]))
    if GATEWAY.name in findings.memory:
        found.append(Verdict("memory", findings.memory[GATEWAY.name], BUDGETS["memory"]))
    return found


def exit_code(findings: Findings, tolerance: float | None) -> int:
    """1 when something was lost or altered; with a tolerance also when a figure is over its budget times that."""
    is_over = tolerance is not None and any(verdict.is_over(tolerance) for verdict in verdicts(findings))
    return 1 if findings.faults or is_over else 0


def log_cost(findings: Findings, name: str) -> float | None:
    """Returns the cost of the log in µs: the median of the differences within each repetition."""
    samples = findings.samples.get(name, {})
    pairs = list(zip(samples.get(GATEWAY.name, ()), samples.get(WITHOUT_LOG.name, ()), strict=False))
    return median(with_log.value - without.value for with_log, without in pairs) if pairs else None


def as_text(findings: Findings) -> str:
    return "\n".join(_lines(findings))


def as_json(findings: Findings) -> str:
    over = [{**asdict(verdict), "is_over": verdict.is_over()} for verdict in verdicts(findings)]
    return json.dumps({"machine": machine(), **asdict(findings), "budgets": over}, indent=1)


def machine() -> dict[str, Any]:
    cpus = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.partition(":")[2].strip() for line in cpus if line.startswith("model name")), "unknown")
    load = os.getloadavg()[0]
    system = f"{platform.system()} {platform.release()}"
    return {"cpu": model, "cores": os.cpu_count(), "system": system, "python": platform.python_version(), "load": load}


def _budgeted(findings: Findings) -> Iterator[tuple[str, dict[str, list[Sample]]]]:
    for name, samples in findings.samples.items():
        if name in BUDGETS and GATEWAY.name in samples:
            yield name, samples


def _lines(findings: Findings) -> Iterator[str]:
    over = {verdict.name: verdict for verdict in verdicts(findings)}
    facts = machine()
    yield "{cpu}, {cores} cores, {system}, Python {python}".format(**facts)
    if findings.others > 0.15:
        yield f"NOT ALONE: {findings.others:.1f} cores were busy with other things; figures are too high, or flattered"
    yield f"µs of CPU (user and system) of the process alone: median (lowest to highest); chunks of {CHUNK_SIZE} bytes"
    for measure in MEASURES:
        if measure.name in findings.samples:
            yield ""
            yield measure.title
            for name, samples in findings.samples[measure.name].items():
                verdict = over.get(measure.name) if name == GATEWAY.name else None
                if measure.per == "first":
                    yield _first_line(name, samples, findings.samples[measure.name].get(DIRECT.name, []))
                else:
                    yield _cpu_line(name, samples, findings.samples[measure.name].get(SPLICE.name), verdict)
            if f"log {measure.name}" in over:
                yield _log_line(over[f"log {measure.name}"])
    yield from _memory_lines(findings, over.get("memory"))
    yield from _row_lines(findings)
    yield from _comparison_lines(findings)
    yield from (f"WARNING {warning}" for warning in findings.warnings)
    yield from (f"FAULT {fault}" for fault in findings.faults)


def _cpu_line(name: str, samples: Sequence[Sample], splice: Sequence[Sample] | None, verdict: Verdict | None) -> str:
    values = [sample.value for sample in samples]
    line = f"  {name:<{NAME_WIDTH}}{median(values):9.1f}  {f'({min(values):.1f} to {max(values):.1f})':<20}"
    if splice and name != DIRECT.name:
        line += f"{median(values) / _value(splice):6.1f} x splice"
    if any(sample.postgres for sample in samples):
        line += f"  and PostgreSQL {median(sample.postgres for sample in samples):.1f}"
    return line + _verdict_text(verdict)


def _first_line(name: str, samples: Sequence[Sample], direct: Sequence[Sample]) -> str:
    p50, p99 = median(s.value for s in samples), median(s.p99 for s in samples)
    line = f"  {name:<{NAME_WIDTH}}p50 {p50:6.3f} ms  p99 {p99:6.3f} ms"
    if direct and name != DIRECT.name:
        added = [s.value - d.value for s, d in zip(samples, direct, strict=False)]
        added_p99 = [s.p99 - d.p99 for s, d in zip(samples, direct, strict=False)]
        line += f"   added: p50 {median(added):6.3f} ms  p99 {median(added_p99):6.3f} ms"
    return line


def _log_line(verdict: Verdict) -> str:
    return f"  {'of it for the log':<{NAME_WIDTH}}{verdict.value:9.1f}" + " " * 22 + _verdict_text(verdict)


def _memory_lines(findings: Findings, verdict: Verdict | None) -> Iterator[str]:
    if findings.opened:
        yield ""
        yield "Many streams open at once: kB of resident memory for each, and how many were open and came whole"
    for name, whole in findings.opened.items():
        memory = f"{findings.memory.get(name, float('nan')):9.1f}" if name != DIRECT.name else " " * 9
        judged = _verdict_text(verdict) if name == GATEWAY.name else ""
        yield f"  {name:<{NAME_WIDTH}}{memory}  {whole:,} whole{judged}"


def _row_lines(findings: Findings) -> Iterator[str]:
    for name, counts in findings.rows.items():
        answered, kept, complete = counts["answered"], counts["rows"], counts["complete"]
        yield ""
        yield f"{name}: {answered:,} answers at the clients, {kept:,} rows, {complete:,} complete"


def _comparison_lines(findings: Findings) -> Iterator[str]:
    found = comparisons(findings)
    if found:
        yield ""
        yield "CPU over the baseline's: median of the pairs; beside it the baseline's distance from itself"
    for one in found:
        yield f"  {one.name:<{NAME_WIDTH}}{one.ratio:9.3f}  ± {one.spread:.3f}{'  WORSE' if one.is_worse else ''}"


def _verdict_text(verdict: Verdict | None) -> str:
    if verdict is None:
        return ""
    return f"  budget {verdict.budget:g}: {'OVER' if verdict.is_over() else 'kept'}"


def _value(samples: Sequence[Sample]) -> float:
    return median(sample.value for sample in samples)
