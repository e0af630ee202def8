"""The host's id, kept in the directory of its journals."""

from __future__ import annotations

import os
import socket
import time
from contextlib import suppress
from typing import TYPE_CHECKING
from uuid import UUID

from gateway.ids import Ids
from gateway.journal.disk import make_private_folder
from gateway.model import Host

if TYPE_CHECKING:
    from pathlib import Path

FILE = "host"


def this_host(directory: Path, version: str) -> Host:
    """Returns this process on this host. The host's id is in its file, or new if that cannot be written."""
    return Host(_id_in(directory), socket.gethostname()[:250] or "?", os.getpid(), version, time.monotonic())


def _id_in(directory: Path) -> UUID:
    path = directory / FILE
    new = Ids().new()
    with suppress(OSError):
        make_private_folder(directory)
        fresh = directory / f"{FILE}.{new}"
        fresh.write_text(f"{new}\n", encoding="ascii")
        try:
            os.link(fresh, path)  # several workers start at once: the first one wins
        except FileExistsError:
            pass
        finally:
            fresh.unlink(missing_ok=True)
    with suppress(OSError, ValueError):
        return UUID(path.read_text(encoding="ascii").strip())
    with suppress(OSError):  # damaged: the next start makes a new one
        path.unlink(missing_ok=True)
    return new
