"""A real PostgreSQL for tests: fixtures `postgres` (one server a session) and `database` (an empty database a test).

A test that stops, freezes or kills the server takes one of its own, by `with running_postgres() as server`, and leaves
the session's alone. All methods are plain functions that block for a moment: the server is served by a thread with its
own event loop, so any test may call them, with `asyncio.to_thread` where its own loop must go on meanwhile.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import tempfile
import threading
import time
import uuid
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar
from urllib.parse import urlsplit

import asyncpg
import pytest

from gateway.embedded_postgres.server import EmbeddedPostgres

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterator, Mapping, Sequence

# What a test loses in a power cut, it makes anew.
HASTY: Mapping[str, str] = {
    "fsync": "off",
    "full_page_writes": "off",
    "synchronous_commit": "off",
    "max_connections": "200",
}
PATIENCE_S = 90.0
ROOMY_BYTES = 4 << 30
T = TypeVar("T")


class PostgresServer:
    """An embedded server in a thread of its own. `dsn` stays the same across `stop` and `start`."""

    def __init__(
        self, directory: Path, settings: Mapping[str, str] = HASTY, folders: Sequence[Path] | None = None
    ) -> None:
        self.directory = directory
        self._folders = folders
        self._settings = settings
        self._loop = asyncio.new_event_loop()
        # The kernel ends the server when the thread that spawned it ends, so the thread lives as long as this object.
        self._thread = threading.Thread(target=self._loop.run_forever, name="test postgres", daemon=True)
        self._embedded: EmbeddedPostgres | None = None
        self._dsn = ""
        self._admin_dsn = ""

    def open(self) -> Self:
        self._thread.start()
        self.start()
        return self

    def close(self) -> None:
        self.stop()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    @property
    def dsn(self) -> str:
        """As the ordinary role `llm_gateway`, which owns the database `llm_gateway` and may create others."""
        return self._dsn

    @property
    def admin_dsn(self) -> str:
        """The same server as superuser."""
        return self._admin_dsn

    @property
    def pid(self) -> int:
        """Of the postmaster; another one after each restart. Fails while the server is down."""
        pid = self._embedded.pid if self._embedded is not None else None
        assert pid is not None, "the server is down"
        return pid

    def start(self) -> None:
        self._embedded = EmbeddedPostgres(self.directory, settings=self._settings, folders=self._folders)
        self.call(self._embedded.start())
        self._dsn, self._admin_dsn = self._embedded.dsn, self._embedded.admin_dsn

    def stop(self) -> None:
        """A clean shutdown; it stays down until `start`. Does nothing when it is down already."""
        if self._embedded is not None:
            self.call(self._embedded.stop())
            self._embedded = None

    def restart(self) -> None:
        self.stop()
        self.start()

    def snapshot(self, to: Path) -> None:
        """Copy the whole server, as it is after a clean stop, and start it again."""
        self.stop()
        subprocess.run(["cp", "-a", str(self.directory), str(to)], check=True)
        self.start()

    def restore(self, snapshot: Path) -> None:
        """Go back to a snapshot: what was committed since is gone."""
        self.stop()
        shutil.rmtree(self.directory)
        subprocess.run(["cp", "-a", str(snapshot), str(self.directory)], check=True)
        self.start()

    def freeze(self) -> None:
        """SIGSTOP to every process of the server: connections stay open and nothing answers."""
        self._signal_all(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal_all(signal.SIGCONT)

    def crash(self) -> None:
        """Kill -9 the postmaster. Its children follow; the supervision brings it back by itself: `wait_for_restart`."""
        os.kill(self.pid, signal.SIGKILL)

    def kill(self) -> None:
        """Kill -9 all of it, as a host that is lost; it stays down until `start`."""
        assert self._embedded is not None
        assert self._embedded._supervisor is not None
        self._loop.call_soon_threadsafe(self._embedded._supervisor.cancel)
        for pid in self.processes():
            os.kill(pid, signal.SIGKILL)
        self.stop()

    def wait_for_restart(self, old_pid: int) -> None:
        """Until another postmaster than `old_pid` answers."""
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            pid = self._embedded.pid if self._embedded is not None else None
            if pid not in (None, old_pid) and self._answers():
                return
            time.sleep(0.02)
        pytest.fail("the server did not come back")

    def processes(self) -> list[int]:
        """The postmaster first, then its children."""
        parent = self.pid
        others = (int(entry.name) for entry in Path("/proc").glob("[0-9]*"))
        return [parent, *(pid for pid in others if _parent(pid) == parent)]

    def create_database(self) -> str:
        """A fresh, empty database; returns its DSN."""
        name = f"test_{uuid.uuid4().hex}"
        self.execute(f'create database "{name}"')
        return self.dsn.replace("@/llm_gateway?", f"@/{name}?", 1)

    def drop_database(self, dsn: str) -> None:
        # As superuser: an autovacuum worker may be at it, which nobody else may send away.
        self.execute(f'drop database if exists "{urlsplit(dsn).path.strip("/")}" with (force)', self.admin_dsn)

    def execute(self, sql: str, dsn: str | None = None) -> None:
        self.call(_execute(dsn or self.dsn, sql))

    def fetch(self, sql: str, dsn: str | None = None) -> list[asyncpg.Record]:
        return self.call(_fetch(dsn or self.dsn, sql))

    def call(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine in the server's thread and wait for it."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(PATIENCE_S)

    def _answers(self) -> bool:
        try:
            self.execute("select 1")
        except (OSError, asyncpg.PostgresError):
            return False
        return True

    def _signal_all(self, number: signal.Signals) -> None:
        for pid in self.processes():
            os.kill(pid, number)


def roomy_memory() -> str | None:
    """A file system in memory, where there is one with room: none of the tests then waits for a busy disk."""
    memory = Path("/dev/shm")
    is_roomy = memory.is_dir() and os.access(memory, os.W_OK) and shutil.disk_usage(memory).free > ROOMY_BYTES
    return str(memory) if is_roomy else None


@contextmanager
def running_postgres(
    settings: Mapping[str, str] = HASTY, directory: Path | None = None, folders: Sequence[Path] | None = None
) -> Iterator[PostgresServer]:
    """A server of one's own, in `directory` or in a new folder that goes with it; its programs are in `folders`."""
    with tempfile.TemporaryDirectory(dir=roomy_memory(), prefix="llm-gateway-", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o711)  # as root, so that the server's account may pass through
        server = PostgresServer(directory or Path(folder) / "postgres", settings, folders).open()
        try:
            yield server
        finally:
            server.close()


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """One server for all tests of this process (of each worker, with pytest-xdist). Leave it running."""
    with running_postgres() as server:
        yield server


@pytest.fixture
def database(postgres: PostgresServer) -> Iterator[str]:
    """The DSN of an empty database that is this test's own."""
    dsn = postgres.create_database()
    yield dsn
    postgres.drop_database(dsn)


def _parent(pid: int) -> int | None:
    try:
        # The name in brackets may hold anything; what follows the last bracket is: state, parent, …
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return None


async def _execute(dsn: str, sql: str) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(sql)
    finally:
        await connection.close()


async def _fetch(dsn: str, sql: str) -> list[asyncpg.Record]:
    connection = await asyncpg.connect(dsn)
    try:
        return await connection.fetch(sql)
    finally:
        await connection.close()
