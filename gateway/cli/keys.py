"""`llm-gateway keys create | list | revoke`: manages keys from the command line, also while a gateway runs."""

from __future__ import annotations

import json
import os
import pwd
import re
import sys
import time
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from uuid import UUID

from gateway.app import open_database
from gateway.embedded_postgres.running import running_dsn
from gateway.errors import CallerError, NotFound
from gateway.identity.key_service import KeyService, KeySpec, to_wire
from gateway.ids import Ids
from gateway.model import Principal, Role
from gateway.resources import resource_folder
from gateway.store.keys import Keys
from gateway.store.migrations import migrate
from gateway.store.pool import Database

if TYPE_CHECKING:
    import argparse
    from collections.abc import AsyncIterator, Sequence

    from gateway.model import ApiKey
    from gateway.settings import Settings

PAGE = 500
_DURATION = re.compile(r"([0-9]{1,6})\s*([hdwy])")
_UNIT_S = {"h": 3600, "d": 86_400, "w": 7 * 86_400, "y": 365 * 86_400}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", required=True)
    create = actions.add_parser("create", help="create a key and print it, this once")
    create.add_argument("--user", required=True, help="the key's user, such as an email address")
    create.add_argument("--name", required=True, help="a name for the key, such as 'laptop'")
    create.add_argument("--title", help="the user's job title")
    create.add_argument("--role", action="append", choices=list(Role), default=[], help="may be given several times")
    create.add_argument("--model", action="append", metavar="MODEL", help="a model it may use (default: every model)")
    create.add_argument("--expires", metavar="WHEN", help="90d, 12h, 4w, 1y, 2027-01-31 or 2027-01-31T12:00Z")
    create.add_argument("--json", action="store_true", help="the key and its properties as JSON")
    listing = actions.add_parser("list", help="list keys with their properties; never the keys themselves")
    listing.add_argument("--user", help="only keys of this user")
    listing.add_argument("--all", action="store_true", help="include revoked and expired keys")
    listing.add_argument("--json", action="store_true", help="one JSON object a line")
    revoke = actions.add_parser("revoke", help="revoke a key in every gateway within seconds")
    revoke.add_argument("id", help="the key's id, as `keys list` shows it")


async def run(arguments: argparse.Namespace, settings: Settings) -> int:
    """Runs the command. Returns the exit status: 0 done, 1 no such key, 2 invalid arguments. Raises
    StoreUnavailable."""
    try:
        async with operators_database(settings) as database:
            await migrate(database, resource_folder("sql"))
            service = KeyService(Keys(database), Ids())
            if arguments.action == "create":
                await _create(service, arguments)
            elif arguments.action == "list":
                await _list(service, arguments)
            else:
                await _revoke(service, arguments)
    except NotFound as error:
        return _failed(error.message, 1)
    except CallerError as error:
        return _failed(error.message, 2)
    return 0


@asynccontextmanager
async def operators_database(settings: Settings) -> AsyncIterator[Database]:
    """The embedded PostgreSQL of the running gateway, if there is one; otherwise the gateway's database."""
    dsn = running_dsn(settings.data_dir / "postgres") if settings.store.url is None else None
    if dsn is not None:
        database = Database(dsn, settings.store)
        try:
            if await database.ping(settings.store.connect_s):
                yield database
                return
        finally:
            await database.aclose()
    async with open_database(settings) as database:
        yield database


async def _create(service: KeyService, arguments: argparse.Namespace) -> None:
    spec = KeySpec(
        user=arguments.user,
        name=arguments.name,
        title=arguments.title,
        roles=frozenset(arguments.role),
        expires_at=None if arguments.expires is None else expiry(arguments.expires, time.time()),
        allowed_models=None if arguments.model is None else frozenset(arguments.model),
    )
    made = await service.create(spec, _operator())
    if arguments.json:
        _print(json.dumps({**to_wire(made.key), "value": made.secret.reveal()}, ensure_ascii=False))
        return
    # Only the key goes to standard output, for scripts.
    _print(made.secret.reveal())
    _print_note(f"The key is shown only now. Its id is {made.key.id}.")


async def _list(service: KeyService, arguments: argparse.Namespace) -> None:
    rows: list[ApiKey] = []
    before: UUID | None = None
    while page := await service.list_all(_operator(), limit=PAGE, user=arguments.user, before=before):
        rows += page
        before = page[-1].id
    now = time.time()
    rows = [key for key in rows if arguments.all or state(key, now) == "valid"]
    if arguments.json:
        for key in rows:
            _print(json.dumps(to_wire(key), ensure_ascii=False))
    else:
        _print_table([_cells(key, now) for key in rows])


async def _revoke(service: KeyService, arguments: argparse.Namespace) -> None:
    try:
        key_id = UUID(arguments.id)
    except ValueError:
        raise CallerError(f"{arguments.id!r} is not the id of a key; `llm-gateway keys list` shows the ids") from None
    key = await service.revoke(key_id, _operator())
    _print_note(f"Revoked {key.name!r} of {key.holder.user}; it takes effect in every gateway within seconds.")


def expiry(text: str, now: float) -> float:
    """Unix time of a duration such as `90d`, or of an ISO 8601 date or time, by default in UTC. Raises CallerError."""
    duration = _DURATION.fullmatch(text.strip().lower())
    if duration is not None:
        return now + int(duration[1]) * _UNIT_S[duration[2]]
    try:
        time_given = datetime.fromisoformat(text.strip())
    except ValueError:
        raise CallerError(f"--expires: {text!r} is neither a duration like 90d nor a date like 2027-01-31") from None
    return (time_given if time_given.tzinfo is not None else time_given.replace(tzinfo=UTC)).timestamp()


def state(key: ApiKey, now: float) -> str:
    if key.revoked_at is not None:
        return "revoked"
    return "expired" if key.expires_at is not None and key.expires_at <= now else "valid"


def _operator() -> Principal:
    """An admin named after the account. No further check: whoever has the database's password needs no permission."""
    try:
        name = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        name = str(os.getuid())
    return Principal(user=f"{name} (command line)", roles=frozenset((Role.ADMIN,)))


_HEADINGS = ("ID", "KEY", "USER", "NAME", "ROLES", "MODELS", "CREATED", "EXPIRES", "LAST USED", "STATE")


def _cells(key: ApiKey, now: float) -> tuple[str, ...]:
    holder = key.holder
    return (
        str(key.id),
        f"…{key.hint}",
        holder.user,
        key.name,
        ",".join(sorted(holder.roles)),
        "all" if holder.allowed_models is None else ",".join(sorted(holder.allowed_models)),
        _date(key.created_at),
        _date(key.expires_at),
        _date(key.last_used_at),
        state(key, now),
    )


def _date(seconds: float | None) -> str:
    return "-" if seconds is None else f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M}"


def _print_table(rows: Sequence[tuple[str, ...]]) -> None:
    widths = [max(map(len, column)) for column in zip(_HEADINGS, *rows, strict=True)]
    for row in (_HEADINGS, *rows):
        _print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _print(line: str) -> None:
    sys.stdout.write(f"{line}\n")


def _print_note(line: str) -> None:
    sys.stderr.write(f"{line}\n")


def _failed(message: str, status: int) -> int:
    _print_note(f"llm-gateway: {message}")
    return status
