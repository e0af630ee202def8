"""Dropped headers are counted all, and named once each, as long as there are not too many."""

from __future__ import annotations

from structlog.testing import capture_logs

from gateway.telemetry.dropped import MAX_NAME_LENGTH, MAX_NAMES, DroppedHeaders


def test_a5_a_dropped_name_is_logged_once_and_counted_each_time() -> None:
    counts: list[int] = []
    dropped = DroppedHeaders(counts.append)
    with capture_logs() as lines:
        dropped.note([b"Remote-User", b"X-Real-IP"])
        dropped.note([b"remote-user"])
    assert counts == [2, 1]
    assert sorted(line["header"] for line in lines) == ["remote-user", "x-real-ip"]


def test_a5_invented_names_fill_neither_log_nor_memory() -> None:
    counts: list[int] = []
    dropped = DroppedHeaders(counts.append)
    with capture_logs() as lines:
        for number in range(3 * MAX_NAMES):
            dropped.note([b"x-%d-" % number + b"y" * 30_000])
    assert sum(counts) == 3 * MAX_NAMES
    assert len(lines) == MAX_NAMES + 1
    assert max(len(line.get("header", "")) for line in lines) == MAX_NAME_LENGTH
