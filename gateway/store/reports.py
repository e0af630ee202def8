"""Usage figures of models, from the sums that `refresh_report` keeps; and that refresh.

Each statement names the principal: an auditor reads the figures of all users, other callers their own.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gateway.store.rows import indexed_text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import date, datetime

    from gateway.model import Principal
    from gateway.store.pool import Database, PooledConnection

    Rows = Sequence[Mapping[str, Any]]

SHOWN_USERS = 8  # with their own line in a chart of days; the others are one line
SHOWN_CONVERSATIONS = 50
STEP = 50  # days of users in one transaction: few enough for the statement timeout
REFRESH_S = 1.0  # that a reader waits for a refresh; the maintenance refreshes the rest

# Sums of many groups stay in memory and are not compiled. A generic plan for all filters is bad for each of them.
TUNE = "set local work_mem = '64MB'; set local jit = off; set local plan_cache_mode = force_custom_plan"

# $1: limit of changed days
REFRESH = "select llm_logs.refresh_report($1)"

# Whether some changes are not in the sums yet
PENDING = "select exists (select from llm_logs.report_changes)"

# In all of the following: $1: the principal's user; $2: whether the principal is an auditor; $3, $4: first and last
# day; $5: user, $6: model, $7: job title, each null for all

# Sums of each day and model, then of each user and model; `open` are tokens of rows without a price
USAGE = """
with of_days as (
    select
        day, model, calls, prompt_tokens, completion_tokens, total_tokens, estimated_calls, cost_usd,
        open_prompt_tokens, open_completion_tokens, open_tokens, complete, truncated, upstream_error, client_cancelled,
        policy_blocked, interrupted, last_at
    from llm_logs.report_usage_by_day
    where $2 and $5::text is null and $1::text is not null and day between $3 and $4
        and ($6::text is null or model = $6) and ($7::text is null or title = $7)
    union all
    select
        day, model, calls, prompt_tokens, completion_tokens, total_tokens, estimated_calls, cost_usd,
        open_prompt_tokens, open_completion_tokens, open_tokens, complete, truncated, upstream_error, client_cancelled,
        policy_blocked, interrupted, last_at
    from llm_logs.report_usage
    where not ($2 and $5::text is null) and ($2 or user_name = $1) and day between $3 and $4
        and ($5::text is null or user_name = $5) and ($6::text is null or model = $6)
        and ($7::text is null or title = $7)
)
select
    true as is_of_day, day, null as user_name, model,
    sum(calls)::bigint as calls,
    sum(prompt_tokens::double precision)::bigint as prompt_tokens,
    sum(completion_tokens::double precision)::bigint as completion_tokens,
    sum(total_tokens::double precision)::bigint as total_tokens,
    sum(estimated_calls)::bigint as estimated_calls,
    sum(cost_usd) as cost_usd,
    sum(open_prompt_tokens::double precision)::bigint as open_prompt_tokens,
    sum(open_completion_tokens::double precision)::bigint as open_completion_tokens,
    sum(open_tokens::double precision)::bigint as open_tokens,
    sum(complete)::bigint as complete,
    sum(truncated)::bigint as truncated,
    sum(upstream_error)::bigint as upstream_error,
    sum(client_cancelled)::bigint as client_cancelled,
    sum(policy_blocked)::bigint as policy_blocked,
    sum(interrupted)::bigint as interrupted,
    max(last_at) as last_at
from of_days
group by day, model
union all
select
    false, null, user_name, model,
    sum(calls)::bigint as calls,
    sum(prompt_tokens::double precision)::bigint as prompt_tokens,
    sum(completion_tokens::double precision)::bigint as completion_tokens,
    sum(total_tokens::double precision)::bigint as total_tokens,
    sum(estimated_calls)::bigint as estimated_calls,
    sum(cost_usd) as cost_usd,
    sum(open_prompt_tokens::double precision)::bigint as open_prompt_tokens,
    sum(open_completion_tokens::double precision)::bigint as open_completion_tokens,
    sum(open_tokens::double precision)::bigint as open_tokens,
    sum(complete)::bigint as complete,
    sum(truncated)::bigint as truncated,
    sum(upstream_error)::bigint as upstream_error,
    sum(client_cancelled)::bigint as client_cancelled,
    sum(policy_blocked)::bigint as policy_blocked,
    sum(interrupted)::bigint as interrupted,
    max(last_at) as last_at
from llm_logs.report_usage
where ($2 or user_name = $1) and day between $3 and $4
    and ($5::text is null or user_name = $5) and ($6::text is null or model = $6) and ($7::text is null or title = $7)
group by user_name, model
order by day, user_name, model
"""

# Conversations of each day, by user; $8: number of users with the most; the others are one group, null
CONVERSATIONS = """
with days as materialized (
    select day, user_name, conversations
    from llm_logs.report_conversations_by_day
    where $6::text is null and $7::text is null
        and ($2 or user_name = $1) and day between $3 and $4 and ($5::text is null or user_name = $5)
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

# The conversations with the most tokens, and the number of all. $8: row limit
LARGEST = """
with of_parts as materialized (
    select key, sum(total_tokens::double precision) as total_tokens
    from llm_logs.report_conversations
    where not is_alone and ($2 or user_name = $1) and day between $3 and $4
        and ($5::text is null or user_name = $5) and ($6::text is null or model = $6)
        and ($7::text is null or title = $7)
    group by key
),
largest as (
    select key
    from (
        (select key, total_tokens from of_parts order by total_tokens desc, key limit $8)
        union all
        (
            select key, total_tokens
            from llm_logs.report_conversations
            where is_alone and ($2 or user_name = $1) and day between $3 and $4
            and ($5::text is null or user_name = $5) and ($6::text is null or model = $6)
            and ($7::text is null or title = $7)
            order by total_tokens desc, key
            limit $8
        )
    ) as each
    order by total_tokens desc, key
    limit $8
),
all_of_them as materialized (
    select (select count(*) from of_parts) + sum(alone)::bigint as conversations
    from (
        select coalesce(sum(alone), 0) as alone
        from llm_logs.report_conversations_by_day
        where $6::text is null and $7::text is null
            and ($2 or user_name = $1) and day between $3 and $4 and ($5::text is null or user_name = $5)
        union all
        select count(*)
        from llm_logs.report_conversations
        where is_alone and ($6::text is not null or $7::text is not null) and ($2 or user_name = $1)
            and day between $3 and $4 and ($5::text is null or user_name = $5)
            and ($6::text is null or model = $6) and ($7::text is null or title = $7)
    ) as each
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
select named.*, newest.convo_title, all_of_them.conversations
from named
cross join all_of_them
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
with chosen as materialized (
    select day, model, step, durations, first_tokens
    from llm_logs.report_times_by_day
    where $2 and $5::text is null and $7::text is null and day between $3 and $4
        and ($6::text is null or model = $6)
    union all
    select day, model, each.step, each.durations, each.first_tokens
    from llm_logs.report_times_by_title
    cross join unnest(steps, durations, first_tokens) as each (step, durations, first_tokens)
    where $2 and $5::text is null and title = $7 and day between $3 and $4 and ($6::text is null or model = $6)
    union all
    select day, model, step, count(*) filter (where is_duration), count(*) filter (where not is_duration)
    from (
        select day, model, true as is_duration, unnest(durations) as step
        from llm_logs.report_times
        where not ($2 and $5::text is null) and ($2 or user_name = $1)
            and day between $3 and $4 and ($5::text is null or user_name = $5)
            and ($6::text is null or model = $6) and ($7::text is null or title = $7)
        union all
        select day, model, false, unnest(first_tokens)
        from llm_logs.report_times
        where not ($2 and $5::text is null) and ($2 or user_name = $1)
            and day between $3 and $4 and ($5::text is null or user_name = $5)
            and ($6::text is null or model = $6) and ($7::text is null or title = $7)
    ) as each
    group by day, model, step
),
of_models as materialized (
    select model, step, sum(durations)::bigint as durations, sum(first_tokens)::bigint as first_tokens
    from chosen
    group by model, step
),
counts as (
    select
        day, null::text as model, step, sum(durations)::bigint as durations, sum(first_tokens)::bigint as first_tokens
    from chosen
    group by day, step
    union all
    select null, model, step, durations, first_tokens from of_models
    union all
    select null, null, step, sum(durations)::bigint, sum(first_tokens)::bigint from of_models group by step
),
running as (
    select
        day, model, step,
        sum(durations) over so_far as durations, sum(durations) over whole as all_durations,
        sum(first_tokens) over so_far as first_tokens, sum(first_tokens) over whole as all_first_tokens
    from counts
    window whole as (partition by day, model), so_far as (partition by day, model order by step)
),
found as (
    select
        day, model, max(all_durations)::bigint as all_durations, max(all_first_tokens)::bigint as all_first_tokens,
        min(step) filter (where durations >= 0.50 * all_durations) as duration_p50,
        min(step) filter (where durations >= 0.95 * all_durations) as duration_p95,
        min(step) filter (where first_tokens >= 0.50 * all_first_tokens) as first_token_p50,
        min(step) filter (where first_tokens >= 0.95 * all_first_tokens) as first_token_p95
    from running
    group by day, model
)
select
    day, model, measure, model is not null as is_of_model, day is not null as is_of_day, chats,
    round(exp(p50 / 20.0))::double precision as p50_ms, round(exp(p95 / 20.0))::double precision as p95_ms
from found
cross join lateral (
    values
    ('duration', all_durations, duration_p50, duration_p95),
    ('first_token', all_first_tokens, first_token_p50, first_token_p95)
) as each (measure, chats, p50, p95)
where chats > 0 and $1::text is not null
order by day, model, measure
"""

# The policy's outcomes by day, then by rule: a request that several rules changed counts for each rule.
# Few rows have an outcome; an index holds them.
POLICY = """
with ruled as materialized (
    select response_time::date as day, policy_outcome as outcome, policy_rules as rules, user_name
    from llm_logs.chatgpt_logs
    where policy_outcome is not null and response_time >= $3 and response_time < $4::date + 1
        and ($2 or user_name = $1) and ($5::text is null or user_name = $5) and ($6::text is null or model = $6)
        and ($7::text is null or title = $7)
)
select day, outcome, null::text as rule, count(*) as requests, count(distinct user_name) as users
from ruled group by day, outcome
union all
select null, outcome, rule, count(*), count(distinct user_name)
from ruled cross join unnest(rules) as rule group by outcome, rule
order by day, requests desc, outcome, rule
"""

# The choices of each filter; $1 to $4: as above. A recursive query reads the distinct users from the index: few users,
# but many days
CHOICES = """
with recursive users as (
    (select user_name from llm_logs.report_usage order by user_name limit 1)
    union all
    select (
        select next.user_name from llm_logs.report_usage as next
        where next.user_name > users.user_name order by next.user_name limit 1
    )
    from users where users.user_name is not null
),
kinds as (
    select model, title from llm_logs.report_usage_by_day where $2 and day between $3 and $4
    union all
    select model, title from llm_logs.report_usage where not $2 and user_name = $1 and day between $3 and $4
)
select user_name, null as model, null as title
from users
where ($2 or user_name = $1) and exists (
    select from llm_logs.report_usage as its where its.user_name = users.user_name and its.day between $3 and $4
)
union all
select null, model, title from kinds group by grouping sets ((model), (title))
order by user_name, model, title
"""


@dataclass(frozen=True, slots=True)
class ReportQuery:
    """The scope of a report. Days are in UTC; both ends are included."""

    caller: Principal
    first: date
    last: date
    user: str | None = None
    model: str | None = None
    title: str | None = None

    @property
    def scope(self) -> tuple[str, bool, date, date]:
        """The first parameters of each statement."""
        return indexed_text(self.caller.user), self.caller.is_auditor, self.first, self.last

    @property
    def parameters(self) -> tuple[object, ...]:
        """The parameters of each statement with filters."""
        return (*self.scope, *(None if text is None else indexed_text(text) for text in self._filters()))

    def _filters(self) -> tuple[str | None, str | None, str | None]:
        return self.user, self.model, self.title


@dataclass(frozen=True, slots=True)
class Figures:
    """The results of the statements above, from one snapshot."""

    usage: Rows
    conversations: Rows
    largest: Rows
    times: Rows
    policy: Rows
    choices: Rows
    is_behind: bool  # some stored rows are not in the sums yet

    @property
    def newest(self) -> datetime | None:
        """The end of the newest answer in the figures."""
        return max((row["last_at"] for row in self.usage), default=None)


class Reports:
    """The report of one database. All methods raise StoreUnavailable."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def refresh(self, most: int = STEP) -> int:
        """Update the sums of at most `most` changed days; how many."""
        async with self._database.asking() as connection:
            return int(await connection.fetchval(REFRESH, most))

    async def read(self, query: ReportQuery) -> Figures:
        """The figures of all stored rows; without the newest ones if the refresh takes longer than REFRESH_S."""
        until = time.monotonic() + REFRESH_S
        while await self.refresh() == STEP and time.monotonic() < until:
            pass
        parameters = query.parameters
        async with (
            self._database.asking() as connection,
            connection.transaction(isolation="repeatable_read", readonly=True),
        ):
            await connection.execute(TUNE)
            return Figures(
                usage=await _fetch(connection, USAGE, *parameters),
                conversations=await _fetch(connection, CONVERSATIONS, *parameters, SHOWN_USERS),
                largest=await _fetch(connection, LARGEST, *parameters, SHOWN_CONVERSATIONS),
                times=await _fetch(connection, TIMES, *parameters),
                policy=await _fetch(connection, POLICY, *parameters),
                choices=await _fetch(connection, CHOICES, *query.scope),
                is_behind=bool(await connection.fetchval(PENDING)),
            )


async def _fetch(connection: PooledConnection, statement: str, *parameters: object) -> Rows:
    return [dict(row) for row in await connection.fetch(statement, *parameters)]
