"""Figures of the use of models, from the tables that `refresh_report` adds up, and that adding up itself.

Each statement names the principal: an auditor's figures are everybody's, those of others their own.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gateway.store.rows import storable_text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import date, datetime

    from gateway.model import Principal
    from gateway.store.pool import Database, PooledConnection

    Rows = Sequence[Mapping[str, Any]]

SHOWN_USERS = 8  # that have a line of their own in a picture of days; the others are added up
SHOWN_CONVERSATIONS = 50
STEP = 50  # days of users that are added up in one transaction, which a statement's timeout must not end
PATIENCE_S = 1.0  # for what changed last, when somebody wants to read; the rest is the upkeep's

# Sums of many groups need not go to the disk, nor be compiled; a plan that fits all filters fits none
TUNE = "set local work_mem = '64MB'; set local jit = off; set local plan_cache_mode = force_custom_plan"

# $1: how many of the changed days at most
REFRESH = "select llm_logs.refresh_report($1)"

# Whether anything is not added up yet
PENDING = "select exists (select from llm_logs.report_changes)"

# In all of the following: $1: the principal's user; $2: whether the principal is an auditor; $3, $4: first and last
# day; $5: user, $6: model, $7: job title, each null for all

# Sums of each day and model, then of each user and model; `open` are the tokens whose price no row says
USAGE = """
select
    grouping(day) = 0 as is_of_day, day, user_name, model,
    sum(calls) as calls,
    sum(prompt_tokens::double precision)::bigint as prompt_tokens,
    sum(completion_tokens::double precision)::bigint as completion_tokens,
    sum(total_tokens::double precision)::bigint as total_tokens,
    sum(estimated_calls) as estimated_calls,
    sum(cost_usd) as cost_usd,
    coalesce(sum(prompt_tokens::double precision) filter (where cost_usd is null), 0)::bigint as open_prompt_tokens,
    coalesce(sum(completion_tokens::double precision) filter (where cost_usd is null), 0)::bigint
        as open_completion_tokens,
    coalesce(sum(total_tokens::double precision) filter (where cost_usd is null), 0)::bigint as open_tokens,
    sum(complete) as complete,
    sum(truncated) as truncated,
    sum(upstream_error) as upstream_error,
    sum(client_cancelled) as client_cancelled,
    sum(policy_blocked) as policy_blocked,
    sum(interrupted) as interrupted,
    max(last_at) as last_at
from llm_logs.report_usage
where ($2 or user_name = $1) and day between $3 and $4
    and ($5::text is null or user_name = $5) and ($6::text is null or model = $6) and ($7::text is null or title = $7)
group by grouping sets ((day, model), (user_name, model))
order by day, user_name, model
"""

# Conversations of each day, by user; $8: users with the most of them, the others are added up under null
CONVERSATIONS = """
with days as materialized (
    select day, user_name, count(*) as conversations
    from llm_logs.report_conversations
    where is_first and $6::text is null and $7::text is null
        and ($2 or user_name = $1) and day between $3 and $4 and ($5::text is null or user_name = $5)
    group by day, user_name
    union all
    select day, user_name, count(*)
    from (
        select distinct day, user_name, conversation
        from llm_logs.report_conversations
        where ($6::text is not null or $7::text is not null)
            and ($2 or user_name = $1) and day between $3 and $4 and ($5::text is null or user_name = $5)
            and ($6::text is null or model = $6) and ($7::text is null or title = $7)
    ) as each
    group by day, user_name
),
most as (
    select user_name from days group by user_name order by sum(conversations) desc, user_name limit $8
)
select day, most.user_name, sum(conversations)::bigint as conversations
from days
left join most using (user_name)
group by day, most.user_name
order by day, most.user_name
"""

# The conversations with the most tokens, and how many there are. $8: how many
LARGEST = """
with sums as materialized (
    select key, sum(total_tokens::double precision) as total_tokens
    from llm_logs.report_conversations
    where ($2 or user_name = $1) and day between $3 and $4
        and ($5::text is null or user_name = $5) and ($6::text is null or model = $6)
        and ($7::text is null or title = $7)
    group by key
),
largest as (
    select key from sums order by total_tokens desc, key limit $8
),
named as (
    select
        user_name, conversation, sum(chats) as chats, sum(prompt_tokens)::bigint as prompt_tokens,
        sum(completion_tokens)::bigint as completion_tokens, sum(total_tokens)::bigint as total_tokens
    from llm_logs.report_conversations
    where key in (select key from largest)
        and ($2 or user_name = $1) and day between $3 and $4
        and ($5::text is null or user_name = $5) and ($6::text is null or model = $6)
        and ($7::text is null or title = $7)
    group by user_name, conversation
)
select named.*, newest.convo_title, (select count(*) from sums) as conversations
from named
left join lateral (
    select convo_title
    from llm_logs.chatgpt_logs
    where user_name = named.user_name and coalesce(root_gpt_id, id::text) = named.conversation
    order by response_time desc, id desc
    limit 1
) as newest on true
order by named.total_tokens desc, named.user_name, named.conversation
"""

# p50 and p95 of each day, of each model, and of all, in milliseconds
TIMES = """
with counts as (
    select
        day, model, measure, step, sum(chats) as chats,
        grouping(day) = 0 as is_of_day, grouping(model) = 0 as is_of_model
    from (
        select day, model, measure, step, chats
        from llm_logs.report_times_by_day
        where $2 and $5::text is null and $7::text is null and day between $3 and $4
            and ($6::text is null or model = $6)
        union all
        select day, model, measure, step, count(*)
        from (
            select day, model, 'duration' as measure, unnest(durations) as step
            from llm_logs.report_times
            where not ($2 and $5::text is null and $7::text is null) and ($2 or user_name = $1)
                and day between $3 and $4 and ($5::text is null or user_name = $5)
                and ($6::text is null or model = $6) and ($7::text is null or title = $7)
            union all
            select day, model, 'first_token', unnest(first_tokens)
            from llm_logs.report_times
            where not ($2 and $5::text is null and $7::text is null) and ($2 or user_name = $1)
                and day between $3 and $4 and ($5::text is null or user_name = $5)
                and ($6::text is null or model = $6) and ($7::text is null or title = $7)
        ) as each
        group by day, model, measure, step
    ) as all_times
    group by grouping sets ((day, measure, step), (model, measure, step), (measure, step))
),
running as (
    select
        *, sum(chats) over (partition by is_of_day, is_of_model, day, model, measure order by step) as so_far,
        sum(chats) over (partition by is_of_day, is_of_model, day, model, measure) as total
    from counts
)
select
    day, case when is_of_model then model end as model, measure, is_of_model, is_of_day,
    max(total)::bigint as chats,
    round(exp(min(step) filter (where so_far >= 0.50 * total) / 20.0))::double precision as p50_ms,
    round(exp(min(step) filter (where so_far >= 0.95 * total) / 20.0))::double precision as p95_ms
from running
group by is_of_day, is_of_model, day, model, measure
order by day, model, measure
"""

# What one may choose from; $1 to $4: as above
CHOICES = """
select user_name, model, title
from llm_logs.report_usage
where ($2 or user_name = $1) and day between $3 and $4
group by grouping sets ((user_name), (model), (title))
order by user_name, model, title
"""


@dataclass(frozen=True, slots=True)
class Question:
    """What the report is to be about; days are UTC's, and both ends count."""

    caller: Principal
    first: date
    last: date
    user: str | None = None
    model: str | None = None
    title: str | None = None

    @property
    def scope(self) -> tuple[str, bool, date, date]:
        return storable_text(self.caller.user), self.caller.is_auditor, self.first, self.last

    @property
    def parameters(self) -> tuple[object, ...]:
        return (*self.scope, *(None if text is None else storable_text(text) for text in self._filters()))

    def _filters(self) -> tuple[str | None, str | None, str | None]:
        return self.user, self.model, self.title


@dataclass(frozen=True, slots=True)
class Figures:
    """What the statements above have found, all at one moment."""

    usage: Rows
    conversations: Rows
    largest: Rows
    times: Rows
    choices: Rows
    is_behind: bool  # some rows are stored but not added up yet

    @property
    def newest(self) -> datetime | None:
        return max((row["last_at"] for row in self.usage), default=None)


class Reports:
    """Of one database. All verbs raise StoreUnavailable."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def refresh(self, most: int = STEP) -> int:
        """Adds up at most so many of the days that have changed; returns how many these were."""
        async with self._database.asking() as connection:
            return int(await connection.fetchval(REFRESH, most))

    async def read(self, question: Question) -> Figures:
        """The figures, with what was stored up to now, unless that is more than can be waited for."""
        until = time.monotonic() + PATIENCE_S
        while await self.refresh() == STEP and time.monotonic() < until:
            pass
        given = question.parameters
        async with (
            self._database.asking() as connection,
            connection.transaction(isolation="repeatable_read", readonly=True),
        ):
            await connection.execute(TUNE)
            return Figures(
                usage=await _fetch(connection, USAGE, *given),
                conversations=await _fetch(connection, CONVERSATIONS, *given, SHOWN_USERS),
                largest=await _fetch(connection, LARGEST, *given, SHOWN_CONVERSATIONS),
                times=await _fetch(connection, TIMES, *given),
                choices=await _fetch(connection, CHOICES, *question.scope),
                is_behind=bool(await connection.fetchval(PENDING)),
            )


async def _fetch(connection: PooledConnection, query: str, *parameters: object) -> Rows:
    return [dict(row) for row in await connection.fetch(query, *parameters)]
