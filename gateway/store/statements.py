"""The statements that keep interactions. One batch, one statement a table; what is there already stays as it is."""

# For the connections that keep. Planning a look into every partition takes ten times as long as looking (3.1 against
# 0.4 ms), so it is done once; a plan that was made while a partition was empty must not read it whole later on.
TUNE = {"plan_cache_mode": "force_generic_plan", "enable_seqscan": "off", "jit": "off"}

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

# Which of these have no row. $1: ids
MISSING = """
select q.id
from unnest($1::uuid[]) as q (id)
where
    not exists (select from llm_logs.chatgpt_logs as c where c.id = q.id)
    and not exists (select from llm_logs.image_logs as i where i.id = q.id)
    and not exists (select from llm_logs.api_logs as a where a.id = q.id)
"""

# $1: namespace; $2: buckets, in order
LOCK_USERS = """
select pg_advisory_xact_lock($1::integer, bucket)
from unnest($2::integer[]) as bucket
"""

# The newest snapshot of a user and hash that is older than the row which asks. $1: users; $2: hashes; $3: rows; $4: the
# least id, by which all but one or two months are left out before anything is looked up in them
FIND_SNAPSHOTS = """
select q.hash, q.row_id, c.id, c.root_gpt_id, c.convo_title
from unnest($1::text[], $2::bytea[], $3::uuid[]) as q (user_name, hash, row_id)
cross join lateral (
    select id, root_gpt_id, convo_title
    from llm_logs.chatgpt_logs
    where user_name = q.user_name and snapshot_hash = q.hash and id < q.row_id and id >= $4
    order by id desc
    limit 1
) as c
"""

# The same for what a response names by an id: an answer, or an item of one. $1: users; $2: hashes; $3: rows; $4: the
# least id
FIND_NAMED = """
select q.hash, q.row_id, c.id, c.root_gpt_id, c.convo_title
from unnest($1::text[], $2::bytea[], $3::uuid[]) as q (user_name, hash, row_id)
cross join lateral (
    (
        select id, root_gpt_id, convo_title
        from llm_logs.chatgpt_logs
        where user_name = q.user_name and answer_hash = q.hash and id < q.row_id and id >= $4
        order by id desc
        limit 1
    )
    union all
    (
        select id, root_gpt_id, convo_title
        from llm_logs.chatgpt_logs
        where user_name = q.user_name and item_hash = q.hash and id < q.row_id and id >= $4
        order by id desc
        limit 1
    )
) as c
"""

# Rows that go on from one of these, but came before it. $1: users; $2: hashes; $3: ids; $4: the least of these ids
FIND_EARLY = """
select distinct on (c.id)
    c.id, q.id as parent_id, c.user_name, c.root_inferred and c.parent_id is null as is_own_root
from unnest($1::text[], $2::bytea[], $3::uuid[]) as q (user_name, hash, id)
inner join llm_logs.chatgpt_logs as c
    on c.user_name = q.user_name and c.parent_hash = q.hash and c.id > q.id and c.id > $4
where not exists (
    select from llm_logs.chatgpt_logs as p
    where p.id = c.parent_id and c.parent_hash in (p.snapshot_hash, p.answer_hash, p.item_hash)
)
order by c.id, q.id desc
"""

# $1: the row; $2: what it goes on from
SET_PARENT = """
update llm_logs.chatgpt_logs set parent_id = $2 where id = $1
"""

# A conversation that was taken for one of its own joins that of $3, unless a caller uses the id that it had so far.
# $1: user; $2: id of the conversation, which is that of its first row; $3: the row that it goes on from
JOIN_CONVERSATION = """
update llm_logs.chatgpt_logs as c
set root_gpt_id = p.root_gpt_id
from llm_logs.chatgpt_logs as p
where c.user_name = $1 and coalesce(c.root_gpt_id, c.id::text) = $2 and c.root_inferred and p.id = $3
    and not exists (
        select from llm_logs.chatgpt_logs as given
        where given.user_name = $1 and coalesce(given.root_gpt_id, given.id::text) = $2 and not given.root_inferred
    )
"""

SCHEMA_VERSION = r"""
select max(version) from schema_migrations where version ~ '^\d{4}$'
"""
