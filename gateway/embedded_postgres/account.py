"""Chooses the account of the embedded PostgreSQL, which refuses to run as root, and checks what it can reach."""

from __future__ import annotations

import os
import pwd
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gateway.errors import StoreUnavailable

if TYPE_CHECKING:
    from pathlib import Path


class EmbeddedPostgresError(StoreUnavailable):
    """The embedded PostgreSQL cannot start; the message gives the reason and the remedy."""


UNPRIVILEGED = ("postgres", "nobody")
GO_ELSEWHERE = "or set DATABASE_URL to a PostgreSQL of your own"


@dataclass(frozen=True, slots=True)
class ServerAccount:
    """The user and group of the server process."""

    name: str
    uid: int
    gid: int

    @property
    def is_own(self) -> bool:
        """Whether the server runs as the gateway's user."""
        return self.uid == os.geteuid()


def server_account(data: Path) -> ServerAccount:
    """The server's account: the gateway's own; if that is root, the directory's owner or an unprivileged account."""
    owner = data.stat() if data.exists() else None
    if os.geteuid() != 0:
        if owner is not None and owner.st_uid != os.geteuid():
            raise EmbeddedPostgresError(
                f"{data} belongs to {_name(owner.st_uid)}, but the gateway runs as {_name(os.geteuid())}: "
                f"start it as {_name(owner.st_uid)}, choose another data directory (GATEWAY_DATA_DIR), {GO_ELSEWHERE}"
            )
        return ServerAccount(_name(os.geteuid()), os.geteuid(), os.getegid())
    if owner is not None and owner.st_uid != 0:
        return ServerAccount(_name(owner.st_uid), owner.st_uid, owner.st_gid)
    return _unprivileged()


def is_reachable(path: Path, account: ServerAccount) -> bool:
    """Whether the account may enter each folder above `path`, and enter or execute `path`; by mode bits only."""
    if account.is_own:
        return True
    real = path.resolve()
    if not _may(real, account, 0o1 if real.is_dir() else 0o5):
        return False
    return all(_may(folder, account, 0o1) for folder in real.parents)


def _unprivileged() -> ServerAccount:
    for name in UNPRIVILEGED:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return ServerAccount(entry.pw_name, entry.pw_uid, entry.pw_gid)
    raise EmbeddedPostgresError(
        f"PostgreSQL refuses to run as root, and there is no account {' or '.join(UNPRIVILEGED)} for it: "
        f"start the gateway as an ordinary user, {GO_ELSEWHERE}"
    )


def _may(path: Path, account: ServerAccount, wanted: int) -> bool:
    try:
        found = path.stat()
    except OSError:
        return False
    mode = stat.S_IMODE(found.st_mode)
    if found.st_uid == account.uid:
        granted = mode >> 6
    elif found.st_gid == account.gid:
        granted = mode >> 3
    else:
        granted = mode
    return granted & wanted == wanted


def _name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user {uid}"
