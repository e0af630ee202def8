"""`llm-gateway reship` and `llm-gateway hosts`, beside processes that run."""

from __future__ import annotations

import argparse
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from gateway.cli import hosts
from gateway.journal import archive
from gateway.settings import Secret, Settings, StoreSettings
from gateway.store.interactions import Interactions
from tests.store.samples import chat, rows_of, store, user
from tests.store.test_set_back import count, process, turns

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path
    from uuid import UUID

NOW = "2026-01-31T09:00"


def parsed(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    commands = parser.add_subparsers(dest="command")
    for name in hosts.COMMANDS:
        hosts.add_arguments(name, commands.add_parser(name))
    return parser.parse_args(words)


async def run(capsys: Any, dsn: str, data: Path, *words: str) -> tuple[int, str]:
    settings = Settings(data_dir=data, store=StoreSettings(url=Secret(dsn)))
    capsys.readouterr()
    status = await hosts.run(parsed(*words), settings)
    return status, capsys.readouterr().out


async def test_reship_brings_what_is_missing_while_the_gateway_runs(
    tmp_path: Path, database: str, capsys: pytest.CaptureFixture[str]
) -> None:
    async with store(database) as (db, _):
        async with process(tmp_path / "journal", db) as gone:
            await gone.keep(*turns(4))
        async with process(tmp_path / "journal", db) as one:
            await one.keep(*turns(6, "bob"))
            await rows_of(
                db, "delete from llm_logs.chatgpt_logs where id in (select id from llm_logs.chatgpt_logs limit 7)"
            )
            since = datetime.fromtimestamp(time.time() - 60, UTC).isoformat()
            status, said = await run(capsys, database, tmp_path, "reship", "--since", since)
            assert (status, said.splitlines()[0]) == (
                0,
                "read 10 records; 7 of them were missing and are in the database now",
            )
            assert await count(db) == 10
            roots = await rows_of(db, "select count(distinct root_gpt_id) as n from llm_logs.chatgpt_logs")
            assert roots[0]["n"] == 2
            status, said = await run(capsys, database, tmp_path, "reship", "--since", since)
            assert said.startswith("read 10 records; 0 of them")
            assert await count(db) == 10


async def test_reship_says_from_when_on_records_are_kept_and_how_many_are_gone(
    tmp_path: Path, database: str, capsys: pytest.CaptureFixture[str]
) -> None:
    async with store(database) as (db, _), process(tmp_path / "journal", db) as one:
        await one.keep(*[chat(user(f"{number}" + "x" * 20_000), says="ok") for number in range(20)])
        for found in sorted(archive.archived_in(one.journal.folder))[:2]:
            found.path.unlink()
        _, said = await run(capsys, database, tmp_path, "reship", "--since", NOW)
        assert "read 14 records; 0 of them" in said
        assert "6 older records were in deleted segments" in said


async def test_reship_calls_nothing_gone_that_came_meanwhile(
    tmp_path: Path, database: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The gateway goes on while its files are read."""
    async with store(database) as (db, _), process(tmp_path / "journal", db) as one:
        await one.keep(*turns(3))
        missing = Interactions.missing

        async def keeping(self: Interactions, ids: Sequence[UUID]) -> set[UUID]:
            await one.keep(*turns(2, "bob"))
            return await missing(self, ids)

        monkeypatch.setattr(Interactions, "missing", keeping)
        _, said = await run(capsys, database, tmp_path, "reship", "--since", NOW)
        assert ": 0 older records were in deleted segments" in said


async def test_reship_leaves_out_files_from_before(
    tmp_path: Path, database: str, capsys: pytest.CaptureFixture[str]
) -> None:
    async with store(database) as (db, _), process(tmp_path / "journal", db) as one:
        await one.keep(*turns(3))
        later = datetime.fromtimestamp(time.time() + 60, UTC).isoformat()
        _, said = await run(capsys, database, tmp_path, "reship", "--since", later)
        assert said.startswith("read 0 records")


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("2026-01-31T09:00", 1769850000.0),
        ("2026-01-31T09:00Z", 1769850000.0),
        ("2026-01-31T10:00+01:00", 1769850000.0),
        ("2026-01-31", 1769817600.0),
    ],
)
def test_times_are_utc_unless_they_say_otherwise(text: str, seconds: float) -> None:
    assert hosts.parse_time(text) == seconds


def test_what_is_no_time_is_refused_with_one_that_is(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parsed("reship", "--since", "yesterday")
    assert "'yesterday' is not a time such as 2026-01-31T09:00Z" in capsys.readouterr().err


async def test_hosts_are_listed_and_forgotten(
    tmp_path: Path, database: str, capsys: pytest.CaptureFixture[str]
) -> None:
    async with store(database) as (db, _), process(tmp_path / "journal", db) as one:
        await one.keep(*turns(3))
        name = one.journal.folder.name
        status, said = await run(capsys, database, tmp_path, "hosts", "list")
        assert status == 0
        assert name in said
        assert "running" in said
        await one.shipper.aclose(1)
        assert (await run(capsys, database, tmp_path, "hosts", "forget", name))[0] == 0
        assert name not in (await run(capsys, database, tmp_path, "hosts", "list"))[1]
        capsys.readouterr()
        settings = Settings(data_dir=tmp_path, store=StoreSettings(url=Secret(database)))
        assert await hosts.run(parsed("hosts", "forget", name), settings) == 1
        assert "are unknown" in capsys.readouterr().err


async def test_a_host_that_has_fallen_silent_is_not_called_running(
    tmp_path: Path, database: str, capsys: pytest.CaptureFixture[str]
) -> None:
    async with store(database) as (db, _), process(tmp_path / "journal", db) as one:
        await one.keep(*turns(3))
        await rows_of(db, "update llm_logs.hosts set seen_at = seen_at - interval '1 day' returning 1")
        _, said = await run(capsys, database, tmp_path, "hosts", "list")
        assert said.splitlines()[1].endswith("silent")
