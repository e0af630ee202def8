"""The gateway's cost on this machine, compared with the cheapest relay: `python -m tests.bench --quick`."""

from __future__ import annotations

import argparse
import asyncio
import logging
import resource
import sys
import tempfile
import time
from pathlib import Path

import structlog

from tests.bench.measures import MEASURES, OPEN_STREAMS
from tests.bench.report import as_json, as_text, comparisons, exit_code, verdicts
from tests.bench.run import Plan, bench
from tests.bench.subjects import GATEWAY, baselines, variants


def main() -> int:
    options = _options()
    _allow_many_files()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))  # PostgreSQL's comings
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="bench-", dir=options.directory) as name:
        directory = Path(name)
        directory.chmod(0o755)  # PostgreSQL may run as another user
        findings = asyncio.run(bench(_plan(options), directory, _progress))
    print(as_text(findings))
    print(f"\n{time.monotonic() - began:.0f} s")
    if options.json:
        options.json.write_text(as_json(findings))
    over = [verdict for verdict in verdicts(findings) if options.check and verdict.is_over(options.check)]
    for verdict in over:
        print(f"OVER BUDGET {verdict.name}: {verdict.value:.1f}, at most {verdict.budget * options.check:.1f}")
    is_slower = any(one.is_worse for one in comparisons(findings))
    return exit_code(findings, options.check) or int(is_slower)


def _options() -> argparse.Namespace:
    names = [measure.name for measure in MEASURES]
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="about a minute: fewer and shorter samples")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all samples there as well")
    parser.add_argument(
        "--check", type=float, metavar="FACTOR", help="exit with 1 when a figure is over its budget times this factor"
    )
    parser.add_argument("--only", nargs="+", choices=[*names, "memory"], help="these measures alone")
    parser.add_argument(
        "--variants", nargs="+", metavar="WORD", help="only variants with one of these words in their name"
    )
    parser.add_argument(
        "--against",
        type=Path,
        metavar="CHECKOUT",
        help="alternate with the gateway of this checkout, started twice; exit with 1 when a figure is worse than it",
    )
    parser.add_argument("--repetitions", type=int, metavar="N")
    parser.add_argument("--seconds", type=float, metavar="S", help="of load in each sample")
    parser.add_argument("--directory", type=Path, help="where the journal and PostgreSQL's data go meanwhile")
    return parser.parse_args()


def _plan(options: argparse.Namespace) -> Plan:
    chosen = variants(with_plain=not options.quick)
    if options.variants:
        chosen = [v for v in variants(with_plain=True) if any(word in v.name for word in options.variants)]
    if options.against:
        chosen = [GATEWAY, *baselines(options.against.resolve())]
    return Plan(
        variants=chosen,
        measures=[measure for measure in MEASURES if not options.only or measure.name in options.only],
        repetitions=options.repetitions or (10 if options.against else 2 if options.quick else 3),
        seconds=options.seconds or (0.5 if options.quick else 1.5),
        open_streams=OPEN_STREAMS if not options.only or "memory" in options.only else 0,
    )


def _allow_many_files() -> None:
    """Raises the limit of open files: a relay needs two for each stream, and shells often allow 1,024."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _progress(line: str) -> None:
    if sys.stderr.isatty():
        print(f"\r\x1b[K{line}", end="", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
