"""The embedded PostgreSQL: a child process on a unix socket that starts and ends with the gateway."""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import suppress
from typing import TYPE_CHECKING, Self
from urllib.parse import quote

import structlog

from gateway.embedded_postgres.account import EmbeddedPostgresError
from gateway.embedded_postgres.binaries import Binaries, find_binaries
from gateway.embedded_postgres.cluster import Cluster, end_earlier_server, inspect, lock_directory, signal_all
from gateway.embedded_postgres.initdb import SUPERUSER, make_data
from gateway.errors import StoreUnavailable, safe_text
from gateway.store.server_probe import ensure_database, takes_connections

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path
    from types import TracebackType

__all__ = ["Binaries", "EmbeddedPostgres", "EmbeddedPostgresError", "find_binaries"]

NAME = "llm_gateway"  # of the role and of its database
READY_S = 60.0
RECOVERY_S = 3600.0  # after a crash it replays its log, which can be gigabytes
LOG_BYTES = 8 * 1024 * 1024
LOG_KEPT_BYTES = 64 * 1024
LOG_CHECK_S = 60.0
SLOWEST_RESTART_S = 5.0
STABLE_S = 60.0  # after so long, the next crash counts as the first
SHUTDOWN = (
    (signal.SIGINT, 15.0),
    (signal.SIGQUIT, 5.0),
    (signal.SIGKILL, 5.0),
)  # fast shutdown, immediate shutdown, kill
SETTINGS = {
    "listen_addresses": "",
    "port": "5432",
    "unix_socket_permissions": "0700",
    "max_connections": "64",
    "shared_buffers": "64MB",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "jit": "off",  # short statements only; compiling one costs more than running it
    "logging_collector": "off",
    "log_destination": "stderr",
    "log_line_prefix": "%m [%p] ",
    "log_checkpoints": "off",
    # The text of a statement, and an error's detail ("Failing row contains …"), may contain prompts and answers.
    "log_min_messages": "log",  # an ERROR's text may quote a prompt or an answer, and the client gets it anyway
    "log_min_error_statement": "panic",
    "log_error_verbosity": "terse",
}
CREATE_ROLE = "create role llm_gateway login createdb"
CREATE_DATABASE = "create database llm_gateway owner llm_gateway"
log = structlog.get_logger()


class EmbeddedPostgres:
    """Serves the data in `directory`, creates it at the first start, and restarts the server when it ends.

    `settings` are further PostgreSQL settings; `folders` are searched for its programs (default: all usual places).
    `start` returns after `start_s` seconds, ready or not (default: when ready, after READY_S at most).
    The thread that calls `start` must live until `stop`: the kernel ends the server together with that thread.
    """

    def __init__(
        self,
        directory: Path,
        *,
        settings: Mapping[str, str] | None = None,
        folders: Sequence[Path] | None = None,
        start_s: float | None = None,
    ) -> None:
        self._directory = directory
        self._start_s = start_s
        self._settings = {**SETTINGS, **(settings or {})}
        self._folders = folders
        self._lock: int | None = None
        self._cluster: Cluster | None = None
        self._server: asyncio.subprocess.Process | None = None  # the newest; it may have ended
        self._supervisor: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    @property
    def dsn(self) -> str:
        """The DSN for clients; the same at each start on the same directory."""
        return self._dsn_of(NAME, NAME)

    @property
    def admin_dsn(self) -> str:
        """The DSN of the superuser, for tests and the creation of the database."""
        return self._dsn_of(SUPERUSER, SUPERUSER)

    @property
    def version(self) -> str:
        """The version of PostgreSQL."""
        return self._known.binaries.version

    @property
    def pid(self) -> int | None:
        """The server's first process; None while none runs."""
        return self._server.pid if self._server is not None and self._server.returncode is None else None

    async def start(self) -> str:
        """Start the server and return its DSN. Raises EmbeddedPostgresError; then no process is left running."""
        if self._lock is not None:
            raise EmbeddedPostgresError(f"the embedded PostgreSQL on {self._directory} is already started")
        self._lock = lock_directory(self._directory)
        try:
            self._cluster = await asyncio.to_thread(inspect, self._directory, self._folders)
            await make_data(self._cluster, ["--no-sync"] if self._settings.get("fsync") == "off" else [])
            server, begin = await self._spawn(self._cluster)
            timeout = READY_S if self._start_s is None else RECOVERY_S
            first = asyncio.create_task(self._make_ready(server, begin, timeout), name="embedded postgres gets ready")
            self._supervisor = first
            if (await asyncio.wait({first}, timeout=self._start_s))[0]:
                first.result()
        except BaseException:
            await self.stop()
            raise
        self._supervisor = asyncio.create_task(self._supervise(self._cluster, server, first))
        log.info(
            "embedded postgres started",
            directory=str(self._directory),
            version=self.version,
            pid=self.pid,
            ready=first.done(),
        )
        return self.dsn

    async def stop(self) -> None:
        """Shut the server down, with increasing force. Safe to call twice, or after a failed start."""
        if self._supervisor is not None:
            self._supervisor.cancel()
            await asyncio.wait({self._supervisor})
            self._supervisor = None
        if self._cluster is not None:
            await self._shut_down(self._cluster)
            self._cluster = None
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    @property
    def _known(self) -> Cluster:
        if self._cluster is None:
            raise EmbeddedPostgresError(f"the embedded PostgreSQL on {self._directory} is not started")
        return self._cluster

    def _dsn_of(self, role: str, database: str) -> str:
        return f"postgresql://{role}@/{database}?host={quote(str(self._known.socket), safe='')}&port=5432"

    async def _launch(self, cluster: Cluster) -> asyncio.subprocess.Process:
        server, begin = await self._spawn(cluster)
        await self._make_ready(server, begin, RECOVERY_S)
        return server

    async def _spawn(self, cluster: Cluster) -> tuple[asyncio.subprocess.Process, int]:
        """The server's process, and the offset of its output in the log."""
        await end_earlier_server(cluster)
        bound_log(cluster.log)
        output = os.open(cluster.log, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        try:
            begin = os.fstat(output).st_size
            server = self._server = await asyncio.create_subprocess_exec(
                *cluster.command("postgres", cluster.data, self._arguments(cluster)),
                env=cluster.binaries.environment,
                stdin=asyncio.subprocess.PIPE,
                stdout=output,
                stderr=output,
                start_new_session=True,  # Ctrl-C at the terminal is for the gateway alone
            )
        finally:
            os.close(output)
        return server, begin

    async def _make_ready(self, server: asyncio.subprocess.Process, begin: int, timeout_s: float) -> None:
        await self._until_ready(server, self._known.log, begin, timeout_s)
        await ensure_database(self.dsn, self.admin_dsn, CREATE_ROLE, CREATE_DATABASE)

    def _arguments(self, cluster: Cluster) -> list[str]:
        """The settings as arguments: these override the files of the data directory, in which root must not write."""
        quoted = '"' + str(cluster.socket).replace('"', '""') + '"'
        settings = {**self._settings, "unix_socket_directories": quoted, "cluster_name": cluster.marker}
        return [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]

    async def _until_ready(self, server: asyncio.subprocess.Process, path: Path, begin: int, timeout_s: float) -> None:
        clock = asyncio.get_running_loop().time
        started = clock()
        while not await takes_connections(self.admin_dsn):  # as superuser, for whom PostgreSQL reserves connections
            if server.returncode is not None:
                output = _tail(path, begin)
                raise EmbeddedPostgresError(f"PostgreSQL ended at its start (exit code {server.returncode}):\n{output}")
            waited = clock() - started
            if waited > timeout_s:
                raise EmbeddedPostgresError(f"PostgreSQL was not ready after {waited:.0f} s:\n{_tail(path, begin)}")
            await asyncio.sleep(0.01 if waited < 1 else 0.1)

    async def _supervise(self, cluster: Cluster, server: asyncio.subprocess.Process, first: asyncio.Task[None]) -> None:
        """Restart the server each time it ends, until cancelled, with a growing delay."""
        try:
            await first
        except (StoreUnavailable, OSError) as error:
            log.error("embedded postgres did not start", error=safe_text(error))  # noqa: TRY400
            await self._end(cluster)
            server, _ = await self._relaunch(cluster, 0.0)
        clock = asyncio.get_running_loop().time
        delay = 0.0
        while True:
            begun = clock()
            code = await self._until_ended(cluster, server)
            if clock() - begun > STABLE_S:
                delay = 0.0
            log.error("embedded postgres died", exit_code=code, restart_in_s=delay)
            server, delay = await self._relaunch(cluster, delay)
            log.warning("embedded postgres restarted", pid=server.pid)

    async def _relaunch(self, cluster: Cluster, delay: float) -> tuple[asyncio.subprocess.Process, float]:
        while True:
            await asyncio.sleep(delay)
            delay = min(2 * delay + 0.1, SLOWEST_RESTART_S)
            try:
                return await self._launch(cluster), delay
            except Exception as error:  # noqa: BLE001  after any error, a later attempt may succeed
                log.error("embedded postgres did not restart", error=str(error), again_in_s=delay)  # noqa: TRY400
                await self._end(cluster)

    async def _until_ended(self, cluster: Cluster, server: asyncio.subprocess.Process) -> int:
        """Wait for the end of the server, and bound its log meanwhile. Returns the exit code."""
        ended = asyncio.ensure_future(server.wait())
        try:
            while not (await asyncio.wait((ended,), timeout=LOG_CHECK_S))[0]:
                bound_log(cluster.log)
            return ended.result()
        finally:
            ended.cancel()

    async def _shut_down(self, cluster: Cluster) -> None:
        await self._end(cluster)
        if cluster.socket.parent != cluster.directory:
            with suppress(OSError):
                cluster.socket.rmdir()
        log.info("embedded postgres stopped", directory=str(cluster.directory))

    async def _end(self, cluster: Cluster) -> None:
        server = self._server
        if server is None:
            return
        signal_all(cluster.running(), signal.SIGCONT)  # a stopped child would block the shutdown
        for number, timeout in SHUTDOWN:
            if server.returncode is not None:
                break
            signal_all([server.pid], number)
            with suppress(TimeoutError):
                await asyncio.wait_for(server.wait(), timeout)
                break
            log.warning("embedded postgres does not stop", after=number.name, waited_s=timeout)
        signal_all(cluster.running(), signal.SIGKILL)  # a killed server may leave children
        self._server = None


def bound_log(path: Path) -> None:
    """Keep only the end of a log that is too long. The server appends, so it continues after the end."""
    with suppress(OSError):
        if path.stat().st_size > LOG_BYTES:
            kept = _tail(path, 0, LOG_KEPT_BYTES)
            os.truncate(path, 0)
            with path.open("a") as file:
                file.write(f"{kept}\n")


def _tail(path: Path, begin: int, limit: int = 4000) -> str:
    """The end of the log after the offset `begin`."""
    with path.open("rb") as file:
        file.seek(max(begin, path.stat().st_size - limit))
        return file.read(limit).decode(errors="replace").strip()
