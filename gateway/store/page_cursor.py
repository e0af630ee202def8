"""Keyset pagination over (response_time, id): pages stay fast and complete while rows arrive."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

if TYPE_CHECKING:
    from gateway.store.pool import PooledConnection

FETCH = 10  # rows at a time: one row may be as large as a request and its answer


@dataclass(frozen=True, slots=True)
class PageCursor:
    """The position of a row in the order of the history."""

    at: datetime  # UTC, naive, as in the column
    id: UUID

    def __str__(self) -> str:
        return f"{self.at.isoformat()}_{self.id}"

    @classmethod
    def read(cls, text: str) -> PageCursor:
        """The cursor in a text. Raises ValueError if the text is not a page cursor."""
        moment, _, row = text.partition("_")
        at = datetime.fromisoformat(moment)
        if at.tzinfo is not None:
            raise ValueError("page cursors are in UTC, without an offset")
        return cls(at, UUID(row))


NEWEST = PageCursor(datetime.max, UUID(int=2**128 - 1))  # noqa: DTZ901 - Postgres' infinity

OLDEST = PageCursor(datetime.min, UUID(int=0))  # noqa: DTZ901 - Postgres' -infinity


@dataclass(frozen=True, slots=True)
class Page:
    """Rows as JSON texts, and the cursor of the next page; None: this is the last page."""

    rows: list[str]
    next: PageCursor | None


def snapshot(connection: PooledConnection) -> Any:
    """A transaction whose statements all see the same rows."""
    return connection.transaction(isolation="repeatable_read", readonly=True)


async def read_page(connection: PooledConnection, limit: int, budget: int, query: str, *parameters: object) -> Page:
    """A page of at most `limit` rows, or of the rows that reach `budget` bytes.

    The query returns one row more than the limit if more rows follow.
    """
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
    """The cursor of a row with these two columns."""
    return PageCursor(row["response_time"], row["id"])
