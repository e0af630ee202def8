-- Keys that users make for themselves, for a while (the setting auth.own_keys_s); what a chat costs; and the report's
-- figures in the forms in which they are asked for most, so that everybody's use is read in a fraction of the time.
--
-- squawk-ignore-file prefer-bigint-over-smallint, prefer-bigint-over-int, ban-drop-table, ban-truncate-cascade, require-concurrent-index-creation
-- ^ as in 0005: the number of a step is at most 553, and nobody asks two milliards of times a day. The table that is
-- dropped is made of others, and read by the report alone; those that get indexes are empty by then.

-- migrate:up

set local lock_timeout = '10s';
set local statement_timeout = 0;  -- a log may be large

-- ── keys ──

alter table llm_logs.api_keys
add column is_own boolean not null default false,
add column made_with uuid;
alter table llm_logs.api_keys
add constraint api_keys_made_with foreign key (made_with) references llm_logs.api_keys (id) not valid,
add constraint api_keys_own check (not is_own or (expires_at is not null and roles = array['user'])) not valid;
comment on column llm_logs.api_keys.is_own is 'true: its user made it; it expires, has no role but user, and makes no keys';
comment on column llm_logs.api_keys.made_with is 'key with which its user made it: when that one is revoked, it counts no more either';

-- ── costs ──

alter table llm_logs.chatgpt_logs add column usage_cost real;
comment on column llm_logs.chatgpt_logs.usage_cost is 'price in USD, by the prices of the time when the row was written; null: not known';

create or replace view llm_logs.usage_by_call as
select
    id,
    'chat' as source,
    response_time,
    user_name,
    title,
    coalesce(root_gpt_id, id::text) as conversation,
    convo_title,
    coalesce(convo_title = 'summarizer' and not convo_show, false) as is_internal,
    coalesce(model, request ->> 'model') as model,
    upstream,
    coalesce(outcome, 'complete') as outcome,
    coalesce(
        prompt_tokens, llm_logs.token_count(usage_info -> 'prompt_tokens'),
        llm_logs.token_count(usage_info -> 'input_tokens')
    ) as prompt_tokens,
    coalesce(
        completion_tokens, llm_logs.token_count(usage_info -> 'completion_tokens'),
        llm_logs.token_count(usage_info -> 'output_tokens')
    ) as completion_tokens,
    coalesce(prompt_tokens + completion_tokens, llm_logs.token_count(usage_info -> 'total_tokens')) as total_tokens,
    usage_estimated is true as is_estimate,
    usage_cost as cost_usd
from llm_logs.chatgpt_logs
union all
select
    id,
    'image',
    response_time,
    user_name,
    title,
    null,
    null,
    false,
    coalesce(model, request ->> 'model'),
    upstream,
    coalesce(outcome, 'complete'),
    coalesce(
        prompt_tokens, llm_logs.token_count(usage_info -> 'prompt_tokens'),
        llm_logs.token_count(usage_info -> 'input_tokens')
    ),
    coalesce(
        completion_tokens, llm_logs.token_count(usage_info -> 'completion_tokens'),
        llm_logs.token_count(usage_info -> 'output_tokens')
    ),
    coalesce(prompt_tokens + completion_tokens, llm_logs.token_count(usage_info -> 'total_tokens')),
    usage_estimated is true,
    usage_cost
from llm_logs.image_logs
union all
select
    id,
    'api',
    response_time,
    user_name,
    title,
    null,
    null,
    false,
    model,
    upstream,
    outcome,
    prompt_tokens,
    completion_tokens,
    prompt_tokens + completion_tokens,
    usage_estimated is true,
    usage_cost
from llm_logs.api_logs;

-- ── the report ──

-- What was added up says less than what will be; at the end all days are noted, to be added up anew.
truncate llm_logs.report_usage, llm_logs.report_conversations, llm_logs.report_times;

alter table llm_logs.report_usage
add column open_prompt_tokens bigint not null default 0,
add column open_completion_tokens bigint not null default 0,
add column open_tokens bigint not null default 0;
comment on column llm_logs.report_usage.open_prompt_tokens is 'tokens of the requests whose cost no row says';
comment on column llm_logs.report_usage.open_completion_tokens is 'tokens of the answers whose cost no row says';
comment on column llm_logs.report_usage.open_tokens is 'tokens of both whose cost no row says';

create table llm_logs.report_usage_by_day (
    day date not null,
    title text not null,
    model text not null,
    calls bigint not null,
    prompt_tokens bigint not null,
    completion_tokens bigint not null,
    total_tokens bigint not null,
    estimated_calls bigint not null,
    cost_usd double precision,
    complete bigint not null,
    truncated bigint not null,
    upstream_error bigint not null,
    client_cancelled bigint not null,
    policy_blocked bigint not null,
    interrupted bigint not null,
    last_at timestamptz not null,
    open_prompt_tokens bigint not null,
    open_completion_tokens bigint not null,
    open_tokens bigint not null
);
comment on table llm_logs.report_usage_by_day is 'report_usage of all users together';
comment on column llm_logs.report_usage_by_day.day is 'day on which the answers ended, UTC';
comment on column llm_logs.report_usage_by_day.title is 'job title of who asked; empty: not known';
comment on column llm_logs.report_usage_by_day.model is 'model that was asked for; empty: none was named';
comment on column llm_logs.report_usage_by_day.calls is 'calls';
comment on column llm_logs.report_usage_by_day.prompt_tokens is 'tokens of the requests';
comment on column llm_logs.report_usage_by_day.completion_tokens is 'tokens of the answers';
comment on column llm_logs.report_usage_by_day.total_tokens is 'tokens of both';
comment on column llm_logs.report_usage_by_day.estimated_calls is 'calls whose tokens are an estimate';
comment on column llm_logs.report_usage_by_day.cost_usd is 'USD, where the rows say it; null: none of them does';
comment on column llm_logs.report_usage_by_day.complete is 'calls that were answered to the end';
comment on column llm_logs.report_usage_by_day.truncated is 'answers that the upstream broke off';
comment on column llm_logs.report_usage_by_day.upstream_error is 'calls that the upstream failed';
comment on column llm_logs.report_usage_by_day.client_cancelled is 'answers that the caller broke off';
comment on column llm_logs.report_usage_by_day.policy_blocked is 'calls that the company''s policy refused';
comment on column llm_logs.report_usage_by_day.interrupted is 'answers that the end of a gateway broke off';
comment on column llm_logs.report_usage_by_day.last_at is 'end of the last answer';
comment on column llm_logs.report_usage_by_day.open_prompt_tokens is 'tokens of the requests whose cost no row says';
comment on column llm_logs.report_usage_by_day.open_completion_tokens is 'tokens of the answers whose cost no row says';
comment on column llm_logs.report_usage_by_day.open_tokens is 'tokens of both whose cost no row says';
create index report_usage_by_day_day on llm_logs.report_usage_by_day (day);

alter table llm_logs.report_conversations add column is_alone boolean not null default false;
comment on column llm_logs.report_conversations.is_alone is
'true: the only row of its conversation, so that nothing need be added to it';

create index report_conversations_largest on llm_logs.report_conversations (total_tokens desc, key) where is_alone;
create index report_conversations_users_largest on llm_logs.report_conversations (user_name, total_tokens desc, key)
where is_alone;
create index report_conversations_parts on llm_logs.report_conversations (day, user_name) where not is_alone;

create table llm_logs.report_conversations_by_day (
    day date not null,
    user_name text not null,
    conversations integer not null,
    alone integer not null
);
comment on table llm_logs.report_conversations_by_day is 'how many conversations a user had on a day';
comment on column llm_logs.report_conversations_by_day.day is 'day on which the answers ended, UTC';
comment on column llm_logs.report_conversations_by_day.user_name is 'who asked; empty: not known';
comment on column llm_logs.report_conversations_by_day.conversations is 'how many';
comment on column llm_logs.report_conversations_by_day.alone is 'of how many nothing is in any other row of report_conversations';
create index report_conversations_by_day_day on llm_logs.report_conversations_by_day (day);
create index report_conversations_by_day_user on llm_logs.report_conversations_by_day (user_name, day);

drop table llm_logs.report_times_by_day;
create table llm_logs.report_times_by_day (
    day date not null,
    model text not null,
    step smallint not null,
    durations integer not null,
    first_tokens integer not null
);
comment on table llm_logs.report_times_by_day is 'how many chats of a day, of all users, took so long';
comment on column llm_logs.report_times_by_day.day is 'day on which the answers ended, UTC';
comment on column llm_logs.report_times_by_day.model is 'model that was asked for; empty: none was named';
comment on column llm_logs.report_times_by_day.step is 'number of the step, see report_step';
comment on column llm_logs.report_times_by_day.durations is 'how many answers took that long to their end';
comment on column llm_logs.report_times_by_day.first_tokens is 'how many answers took that long to their first piece';
create index report_times_by_day_day on llm_logs.report_times_by_day (day);

create table llm_logs.report_times_by_title (
    day date not null,
    title text not null,
    model text not null,
    steps smallint [] not null,
    durations integer [] not null,
    first_tokens integer [] not null
);
comment on table llm_logs.report_times_by_title is 'how many chats of a day, of all users with a job title, took so long: report_times_by_day by title';
comment on column llm_logs.report_times_by_title.day is 'day on which the answers ended, UTC';
comment on column llm_logs.report_times_by_title.title is 'job title of who asked; empty: not known';
comment on column llm_logs.report_times_by_title.model is 'model that was asked for; empty: none was named';
comment on column llm_logs.report_times_by_title.steps is 'numbers of the steps, see report_step';
comment on column llm_logs.report_times_by_title.durations is 'of each step, how many answers took that long to their end';
comment on column llm_logs.report_times_by_title.first_tokens is 'of each step, how many answers took that long to their first piece';
create index report_times_by_title_title on llm_logs.report_times_by_title (title, day);
create index report_times_by_title_day on llm_logs.report_times_by_title (day);

create or replace function llm_logs.refresh_report(most integer) returns integer
language plpgsql
as $$
declare
    days date [];
    users text [];
    keys bigint [];
    count_days date [];
    count_users text [];
begin
    if not pg_try_advisory_xact_lock(hashtextextended('llm_logs.refresh_report', 0)) then
        return 0;  -- another process is at it
    end if;
    select array_agg(c.day), array_agg(c.user_name) into days, users
    from (
        select distinct day, user_name from llm_logs.report_changes order by day desc, user_name limit most
    ) as c;
    if days is null then
        return 0;
    end if;
    -- What is noted from here on stays noted: each statement sees at least the rows of the notes that are taken here.
    delete from llm_logs.report_changes as old using unnest(days, users) as c (day, user_name)
    where old.day = c.day and old.user_name = c.user_name;
    delete from llm_logs.report_usage as old using unnest(days, users) as c (day, user_name)
    where old.day = c.day and old.user_name = c.user_name;
    with gone as (
        delete from llm_logs.report_conversations as old using unnest(days, users) as c (day, user_name)
        where old.day = c.day and old.user_name = c.user_name
        returning old.key
    )
    select array_agg(distinct key) into keys from gone;
    delete from llm_logs.report_times as old using unnest(days, users) as c (day, user_name)
    where old.day = c.day and old.user_name = c.user_name;
    delete from llm_logs.report_usage_by_day where day = any(days);
    delete from llm_logs.report_times_by_day where day = any(days);
    delete from llm_logs.report_times_by_title where day = any(days);

    insert into llm_logs.report_usage (
        day, user_name, title, model, source, calls, prompt_tokens, completion_tokens, total_tokens, estimated_calls,
        cost_usd, complete, truncated, upstream_error, client_cancelled, policy_blocked, interrupted, last_at,
        open_prompt_tokens, open_completion_tokens, open_tokens
    )
    select
        c.day, c.user_name, coalesce(r.title, ''), coalesce(r.model, ''), r.source, count(*),
        coalesce(sum(r.prompt_tokens), 0), coalesce(sum(r.completion_tokens), 0), coalesce(sum(r.total_tokens), 0),
        count(*) filter (where r.is_estimate), sum(r.cost_usd::double precision),
        count(*) filter (where r.outcome = 'complete'), count(*) filter (where r.outcome = 'truncated'),
        count(*) filter (where r.outcome = 'upstream_error'), count(*) filter (where r.outcome = 'client_cancelled'),
        count(*) filter (where r.outcome = 'policy_blocked'), count(*) filter (where r.outcome = 'interrupted'),
        max(r.response_time) at time zone 'utc',
        coalesce(sum(r.prompt_tokens) filter (where r.cost_usd is null), 0),
        coalesce(sum(r.completion_tokens) filter (where r.cost_usd is null), 0),
        coalesce(sum(r.total_tokens) filter (where r.cost_usd is null), 0)
    from unnest(days, users) as c (day, user_name)
    cross join lateral (
        select * from llm_logs.usage_by_call as u
        where u.user_name = c.user_name and u.response_time >= c.day and u.response_time < c.day + 1
        union all
        select * from llm_logs.usage_by_call as u
        where c.user_name = '' and u.user_name is null and u.response_time >= c.day and u.response_time < c.day + 1
    ) as r
    group by 1, 2, 3, 4, 5;

    insert into llm_logs.report_usage_by_day
    select
        day, title, model, sum(calls), sum(prompt_tokens), sum(completion_tokens), sum(total_tokens),
        sum(estimated_calls), sum(cost_usd), sum(complete), sum(truncated), sum(upstream_error), sum(client_cancelled),
        sum(policy_blocked), sum(interrupted), max(last_at), sum(open_prompt_tokens), sum(open_completion_tokens),
        sum(open_tokens)
    from llm_logs.report_usage
    where day = any(days)
    group by day, title, model;

    insert into llm_logs.report_conversations (
        day, user_name, title, model, conversation, key, is_first, is_alone, chats, prompt_tokens, completion_tokens,
        total_tokens
    )
    select
        c.day, c.user_name, coalesce(r.title, ''), coalesce(r.model, ''), r.conversation,
        hashtextextended(r.conversation, hashtextextended(c.user_name, 0)),
        row_number() over (
            partition by c.day, c.user_name, r.conversation order by coalesce(r.title, ''), coalesce(r.model, '')
        ) = 1,
        count(*) over (partition by c.user_name, r.conversation) = 1,
        count(*),
        coalesce(sum(r.prompt_tokens), 0), coalesce(sum(r.completion_tokens), 0), coalesce(sum(r.total_tokens), 0)
    from unnest(days, users) as c (day, user_name)
    cross join lateral (
        select * from llm_logs.usage_by_call as u
        where u.user_name = c.user_name and u.response_time >= c.day and u.response_time < c.day + 1
        union all
        select * from llm_logs.usage_by_call as u
        where c.user_name = '' and u.user_name is null and u.response_time >= c.day and u.response_time < c.day + 1
    ) as r
    where r.source = 'chat' and not r.is_internal
    group by 1, 2, 3, 4, 5;

    -- Conversations that go on over midnight, or no longer do
    select keys || array_agg(distinct r.key) into keys
    from llm_logs.report_conversations as r
    inner join unnest(days, users) as c (day, user_name) on r.day = c.day and r.user_name = c.user_name;
    with changed as (
        update llm_logs.report_conversations as r set is_alone = not r.is_alone
        from (
            select key, count(*) = 1 as is_alone from llm_logs.report_conversations where key = any(keys) group by key
        ) as now
        where r.key = now.key and r.is_alone <> now.is_alone
        returning r.day, r.user_name
    )
    select array_agg(c.day), array_agg(c.user_name) into count_days, count_users
    from (
        select day, user_name from changed
        union
        select day, user_name from unnest(days, users) as c (day, user_name)
    ) as c;
    delete from llm_logs.report_conversations_by_day as old using unnest(count_days, count_users) as c (day, user_name)
    where old.day = c.day and old.user_name = c.user_name;
    insert into llm_logs.report_conversations_by_day
    select r.day, r.user_name, count(*) filter (where r.is_first), count(*) filter (where r.is_alone)
    from llm_logs.report_conversations as r
    inner join unnest(count_days, count_users) as c (day, user_name) on r.day = c.day and r.user_name = c.user_name
    group by r.day, r.user_name;

    insert into llm_logs.report_times
    select
        c.day, c.user_name, coalesce(r.title, ''), coalesce(r.model, r.request ->> 'model', ''),
        coalesce(
            array_agg(llm_logs.report_step(r.duration_ms)) filter (where r.duration_ms >= 0 and r.outcome = 'complete'),
            '{}'
        ),
        coalesce(array_agg(llm_logs.report_step(r.first_token_ms)) filter (where r.first_token_ms >= 0), '{}')
    from unnest(days, users) as c (day, user_name)
    inner join llm_logs.chatgpt_logs as r
        on r.user_name = c.user_name and r.response_time >= c.day and r.response_time < c.day + 1
    where r.duration_ms is not null
    group by 1, 2, 3, 4;

    insert into llm_logs.report_times_by_title
    select day, title, model, array_agg(step), array_agg(durations), array_agg(first_tokens)
    from (
        select
            day, title, model, step, count(*) filter (where is_duration)::integer as durations,
            count(*) filter (where not is_duration)::integer as first_tokens
        from (
            select day, title, model, true as is_duration, unnest(durations) as step
            from llm_logs.report_times where day = any(days)
            union all
            select day, title, model, false, unnest(first_tokens)
            from llm_logs.report_times where day = any(days)
        ) as each
        group by day, title, model, step
    ) as steps
    group by day, title, model;

    insert into llm_logs.report_times_by_day
    select times.day, times.model, each.step, sum(each.durations), sum(each.first_tokens)
    from llm_logs.report_times_by_title as times
    cross join unnest(times.steps, times.durations, times.first_tokens) as each (step, durations, first_tokens)
    where times.day = any(days)
    group by times.day, times.model, each.step;
    return cardinality(days);
end
$$;

-- All days are added up anew
insert into llm_logs.report_changes (day, user_name)
select distinct response_time::date, coalesce(user_name, '') from llm_logs.usage_by_call where isfinite(response_time);

-- migrate:down

do $$
begin
    raise exception 'keys are never taken back, and the gateway reports from these tables: there is no way down';
end
$$;
