-- What a company reads of the log: views of the usage, for any BI tool. Their names and columns stay; more may be added.

-- migrate:up

set local lock_timeout = '10s';
set local statement_timeout = '60s';

-- One expression, so that Postgres puts it into the query instead of calling it for each row.
create function llm_logs.token_count(value jsonb) returns bigint
language sql immutable parallel safe
as $$
    select case
        when jsonb_typeof(value) <> 'number' then null
        when value::numeric between 0 and 9007199254740992 then trunc(value::numeric)::bigint
    end
$$;
comment on function llm_logs.token_count is 'A member of a usage object, where it is a number of tokens';

create view llm_logs.usage_by_call as
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
    null::real as cost_usd
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
comment on view llm_logs.usage_by_call is
'every call with its tokens and its cost, of the gateway and of a seed system; the other views of usage are sums of this one';
comment on column llm_logs.usage_by_call.id is 'id of the interaction';
comment on column llm_logs.usage_by_call.source is 'chat, image or api: llm_logs.chatgpt_logs, image_logs or api_logs';
comment on column llm_logs.usage_by_call.response_time is 'when the answer ended, UTC';
comment on column llm_logs.usage_by_call.user_name is 'who asked';
comment on column llm_logs.usage_by_call.title is 'job title of who asked';
comment on column llm_logs.usage_by_call.conversation is 'id of the conversation; of chats only';
comment on column llm_logs.usage_by_call.convo_title is 'title of the conversation';
comment on column llm_logs.usage_by_call.is_internal is 'true: the gateway asked by itself, for a title or a summary';
comment on column llm_logs.usage_by_call.model is 'model that was asked for';
comment on column llm_logs.usage_by_call.upstream is 'the gateway''s name for who answered; null: a seed system''s row';
comment on column llm_logs.usage_by_call.outcome is 'how the answer ended; rows of a seed system count as complete, for it kept no others';
comment on column llm_logs.usage_by_call.prompt_tokens is 'tokens of the request; null: not known';
comment on column llm_logs.usage_by_call.completion_tokens is 'tokens of the answer; null: not known';
comment on column llm_logs.usage_by_call.total_tokens is 'tokens of both; null: not known';
comment on column llm_logs.usage_by_call.is_estimate is 'true: the upstream counted no tokens, and the gateway estimated them';
comment on column llm_logs.usage_by_call.cost_usd is 'price in USD; null: not known';

create view llm_logs.usage_by_day as
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
    count(*) filter (where outcome = 'interrupted') as interrupted
from llm_logs.usage_by_call
group by response_time::date;
comment on view llm_logs.usage_by_day is 'usage a day';
comment on column llm_logs.usage_by_day.day is 'day on which the answers ended, UTC';
comment on column llm_logs.usage_by_day.users is 'users who asked something';
comment on column llm_logs.usage_by_day.calls is 'calls of every kind: chats, images and others';
comment on column llm_logs.usage_by_day.chats is 'calls that were chats';
comment on column llm_logs.usage_by_day.images is 'calls that made or changed images';
comment on column llm_logs.usage_by_day.conversations is 'conversations in which something was said, not counting what the gateway asked by itself';
comment on column llm_logs.usage_by_day.prompt_tokens is 'tokens of the requests';
comment on column llm_logs.usage_by_day.completion_tokens is 'tokens of the answers';
comment on column llm_logs.usage_by_day.total_tokens is 'tokens of both';
comment on column llm_logs.usage_by_day.estimated_calls is 'calls whose tokens are an estimate';
comment on column llm_logs.usage_by_day.cost_usd is 'USD, of the calls whose price is known; null: of none';
comment on column llm_logs.usage_by_day.complete is 'calls that were answered to the end';
comment on column llm_logs.usage_by_day.truncated is 'answers that the upstream broke off';
comment on column llm_logs.usage_by_day.upstream_error is 'calls that the upstream failed';
comment on column llm_logs.usage_by_day.client_cancelled is 'answers that the caller broke off';
comment on column llm_logs.usage_by_day.policy_blocked is 'calls that the company''s policy refused';
comment on column llm_logs.usage_by_day.interrupted is 'answers that the end of a gateway broke off';

create view llm_logs.usage_by_day_and_user as
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
    count(*) filter (where outcome = 'interrupted') as interrupted
from llm_logs.usage_by_call
group by response_time::date, user_name;
comment on view llm_logs.usage_by_day_and_user is 'usage a day and user';
comment on column llm_logs.usage_by_day_and_user.day is 'day on which the answers ended, UTC';
comment on column llm_logs.usage_by_day_and_user.user_name is 'who asked';
comment on column llm_logs.usage_by_day_and_user.calls is 'calls of every kind: chats, images and others';
comment on column llm_logs.usage_by_day_and_user.chats is 'calls that were chats';
comment on column llm_logs.usage_by_day_and_user.images is 'calls that made or changed images';
comment on column llm_logs.usage_by_day_and_user.conversations is 'conversations in which something was said, not counting what the gateway asked by itself';
comment on column llm_logs.usage_by_day_and_user.prompt_tokens is 'tokens of the requests';
comment on column llm_logs.usage_by_day_and_user.completion_tokens is 'tokens of the answers';
comment on column llm_logs.usage_by_day_and_user.total_tokens is 'tokens of both';
comment on column llm_logs.usage_by_day_and_user.estimated_calls is 'calls whose tokens are an estimate';
comment on column llm_logs.usage_by_day_and_user.cost_usd is 'USD, of the calls whose price is known; null: of none';
comment on column llm_logs.usage_by_day_and_user.complete is 'calls that were answered to the end';
comment on column llm_logs.usage_by_day_and_user.truncated is 'answers that the upstream broke off';
comment on column llm_logs.usage_by_day_and_user.upstream_error is 'calls that the upstream failed';
comment on column llm_logs.usage_by_day_and_user.client_cancelled is 'answers that the caller broke off';
comment on column llm_logs.usage_by_day_and_user.policy_blocked is 'calls that the company''s policy refused';
comment on column llm_logs.usage_by_day_and_user.interrupted is 'answers that the end of a gateway broke off';

create view llm_logs.usage_by_user as
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
    max(response_time) as last_at
from llm_logs.usage_by_call
group by user_name;
comment on view llm_logs.usage_by_user is 'usage by user';
comment on column llm_logs.usage_by_user.user_name is 'who asked';
comment on column llm_logs.usage_by_user.title is 'job title of who asked, as it was last';
comment on column llm_logs.usage_by_user.calls is 'calls of every kind: chats, images and others';
comment on column llm_logs.usage_by_user.chats is 'calls that were chats';
comment on column llm_logs.usage_by_user.images is 'calls that made or changed images';
comment on column llm_logs.usage_by_user.conversations is 'conversations in which something was said, not counting what the gateway asked by itself';
comment on column llm_logs.usage_by_user.prompt_tokens is 'tokens of the requests';
comment on column llm_logs.usage_by_user.completion_tokens is 'tokens of the answers';
comment on column llm_logs.usage_by_user.total_tokens is 'tokens of both';
comment on column llm_logs.usage_by_user.estimated_calls is 'calls whose tokens are an estimate';
comment on column llm_logs.usage_by_user.cost_usd is 'USD, of the calls whose price is known; null: of none';
comment on column llm_logs.usage_by_user.complete is 'calls that were answered to the end';
comment on column llm_logs.usage_by_user.truncated is 'answers that the upstream broke off';
comment on column llm_logs.usage_by_user.upstream_error is 'calls that the upstream failed';
comment on column llm_logs.usage_by_user.client_cancelled is 'answers that the caller broke off';
comment on column llm_logs.usage_by_user.policy_blocked is 'calls that the company''s policy refused';
comment on column llm_logs.usage_by_user.interrupted is 'answers that the end of a gateway broke off';
comment on column llm_logs.usage_by_user.first_at is 'end of the first answer';
comment on column llm_logs.usage_by_user.last_at is 'end of the last answer';

create view llm_logs.usage_by_model as
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
    max(response_time) as last_at
from llm_logs.usage_by_call
group by model;
comment on view llm_logs.usage_by_model is 'usage by model';
comment on column llm_logs.usage_by_model.model is 'model that was asked for; null: none was named';
comment on column llm_logs.usage_by_model.users is 'users who asked it';
comment on column llm_logs.usage_by_model.calls is 'calls of every kind: chats, images and others';
comment on column llm_logs.usage_by_model.chats is 'calls that were chats';
comment on column llm_logs.usage_by_model.images is 'calls that made or changed images';
comment on column llm_logs.usage_by_model.conversations is 'conversations in which something was said, not counting what the gateway asked by itself';
comment on column llm_logs.usage_by_model.prompt_tokens is 'tokens of the requests';
comment on column llm_logs.usage_by_model.completion_tokens is 'tokens of the answers';
comment on column llm_logs.usage_by_model.total_tokens is 'tokens of both';
comment on column llm_logs.usage_by_model.estimated_calls is 'calls whose tokens are an estimate';
comment on column llm_logs.usage_by_model.cost_usd is 'USD, of the calls whose price is known; null: of none';
comment on column llm_logs.usage_by_model.complete is 'calls that were answered to the end';
comment on column llm_logs.usage_by_model.truncated is 'answers that the upstream broke off';
comment on column llm_logs.usage_by_model.upstream_error is 'calls that the upstream failed';
comment on column llm_logs.usage_by_model.client_cancelled is 'answers that the caller broke off';
comment on column llm_logs.usage_by_model.policy_blocked is 'calls that the company''s policy refused';
comment on column llm_logs.usage_by_model.interrupted is 'answers that the end of a gateway broke off';
comment on column llm_logs.usage_by_model.first_at is 'end of the first answer';
comment on column llm_logs.usage_by_model.last_at is 'end of the last answer';

create view llm_logs.usage_by_conversation as
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
    max(response_time) as last_at
from llm_logs.usage_by_call
where source = 'chat'
group by conversation, user_name;
comment on view llm_logs.usage_by_conversation is 'usage by conversation';
comment on column llm_logs.usage_by_conversation.conversation is 'id of the conversation';
comment on column llm_logs.usage_by_conversation.user_name is 'who asked';
comment on column llm_logs.usage_by_conversation.convo_title is 'title of the conversation, as it was last';
comment on column llm_logs.usage_by_conversation.is_internal is 'true: the gateway asked by itself, for a title or a summary';
comment on column llm_logs.usage_by_conversation.chats is 'calls that were chats';
comment on column llm_logs.usage_by_conversation.prompt_tokens is 'tokens of the requests';
comment on column llm_logs.usage_by_conversation.completion_tokens is 'tokens of the answers';
comment on column llm_logs.usage_by_conversation.total_tokens is 'tokens of both';
comment on column llm_logs.usage_by_conversation.estimated_calls is 'calls whose tokens are an estimate';
comment on column llm_logs.usage_by_conversation.complete is 'calls that were answered to the end';
comment on column llm_logs.usage_by_conversation.truncated is 'answers that the upstream broke off';
comment on column llm_logs.usage_by_conversation.upstream_error is 'calls that the upstream failed';
comment on column llm_logs.usage_by_conversation.client_cancelled is 'answers that the caller broke off';
comment on column llm_logs.usage_by_conversation.policy_blocked is 'calls that the company''s policy refused';
comment on column llm_logs.usage_by_conversation.interrupted is 'answers that the end of a gateway broke off';
comment on column llm_logs.usage_by_conversation.first_at is 'end of the first answer';
comment on column llm_logs.usage_by_conversation.last_at is 'end of the last answer';

-- migrate:down

do $$
begin
    raise exception 'reports rely on these views: there is no way down';
end
$$;
