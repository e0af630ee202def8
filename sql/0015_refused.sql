-- Requests that the gateway refused are on record (the outcome `refused`): the views count them, and count them as no
-- turn of a conversation.

-- migrate:up

set local lock_timeout = '10s';
set local statement_timeout = '30s';

comment on column llm_logs.chatgpt_logs.outcome is 'how the answer ended: complete, truncated, upstream_error, client_cancelled, policy_blocked, refused (by a gate: no upstream was asked) or interrupted';
comment on column llm_logs.image_logs.outcome is 'how the answer ended: complete, truncated, upstream_error, client_cancelled, policy_blocked, refused (by a gate: no upstream was asked) or interrupted';
comment on column llm_logs.api_logs.outcome is 'how the answer ended: complete, truncated, upstream_error, client_cancelled, policy_blocked, refused (by a gate: no upstream was asked) or interrupted';

create or replace view llm_logs.usage_by_call as
select
    id,
    'chat' as source,
    response_time,
    user_name,
    title,
    coalesce(root_gpt_id, id::text) as conversation,
    convo_title,
    coalesce(outcome = 'refused' or convo_title = 'summarizer' and not convo_show, false) as is_internal,
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
comment on column llm_logs.usage_by_call.is_internal is 'true: no turn of a conversation: the gateway asked by itself, for a title or a summary, or refused the request';

create or replace view llm_logs.usage_by_day as
select
    response_time::date as day,
    count(distinct user_name) as users,
    count(*) as calls,
    count(*) filter (where source = 'chat') as chats,
    count(*) filter (where source = 'image') as images,
    count(distinct (user_name, conversation)) filter (where source = 'chat' and not is_internal) as conversations,
    coalesce(sum(prompt_tokens), 0)::bigint as prompt_tokens,
    coalesce(sum(completion_tokens), 0)::bigint as completion_tokens,
    coalesce(sum(total_tokens), 0)::bigint as total_tokens,
    count(*) filter (where is_estimate) as estimated_calls,
    sum(cost_usd)::double precision as cost_usd,
    count(*) filter (where outcome = 'complete') as complete,
    count(*) filter (where outcome = 'truncated') as truncated,
    count(*) filter (where outcome = 'upstream_error') as upstream_error,
    count(*) filter (where outcome = 'client_cancelled') as client_cancelled,
    count(*) filter (where outcome = 'policy_blocked') as policy_blocked,
    count(*) filter (where outcome = 'interrupted') as interrupted,
    count(*) filter (where outcome = 'refused') as refused
from llm_logs.usage_by_call
group by response_time::date;
comment on column llm_logs.usage_by_day.refused is 'calls that the gateway refused, such as for their model';

create or replace view llm_logs.usage_by_day_and_user as
select
    response_time::date as day,
    user_name,
    count(*) as calls,
    count(*) filter (where source = 'chat') as chats,
    count(*) filter (where source = 'image') as images,
    count(distinct (user_name, conversation)) filter (where source = 'chat' and not is_internal) as conversations,
    coalesce(sum(prompt_tokens), 0)::bigint as prompt_tokens,
    coalesce(sum(completion_tokens), 0)::bigint as completion_tokens,
    coalesce(sum(total_tokens), 0)::bigint as total_tokens,
    count(*) filter (where is_estimate) as estimated_calls,
    sum(cost_usd)::double precision as cost_usd,
    count(*) filter (where outcome = 'complete') as complete,
    count(*) filter (where outcome = 'truncated') as truncated,
    count(*) filter (where outcome = 'upstream_error') as upstream_error,
    count(*) filter (where outcome = 'client_cancelled') as client_cancelled,
    count(*) filter (where outcome = 'policy_blocked') as policy_blocked,
    count(*) filter (where outcome = 'interrupted') as interrupted,
    count(*) filter (where outcome = 'refused') as refused
from llm_logs.usage_by_call
group by response_time::date, user_name;
comment on column llm_logs.usage_by_day_and_user.refused is 'calls that the gateway refused, such as for their model';

create or replace view llm_logs.usage_by_user as
select
    user_name,
    (array_agg(title order by response_time desc) filter (where title is not null))[1] as title,
    count(*) as calls,
    count(*) filter (where source = 'chat') as chats,
    count(*) filter (where source = 'image') as images,
    count(distinct (user_name, conversation)) filter (where source = 'chat' and not is_internal) as conversations,
    coalesce(sum(prompt_tokens), 0)::bigint as prompt_tokens,
    coalesce(sum(completion_tokens), 0)::bigint as completion_tokens,
    coalesce(sum(total_tokens), 0)::bigint as total_tokens,
    count(*) filter (where is_estimate) as estimated_calls,
    sum(cost_usd)::double precision as cost_usd,
    count(*) filter (where outcome = 'complete') as complete,
    count(*) filter (where outcome = 'truncated') as truncated,
    count(*) filter (where outcome = 'upstream_error') as upstream_error,
    count(*) filter (where outcome = 'client_cancelled') as client_cancelled,
    count(*) filter (where outcome = 'policy_blocked') as policy_blocked,
    count(*) filter (where outcome = 'interrupted') as interrupted,
    min(response_time) as first_at,
    max(response_time) as last_at,
    count(*) filter (where outcome = 'refused') as refused
from llm_logs.usage_by_call
group by user_name;
comment on column llm_logs.usage_by_user.refused is 'calls that the gateway refused, such as for their model';

create or replace view llm_logs.usage_by_model as
select
    model,
    count(distinct user_name) as users,
    count(*) as calls,
    count(*) filter (where source = 'chat') as chats,
    count(*) filter (where source = 'image') as images,
    count(distinct (user_name, conversation)) filter (where source = 'chat' and not is_internal) as conversations,
    coalesce(sum(prompt_tokens), 0)::bigint as prompt_tokens,
    coalesce(sum(completion_tokens), 0)::bigint as completion_tokens,
    coalesce(sum(total_tokens), 0)::bigint as total_tokens,
    count(*) filter (where is_estimate) as estimated_calls,
    sum(cost_usd)::double precision as cost_usd,
    count(*) filter (where outcome = 'complete') as complete,
    count(*) filter (where outcome = 'truncated') as truncated,
    count(*) filter (where outcome = 'upstream_error') as upstream_error,
    count(*) filter (where outcome = 'client_cancelled') as client_cancelled,
    count(*) filter (where outcome = 'policy_blocked') as policy_blocked,
    count(*) filter (where outcome = 'interrupted') as interrupted,
    min(response_time) as first_at,
    max(response_time) as last_at,
    count(*) filter (where outcome = 'refused') as refused
from llm_logs.usage_by_call
group by model;
comment on column llm_logs.usage_by_model.refused is 'calls that the gateway refused, such as for their model';

create or replace view llm_logs.usage_by_conversation as
select
    conversation,
    user_name,
    (array_agg(convo_title order by response_time desc) filter (where convo_title is not null))[1] as convo_title,
    bool_and(is_internal) as is_internal,
    count(*) filter (where source = 'chat') as chats,
    coalesce(sum(prompt_tokens), 0)::bigint as prompt_tokens,
    coalesce(sum(completion_tokens), 0)::bigint as completion_tokens,
    coalesce(sum(total_tokens), 0)::bigint as total_tokens,
    count(*) filter (where is_estimate) as estimated_calls,
    count(*) filter (where outcome = 'complete') as complete,
    count(*) filter (where outcome = 'truncated') as truncated,
    count(*) filter (where outcome = 'upstream_error') as upstream_error,
    count(*) filter (where outcome = 'client_cancelled') as client_cancelled,
    count(*) filter (where outcome = 'policy_blocked') as policy_blocked,
    count(*) filter (where outcome = 'interrupted') as interrupted,
    min(response_time) as first_at,
    max(response_time) as last_at,
    count(*) filter (where outcome = 'refused') as refused
from llm_logs.usage_by_call
where source = 'chat'
group by conversation, user_name;
comment on column llm_logs.usage_by_conversation.refused is 'calls that the gateway refused, such as for their model';

-- migrate:down

do $$
begin
    raise exception 'reports rely on these views: there is no way down';
end
$$;
