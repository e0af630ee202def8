"""The first minutes with the gateway: nothing set, one command, and what it says when something is wrong."""

from __future__ import annotations

import asyncio
import os
import pwd
import shutil
import socket
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import aiohttp
import psutil
import pytest
import pytest_asyncio
from openai import AsyncOpenAI

from tests.gateway_process import ROOT, GatewayProcess

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from tests.postgres import PostgresServer

pytestmark = pytest.mark.asyncio(loop_scope="module")

ORDINARY = "nobody"
SECRET = "sk-very-secret-0123456789"


async def llm_gateway(*arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    """The command as it is typed, run to its end."""
    return await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-m", "gateway", *arguments],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "HOME": "/nonexistent", **env},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def accounts() -> Iterator[str]:
    """Both kinds of user, where there is root to become the other."""
    yield pwd.getpwuid(os.getuid()).pw_name
    if os.getuid() == 0:
        yield ORDINARY


@dataclass(frozen=True)
class Account:
    """A user of this machine, and how that one runs Python. A virtual environment often leads into a closed home."""

    name: str
    python: str
    env: dict[str, str]

    def gateway(self, folder: Path, home: Path) -> GatewayProcess:
        """`llm-gateway --port 0`, and nothing else; root gets a place of its own: its usual one is the machine's."""
        env = self.env | {"HOME": str(home)}
        env |= {"GATEWAY_DATA_DIR": str(home / "data")} if self.name == "root" else {}
        return GatewayProcess(folder, env, arguments=("--port", "0"), python=self.python, user=self.name, is_bare=True)


@pytest.fixture(scope="module", params=list(accounts()))
def account(request: pytest.FixtureRequest) -> Account:
    name, path = str(request.param), {"PATH": os.environ["PATH"]}
    own = Account(name, sys.executable, path)
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    shared = Account(name, f"/usr/bin/python{version}", path | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))})
    for candidate in (own, shared):
        try:
            trial = [candidate.python, "-c", "import gateway.app"]
            subprocess.run(trial, cwd=ROOT, env=candidate.env, user=name, capture_output=True, check=True)
        except (OSError, subprocess.CalledProcessError):
            continue
        return candidate
    pytest.skip(f"{name} cannot run this Python and read this checkout")


@pytest.fixture(scope="module")
def home(account: Account) -> Iterator[Path]:
    """An empty home of that user. Not pytest's: other users cannot reach into that one."""
    folder = Path(tempfile.mkdtemp(prefix="llm-gateway-home-"))
    folder.chmod(0o755)
    owner = pwd.getpwnam(account.name)
    os.chown(folder, owner.pw_uid, owner.pw_gid)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def first(account: Account, home: Path) -> AsyncIterator[GatewayProcess]:
    """The gateway of someone who has just installed it."""
    gateway = account.gateway(home, home)
    try:
        gateway.spawn()
        await gateway.listening()
        yield gateway
    finally:
        if gateway.is_running:
            assert await gateway.stop() == 0
        assert not gateway.complaints()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


async def test_with_nothing_set_the_demo_model_answers_as_a_stream(first: GatewayProcess) -> None:
    async with AsyncOpenAI(base_url=f"{first.url}/v1", api_key="any") as client:
        assert "demo" in [model.id async for model in client.models.list()]
        stream = await client.chat.completions.create(
            model="demo", messages=[{"role": "user", "content": "Hello!"}], max_tokens=60, stream=True
        )
        chunks = [chunk async for chunk in stream]
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert "demo" in text.lower()
    assert len(chunks) > 10


async def test_the_data_lies_in_the_users_home_and_is_nobody_elses(
    first: GatewayProcess, account: Account, home: Path
) -> None:
    data = home / "data" if account.name == "root" else home / ".local/share/llm-gateway"
    assert {"postgres", "journal"} <= {entry.name for entry in data.iterdir()}
    assert (data / "journal").stat().st_mode & 0o077 == 0


async def test_the_page_is_served(first: GatewayProcess, session: aiohttp.ClientSession) -> None:
    async with session.get(f"{first.url}/") as response:
        page = await response.text()
        assert response.status == 200
        assert "script-src 'self'" in response.headers["Content-Security-Policy"]
    assert "<html" in page
    script = page.partition('<script type="module" src="')[2].partition('"')[0]
    async with session.get(f"{first.url}/{script.lstrip('/')}") as response:
        assert response.status == 200
        assert "javascript" in response.headers["Content-Type"]


async def test_health_and_readiness_are_told(first: GatewayProcess, session: aiohttp.ClientSession) -> None:
    async with session.get(f"{first.url}/healthz") as response:
        assert await response.json() == {"status": "ok"}
    async with session.get(f"{first.url}/readyz") as response:
        assert (response.status, await response.json()) == (200, {"status": "ready"})


async def test_f2_a_program_of_this_account_reads_the_link_and_sees_what_is_said(
    first: GatewayProcess, account: Account, home: Path
) -> None:
    data = home / "data" if account.name == "root" else home / ".local/share/llm-gateway"
    link = (data / "open" / "link").read_text().strip()
    assert link.startswith(f"{first.url}/open?token=")
    jar = aiohttp.CookieJar(unsafe=True)  # else it keeps none for an address
    async with aiohttp.ClientSession(cookie_jar=jar) as session:
        async with session.get(f"{first.url}/live/search") as response:
            assert response.status == 403
        async with session.get(link) as response:
            assert (response.status, response.url.path) == (200, "/live")
        async with session.get(f"{first.url}/live/search") as response:
            assert response.status == 200
        async with session.get(f"{first.url}/readyz") as response:
            body = await response.json()
    assert (body["postgres"], body["upstream"], body["draining"]) == ("ok", "demo", False)
    async with aiohttp.ClientSession() as another, another.get(link) as response:
        assert response.status == 403
    assert link.partition("token=")[2] not in first.log_path.read_text()


async def test_what_was_said_is_found_again(first: GatewayProcess, session: aiohttp.ClientSession) -> None:
    body = {"model": "demo", "messages": [{"role": "user", "content": "Remember this."}]}
    async with session.post(f"{first.url}/chat", json=body) as response:
        answer = await response.json()
    async with asyncio.timeout(5):
        while True:
            async with session.get(f"{first.url}/history_v2") as response:
                rows = (await response.json())["Historical_Conversations"]
            if any(row["id"] == answer["uuid"] for row in rows):
                break
            await asyncio.sleep(0.05)
    (row,) = (row for row in rows if row["id"] == answer["uuid"])
    assert row["response"]["choices"] == answer["choices"]


async def test_each_request_is_one_line_that_says_what_it_was(
    first: GatewayProcess, session: aiohttp.ClientSession
) -> None:
    said = [{"role": "user", "content": "A very private question"}]
    body = {"model": "demo", "stream": True, "max_tokens": 12, "messages": said}
    headers = {"x-request-id": "req_of_the_test"}
    async with session.post(f"{first.url}/v1/chat/completions", json=body, headers=headers) as response:
        text = await response.text()
        interaction = response.headers["x-interaction-id"]
        assert response.headers["x-request-id"] == "req_of_the_test"
    await first.logged(lambda line: line.get("request_id") == "req_of_the_test")
    (line,) = (line for line in first.log() if line.get("request_id") == "req_of_the_test")
    expected = {
        "event": "request",
        "level": "info",
        "interaction_id": interaction,
        "caller": "local",
        "method": "POST",
        "path": "/v1/chat/completions",
        "model": "demo",
        "upstream": "demo",
        "stream": True,
        "status": 200,
        "outcome": "complete",
    }
    assert {name: line.get(name) for name in expected} == expected
    for number in ("prompt_tokens", "completion_tokens", "first_token_ms", "duration_ms", "bytes_in", "bytes_out"):
        assert line[number] > 0
    assert line["bytes_out"] == len(text.encode())
    assert line["first_token_ms"] < line["duration_ms"]
    assert "very private" not in first.log_path.read_text()
    async with session.post(f"{first.url}/chat/completions", headers={"x-request-id": "req_lost"}) as response:
        told = (await response.json())["error"]["message"]
    assert (await first.logged(lambda line: line.get("request_id") == "req_lost"))["error"] == told


async def test_tail_shows_the_log_readably(first: GatewayProcess) -> None:
    log = str(first.log_path)
    shown = await llm_gateway("tail", "--no-follow", log)
    assert shown.returncode == 0
    (line,) = (line for line in shown.stdout.splitlines() if "req_of_the_test"[-6:] in line or "stream" in line)
    assert "/v1/chat/completions" in shown.stdout
    assert "demo" in line
    nothing = await llm_gateway("tail", "--no-follow", "--outcome", "truncated", log)
    assert nothing.stdout == ""
    piped = await asyncio.create_subprocess_exec(
        *[sys.executable, "-m", "gateway", "tail"],
        cwd=ROOT,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    out, _ = await piped.communicate(first.log_path.read_bytes())
    assert b"/v1/chat/completions" in out


async def test_a_second_gateway_on_the_same_data_says_so(first: GatewayProcess, account: Account, home: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        second = account.gateway(Path(folder), home)
        second.spawn()
        assert await second.ended() == 1
        said = second.log_path.read_text()
    assert "another data directory (GATEWAY_DATA_DIR)" in said
    assert "Traceback" not in said
    assert first.is_running


async def test_a_port_that_is_taken_is_named(first: GatewayProcess, tmp_path: Path, database: str) -> None:
    failed = await llm_gateway(DATABASE_URL=database, GATEWAY_PORT=str(first.port), GATEWAY_DATA_DIR=str(tmp_path))
    assert failed.returncode == 1
    (told,) = failed.stderr.splitlines()
    assert f"127.0.0.1:{first.port}" in told
    assert "GATEWAY_PORT" in told
    assert "Traceback" not in failed.stdout


async def test_it_starts_again_on_its_data_and_ends_with_its_postgres(
    first: GatewayProcess, session: aiohttp.ClientSession
) -> None:
    children = psutil.Process(first.pid).children(recursive=True)
    assert any("postgres" in child.name() for child in children)
    assert await first.stop() == 0
    assert not [child for child in children if child.is_running() and child.status() != psutil.STATUS_ZOMBIE]
    first.log_path.unlink()
    first.spawn()
    await first.listening()
    async with session.get(f"{first.url}/history_v2") as response:
        rows = (await response.json())["Historical_Conversations"]
    assert [row for row in rows if "Remember this." in str(row["request"])]


async def test_a_killed_gateway_takes_its_postgres_with_it(first: GatewayProcess) -> None:
    children = psutil.Process(first.pid).children(recursive=True)
    assert children
    await first.kill()
    _, alive = await asyncio.to_thread(psutil.wait_procs, children, 10)
    assert not alive
    first.log_path.unlink()
    first.spawn()
    await first.listening()


# --- what is wrong is told, with its name -----------------------------------------------------------------------------


async def test_check_shows_every_setting_and_no_secret() -> None:
    shown = await llm_gateway(
        "check",
        OPENAI_API_KEY=SECRET,
        LLM_API_AUTHORIZATION=f"Bearer {SECRET}",
        LLM_ENDPOINT="https://models.example/v1/chat/completions",
        DATABASE_URL=f"postgresql://me:{SECRET}@db.example/logs",
    )
    assert shown.returncode == 0, shown.stderr
    for name in ("GATEWAY_PORT", "LLM_ENDPOINT", "DATABASE_URL", "GATEWAY_JOURNAL_SYNC", "OPENAI_API_KEY"):
        assert name in shown.stdout
    assert "https://models.example/v1/chat/completions" in shown.stdout
    assert SECRET not in shown.stdout + shown.stderr


@pytest.mark.parametrize("command", ["check", "serve", "migrate"])
async def test_wrong_settings_stop_it_and_all_are_named(command: str) -> None:
    wrong = {
        "GATEWAY_PORT": "eighty",
        "GATEWAY_WORKERS": "-1",
        "GATEWAY_JOURNAL_SYNC": "sometimes",
        "LLM_ENDPOINT": "models.example",
        "GATEWAY_MAX_BODY_BYTES": "12 parsecs",
        "LLM_TYPE": "ORACLE",
    }
    failed = await llm_gateway(command, **wrong)
    assert failed.returncode == 2
    assert failed.stdout == ""
    for name in wrong:
        assert any(name in line for line in failed.stderr.splitlines()), name
    assert "Traceback" not in failed.stderr


async def test_other_machines_are_not_let_in_by_accident() -> None:
    failed = await llm_gateway("serve", "--host", "0.0.0.0")
    assert failed.returncode == 2
    assert "GATEWAY_ALLOW_OPEN" in failed.stderr


async def test_a_secret_that_is_wrong_is_not_repeated() -> None:
    failed = await llm_gateway("check", DATABASE_URL=f"mysql://me:{SECRET}@db.example/logs")
    assert failed.returncode == 2
    assert "DATABASE_URL" in failed.stderr
    assert SECRET not in failed.stderr


@pytest.mark.parametrize("command", ["check", "serve", "migrate", "keys list"])
@pytest.mark.parametrize("sign", ["#", "/", "?", "%", "@", "?sslmode=maybe"])
async def test_a6_a_password_that_is_not_encoded_stops_it_and_is_not_shown(command: str, sign: str) -> None:
    url = f"postgresql://me:{SECRET[:6]}{sign}{SECRET[6:]}@db.example/logs"
    if len(sign) > 1:
        url = f"postgresql://me:{SECRET}@db.example/logs{sign}"
    failed = await llm_gateway(*command.split(), DATABASE_URL=url)
    assert failed.returncode == 2
    assert failed.stderr.startswith("llm-gateway: DATABASE_URL (store.url): the value is hidden here; ")
    assert len(failed.stderr.splitlines()) == 1
    for part in (SECRET, SECRET[:6], SECRET[6:]):
        assert part not in failed.stdout + failed.stderr


async def test_c2_check_names_what_of_a_clouds_url_has_no_effect() -> None:
    url = f"postgresql://me:{SECRET}@db.example/logs?sslmode=require&channel_binding=require"
    shown = await llm_gateway("check", DATABASE_URL=url)
    assert shown.returncode == 0
    assert "channel_binding has no effect" in shown.stdout
    assert SECRET not in shown.stdout + shown.stderr


async def test_c2_a_certificate_that_is_none_is_a_fault_at_start(tmp_path: Path) -> None:
    (tmp_path / "root.crt").write_text("none")
    url = f"postgresql://me:{SECRET}@db.example/logs?sslmode=verify-full&sslrootcert={tmp_path}/root.crt"
    failed = await llm_gateway("check", DATABASE_URL=url)
    assert failed.returncode == 2
    assert "DATABASE_URL (store.url): the value is hidden here; its TLS files cannot be used" in failed.stderr
    assert SECRET not in failed.stdout + failed.stderr


async def test_check_connects_when_it_is_asked_to_and_names_what_is_missing(
    postgres: PostgresServer, database: str, tmp_path: Path
) -> None:
    env = {"DATABASE_URL": database, "GATEWAY_DATA_DIR": str(tmp_path)}

    async def checked(**more: str) -> tuple[int, str, str]:
        done = await llm_gateway("check", "--connect", **{**env, **more})
        return done.returncode, done.stdout, done.stderr

    status, out, err = await checked()
    assert (status, err) == (0, "")
    assert "database: PostgreSQL " in out
    assert "schema: it lacks version 0001 and later ones" in out
    assert (await llm_gateway("migrate", **env)).returncode == 0
    status, out, err = await checked()
    assert (status, err) == (0, "")
    assert "schema: up to date" in out
    name = database.partition("@/")[2].partition("?")[0]
    role = f"clerk_{name[-12:]}"
    await asyncio.to_thread(postgres.execute, f"create role {role} login", postgres.admin_dsn)
    await asyncio.to_thread(
        postgres.execute,
        f"grant usage on schema llm_logs to {role}; grant select on schema_migrations to {role}",
        database,
    )
    try:
        status, _, err = await checked(DATABASE_URL=database.replace("//llm_gateway@", f"//{role}@"))
        assert status == 1
        assert "llm-gateway: the role lacks insert on llm_logs.chatgpt_logs\n" in err
    finally:
        here = postgres.admin_dsn.replace("@/postgres?", f"@/{name}?")
        await asyncio.to_thread(postgres.execute, f"drop owned by {role}; drop role {role}", here)
    await asyncio.to_thread(
        postgres.execute, f'alter database "{name}" set default_transaction_read_only = on', database
    )
    status, _, err = await checked()
    assert status == 1
    assert "read-only" in err
    status, _, err = await checked(DATABASE_URL=database.replace(name, "nowhere"))
    assert status == 1
    assert "does not exist" in err
    assert "Traceback" not in err


async def test_migrate_alone_brings_the_schema_up_to_date(
    postgres: PostgresServer, database: str, tmp_path: Path
) -> None:
    for _ in range(2):
        done = await llm_gateway("migrate", DATABASE_URL=database, GATEWAY_DATA_DIR=str(tmp_path))
        assert done.returncode == 0, done.stderr
    tables = await asyncio.to_thread(
        postgres.fetch, "select table_name from information_schema.tables where table_schema = 'llm_logs'", database
    )
    assert {"chatgpt_logs", "image_logs", "meta_summarizer_log", "api_logs"} <= {row["table_name"] for row in tables}


async def test_migrate_says_when_there_is_no_database(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"postgresql://me:{SECRET}@127.0.0.1:{taken.getsockname()[1]}/logs"
        failed = await llm_gateway("migrate", DATABASE_URL=url, GATEWAY_DATA_DIR=str(tmp_path))
    assert failed.returncode == 1
    assert "Traceback" not in failed.stderr
    assert len(failed.stderr.splitlines()) == 1
    assert SECRET not in failed.stdout + failed.stderr


async def test_help_and_version_are_told() -> None:
    helped, version = await llm_gateway("--help"), await llm_gateway("--version")
    assert helped.returncode == version.returncode == 0
    for command in ("serve", "check", "migrate", "tail"):
        assert command in helped.stdout
    assert version.stdout.startswith("llm-gateway ")


async def test_the_command_has_its_name() -> None:
    installed = Path(sys.executable).parent / "llm-gateway"
    if not installed.exists():
        pytest.skip("the package is not installed here")
    told = await asyncio.to_thread(
        lambda: subprocess.run([installed, "--version"], capture_output=True, text=True, check=True)
    )
    assert told.stdout.startswith("llm-gateway ")


async def test_a_person_at_a_terminal_is_greeted(tmp_path: Path, database: str) -> None:
    if shutil.which("script") is None:
        pytest.skip("no `script` to play a terminal")
    typescript = tmp_path / "typescript"
    command = f"exec {sys.executable} -m gateway --port 0"
    env = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "DATABASE_URL": database,
        "GATEWAY_DATA_DIR": str(tmp_path),
    }
    terminal = await asyncio.create_subprocess_exec(
        *["script", "--quiet", "--return", "--flush", "--command", command, str(typescript)],
        cwd=ROOT,
        env=env | {"TERM": "xterm", "SHELL": "/bin/sh"},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.DEVNULL,
        start_new_session=True,
    )
    assert terminal.stdin is not None
    try:
        async with asyncio.timeout(30):
            while not typescript.exists() or "/open?token=" not in typescript.read_text(errors="replace"):
                await asyncio.sleep(0.05)
            terminal.stdin.write(b"\x03")  # Ctrl-C
            assert await terminal.wait() == 0
    finally:
        if terminal.returncode is None:
            terminal.kill()
            await terminal.wait()
    seen = typescript.read_text(errors="replace")
    assert "http://127.0.0.1:" in seen
    assert '{"timestamp"' not in seen
    assert "Traceback" not in seen
    assert "stopped" in seen
