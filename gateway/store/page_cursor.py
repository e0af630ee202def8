"""Pages of rows: they go on from a mark, the place of their last row, so that they stay as quick and as true while rows
come in."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

if TYPE_CHECKING:
    from gateway.store.pool import PooledConnection

FETCH = 10  # rows at a time: one may be as large as a request and its answer can be


@dataclass(frozen=True, slots=True)
class PageCursor:
    """A row's place in the order of history."""

    at: datetime  # UTC without saying so, as in the column
    id: UUID

    def __str__(self) -> str:
        return f"{self.at.isoformat()}_{self.id}"

    @classmethod
    def read(cls, text: str) -> PageCursor:
        """Raises ValueError for what is no mark."""
        moment, _, row = text.partition("_")
        at = datetime.fromisoformat(moment)
        if at.tzinfo is not None:
            raise ValueError("marks are in UTC and do not say so")
        return cls(at, UUID(row))


NEWEST = PageCursor(datetime.max, UUID(int=2**128 - 1))  # noqa: DTZ901 - Postgres' infinity

OLDEST = PageCursor(datetime.min, UUID(int=0))  # noqa: DTZ901 - Postgres' -infinity


@dataclass(frozen=True, slots=True)
class Page:
    """Rows as JSON texts; `next` is where the page after this one begins, None when there is nothing more."""

    rows: list[str]
    next: PageCursor | None


def snapshot(connection: PooledConnection) -> Any:
    """All statements within see the same rows."""
    return connection.transaction(isolation="repeatable_read", readonly=True)


async def read_page(connection: PooledConnection, limit: int, budget: int, query: str, *parameters: object) -> Page:
    """Up to so many rows or bytes; the query gives one more than that, if there are more."""
    texts: list[str] = []
    size = 0
    last: PageCursor | None = None
    async for row in connection.cursor(query, *parameters, prefetch=FETCH):
        if len(texts) == limit or size >= budget:
            return Page(texts, last)
        texts.append(row["body"])
        size += len(row["body"])
        last = cursor_of(row)
    return Page(texts, None)


def cursor_of(row: Any) -> PageCursor:
    return PageCursor(row["response_time"], row["id"])
