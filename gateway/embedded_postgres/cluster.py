"""The folders of one embedded PostgreSQL: their lock, the socket's place, and processes that still use them."""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import os
import re
import shutil
import signal
import stat
import sys
import tempfile
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from gateway.embedded_postgres.account import (
    GO_ELSEWHERE,
    EmbeddedPostgresError,
    ServerAccount,
    is_reachable,
    server_account,
)
from gateway.embedded_postgres.binaries import Binaries, find_binaries, within_reach
from gateway.embedded_postgres.launcher import HELD

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

LONGEST_SOCKET_PATH = 103  # macOS; Linux takes 107
SOCKET_NAME = ".s.PGSQL.5432"
HALF_MADE = "data.new-"
LAUNCHER = Path(__file__).with_name("launcher.py")
log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Cluster:
    """One data directory and what its server needs. `marker` is in the command line of each server process."""

    directory: Path
    account: ServerAccount
    binaries: Binaries
    socket: Path
    marker: str

    @property
    def data(self) -> Path:
        return self.directory / "data"

    @property
    def log(self) -> Path:
        return self.directory / "postgres.log"

    @property
    def has_data(self) -> bool:
        return self.data.exists()

    def command(self, program: str, data: Path, arguments: Iterable[str]) -> list[str]:
        """The launcher's command line for one program on `data`, as the server's account.

        If the account cannot enter a folder above it (a 0700 home), the launcher opens the folder before the change of
        user, and the program uses the descriptor: so no folder's permissions change.
        """
        is_near = is_reachable(self.directory, self.account) or sys.platform != "linux"
        user = ("-", "-") if self.account.is_own else (str(self.account.uid), str(self.account.gid))
        return [
            sys.executable,
            "-I",  # isolated: neither the environment nor the working directory can change what it imports
            "-S",
            str(LAUNCHER),
            "bound" if sys.platform == "linux" else "watched",
            str(os.getpid()),
            *user,
            "-" if is_near else str(data),
            str(self.binaries.directory / program),
            "-D",
            str(data) if is_near else f"/proc/self/fd/{HELD}",
            *arguments,
        ]

    def running(self) -> list[int]:
        """The processes of a server on this directory, found by the marker (Linux), without rights over them."""
        return [pid for pid in map(_pid, Path("/proc").glob("[0-9]*")) if self._owns(pid)]

    def _owns(self, pid: int) -> bool:
        try:
            entry = Path("/proc", str(pid))
            return self.marker.encode() in (entry / "cmdline").read_bytes() and entry.stat().st_uid == self.account.uid
        except OSError:
            return False


@contextmanager
def embedded_errors(directory: Path) -> Iterator[None]:
    """Raises EmbeddedPostgresError for an OSError of the body."""
    try:
        yield
    except OSError as error:
        raise EmbeddedPostgresError(
            f"the embedded PostgreSQL cannot use {directory}: {error.strerror or error}; "
            f"choose another data directory (GATEWAY_DATA_DIR), {GO_ELSEWHERE}"
        ) from error


def lock_directory(directory: Path) -> int:
    """Create and lock the directory for this process; the lock ends when the returned descriptor is closed."""
    with embedded_errors(directory):
        # Others may enter (as root, the server's account must) but not list; everything inside has its own permissions.
        directory.mkdir(mode=0o711 if os.geteuid() == 0 else 0o700, parents=True, exist_ok=True)
        lock = os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        holder = os.read(lock, 20).decode(errors="replace").strip() or "unknown"
        os.close(lock)
        if not isinstance(error, BlockingIOError):
            raise EmbeddedPostgresError(f"{directory} cannot be locked: {error.strerror}") from error
        raise EmbeddedPostgresError(
            f"{directory} is in use by another gateway (process {holder}): "
            f"stop it, choose another data directory (GATEWAY_DATA_DIR), {GO_ELSEWHERE}"
        ) from error
    with suppress(OSError):  # a full disk: the number only informs the next gateway
        os.ftruncate(lock, 0)
        os.pwrite(lock, str(os.getpid()).encode(), 0)
    return lock


def inspect(directory: Path, folders: Sequence[Path] | None) -> Cluster:
    """The cluster in the directory: chooses account, programs and socket. Blocks for milliseconds, or for a copy."""
    directory = directory.resolve()
    data = directory / "data"
    with embedded_errors(directory):
        for leftover in directory.glob(f"{HALF_MADE}*"):
            shutil.rmtree(leftover, ignore_errors=True)
        account = server_account(data)
        binaries = find_binaries(_major_of(data), folders)
        binaries = within_reach(binaries, account, _places_for_programs(directory, account))
        socket = _socket_folder(directory, account)
        # Device and inode, too: containers may see each other's processes, and have other folders of the same name.
        marker = f"llm_gateway_{_digest(directory, directory.stat().st_dev, directory.stat().st_ino)}"
        return Cluster(directory, account, binaries, socket, marker)


async def end_earlier_server(cluster: Cluster) -> None:
    """Wait for an earlier server, which shuts down if its gateway was killed; remove its stale file."""
    for number, timeout in ((None, 5.0), (signal.SIGINT, 20.0), (signal.SIGQUIT, 5.0), (signal.SIGKILL, 5.0)):
        remaining = cluster.running()
        if remaining and number is not None:
            log.warning("embedded postgres stops an earlier server", processes=remaining, signal=number.name)
            signal_all(remaining, number)
        if await _have_ended(cluster, timeout):
            break
    else:
        raise EmbeddedPostgresError(f"{cluster.directory} is still in use by processes {cluster.running()}: stop them")
    if sys.platform == "linux":
        # None of ours runs, so the file is stale. Another process may have its number by now, and PostgreSQL would take
        # that for the old server (usual in containers, where the same small numbers repeat).
        (cluster.data / "postmaster.pid").unlink(missing_ok=True)


def signal_all(processes: Iterable[int], number: signal.Signals) -> None:
    """Send a signal to each process that exists."""
    for pid in processes:
        with suppress(ProcessLookupError):
            os.kill(pid, number)
            os.kill(pid, signal.SIGCONT)  # a stopped process would not get the other signal


async def _have_ended(cluster: Cluster, seconds: float) -> bool:
    clock = asyncio.get_running_loop().time
    deadline = clock() + seconds
    while cluster.running():
        if clock() > deadline:
            return False
        await asyncio.sleep(0.05)
    return True


def _major_of(data: Path) -> int | None:
    """The major version of an existing data directory; None: it does not exist yet."""
    if not data.exists():
        return None
    try:
        return int((data / "PG_VERSION").read_text().strip())
    except (OSError, ValueError) as error:
        if data.is_dir() and not any(data.iterdir()):
            data.rmdir()
            return None
        raise EmbeddedPostgresError(
            f"{data} is not a PostgreSQL data directory (no readable PG_VERSION in it): "
            f"move it away, choose another data directory (GATEWAY_DATA_DIR), {GO_ELSEWHERE}"
        ) from error


def _places_for_programs(directory: Path, account: ServerAccount) -> list[Path]:
    """The folders for a copy of the programs. initdb calls postgres through a shell and quotes its path badly."""
    places = (directory, Path("/var/cache/llm-gateway"), Path(tempfile.gettempdir()))
    plain = (place for place in places if not set(str(place)) & set('"$`\\'))
    return [place for place in plain if is_reachable(place if place.exists() else place.parent, account)]


def _socket_folder(directory: Path, account: ServerAccount) -> Path:
    """A folder that only the server's account may enter; the same at each start, so that clients can reconnect."""
    runtime = Path("/run") if os.geteuid() == 0 else Path(f"/run/user/{os.geteuid()}")
    name = f"llm-gateway-{_digest(directory)}"
    for folder in (directory / "run", runtime / name, Path(tempfile.gettempdir(), name), Path("/tmp", name)):  # noqa: S108
        if _takes_socket(folder) and is_reachable(folder.parent, account) and _make_private(folder, account):
            return folder
    raise EmbeddedPostgresError(f"no private folder for a socket could be made in {directory}, {runtime} or /tmp")


def _digest(*parts: object) -> str:
    return hashlib.sha256("|".join(map(str, parts)).encode(errors="surrogateescape")).hexdigest()[:12]


def _takes_socket(folder: Path) -> bool:
    """Whether the path is short enough, and without the separators of a connection string."""
    path = str(folder / SOCKET_NAME)
    return len(os.fsencode(path)) <= LONGEST_SOCKET_PATH and re.search(r"[,\udc80-\udcff]", path) is None


def _make_private(folder: Path, account: ServerAccount) -> bool:
    try:
        with suppress(FileExistsError):
            folder.mkdir(mode=0o700)
            os.chown(folder, account.uid, account.gid, follow_symlinks=False)
        found = folder.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == account.uid and found.st_mode & 0o077 == 0


def _pid(entry: Path) -> int:
    return int(entry.name)
