-- One way in for the gateway's own writers: llm_logs.keep. Gateways of an older version go on with their own statements
-- beside it. The comments of the columns, in plainer words.
--
-- squawk-ignore-file prefer-bigint-over-int
-- ^ positions in an array, and an HTTP status, are integers.

-- migrate:up

set local lock_timeout = '10s';
set local statement_timeout = '30s';

create or replace function llm_logs.keep(source text, records json, raws bytea []) returns bigint
language plpgsql
as $$
declare
    kept bigint;
begin
    if source = 'chat' then
        insert into llm_logs.chatgpt_logs (
            response_time, id, kind, user_name, title, request, response, request_raw, response_raw, convo_title,
            convo_show, root_gpt_id, parent_id, root_inferred, snapshot_hash, answer_hash, item_hash, parent_hash,
            outcome, status, method, path, model, answered_model, upstream, key_id, request_id, upstream_request_id,
            is_stream, started_at, finished_at, first_token_ms, duration_ms, usage_info, usage_cost, prompt_tokens,
            completion_tokens, usage_estimated, bytes_in, bytes_out, error, request_type, response_type, request_size,
            response_size, request_sha256, response_sha256, policy_outcome, policy_rules
        )
        select
            to_timestamp(r.finished_at) at time zone 'utc', r.id, r.kind, r.user_name, r.title, r.request, r.response,
            raws[r.request_raw], raws[r.response_raw], coalesce(s.convo_title, r.convo_title), r.convo_show and
            (s.hidden_at is null or to_timestamp(r.started_at) > s.hidden_at), r.root_gpt_id, r.parent_id,
            r.root_inferred, r.snapshot_hash, r.answer_hash, r.item_hash, r.parent_hash, r.outcome, r.status,
            r.method, r.path, r.model, r.answered_model, r.upstream, r.key_id, r.request_id, r.upstream_request_id,
            r.is_stream, to_timestamp(r.started_at), to_timestamp(r.finished_at), r.first_token_ms, r.duration_ms,
            r.usage_info, r.usage_cost, r.prompt_tokens, r.completion_tokens, r.usage_estimated, r.bytes_in,
            r.bytes_out, r.error, r.request_type, r.response_type, r.request_size, r.response_size, r.request_sha256,
            r.response_sha256, r.policy_outcome, r.policy_rules
        from json_to_recordset(records) as r (
            id uuid, kind text, user_name text, title text, request jsonb, response jsonb, request_raw integer,
            response_raw integer, convo_title text, convo_show boolean, root_gpt_id text, parent_id uuid,
            root_inferred boolean, snapshot_hash bytea, answer_hash bytea, item_hash bytea, parent_hash bytea, outcome
            text, status integer, method text, path text, model text, answered_model text, upstream text, key_id text,
            request_id text, upstream_request_id text, is_stream boolean, started_at double precision, finished_at
            double precision, first_token_ms double precision, duration_ms double precision, usage_info jsonb,
            usage_cost real, prompt_tokens bigint, completion_tokens bigint, usage_estimated boolean, bytes_in bigint,
            bytes_out bigint, error text, request_type text, response_type text, request_size bigint, response_size
            bigint, request_sha256 text, response_sha256 text, policy_outcome text, policy_rules text[]
        )
        left join llm_logs.conversation_settings as s on s.user_name = r.user_name and s.root_gpt_id = r.root_gpt_id
        on conflict (id) do nothing;
    elsif source = 'image' then
        insert into llm_logs.image_logs (
            response_time, id, kind, user_name, title, request, response, request_raw, response_raw, outcome, status,
            method, path, model, answered_model, upstream, key_id, request_id, upstream_request_id, is_stream,
            started_at, finished_at, first_token_ms, duration_ms, usage_info, usage_cost, prompt_tokens,
            completion_tokens, usage_estimated, bytes_in, bytes_out, error, request_type, response_type, request_size,
            response_size, request_sha256, response_sha256, policy_outcome, policy_rules
        )
        select
            to_timestamp(r.finished_at) at time zone 'utc', r.id, r.kind, r.user_name, r.title, r.request, r.response,
            raws[r.request_raw], raws[r.response_raw], r.outcome, r.status, r.method, r.path, r.model,
            r.answered_model, r.upstream, r.key_id, r.request_id, r.upstream_request_id, r.is_stream,
            to_timestamp(r.started_at), to_timestamp(r.finished_at), r.first_token_ms, r.duration_ms, r.usage_info,
            r.usage_cost, r.prompt_tokens, r.completion_tokens, r.usage_estimated, r.bytes_in, r.bytes_out, r.error,
            r.request_type, r.response_type, r.request_size, r.response_size, r.request_sha256, r.response_sha256,
            r.policy_outcome, r.policy_rules
        from json_to_recordset(records) as r (
            id uuid, kind text, user_name text, title text, request jsonb, response jsonb, request_raw integer,
            response_raw integer, outcome text, status integer, method text, path text, model text, answered_model
            text, upstream text, key_id text, request_id text, upstream_request_id text, is_stream boolean, started_at
            double precision, finished_at double precision, first_token_ms double precision, duration_ms double
            precision, usage_info jsonb, usage_cost real, prompt_tokens bigint, completion_tokens bigint,
            usage_estimated boolean, bytes_in bigint, bytes_out bigint, error text, request_type text, response_type
            text, request_size bigint, response_size bigint, request_sha256 text, response_sha256 text, policy_outcome
            text, policy_rules text[]
        )
        on conflict (id) do nothing;
    elsif source = 'api' then
        insert into llm_logs.api_logs (
            response_time, id, kind, user_name, title, request, response, request_raw, response_raw, outcome, status,
            method, path, model, answered_model, upstream, key_id, request_id, upstream_request_id, is_stream,
            started_at, finished_at, first_token_ms, duration_ms, usage_info, usage_cost, prompt_tokens,
            completion_tokens, usage_estimated, bytes_in, bytes_out, error, request_type, response_type, request_size,
            response_size, request_sha256, response_sha256, policy_outcome, policy_rules
        )
        select
            to_timestamp(r.finished_at) at time zone 'utc', r.id, r.kind, r.user_name, r.title, r.request, r.response,
            raws[r.request_raw], raws[r.response_raw], r.outcome, r.status, r.method, r.path, r.model,
            r.answered_model, r.upstream, r.key_id, r.request_id, r.upstream_request_id, r.is_stream,
            to_timestamp(r.started_at), to_timestamp(r.finished_at), r.first_token_ms, r.duration_ms, r.usage_info,
            r.usage_cost, r.prompt_tokens, r.completion_tokens, r.usage_estimated, r.bytes_in, r.bytes_out, r.error,
            r.request_type, r.response_type, r.request_size, r.response_size, r.request_sha256, r.response_sha256,
            r.policy_outcome, r.policy_rules
        from json_to_recordset(records) as r (
            id uuid, kind text, user_name text, title text, request jsonb, response jsonb, request_raw integer,
            response_raw integer, outcome text, status integer, method text, path text, model text, answered_model
            text, upstream text, key_id text, request_id text, upstream_request_id text, is_stream boolean, started_at
            double precision, finished_at double precision, first_token_ms double precision, duration_ms double
            precision, usage_info jsonb, usage_cost real, prompt_tokens bigint, completion_tokens bigint,
            usage_estimated boolean, bytes_in bigint, bytes_out bigint, error text, request_type text, response_type
            text, request_size bigint, response_size bigint, request_sha256 text, response_sha256 text, policy_outcome
            text, policy_rules text[]
        )
        on conflict (id) do nothing;
    else
        raise exception 'no table keeps the source %', source;
    end if;
    get diagnostics kept = row_count;
    return kept;
end
$$;
comment on function llm_logs.keep is
'Inserts records of one source (chat, image or api) from a JSON array; returns how many rows are new';

comment on column llm_logs.chatgpt_logs.response_time is 'when the answer ended, UTC';
comment on column llm_logs.chatgpt_logs.id is 'id of the interaction; a UUIDv7, which sorts by time, if the gateway made it';
comment on column llm_logs.chatgpt_logs.kind is 'chat, response, image or other; null: another program wrote the row';
comment on column llm_logs.chatgpt_logs.user_name is 'the user who sent the request';
comment on column llm_logs.chatgpt_logs.title is 'job title of the user';
comment on column llm_logs.chatgpt_logs.request is 'the request as JSON; null with request_raw: the request is not JSON';
comment on column llm_logs.chatgpt_logs.response is 'the answer as JSON; a stream as the completion that its chunks assemble to';
comment on column llm_logs.chatgpt_logs.request_raw is 'the request byte for byte, if jsonb cannot hold it exactly';
comment on column llm_logs.chatgpt_logs.response_raw is 'the answer byte for byte, if jsonb cannot hold it exactly';
comment on column llm_logs.chatgpt_logs.convo_title is 'title of the conversation';
comment on column llm_logs.chatgpt_logs.convo_show is 'false: the user removed the conversation from the history';
comment on column llm_logs.chatgpt_logs.root_gpt_id is 'id of the conversation: the id of its first interaction, or the id that the caller gave';
comment on column llm_logs.chatgpt_logs.parent_id is 'the interaction that this one continues; null: the first one';
comment on column llm_logs.chatgpt_logs.root_inferred is 'true: the gateway found root_gpt_id from the messages; false: the caller gave it';
comment on column llm_logs.chatgpt_logs.snapshot_hash is 'hash of the messages and the answer; a later request that begins with them continues this row';
comment on column llm_logs.chatgpt_logs.answer_hash is 'hash of the answer''s id; a later response that names this id continues this row';
comment on column llm_logs.chatgpt_logs.item_hash is 'hash of the id of the answer''s last item, which a later response may name';
comment on column llm_logs.chatgpt_logs.parent_hash is 'hash of the messages up to the last earlier answer: the snapshot that this request continues';
comment on column llm_logs.chatgpt_logs.outcome is 'how the answer ended: complete, truncated, upstream_error, client_cancelled, policy_blocked, refused (by a gate: no upstream was called) or interrupted';
comment on column llm_logs.chatgpt_logs.status is 'HTTP status of the upstream; null: the upstream did not answer';
comment on column llm_logs.chatgpt_logs.method is 'HTTP method of the request';
comment on column llm_logs.chatgpt_logs.path is 'path and query string of the request';
comment on column llm_logs.chatgpt_logs.model is 'model that the request names';
comment on column llm_logs.chatgpt_logs.answered_model is 'model that the answer names';
comment on column llm_logs.chatgpt_logs.upstream is 'the gateway''s name of the upstream';
comment on column llm_logs.chatgpt_logs.key_id is 'id of the caller''s key; never the key';
comment on column llm_logs.chatgpt_logs.request_id is 'x-request-id of the request at the gateway';
comment on column llm_logs.chatgpt_logs.upstream_request_id is 'x-request-id of the upstream''s answer';
comment on column llm_logs.chatgpt_logs.is_stream is 'true: the request asks for a stream';
comment on column llm_logs.chatgpt_logs.started_at is 'when the request arrived';
comment on column llm_logs.chatgpt_logs.finished_at is 'when the answer ended; the same moment as response_time';
comment on column llm_logs.chatgpt_logs.first_token_ms is 'milliseconds from the request to the first piece of the answer';
comment on column llm_logs.chatgpt_logs.duration_ms is 'milliseconds from the request to the end of the answer';
comment on column llm_logs.chatgpt_logs.usage_info is 'the upstream''s own usage object';
comment on column llm_logs.chatgpt_logs.usage_cost is 'price in USD when the row was written; null: not known';
comment on column llm_logs.chatgpt_logs.prompt_tokens is 'tokens of the request';
comment on column llm_logs.chatgpt_logs.completion_tokens is 'tokens of the answer';
comment on column llm_logs.chatgpt_logs.usage_estimated is 'true: the upstream did not count tokens, and the gateway estimated them';
comment on column llm_logs.chatgpt_logs.bytes_in is 'bytes received from the upstream';
comment on column llm_logs.chatgpt_logs.bytes_out is 'bytes sent to the caller';
comment on column llm_logs.chatgpt_logs.error is 'description of the error';
comment on column llm_logs.chatgpt_logs.request_type is 'Content-Type of the request';
comment on column llm_logs.chatgpt_logs.response_type is 'Content-Type of the answer';
comment on column llm_logs.chatgpt_logs.request_size is 'bytes of a request whose body is not kept';
comment on column llm_logs.chatgpt_logs.response_size is 'bytes of an answer whose body is not kept';
comment on column llm_logs.chatgpt_logs.request_sha256 is 'SHA-256, in hex, of a request whose body is not kept';
comment on column llm_logs.chatgpt_logs.response_sha256 is 'SHA-256, in hex, of an answer whose body is not kept';
comment on column llm_logs.chatgpt_logs.policy_outcome is 'action of the company''s policy: masked, redirected or rejected; null: none';
comment on column llm_logs.chatgpt_logs.policy_rules is 'the policy rules that matched, in order; a rule that rejects is the last';
comment on column llm_logs.image_logs.response_time is 'when the answer ended, UTC';
comment on column llm_logs.image_logs.id is 'id of the interaction; a UUIDv7, which sorts by time, if the gateway made it';
comment on column llm_logs.image_logs.kind is 'chat, response, image or other; null: another program wrote the row';
comment on column llm_logs.image_logs.user_name is 'the user who sent the request';
comment on column llm_logs.image_logs.title is 'job title of the user';
comment on column llm_logs.image_logs.request is 'the request as JSON; null with request_raw: the request is not JSON';
comment on column llm_logs.image_logs.response is 'the answer as JSON; a stream as the completion that its chunks assemble to';
comment on column llm_logs.image_logs.request_raw is 'the request byte for byte, if jsonb cannot hold it exactly';
comment on column llm_logs.image_logs.response_raw is 'the answer byte for byte, if jsonb cannot hold it exactly';
comment on column llm_logs.image_logs.outcome is 'how the answer ended: complete, truncated, upstream_error, client_cancelled, policy_blocked, refused (by a gate: no upstream was called) or interrupted';
comment on column llm_logs.image_logs.status is 'HTTP status of the upstream; null: the upstream did not answer';
comment on column llm_logs.image_logs.method is 'HTTP method of the request';
comment on column llm_logs.image_logs.path is 'path and query string of the request';
comment on column llm_logs.image_logs.model is 'model that the request names';
comment on column llm_logs.image_logs.answered_model is 'model that the answer names';
comment on column llm_logs.image_logs.upstream is 'the gateway''s name of the upstream';
comment on column llm_logs.image_logs.key_id is 'id of the caller''s key; never the key';
comment on column llm_logs.image_logs.request_id is 'x-request-id of the request at the gateway';
comment on column llm_logs.image_logs.upstream_request_id is 'x-request-id of the upstream''s answer';
comment on column llm_logs.image_logs.is_stream is 'true: the request asks for a stream';
comment on column llm_logs.image_logs.started_at is 'when the request arrived';
comment on column llm_logs.image_logs.finished_at is 'when the answer ended; the same moment as response_time';
comment on column llm_logs.image_logs.first_token_ms is 'milliseconds from the request to the first piece of the answer';
comment on column llm_logs.image_logs.duration_ms is 'milliseconds from the request to the end of the answer';
comment on column llm_logs.image_logs.usage_info is 'the upstream''s own usage object';
comment on column llm_logs.image_logs.usage_cost is 'price in USD when the row was written; null: not known';
comment on column llm_logs.image_logs.prompt_tokens is 'tokens of the request';
comment on column llm_logs.image_logs.completion_tokens is 'tokens of the answer';
comment on column llm_logs.image_logs.usage_estimated is 'true: the upstream did not count tokens, and the gateway estimated them';
comment on column llm_logs.image_logs.bytes_in is 'bytes received from the upstream';
comment on column llm_logs.image_logs.bytes_out is 'bytes sent to the caller';
comment on column llm_logs.image_logs.error is 'description of the error';
comment on column llm_logs.image_logs.request_type is 'Content-Type of the request';
comment on column llm_logs.image_logs.response_type is 'Content-Type of the answer';
comment on column llm_logs.image_logs.request_size is 'bytes of a request whose body is not kept';
comment on column llm_logs.image_logs.response_size is 'bytes of an answer whose body is not kept';
comment on column llm_logs.image_logs.request_sha256 is 'SHA-256, in hex, of a request whose body is not kept';
comment on column llm_logs.image_logs.response_sha256 is 'SHA-256, in hex, of an answer whose body is not kept';
comment on column llm_logs.image_logs.policy_outcome is 'action of the company''s policy: masked, redirected or rejected; null: none';
comment on column llm_logs.image_logs.policy_rules is 'the policy rules that matched, in order; a rule that rejects is the last';
comment on column llm_logs.api_logs.response_time is 'when the answer ended, UTC';
comment on column llm_logs.api_logs.id is 'id of the interaction; a UUIDv7, which sorts by time, if the gateway made it';
comment on column llm_logs.api_logs.kind is 'chat, response, image or other; null: another program wrote the row';
comment on column llm_logs.api_logs.user_name is 'the user who sent the request';
comment on column llm_logs.api_logs.title is 'job title of the user';
comment on column llm_logs.api_logs.request is 'the request as JSON; null with request_raw: the request is not JSON';
comment on column llm_logs.api_logs.response is 'the answer as JSON; a stream as the completion that its chunks assemble to';
comment on column llm_logs.api_logs.request_raw is 'the request byte for byte, if jsonb cannot hold it exactly';
comment on column llm_logs.api_logs.response_raw is 'the answer byte for byte, if jsonb cannot hold it exactly';
comment on column llm_logs.api_logs.outcome is 'how the answer ended: complete, truncated, upstream_error, client_cancelled, policy_blocked, refused (by a gate: no upstream was called) or interrupted';
comment on column llm_logs.api_logs.status is 'HTTP status of the upstream; null: the upstream did not answer';
comment on column llm_logs.api_logs.method is 'HTTP method of the request';
comment on column llm_logs.api_logs.path is 'path and query string of the request';
comment on column llm_logs.api_logs.model is 'model that the request names';
comment on column llm_logs.api_logs.answered_model is 'model that the answer names';
comment on column llm_logs.api_logs.upstream is 'the gateway''s name of the upstream';
comment on column llm_logs.api_logs.key_id is 'id of the caller''s key; never the key';
comment on column llm_logs.api_logs.request_id is 'x-request-id of the request at the gateway';
comment on column llm_logs.api_logs.upstream_request_id is 'x-request-id of the upstream''s answer';
comment on column llm_logs.api_logs.is_stream is 'true: the request asks for a stream';
comment on column llm_logs.api_logs.started_at is 'when the request arrived';
comment on column llm_logs.api_logs.finished_at is 'when the answer ended; the same moment as response_time';
comment on column llm_logs.api_logs.first_token_ms is 'milliseconds from the request to the first piece of the answer';
comment on column llm_logs.api_logs.duration_ms is 'milliseconds from the request to the end of the answer';
comment on column llm_logs.api_logs.usage_info is 'the upstream''s own usage object';
comment on column llm_logs.api_logs.usage_cost is 'price in USD when the row was written; null: not known';
comment on column llm_logs.api_logs.prompt_tokens is 'tokens of the request';
comment on column llm_logs.api_logs.completion_tokens is 'tokens of the answer';
comment on column llm_logs.api_logs.usage_estimated is 'true: the upstream did not count tokens, and the gateway estimated them';
comment on column llm_logs.api_logs.bytes_in is 'bytes received from the upstream';
comment on column llm_logs.api_logs.bytes_out is 'bytes sent to the caller';
comment on column llm_logs.api_logs.error is 'description of the error';
comment on column llm_logs.api_logs.request_type is 'Content-Type of the request';
comment on column llm_logs.api_logs.response_type is 'Content-Type of the answer';
comment on column llm_logs.api_logs.request_size is 'bytes of a request whose body is not kept';
comment on column llm_logs.api_logs.response_size is 'bytes of an answer whose body is not kept';
comment on column llm_logs.api_logs.request_sha256 is 'SHA-256, in hex, of a request whose body is not kept';
comment on column llm_logs.api_logs.response_sha256 is 'SHA-256, in hex, of an answer whose body is not kept';
comment on column llm_logs.api_logs.policy_outcome is 'action of the company''s policy: masked, redirected or rejected; null: none';
comment on column llm_logs.api_logs.policy_rules is 'the policy rules that matched, in order; a rule that rejects is the last';

-- migrate:down

do $$
begin
    raise exception 'the gateway''s writers need this function: there is no way down';
end
$$;
