"""Reads the whole log for auditors: searches lines of interactions, and reads conversations with all their rows.

Each statement checks that the principal is an auditor, so that no other caller reads a row.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING

import asyncpg

from gateway.errors import NotFound, TooBroad
from gateway.store.page_cursor import NEWEST, OLDEST, Page, PageCursor, cursor_of, read_page, snapshot
from gateway.store.rows import indexed_text, storable_text

if TYPE_CHECKING:
    from collections.abc import Mapping
    from uuid import UUID

    from gateway.model import Principal
    from gateway.store.change_feed import Change
    from gateway.store.pool import Database, PooledConnection

    Rows = list[asyncpg.Record]

MOST_USERS = 10_000  # in one search for words
MOST_WORDS = 8
NEAR_ROWS = 500
WORDS_DAYS = 31  # that a search for words covers by default
LONGEST_ANSWER = timedelta(days=1)  # partitions are by the time of the request, the order is by the end of the answer
EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 - naive, as the column
ANY = "any"

# A generic plan for all combinations of filters is bad for each of them.
TUNE = """
set local plan_cache_mode = force_custom_plan;
set local jit = off;
set local statement_timeout = '8s'
"""

# In all of the following: $1: whether the principal is an auditor; $2, $3: the page cursor; $4: not older than this;
# $5: source, $6: user, $7: model, $8: outcome, $9: policy outcome, or `any`; each null for all; $10: row limit
FIND = """
select source, id, response_time
from llm_logs.interactions
where $1 and (response_time, id) < ($2, $3) and ($4::timestamp is null or response_time >= $4)
    and ($5::text is null or source = $5) and ($6::text is null or user_name = $6)
    and ($7::text is null or model = $7) and ($8::text is null or outcome = $8)
    and ($9::text is null or policy_outcome = $9 or $9 = 'any' and policy_outcome is not null)
order by response_time desc, id desc
limit $10
"""

# Chats that contain all words, among the newest rows. $11: the words as a query; $12: how many rows to search
FIND_WORDS_NEAR = """
with near as materialized (
    select id, user_name, convo_title, request, response, response_time
    from llm_logs.chatgpt_logs
    where $1 and (response_time, id) < ($2, $3) and ($4::timestamp is null or response_time >= $4)
        and ($5::text is null or $5 = 'chat') and ($6::text is null or user_name = $6)
        and ($7::text is null or model = $7) and ($8::text is null or coalesce(outcome, 'complete') = $8)
        and ($9::text is null or policy_outcome = $9 or $9 = 'any' and policy_outcome is not null)
    order by response_time desc, id desc
    limit $12
)
select 'chat' as source, id, response_time
from near
where llm_logs.search_terms(user_name, convo_title, request, response) @@ $11::tsquery
order by response_time desc, id desc
limit $10
"""

# The same among all rows of a range of days. $12, $13: the first and the last day
FIND_WORDS = """
select 'chat' as source, id, response_time
from llm_logs.chats_with($11::tsquery, $12, $13)
where $1 and (response_time, id) < ($2, $3) and ($4::timestamp is null or response_time >= $4)
    and ($5::text is null or $5 = 'chat') and ($6::text is null or user_name = $6)
    and ($7::text is null or model = $7) and ($8::text is null or coalesce(outcome, 'complete') = $8)
    and ($9::text is null or policy_outcome = $9 or $9 = 'any' and policy_outcome is not null)
order by response_time desc, id desc
limit $10
"""

USERS = "select users as user_name from llm_logs.users() limit $1"

# $1: users; $2: words
QUERY = "select llm_logs.search_query($1::text[], $2)::text as query, length(to_tsvector('simple', $2)) as words"

# $1: whether the principal is an auditor; $2, $3: sources and ids
LINES = """
select row_to_json(i)::text as body
from unnest($2::text[], $3::uuid[]) with ordinality as wanted (source, id, nth)
cross join lateral (
    select * from llm_logs.interactions as each where each.source = wanted.source and each.id = wanted.id
) as i
where $1
order by wanted.nth
"""

# $1: whether the principal is an auditor; $2: the interaction
PLACE = "select user_name, conversation from llm_logs.interactions where $1 and id = $2"

# $1: whether the principal is an auditor; $2: user; $3: conversation; $4, $5: the page cursor; $6: row limit
CONVERSATION = """
select id, response_time, row_to_json(turn)::text as body
from llm_logs.turns as turn
where $1 and user_name = $2 and conversation = $3 and (response_time, id) > ($4, $5)
order by response_time, id
limit $6
"""

# An interaction without a conversation or a user. $1: whether the principal is an auditor; $2: the interaction
ALONE = "select id, response_time, row_to_json(turn)::text as body from llm_logs.turns as turn where $1 and id = $2"


@dataclass(frozen=True, slots=True)
class AuditFilter:
    """A filter of interactions; None in a field accepts all values, `any` in `policy` each policy outcome."""

    source: str | None = None
    user: str | None = None
    model: str | None = None
    outcome: str | None = None
    policy: str | None = None

    @property
    def columns(self) -> tuple[str | None, ...]:
        """The fields as parameters of the statements."""
        names = (self.source, self.user, self.model, self.outcome, self.policy)
        return tuple(None if name is None else indexed_text(name) for name in names)

    def has(self, change: Change) -> bool:
        """Whether a row of the change feed passes the filter."""
        return (
            self.source in (None, change.source)
            and self.user in (None, change.user)
            and self.model in (None, change.model)
            and self.outcome in (None, change.outcome)
            and (self.policy in (None, change.policy) or (self.policy == ANY and change.policy is not None))
        )

    def may_become(self, running: Mapping[str, object]) -> bool:
        """Whether the row of a running answer may pass: its outcome and its policy outcome are not known yet."""
        return (
            self.outcome is None
            and self.policy is None
            and self.source in (None, running["source"])
            and self.user in (None, running["user_name"])
            and self.model in (None, running["model"])
        )


@dataclass(frozen=True, slots=True)
class Search:
    """An auditor's search: newest first, from a page cursor on, not older than `since` (UTC, naive)."""

    caller: Principal
    filter: AuditFilter
    words: str = ""
    since: datetime | None = None
    before: PageCursor = NEWEST
    limit: int = 50


@dataclass(frozen=True, slots=True)
class ConversationPage:
    """A conversation's user, its id, and a page of its turns, oldest first."""

    user: str | None
    root: str | None
    turns: Page


class Audit:
    """The whole log, for auditors. All methods raise StoreUnavailable."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def search(self, search: Search) -> Page:
        """A page of lines of interactions, or with words of chats. Raises TooBroad if the search takes too long."""
        async with self._database.asking() as connection, snapshot(connection):
            await connection.execute(TUNE)
            try:
                found = await (_find_words if search.words else _find)(connection, search)
            except asyncpg.QueryCanceledError as error:
                raise TooBroad("this takes too long: narrow it by time or user") from error
            shown = found[: search.limit]
            sources, ids = [row["source"] for row in shown], [row["id"] for row in shown]
            lines = await connection.fetch(LINES, search.caller.is_auditor, sources, ids)
        more = len(found) > search.limit
        return Page([row["body"] for row in lines], cursor_of(shown[-1]) if more else None)

    async def conversation(
        self, caller: Principal, interaction: UUID, *, after: PageCursor = OLDEST, limit: int, budget: int
    ) -> ConversationPage:
        """The conversation of the interaction, or the interaction alone. Raises NotFound."""
        async with self._database.asking() as connection, snapshot(connection):
            place = await connection.fetchrow(PLACE, caller.is_auditor, interaction)
            if place is None:
                raise NotFound("there is nothing with this id")
            user, root = place["user_name"], place["conversation"]
            page = partial(read_page, connection, limit, budget)
            if user is None or root is None:
                turns = await page(ALONE, caller.is_auditor, interaction)
            else:
                turns = await page(CONVERSATION, caller.is_auditor, user, root, after.at, after.id, limit + 1)
        return ConversationPage(user, root, turns)


async def _find(connection: PooledConnection, search: Search) -> Rows:
    """The rows of one page, and one more if another page follows."""
    return await connection.fetch(FIND, *_scope(search, search.since), search.limit + 1)


async def _find_words(connection: PooledConnection, search: Search) -> Rows:
    """Searches the newest rows first, fast for frequent words; then by the index, fast for rare ones."""
    since = search.since or _now() - timedelta(days=WORDS_DAYS)
    scope = (*_scope(search, since), search.limit + 1, await _query(connection, search))
    found = await connection.fetch(FIND_WORDS_NEAR, *scope, NEAR_ROWS)
    if len(found) > search.limit:
        return found
    until = min(search.before.at, _now() + LONGEST_ANSWER)
    days = (max(since, EPOCH) - LONGEST_ANSWER).date(), until.date()
    return await connection.fetch(FIND_WORDS, *scope, *days)


async def _query(connection: PooledConnection, search: Search) -> str:
    """The words as the index holds them, with a prefix for each user. Raises TooBroad."""
    if search.filter.user is not None:
        users = [indexed_text(search.filter.user)]
    else:
        users = [row["user_name"] for row in await connection.fetch(USERS, MOST_USERS + 1)]
    if len(users) > MOST_USERS:
        raise TooBroad("there are too many users to search the words of all of them: name one", param="user")
    query = await connection.fetchrow(QUERY, users, storable_text(search.words))
    assert query is not None
    if query["words"] > MOST_WORDS:
        raise TooBroad(f"at most {MOST_WORDS} words can be searched at once", param="q")
    return str(query["query"])


def _scope(search: Search, since: datetime | None) -> tuple[object, ...]:
    return search.caller.is_auditor, search.before.at, search.before.id, since, *search.filter.columns


def _now() -> datetime:
    """The time as the column holds it: UTC, naive."""
    return datetime.now(UTC).replace(tzinfo=None)
