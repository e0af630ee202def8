"""What auditors read: lines of every interaction, looked for in the whole log, and conversations with all their rows.

Each statement names whether the principal is an auditor, so that nobody else reads a row, whoever calls.
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

MOST_USERS = 10_000  # whose words are looked for at once
MOST_WORDS = 8
NEAR_ROWS = 500
WORDS_DAYS = 31  # in which words are looked for, where nothing is said of time
LONGEST_ANSWER = timedelta(days=1)  # partitions are by when a request came, the log's order by when its answer ended
EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 - as the column has it
ANY = "any"

# Plans that fit all filters fit none.
TUNE = """
set local plan_cache_mode = force_custom_plan;
set local jit = off;
set local statement_timeout = '8s'
"""

# In all of the following: $1: whether the principal is an auditor; $2, $3: the mark; $4: not older than this;
# $5: source, $6: user, $7: model, $8: outcome, $9: what the policy did, `any` for anything, each null for all;
# $10: how many
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

# Chats that hold all of some words, among the newest rows. $11: the words as a query; $12: how many rows to look at
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

# The same among all rows of some days. $12, $13: the first and the last of these
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

# $1: whether the principal is an auditor; $2: user; $3: conversation; $4, $5: the mark; $6: how many
CONVERSATION = """
select id, response_time, row_to_json(turn)::text as body
from llm_logs.turns as turn
where $1 and user_name = $2 and conversation = $3 and (response_time, id) > ($4, $5)
order by response_time, id
limit $6
"""

# One that belongs to no conversation, or to nobody. $1: whether the principal is an auditor; $2: the interaction
ALONE = "select id, response_time, row_to_json(turn)::text as body from llm_logs.turns as turn where $1 and id = $2"


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which interactions, each None for all; what the policy did may be `any`. It also says which of the rows that come
    are among them."""

    source: str | None = None
    user: str | None = None
    model: str | None = None
    outcome: str | None = None
    policy: str | None = None

    @property
    def columns(self) -> tuple[str | None, ...]:
        names = (self.source, self.user, self.model, self.outcome, self.policy)
        return tuple(None if name is None else indexed_text(name) for name in names)

    def has(self, arrival: Change) -> bool:
        return (
            self.source in (None, arrival.source)
            and self.user in (None, arrival.user)
            and self.model in (None, arrival.model)
            and self.outcome in (None, arrival.outcome)
            and (self.policy in (None, arrival.policy) or (self.policy == ANY and arrival.policy is not None))
        )

    def may_become(self, underway: Mapping[str, object]) -> bool:
        """Whether what is being answered may become one of them: how it ends, and what the policy did, is not known."""
        return (
            self.outcome is None
            and self.policy is None
            and self.source in (None, underway["source"])
            and self.user in (None, underway["user_name"])
            and self.model in (None, underway["model"])
        )


@dataclass(frozen=True, slots=True)
class Search:
    """What an auditor looks for: newest first, from a mark on, not older than `since` (UTC without saying so)."""

    caller: Principal
    wanted: Wanted
    words: str = ""
    since: datetime | None = None
    before: PageCursor = NEWEST
    limit: int = 50


@dataclass(frozen=True, slots=True)
class Conversation:
    """Whose it is, its id, and its turns, oldest first."""

    user: str | None
    root: str | None
    turns: Page


class Audit:
    """The whole log, for auditors. All verbs raise StoreUnavailable."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def search(self, search: Search) -> Page:
        """Lines of interactions; with words, of chats. Raises TooBroad when it would take too long."""
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
    ) -> Conversation:
        """The conversation in which the interaction stands, or it alone. Raises NotFound."""
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
        return Conversation(user, root, turns)


async def _find(connection: PooledConnection, search: Search) -> Rows:
    """One more than wanted, if there are more."""
    return await connection.fetch(FIND, *_scope(search, search.since), search.limit + 1)


async def _find_words(connection: PooledConnection, search: Search) -> Rows:
    """What many say is found among the newest rows, what few say by the index."""
    since = search.since or _now() - timedelta(days=WORDS_DAYS)
    scope = (*_scope(search, since), search.limit + 1, await _query(connection, search))
    found = await connection.fetch(FIND_WORDS_NEAR, *scope, NEAR_ROWS)
    if len(found) > search.limit:
        return found
    until = min(search.before.at, _now() + LONGEST_ANSWER)
    days = (max(since, EPOCH) - LONGEST_ANSWER).date(), until.date()
    return await connection.fetch(FIND_WORDS, *scope, *days)


async def _query(connection: PooledConnection, search: Search) -> str:
    """The words as the index knows them: by user, so that for all users all of them are named. Raises TooBroad."""
    if search.wanted.user is not None:
        users = [indexed_text(search.wanted.user)]
    else:
        users = [row["user_name"] for row in await connection.fetch(USERS, MOST_USERS + 1)]
    if len(users) > MOST_USERS:
        raise TooBroad("there are too many users to look for words of all of them: name one", param="user")
    query = await connection.fetchrow(QUERY, users, storable_text(search.words))
    assert query is not None
    if query["words"] > MOST_WORDS:
        raise TooBroad(f"at most {MOST_WORDS} words can be looked for at once", param="q")
    return str(query["query"])


def _scope(search: Search, since: datetime | None) -> tuple[object, ...]:
    return search.caller.is_auditor, search.before.at, search.before.id, since, *search.wanted.columns


def _now() -> datetime:
    """As the column has it: UTC without saying so."""
    return datetime.now(UTC).replace(tzinfo=None)
