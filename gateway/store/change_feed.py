"""Rows in the order in which they arrive, from whichever process: what those who watch are told.

The order is that of `position`, which a row gets once it can be seen (`number_arrivals`): whoever has seen one number
has seen all that there will ever be below it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import timedelta

    from gateway.model import Principal
    from gateway.store.pool import Database

NUMBER = "select llm_logs.number_arrivals($1)"

END = "select position, forgotten from llm_logs.arrivals_end"

# $1: the last position that was seen; $2: how many at most; $3: whether an auditor reads. A row that is no more has no
# line, and none has one for anybody else
AFTER = """
select
    a.position, line.source, line.user_name, line.model, line.outcome, line.policy_outcome,
    row_to_json(line)::text as body
from (
    select position, source, id from llm_logs.arrivals where position > $1 order by position limit $2
) as a
left join lateral (
    select * from llm_logs.interactions as i where $3 and i.source = a.source and i.id = a.id
) as line on true
order by a.position
"""

# $1: older than this
FORGET = "select llm_logs.forget_arrivals($1)"


@dataclass(frozen=True, slots=True)
class Change:
    """A row that has come: its line as JSON text, and what of it can be asked for. `body` None: it is no more."""

    position: int
    source: str | None
    user: str | None
    model: str | None
    outcome: str | None
    policy: str | None
    body: str | None


@dataclass(frozen=True, slots=True)
class End:
    """How far rows are numbered, and up to where they are forgotten."""

    position: int
    forgotten: int


class ChangeFeed:
    """All verbs raise StoreUnavailable."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def number(self, most: int) -> int:
        """Number at most so many of the rows that have come; how many there were."""
        async with self._database.asking() as connection:
            return int(await connection.fetchval(NUMBER, most))

    async def end(self) -> End:
        async with self._database.asking() as connection:
            row = await connection.fetchrow(END)
        assert row is not None
        return End(row["position"], row["forgotten"])

    async def after(self, caller: Principal, position: int, most: int) -> Sequence[Change]:
        """The next ones, at most so many, as the caller may see them."""
        async with self._database.asking() as connection:
            rows = await connection.fetch(AFTER, position, most, caller.is_auditor)
        return [
            Change(
                row["position"],
                row["source"],
                row["user_name"],
                row["model"],
                row["outcome"],
                row["policy_outcome"],
                row["body"],
            )
            for row in rows
        ]

    async def forget(self, older_than: timedelta) -> int:
        async with self._database.asking() as connection:
            return int(await connection.fetchval(FORGET, older_than))
