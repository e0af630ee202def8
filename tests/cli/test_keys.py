"""`llm-gateway keys`: from an empty database, with one of the company's, and beside a gateway that runs."""

from __future__ import annotations

import argparse
import json
import os
import time
from typing import TYPE_CHECKING

import pytest

from gateway.cli import keys
from gateway.cli.keys import expiry
from gateway.embedded_postgres.running import running_dsn
from gateway.embedded_postgres.server import EmbeddedPostgres
from gateway.errors import CallerError, StoreUnavailable
from gateway.identity.key_cache import KeyCache
from gateway.settings import Secret, Settings, StoreSettings
from gateway.store.keys import Keys
from gateway.store.pool import Database

if TYPE_CHECKING:
    from pathlib import Path

CREATE = ("create", "--user", "ada@corp", "--name", "laptop")


async def command(settings: Settings, *arguments: str) -> int:
    parser = argparse.ArgumentParser()
    keys.add_arguments(parser)
    return await keys.run(parser.parse_args(arguments), settings)


@pytest.fixture
def settings(database: str, tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path, store=StoreSettings(url=Secret(database), connect_s=2.0))


async def test_a_key_from_an_empty_database(
    settings: Settings, database: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert await command(settings, *CREATE, "--role", "auditor", "--model", "small", "--expires", "90d") == 0
    said = capsys.readouterr()
    secret = said.out.splitlines()[-1]
    assert secret not in said.err
    opened = Database(database, settings.store)
    ring = KeyCache()
    ring.replace(await Keys(opened).in_force())
    await opened.aclose()
    principal = ring.principal(secret.encode())
    assert principal.user == "ada@corp"
    assert principal.roles == frozenset(("user", "auditor"))
    assert principal.allowed_models == frozenset(("small",))


async def test_keys_are_listed_and_revoked(settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    await command(settings, *CREATE, "--json")
    made = json.loads(capsys.readouterr().out.splitlines()[-1])
    await command(settings, "create", "--user", "bob", "--name", "job")
    capsys.readouterr()

    assert await command(settings, "list") == 0
    table = capsys.readouterr().out
    assert made["id"] in table
    assert "bob" in table
    assert made["value"] not in table

    assert await command(settings, "list", "--user", "bob", "--json") == 0
    assert [json.loads(line)["user"] for line in capsys.readouterr().out.splitlines()] == ["bob"]

    assert await command(settings, "revoke", made["id"]) == 0
    assert "ada@corp" in capsys.readouterr().err
    await command(settings, "list", "--json")
    assert made["id"] not in capsys.readouterr().out
    await command(settings, "list", "--all")
    assert "revoked" in capsys.readouterr().out


async def test_what_is_wrong_is_said_in_one_line(settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, status in (
        (("revoke", "01890000-0000-7000-8000-000000000000"), 1),
        (("revoke", "nonsense"), 2),
        ((*CREATE, "--expires", "soon"), 2),
        ((*CREATE, "--expires", "2001-01-01"), 2),
        (("create", "--user", "", "--name", "x"), 2),
    ):
        capsys.readouterr()
        assert await command(settings, *arguments) == status
        said = [line for line in capsys.readouterr().err.splitlines() if line]
        assert len(said) == 1
        assert said[0].startswith("llm-gateway: ")


async def test_no_database_is_an_error_in_words(tmp_path: Path) -> None:
    away = Settings(data_dir=tmp_path, store=StoreSettings(url=Secret("postgresql://h.invalid/x"), connect_s=1.0))
    with pytest.raises(StoreUnavailable):
        await command(away, "list")


async def test_a_key_beside_a_gateway_that_runs_and_one_before_it_does(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    os.chmod(tmp_path, 0o711)  # noqa: PTH101 (so that as root the server's account may pass)
    settings = Settings(data_dir=tmp_path)
    assert running_dsn(tmp_path / "postgres") is None
    assert await command(settings, *CREATE) == 0  # it starts the embedded one for itself, and ends it
    server = EmbeddedPostgres(tmp_path / "postgres")
    await server.start()
    try:
        assert running_dsn(tmp_path / "postgres") == server.dsn
        assert await command(settings, "create", "--user", "bob", "--name", "second") == 0
        capsys.readouterr()
        assert await command(settings, "list", "--json") == 0
        lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("{")]
        assert [json.loads(line)["user"] for line in lines] == ["bob", "ada@corp"]
    finally:
        await server.stop()


@pytest.mark.parametrize("text", ["", "\n\n\n", "1\n2\n3\nx\n/run\n", "1\n2\n3\n5432\n\n", "1\n2\n3\n"])
def test_a_pid_file_that_says_nothing_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "postmaster.pid").write_text(text)
    assert running_dsn(tmp_path) is None


def test_an_expiry_is_a_span_or_a_moment() -> None:
    now = time.time()
    assert expiry("90d", now) == now + 90 * 86_400
    assert expiry(" 12H ", now) == now + 12 * 3600
    assert expiry("2w", now) == now + 14 * 86_400
    assert expiry("1y", now) == now + 365 * 86_400
    assert expiry("2027-01-31", now) == 1_801_353_600
    assert expiry("2027-01-31T12:00Z", now) == 1_801_353_600 + 12 * 3600
    assert expiry("2027-01-31T12:00+02:00", now) == 1_801_353_600 + 10 * 3600
    for wrong in ("", "90", "d", "-1d", "soon", "2027-13-01", "9999999d"):
        with pytest.raises(CallerError):
            expiry(wrong, now)
