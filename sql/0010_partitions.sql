-- Months can always be made and dropped: ids that are no UUIDv7 of our time (the original system's are random) lie apart,
-- in two partitions of their own, so that the default partition stays small enough to look through at once. What is in
-- the way of a month moves: with a lock of milliseconds where it is little, else copied beside the running gateway.
--
-- squawk-ignore-file prefer-bigint-over-int
-- ^ months and rows of one step are counted, not keys
--
-- Only functions are made here. They are called by the gateway, each call a transaction of its own: no lock is waited for
-- or held for longer than 100 ms.

-- migrate:up

set local lock_timeout = '3s';
set local statement_timeout = '30s';

create table llm_logs.regroupings (
    parent text primary key,
    copied uuid not null,
    is_copied boolean not null default false
);
comment on table llm_logs.regroupings is 'default partitions whose rows are being copied to where they belong';
comment on column llm_logs.regroupings.parent is 'the table whose default partition it is';
comment on column llm_logs.regroupings.copied is 'rows up to this id are copied';
comment on column llm_logs.regroupings.is_copied is 'true: all are; what has changed since remains';

create table llm_logs.regrouping_targets (
    parent text not null,
    name text primary key,
    since uuid,
    until uuid
);
comment on table llm_logs.regrouping_targets is 'partitions to which those rows go';
comment on column llm_logs.regrouping_targets.parent is 'the table whose partition it will be';
comment on column llm_logs.regrouping_targets.name is 'its name; until then it is called so with _new behind';
comment on column llm_logs.regrouping_targets.since is 'the least id; null: no bound';
comment on column llm_logs.regrouping_targets.until is 'the first id behind it; null: no bound';

create table llm_logs.regrouping_changes (
    nth bigint generated always as identity primary key,
    parent text not null,
    id uuid not null
);
comment on table llm_logs.regrouping_changes is 'rows of a default partition that changed while it was being copied';
comment on column llm_logs.regrouping_changes.nth is 'order of the changes';
comment on column llm_logs.regrouping_changes.parent is 'the table whose default partition it is';
comment on column llm_logs.regrouping_changes.id is 'the row';

create function llm_logs.is_uuid7(id uuid) returns boolean
language sql immutable strict parallel safe
as $$
    select substr(id::text, 15, 1) = '7'
$$;
comment on function llm_logs.is_uuid7 is 'Whether the id''s version says that it begins with a time; the original system''s do not';

create function llm_logs.missing_partitions(months_ahead integer)
returns table (parent text, name text, since uuid, until uuid, is_due boolean)
language plpgsql stable
as $$
declare
    this_month timestamp := date_trunc('month', now() at time zone 'utc');
    first_month timestamp;
    month timestamp;
    has_rows boolean;
begin
    foreach parent in array array['chatgpt_logs', 'api_logs'] loop
        select least(min(to_date(right(c.relname, 7), 'YYYY_MM')), this_month) into first_month
        from pg_inherits as i
        inner join pg_class as c on c.oid = i.inhrelid
        where i.inhparent = ('llm_logs.' || parent)::regclass and c.relname ~ ('^' || parent || '_[0-9]{4}_[0-9]{2}$');
        is_due := false;
        name := parent || '_before';
        since := null;
        until := llm_logs.first_id(first_month at time zone 'utc');
        if to_regclass('llm_logs.' || name) is null then
            return next;
        end if;
        name := parent || '_foreign';
        since := llm_logs.first_id('2050-01-01 00:00:00+00');
        until := null;
        if to_regclass('llm_logs.' || name) is null then
            return next;
        end if;
        month := first_month;
        while month <= this_month + make_interval(months => months_ahead) loop
            name := parent || to_char(month, '_YYYY_MM');
            since := llm_logs.first_id(month at time zone 'utc');
            until := llm_logs.first_id((month + interval '1 month') at time zone 'utc');
            is_due := month >= this_month;
            if to_regclass('llm_logs.' || name) is null then
                has_rows := is_due;
                if not has_rows then  -- a month that was dropped comes back only for rows of its time
                    execute format(
                        'select exists (select from llm_logs.%I where id >= $1 and id < $2 and llm_logs.is_uuid7(id))',
                        parent || '_default'
                    ) into has_rows using since, until;
                end if;
                if has_rows then
                    return next;
                end if;
            end if;
            month := month + interval '1 month';
        end loop;
    end loop;
end
$$;
comment on function llm_logs.missing_partitions is
'Partitions that are to be made, with their ranges; due: those of this month and of so many after it';

create function llm_logs.tune_search(partition regclass) returns void
language plpgsql
as $$
declare
    index_name text;
begin
    -- A batch of rows must not wait until 4 MB of the search index are sorted in: the gateway does that by itself.
    for index_name in
        select i.indexrelid::regclass::text
        from pg_index as i
        inner join pg_class as c on c.oid = i.indexrelid
        inner join pg_am as a on a.oid = c.relam and a.amname = 'gin'
        where i.indrelid = partition
    loop
        execute format('alter index %s set (gin_pending_list_limit = 65536)', index_name);
    end loop;
    execute format(
        'alter table %s set (autovacuum_vacuum_insert_scale_factor = 0.02, autovacuum_analyze_scale_factor = 0.02)', partition
    );
end
$$;
comment on function llm_logs.tune_search is 'Lets the search index of a partition grow by large batches';

create function llm_logs.next_index(parent regclass, partition regclass) returns boolean
language plpgsql
as $$
declare
    definition text;
begin
    select
        case
            when i.indisprimary then format('alter table %s add primary key (id)', partition)
            else format('create index on %s %s', partition, substring(pg_get_indexdef(i.indexrelid) from 'USING .*'))
        end
    into definition
    from pg_index as i
    where i.indrelid = parent
    order by i.indisprimary desc, i.indexrelid
    offset (select count(*) from pg_index as made where made.indrelid = partition)
    limit 1;
    if definition is null then
        return false;
    end if;
    execute definition;
    return true;
end
$$;
comment on function llm_logs.next_index is
'Makes the next index of a table that will be a partition: for a full table in a fifth of the time that rows one by one take';

create function llm_logs.take_name(name text) returns void
language plpgsql
as $$
declare
    index_name text;
begin
    for index_name in
        select c.relname from pg_index as i inner join pg_class as c on c.oid = i.indexrelid
        where i.indrelid = ('llm_logs.' || quote_ident(name || '_new'))::regclass and strpos(c.relname, name || '_new') > 0
    loop
        execute format('alter index llm_logs.%I rename to %I', index_name, replace(index_name, name || '_new', name));
    end loop;
    execute format('alter table llm_logs.%I rename to %I', name || '_new', name);
end
$$;
comment on function llm_logs.take_name is 'Takes _new from the name of a table, and from those of its indexes';

create function llm_logs.bounds(since uuid, until uuid) returns text
language sql immutable
as $$
    select format(
        'from (%s) to (%s)', coalesce(quote_literal(since), 'minvalue'), coalesce(quote_literal(until), 'maxvalue')
    )
$$;
comment on function llm_logs.bounds is 'The range of a partition, for `for values`; null: no bound';

create function llm_logs.is_within(since uuid, until uuid) returns text
language sql immutable
as $$
    select concat_ws(' and ', 'id >= ' || quote_literal(since) || '::uuid', 'id < ' || quote_literal(until) || '::uuid')
$$;
comment on function llm_logs.is_within is 'The same as a condition';

create or replace function llm_logs.make_partitions(months_ahead integer) returns integer
language plpgsql
set lock_timeout = '3s'
as $$
declare
    wanted record;
    rest text;
    in_the_way bigint;
    made integer := 0;
begin
    perform pg_advisory_xact_lock(hashtextextended('llm_logs.make_partitions', 0));
    perform set_config('lock_timeout', '100ms', true);
    for wanted in
        select m.* from llm_logs.missing_partitions(months_ahead) as m
        where not exists (select from llm_logs.regroupings as r where r.parent = m.parent)
    loop
        rest := wanted.parent || '_default';
        begin
            execute format(
                'select count(*) from (select from llm_logs.%I where %s limit 101) as moved',
                rest, llm_logs.is_within(wanted.since, wanted.until)
            ) into in_the_way;
            -- To attach a partition is to look through the default one, under its lock.
            if in_the_way > 100 or pg_relation_size(('llm_logs.' || quote_ident(rest))::regclass) > 64 * 1024 * 1024 then
                raise notice 'no partition % yet: first, the rows of % are regrouped', wanted.name, rest;
            else
                execute format(
                    'create table llm_logs.%I (like llm_logs.%I including all)', wanted.name || '_new', wanted.parent
                );
                perform llm_logs.tune_search(('llm_logs.' || quote_ident(wanted.name || '_new'))::regclass);
            end if;
        exception when others then
            raise notice 'no partition %: %', wanted.name, sqlerrm;  -- rights are missing
        end;
    end loop;
    -- Only now are others kept waiting.
    for wanted in
        select m.* from llm_logs.missing_partitions(months_ahead) as m
        where not exists (select from llm_logs.regroupings as r where r.parent = m.parent)
            and to_regclass('llm_logs.' || m.name || '_new') is not null
    loop
        rest := wanted.parent || '_default';
        begin
            execute format('lock table only llm_logs.%I in share update exclusive mode', wanted.parent);
            execute format('lock table only llm_logs.%I in access exclusive mode', rest);
            execute format(
                'with moved as (delete from llm_logs.%I where %s returning *) insert into llm_logs.%I select * from moved',
                rest, llm_logs.is_within(wanted.since, wanted.until), wanted.name || '_new'
            );
            perform llm_logs.take_name(wanted.name);
            execute format(
                'alter table llm_logs.%I attach partition llm_logs.%I for values %s',
                wanted.parent, wanted.name, llm_logs.bounds(wanted.since, wanted.until)
            );
            made := made + 1;
        exception when others then
            raise notice 'no partition %: %', wanted.name, sqlerrm;  -- the tables are in use
            execute format('drop table llm_logs.%I', wanted.name || '_new');
        end;
    end loop;
    return made;
end
$$;
comment on function llm_logs.make_partitions is
'Makes what is missing of the partitions where little is in the way; returns how many it made. Never fails';

create function llm_logs.note_regrouping_change() returns trigger
language plpgsql
as $$
begin
    insert into llm_logs.regrouping_changes (parent, id) values (tg_argv[0], coalesce(new.id, old.id));
    return null;
end
$$;
comment on function llm_logs.note_regrouping_change is 'Notes a row that changes while it is being copied';

create function llm_logs.copy_rows(parent text, which text) returns void
language plpgsql
as $$
declare
    target record;
    others text := '';
begin
    for target in select * from llm_logs.regrouping_targets as t where t.parent = copy_rows.parent loop
        execute format(
            'insert into llm_logs.%I select * from llm_logs.%I where %s and %s',
            target.name || '_new', parent || '_default', which, llm_logs.is_within(target.since, target.until)
        );
        others := others || format(' and not (%s)', llm_logs.is_within(target.since, target.until));
    end loop;
    execute format(
        'insert into llm_logs.%I select * from llm_logs.%I where %s%s',
        parent || '_default_new', parent || '_default', which, others
    );
end
$$;
comment on function llm_logs.copy_rows is 'Copies rows of a default partition to the tables that will take its place';

create function llm_logs.copy_changes(parent text, most integer) returns integer
language plpgsql
as $$
declare
    ids uuid [];
    changes integer;
    name text;
begin
    with taken as (
        delete from llm_logs.regrouping_changes as c
        where c.nth in (
            select o.nth from llm_logs.regrouping_changes as o where o.parent = copy_changes.parent order by o.nth limit most
        )
        returning c.id
    )
    select coalesce(array_agg(distinct id), '{}'), count(*) into ids, changes from taken;
    if changes = 0 then
        return 0;
    end if;
    for name in
        select t.name from llm_logs.regrouping_targets as t where t.parent = copy_changes.parent
        union all
        select parent || '_default'
    loop
        execute format('delete from llm_logs.%I where id = any($1)', name || '_new') using ids;
    end loop;
    perform llm_logs.copy_rows(parent, format('id = any(%L::uuid [])', ids));
    return changes;
end
$$;
comment on function llm_logs.copy_changes is 'Copies rows again that have changed since they were copied; returns how many changes it took: of a row, there may be many';

create function llm_logs.stop_regrouping(parent text) returns void
language plpgsql
as $$
declare
    name text;
begin
    for name in
        select c.relname from pg_class as c
        where c.relnamespace = 'llm_logs'::regnamespace and c.relkind = 'r' and not c.relispartition
            and c.relname ~ ('^' || parent || '_.*_(new|old)$')
    loop
        execute format('drop table llm_logs.%I', name);
    end loop;
    execute format('drop trigger if exists regrouping on llm_logs.%I', parent || '_default');
    delete from llm_logs.regroupings as r where r.parent = stop_regrouping.parent;
    delete from llm_logs.regrouping_targets as t where t.parent = stop_regrouping.parent;
    delete from llm_logs.regrouping_changes as c where c.parent = stop_regrouping.parent;
end
$$;
comment on function llm_logs.stop_regrouping is 'Throws away what has been copied; the rows stay where they are';

create function llm_logs.regroup(parent text, most integer, months_ahead integer) returns text
language plpgsql
set lock_timeout = '100ms'
as $$
declare
    rest text := parent || '_default';
    state llm_logs.regroupings;
    target record;
    index_name text;
    last uuid;
begin
    if not pg_try_advisory_xact_lock(hashtextextended('llm_logs.regroup', 0)) then
        return 'busy';
    end if;
    select * into state from llm_logs.regroupings as r where r.parent = regroup.parent;

    if state.parent is null then
        perform llm_logs.stop_regrouping(parent);
        insert into llm_logs.regrouping_targets (parent, name, since, until)
        select m.parent, m.name, m.since, m.until
        from llm_logs.missing_partitions(months_ahead) as m where m.parent = regroup.parent;
        if not found then
            return 'done';
        end if;
        execute format(
            'create table llm_logs.%I (like llm_logs.%I including all excluding indexes)', rest || '_new', parent
        );
        for target in select * from llm_logs.regrouping_targets as t where t.parent = regroup.parent loop
            execute format(
                'create table llm_logs.%I (like llm_logs.%I including all excluding indexes)', target.name || '_new', parent
            );
            execute format(
                'alter table llm_logs.%I add constraint in_range check (%s)',
                target.name || '_new', llm_logs.is_within(target.since, target.until)
            );
        end loop;
        insert into llm_logs.regroupings (parent, copied) values (parent, '00000000-0000-0000-0000-000000000000');
        execute format(
            'create trigger regrouping after insert or update or delete on llm_logs.%I
             for each row execute function llm_logs.note_regrouping_change(%L)', rest, parent
        );
        return 'begun';
    end if;

    if (  -- a later version of the gateway has added columns meanwhile
        select array_agg(a.attname order by a.attnum) from pg_attribute as a
        where a.attrelid = ('llm_logs.' || quote_ident(rest || '_new'))::regclass and a.attnum > 0
    ) is distinct from (
        select array_agg(a.attname order by a.attnum) from pg_attribute as a
        where a.attrelid = ('llm_logs.' || quote_ident(parent))::regclass and a.attnum > 0 and not a.attisdropped
    ) then
        perform llm_logs.stop_regrouping(parent);
        return 'stopped';
    end if;

    if not state.is_copied then
        execute format(
            'select id from (select id from llm_logs.%I where id > $1 order by id limit $2) as next_ones
             order by id desc limit 1', rest
        ) into last using state.copied, most;
        if last is not null then
            perform llm_logs.copy_rows(parent, format('id > %L and id <= %L', state.copied, last));
            update llm_logs.regroupings as r set copied = last where r.parent = regroup.parent;
            return 'copying';
        end if;
        for target in
            select ('llm_logs.' || quote_ident(t.name || '_new'))::regclass as partition
            from llm_logs.regrouping_targets as t where t.parent = regroup.parent
            union all
            select ('llm_logs.' || quote_ident(rest || '_new'))::regclass
        loop
            if llm_logs.next_index(('llm_logs.' || quote_ident(parent))::regclass, target.partition) then
                return 'indexing';
            end if;
        end loop;
        for target in
            select ('llm_logs.' || quote_ident(t.name || '_new'))::regclass as partition
            from llm_logs.regrouping_targets as t where t.parent = regroup.parent
            union all
            select ('llm_logs.' || quote_ident(rest || '_new'))::regclass
        loop
            perform llm_logs.tune_search(target.partition);
            execute format('analyze %s', target.partition);
        end loop;
        update llm_logs.regroupings as r set is_copied = true where r.parent = regroup.parent;
        return 'copied';
    end if;

    if llm_logs.copy_changes(parent, 200) = 200 then
        return 'catching up';
    end if;
    -- From here on nobody reads or writes the table until this transaction ends, a few milliseconds later.
    execute format('lock table only llm_logs.%I in access exclusive mode', parent);
    execute format('lock table only llm_logs.%I in access exclusive mode', rest);
    if llm_logs.copy_changes(parent, 100) = 100 then
        return 'catching up';
    end if;
    execute format('drop trigger regrouping on llm_logs.%I', rest);
    execute format('alter table llm_logs.%I detach partition llm_logs.%I', parent, rest);
    execute format('alter table llm_logs.%I rename to %I', rest, rest || '_old');
    for index_name in
        select c.relname from pg_index as i inner join pg_class as c on c.oid = i.indexrelid
        where i.indrelid = ('llm_logs.' || quote_ident(rest || '_old'))::regclass
    loop
        execute format('alter index llm_logs.%I rename to %I', index_name, rest || '_old_' || md5(index_name));
    end loop;
    for target in select * from llm_logs.regrouping_targets as t where t.parent = regroup.parent loop
        perform llm_logs.take_name(target.name);
        execute format(
            'alter table llm_logs.%I attach partition llm_logs.%I for values %s',
            parent, target.name, llm_logs.bounds(target.since, target.until)
        );
        execute format('alter table llm_logs.%I drop constraint in_range', target.name);
    end loop;
    perform llm_logs.take_name(rest);
    execute format('alter table llm_logs.%I attach partition llm_logs.%I default', parent, rest);
    delete from llm_logs.regroupings as r where r.parent = regroup.parent;
    delete from llm_logs.regrouping_targets as t where t.parent = regroup.parent;
    return 'regrouped';
end
$$;
comment on function llm_logs.regroup is
'One step of replacing a large default partition by those where its rows belong, without keeping anybody from them; done: nothing is left to do';

create function llm_logs.drop_month(month date) returns integer
language plpgsql
set lock_timeout = '100ms'
as $$
declare
    suffix text := to_char(month, '_YYYY_MM');
    parent text;
    parents text [] := '{}';
    foreign_ids uuid [] := '{}';
begin
    if month >= date_trunc('month', now() at time zone 'utc') then
        raise exception 'the month % is not over', to_char(month, 'YYYY-MM');
    end if;
    foreach parent in array array['chatgpt_logs', 'api_logs'] loop
        continue when to_regclass('llm_logs.' || parent || suffix) is null;
        parents := parents || parent;
        execute format('select $1 || array(select id from llm_logs.%I where not llm_logs.is_uuid7(id))', parent || suffix)
        into foreign_ids using foreign_ids;
    end loop;
    -- Each attempt takes all locks, waits 100 ms at most for each, and lets go of all before the next: a reader of the
    -- second table must not keep anybody from the first.
    for attempt in 1..50 loop
        begin
            foreach parent in array parents loop
                execute format('lock table only llm_logs.%I in access exclusive mode', parent);
                execute format('alter table llm_logs.%I detach partition llm_logs.%I', parent, parent || suffix);
            end loop;
            exit;
        exception when lock_not_available then
            if attempt = 50 then
                raise;
            end if;
            perform pg_sleep(0.1);
        end;
    end loop;
    foreach parent in array parents loop
        -- Random ids that fall into the month's range are of any time, and stay.
        execute format(
            'insert into llm_logs.%I select * from llm_logs.%I where id = any($1)', parent || '_default', parent || suffix
        ) using foreign_ids;
        execute format('drop table llm_logs.%I', parent || suffix);
    end loop;
    return cardinality(parents);
end
$$;
comment on function llm_logs.drop_month is
'Drops the rows of a past month, cheaply: its partitions of chatgpt_logs and api_logs; returns how many there were';

create function llm_logs.tune_next() returns text
language plpgsql
set lock_timeout = '100ms'
as $$
declare
    next_one record;
begin
    -- lz4 takes half the time of what Postgres does by default, where the server has it.
    if exists (select from pg_settings where name = 'default_toast_compression' and 'lz4' = any(enumvals)) then
        select c.oid::regclass as name, string_agg(format('alter column %I set compression lz4', a.attname), ', ') as changes
        into next_one
        from pg_class as c
        inner join pg_attribute as a
            on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped and a.attcompression <> 'l'
                and a.atttypid in ('jsonb'::regtype, 'bytea'::regtype)
        where c.relnamespace = 'llm_logs'::regnamespace and c.relkind in ('p', 'r')
            and c.relname ~ '^(chatgpt_logs|api_logs|image_logs|meta_summarizer_log)(_before|_foreign|_default|_[0-9]{4}_[0-9]{2})?$'
            and pg_has_role(c.relowner, 'usage')
        group by c.oid
        limit 1;
        if found then
            execute format('alter table only %s %s', next_one.name, next_one.changes);
            return next_one.name;
        end if;
    end if;
    select c.oid::regclass as name into next_one
    from pg_class as c
    inner join pg_am as a on a.oid = c.relam and a.amname = 'gin'
    where c.relnamespace = 'llm_logs'::regnamespace and c.relkind = 'i' and pg_has_role(c.relowner, 'usage')
        and not coalesce(c.reloptions @> array['gin_pending_list_limit=65536'], false)
    limit 1;
    if found then
        execute format('alter index %s set (gin_pending_list_limit = 65536)', next_one.name);
        return next_one.name;
    end if;
    return null;
end
$$;
comment on function llm_logs.tune_next is
'Sets how one table is compressed, or how one search index grows, where it is not set yet; returns its name, null: all are set';

create function llm_logs.clean_pending_list(search_index oid) returns bigint
language sql
security definer set search_path = pg_catalog
as $$
    select gin_clean_pending_list(c.oid::regclass)
    from pg_class as c
    inner join pg_am as a on a.oid = c.relam and a.amname = 'gin'
    where c.oid = search_index and c.relkind = 'i' and c.relnamespace = 'llm_logs'::regnamespace
$$;
comment on function llm_logs.clean_pending_list is
'Sorts new rows into a search index, also for a role that does not own it; returns how many pages waited';

-- migrate:down

do $$
begin
    raise exception 'the log is never taken back: there is no way down';
end
$$;
