"""Which host this is: an id that lives and dies with the journals of its processes."""

from __future__ import annotations

import os
import socket
import time
from contextlib import suppress
from typing import TYPE_CHECKING
from uuid import UUID

from gateway.ids import Ids
from gateway.journal.disk import make_folder
from gateway.model import Host

if TYPE_CHECKING:
    from pathlib import Path

FILE = "host"


def this_host(directory: Path, version: str) -> Host:
    """This process on this host. The id lies in the journal's directory; where that cannot be written, it is new."""
    return Host(_id_in(directory), socket.gethostname()[:250] or "?", os.getpid(), version, time.monotonic())


def _id_in(directory: Path) -> UUID:
    path = directory / FILE
    new = Ids().new()
    with suppress(OSError):
        make_folder(directory)
        fresh = directory / f"{FILE}.{new}"
        fresh.write_text(f"{new}\n", encoding="ascii")
        try:
            os.link(fresh, path)  # who is first, wins: several workers start at once
        except FileExistsError:
            pass
        finally:
            fresh.unlink(missing_ok=True)
    with suppress(OSError, ValueError):
        return UUID(path.read_text(encoding="ascii").strip())
    with suppress(OSError):  # it is damaged: the next start finds none
        path.unlink(missing_ok=True)
    return new
