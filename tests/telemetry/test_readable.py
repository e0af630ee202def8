"""Records as lines for people: aligned, short, harmless."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.telemetry.readable import (
    colored,
    duration,
    escaped,
    event_text,
    fit,
    plain,
    record_text,
    request_text,
    tokens,
    width,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

RECORD: dict[str, Any] = {
    "timestamp": "2026-05-01T10:00:00.123Z",
    "level": "info",
    "event": "request",
    "request_id": "0194f0c2-7bd1abcd",
    "caller": "ada",
    "method": "POST",
    "path": "/v1/chat/completions",
    "model": "gpt-4o-mini",
    "status": 200,
    "outcome": "complete",
    "prompt_tokens": 812,
    "completion_tokens": 1204,
    "first_token_ms": 412.3,
    "duration_ms": 3215.9,
}


@pytest.fixture(autouse=True)
def far_east(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "Asia/Kolkata")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def test_a_request_is_one_aligned_line_in_local_time() -> None:
    assert request_text(RECORD) == (
        "15:30:00.123  complete          200  ada             gpt-4o-mini               412ms     3.2s"
        "       812→1204  POST /v1/chat/completions  7bd1abcd"
    )


def test_columns_stand_below_each_other_whatever_is_in_them() -> None:
    others = [
        {**RECORD, "outcome": "client_cancelled", "caller": "a" * 50, "model": None, "status": None},
        {**RECORD, "caller": "山田太郎さんですよ", "model": "模型", "first_token_ms": None, "duration_ms": 1e6},
        {**RECORD, "prompt_tokens": None, "completion_tokens": None, "outcome": None},
        {"event": "request", "method": "POST", "path": "/x"},
    ]
    place = width(request_text(RECORD).partition("POST")[0])
    assert [width(request_text(each).partition("POST")[0]) for each in others] == [place] * 4


def test_an_estimate_is_marked() -> None:
    assert tokens({"prompt_tokens": 1, "completion_tokens": 2, "usage_estimated": True}) == "~1→2"


@pytest.mark.parametrize(
    ("given", "text"),
    [
        (0, "0ms"),
        (0.26, "0.3ms"),
        (9.96, "10ms"),
        (999.4, "999ms"),
        (1500, "1.5s"),
        (599_999, "600.0s"),
        (3_600_000, "60min"),
        (None, "-"),
        ("x", "-"),
        (True, "-"),
        (1e300, "-"),
        (float("nan"), "-"),
        (10**400, "-"),
    ],
)
def test_durations_are_short(given: object, text: str) -> None:
    assert duration(given) == text


def test_an_error_stands_at_the_end() -> None:
    assert request_text({**RECORD, "error": "the upstream\ncut"}).endswith("7bd1abcd  the upstream\\ncut")


def test_outcome_and_status_are_coloured() -> None:
    assert "\x1b[32mcomplete" in request_text(RECORD, colored)
    assert "\x1b[31m503" in request_text({**RECORD, "status": 503}, colored)
    assert "\x1b[33mtruncated" in request_text({**RECORD, "outcome": "truncated"}, colored)


def test_other_events_show_their_values_and_the_last_exception() -> None:
    exception = [{"exc_type": "ValueError", "exc_value": "outer"}, {"exc_type": "KeyError", "exc_value": "'inner'"}]
    record = {
        "timestamp": "?",
        "level": "error",
        "event": "failed",
        "path": "/x",
        "took_s": 1.5,
        "exception": exception,
    }
    assert event_text(record) == "--:--:--.---  error     failed  path=/x  took_s=1.5  KeyError: 'inner'"


def test_a_value_is_cut_when_it_is_long() -> None:
    assert len(event_text({"event": "x", "value": "y" * 10_000})) < 600


@pytest.mark.parametrize(
    ("text", "columns", "fitted"),
    [("ab", 4, "ab  "), ("abcd", 4, "abcd"), ("abcde", 4, "abc…"), ("山田太", 4, "山… "), ("", 2, "  ")],
)
def test_texts_fit_their_column(text: str, columns: int, fitted: str) -> None:
    assert fit(text, columns) == fitted
    assert width(fitted) == columns


def test_what_could_steer_a_terminal_is_escaped() -> None:
    assert escaped("a\x1b[31m\x9b\r\n\t\u202e\u2028\ud800b") == "a\\x1b[31m\\x9b\\r\\n\\t\\u202e\\u2028\\ud800b"
    assert escaped("Grüße, 山田 🙂") == "Grüße, 山田 🙂"


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(codec=None)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(
    st.dictionaries(
        st.sampled_from([*RECORD, "error", "exception", "usage_estimated"]) | st.text(st.characters(codec=None)), VALUES
    )
)
def test_no_record_can_break_or_steer_the_line(record: dict[str, Any]) -> None:
    assert record_text({**RECORD, **record}, plain).isprintable()
    assert record_text({"event": "x", **record}, plain).isprintable()
