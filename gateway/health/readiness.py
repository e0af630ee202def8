"""Whether the gateway can serve now, and the state of each part."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from gateway.health.database_watch import DatabaseState
    from gateway.submissions.submissions import SubmissionsState


@dataclass(frozen=True, slots=True)
class Report:
    """`can_serve` is false if requests are refused. It is true while PostgreSQL is down."""

    can_serve: bool
    has_postgres: bool
    checks: dict[str, Any]


class Readiness:
    """Reports upstream configuration, PostgreSQL, journal, hosts, and the security monitor's sink if there is one.

    It reads the last known states and never waits.
    """

    def __init__(
        self,
        upstream: str,
        database: Callable[[], DatabaseState],
        journal: Callable[[], dict[str, Any]],
        submissions: Callable[[], SubmissionsState] | None = None,
        hosts: Callable[[], dict[str, Any]] | None = None,
        missing_partitions: Callable[[], Sequence[str]] = tuple,
    ) -> None:
        self._upstream = upstream
        self._database = database
        self._journal = journal
        self._submissions = submissions
        self._hosts = hosts
        self._missing_partitions = missing_partitions

    def report(self) -> Report:
        journal = self._journal()
        database = asdict(self._database())
        status = database.pop("status")
        checks = {"upstream": self._upstream, "postgres": status, "database": database, "journal": journal}
        if self._submissions is not None:
            checks["submissions"] = asdict(self._submissions())
        if self._hosts is not None:
            checks["hosts"] = self._hosts()
        checks["missing_partitions"] = list(self._missing_partitions())
        return Report(journal["refusal"] is None, status != "away", checks)
