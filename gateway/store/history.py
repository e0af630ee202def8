"""The history of a caller, newest first: rows and conversations as JSON text that Postgres writes.

Keyset pagination over (response_time, id). Each statement names the principal and the user whose rows it reads: an
auditor may read the rows of all users, other callers their own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from gateway.store.page_cursor import NEWEST, Page, PageCursor, cursor_of, read_page, snapshot
from gateway.store.rows import indexed_text, storable_text

if TYPE_CHECKING:
    from gateway.model import Principal
    from gateway.store.pool import Database, PooledConnection

STEP, LONGEST_STEP = 200, 5000  # rows that one query reads in search of conversations
MOST_WALKED = 50_000  # rows that one page reads; a conversation may have any number

# $1: the principal's user; $2: user of the rows; $3: whether the principal is an auditor; $4, $5: the page cursor;
# $6: row limit
ROWS = """
select id, response_time, json_build_object('request', request, 'response_time', response_time)::text as body
from llm_logs.chatgpt_logs
where user_name = $2 and ($2 = $1 or $3) and (response_time, id) < ($4, $5)
order by response_time desc, id desc
limit $6
"""

# As above
WALK = """
select id, response_time, coalesce(root_gpt_id, id::text) as root
from llm_logs.chatgpt_logs
where user_name = $2 and ($2 = $1 or $3) and convo_show is not false and (response_time, id) < ($4, $5)
order by response_time desc, id desc
limit $6
"""

# The conversations among $6 that have a visible row at or after the page cursor. $1 to $5: as above
NEWER = """
select wanted.root
from unnest($6::text[]) as wanted (root)
cross join lateral (
    select true
    from llm_logs.chatgpt_logs
    where user_name = $2 and ($2 = $1 or $3) and coalesce(root_gpt_id, id::text) = wanted.root
        and convo_show is not false and (response_time, id) >= ($4, $5)
    limit 1
) as newer
"""

# The newest visible row of each conversation that contains the words. $1 to $6: as above; $7: the words
SEARCH = """
with found as materialized (
    select distinct coalesce(root_gpt_id, id::text) as root
    from llm_logs.chatgpt_logs
    where user_name = $2 and ($2 = $1 or $3) and convo_show is not false
        and llm_logs.search_terms(user_name, convo_title, request, response) @@ llm_logs.search_query($2, $7)
)
select head.id, head.response_time
from found
cross join lateral (
    select id, response_time
    from llm_logs.chatgpt_logs
    where user_name = $2 and ($2 = $1 or $3) and coalesce(root_gpt_id, id::text) = found.root
        and convo_show is not false
    order by response_time desc, id desc
    limit 1
) as head
where (head.response_time, head.id) < ($4, $5)
order by head.response_time desc, head.id desc
limit $6
"""

# $1 to $3: as above; $4: ids
NEWEST_ROWS = """
select c.id, c.response_time, row_to_json(c)::text as body
from (
    select
        id, request, usage_info, user_name, title, response_time, response, convo_title, convo_show,
        coalesce(root_gpt_id, id::text) as root_gpt_id, kind, model, outcome, error, prompt_tokens, completion_tokens,
        policy_outcome, policy_rules
    from llm_logs.chatgpt_logs
    where user_name = $2 and ($2 = $1 or $3) and id = any($4::uuid[])
) as c
order by c.response_time desc, c.id desc
"""


@dataclass(frozen=True, slots=True)
class HistoryQuery:
    """A page to read: the caller, the user whose rows it has, its limits, and where it begins."""

    caller: Principal
    user: str
    limit: int
    budget: int  # bytes; a page ends with the row that reaches it
    before: PageCursor = NEWEST

    @property
    def scope(self) -> tuple[str, str, bool]:
        """The first parameters of each statement."""
        return indexed_text(self.caller.user), indexed_text(self.user), self.caller.is_auditor


class History:
    """The callers' history. All methods raise StoreUnavailable."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def rows(self, query: HistoryQuery) -> Page:
        """A page of chats, each as `request` and `response_time`."""
        before = query.before
        async with self._database.asking() as connection, snapshot(connection):
            return await _page(connection, query, ROWS, *query.scope, before.at, before.id, query.limit + 1)

    async def conversations(self, query: HistoryQuery) -> Page:
        """A page of conversations that are not removed, each as its newest row. A page with a `next` may be short."""
        async with self._database.asking() as connection, snapshot(connection):
            cursors, end = await _walk(connection, query)
            return await _newest_rows(connection, query, cursors, end)

    async def search(self, query: HistoryQuery, words: str) -> Page:
        """The same for conversations that contain all of these words, or words that begin with them."""
        before = query.before
        async with self._database.asking() as connection, snapshot(connection):
            found = await connection.fetch(
                SEARCH, *query.scope, before.at, before.id, query.limit + 1, storable_text(words.replace("\0", " "))
            )
            return await _newest_rows(connection, query, [cursor_of(row) for row in found], None)


async def _page(connection: PooledConnection, query: HistoryQuery, statement: str, *parameters: object) -> Page:
    return await read_page(connection, query.limit, query.budget, statement, *parameters)


async def _walk(connection: PooledConnection, query: HistoryQuery) -> tuple[list[PageCursor], PageCursor | None]:
    """The newest rows of the next conversations, one more than the limit if more follow; and where the search stopped.

    It reads rows from the page cursor on and takes the first row of each conversation that was not on an earlier page.
    So a page costs the rows between its conversations, independent of the length of the history.
    """
    found: dict[str, PageCursor] = {}
    earlier: set[str] = set()
    cursor, step, walked = query.before, STEP, 0
    while len(found) <= query.limit:
        rows = await connection.fetch(WALK, *query.scope, cursor.at, cursor.id, step)
        fresh = {row["root"] for row in rows} - found.keys() - earlier
        if query.before is not NEWEST and fresh:
            earlier |= await _newer(connection, query, fresh)
        for row in rows:
            if row["root"] not in earlier:
                found.setdefault(row["root"], cursor_of(row))
        walked += len(rows)
        if len(rows) < step:
            return list(found.values()), None
        cursor, step = cursor_of(rows[-1]), min(step * 2, LONGEST_STEP)
        if walked >= MOST_WALKED:
            return list(found.values()), cursor
    return list(found.values()), None


async def _newer(connection: PooledConnection, query: HistoryQuery, roots: set[str]) -> set[str]:
    before = query.before
    found = await connection.fetch(NEWER, *query.scope, before.at, before.id, list(roots))
    return {row["root"] for row in found}


async def _newest_rows(
    connection: PooledConnection, query: HistoryQuery, cursors: list[PageCursor], end: PageCursor | None
) -> Page:
    shown = cursors[: query.limit]
    page = await _page(connection, query, NEWEST_ROWS, *query.scope, [cursor.id for cursor in shown])
    if page.next is None and len(cursors) > query.limit:
        return Page(page.rows, shown[-1])
    return Page(page.rows, page.next or end)
