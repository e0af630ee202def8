-- How far each process has shipped its journal, written in the transaction of each batch. So a database that was set back
-- (restored, failed over to a standby that was behind) shows it, and a host that leaves with its volume is missed.

-- migrate:up

set local lock_timeout = '3s';
set local statement_timeout = '60s';

create table llm_logs.hosts (
    journal_id uuid primary key,
    host_id uuid not null,
    host_name text not null,
    process_id bigint not null,
    version text not null,
    started_at timestamptz not null,
    seen_at timestamptz not null,
    cursor_segment bigint not null,
    cursor_offset bigint not null,
    shipped bigint not null,
    waiting bigint not null,
    skew_ms double precision,
    left_at timestamptz,
    left_cleanly boolean
) with (fillfactor = 50);  -- each batch updates a row: the new version finds room on the same page
comment on table llm_logs.hosts is
'one row for each journal, which is one for each process of the gateway; nothing of users, and nothing that they said';
comment on column llm_logs.hosts.journal_id is 'name of the journal''s folder; a UUIDv7, made when the process started';
comment on column llm_logs.hosts.host_id is
'id of the host, made once and kept in its data directory: processes with the same one can ship each other''s journals';
comment on column llm_logs.hosts.host_name is 'name of the machine or container';
comment on column llm_logs.hosts.process_id is 'process id on that machine';
comment on column llm_logs.hosts.version is 'version of the gateway';
comment on column llm_logs.hosts.started_at is 'when the process started, by this database''s clock';
comment on column llm_logs.hosts.seen_at is
'when the process, or the one that ships its journal after its end, was last heard of, by this database''s clock';
comment on column llm_logs.hosts.cursor_segment is 'journal file that is not whole in this database yet';
comment on column llm_logs.hosts.cursor_offset is 'everything before this byte of that file is in this database';
comment on column llm_logs.hosts.shipped is 'rows that this journal has made in this database; it only grows';
comment on column llm_logs.hosts.waiting is 'records in the journal that were not in this database when last heard of';
comment on column llm_logs.hosts.skew_ms is
'milliseconds by which the host''s clock was ahead of this database''s when last measured; null: not measured yet';
comment on column llm_logs.hosts.left_at is 'when the process said good-bye, or its journal was shipped for it; null: not yet';
comment on column llm_logs.hosts.left_cleanly is
'true: nothing waited in its journal then; null: it runs, or was not heard of any more';

-- migrate:down

do $$
begin
    raise exception 'what hosts have shipped is never taken back: there is no way down';
end
$$;
