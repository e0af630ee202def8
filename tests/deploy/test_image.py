"""What can be known of the image without an engine to build it: its sources, its lock files, its health check."""

from __future__ import annotations

import fnmatch
import json
import os
import re
import runpy
import subprocess
import sys
import threading
import tomllib
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from gateway.settings import load
from gateway.settings.table import settings_table

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILE = (ROOT / "deploy/Dockerfile").read_text("utf-8")
COMPOSE = (ROOT / "docker-compose.yml").read_text("utf-8")
LOCK = runpy.run_path(str(ROOT / "deploy/lock.py"), run_name="lock")
WANTED: dict[str, list[str]] = LOCK["requirements"](tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8")))


def instructions(name: str) -> list[str]:
    """The arguments of each such instruction, lines continued by a backslash joined."""
    joined = re.sub(r"\\\n\s*", "", DOCKERFILE)
    return re.findall(rf"^{name}\s+(.*)$", joined, re.MULTILINE)


def copied() -> list[str]:
    own = [arguments.split() for arguments in instructions("COPY") if not arguments.startswith("--from=")]
    return [source for words in own for source in words[:-1]]


def is_sent_to_the_engine(path: str) -> bool:
    """As `.dockerignore` has it: the last pattern that matches the path, or a folder above it, decides."""
    lines = (ROOT / ".dockerignore").read_text("utf-8").splitlines()
    kept = True
    for line in lines:
        pattern = line.strip().rstrip("/")
        if pattern and not pattern.startswith("#"):
            parts = path.split("/")
            folders = ["/".join(parts[:end]) for end in range(1, len(parts) + 1)]
            if any(fnmatch.fnmatchcase(folder, pattern.lstrip("!").removeprefix("**/")) for folder in folders):
                kept = pattern.startswith("!")
    return kept


@pytest.mark.parametrize("source", copied())
def test_everything_that_is_copied_exists_and_reaches_the_engine(source: str) -> None:
    assert (ROOT / source).exists()
    assert is_sent_to_the_engine(source.rstrip("/"))


@pytest.mark.parametrize(
    "path", [".git/config", ".env", ".venv/bin/python", "tests/settings/test_settings.py", "deploy/lock.py"]
)
def test_nothing_else_reaches_the_engine(path: str) -> None:
    assert not is_sent_to_the_engine(path)


def test_wheels_sources_are_all_copied() -> None:
    build = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["hatch"]["build"]["targets"]["wheel"]
    needed = {*build["packages"], *build["force-include"], "pyproject.toml", "README.md", "LICENSE"}
    assert needed <= {source.rstrip("/") for source in copied()}


def test_image_runs_as_a_normal_user_and_ends_on_sigterm() -> None:
    assert instructions("USER") == ["10001:10001"]
    assert instructions("STOPSIGNAL") == ["SIGTERM"]
    assert json.loads(instructions("ENTRYPOINT")[0]) + json.loads(instructions("CMD")[-1]) == ["llm-gateway", "serve"]
    last_stage = DOCKERFILE[DOCKERFILE.rindex("\nFROM ") :]
    assert not re.search(r"\b(pip|hatchling|gcc|apt-get)\b", last_stage)


# ── lock files ───────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", list(WANTED))
def test_lock_file_fits_pyproject(name: str) -> None:
    assert LOCK["faults"](name, (ROOT / "deploy" / name).read_text("utf-8"), WANTED[name]) == []


def test_lock_file_that_fits_no_more_is_found_out() -> None:
    wanted = WANTED["requirements.lock"]
    text = (ROOT / "deploy/requirements.lock").read_text("utf-8")

    def found(text: str, wanted: list[str]) -> str:
        return "\n".join(LOCK["faults"]("requirements.lock", text, wanted))

    assert "made for other requirements" in found(text, [*wanted, "structlog>=1"])
    assert "lacks valkey" in found(text, [*wanted, "valkey>=6"])
    assert "pins orjson" in found(text, [*wanted, "orjson>=999"])
    assert "no hash for orjson" in found(re.sub(r"(orjson==\S+) \\\n(    --hash=\S+( \\)?\n)+", r"\1\n", text), wanted)
    assert "names a package index" in found(f"--index-url https://packages.example/simple\n{text}", wanted)


# ── the health check ─────────────────────────────────────────────────────────────────────────────────────────────────


class Health(BaseHTTPRequestHandler):
    status = 200
    asked: list[str]

    def do_GET(self) -> None:
        self.asked.append(self.path)
        self.send_response(self.status)
        self.end_headers()

    def log_message(self, *arguments: object) -> None:
        """Quiet."""


@pytest.fixture
def health() -> Iterator[tuple[type[Health], int]]:
    handler = type("Handler", (Health,), {"asked": []})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield handler, server.server_port
        server.shutdown()
        thread.join()


def check_health(port: int, **environment: str) -> int:
    command = json.loads(instructions("HEALTHCHECK")[0].partition("CMD ")[2])
    assert command[0] == "python"
    given = os.environ | {"GATEWAY_PORT": str(port)} | environment
    return subprocess.run([sys.executable, *command[1:]], env=given, capture_output=True, check=False).returncode


def test_health_check_asks_healthz_and_believes_only_a_200(health: tuple[type[Health], int]) -> None:
    handler, port = health
    assert check_health(port) == 0
    handler.status = 503
    assert check_health(port) != 0
    assert handler.asked == ["/healthz", "/healthz"]


def test_health_check_goes_past_a_proxy(health: tuple[type[Health], int]) -> None:
    assert check_health(health[1], http_proxy="http://127.0.0.1:9", HTTP_PROXY="http://127.0.0.1:9", no_proxy="") == 0


def test_health_check_fails_when_nothing_listens() -> None:
    assert check_health(1) != 0


# ── settings in the image and in the compose file ────────────────────────────────────────────────────────────────────


def compose_environment(service: str) -> dict[str, str]:
    """NAME: value lines of a service's `environment`; a small part of YAML is enough for this one file."""
    block = COMPOSE[COMPOSE.index(f"\n  {service}:\n") :]
    block = block[block.index("    environment:\n") :]
    found: dict[str, str] = {}
    for line in block.splitlines()[1:]:
        if not line.startswith("      "):
            break
        if match := re.match(r"      (\w+): (.*)", line):
            found[match[1]] = match[2].strip('"')
    return found


def image_environment() -> dict[str, str]:
    return dict(re.findall(r"(\w+)=(\S+)", instructions("ENV")[-1]))


def substituted(value: str, names: dict[str, str]) -> str:
    def replace(match: re.Match[str]) -> str:
        name, operator, rest = match[1], match[2], match[3]
        if operator == ":?" and not names.get(name):
            raise KeyError(name)
        return names.get(name) or (rest if operator == ":-" else "")

    return re.sub(r"\$\{(\w+)(:[-?])([^}]*)\}", replace, value)


def container_environment(**names: str) -> dict[str, str]:
    given = {name: substituted(value, names) for name, value in compose_environment("gateway").items()}
    return image_environment() | given


def test_every_variable_of_ours_is_a_setting() -> None:
    known = {name for setting in settings_table() for name in setting.env}
    ours = {name for name in image_environment() | compose_environment("gateway") if name.startswith("GATEWAY_")}
    assert ours
    assert ours <= known


def test_compose_names_the_seeds_variables() -> None:
    seed = {"DATABASE_URL", "LLM_ENDPOINT", "LLM_IMG_ENDPOINT", "LLM_API_AUTHORIZATION", "LLM_API_CONTENT_TYPE"}
    seed |= {
        "ENABLE_SUBMISSIONS_API",
        "SUBMISSIONS_API_URL",
        "LLM_TYPE",
        "BEDROCK_ASSUMED_ROLE",
        "AWS_REGION",
        "MODEL_ID",
    }
    assert seed <= compose_environment("gateway").keys()


def test_container_starts_with_a_password_alone() -> None:
    settings = load(container_environment(POSTGRES_PASSWORD="p@ss:w/rd"))
    assert settings.is_demo
    assert settings.server.host == "0.0.0.0"
    assert str(settings.data_dir) == "/var/lib/llm-gateway"
    assert f"{settings.data_dir}" in COMPOSE


def test_container_takes_the_models_settings() -> None:
    settings = load(container_environment(POSTGRES_PASSWORD="x", OPENAI_API_KEY="sk-x", LLM_TYPE="OPEN_AI"))
    assert not settings.is_demo


def test_no_password_is_committed() -> None:
    with pytest.raises(KeyError, match="POSTGRES_PASSWORD"):
        container_environment()
    with pytest.raises(KeyError, match="POSTGRES_PASSWORD"):
        substituted(compose_environment("postgres")["POSTGRES_PASSWORD"], {})


def test_gateway_has_time_to_stop() -> None:
    grace = re.search(r"stop_grace_period: (\d+)s", COMPOSE)
    assert grace is not None
    assert int(grace[1]) > load({}).server.shutdown_s


# ── the wheel ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_wheel_carries_the_page_and_the_sql(tmp_path: Path) -> None:
    pytest.importorskip("hatchling", reason="builds a wheel; comes with the dev extra")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    for folder in ("static", "sql"):
        for path in (ROOT / folder).rglob("*"):
            if path.is_file() and not path.name.startswith("."):
                assert f"gateway/_shipped/{folder}/{path.relative_to(ROOT / folder).as_posix()}" in names
    assert "gateway/py.typed" in names
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)
    assert not any(name.startswith("tests/") for name in names)


# ── the README's commands ────────────────────────────────────────────────────────────────────────────────────────────


def block(number: int) -> str:
    command: list[Any] = [sys.executable, ROOT / ".ci/readme_block.py", str(number)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def test_readme_begins_with_two_commands_of_one_line() -> None:
    assert re.fullmatch(r"python3 -m venv \.venv && .*llm-gateway\n", block(1))
    assert re.fullmatch(r"python3 -m venv \.venv && .*-m pytest\n", block(2))
