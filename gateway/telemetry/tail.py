"""`llm-gateway tail`: follows a log of JSON lines and prints it readably, with filters."""

from __future__ import annotations

import argparse
import os
import re
import sys
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import orjson

from gateway.telemetry.follow import FollowedFile, stream_lines
from gateway.telemetry.readable import RESET, colored, escaped, local_time, plain, record_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Record = dict[str, Any]
    Pattern = Callable[[str], object]

DEFAULT_LINES = 20
_OUT_OF_ORDER = timedelta(minutes=1)  # several processes write, so lines are only nearly in order
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_COLOURS_AND_TABS = re.compile("(\x1b\\[[0-9;]{0,20}m|\t)")  # colours and tabs in lines that are not records
_RECORD_START = b'{"timestamp":'  # may follow a prefix, such as compose's container name


# --- arguments ---


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("file", nargs="?", default="-", metavar="FILE", help="a log of JSON lines; - or none: standard input")
    add("-f", "--follow", action=argparse.BooleanOptionalAction, default=True, help="wait for new lines of a file")
    add("-n", "--lines", type=_count, help=f"number of existing lines to print first, by default {DEFAULT_LINES}")
    add("--user", action="append", type=_pattern, metavar="U", help="requests of this caller; * matches anything")
    add("--model", action="append", type=_pattern, metavar="M", help="requests for this model; * as above")
    add(
        "--outcome",
        action="append",
        type=_pattern,
        metavar="O",
        help="requests with this outcome, such as complete",
    )
    add(
        "--status",
        action="append",
        type=_status,
        metavar="S",
        help="requests with this status, 404 or 5xx",
    )
    add("--path", action="append", type=_path, metavar="P", help="requests whose path begins with this; * as above")
    add("--slow", type=_milliseconds, metavar="MS", help="requests that took at least this many milliseconds")
    add("--errors", action="store_true", help="errors, and requests that failed")
    add("--since", type=_time, metavar="WHEN", help="10m, 2h, 1d ago, or a time such as 2026-05-01T10:00")
    add("--no-color", action="store_true", help="no colours, also on a terminal")


def _count(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,9}", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of lines")
    return int(text)


def _milliseconds(text: str) -> float:
    if not re.fullmatch(r"[0-9]{1,12}(\.[0-9]{1,6})?", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of milliseconds")
    return float(text)


def _pattern(text: str) -> Pattern:
    return re.compile(".*".join(map(re.escape, text.split("*"))), re.DOTALL).fullmatch


def _path(text: str) -> Pattern:
    return _pattern(f"{text}*")


def _status(text: str) -> Pattern:
    if not re.fullmatch(r"[1-5]([0-9][0-9]|[xX][xX])", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a status such as 404 or 5xx")
    return re.compile(text.lower().replace("x", "[0-9]")).fullmatch


def _time(text: str) -> datetime:
    try:
        if match := re.fullmatch(r"([0-9]{1,9})([smhd])", text):
            return datetime.now(UTC) - timedelta(seconds=int(match[1]) * _UNITS[match[2]])
        return datetime.fromisoformat(text).astimezone()
    except (ValueError, OverflowError):
        raise argparse.ArgumentTypeError(f"{text!r} is neither a duration such as 10m nor a time") from None


# --- filters ---


@dataclass(frozen=True, slots=True)
class Filters:
    """Selects records. All filters of different names must match, and one of each name."""

    texts: tuple[tuple[str, tuple[Pattern, ...]], ...] = ()  # field of the canonical line → patterns
    slow_ms: float | None = None
    is_errors: bool = False
    since: datetime | None = None

    @classmethod
    def of(cls, args: argparse.Namespace) -> Filters:
        given = {
            "caller": args.user,
            "model": args.model,
            "outcome": args.outcome,
            "status": args.status,
            "path": args.path,
        }
        texts = tuple((name, tuple(patterns)) for name, patterns in given.items() if patterns)
        return cls(texts, args.slow, args.errors, args.since)

    @property
    def is_for_requests(self) -> bool:
        return bool(self.texts) or self.slow_ms is not None

    def matches(self, record: Record | None) -> bool:
        """Whether to print the record. None: a line that is not a record; printed unless a filter selects requests."""
        if record is None:
            return not self.is_for_requests
        if self.is_for_requests and not self._is_wanted_request(record):
            return False
        if self.is_errors and not is_error(record):
            return False
        at = local_time(record) if self.since else None
        return at is None or self.since is None or at >= self.since

    def is_before(self, record: Record | None) -> bool:
        """Whether all lines before this record are too old."""
        at = local_time(record) if record and self.since else None
        return at is not None and self.since is not None and at < self.since - _OUT_OF_ORDER

    def _is_wanted_request(self, record: Record) -> bool:
        if record.get("event") != "request":
            return False
        if self.slow_ms is not None and not _number(record.get("duration_ms")) >= self.slow_ms:
            return False
        return all(
            record.get(name) is not None and any(fits(str(record[name])) for fits in patterns)
            for name, patterns in self.texts
        )


def is_error(record: Record) -> bool:
    if record.get("level") in ("error", "critical") or "exception" in record:
        return True
    if record.get("event") != "request":
        return False
    return _number(record.get("status")) >= 400 or bool(record.get("error")) or _is_failure(record.get("outcome"))


def _is_failure(outcome: object) -> bool:
    return outcome is not None and outcome != "complete"


def _number(value: object) -> float:
    return value if isinstance(value, int | float) else -1.0


# --- showing ---


def parse(line: bytes) -> Record | None:
    """The record in a line; None if the line has none."""
    start = 0 if line.startswith(b"{") else line.find(_RECORD_START)
    try:
        record = orjson.loads(line[start:]) if start >= 0 else None
    except orjson.JSONDecodeError:
        return None
    return record if isinstance(record, dict) and "event" in record else None


class Screen:
    """Prints records, and the date when it changes."""

    def __init__(self, output: BinaryIO, *, is_terminal: bool, is_colored: bool, today: date | None = None) -> None:
        self._output = output
        self._is_terminal = is_terminal
        self._is_colored = is_colored
        self._paint = colored if is_colored else plain
        self._day = today

    def show(self, line: bytes, record: Record | None) -> None:
        if record is None:
            self._write(self._foreign(line))
            return
        at = local_time(record)
        if at and at.date() != self._day:
            self._day = at.date()
            self._write(self._paint("dim", f"{self._day:%A, %Y-%m-%d}").encode())
        self._write(record_text(record, self._paint).encode())

    def flush(self) -> None:
        self._output.flush()

    def _write(self, line: bytes) -> None:
        self._output.write(line + b"\n")

    def _foreign(self, line: bytes) -> bytes:
        """A line that is not a record, unchanged; for a terminal, with control characters escaped."""
        if not self._is_terminal:
            return line
        parts = _COLOURS_AND_TABS.split(line.decode("utf-8", "backslashreplace"))
        parts[::2] = [escaped(part) for part in parts[::2]]
        if not self._is_colored:
            parts[1::2] = [part for part in parts[1::2] if part == "\t"]
        return "".join([*parts, RESET if self._is_colored and len(parts) > 1 else ""]).encode()


# --- running ---


def run(args: argparse.Namespace) -> int:
    """Prints the log until its end, Ctrl-C, or a closed output pipe. Returns the exit status."""
    if args.file == "-" and sys.stdin.isatty():
        sys.stderr.write("llm-gateway tail: name a file, or pipe a log in\n")
        return 2
    is_terminal = sys.stdout.isatty()
    screen = Screen(
        sys.stdout.buffer,
        is_terminal=is_terminal,
        is_colored=is_terminal and not args.no_color,
        today=datetime.now().astimezone().date(),
    )
    try:
        _show_lines(_lines(args), Filters.of(args), screen)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # the interpreter flushes standard output at exit
    except OSError as error:
        sys.stderr.write(f"llm-gateway tail: {args.file}: {error.strerror}\n")
        return 1
    return 0


def _show_lines(lines: Iterator[bytes | None], filters: Filters, screen: Screen) -> None:
    for line in lines:
        if line is None:
            screen.flush()
            continue
        record = parse(line)
        if filters.matches(record):
            screen.show(line, record)
    screen.flush()


def _lines(args: argparse.Namespace) -> Iterator[bytes | None]:
    if args.file == "-":
        yield from stream_lines(sys.stdin.fileno())
        return
    path = Path(args.file)
    file = FollowedFile(path)
    if args.follow and not path.exists():
        sys.stderr.write(f"llm-gateway tail: {args.file} does not exist yet; waiting for it\n")
        file.wait_until_exists()
    if not file.is_regular:
        with path.open("rb") as pipe:
            yield from stream_lines(pipe.fileno())
        return
    file.open()
    yield from last_matching(file, Filters.of(args), _wanted_lines(args))
    yield from file.new_lines() if args.follow else file.rest_of_lines()


def _wanted_lines(args: argparse.Namespace) -> int | None:
    if args.lines is None and args.since is None:
        return DEFAULT_LINES
    return None if args.lines is None else int(args.lines)


def last_matching(file: FollowedFile, filters: Filters, count: int | None) -> list[bytes]:
    """The last `count` lines that match the filters (None: all), in order."""
    found: list[bytes] = []
    for line in file.lines_backwards():
        record = parse(line)
        if filters.is_before(record) or len(found) == count:
            break
        if filters.matches(record):
            found.append(line)
    return found[::-1]
