"""`llm-gateway tail` as a person uses it: filters, following, terminals, and how it ends."""

from __future__ import annotations

import argparse
import contextlib
import os
import pty
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import orjson
import pytest

from gateway.telemetry import tail

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PROGRAM = """
import argparse, sys
from gateway.telemetry import tail
parser = argparse.ArgumentParser()
tail.add_arguments(parser)
sys.exit(tail.run(parser.parse_args()))
"""
COMMAND = [sys.executable, "-c", PROGRAM]


def record(ago_s: float = 0, **fields: Any) -> bytes:
    at = datetime.now(UTC) - timedelta(seconds=ago_s)
    fields = {
        "timestamp": at.isoformat(timespec="milliseconds"),
        "level": "info",
        "event": "request",
        **fields,
    }
    return orjson.dumps(fields) + b"\n"


def log_lines() -> list[bytes]:
    return [
        record(7200, request_id="old", caller="ada", model="gpt-4o", outcome="complete", status=200, path="/v1/old"),
        record(3000, request_id="r1", caller="ada", model="gpt-4o-mini", path="/v1/chat/completions", duration_ms=900),
        record(2400, request_id="r2", caller="bob", model="o3", status=502, path="/chat", duration_ms=5000.5)[:-2]
        + b',"outcome":"upstream_error"}\n',
        record(1800, request_id="r3", caller="ada.b", outcome="client_cancelled", status=200, path="/v1/responses?x=1"),
        record(1200, request_id="r4", status=404, path="/nowhere"),
        record(600, event="listening", url="http://127.0.0.1:8000"),
        record(540, event="journal_full", level="error"),
        b"not JSON at all\n",
        b'{"almost": 1}\n',
    ]


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "gateway.log"
    path.write_bytes(b"".join(log_lines()))
    return path


def tailed(*args: str, stdin: bytes = b"") -> str:
    done = subprocess.run([*COMMAND, *args], input=stdin, capture_output=True, timeout=30, check=False)
    assert done.stderr == b""
    assert done.returncode == 0
    return done.stdout.decode()


def printed_names(path: Path, *args: str) -> list[str]:
    """Short names of the lines that are shown."""
    out = tailed(str(path), "--no-follow", *args)
    names = ["old", "r1", "r2", "r3", "r4", "listening", "journal_full", "not JSON at all", '{"almost": 1}']
    found = [name for line in out.splitlines() for name in names if f"  {name}" in line or line == name]
    days = [line for line in out.splitlines() if "day, 2" in line]  # a day line, when midnight was lately
    assert len(found) + len(days) == len(out.splitlines()), out
    return found


ALL = ["old", "r1", "r2", "r3", "r4", "listening", "journal_full", "not JSON at all", '{"almost": 1}']


def test_without_filters_everything_is_shown(log: Path) -> None:
    assert printed_names(log) == ALL


@pytest.mark.parametrize(
    ("args", "names"),
    [
        (["--user", "ada"], ["old", "r1"]),
        (["--user", "ada*"], ["old", "r1", "r3"]),
        (["--user", "ada", "--user", "bob"], ["old", "r1", "r2"]),
        (["--model", "gpt-4o"], ["old"]),
        (["--model", "gpt-*"], ["old", "r1"]),
        (["--outcome", "upstream_error"], ["r2"]),
        (["--status", "5xx"], ["r2"]),
        (["--status", "404", "--status", "5XX"], ["r2", "r4"]),
        (["--path", "/v1/"], ["old", "r1", "r3"]),
        (["--path", "*/c"], ["r1", "r2"]),
        (["--slow", "900"], ["r1", "r2"]),
        (["--slow", "5000.5", "--user", "ada"], []),
        (["--errors"], ["r2", "r3", "r4", "journal_full", "not JSON at all", '{"almost": 1}']),
        (["--errors", "--status", "4xx"], ["r4"]),
        (["--since", "1h"], ALL[1:]),
        (["--since", "35m"], ALL[3:]),
        (["-n", "2"], ALL[-2:]),
        (["-n", "0"], []),
        (["-n", "1", "--user", "ada"], ["r1"]),
        (["--since", "1h", "-n", "1", "--user", "ada*"], ["r3"]),
    ],
)
def test_filters(log: Path, args: list[str], names: list[str]) -> None:
    assert printed_names(log, *args) == names


@pytest.mark.parametrize(
    "args",
    [
        ["--status", "6xx"],
        ["--status", "40"],
        ["--slow", "quick"],
        ["--since", "yesterday"],
        ["--since", "999999999d"],
        ["-n", "-1"],
    ],
)
def test_a_wrong_argument_is_told(args: list[str]) -> None:
    done = subprocess.run([*COMMAND, "x", *args], capture_output=True, timeout=30, check=False)
    assert done.returncode == 2
    assert args[1].encode() in done.stderr
    assert b"Traceback" not in done.stderr


def test_since_takes_a_time() -> None:
    parser = argparse.ArgumentParser()
    tail.add_arguments(parser)
    since = parser.parse_args(["--since", "2026-05-01T10:00Z"]).since
    assert since == datetime(2026, 5, 1, 10, tzinfo=UTC)


def test_many_lines_begin_with_the_last_ones(tmp_path: Path) -> None:
    path = tmp_path / "big"
    path.write_bytes(b"".join(record(0, event="tick", number=number) for number in range(30_000)))
    lines = tailed(str(path), "--no-follow").splitlines()
    assert len(lines) == tail.DEFAULT_LINES
    assert lines[-1].endswith("number=29999")


def test_a_day_that_is_not_today_is_said(log: Path) -> None:
    out = tailed("-", stdin=record(3 * 86_400, request_id="r1", path="/x") + record(0, request_id="r2", path="/x"))
    day, first, today, second = out.splitlines()
    now = datetime.now().astimezone()
    assert f"{now - timedelta(days=3):%Y-%m-%d}" in day
    assert f"{now:%Y-%m-%d}" in today
    assert "r1" in first
    assert "r2" in second


def test_standard_input_is_read_to_its_end() -> None:
    request, foreign, last = tailed(stdin=record(0, path="/x") + b"foreign\n" + b"no line end").splitlines()
    assert "/x" in request
    assert foreign == "foreign"
    assert last == "no line end"


def test_a_prefix_in_front_of_a_record_is_left_out() -> None:
    [line] = tailed(stdin=b"gateway-1  | " + record(0, event="listening", port=8000)).splitlines()
    assert "listening  port=8000" in line
    assert "gateway-1" not in line


def test_a_file_that_is_not_there_is_an_error_when_it_is_not_followed(tmp_path: Path) -> None:
    done = subprocess.run([*COMMAND, str(tmp_path / "no"), "--no-follow"], capture_output=True, timeout=30, check=False)
    assert done.returncode == 1
    assert done.stderr.endswith(b"No such file or directory\n")
    assert b"Traceback" not in done.stderr


# --- following ---


class Following:
    """A running tail."""

    def __init__(self, *args: str) -> None:
        self.child = subprocess.Popen([*COMMAND, *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def line(self) -> str:
        """The next line, without the date line that follows midnight."""
        assert self.child.stdout
        line = self.child.stdout.readline().decode().rstrip("\n")
        return self.line() if "day, 2" in line else line

    def end(self, number: int = signal.SIGINT) -> tuple[int, bytes]:
        self.child.send_signal(number)
        _, errors = self.child.communicate(timeout=10)
        return self.child.returncode, errors


@contextlib.contextmanager
def following(*args: str) -> Iterator[Following]:
    running = Following(*args)
    try:
        yield running
    finally:
        running.child.kill()
        running.child.communicate()


def append(path: Path, text: bytes) -> None:
    with path.open("ab") as file:
        file.write(text)


@pytest.mark.timeout(60)
def test_it_follows_over_rotation_and_truncation_until_ctrl_c(log: Path) -> None:
    with following(str(log), "-n", "1", "--user", "ada") as running:
        assert "r1" in running.line()
        append(log, record(0, request_id="r10", caller="bob") + record(0, request_id="r11", caller="ada"))
        assert "r11" in running.line()
        log.rename(log.with_suffix(".1"))
        append(log, record(0, request_id="r12", caller="ada"))
        assert "r12" in running.line()
        log.write_bytes(b"")
        time.sleep(0.5)
        append(log, record(0, request_id="r13", caller="ada"))
        assert "r13" in running.line()
        assert running.end() == (130, b"")


@pytest.mark.timeout(60)
def test_it_waits_for_a_file_that_is_not_there_yet(tmp_path: Path) -> None:
    path = tmp_path / "later.log"
    with following(str(path)) as running:
        assert running.child.stderr
        assert b"waiting" in running.child.stderr.readline()
        append(path, record(0, event="listening"))
        assert "listening" in running.line()
        assert running.end() == (130, b"")


@pytest.mark.timeout(60)
def test_a_reader_that_leaves_ends_it_quietly(log: Path) -> None:
    with following(str(log)) as running:
        running.line()
        assert running.child.stdout
        running.child.stdout.close()
        for _ in range(20):
            append(log, b"".join(log_lines()))
            time.sleep(0.1)
            if running.child.poll() is not None:
                break
        assert running.child.stderr
        assert (running.child.wait(10), running.child.stderr.read()) == (0, b"")


@pytest.mark.timeout(60)
def test_a_named_pipe_is_read_as_it_comes(tmp_path: Path) -> None:
    path = tmp_path / "fifo"
    os.mkfifo(path)
    with following(str(path)) as running, path.open("wb", buffering=0) as pipe:
        pipe.write(record(0, event="listening"))
        assert "listening" in running.line()


# --- terminals ---

EVIL = "\x1b]0;owned\x07\x1b[2J\r\u202e"


def on_terminal(*args: str, stdin: bytes) -> str:
    master, slave = pty.openpty()
    try:
        subprocess.run([*COMMAND, *args], input=stdin, stdout=slave, stderr=slave, timeout=30, check=False)
        return os.read(master, 60_000).decode().replace("\r\n", "\n")
    finally:
        os.close(master)
        os.close(slave)


def test_hostile_values_do_not_reach_the_terminal() -> None:
    lines = record(0, path=EVIL, caller=EVIL, model=EVIL, error=EVIL, outcome=EVIL, status=EVIL, request_id=EVIL)
    lines += record(0, event=EVIL, level=EVIL, **{EVIL: EVIL, "nested": {EVIL: [EVIL]}})
    lines += EVIL.encode() + b"\xff raw\n"
    out = on_terminal("--no-color", stdin=lines)
    assert out.replace("\n", "").isprintable()
    assert len(out.splitlines()) == 3
    out = on_terminal(stdin=lines)
    assert "\x1b]" not in out
    assert "\x1b[2J" not in out
    assert "\x07" not in out


def test_colours_of_foreign_lines_stay_and_end() -> None:
    out = on_terminal(stdin=b"\x1b[31mred\x1b[5A\tline\n")
    assert out == "\x1b[31mred\\x1b[5A\tline\x1b[0m\n"


def test_a_pipe_gets_foreign_lines_untouched_and_no_colours() -> None:
    done = subprocess.run(
        COMMAND,
        input=b"\x1b[31m\xff\n" + record(0, status=500, path="/x"),
        capture_output=True,
        timeout=30,
        check=False,
    )
    foreign, ours = done.stdout.splitlines()
    assert foreign == b"\x1b[31m\xff"
    assert b"\x1b" not in ours


def test_a_terminal_as_input_is_refused() -> None:
    master, slave = pty.openpty()
    done = subprocess.run(COMMAND, stdin=slave, capture_output=True, timeout=30, check=False)
    os.close(master)
    os.close(slave)
    assert done.returncode == 2
    assert b"name a file" in done.stderr


def test_lines_that_are_no_records_are_no_records() -> None:
    for line in (
        b"",
        b"{",
        b"[]",
        b"3",
        b'"x"',
        b"{}",
        b'{"a":1}',
        b"null",
        b"\xff",
        b'{"event":"\\ud800"}',
        b"[" * 9999,
    ):
        assert tail.parse(line) is None
    assert tail.parse(b'{"event":1}') == {"event": 1}
