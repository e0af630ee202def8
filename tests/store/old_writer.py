"""The INSERTs of gateways before `llm_logs.keep` (0016), which run beside ours. Never edit them."""

from __future__ import annotations

# $1: the rows as a JSON array; $2: the raw bytes that their `request_raw` and `response_raw` point at
# What users have set by hand for a conversation holds for its later rows, too.
KEEP_CHATS = """
insert into llm_logs.chatgpt_logs (
    response_time, id, user_name, title, request, response, usage_info, usage_cost, request_raw, response_raw,
    convo_title, convo_show, root_gpt_id, parent_id, root_inferred, snapshot_hash, answer_hash, item_hash, parent_hash,
    kind, outcome, status, method, path, model, answered_model, upstream, key_id, request_id, upstream_request_id,
    is_stream,
    started_at, finished_at, first_token_ms, duration_ms, prompt_tokens, completion_tokens, usage_estimated,
    bytes_in, bytes_out, error, request_type, response_type, request_size, response_size, request_sha256,
    response_sha256, policy_outcome, policy_rules
)
select
    to_timestamp(r.finished_at) at time zone 'utc', r.id, r.user_name, r.title, r.request, r.response,
    r.usage_info, r.usage_cost, ($2::bytea[])[r.request_raw], ($2::bytea[])[r.response_raw],
    coalesce(s.convo_title, r.convo_title),
    r.convo_show and (s.hidden_at is null or to_timestamp(r.started_at) > s.hidden_at),
    r.root_gpt_id, r.parent_id, r.root_inferred, r.snapshot_hash, r.answer_hash, r.item_hash, r.parent_hash, r.kind,
    r.outcome, r.status,
    r.method, r.path, r.model, r.answered_model, r.upstream, r.key_id, r.request_id, r.upstream_request_id,
    r.is_stream, to_timestamp(r.started_at), to_timestamp(r.finished_at), r.first_token_ms, r.duration_ms,
    r.prompt_tokens, r.completion_tokens, r.usage_estimated, r.bytes_in, r.bytes_out, r.error, r.request_type,
    r.response_type, r.request_size, r.response_size, r.request_sha256, r.response_sha256,
    r.policy_outcome, r.policy_rules
from json_to_recordset($1::json) as r (
    id uuid, user_name text, title text, request jsonb, response jsonb, usage_info jsonb, usage_cost real,
    request_raw integer, response_raw integer, convo_title text, convo_show boolean, root_gpt_id text, parent_id
    uuid, root_inferred boolean, snapshot_hash bytea, answer_hash bytea, item_hash bytea, parent_hash bytea, kind
    text, outcome text, status integer, method text, path text, model text, answered_model text, upstream text,
    key_id text, request_id text, upstream_request_id text, is_stream boolean, started_at double precision,
    finished_at double precision, first_token_ms double precision, duration_ms double precision, prompt_tokens bigint,
    completion_tokens bigint, usage_estimated boolean, bytes_in bigint, bytes_out bigint, error text,
    request_type text, response_type text, request_size bigint, response_size bigint, request_sha256 text,
    response_sha256 text, policy_outcome text, policy_rules text []
)
left join llm_logs.conversation_settings as s on s.user_name = r.user_name and s.root_gpt_id = r.root_gpt_id
on conflict (id) do nothing
"""

KEEP_IMAGES = """
insert into llm_logs.image_logs (
    response_time, id, user_name, title, request, response, usage_info, usage_cost, request_raw, response_raw,
    kind, outcome, status, method, path, model, answered_model, upstream, key_id, request_id, upstream_request_id,
    is_stream, started_at, finished_at, first_token_ms, duration_ms, prompt_tokens, completion_tokens,
    usage_estimated, bytes_in, bytes_out, error, request_type, response_type, request_size, response_size,
    request_sha256, response_sha256, policy_outcome, policy_rules
)
select
    to_timestamp(r.finished_at) at time zone 'utc', r.id, r.user_name, r.title, r.request, r.response,
    r.usage_info, r.usage_cost, ($2::bytea[])[r.request_raw], ($2::bytea[])[r.response_raw],
    r.kind, r.outcome, r.status,
    r.method, r.path, r.model, r.answered_model, r.upstream, r.key_id, r.request_id, r.upstream_request_id,
    r.is_stream, to_timestamp(r.started_at), to_timestamp(r.finished_at), r.first_token_ms, r.duration_ms,
    r.prompt_tokens, r.completion_tokens, r.usage_estimated, r.bytes_in, r.bytes_out, r.error, r.request_type,
    r.response_type, r.request_size, r.response_size, r.request_sha256, r.response_sha256,
    r.policy_outcome, r.policy_rules
from json_to_recordset($1::json) as r (
    id uuid, user_name text, title text, request jsonb, response jsonb, usage_info jsonb, usage_cost real,
    request_raw integer, response_raw integer, kind text, outcome text, status integer, method text, path text,
    model text, answered_model text, upstream text, key_id text, request_id text, upstream_request_id text, is_stream
    boolean, started_at double precision, finished_at double precision, first_token_ms double precision,
    duration_ms double precision, prompt_tokens bigint, completion_tokens bigint, usage_estimated boolean,
    bytes_in bigint, bytes_out bigint, error text, request_type text, response_type text, request_size bigint,
    response_size bigint, request_sha256 text, response_sha256 text, policy_outcome
    text, policy_rules text []
)
on conflict (id) do nothing
"""

KEEP_CALLS = """
insert into llm_logs.api_logs (
    response_time, id, user_name, title, request, response, usage_info, usage_cost, request_raw, response_raw, kind,
    outcome, status, method, path, model, answered_model, upstream, key_id, request_id, upstream_request_id,
    is_stream, started_at, finished_at, first_token_ms, duration_ms, prompt_tokens, completion_tokens,
    usage_estimated, bytes_in, bytes_out, error, request_type, response_type, request_size, response_size,
    request_sha256, response_sha256, policy_outcome, policy_rules
)
select
    to_timestamp(r.finished_at) at time zone 'utc', r.id, r.user_name, r.title, r.request, r.response,
    r.usage_info, r.usage_cost, ($2::bytea[])[r.request_raw], ($2::bytea[])[r.response_raw], r.kind, r.outcome,
    r.status,
    r.method, r.path, r.model, r.answered_model, r.upstream, r.key_id, r.request_id, r.upstream_request_id,
    r.is_stream, to_timestamp(r.started_at), to_timestamp(r.finished_at), r.first_token_ms, r.duration_ms,
    r.prompt_tokens, r.completion_tokens, r.usage_estimated, r.bytes_in, r.bytes_out, r.error, r.request_type,
    r.response_type, r.request_size, r.response_size, r.request_sha256, r.response_sha256,
    r.policy_outcome, r.policy_rules
from json_to_recordset($1::json) as r (
    id uuid, user_name text, title text, request jsonb, response jsonb, usage_info jsonb, usage_cost real,
    request_raw integer, response_raw integer, kind text, outcome text, status integer, method text, path text,
    model text, answered_model text, upstream text, key_id text, request_id text, upstream_request_id text, is_stream
    boolean, started_at double precision, finished_at double precision, first_token_ms double precision,
    duration_ms double precision, prompt_tokens bigint, completion_tokens bigint, usage_estimated boolean,
    bytes_in bigint, bytes_out bigint, error text, request_type text, response_type text, request_size bigint,
    response_size bigint, request_sha256 text, response_sha256 text, policy_outcome
    text, policy_rules text []
)
on conflict (id) do nothing
"""

OLD_STATEMENTS = {"chat": KEEP_CHATS, "image": KEEP_IMAGES, "api": KEEP_CALLS}
