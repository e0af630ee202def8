-- What people do with their conversations: name them, remove them, search them, ask for an answer once more.
--
-- squawk-ignore-file require-concurrent-index-creation, require-concurrent-index-deletion
-- ^ an index of a partitioned table cannot be made or dropped concurrently.

-- migrate:up

set local lock_timeout = '10s';
set local statement_timeout = 0;  -- a seed's log may be large

-- ── what was decided by hand ────────────────────────────────────────────────────────────────────────────────────────

create table llm_logs.conversation_settings (
    user_name text not null,
    root_gpt_id text not null,
    convo_title text,
    hidden_at timestamptz,
    changed_at timestamptz not null,
    primary key (user_name, root_gpt_id)
);
comment on table llm_logs.conversation_settings is
'what users have set for a conversation: its rows have it too, and rows that come later get it';
comment on column llm_logs.conversation_settings.user_name is 'whose conversation';
comment on column llm_logs.conversation_settings.root_gpt_id is 'id of the conversation';
comment on column llm_logs.conversation_settings.convo_title is 'title of all its rows; null: none was set';
comment on column llm_logs.conversation_settings.hidden_at is
'when it was removed from the history: what began before does not show; null: it was not';
comment on column llm_logs.conversation_settings.changed_at is 'when any of this was last changed';

alter table llm_logs.meta_summarizer_log add column metadata jsonb;
comment on column llm_logs.meta_summarizer_log.metadata is
'what the model derived, checked: chat_summary, satisfaction_score, work_related and so on';
create index meta_summarizer_log_user on llm_logs.meta_summarizer_log (user_name, response_time desc, id desc);

-- ── finding rows ────────────────────────────────────────────────────────────────────────────────────────────────────

-- The rows of a user's conversation, newest first. A seed's row without a root is a conversation of its own.
create index chatgpt_logs_conversation on llm_logs.chatgpt_logs
(user_name, (coalesce(root_gpt_id, id::text)), response_time desc, id desc);
drop index llm_logs.chatgpt_logs_root;

-- Has this been asked before? Only of /chat, for only /checkchat asks; the hash is of the jsonb value, not of its text.
create index chatgpt_logs_asked on llm_logs.chatgpt_logs
(user_name, jsonb_hash_extended(request, 0), response_time desc)
where path like '/chat%';

create function llm_logs.text_in(content jsonb) returns text
language sql immutable parallel safe
as $$
    select case jsonb_typeof(content)
        when 'string' then content #>> '{}'
        when 'array' then (
            select string_agg(part ->> 'text', ' ') from jsonb_array_elements(content) as part
        )
    end
$$;
comment on function llm_logs.text_in is 'The text of a message''s content: a string, or the text parts of a list';

create function llm_logs.search_prefix(user_name text) returns text
language sql immutable parallel safe
as $$
    select to_hex(hashtext(user_name)) || ':'
$$;
comment on function llm_logs.search_prefix is
'Stands before each of a user''s words in the index, so that a search never looks at those of others';

create function llm_logs.search_terms(user_name text, convo_title text, request jsonb, response jsonb)
returns tsvector
language plpgsql immutable
as $$
declare
    last jsonb;
    question text;
    answer text;
    prefix text;
    words tsvector;
begin
    last := request -> 'messages' -> -1;
    if last ->> 'role' = 'user' then
        question := llm_logs.text_in(last -> 'content');
    end if;
    answer := llm_logs.text_in(response -> 'choices' -> 0 -> 'message' -> 'content');
    if request -> 'input' is not null then  -- the Responses API
        question := coalesce(llm_logs.text_in(request -> 'input' -> -1 -> 'content'), request ->> 'input');
        answer := (
            select string_agg(llm_logs.text_in(content), ' ')
            from jsonb_path_query(response, '$.output[*].content') as content
        );
    end if;
    words := to_tsvector('pg_catalog.simple', concat_ws(' ', convo_title, left(question, 8000), left(answer, 8000)));
    prefix := llm_logs.search_prefix(user_name);
    return array_to_tsvector(string_to_array(
        prefix || array_to_string(tsvector_to_array(words), chr(1) || prefix), chr(1)
    ));
exception when others then
    return null;  -- whatever a row holds, it is kept; this one is not found by its words
end
$$;
comment on function llm_logs.search_terms is
'The words by which a row is found: of its title, the question and the answer, not of what was said before';

create function llm_logs.search_query(user_name text, words text) returns tsquery
language sql immutable
as $$
    select coalesce(
        string_agg(
            '''' || replace(replace(llm_logs.search_prefix(user_name) || word.lexeme, '\', '\\'), '''', '''''') || ''':*',
            ' & '
        ), ''
    )::tsquery
    from unnest(to_tsvector('pg_catalog.simple', left(words, 1000))) as word
$$;
comment on function llm_logs.search_query is 'Finds rows that hold all of these words, or words that begin so';

create index chatgpt_logs_search on llm_logs.chatgpt_logs
using gin (llm_logs.search_terms(user_name, convo_title, request, response));

-- migrate:down

do $$
begin
    raise exception 'what was set by hand is never taken back: there is no way down';
end
$$;
