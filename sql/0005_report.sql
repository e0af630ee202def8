-- The report's figures, added up by day and user, so that years of a company's use are read in a moment.
--
-- Triggers note which user's days change, in the same transaction as the rows: also those of rows that come days late, of
-- inserts by hand, of corrections. `refresh_report` adds these days up anew from the rows, so it may run at any time,
-- twice, or after a crash, and the figures are those of the rows. Rows without a time are in no report.
--
-- squawk-ignore-file prefer-bigint-over-smallint, prefer-bigint-over-int
-- ^ the number of a step is at most 553, and there are two of them for every chat; sums of integers are quicker, and no
-- user asks two milliards of times a day.

-- migrate:up

set local lock_timeout = '10s';
set local statement_timeout = 0;  -- a seed's log may be large

create table llm_logs.report_changes (
    id bigint generated always as identity primary key,
    day date not null,
    user_name text not null
);
comment on table llm_logs.report_changes is 'days of users whose rows have changed since they were added up; one of them may stand here often';
comment on column llm_logs.report_changes.id is 'in the order in which they changed, about';
comment on column llm_logs.report_changes.day is 'day on which the answers ended, UTC';
comment on column llm_logs.report_changes.user_name is 'who asked; empty: not known';

create table llm_logs.report_usage (
    day date not null,
    user_name text not null,
    title text not null,
    model text not null,
    source text not null,
    calls integer not null,
    prompt_tokens bigint not null,
    completion_tokens bigint not null,
    total_tokens bigint not null,
    estimated_calls integer not null,
    cost_usd double precision,
    complete integer not null,
    truncated integer not null,
    upstream_error integer not null,
    client_cancelled integer not null,
    policy_blocked integer not null,
    interrupted integer not null,
    last_at timestamptz not null
);
comment on table llm_logs.report_usage is 'calls of a day, added up: the sums of usage_by_call';
comment on column llm_logs.report_usage.day is 'day on which the answers ended, UTC';
comment on column llm_logs.report_usage.user_name is 'who asked; empty: not known';
comment on column llm_logs.report_usage.title is 'job title of who asked; empty: not known';
comment on column llm_logs.report_usage.model is 'model that was asked for; empty: none was named';
comment on column llm_logs.report_usage.source is 'chat, image or api';
comment on column llm_logs.report_usage.calls is 'calls';
comment on column llm_logs.report_usage.prompt_tokens is 'tokens of the requests';
comment on column llm_logs.report_usage.completion_tokens is 'tokens of the answers';
comment on column llm_logs.report_usage.total_tokens is 'tokens of both';
comment on column llm_logs.report_usage.estimated_calls is 'calls whose tokens are an estimate';
comment on column llm_logs.report_usage.cost_usd is 'USD, where the rows say it; null: none of them does';
comment on column llm_logs.report_usage.complete is 'calls that were answered to the end';
comment on column llm_logs.report_usage.truncated is 'answers that the upstream broke off';
comment on column llm_logs.report_usage.upstream_error is 'calls that the upstream failed';
comment on column llm_logs.report_usage.client_cancelled is 'answers that the caller broke off';
comment on column llm_logs.report_usage.policy_blocked is 'calls that the company''s policy refused';
comment on column llm_logs.report_usage.interrupted is 'answers that the end of a gateway broke off';
comment on column llm_logs.report_usage.last_at is 'end of the last answer';
create index report_usage_user on llm_logs.report_usage (user_name, day);
create index report_usage_day on llm_logs.report_usage (day);

create table llm_logs.report_conversations (
    day date not null,
    user_name text not null,
    title text not null,
    model text not null,
    conversation text not null,
    key bigint not null,
    is_first boolean not null,
    chats integer not null,
    prompt_tokens bigint not null,
    completion_tokens bigint not null,
    total_tokens bigint not null
);
comment on table llm_logs.report_conversations is
'conversations of a day, added up, without those that the gateway had with a model by itself';
comment on column llm_logs.report_conversations.day is 'day on which the answers ended, UTC';
comment on column llm_logs.report_conversations.user_name is 'who asked; empty: not known';
comment on column llm_logs.report_conversations.title is 'job title of who asked; empty: not known';
comment on column llm_logs.report_conversations.model is 'model that was asked for; empty: none was named';
comment on column llm_logs.report_conversations.conversation is 'id of the conversation';
comment on column llm_logs.report_conversations.key is 'hash of user and conversation, by which they are added up quickly';
comment on column llm_logs.report_conversations.is_first is 'true for one of the rows of a day and conversation: to count them';
comment on column llm_logs.report_conversations.chats is 'chats in it';
comment on column llm_logs.report_conversations.prompt_tokens is 'tokens of the requests';
comment on column llm_logs.report_conversations.completion_tokens is 'tokens of the answers';
comment on column llm_logs.report_conversations.total_tokens is 'tokens of both';
create index report_conversations_user on llm_logs.report_conversations (user_name, day);
create index report_conversations_key on llm_logs.report_conversations (key, day);
create index report_conversations_day on llm_logs.report_conversations (day);

create table llm_logs.report_times (
    day date not null,
    user_name text not null,
    title text not null,
    model text not null,
    durations smallint [] not null,
    first_tokens smallint [] not null
);
comment on table llm_logs.report_times is 'how long the chats of a day took; a time as the number of its step, see report_step';
comment on column llm_logs.report_times.day is 'day on which the answers ended, UTC';
comment on column llm_logs.report_times.user_name is 'who asked; empty: not known';
comment on column llm_logs.report_times.title is 'job title of who asked; empty: not known';
comment on column llm_logs.report_times.model is 'model that was asked for; empty: none was named';
comment on column llm_logs.report_times.durations is 'from the request to the end of the answer, of each chat that was answered to the end';
comment on column llm_logs.report_times.first_tokens is 'from the request to the first piece of the answer, of each chat that had one';
create index report_times_user on llm_logs.report_times (user_name, day);
create index report_times_day on llm_logs.report_times (day);

create table llm_logs.report_times_by_day (
    day date not null,
    model text not null,
    measure text not null,
    step smallint not null,
    chats integer not null
);
comment on table llm_logs.report_times_by_day is 'how many chats of a day, of all users, took so long';
comment on column llm_logs.report_times_by_day.day is 'day on which the answers ended, UTC';
comment on column llm_logs.report_times_by_day.model is 'model that was asked for; empty: none was named';
comment on column llm_logs.report_times_by_day.measure is 'duration or first_token';
comment on column llm_logs.report_times_by_day.step is 'number of the step, see report_step';
comment on column llm_logs.report_times_by_day.chats is 'how many';
create index report_times_by_day_day on llm_logs.report_times_by_day (day);

create function llm_logs.report_step(ms double precision) returns smallint
language sql immutable strict parallel safe
as $$
    select round(20 * ln(least(greatest(ms, 1), 1e12)))::smallint
$$;
comment on function llm_logs.report_step is
'The step of a time in milliseconds, for percentiles: each step is 5 % longer, so that exp(step / 20) is off by 2.5 % at most';

create function llm_logs.note_report_changes() returns trigger
language plpgsql
as $$
begin
    if tg_op in ('INSERT', 'UPDATE') then
        insert into llm_logs.report_changes (day, user_name)
        select distinct response_time::date, coalesce(user_name, '') from new_rows where isfinite(response_time);
    end if;
    if tg_op in ('DELETE', 'UPDATE') then
        insert into llm_logs.report_changes (day, user_name)
        select distinct response_time::date, coalesce(user_name, '') from old_rows where isfinite(response_time);
    end if;
    return null;
end
$$;
comment on function llm_logs.note_report_changes is 'Notes of which user''s days the rows have changed, however they came';

do $$
declare
    name text;
begin
    foreach name in array array['chatgpt_logs', 'image_logs', 'api_logs'] loop
        execute format(
            'create trigger report_inserted after insert on llm_logs.%I referencing new table as new_rows
             for each statement execute function llm_logs.note_report_changes()', name
        );
        execute format(
            'create trigger report_updated after update on llm_logs.%I referencing old table as old_rows new table as new_rows
             for each statement execute function llm_logs.note_report_changes()', name
        );
        execute format(
            'create trigger report_deleted after delete on llm_logs.%I referencing old table as old_rows
             for each statement execute function llm_logs.note_report_changes()', name
        );
    end loop;
end
$$;

create function llm_logs.refresh_report(most integer) returns integer
language plpgsql
as $$
declare
    days date [];
    users text [];
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
    delete from llm_logs.report_conversations as old using unnest(days, users) as c (day, user_name)
    where old.day = c.day and old.user_name = c.user_name;
    delete from llm_logs.report_times as old using unnest(days, users) as c (day, user_name)
    where old.day = c.day and old.user_name = c.user_name;
    delete from llm_logs.report_times_by_day where day = any(days);

    insert into llm_logs.report_usage
    select
        c.day, c.user_name, coalesce(r.title, ''), coalesce(r.model, ''), r.source, count(*),
        coalesce(sum(r.prompt_tokens), 0), coalesce(sum(r.completion_tokens), 0), coalesce(sum(r.total_tokens), 0),
        count(*) filter (where r.is_estimate), sum(r.cost_usd::double precision),
        count(*) filter (where r.outcome = 'complete'), count(*) filter (where r.outcome = 'truncated'),
        count(*) filter (where r.outcome = 'upstream_error'), count(*) filter (where r.outcome = 'client_cancelled'),
        count(*) filter (where r.outcome = 'policy_blocked'), count(*) filter (where r.outcome = 'interrupted'),
        max(r.response_time) at time zone 'utc'
    from unnest(days, users) as c (day, user_name)
    cross join lateral (
        select * from llm_logs.usage_by_call as u
        where u.user_name = c.user_name and u.response_time >= c.day and u.response_time < c.day + 1
        union all
        select * from llm_logs.usage_by_call as u
        where c.user_name = '' and u.user_name is null and u.response_time >= c.day and u.response_time < c.day + 1
    ) as r
    group by 1, 2, 3, 4, 5;

    insert into llm_logs.report_conversations
    select
        c.day, c.user_name, coalesce(r.title, ''), coalesce(r.model, ''), r.conversation,
        hashtextextended(r.conversation, hashtextextended(c.user_name, 0)),
        row_number() over (
            partition by c.day, c.user_name, r.conversation order by coalesce(r.title, ''), coalesce(r.model, '')
        ) = 1,
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

    insert into llm_logs.report_times_by_day
    select times.day, times.model, 'duration', step, count(*)
    from llm_logs.report_times as times cross join unnest(times.durations) as step
    where times.day = any(days)
    group by times.day, times.model, step
    union all
    select times.day, times.model, 'first_token', step, count(*)
    from llm_logs.report_times as times cross join unnest(times.first_tokens) as step
    where times.day = any(days)
    group by times.day, times.model, step;
    return cardinality(days);
end
$$;
comment on function llm_logs.refresh_report is
'Adds up anew at most so many of the days that have changed, the newest first; returns how many. One process at a time does it';

insert into llm_logs.report_changes (day, user_name)
select distinct response_time::date, coalesce(user_name, '') from llm_logs.usage_by_call where isfinite(response_time);

-- migrate:down

do $$
begin
    raise exception 'the gateway reports from these tables: there is no way down';
end
$$;
