-- What the policy did, in each row; and the rows in the order in which they arrive, for those who watch.

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

-- migrate:down

do $$
begin
    raise exception 'the log is never taken back: there is no way down';
end
$$;
