"""The command line `llm-gateway serve | check | migrate | keys | …`: parses arguments and calls one function."""

from __future__ import annotations

import argparse
import asyncio
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import structlog
import uvloop

from gateway import __version__
from gateway.cli import check, hosts, keys, quarantine
from gateway.errors import GatewayError
from gateway.identity.one_time_link import OneTimeLinks
from gateway.peers.peers import WorkerIdentity
from gateway.process import server, supervisor
from gateway.settings import Settings, SettingsError, load
from gateway.settings.database_url import IGNORED, read_url
from gateway.settings.table import report
from gateway.store.dsn import fault_of
from gateway.telemetry import logs, tail

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterator, Mapping, Sequence

COMMANDS = ("serve", "check", "migrate", "keys", "hosts", "reship", "quarantine", "open", "tail")


def run(argv: Sequence[str], environ: Mapping[str, str]) -> int:
    """Runs one command. Returns the exit status: 0 done, 1 failed, 2 invalid arguments or settings."""
    arguments = _parser().parse_args(_with_command(argv))
    if arguments.command == "tail":
        return tail.run(arguments)
    try:
        settings = load(environ, arguments.config, _overrides(arguments))
        _refuse_database(settings)
    except SettingsError as error:
        for fault in error.faults:
            print(f"llm-gateway: {fault}", file=sys.stderr)
        return 2
    if arguments.command == "check":
        return _check(settings, connects=arguments.connect)
    if arguments.command == "open":
        return _open(settings)
    if arguments.command in ("hosts", "reship"):
        return _with_journal(settings, hosts.run(arguments, settings))
    if arguments.command == "quarantine":
        return _with_journal(settings, quarantine.run(arguments, settings))
    if arguments.command == "keys":
        return _with_logs(settings, keys.run(arguments, settings), fd=2)  # standard output is only for the key
    return _with_logs(settings, _gateway(arguments, settings, environ))


def _gateway(
    arguments: argparse.Namespace, settings: Settings, environ: Mapping[str, str]
) -> Coroutine[None, None, None]:
    if arguments.command == "migrate":
        return server.migrate(settings)
    if arguments.worker is not None:
        return server.serve(settings, worker=WorkerIdentity(arguments.worker, arguments.peers, arguments.embedded))
    if settings.server.workers > 1:
        return supervisor.supervise(settings, {**environ, **_as_environment(arguments)})
    return server.serve(settings)


def _with_command(argv: Sequence[str]) -> list[str]:
    """The arguments with `serve` in front if they name no command."""
    if any(word in COMMANDS for word in argv[:1]) or any(word in ("-h", "--help", "--version") for word in argv):
        return list(argv)
    return ["serve", *argv]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="llm-gateway", description="A streaming LLM gateway that records every answer."
    )
    parser.add_argument("--version", action="version", version=f"llm-gateway {__version__}")
    commands = parser.add_subparsers(dest="command", required=True)
    for name, help_text in (
        ("serve", "serve (the default)"),
        ("check", "check the settings and show them"),
        ("migrate", "bring the database's schema up to date"),
        ("open", "print a new one-time link to live page, report and keys (open mode only)"),
    ):
        command = commands.add_parser(name, help=help_text)
        command.add_argument("--config", type=Path, help="a TOML file; the environment has precedence")
        if name == "check":
            command.add_argument("--connect", action="store_true", help="connect to the database, too")
        if name == "serve":
            command.add_argument("--host", help="address to listen on (default 127.0.0.1)")
            command.add_argument("--port", help="port to listen on (default 8000; 0: any free one)")
            command.add_argument("--workers", help="processes that share the port (default 1)")
            command.add_argument("--worker", type=int, help=argparse.SUPPRESS)  # number of this worker
            command.add_argument("--peers", type=Path, help=argparse.SUPPRESS)  # the directory of their sockets
            command.add_argument("--embedded", action="store_true", help=argparse.SUPPRESS)  # the database's owner
    command = commands.add_parser("keys", help="create, list and revoke keys of callers")
    command.add_argument("--config", type=Path, help="a TOML file; the environment has precedence")
    keys.add_arguments(command)
    for name, help_text in hosts.COMMANDS.items():
        command = commands.add_parser(name, help=help_text)
        command.add_argument("--config", type=Path, help="a TOML file; the environment has precedence")
        hosts.add_arguments(name, command)
    command = commands.add_parser("quarantine", help="show records that Postgres refused, and bring them back")
    command.add_argument("--config", type=Path, help="a TOML file; the environment has precedence")
    quarantine.add_arguments(command)
    tail.add_arguments(commands.add_parser("tail", help="follow a log and show it readably"))
    return parser


def _overrides(arguments: argparse.Namespace) -> dict[str, object]:
    given = {f"server.{name}": getattr(arguments, name, None) for name in ("host", "port", "workers")}
    return {name: value for name, value in given.items() if value is not None}


def _as_environment(arguments: argparse.Namespace) -> dict[str, str]:
    """Arguments of the command line as environment variables, for the workers."""
    given = {"CONFIG": arguments.config, "HOST": arguments.host, "WORKERS": arguments.workers}
    return {f"GATEWAY_{name}": str(value) for name, value in given.items() if value is not None}


def _refuse_database(settings: Settings) -> None:
    """Raises SettingsError for a database URL that asyncpg would refuse at each connect."""
    url = settings.store.url
    fault = fault_of(url.reveal()) if url is not None else None
    if fault is not None:
        raise SettingsError([f"DATABASE_URL (store.url): the value is hidden here; {fault}"])


def _check(settings: Settings, *, connects: bool) -> int:
    facts, faults = asyncio.run(check.inspect_database(settings)) if connects else ([], [])
    print("\n".join([*map(str, report(settings)), *_remarks(settings), *facts]))  # one write, for `head`
    for fault in faults:
        print(f"llm-gateway: {fault}", file=sys.stderr)
    return 1 if faults else 0


def _remarks(settings: Settings) -> Iterator[str]:
    """Remarks about valid settings without effect."""
    if settings.store.url is not None:
        for name in read_url(settings.store.url.reveal()).ignored:
            yield f"DATABASE_URL (store.url): {name} has no effect: {IGNORED[name]}"


def _open(settings: Settings) -> int:
    if not settings.auth.is_open:
        print("llm-gateway: callers log in at this gateway (GATEWAY_AUTH): use an auditor's key", file=sys.stderr)
        return 1
    try:
        print(OneTimeLinks(settings.data_dir / "open").renew())
    except OSError as error:
        print(
            f"llm-gateway: no gateway runs with the data directory {settings.data_dir} (GATEWAY_DATA_DIR), or it "
            f"belongs to another account: {error.strerror or error}",
            file=sys.stderr,
        )
        return 1
    return 0


def _with_journal(settings: Settings, work: Coroutine[None, None, int | None]) -> int:
    """Runs a command that reads a gateway's journal, which only the gateway's account can read."""
    try:
        return _with_logs(settings, work, fd=2)
    except OSError as error:
        if error.filename is None:
            raise
        print(
            f"llm-gateway: the journal cannot be read ({error.filename}: {error.strerror}): run this as the gateway's "
            "account, with its settings (GATEWAY_DATA_DIR)",
            file=sys.stderr,
        )
        return 1


def _with_logs(settings: Settings, work: Coroutine[None, None, int | None], fd: int = 1) -> int:
    writer = logs.configure(settings.log.format, settings.log.level, fd)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            status = runner.run(work)
    except GatewayError as error:
        structlog.get_logger().error("the gateway cannot go on", error=error.message, code=error.code)
        print(f"llm-gateway: {error.message}", file=sys.stderr)
        return 1
    finally:
        writer.close(2.0)
    return status or 0
