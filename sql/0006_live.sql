-- For those who watch over what is said: what the policy did, in each row; the rows in the order in which they arrive; every
-- interaction in one form, and the indexes by which it is looked for.
--
-- squawk-ignore-file require-concurrent-index-creation
-- ^ an index of a partitioned table cannot be made concurrently.

-- migrate:up

set local lock_timeout = '10s';
set local statement_timeout = 0;  -- a company's log may be large

-- ── what the policy did ─────────────────────────────────────────────────────────────────────────────────────────────

alter table llm_logs.chatgpt_logs add column policy_outcome text, add column policy_rules text [];
alter table llm_logs.image_logs add column policy_outcome text, add column policy_rules text [];
alter table llm_logs.api_logs add column policy_outcome text, add column policy_rules text [];
comment on column llm_logs.chatgpt_logs.policy_outcome is 'what the company''s policy did: masked, redirected or rejected; null: it let the request through as it stood';
comment on column llm_logs.chatgpt_logs.policy_rules is 'the rules by which it did so, in order; a refusing one is the last';
comment on column llm_logs.image_logs.policy_outcome is 'what the company''s policy did: masked, redirected or rejected; null: it let the request through as it stood';
comment on column llm_logs.image_logs.policy_rules is 'the rules by which it did so, in order; a refusing one is the last';
comment on column llm_logs.api_logs.policy_outcome is 'what the company''s policy did: masked, redirected or rejected; null: it let the request through as it stood';
comment on column llm_logs.api_logs.policy_rules is 'the rules by which it did so, in order; a refusing one is the last';

-- ── the rows in the order of their arrival ──────────────────────────────────────────────────────────────────────────

-- A row may come hours after it ended (Postgres was away), and rows become visible when their transaction ends, not in the
-- order in which they were written: no column of theirs is a place to go on from. So each row is noted here in its own
-- transaction, and those that can be seen are numbered later, by one at a time: of numbers there are no gaps, and behind
-- the last one nothing can appear any more but with a higher one.

create table llm_logs.arrivals (
    source text not null,
    id uuid not null,
    at timestamptz not null default now(),
    position bigint
);
comment on table llm_logs.arrivals is 'rows of the log that have come lately, for those who watch; the older ones are forgotten';
comment on column llm_logs.arrivals.source is 'chat, image or api: the row''s table';
comment on column llm_logs.arrivals.id is 'the row';
comment on column llm_logs.arrivals.at is 'when the row was written';
comment on column llm_logs.arrivals.position is 'place in the order of arrival; null: not numbered yet';
create index arrivals_waiting on llm_logs.arrivals (at, id) where position is null;
create unique index arrivals_position on llm_logs.arrivals (position) where position is not null;

create table llm_logs.arrivals_end (
    is_only boolean primary key default true check (is_only),
    position bigint not null,
    forgotten bigint not null
);
comment on table llm_logs.arrivals_end is 'one row: how far arrivals are numbered; who numbers holds its lock';
comment on column llm_logs.arrivals_end.is_only is 'true';
comment on column llm_logs.arrivals_end.position is 'the last number that was given';
comment on column llm_logs.arrivals_end.forgotten is 'up to this one they are forgotten: who has seen less has missed some';
insert into llm_logs.arrivals_end (position, forgotten) values (0, 0);

create function llm_logs.note_arrivals() returns trigger
language plpgsql
as $$
begin
    insert into llm_logs.arrivals (source, id) select tg_argv[0], id from new_rows;
    return null;
end
$$;
comment on function llm_logs.note_arrivals is 'Notes rows that come, however they come';

create trigger arrivals_noted after insert on llm_logs.chatgpt_logs referencing new table as new_rows
for each statement execute function llm_logs.note_arrivals('chat');
create trigger arrivals_noted after insert on llm_logs.image_logs referencing new table as new_rows
for each statement execute function llm_logs.note_arrivals('image');
create trigger arrivals_noted after insert on llm_logs.api_logs referencing new table as new_rows
for each statement execute function llm_logs.note_arrivals('api');

create function llm_logs.number_arrivals(most integer) returns integer
language plpgsql
as $$
declare
    last bigint;
    numbered integer;
begin
    if not exists (select from llm_logs.arrivals where position is null) then
        return 0;
    end if;
    select position into last from llm_logs.arrivals_end for update;
    -- A statement of its own, whose snapshot is taken with the lock in hand: it sees all that the last one numbered.
    update llm_logs.arrivals as a set position = last + w.nth
    from (
        select ctid, row_number() over (order by at, id) as nth
        from llm_logs.arrivals where position is null
        order by at, id limit most
    ) as w
    where a.ctid = w.ctid;
    get diagnostics numbered = row_count;
    update llm_logs.arrivals_end set position = last + numbered;
    return numbered;
end
$$;
comment on function llm_logs.number_arrivals is
'Numbers at most so many of the rows that have come, the oldest first; returns how many. Only in read committed';

create function llm_logs.forget_arrivals(older_than interval) returns integer
language plpgsql
as $$
declare
    newest bigint;
    forgotten_rows integer;
    unnumbered integer;
begin
    perform from llm_logs.arrivals_end for update;
    with gone as (
        delete from llm_logs.arrivals where at < now() - older_than returning position
    )
    select max(position), count(*), count(*) filter (where position is null)
    into newest, forgotten_rows, unnumbered from gone;
    -- Rows that nobody has numbered count as the next one, so that who was away meanwhile is told to have missed some.
    update llm_logs.arrivals_end set
        position = position + least(unnumbered, 1),
        forgotten = case when unnumbered > 0 then position + 1 else greatest(forgotten, newest) end
    where forgotten_rows > 0;
    return forgotten_rows;
end
$$;
comment on function llm_logs.forget_arrivals is 'Forgets the rows that came longer ago; returns how many';

-- ── every interaction in one form ───────────────────────────────────────────────────────────────────────────────────

create function llm_logs.asked_in(request jsonb) returns text
language sql immutable parallel safe
as $$
    select coalesce(
        llm_logs.text_in(request -> 'messages' -> -1 -> 'content'),
        llm_logs.text_in(request -> 'input' -> -1 -> 'content'),
        llm_logs.text_in(request -> 'input'),
        request ->> 'prompt'
    )
$$;
comment on function llm_logs.asked_in is 'What was asked last in a request: of a chat, of the Responses API, for an image or for an embedding';

create function llm_logs.said_in(response jsonb) returns text
language sql immutable parallel safe
as $$
    select coalesce(
        llm_logs.text_in(response -> 'choices' -> 0 -> 'message' -> 'content'),
        response -> 'choices' -> 0 -> 'message' ->> 'refusal',
        (
            select string_agg(llm_logs.text_in(content), ' ')
            from jsonb_path_query(response, '$.output[*].content') as content
        ),
        response -> 'error' ->> 'message'
    )
$$;
comment on function llm_logs.said_in is 'What an answer says, in either dialect; of an error its message';

create view llm_logs.interactions as
select
    'chat' as source,
    id,
    response_time,
    coalesce(kind, 'chat') as kind,
    user_name,
    title,
    coalesce(root_gpt_id, id::text) as conversation,
    convo_title,
    model,
    answered_model,
    coalesce(outcome, 'complete') as outcome,
    status,
    error,
    policy_outcome,
    policy_rules,
    duration_ms,
    prompt_tokens,
    completion_tokens,
    case when pg_column_size(request) < 1000000 then left(llm_logs.asked_in(request), 300) end as asked,
    case when pg_column_size(response) < 1000000 then left(llm_logs.said_in(response), 300) end as said
from llm_logs.chatgpt_logs
union all
select
    'image',
    id,
    response_time,
    coalesce(kind, 'image'),
    user_name,
    title,
    null,
    null,
    model,
    answered_model,
    coalesce(outcome, 'complete'),
    status,
    error,
    policy_outcome,
    policy_rules,
    duration_ms,
    prompt_tokens,
    completion_tokens,
    case when pg_column_size(request) < 1000000 then left(llm_logs.asked_in(request), 300) end,
    case when pg_column_size(response) < 1000000 then left(llm_logs.said_in(response), 300) end
from llm_logs.image_logs
union all
select
    'api',
    id,
    response_time,
    coalesce(kind, 'other'),
    user_name,
    title,
    null,
    null,
    model,
    answered_model,
    coalesce(outcome, 'complete'),
    status,
    error,
    policy_outcome,
    policy_rules,
    duration_ms,
    prompt_tokens,
    completion_tokens,
    case when pg_column_size(request) < 1000000 then left(llm_logs.asked_in(request), 300) end,
    case when pg_column_size(response) < 1000000 then left(llm_logs.said_in(response), 300) end
from llm_logs.api_logs;
comment on view llm_logs.interactions is 'every interaction, of whichever kind, in one form: a line each';
comment on column llm_logs.interactions.source is 'the row''s table: chat, image or api';
comment on column llm_logs.interactions.id is 'id of the interaction';
comment on column llm_logs.interactions.response_time is 'when the answer ended, UTC';
comment on column llm_logs.interactions.kind is 'what was asked for: chat, response, image or other';
comment on column llm_logs.interactions.user_name is 'who asked';
comment on column llm_logs.interactions.title is 'job title of who asked';
comment on column llm_logs.interactions.conversation is 'id of the conversation; null: it belongs to none';
comment on column llm_logs.interactions.convo_title is 'title of the conversation';
comment on column llm_logs.interactions.model is 'model that was asked for';
comment on column llm_logs.interactions.answered_model is 'model that says it answered';
comment on column llm_logs.interactions.outcome is 'how the answer ended';
comment on column llm_logs.interactions.status is 'HTTP status of the upstream; null: it never answered';
comment on column llm_logs.interactions.error is 'what went wrong, for people';
comment on column llm_logs.interactions.policy_outcome is 'what the company''s policy did: masked, redirected or rejected; null: nothing';
comment on column llm_logs.interactions.policy_rules is 'the rules by which it did so, in order';
comment on column llm_logs.interactions.duration_ms is 'milliseconds from the request to the end of the answer';
comment on column llm_logs.interactions.prompt_tokens is 'tokens of the request';
comment on column llm_logs.interactions.completion_tokens is 'tokens of the answer';
comment on column llm_logs.interactions.asked is 'the beginning of what was asked last; null: none that can be read, or too large to look';
comment on column llm_logs.interactions.said is 'the beginning of what was answered; null as with asked';

create view llm_logs.turns as
select
    i.id,
    i.source,
    i.user_name,
    i.title,
    i.conversation,
    i.convo_title,
    p.id as parent_id,
    r.convo_show,
    i.response_time,
    r.started_at,
    i.kind,
    i.model,
    i.answered_model,
    r.upstream,
    i.outcome,
    i.status,
    i.error,
    i.policy_outcome,
    i.policy_rules,
    i.duration_ms,
    r.first_token_ms,
    i.prompt_tokens,
    i.completion_tokens,
    r.path,
    r.key_id,
    r.request_id,
    case
        when r.is_small and r.is_chat then jsonb_path_query_array(
            r.request -> 'messages', '$[$from to last]',
            jsonb_build_object(
                'from', case
                    when jsonb_typeof(p.request -> 'messages') = 'array'
                        then jsonb_array_length(p.request -> 'messages') + 1  -- and the answer
                    else 0
                end
            )
        )
    end as messages,
    case when r.is_small and not r.is_chat then r.request end as request,
    case when pg_column_size(r.response) < 4000000 then r.response end as response,
    case when r.request is null then encode(substr(r.request_raw, 1, 10000), 'escape') end as request_text,
    case when r.response is null then encode(substr(r.response_raw, 1, 10000), 'escape') end as response_text
from llm_logs.interactions as i
cross join lateral (
    select
        each.*,
        pg_column_size(each.request) < 4000000 as is_small,
        coalesce(jsonb_typeof(each.request -> 'messages') = 'array', false) as is_chat
    from (
        select
            parent_id, convo_show, started_at, upstream, first_token_ms, path, key_id, request_id, request, response,
            request_raw, response_raw
        from llm_logs.chatgpt_logs where id = i.id and i.source = 'chat'
        union all
        select
            null, null, started_at, upstream, first_token_ms, path, key_id, request_id, request, response,
            request_raw, response_raw
        from llm_logs.image_logs where id = i.id and i.source = 'image'
        union all
        select
            null, null, started_at, upstream, first_token_ms, path, key_id, request_id, request, response,
            request_raw, response_raw
        from llm_logs.api_logs where id = i.id and i.source = 'api'
    ) as each
) as r
left join llm_logs.chatgpt_logs as p
    on p.id = r.parent_id and p.user_name = i.user_name;
comment on view llm_logs.turns is 'every interaction with all that was said in it, and had not been said in the one that it goes on from';
comment on column llm_logs.turns.id is 'id of the interaction';
comment on column llm_logs.turns.source is 'the row''s table: chat, image or api';
comment on column llm_logs.turns.user_name is 'who asked';
comment on column llm_logs.turns.title is 'job title of who asked';
comment on column llm_logs.turns.conversation is 'id of the conversation; null: it belongs to none';
comment on column llm_logs.turns.convo_title is 'title of the conversation';
comment on column llm_logs.turns.parent_id is 'the interaction that this one goes on from; null: the first one';
comment on column llm_logs.turns.convo_show is 'false: the user has removed the conversation from the history';
comment on column llm_logs.turns.response_time is 'when the answer ended, UTC';
comment on column llm_logs.turns.started_at is 'when the request came';
comment on column llm_logs.turns.kind is 'what was asked for: chat, response, image or other';
comment on column llm_logs.turns.model is 'model that was asked for';
comment on column llm_logs.turns.answered_model is 'model that says it answered';
comment on column llm_logs.turns.upstream is 'the gateway''s name for who answered';
comment on column llm_logs.turns.outcome is 'how the answer ended';
comment on column llm_logs.turns.status is 'HTTP status of the upstream; null: it never answered';
comment on column llm_logs.turns.error is 'what went wrong, for people';
comment on column llm_logs.turns.policy_outcome is 'what the company''s policy did: masked, redirected or rejected; null: nothing';
comment on column llm_logs.turns.policy_rules is 'the rules by which it did so, in order';
comment on column llm_logs.turns.duration_ms is 'milliseconds from the request to the end of the answer';
comment on column llm_logs.turns.first_token_ms is 'milliseconds from the request to the first piece of the answer';
comment on column llm_logs.turns.prompt_tokens is 'tokens of the request';
comment on column llm_logs.turns.completion_tokens is 'tokens of the answer';
comment on column llm_logs.turns.path is 'path and query string of the request';
comment on column llm_logs.turns.key_id is 'id of the key that the caller used';
comment on column llm_logs.turns.request_id is 'x-request-id of the request at the gateway';
comment on column llm_logs.turns.messages is 'messages of the request that come after those of the interaction that it goes on from and its answer; null: it has none, or is too large to look';
comment on column llm_logs.turns.request is 'a request without messages';
comment on column llm_logs.turns.response is 'the answer; null: none, or too large to look';
comment on column llm_logs.turns.request_text is 'the beginning of a request that is no JSON';
comment on column llm_logs.turns.response_text is 'the beginning of an answer that is no JSON';

-- The newest of all, of a model, of those that did not end well, of those at which the policy did something. Together they
-- cost an insert 3 µs; the words of a row in an index of their own, not by user, would cost 270 µs.
create index chatgpt_logs_time on llm_logs.chatgpt_logs (response_time desc, id desc);
create index chatgpt_logs_model on llm_logs.chatgpt_logs (model, response_time desc, id desc);
create index chatgpt_logs_outcome on llm_logs.chatgpt_logs
((coalesce(outcome, 'complete')), response_time desc, id desc) where coalesce(outcome, 'complete') <> 'complete';
create index chatgpt_logs_policy on llm_logs.chatgpt_logs (policy_outcome, response_time desc, id desc)
where policy_outcome is not null;
create index chatgpt_logs_ruled on llm_logs.chatgpt_logs (response_time desc, id desc) where policy_outcome is not null;
create index image_logs_time on llm_logs.image_logs (response_time desc, id desc);
create index image_logs_model on llm_logs.image_logs (model, response_time desc, id desc);
create index image_logs_outcome on llm_logs.image_logs
((coalesce(outcome, 'complete')), response_time desc, id desc) where coalesce(outcome, 'complete') <> 'complete';
create index image_logs_policy on llm_logs.image_logs (policy_outcome, response_time desc, id desc)
where policy_outcome is not null;
create index image_logs_ruled on llm_logs.image_logs (response_time desc, id desc) where policy_outcome is not null;
create index api_logs_time on llm_logs.api_logs (response_time desc, id desc);
create index api_logs_model on llm_logs.api_logs (model, response_time desc, id desc);
create index api_logs_outcome on llm_logs.api_logs
((coalesce(outcome, 'complete')), response_time desc, id desc) where coalesce(outcome, 'complete') <> 'complete';
create index api_logs_policy on llm_logs.api_logs (policy_outcome, response_time desc, id desc)
where policy_outcome is not null;
create index api_logs_ruled on llm_logs.api_logs (response_time desc, id desc) where policy_outcome is not null;

create function llm_logs.search_query(users text [], words text) returns tsquery
language sql stable
as $$
    select coalesce(string_agg('(' || any_user || ')', ' & '), '')::tsquery
    from unnest(to_tsvector('pg_catalog.simple', left(words, 1000))) as word
    cross join lateral (
        select string_agg(
            '''' || replace(replace(llm_logs.search_prefix(each) || word.lexeme, '\', '\\'), '''', '''''') || ''':*', ' | '
        ) as any_user
        from unnest(users) as each
    ) as of_word
$$;
comment on function llm_logs.search_query(text [], text) is
'As for one user: finds rows of any of these users that hold all of these words, or words that begin so';

-- Statistics know nothing of words by user, so plans read whole tables where the index has the few rows at hand; and with
-- a condition on ids in the same statement, those of a whole month. Hence each partition by itself, by this index alone.
create function llm_logs.chats_with(query tsquery, since date, until date)
returns table (
    id uuid, response_time timestamp, user_name text, model text, outcome text, policy_outcome text
)
language plpgsql stable
set enable_seqscan = off
set enable_indexscan = off
as $$
declare
    month regclass;
begin
    for month in
        select i.inhrelid::regclass
        from pg_inherits as i
        inner join pg_class as c on c.oid = i.inhrelid
        where i.inhparent = 'llm_logs.chatgpt_logs'::regclass
            and (
                c.relname !~ '^chatgpt_logs_[0-9]{4}_[0-9]{2}$'
                or to_date(right(c.relname, 7), 'YYYY_MM') between date_trunc('month', since) and until
            )
    loop
        return query execute format(
            'select id, response_time, user_name, model, outcome, policy_outcome from %s
             where llm_logs.search_terms(user_name, convo_title, request, response) @@ $1', month
        ) using query;
    end loop;
end
$$;
comment on function llm_logs.chats_with is
'Chats that are found by these words, of the partitions of these days; rows of no month''s partition are looked through, too';

create function llm_logs.users() returns setof text
language sql stable
as $$
    with recursive names as (
        (
            select user_name from llm_logs.chatgpt_logs
            where user_name is not null order by user_name limit 1
        )
        union all
        select (
            select c.user_name from llm_logs.chatgpt_logs as c
            where c.user_name > names.user_name order by c.user_name limit 1
        )
        from names where names.user_name is not null
    )
    select user_name from names where user_name is not null
$$;
comment on function llm_logs.users is 'Everybody who has chatted; one look into an index for each, however many rows there are';

-- migrate:down

do $$
begin
    raise exception 'the log is never taken back: there is no way down';
end
$$;
