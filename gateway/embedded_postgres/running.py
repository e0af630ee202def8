"""Finds the embedded PostgreSQL of a running gateway, for commands beside it, which cannot start a second one."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote

from gateway.embedded_postgres.server import NAME

if TYPE_CHECKING:
    from pathlib import Path

_PORT, _SOCKET_FOLDER = 3, 4  # lines of postmaster.pid, see "src/include/utils/pidfile.h" of PostgreSQL


def running_dsn(directory: Path) -> str | None:
    """The DSN of the server on this directory, from its postmaster.pid; None: no server. It may have ended since."""
    try:
        lines = (directory / "data" / "postmaster.pid").read_text().splitlines()
        port, folder = int(lines[_PORT]), lines[_SOCKET_FOLDER]
    except (OSError, ValueError, IndexError):
        return None
    return f"postgresql://{NAME}@/{NAME}?host={quote(folder, safe='')}&port={port}" if folder else None
