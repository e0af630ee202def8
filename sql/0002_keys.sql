-- The gateway's keys: whom each stands for, and a digest by which it is known again. A key itself is kept nowhere.

-- migrate:up

set local lock_timeout = '10s';
set local statement_timeout = '60s';

create table llm_logs.api_keys (
    id uuid primary key,
    digest bytea not null unique check (octet_length(digest) = 32),
    hint text not null,
    name text not null,
    user_name text not null check (user_name <> ''),
    title text,
    roles text [] not null check (roles <@ array['user', 'auditor', 'admin']),
    allowed_models text [] check (array_position(allowed_models, null) is null),
    created_at timestamptz not null,
    created_by text not null,
    expires_at timestamptz,
    last_used_at timestamptz,
    revoked_at timestamptz,
    revoked_by text
);
comment on table llm_logs.api_keys is 'keys of the gateway: whom each stands for; set revoked_at, and the key counts no more within seconds';
comment on column llm_logs.api_keys.id is 'id of the key, as key_id in the log; a UUIDv7, which sorts by time';
comment on column llm_logs.api_keys.digest is 'SHA-256 of the key; the key itself is kept nowhere';
comment on column llm_logs.api_keys.hint is 'last characters of the key, to tell keys apart';
comment on column llm_logs.api_keys.name is 'what the key is for, in its holder''s words';
comment on column llm_logs.api_keys.user_name is 'user that the key stands for, as user_name in the log';
comment on column llm_logs.api_keys.title is 'job title of that user';
comment on column llm_logs.api_keys.roles is 'what the user may do: user, auditor (reads everybody''s rows), admin (manages keys)';
comment on column llm_logs.api_keys.allowed_models is 'models that the key may use; null: every model';
comment on column llm_logs.api_keys.created_at is 'when the key was made';
comment on column llm_logs.api_keys.created_by is 'who made it';
comment on column llm_logs.api_keys.expires_at is 'from when on it counts no more; null: it does not expire';
comment on column llm_logs.api_keys.last_used_at is 'when it was last used, about half a minute behind';
comment on column llm_logs.api_keys.revoked_at is 'when it was revoked; null: it was not';
comment on column llm_logs.api_keys.revoked_by is 'who revoked it';

create index api_keys_user on llm_logs.api_keys (user_name, id desc);

-- One row, which every change of keys replaces. A gateway compares it with what it saw last, every other second, and reads
-- the keys anew when it differs. A random value, and no counter: a restored database may not look like one already seen.
create table llm_logs.api_keys_edition (
    only_row boolean primary key default true check (only_row),
    edition uuid not null default gen_random_uuid()
);
comment on table llm_logs.api_keys_edition is 'one row, changed by every change of llm_logs.api_keys';
comment on column llm_logs.api_keys_edition.only_row is 'always true';
comment on column llm_logs.api_keys_edition.edition is 'another value after every change of keys';

insert into llm_logs.api_keys_edition default values;

create function llm_logs.note_key_change() returns trigger
language plpgsql
as $$
begin
    insert into llm_logs.api_keys_edition default values
    on conflict (only_row) do update set edition = excluded.edition;
    return null;
end
$$;
comment on function llm_logs.note_key_change is 'Tells the gateways that keys have changed, also when they were changed by hand';

create trigger api_keys_changed
after insert or delete or truncate or update of digest, user_name, title, roles, allowed_models, expires_at, revoked_at
on llm_logs.api_keys
for each statement execute function llm_logs.note_key_change();

-- migrate:down

do $$
begin
    raise exception 'keys are never taken back, for their holders would be locked out: there is no way down';
end
$$;
