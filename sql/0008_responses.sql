-- Turns of the Responses API find their conversation: by the id of the answer before, or of an item of it. What was said
-- before, sent again, is a snapshot as it is for chat completions.
--
-- squawk-ignore-file require-concurrent-index-creation
-- ^ an index of a partitioned table cannot be made concurrently.

-- migrate:up

set local lock_timeout = '10s';
set local statement_timeout = 0;  -- the log may be large

alter table llm_logs.chatgpt_logs add column answer_hash bytea, add column item_hash bytea;
comment on column llm_logs.chatgpt_logs.answer_hash is
'hash of the answer''s id, by which a later response may name it as the one that it goes on from';
comment on column llm_logs.chatgpt_logs.item_hash is
'hash of the id of the answer''s last item, by which a later response may refer to it';

create index chatgpt_logs_answer on llm_logs.chatgpt_logs (user_name, answer_hash, id)
where answer_hash is not null;
create index chatgpt_logs_item on llm_logs.chatgpt_logs (user_name, item_hash, id)
where item_hash is not null;

-- migrate:down

do $$
begin
    raise exception 'the log is never taken back: there is no way down';
end
$$;
