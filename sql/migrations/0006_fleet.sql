-- Actions on many VMs: one parent task, which no worker runs, with a child a VM.
alter table tasks
    -- What a worker has to know besides: the new title, the actions of a parent.
    add column params jsonb,
    add column parent_id uuid references tasks on delete cascade,
    -- A child that waits until another of its parent and host has ended.
    add column held boolean not null default false,
    -- Of a parent: its children, counted as they end.
    add column progress jsonb,
    drop constraint tasks_state_check,
    drop constraint tasks_lane_check,
    add constraint tasks_state_check check (
        state in ('queued', 'running', 'done', 'failed', 'interrupted', 'cancelled')
    ),
    add constraint tasks_lane_check check (lane in ('power', 'look', 'fleet'));

create index tasks_parent on tasks (parent_id, host_id, id) where parent_id is not null;

-- A host that is being added or moved: one of it at a time.
drop index tasks_host_connecting;
create unique index tasks_host_connecting on tasks (host_id)
    where kind in ('connect', 'move') and state in ('queued', 'running');

-- The end of a child is counted by its parent, whoever ends it and in whatever way. The
-- last one ends the parent, with the first problem as its own. The parent's row is the
-- lock under which the next child of the same host is let go, so that never more than
-- were let go at the beginning are under way.
create function child_ended() returns trigger language plpgsql as $$
begin
    update tasks p set
        progress = jsonb_set(
            p.progress, array[new.state], to_jsonb((p.progress ->> new.state)::int + 1)
        ),
        problem = coalesce(
            p.problem, new.problem || jsonb_build_object('task', new.id)
        )
    where p.id = new.parent_id;
    if not old.held then
        update tasks set held = false, rung_at = to_timestamp(0)
        where id = (
            select id from tasks
            where parent_id = new.parent_id and host_id = new.host_id
                and held and state = 'queued'
            order by id
            for update skip locked
            limit 1
        );
    end if;
    update tasks p set
        ended_at = now(),
        state = case
            when (progress ->> 'failed')::int + (progress ->> 'interrupted')::int > 0
                then 'failed'
            when (progress ->> 'cancelled')::int > 0 then 'cancelled'
            else 'done' end
    where p.id = new.parent_id and p.ended_at is null
        and (progress ->> 'total')::int = (progress ->> 'done')::int
            + (progress ->> 'failed')::int + (progress ->> 'interrupted')::int
            + (progress ->> 'cancelled')::int;
    return null;
end $$;

create trigger child_ended after update on tasks for each row
when (new.parent_id is not null and old.ended_at is null and new.ended_at is not null)
execute function child_ended();

-- What the host has to give, as the last full look found it.
alter table hosts
    add column cpu_count integer,
    add column memory_bytes bigint;

-- Everything of a VM that somebody may look for, in small letters. Line breaks stand
-- between the parts, so that no search finds the end of one and the beginning of another.
create extension if not exists pg_trgm;

create function vm_words(
    name text, title text, description text, uuid uuid, hardware jsonb
)
returns text language sql immutable parallel safe as $$
    select lower(concat_ws(e'\n', name, title, description, uuid::text, (
        select string_agg(word #>> '{}', e'\n')
        from (
            select jsonb_path_query(hardware, '$.disks[*].path') as word
            union all
            select jsonb_path_query(hardware, '$.networks[*].mac.address')
            union all
            select jsonb_path_query(hardware, '$.networks[*].source.*')
            union all
            select jsonb_path_query(hardware, '$.networks[*].target.dev')
        ) words
    )))
$$;

alter table vms add column words text
    generated always as (vm_words(name, title, description, uuid, hardware)) stored;

create index vms_words on vms using gin (words gin_trgm_ops);
create index vms_uuid on vms (uuid);
-- For lists that are sorted by name; page by page, in the order of the database.
create index vms_sorted on vms (name, db_id);
