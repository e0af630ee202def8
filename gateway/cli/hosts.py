"""`llm-gateway reship --since WHEN` and `llm-gateway hosts list | forget`, also while a gateway runs."""

from __future__ import annotations

import argparse
import sys
import time
from contextlib import aclosing
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

from gateway import __version__
from gateway.cli.keys import operators_database
from gateway.health.hosts import HostWatchOptions
from gateway.journal.host_id import this_host
from gateway.prices import Prices
from gateway.shipping.reship_command import reship
from gateway.store.hosts import Hosts
from gateway.store.interactions import Interactions

if TYPE_CHECKING:
    from gateway.settings import Settings
    from gateway.store.pool import Database

COMMANDS = {
    "reship": "ship records that the database has lost again, from the journal's kept segments",
    "hosts": "list the journals of all hosts, and forget lost ones",
}


def add_arguments(name: str, parser: argparse.ArgumentParser) -> None:
    if name == "reship":
        parser.add_argument("--since", required=True, type=parse_time, metavar="WHEN", help="such as 2026-01-31T09:00Z")
        return
    actions = parser.add_subparsers(dest="action", required=True)
    actions.add_parser("list", help="list each journal with its host, last contact and waiting records")
    forget = actions.add_parser("forget", help="stop reports about a journal that left with records")
    forget.add_argument("journal", type=UUID, nargs="+", help="its id, as `hosts list` shows it")


def parse_time(text: str) -> float:
    """Unix time of an ISO 8601 date and time, by default in UTC. Raises ArgumentTypeError."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"'{text}' is not a time such as 2026-01-31T09:00Z") from error
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()


async def run(arguments: argparse.Namespace, settings: Settings) -> int:
    """Runs the command. Returns the exit status: 0 done, 1 done in part. Raises StoreUnavailable."""
    async with operators_database(settings) as database:
        if arguments.command == "reship":
            return await _reship(arguments.since, settings, database)
        table = Hosts(database, this_host(settings.journal_dir, __version__))
        if arguments.action == "list":
            for row in (_HEADINGS, *[_cells(row) for row in await table.all()]):
                _print("  ".join(cell.ljust(width) for cell, width in zip(row, _WIDTHS, strict=True)).rstrip())
            return 0
        unknown = len(set(arguments.journal)) - await table.forget(arguments.journal)
        if unknown:
            sys.stderr.write(f"llm-gateway: {unknown} of these journals are unknown; `hosts list` shows all\n")
        return 1 if unknown else 0


async def _reship(since: float, settings: Settings, database: Database) -> int:
    async with aclosing(Interactions(database, Prices(settings.upstream.token_prices).cost_of)) as sink:
        result = await reship(settings.journal_dir, sink, since)
    _print(f"read {result.examined} records; {result.restored} of them were missing and are in the database now")
    if result.refused:
        _print(f"the database refuses {result.refused} records")
    if result.oldest_at is None:
        _print("no segments are kept")
    elif since < result.oldest_at:
        _print(
            f"kept segments go back to {_utc_text(result.oldest_at)}: {result.gone} older records were in deleted "
            "segments and cannot be shipped again"
        )
    return 1 if result.refused else 0


_STATES = {None: "running", True: "left", False: "left with records"}
_HEADINGS = ("JOURNAL", "HOST", "VERSION", "LAST SEEN", "SHIPPED", "WAITING", "CLOCK AHEAD", "STATE")
_WIDTHS = (36, 24, 10, 20, 9, 9, 12, 8)


def _cells(row: Any) -> tuple[str, ...]:
    state = _STATES[row["left_cleanly"]]
    if row["left_cleanly"] is None and time.time() - row["seen_at"].timestamp() > HostWatchOptions().silence_s:
        state = "silent"
    skew = "-" if row["skew_ms"] is None else f"{row['skew_ms'] / 1000:.3f} s"
    return (
        str(row["journal_id"]),
        row["host_name"],
        row["version"],
        _utc_text(row["seen_at"].timestamp()),
        str(row["shipped"]),
        str(row["waiting"]),
        skew,
        state,
    )


def _utc_text(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%SZ}"


def _print(line: str) -> None:
    sys.stdout.write(f"{line}\n")
