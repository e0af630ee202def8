"""The log of a database that is watched."""

from __future__ import annotations

from typing import Any, cast

from structlog.testing import capture_logs

from gateway.health.database_watch import DatabaseState, DatabaseWatch


def test_a_migration_that_fails_at_each_retry_is_logged_once_until_the_database_is_ok() -> None:
    watch = DatabaseWatch(cast("Any", None), cast("Any", None))
    preparing, failed = DatabaseState("unprepared", "is being made"), DatabaseState("unprepared", "cannot be applied")
    with capture_logs() as logs:
        for state in (preparing, failed, preparing, failed, preparing, failed, DatabaseState("ok", None), failed):
            watch._set_state(state)
    errors = [line.get("error") for line in logs]
    assert errors == ["is being made", "cannot be applied", None, "cannot be applied"]
    assert logs[2]["event"] == "postgres_is_up"
