"""Whether the gateway can do its work now, and what ails it when it cannot."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from gateway.health.maintenance import DatabaseState
    from gateway.submissions.submissions import SubmissionsState


@dataclass(frozen=True, slots=True)
class Report:
    """`can_serve` is false when a request would be refused; an absent database is not that, the journal bridges it."""

    can_serve: bool
    has_postgres: bool
    checks: dict[str, Any]


class Readiness:
    """Upstream configuration, Postgres, journal, and the security monitor's keeper if there is one, as they are known
    to be: nobody is waited for."""

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
        word = database.pop("word")
        checks = {"upstream": self._upstream, "postgres": word, "database": database, "journal": journal}
        if self._submissions is not None:
            checks["submissions"] = asdict(self._submissions())
        if self._hosts is not None:
            checks["hosts"] = self._hosts()
        checks["missing_partitions"] = list(self._missing_partitions())
        return Report(journal["refusal"] is None, word != "away", checks)
