-- Keys that users make for themselves, for a while: see the setting auth.own_keys_s.

-- migrate:up

set local lock_timeout = '10s';
set local statement_timeout = '60s';

alter table llm_logs.api_keys
add column is_own boolean not null default false,
add column made_with uuid;
alter table llm_logs.api_keys
add constraint api_keys_made_with foreign key (made_with) references llm_logs.api_keys (id) not valid,
add constraint api_keys_own check (not is_own or (expires_at is not null and roles = array['user'])) not valid;
comment on column llm_logs.api_keys.is_own is 'true: its user made it; it expires, has no role but user, and makes no keys';
comment on column llm_logs.api_keys.made_with is 'key with which its user made it: when that one is revoked, it counts no more either';

-- migrate:down

do $$
begin
    raise exception 'keys are never taken back, for their holders would be locked out: there is no way down';
end
$$;
