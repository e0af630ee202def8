"""The folders of one embedded PostgreSQL: who holds them, where its socket lies, how its data directory is made."""

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

from gateway.store.account import GO_ELSEWHERE, Account, EmbeddedPostgresError, is_reachable, server_account
from gateway.store.binaries import Binaries, find_binaries, within_reach
from gateway.store.launcher import HELD

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

SUPERUSER = "postgres"
LONGEST_SOCKET_PATH = 103  # macOS; Linux takes 107
SOCKET_NAME = ".s.PGSQL.5432"
INITDB_S = 120.0
HALF_MADE = "data.new-"
LAUNCHER = Path(__file__).with_name("launcher.py")
log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Cluster:
    """One data directory with all that is needed to serve it. `marker` stands in each server process's command line."""

    directory: Path
    account: Account
    binaries: Binaries
    socket: Path
    marker: str

    @property
    def data(self) -> Path:
        return self.directory / "data"

    @property
    def has_data(self) -> bool:
        return self.data.exists()

    def command(self, program: str, data: Path, arguments: Iterable[str]) -> list[str]:
        """The launcher's command line for one program on `data`, as the server's account.

        Where the account cannot walk to the folder (a 0700 home above it), the launcher opens it while it still may,
        and the program goes through the descriptor: no permission of any folder is changed for it.
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
        """Processes of a server on this directory, found by the marker (Linux). Needs no right to look into them."""
        return [pid for pid in map(_pid, Path("/proc").glob("[0-9]*")) if self._owns(pid)]

    def _owns(self, pid: int) -> bool:
        try:
            entry = Path("/proc", str(pid))
            return self.marker.encode() in (entry / "cmdline").read_bytes() and entry.stat().st_uid == self.account.uid
        except OSError:
            return False


def hold(directory: Path) -> int:
    """Make the directory if need be and lock it for this process; the descriptor holds the lock until it is closed."""
    with _in_our_words(directory):
        # Others may pass through (as root the server's account must) but not look; all inside is closed by itself.
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
            f"stop it, choose another data directory, {GO_ELSEWHERE}"
        ) from error
    os.ftruncate(lock, 0)
    os.pwrite(lock, str(os.getpid()).encode(), 0)
    return lock


def survey(directory: Path, folders: Sequence[Path] | None) -> Cluster:
    """See what is there; choose account, programs and socket. Blocks for milliseconds, or for a copy of programs."""
    directory = directory.resolve()
    data = directory / "data"
    with _in_our_words(directory):
        for left in directory.glob(f"{HALF_MADE}*"):
            shutil.rmtree(left, ignore_errors=True)
        account = server_account(data)
        binaries = find_binaries(_major_of(data), folders)
        binaries = within_reach(binaries, account, _places_for_programs(directory, account))
        digest = hashlib.sha256(os.fsencode(directory)).hexdigest()[:12]
        socket = _socket_folder(directory, account, digest)
        return Cluster(directory, account, binaries, socket, marker=f"llm_gateway_{digest}")


async def make_data(cluster: Cluster, extra: Sequence[str] = ()) -> None:
    """Run initdb in a folder that becomes the data directory once it is whole; if there is one, do nothing."""
    if cluster.has_data:
        return
    with _in_our_words(cluster.directory):
        scratch = Path(tempfile.mkdtemp(dir=cluster.directory, prefix=HALF_MADE))
        if not cluster.account.is_own:
            os.chown(scratch, cluster.account.uid, cluster.account.gid)
        try:
            await _initdb(cluster, scratch, extra)
            _settle(scratch, cluster.data)
        except BaseException:
            shutil.rmtree(scratch, ignore_errors=True)
            raise
    log.info("embedded postgres created", directory=str(cluster.directory), version=cluster.binaries.version)


async def clear_the_way(cluster: Cluster) -> None:
    """Wait for an earlier server, which is shutting down if its gateway was killed; remove what it left behind."""
    for number, patience in ((None, 5.0), (signal.SIGINT, 20.0), (signal.SIGQUIT, 5.0), (signal.SIGKILL, 5.0)):
        left = cluster.running()
        if left and number is not None:
            log.warning("embedded postgres stops an earlier server", processes=left, signal=number.name)
            signal_all(left, number)
        if await _are_gone(cluster, patience):
            break
    else:
        raise EmbeddedPostgresError(f"{cluster.directory} is still in use by processes {cluster.running()}: stop them")
    if sys.platform == "linux":
        # None of ours lives, so the file is stale; its number may meanwhile belong to a stranger, whom PostgreSQL would
        # take for the old server (the usual fate in containers, where the same small numbers come again).
        (cluster.data / "postmaster.pid").unlink(missing_ok=True)


def signal_all(processes: Iterable[int], number: signal.Signals) -> None:
    for pid in processes:
        with suppress(ProcessLookupError):
            os.kill(pid, number)
            os.kill(pid, signal.SIGCONT)  # a frozen process would never see the other


async def _are_gone(cluster: Cluster, patience: float) -> bool:
    clock = asyncio.get_running_loop().time
    deadline = clock() + patience
    while cluster.running():
        if clock() > deadline:
            return False
        await asyncio.sleep(0.05)
    return True


async def _initdb(cluster: Cluster, scratch: Path, extra: Sequence[str]) -> None:
    said = ""
    for locale in _locales(cluster.binaries.major):
        code, said = await _run_initdb(cluster, scratch, [*locale, *extra])
        if code == 0:
            return
        if "invalid locale" not in said:
            break
    reason = "the disk is full" if "No space left on device" in said else f"initdb failed (exit code {code})"
    said = said[-2000:].strip()
    raise EmbeddedPostgresError(
        f"no data directory could be made in {cluster.directory}: {reason}:\n{said}\nMend that, {GO_ELSEWHERE}"
    )


async def _run_initdb(cluster: Cluster, scratch: Path, extra: Sequence[str]) -> tuple[int | None, str]:
    arguments = (
        f"--username={SUPERUSER}",
        # Who may come in is decided by the socket's folder (0700): the kernel lets nobody else through it to connect.
        # Peer authentication would add nothing to that, and needs a name for our user id, which containers often lack.
        "--auth-local=trust",
        "--auth-host=reject",
        "--encoding=UTF8",
        "--data-checksums",
        "--no-instructions",
        *extra,
    )
    with tempfile.TemporaryFile() as output:
        initdb = await asyncio.create_subprocess_exec(
            *cluster.command("initdb", scratch, arguments),
            env=cluster.binaries.environment,
            stdin=asyncio.subprocess.PIPE,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
        try:
            code = await asyncio.wait_for(initdb.wait(), INITDB_S)
        except TimeoutError:
            return None, f"not done after {INITDB_S:.0f} s"
        finally:
            if initdb.returncode is None:
                initdb.kill()
                await initdb.wait()
        output.seek(0)
        return code, output.read().decode(errors="replace")


def _locales(major: int) -> Sequence[Sequence[str]]:
    """Byte order for comparing, Unicode for upper and lower case; the same on each machine, without ICU."""
    if major >= 17:
        return (("--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"),)
    return (("--locale=C", "--lc-ctype=C.UTF-8"), ("--locale=C",))


def _major_of(data: Path) -> int | None:
    """The major version that an existing data directory asks for; None when there is none yet."""
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
            f"move it away, choose another data directory, {GO_ELSEWHERE}"
        ) from error


def _places_for_programs(directory: Path, account: Account) -> list[Path]:
    """Where a copy of them may lie. initdb calls postgres through a shell, with poor quotes around its path."""
    places = (directory, Path("/var/cache/llm-gateway"), Path(tempfile.gettempdir()))
    plain = (place for place in places if not set(str(place)) & set('"$`\\'))
    return [place for place in plain if is_reachable(place if place.exists() else place.parent, account)]


def _socket_folder(directory: Path, account: Account, digest: str) -> Path:
    """A folder that only the server's account may enter; the same one at each start, so that connections come back."""
    runtime = Path("/run") if os.geteuid() == 0 else Path(f"/run/user/{os.geteuid()}")
    name = f"llm-gateway-{digest}"
    for folder in (directory / "run", runtime / name, Path(tempfile.gettempdir(), name), Path("/tmp", name)):  # noqa: S108
        if _takes_socket(folder) and is_reachable(folder.parent, account) and _make_private(folder, account):
            return folder
    raise EmbeddedPostgresError(f"no private folder for a socket could be made in {directory}, {runtime} or /tmp")


def _takes_socket(folder: Path) -> bool:
    """Short enough, and without what separates folders in a connection string."""
    path = str(folder / SOCKET_NAME)
    return len(os.fsencode(path)) <= LONGEST_SOCKET_PATH and re.search(r"[,\udc80-\udcff]", path) is None


def _make_private(folder: Path, account: Account) -> bool:
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


def _settle(scratch: Path, data: Path) -> None:
    """Give it its name, and have that on the disk before anything is written into it."""
    scratch.rename(data)
    descriptor = os.open(data.parent, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _in_our_words(directory: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise EmbeddedPostgresError(
            f"the embedded PostgreSQL cannot use {directory}: {error.strerror or error}; "
            f"choose another data directory, {GO_ELSEWHERE}"
        ) from error
