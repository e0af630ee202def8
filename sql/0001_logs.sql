-- The tables of the log. Seed systems keep theirs: names, types and meaning of the seed's columns are as they were.
--
-- squawk-ignore-file prefer-timestamp-tz, prefer-bigint-over-int
-- ^ response_time is the column of the seed, and its type with it; a status has three digits.

-- migrate:up

set local lock_timeout = '10s';
set local statement_timeout = 0;  -- a seed's log may be large

create schema if not exists llm_logs;
comment on schema llm_logs is 'What was said to language models through the gateway, and what they answered';

-- A database that a seed system has filled: its tables step aside here, and are copied below.
do $$
declare
    name text;
begin
    foreach name in array array['chatgpt_logs', 'image_logs', 'meta_summarizer_log'] loop
        if to_regclass('llm_logs.' || name) is not null then
            execute format('alter table llm_logs.%I rename to %I', name, name || '_of_seed');
        end if;
    end loop;
end
$$;

create table llm_logs.chatgpt_logs (
    id uuid default gen_random_uuid() primary key,
    request jsonb,
    usage_info jsonb,
    user_name text,
    title text,
    response_time timestamp default now(),
    response jsonb,
    convo_title text,
    convo_show boolean default true,
    root_gpt_id text,
    parent_id uuid,
    root_inferred boolean not null default false,
    snapshot_hash bytea,
    parent_hash bytea,
    kind text,
    outcome text,
    status integer,
    method text,
    path text,
    model text,
    answered_model text,
    upstream text,
    key_id text,
    request_id text,
    upstream_request_id text,
    is_stream boolean,
    started_at timestamptz,
    finished_at timestamptz,
    first_token_ms double precision,
    duration_ms double precision,
    prompt_tokens bigint,
    completion_tokens bigint,
    usage_estimated boolean,
    bytes_in bigint,
    bytes_out bigint,
    error text,
    request_type text,
    response_type text,
    request_size bigint,
    response_size bigint,
    request_sha256 text,
    response_sha256 text,
    request_raw bytea,
    response_raw bytea
) partition by range (id);
comment on table llm_logs.chatgpt_logs is 'every chat: chat completions and responses; the rows of one conversation share root_gpt_id';
comment on column llm_logs.chatgpt_logs.id is 'id of the interaction; a UUIDv7, which sorts by time, where the gateway made it';
comment on column llm_logs.chatgpt_logs.request is 'what was asked, as JSON; null with request_raw: it is not JSON';
comment on column llm_logs.chatgpt_logs.usage_info is 'the upstream''s own usage object';
comment on column llm_logs.chatgpt_logs.user_name is 'who asked';
comment on column llm_logs.chatgpt_logs.title is 'job title of who asked';
comment on column llm_logs.chatgpt_logs.response_time is 'when the answer ended, UTC';
comment on column llm_logs.chatgpt_logs.response is 'what was answered, as JSON: a stream as the completion that its chunks add up to';
comment on column llm_logs.chatgpt_logs.convo_title is 'title of the conversation';
comment on column llm_logs.chatgpt_logs.convo_show is 'false: the user has removed the conversation from the history';
comment on column llm_logs.chatgpt_logs.root_gpt_id is 'id of the conversation: that of its first interaction, or the one that the caller gave';
comment on column llm_logs.chatgpt_logs.parent_id is 'the interaction that this one goes on from; null: the first one';
comment on column llm_logs.chatgpt_logs.root_inferred is 'true: root_gpt_id was found from the messages, not given by the caller';
comment on column llm_logs.chatgpt_logs.snapshot_hash is 'hash of the messages and the answer: what a later request must begin with to go on from here';
comment on column llm_logs.chatgpt_logs.parent_hash is 'hash of the messages up to the last earlier answer: the snapshot that this request goes on from';
comment on column llm_logs.chatgpt_logs.kind is 'what was asked for: chat, response, image or other; null: not written by this gateway';
comment on column llm_logs.chatgpt_logs.outcome is 'how the answer ended: complete, truncated, upstream_error, client_cancelled, policy_blocked or interrupted';
comment on column llm_logs.chatgpt_logs.status is 'HTTP status of the upstream; null: it never answered';
comment on column llm_logs.chatgpt_logs.method is 'HTTP method of the request';
comment on column llm_logs.chatgpt_logs.path is 'path and query string of the request';
comment on column llm_logs.chatgpt_logs.model is 'model that was asked for';
comment on column llm_logs.chatgpt_logs.answered_model is 'model that says it answered';
comment on column llm_logs.chatgpt_logs.upstream is 'the gateway''s name for who answered';
comment on column llm_logs.chatgpt_logs.key_id is 'id of the key that the caller used; never the key';
comment on column llm_logs.chatgpt_logs.request_id is 'x-request-id of the request at the gateway';
comment on column llm_logs.chatgpt_logs.upstream_request_id is 'x-request-id of the upstream';
comment on column llm_logs.chatgpt_logs.is_stream is 'whether the answer was asked for as a stream';
comment on column llm_logs.chatgpt_logs.started_at is 'when the request came';
comment on column llm_logs.chatgpt_logs.finished_at is 'when the answer ended; the same moment as response_time';
comment on column llm_logs.chatgpt_logs.first_token_ms is 'milliseconds from the request to the first piece of the answer';
comment on column llm_logs.chatgpt_logs.duration_ms is 'milliseconds from the request to the end of the answer';
comment on column llm_logs.chatgpt_logs.prompt_tokens is 'tokens of the request';
comment on column llm_logs.chatgpt_logs.completion_tokens is 'tokens of the answer';
comment on column llm_logs.chatgpt_logs.usage_estimated is 'true: the upstream counted no tokens, and the gateway estimated them';
comment on column llm_logs.chatgpt_logs.bytes_in is 'bytes received from the upstream';
comment on column llm_logs.chatgpt_logs.bytes_out is 'bytes sent to the caller';
comment on column llm_logs.chatgpt_logs.error is 'what went wrong, for people';
comment on column llm_logs.chatgpt_logs.request_type is 'Content-Type of the request';
comment on column llm_logs.chatgpt_logs.response_type is 'Content-Type of the answer';
comment on column llm_logs.chatgpt_logs.request_size is 'bytes of a request that is not kept itself';
comment on column llm_logs.chatgpt_logs.response_size is 'bytes of an answer that is not kept itself';
comment on column llm_logs.chatgpt_logs.request_sha256 is 'SHA-256 of a request that is not kept itself, in hex';
comment on column llm_logs.chatgpt_logs.response_sha256 is 'SHA-256 of an answer that is not kept itself, in hex';
comment on column llm_logs.chatgpt_logs.request_raw is 'the request byte for byte, where jsonb cannot hold it exactly';
comment on column llm_logs.chatgpt_logs.response_raw is 'the answer byte for byte, where jsonb cannot hold it exactly';

create table llm_logs.chatgpt_logs_default partition of llm_logs.chatgpt_logs default;
comment on table llm_logs.chatgpt_logs_default is 'Rows whose id is no UUIDv7 of a month that has a partition';

create table llm_logs.image_logs (
    id uuid default gen_random_uuid() primary key,
    request jsonb,
    response jsonb,
    usage_cost real,
    user_name text,
    title text,
    response_time timestamp default now(),
    usage_info jsonb,
    kind text,
    outcome text,
    status integer,
    method text,
    path text,
    model text,
    answered_model text,
    upstream text,
    key_id text,
    request_id text,
    upstream_request_id text,
    is_stream boolean,
    started_at timestamptz,
    finished_at timestamptz,
    first_token_ms double precision,
    duration_ms double precision,
    prompt_tokens bigint,
    completion_tokens bigint,
    usage_estimated boolean,
    bytes_in bigint,
    bytes_out bigint,
    error text,
    request_type text,
    response_type text,
    request_size bigint,
    response_size bigint,
    request_sha256 text,
    response_sha256 text,
    request_raw bytea,
    response_raw bytea
);
comment on table llm_logs.image_logs is 'every call that makes or changes images';
comment on column llm_logs.image_logs.id is 'id of the interaction; a UUIDv7, which sorts by time, where the gateway made it';
comment on column llm_logs.image_logs.request is 'what was asked, as JSON; null with request_raw: it is not JSON';
comment on column llm_logs.image_logs.response is 'what was answered, as JSON: a stream as the completion that its chunks add up to';
comment on column llm_logs.image_logs.usage_cost is 'price in USD';
comment on column llm_logs.image_logs.user_name is 'who asked';
comment on column llm_logs.image_logs.title is 'job title of who asked';
comment on column llm_logs.image_logs.response_time is 'when the answer ended, UTC';
comment on column llm_logs.image_logs.usage_info is 'the upstream''s own usage object';
comment on column llm_logs.image_logs.kind is 'what was asked for: chat, response, image or other; null: not written by this gateway';
comment on column llm_logs.image_logs.outcome is 'how the answer ended: complete, truncated, upstream_error, client_cancelled, policy_blocked or interrupted';
comment on column llm_logs.image_logs.status is 'HTTP status of the upstream; null: it never answered';
comment on column llm_logs.image_logs.method is 'HTTP method of the request';
comment on column llm_logs.image_logs.path is 'path and query string of the request';
comment on column llm_logs.image_logs.model is 'model that was asked for';
comment on column llm_logs.image_logs.answered_model is 'model that says it answered';
comment on column llm_logs.image_logs.upstream is 'the gateway''s name for who answered';
comment on column llm_logs.image_logs.key_id is 'id of the key that the caller used; never the key';
comment on column llm_logs.image_logs.request_id is 'x-request-id of the request at the gateway';
comment on column llm_logs.image_logs.upstream_request_id is 'x-request-id of the upstream';
comment on column llm_logs.image_logs.is_stream is 'whether the answer was asked for as a stream';
comment on column llm_logs.image_logs.started_at is 'when the request came';
comment on column llm_logs.image_logs.finished_at is 'when the answer ended; the same moment as response_time';
comment on column llm_logs.image_logs.first_token_ms is 'milliseconds from the request to the first piece of the answer';
comment on column llm_logs.image_logs.duration_ms is 'milliseconds from the request to the end of the answer';
comment on column llm_logs.image_logs.prompt_tokens is 'tokens of the request';
comment on column llm_logs.image_logs.completion_tokens is 'tokens of the answer';
comment on column llm_logs.image_logs.usage_estimated is 'true: the upstream counted no tokens, and the gateway estimated them';
comment on column llm_logs.image_logs.bytes_in is 'bytes received from the upstream';
comment on column llm_logs.image_logs.bytes_out is 'bytes sent to the caller';
comment on column llm_logs.image_logs.error is 'what went wrong, for people';
comment on column llm_logs.image_logs.request_type is 'Content-Type of the request';
comment on column llm_logs.image_logs.response_type is 'Content-Type of the answer';
comment on column llm_logs.image_logs.request_size is 'bytes of a request that is not kept itself';
comment on column llm_logs.image_logs.response_size is 'bytes of an answer that is not kept itself';
comment on column llm_logs.image_logs.request_sha256 is 'SHA-256 of a request that is not kept itself, in hex';
comment on column llm_logs.image_logs.response_sha256 is 'SHA-256 of an answer that is not kept itself, in hex';
comment on column llm_logs.image_logs.request_raw is 'the request byte for byte, where jsonb cannot hold it exactly';
comment on column llm_logs.image_logs.response_raw is 'the answer byte for byte, where jsonb cannot hold it exactly';

create table llm_logs.meta_summarizer_log (
    id uuid default gen_random_uuid() primary key,
    request jsonb,
    usage_info jsonb,
    user_name text,
    title text,
    response_time timestamp default now(),
    response jsonb,
    orig_summarized_id text
);
comment on table llm_logs.meta_summarizer_log is 'what a model derived from a conversation: summary, satisfaction, seconds saved and so on';
comment on column llm_logs.meta_summarizer_log.id is 'id of the summary; a UUIDv7, which sorts by time, where the gateway made it';
comment on column llm_logs.meta_summarizer_log.request is 'what was asked, as JSON; null with request_raw: it is not JSON';
comment on column llm_logs.meta_summarizer_log.usage_info is 'the upstream''s own usage object';
comment on column llm_logs.meta_summarizer_log.user_name is 'who asked';
comment on column llm_logs.meta_summarizer_log.title is 'job title of who asked';
comment on column llm_logs.meta_summarizer_log.response_time is 'when the answer ended, UTC';
comment on column llm_logs.meta_summarizer_log.response is 'what was answered, as JSON: a stream as the completion that its chunks add up to';
comment on column llm_logs.meta_summarizer_log.orig_summarized_id is 'id of the row of chatgpt_logs that was summarised';

create table llm_logs.api_logs (
    id uuid default gen_random_uuid() primary key,
    request jsonb,
    usage_info jsonb,
    user_name text,
    title text,
    response_time timestamp default now(),
    response jsonb,
    usage_cost real,
    kind text,
    outcome text,
    status integer,
    method text,
    path text,
    model text,
    answered_model text,
    upstream text,
    key_id text,
    request_id text,
    upstream_request_id text,
    is_stream boolean,
    started_at timestamptz,
    finished_at timestamptz,
    first_token_ms double precision,
    duration_ms double precision,
    prompt_tokens bigint,
    completion_tokens bigint,
    usage_estimated boolean,
    bytes_in bigint,
    bytes_out bigint,
    error text,
    request_type text,
    response_type text,
    request_size bigint,
    response_size bigint,
    request_sha256 text,
    response_sha256 text,
    request_raw bytea,
    response_raw bytea
) partition by range (id);
comment on table llm_logs.api_logs is 'every other call of the API: embeddings, models, audio, files and so on';
comment on column llm_logs.api_logs.id is 'id of the interaction; a UUIDv7, which sorts by time, where the gateway made it';
comment on column llm_logs.api_logs.request is 'what was asked, as JSON; null with request_raw: it is not JSON';
comment on column llm_logs.api_logs.usage_info is 'the upstream''s own usage object';
comment on column llm_logs.api_logs.user_name is 'who asked';
comment on column llm_logs.api_logs.title is 'job title of who asked';
comment on column llm_logs.api_logs.response_time is 'when the answer ended, UTC';
comment on column llm_logs.api_logs.response is 'what was answered, as JSON: a stream as the completion that its chunks add up to';
comment on column llm_logs.api_logs.usage_cost is 'price in USD';
comment on column llm_logs.api_logs.kind is 'what was asked for: chat, response, image or other; null: not written by this gateway';
comment on column llm_logs.api_logs.outcome is 'how the answer ended: complete, truncated, upstream_error, client_cancelled, policy_blocked or interrupted';
comment on column llm_logs.api_logs.status is 'HTTP status of the upstream; null: it never answered';
comment on column llm_logs.api_logs.method is 'HTTP method of the request';
comment on column llm_logs.api_logs.path is 'path and query string of the request';
comment on column llm_logs.api_logs.model is 'model that was asked for';
comment on column llm_logs.api_logs.answered_model is 'model that says it answered';
comment on column llm_logs.api_logs.upstream is 'the gateway''s name for who answered';
comment on column llm_logs.api_logs.key_id is 'id of the key that the caller used; never the key';
comment on column llm_logs.api_logs.request_id is 'x-request-id of the request at the gateway';
comment on column llm_logs.api_logs.upstream_request_id is 'x-request-id of the upstream';
comment on column llm_logs.api_logs.is_stream is 'whether the answer was asked for as a stream';
comment on column llm_logs.api_logs.started_at is 'when the request came';
comment on column llm_logs.api_logs.finished_at is 'when the answer ended; the same moment as response_time';
comment on column llm_logs.api_logs.first_token_ms is 'milliseconds from the request to the first piece of the answer';
comment on column llm_logs.api_logs.duration_ms is 'milliseconds from the request to the end of the answer';
comment on column llm_logs.api_logs.prompt_tokens is 'tokens of the request';
comment on column llm_logs.api_logs.completion_tokens is 'tokens of the answer';
comment on column llm_logs.api_logs.usage_estimated is 'true: the upstream counted no tokens, and the gateway estimated them';
comment on column llm_logs.api_logs.bytes_in is 'bytes received from the upstream';
comment on column llm_logs.api_logs.bytes_out is 'bytes sent to the caller';
comment on column llm_logs.api_logs.error is 'what went wrong, for people';
comment on column llm_logs.api_logs.request_type is 'Content-Type of the request';
comment on column llm_logs.api_logs.response_type is 'Content-Type of the answer';
comment on column llm_logs.api_logs.request_size is 'bytes of a request that is not kept itself';
comment on column llm_logs.api_logs.response_size is 'bytes of an answer that is not kept itself';
comment on column llm_logs.api_logs.request_sha256 is 'SHA-256 of a request that is not kept itself, in hex';
comment on column llm_logs.api_logs.response_sha256 is 'SHA-256 of an answer that is not kept itself, in hex';
comment on column llm_logs.api_logs.request_raw is 'the request byte for byte, where jsonb cannot hold it exactly';
comment on column llm_logs.api_logs.response_raw is 'the answer byte for byte, where jsonb cannot hold it exactly';

create table llm_logs.api_logs_default partition of llm_logs.api_logs default;
comment on table llm_logs.api_logs_default is 'Rows whose id is no UUIDv7 of a month that has a partition';

-- History and reports read a user's rows from the newest on, in pages.
create index chatgpt_logs_user on llm_logs.chatgpt_logs (user_name, response_time desc, id desc);
create index image_logs_user on llm_logs.image_logs (user_name, response_time desc, id desc);
create index api_logs_user on llm_logs.api_logs (user_name, response_time desc, id desc);

-- A conversation's rows; what a request goes on from; what goes on from a row that comes late.
create index chatgpt_logs_root on llm_logs.chatgpt_logs (root_gpt_id);
create index chatgpt_logs_snapshot on llm_logs.chatgpt_logs (user_name, snapshot_hash, id)
where snapshot_hash is not null;
create index chatgpt_logs_parent on llm_logs.chatgpt_logs (user_name, parent_hash, id)
where parent_hash is not null;

create function llm_logs.first_id(moment timestamptz) returns uuid
language sql stable strict parallel safe
as $$
    select (substr(millis, 1, 8) || '-' || substr(millis, 9, 4) || '-0000-0000-000000000000')::uuid
    from lpad(to_hex((extract(epoch from moment) * 1000)::bigint), 12, '0') as millis
$$;
comment on function llm_logs.first_id is 'The least UUIDv7 of a moment: a bound for ids, which sort by time';

create function llm_logs.make_partitions(months_ahead integer) returns integer
language plpgsql
set lock_timeout = '3s'
as $$
declare
    parent text;
    since timestamptz;
    partition text;
    made integer := 0;
begin
    foreach parent in array array['chatgpt_logs', 'api_logs'] loop
        for month in 0..months_ahead loop
            since := (date_trunc('month', now() at time zone 'utc') + make_interval(months => month)) at time zone 'utc';
            partition := parent || '_' || to_char(since at time zone 'utc', 'YYYY_MM');
            continue when to_regclass('llm_logs.' || partition) is not null;
            begin
                execute format(
                    'create table llm_logs.%I partition of llm_logs.%I for values from (%L) to (%L)',
                    partition, parent,
                    llm_logs.first_id(since), llm_logs.first_id((since at time zone 'utc' + interval '1 month') at time zone 'utc')
                );
                made := made + 1;
            exception when others then
                -- Rows of that month lie in the default partition, another process makes it just now, or rights are
                -- missing: rows find their place all the same.
                raise notice 'no partition %: %', partition, sqlerrm;
            end;
        end loop;
    end loop;
    return made;
end
$$;
comment on function llm_logs.make_partitions is
'Makes the partitions of this month and of so many after it, where they are missing; returns how many it made. Never fails';

select llm_logs.make_partitions(2);

do $$
begin
    if to_regclass('llm_logs.chatgpt_logs_of_seed') is not null then
        insert into llm_logs.chatgpt_logs
            (id, request, usage_info, user_name, title, response_time, response, convo_title, convo_show, root_gpt_id)
        select
            id::text::uuid, request::jsonb, usage_info::jsonb, user_name, title, response_time, response::jsonb,
            convo_title, convo_show, root_gpt_id
        from llm_logs.chatgpt_logs_of_seed;
    end if;
    if to_regclass('llm_logs.image_logs_of_seed') is not null then
        insert into llm_logs.image_logs (id, request, response, usage_cost, user_name, title, response_time)
        select id::text::uuid, request::jsonb, response::jsonb, usage_cost, user_name, title, response_time
        from llm_logs.image_logs_of_seed;
    end if;
    if to_regclass('llm_logs.meta_summarizer_log_of_seed') is not null then
        insert into llm_logs.meta_summarizer_log
            (id, request, usage_info, user_name, title, response_time, response, orig_summarized_id)
        select
            id::text::uuid, request::jsonb, usage_info::jsonb, user_name, title, response_time, response::jsonb,
            orig_summarized_id::text
        from llm_logs.meta_summarizer_log_of_seed;
    end if;
end
$$;

-- migrate:down

do $$
begin
    raise exception 'the log is never taken back: there is no way down';
end
$$;
