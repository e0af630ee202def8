"""Log lines: their shape, what never stands in them, and that nothing can keep one from coming out."""

from __future__ import annotations

import asyncio
import dataclasses
import enum
import logging
import os
import pty
import uuid
import warnings
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import asyncpg
import msgspec
import orjson
import pytest
import structlog
from hypothesis import given
from hypothesis import settings as checks
from hypothesis import strategies as st

from gateway.edge.http.log_line import canonical_line
from gateway.model import ChatRequest, Outcome
from gateway.settings import Secret
from gateway.telemetry import logs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

KEY = "sk-proj-0123456789abcdefghij"
PROMPT = "my wife's birthday is on the 3rd"
CANONICAL: dict[str, Any] = {
    "error": "the upstream went away",
    "bytes_out": 9,
    "bytes_in": 8,
    "duration_ms": 3200.25,
    "first_token_ms": 412.5,
    "usage_estimated": False,
    "completion_tokens": 0,
    "prompt_tokens": 812,
    "stream": True,
    "outcome": Outcome.COMPLETE,
    "upstream_status": 200,
    "status": 200,
    "upstream": "openai",
    "model": "gpt-4o-mini",
    "path": "/v1/chat/completions",
    "method": "POST",
    "key_id": "k1",
    "caller": "ada",
    "conversation_id": "c",
    "interaction_id": uuid.UUID(int=1),
    "request_id": "r",
}


class Log:
    """Logs into a file, and what stands in it."""

    def __init__(self, path: Path, format: str, level: str) -> None:
        self._path = path
        with path.open("wb") as file:
            self._writer = logs.configure(format, level, file.fileno())
        self.logger = structlog.get_logger()

    @property
    def text(self) -> str:
        assert self._writer.close()
        return self._path.read_text()

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [orjson.loads(line) for line in self.text.splitlines()]

    @property
    def line(self) -> dict[str, Any]:
        [line] = self.lines
        return line


@pytest.fixture
def configured(tmp_path: Path) -> Callable[..., Log]:
    return lambda format="json", level="info": Log(tmp_path / "log", format, level)


@pytest.fixture
def log(configured: Callable[..., Log]) -> Log:
    return configured()


# --- the canonical line ---


def test_the_canonical_line_has_its_fields_in_order(log: Log) -> None:
    log.logger.info("request", fields=canonical_line(None, extra="x", **CANONICAL))
    line = log.line
    assert list(line) == ["timestamp", "level", "event", *logs.REQUEST_FIELDS, "extra"]
    assert line["outcome"] == "complete"
    assert line["completion_tokens"] == 0
    assert line["usage_estimated"] is False


def test_the_canonical_line_leaves_out_what_is_not_known(log: Log) -> None:
    log.logger.info("request", request_id="r", status=200, error=None, caller=None)
    assert list(log.line) == ["timestamp", "level", "event", "request_id", "status"]


def test_a_line_has_time_level_and_event_first(log: Log) -> None:
    log.logger.bind(port=8000).warning("listening", url="http://127.0.0.1:8000")
    line = log.line
    assert list(line) == ["timestamp", "level", "event", "port", "url"]
    assert line["level"] == "warning"
    assert len(line["timestamp"]) == len("2026-05-01T10:00:00.000Z")
    assert line["timestamp"].endswith("Z")


@pytest.mark.parametrize(
    ("method", "level"),
    [("info", "info"), ("warn", "warning"), ("exception", "error"), ("error", "error"), ("fatal", "critical")],
)
def test_levels_have_one_name_each(log: Log, method: str, level: str) -> None:
    getattr(log.logger, method)("x")
    assert log.line["level"] == level


def test_less_than_the_level_is_not_logged(configured: Callable[..., Log]) -> None:
    log = configured(level="warning")
    log.logger.info("no")
    logging.getLogger("x").info("no")
    log.logger.warning("yes")
    logging.getLogger("x").warning("yes")
    assert [line["event"] for line in log.lines] == ["yes", "yes"]


# --- what never stands in a line ---


def test_a_traceback_has_no_local_variables(log: Log) -> None:
    def fail(prompt: str, api_key: str) -> None:
        raise RuntimeError("not today")

    try:
        fail(PROMPT, KEY)
    except RuntimeError:
        log.logger.exception("request failed")
        logging.getLogger("aiohttp.server").exception("Error handling request")
    text = log.text
    assert PROMPT not in text
    assert KEY not in text
    for line in text.splitlines():
        [exception] = orjson.loads(line)["exception"]
        assert (exception["exc_type"], exception["exc_value"]) == ("RuntimeError", "not today")
        assert exception["frames"][-1]["name"] == "fail"


def test_causes_are_told_too(log: Log) -> None:
    try:
        try:
            raise KeyError("inner")
        except KeyError as error:
            raise ValueError("outer") from error
    except ValueError as error:
        log.logger.warning("failed", exc_info=error)
    assert [each["exc_type"] for each in log.line["exception"]] == ["ValueError", "KeyError"]


@pytest.mark.parametrize("format", ["json", "text"])
def test_e2_no_traceback_quotes_what_somebody_said(configured: Callable[..., Log], format: str) -> None:
    log = configured(format)
    refused = asyncpg.CheckViolationError.new(
        {"C": "23514", "M": 'violates check constraint "c"', "D": f"Failing row contains ({PROMPT})", "n": "c"}
    )

    def fail() -> None:
        try:
            raise refused
        except asyncpg.PostgresError as error:
            try:
                int(PROMPT)
            except ValueError:
                raise KeyError(PROMPT) from error

    try:
        fail()
    except KeyError as error:
        log.logger.exception("failed")
        log.logger.warning("failed", exc_info=ExceptionGroup("two", [error, refused]))
        logging.getLogger("asyncio").exception("never retrieved")
    text = log.text
    assert PROMPT not in text
    assert text.count("KeyError") >= 3
    assert "violates check constraint" in text
    assert "in fail" in text or '"name":"fail"' in text


def test_exc_info_without_an_exception_is_harmless(log: Log) -> None:
    log.logger.error("a", exc_info=True)
    log.logger.error("b", exc_info=(None, None, None))
    logging.getLogger("x").error("c", exc_info=True)
    assert [line.get("exception") for line in log.lines] == [None, None, None]


@pytest.mark.parametrize("format", ["json", "text"])
@pytest.mark.parametrize("name", sorted(logs.HIDDEN_FIELDS))
def test_telling_names_are_hidden(configured: Callable[..., Log], name: str, format: str) -> None:
    log = configured(format)
    log.logger.info("seen", **{name: PROMPT})
    log.logger.info("seen", request={"inner": [{name: PROMPT}]})
    log.logger.info("request", **{name: PROMPT})
    text = log.text
    assert PROMPT not in text
    assert text.count("\n") == 3


@pytest.mark.parametrize("format", ["json", "text"])
@pytest.mark.parametrize(
    "words",
    [
        f"Incorrect API key provided: {KEY}.",
        f"header 'Authorization: Bearer {KEY[3:]}' refused",
        f"authorization: bearer {KEY[3:]}",
        f"proxy wants Basic {KEY[3:]}==",
        f"cannot connect to postgresql://gateway:{KEY[3:]}@db.corp/llm",
        f"http://:{KEY[3:]}@proxy:3128 refused",
    ],
)
def test_keys_in_somebodys_words_are_taken_out(configured: Callable[..., Log], words: str, format: str) -> None:
    log = configured(format)
    log.logger.error("failed", error=words)
    log.logger.error(words)
    logging.getLogger("asyncpg").error("%s", words)
    try:
        raise OSError(words)
    except OSError:
        log.logger.exception("failed")
    text = log.text
    assert KEY[3:] not in text
    assert text.count("(hidden)") == 4


def test_ordinary_words_stay(log: Log) -> None:
    words = "risk-management-of-the-disk-subsystem at https://host:8000/path?x=1 by ada@example.com, task-0123456789ab"
    log.logger.info("seen", words=words)
    assert log.line["words"] == words


def test_a_secret_and_a_whole_request_show_nothing(log: Log) -> None:
    request = ChatRequest(PROMPT.encode(), {"messages": [PROMPT]}, "m", is_stream=True, wants_usage=False)
    log.logger.info("seen", key=Secret(KEY), request=request, requests=[request], raw=PROMPT.encode())
    line = log.line
    assert line["key"] == "(hidden)"
    assert line["request"] == "<ChatRequest>"
    assert line["requests"] == ["<ChatRequest>"]
    assert line["raw"] == f"<{len(PROMPT)} bytes>"


# --- what JSON cannot hold ---


class Broken:
    def __str__(self) -> str:
        raise RuntimeError("no")

    __repr__ = __str__


class Colour(enum.IntEnum):
    RED = 1


def deep(levels: int) -> object:
    value: object = "end"
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize("format", ["json", "text"])
@pytest.mark.parametrize(
    "value",
    [
        "\udcff",
        "a\x00b\x1b[31m\r\nc",
        2**64,
        10**5000,
        float("nan"),
        float("inf"),
        b"\xff",
        {1: {2: "\udc80"}},
        {"k": Broken()},
        Broken(),
        deep(2000),
        Path("/x"),
        Colour.RED,
        {1, 2},
        object(),
        Exception("\udcff"),
        dataclasses.make_dataclass("D", ["x"])(1),
        msgspec.defstruct("S", ["x"])(1),
        "x" * 1_000_000,
        ["x"] * 1_000_000,
        ["x" * 10_000] * 1000,
        dict.fromkeys(range(100_000)),
    ],
    ids=lambda value: type(value).__name__,
)
def test_whatever_the_value_one_short_line_comes_out(
    configured: Callable[..., Log], value: object, format: str
) -> None:
    log = configured(format)
    log.logger.info("seen", value=value, other=1)
    log.logger.info("request", path=value, status=200)
    text = log.text
    assert text.count("\n") == 2
    assert len(text) < 2 * 17_000
    if format == "json":
        assert orjson.loads(text.splitlines()[0])["other"] == 1
    else:
        assert text.replace("\n", "").isprintable()


def test_bad_arguments_of_stdlib_logging_do_not_lose_the_line(log: Log) -> None:
    root = logging.getLogger()
    root.handlers[:] = [each for each in root.handlers if isinstance(each, logs.StdlibHandler)]  # pytest's raise
    logging.getLogger("x").error("%d of %d", "one")
    logging.getLogger("x").error("%s", Broken())
    first, second = log.lines
    assert first["event"].startswith("%d of %d")
    assert second["logger"] == "x"


SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(st.characters(codec=None)), st.binary(max_size=20)
)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(SCALARS, inner, max_size=3), max_leaves=10
)
NAMES = st.text(st.characters(codec=None)) | st.sampled_from(
    ["level", "timestamp", "error", "path", "exc_info", "exception", "stack", "fields"]
)


@checks(max_examples=300, deadline=None)
@given(st.sampled_from(["request", "other", ""]), st.dictionaries(NAMES, VALUES, max_size=5))
def test_any_record_becomes_one_line(event: str, fields: dict[str, Any]) -> None:
    for renderer in (logs.JsonLines(), logs.TextLines(is_colored=False)):
        line = renderer({**fields, "event": event}, "info")
        assert line.endswith(b"\n")
        assert line.count(b"\n") == 1
    line = orjson.loads(logs.JsonLines()({**fields, "event": event}, "info"))
    assert (line["event"], line["level"]) == (event, "info")


@checks(max_examples=200, deadline=None)
@given(st.text(st.sampled_from("sk-bearer basic://:@/'\"0aA \n")))
def test_looking_for_keys_takes_no_time_on_hostile_text(text: str) -> None:
    line = logs.JsonLines()({"event": (text * 3000)[:15_000]}, "info")
    orjson.loads(line)


# --- stdlib logging ---


def test_stdlib_logging_comes_out_the_same_way(log: Log) -> None:
    logging.getLogger("aiohttp.server").error("Error %s", "x")
    line = log.line
    assert line["level"] == "error"
    assert line["event"] == "Error x"
    assert line["logger"] == "aiohttp.server"


def test_unretrieved_exceptions_of_tasks_are_logged(log: Log) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.call_exception_handler({"message": "a task failed", "exception": ValueError("x")})

    asyncio.run(main())
    line = log.line
    assert line["event"].startswith("a task failed")
    assert line["exception"][0]["exc_type"] == "ValueError"


def test_the_access_log_is_quiet_and_warnings_are_lines(log: Log) -> None:
    logging.getLogger("aiohttp.access").info("GET / 200")
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(False)
        logging.captureWarnings(True)
        warnings.warn("old way", UserWarning, stacklevel=1)
    line = log.line
    assert line["logger"] == "py.warnings"
    assert "old way" in line["event"]


def test_configuring_again_does_not_double_the_lines(configured: Callable[..., Log], tmp_path: Path) -> None:
    configured()
    log = configured()
    logging.getLogger("x").error("once")
    assert log.line["event"] == "once"


# --- text ---


def test_text_is_for_people(configured: Callable[..., Log]) -> None:
    log = configured("text")
    log.logger.info("listening", url="http://127.0.0.1:8000")
    log.logger.info("request", **CANONICAL)
    first, second = log.text.splitlines()
    assert "listening" in first
    assert "url=http://127.0.0.1:8000" in first
    for word in ("complete", "200", "ada", "gpt-4o-mini", "412ms", "3.2s", "812→0", "/v1/chat/completions"):
        assert word in second


def test_text_cannot_steer_the_terminal(configured: Callable[..., Log]) -> None:
    log = configured("text")
    evil = "\x1b]0;owned\x07\x9b31m\r\n\u202efake"
    log.logger.info(evil, **{"value": evil, "n\x1bame": 1, "nested": {"a": [evil]}})
    log.logger.info("request", path=evil, caller=evil, model=evil, error=evil, outcome=evil, status=evil)
    logging.getLogger(evil).error(evil)
    try:
        raise RuntimeError(evil)
    except RuntimeError:
        log.logger.exception("failed")
    text = log.text
    assert text.replace("\n", "").isprintable()
    assert "\\x1b" in text


def test_text_shows_tracebacks_below_without_locals(configured: Callable[..., Log]) -> None:
    log = configured("text")
    prompt = PROMPT[:5] + PROMPT[5:]
    try:
        raise RuntimeError("not today")
    except RuntimeError:
        log.logger.exception("failed", size=len(prompt))
    text = log.text
    assert "Traceback (most recent call last):" in text
    assert text.rstrip().endswith("RuntimeError: not today")
    assert PROMPT not in text


@contextmanager
def terminal() -> Iterator[tuple[int, int]]:
    ends = pty.openpty()
    try:
        yield ends
    finally:
        for end in ends:
            os.close(end)


def test_a_terminal_gets_coloured_text() -> None:
    with terminal() as (master, slave):
        writer = logs.configure("auto", "info", slave)
        structlog.get_logger().info("request", **CANONICAL)
        structlog.get_logger().warning("journal_full")
        assert writer.close()
        out = os.read(master, 10_000).decode()
    assert "\x1b[32mcomplete" in out
    assert "journal_full" in out
    assert "{" not in out


def test_a_terminal_may_have_json() -> None:
    with terminal() as (master, slave):
        writer = logs.configure("json", "info", slave)
        structlog.get_logger().info("seen")
        assert writer.close()
        assert orjson.loads(os.read(master, 10_000))["event"] == "seen"


def test_a_file_gets_json_by_itself(configured: Callable[..., Log]) -> None:
    log = configured("auto")
    log.logger.info("seen")
    assert log.line["event"] == "seen"


def test_lines_can_still_be_captured_in_tests(log: Log) -> None:
    with structlog.testing.capture_logs() as captured:
        log.logger.info("seen", a=1)
    assert captured == [{"event": "seen", "a": 1, "log_level": "info"}]
    assert log.text == ""
