"""`llm-gateway quarantine list | show | retry`: shows records that PostgreSQL refused, and stores them after all."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from gateway.cli.keys import operators_database
from gateway.errors import safe_text
from gateway.prices import Prices
from gateway.shipping.quarantine import FRAMES, REQUEST, RESPONSE, Quarantine
from gateway.shipping.quarantine_retry import RetryFailure, retry_quarantined
from gateway.shipping.shipped_records import ShippedRecords
from gateway.store.interactions import Interactions
from gateway.telemetry.readable import escaped

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from gateway.settings import Settings
    from gateway.shipping.quarantine import QuarantineItem


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", required=True)
    listing = actions.add_parser("list", help="list the items with their reasons")
    listing.add_argument("--json", action="store_true", help="one JSON object a line")
    show = actions.add_parser("show", help="print an item, with request and response")
    show.add_argument("id", help="its id, as `quarantine list` shows it")
    retry = actions.add_parser("retry", help="store records as rows, also while the gateway runs")
    retry.add_argument("ids", nargs="*", metavar="ID", help="as `quarantine list` shows it")
    retry.add_argument("--all", action="store_true", help="all items")


async def run(arguments: argparse.Namespace, settings: Settings) -> int:
    """Runs the command. Returns the exit status: 0 done, 1 an item stays or is missing, 2 invalid arguments. Raises
    StoreUnavailable."""
    quarantine = Quarantine(settings.journal_dir)
    if arguments.action == "list":
        return _list(quarantine, is_json=arguments.json)
    if arguments.action == "show":
        return _show(quarantine, arguments.id)
    if bool(arguments.ids) == arguments.all:
        _print_note("llm-gateway: give the ids of the items to retry, or --all")
        return 2
    return await _retry(quarantine, settings, arguments.ids or quarantine.names())


def _list(quarantine: Quarantine, *, is_json: bool) -> int:
    rows = [_columns(quarantine, name) for name in quarantine.names()]
    if is_json:
        for row in rows:
            _print(json.dumps(row, ensure_ascii=False))
        return 0
    cells = [tuple(escaped(str(value)) for value in row.values()) for row in rows]
    headings = ("ID", "SINCE", "USER", "BYTES", "REASON")
    widths = [max(map(len, column)) for column in zip(headings, *cells, strict=True)]
    for line in (headings, *cells):
        _print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
    return 0


def _columns(quarantine: Quarantine, name: str) -> dict[str, Any]:
    try:
        item = quarantine.item(name)
    except (OSError, ValueError, TypeError) as error:
        return {"id": name, "since": "-", "user": "-", "bytes": 0, "reason": f"its note is unreadable ({error})"}
    interaction = item.metadata.get("interaction")
    return {
        "id": name,
        "since": f"{datetime.fromtimestamp(item.since, UTC):%Y-%m-%d %H:%M:%S}",
        "user": interaction.get("user", "-") if isinstance(interaction, dict) else "-",
        "bytes": sum(map(len, item.bodies.values())),
        "reason": item.reason,
    }


def _show(quarantine: Quarantine, name: str) -> int:
    try:
        item = quarantine.item(name)
    except (OSError, ValueError, TypeError):
        _print_note(f"llm-gateway: {name!r} is not in quarantine, or is unreadable; `quarantine list` shows the items")
        return 1
    _print(json.dumps(item.metadata, ensure_ascii=True, indent=2))
    for ending, title in ((REQUEST, "request"), (RESPONSE, "response"), (FRAMES, "frames of the journal")):
        if ending in item.bodies:
            _print(f"--- {title}, {len(item.bodies[ending])} bytes")
            _print(_text(item, ending))
    return 0


def _text(item: QuarantineItem, ending: str) -> str:
    """The body as text, without control characters for the terminal."""
    text = item.bodies[ending].decode("utf-8", "backslashreplace")
    return "\n".join(escaped(line) for line in text.split("\n"))


async def _retry(quarantine: Quarantine, settings: Settings, names: Sequence[str]) -> int:
    not_stored = 0
    async with operators_database(settings) as database:
        sink = Interactions(database, Prices(settings.upstream.token_prices).cost_of)
        shipped = ShippedRecords(settings.journal_dir, sink.name, settings.journal.shipped_s)
        try:
            for name in names:
                try:
                    failure = await retry_quarantined(quarantine, sink, name, shipped)
                except FileNotFoundError:
                    failure = RetryFailure(
                        "there is no such item, or another process has just stored it", is_final=True
                    )
                except OSError as error:
                    failure = RetryFailure(safe_text(error), is_final=False)
                not_stored += failure is not None
                _print(f"{name}  {'is a row' if failure is None else f'stays: {escaped(failure.reason)}'}")
        finally:
            await sink.aclose()
    _print_note(f"{len(names) - not_stored} stored, {not_stored} not")
    return 1 if not_stored else 0


def _print(line: str) -> None:
    sys.stdout.write(f"{line}\n")


def _print_note(line: str) -> None:
    sys.stderr.write(f"{line}\n")
