"""Whether the gateway can do its work now, and what ails it when it cannot."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

    from gateway.record.submissions import SubmissionsState

FRESH_S = 1.0  # one answer serves all who ask within this time


class Database(Protocol):
    async def ping(self, timeout: float) -> bool: ...  # noqa: ASYNC109 (seconds that the database gets, not a scope)


@dataclass(frozen=True, slots=True)
class Report:
    """`can_serve` is false when a request would be refused; an absent database is not that, the journal bridges it."""

    can_serve: bool
    has_postgres: bool
    checks: dict[str, Any]


class Readiness:
    """Asks upstream configuration, Postgres, journal, and the security monitor's keeper if there is one; remembers the
    answer for a moment."""

    def __init__(
        self,
        upstream: str,
        database: Database,
        is_prepared: Callable[[], bool],
        journal: Callable[[], dict[str, Any]],
        submissions: Callable[[], SubmissionsState] | None = None,
        hosts: Callable[[], dict[str, Any]] | None = None,
    ) -> None:
        """`is_prepared`: whether the schema is what this gateway writes to."""
        self._upstream = upstream
        self._database = database
        self._is_prepared = is_prepared
        self._journal = journal
        self._submissions = submissions
        self._hosts = hosts
        self._asked_at = 0.0
        self._report: Report | None = None

    async def ask(self) -> Report:
        if self._report is None or time.monotonic() - self._asked_at > FRESH_S:
            is_there = await self._database.ping(1.0)
            journal = self._journal()
            postgres = "away" if not is_there else "ok" if self._is_prepared() else "unprepared"
            checks = {"upstream": self._upstream, "postgres": postgres, "journal": journal}
            if self._submissions is not None:
                checks["submissions"] = asdict(self._submissions())
            if self._hosts is not None:
                checks["hosts"] = self._hosts()
            self._report = Report(journal["refusal"] is None, is_there, checks)
            self._asked_at = time.monotonic()
        return self._report
