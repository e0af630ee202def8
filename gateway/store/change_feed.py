"""The change feed: new rows of all processes in the order of their arrival, for the live page.

The order is that of `position`. A row gets its position when it is visible (`number_arrivals`), so that no row appears
below a position that a reader has seen.
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

# $1: the last position that was seen; $2: row limit; $3: whether the principal is an auditor. A deleted row has no
# line, and other callers get no line of any row
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
    """A new row: its line as JSON text, and the columns that filters use. `body` None: the row was deleted."""

    position: int
    source: str | None
    user: str | None
    model: str | None
    outcome: str | None
    policy: str | None
    body: str | None


@dataclass(frozen=True, slots=True)
class End:
    """The last position, and the position up to which the feed has forgotten rows."""

    position: int
    forgotten: int


class ChangeFeed:
    """The change feed of one database. All methods raise StoreUnavailable."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def number(self, most: int) -> int:
        """Give positions to at most `most` new rows; how many got one."""
        async with self._database.asking() as connection:
            return int(await connection.fetchval(NUMBER, most))

    async def end(self) -> End:
        """The end of the feed."""
        async with self._database.asking() as connection:
            row = await connection.fetchrow(END)
        assert row is not None
        return End(row["position"], row["forgotten"])

    async def after(self, caller: Principal, position: int, most: int) -> Sequence[Change]:
        """The next changes after `position`, at most `most`, as the caller may see them."""
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
        """Delete older entries of the feed, not their rows; how many."""
        async with self._database.asking() as connection:
            return int(await connection.fetchval(FORGET, older_than))
