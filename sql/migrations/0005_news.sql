-- What changed, for whoever was away: each row says "look at this resource again".
--
-- A position is drawn before its transaction commits, so positions alone may appear
-- late. A reader takes rows of transactions below the oldest one still running, by
-- (xid, position): nothing can appear any more before a row that was read.
create table news (
    xid xid8 not null default pg_current_xact_id(),
    position bigint generated always as identity,
    at timestamptz not null default now(),
    topic text not null check (topic in ('hosts', 'vms', 'tasks')),
    host_id text not null,
    -- Of a VM its UUID, of a task its id; none of a host, and none for "all its VMs".
    resource uuid,
    primary key (xid, position)
);

-- The last row that was pruned: whoever has read less far has missed something.
create table news_pruned (
    one boolean primary key default true check (one),
    xid xid8 not null default '0',
    position bigint not null default 0
);
insert into news_pruned default values;

-- A revision counts what clients can see of a resource, whoever writes it.
alter table tasks add column revision bigint not null default 1;
-- How often the host's VMs became stale or fresh, which is part of their revision.
alter table hosts add column turns bigint not null default 0;

create or replace view listed_vms as
select v.db_id, v.host_db_id, h.id as host_id, v.uuid, v.name, v.title, v.description,
    v.vcpu_count, v.memory_bytes, v.state, v.state_reason, v.persistent, v.autostart,
    v.graphics, h.state <> 'connected' as stale,
    greatest(v.observed_at, h.observed_at) as observed_at, v.observation,
    v.revision + h.turns as revision
from vms v join hosts h on h.db_id = v.host_db_id;

create function revise() returns trigger language plpgsql as $$
begin
    new.revision := old.revision + 1;
    return new;
end $$;

create function turn() returns trigger language plpgsql as $$
begin
    new.turns := old.turns + 1;
    return new;
end $$;

-- Only for writers that forgot. What is left out of the comparison is bookkeeping.
create trigger revise before update on hosts for each row
when (
    new.revision = old.revision
    and to_jsonb(new) - '{observation,observed_at,turns}'::text[]
        is distinct from to_jsonb(old) - '{observation,observed_at,turns}'::text[]
)
execute function revise();

create trigger turn before update on hosts for each row
when ((new.state = 'connected') <> (old.state = 'connected'))
execute function turn();

create trigger revise before update on vms for each row
when (
    new.revision = old.revision
    and (
        new.name, new.title, new.description, new.vcpu_count, new.memory_bytes,
        new.state, new.state_reason, new.persistent, new.autostart, new.graphics
    ) is distinct from (
        old.name, old.title, old.description, old.vcpu_count, old.memory_bytes,
        old.state, old.state_reason, old.persistent, old.autostart, old.graphics
    )
)
execute function revise();

create trigger revise before update on tasks for each row
when (
    new.revision = old.revision
    and to_jsonb(new) - '{rung_at,process_id}'::text[]
        is distinct from to_jsonb(old) - '{rung_at,process_id}'::text[]
)
execute function revise();

create function hosts_added() returns trigger language plpgsql as $$
begin
    insert into news (topic, host_id) select 'hosts', id from added;
    return null;
end $$;

create function hosts_updated() returns trigger language plpgsql as $$
begin
    insert into news (topic, host_id)
    select 'hosts', n.id from updated n join before o using (db_id)
    where n.revision <> o.revision;
    insert into news (topic, host_id)
    select 'vms', n.id from updated n join before o using (db_id)
    where n.turns <> o.turns;
    return null;
end $$;

-- Before the row goes: afterwards nobody knows what its VMs belonged to.
create function host_going() returns trigger language plpgsql as $$
begin
    insert into news (topic, host_id, resource)
    select 'vms', old.id, uuid from vms where host_db_id = old.db_id;
    insert into news (topic, host_id) values ('hosts', old.id);
    return old;
end $$;

create function vms_added() returns trigger language plpgsql as $$
begin
    insert into news (topic, host_id, resource)
    select 'vms', h.id, n.uuid from added n join hosts h on h.db_id = n.host_db_id;
    return null;
end $$;

create function vms_updated() returns trigger language plpgsql as $$
begin
    insert into news (topic, host_id, resource)
    select 'vms', h.id, n.uuid
    from updated n join before o using (db_id) join hosts h on h.db_id = n.host_db_id
    where n.revision <> o.revision;
    return null;
end $$;

create function vms_removed() returns trigger language plpgsql as $$
begin
    insert into news (topic, host_id, resource)
    select 'vms', h.id, o.uuid from removed o join hosts h on h.db_id = o.host_db_id;
    return null;
end $$;

-- A monitor's own looks are no news, as they are left out of GET /api/tasks.
create function tasks_added() returns trigger language plpgsql as $$
begin
    insert into news (topic, host_id, resource)
    select 'tasks', host_id, id from added where requested_by <> 'monitor';
    return null;
end $$;

create function tasks_updated() returns trigger language plpgsql as $$
begin
    insert into news (topic, host_id, resource)
    select 'tasks', n.host_id, n.id from updated n join before o using (id)
    where n.revision <> o.revision and n.requested_by <> 'monitor';
    return null;
end $$;

create trigger added after insert on hosts
referencing new table as added for each statement execute function hosts_added();
create trigger updated after update on hosts
referencing old table as before new table as updated
for each statement execute function hosts_updated();
create trigger going before delete on hosts
for each row execute function host_going();

create trigger added after insert on vms
referencing new table as added for each statement execute function vms_added();
create trigger updated after update on vms
referencing old table as before new table as updated
for each statement execute function vms_updated();
create trigger removed after delete on vms
referencing old table as removed for each statement execute function vms_removed();

create trigger added after insert on tasks
referencing new table as added for each statement execute function tasks_added();
create trigger updated after update on tasks
referencing old table as before new table as updated
for each statement execute function tasks_updated();
