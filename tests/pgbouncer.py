"""A real PgBouncer in front of a test's PostgreSQL, in transaction mode; tests skip where it is not installed."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.gateway_process import ENDS_WITH_PARENT, free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

PROGRAM = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin:/sbin")
needs_pgbouncer = pytest.mark.skipif(PROGRAM is None, reason="pgbouncer is not installed (.ci/tools installs it)")
START_S = 10.0


@contextmanager
def running_pgbouncer(dsn: str, **settings: str) -> Iterator[str]:
    """The DSN of the same database through PgBouncer as it comes, but for the pool mode and these settings."""
    parts = urlsplit(dsn)
    sockets = Path(parse_qs(parts.query)["host"][0])
    port = free_port()
    account = sockets.stat()  # whose processes may reach the server's socket; PgBouncer does not run as root
    with tempfile.TemporaryDirectory(prefix="llm-gateway-pgbouncer-") as folder:
        os.chown(folder, account.st_uid, account.st_gid)
        lines = {
            "listen_addr": "127.0.0.1",
            "listen_port": str(port),
            "unix_socket_dir": "",
            "auth_type": "any",
            "pool_mode": "transaction",
            "logfile": f"{folder}/log",
            **settings,
        }
        ini = Path(folder, "pgbouncer.ini")
        ini.write_text(
            f"[databases]\n* = host={sockets} port=5432 user={parts.username}\n[pgbouncer]\n"
            + "".join(f"{name} = {value}\n" for name, value in lines.items())
        )
        assert PROGRAM is not None
        process = subprocess.Popen(
            [*ENDS_WITH_PARENT, PROGRAM, "-q", str(ini)],
            user=account.st_uid if os.geteuid() == 0 else None,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            _wait_for(port, process)
            yield f"postgresql://{parts.username}@127.0.0.1:{port}{parts.path}?sslmode=disable"
        finally:
            process.kill()
            process.wait()


def _wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_S
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            assert process.poll() is None, "pgbouncer has ended"
            assert time.monotonic() < deadline, "pgbouncer does not listen"
            time.sleep(0.02)
        else:
            return
