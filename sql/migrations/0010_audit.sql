-- Who did what to which VM, from where, and how it ended. Rows are added and stay.
--
-- asked    a request wrote a task; ended: that task, or a child of it, ended
-- done     a request changed something without a task
-- refused  a request was turned away; many alike within a minute are one row
-- outside  a look found what nobody had asked for here: somebody used virsh
create table audit (
    id bigint generated always as identity primary key,
    at timestamptz not null default now(),
    event text not null
        check (event in ('asked', 'ended', 'done', 'refused', 'outside')),
    token_id uuid,
    token text,
    address text,
    request_id text,
    method text,
    route text,
    action text,
    host_id text,
    vm_uuid uuid,
    vm_name text,
    task_id uuid,
    outcome text,
    status smallint,
    problem text,
    detail text,
    times integer not null default 1
);
create index audit_asked on audit (task_id) where event = 'asked';
create index audit_host on audit (host_id, id);
create index audit_token on audit (token, id);
create index audit_at on audit (at);

create function audit_stays() returns trigger language plpgsql as $$
begin
    -- A monitor forgets what is older than VIRTUMANCER_AUDIT_DAYS, which is no less.
    if tg_op = 'DELETE' and old.at < now() - interval '30 days' then
        return old;
    end if;
    raise exception 'the audit is only added to';
end $$;
create trigger stays before update or delete on audit
for each row execute function audit_stays();
create function audit_stays_whole() returns trigger language plpgsql as $$
begin
    raise exception 'the audit is only added to';
end $$;
create trigger stays_whole before truncate on audit
for each statement execute function audit_stays_whole();

-- Whoever ends a task, and in whatever way: how it ended is told of who asked for it.
create function task_audited() returns trigger language plpgsql as $$
begin
    insert into audit (
        event, token_id, token, address, request_id, method, route,
        action, host_id, vm_uuid, vm_name, task_id, outcome, problem
    )
    select 'ended', a.token_id, a.token, a.address, a.request_id, a.method, a.route,
        new.kind, new.host_id, new.vm_uuid, new.vm_name, new.id, new.state,
        regexp_replace(new.problem ->> 'type', '^.*/', '')
    from audit a
    where a.event = 'asked' and a.task_id = coalesce(new.parent_id, new.id);
    return null;
end $$;
create trigger audited_end after update on tasks for each row
when (old.ended_at is null and new.ended_at is not null)
execute function task_audited();
create trigger audited_refusal after insert on tasks for each row
when (new.ended_at is not null)
execute function task_audited();

-- What a task of ours brings about, also a while after it has ended.
create function brings_about(kind text, state integer) returns boolean
language sql immutable as $$
    select case kind
        when 'start' then state in (0, 1, 2)
        when 'resume' then state in (0, 1, 2)
        when 'reset' then state in (0, 1, 2)
        when 'reboot' then state in (0, 1, 2)
        when 'suspend' then state = 3
        when 'destroy' then state in (4, 5)
        when 'shutdown' then state in (4, 5)
        else false end
$$;

-- Tasks that may explain what a look finds: those of ours that are at work on a VM or
-- have just been. A guest takes its time to shut down.
create view at_work as
select host_id, vm_uuid, kind from tasks
where lane = 'power' and started_at is not null
    and (
        state in ('queued', 'running')
        or ended_at > now() - interval '10 minutes'
            and (kind in ('shutdown', 'reboot') or ended_at > now() - interval '10 seconds')
    );

-- Statement by statement, and by hashes: a thousand VMs may have changed at once.
create function vms_changed_outside() returns trigger
language plpgsql set enable_nestloop = off as $$
begin
    insert into audit (event, action, host_id, vm_uuid, vm_name, detail)
    select 'outside',
        case
            when not c.turned then case when n.name <> o.name then 'renamed' else 'edited' end
            when n.state in (0, 1, 2) then
                case when o.state in (3, 7) then 'resumed' else 'started' end
            when n.state = 3 then 'paused'
            when n.state = 5 then 'stopped'
            when n.state = 6 then 'crashed'
            else 'slept' end,
        h.id, n.uuid, n.name,
        concat_ws(', ',
            case when c.turned then format('state %s → %s', o.state, n.state) end,
            case when n.name <> o.name then format('name %s → %s', o.name, n.name) end,
            case when n.title <> o.title then 'title' end,
            case when n.description <> o.description then 'description' end,
            case when n.vcpu_count <> o.vcpu_count
                then format('vcpu_count %s → %s', o.vcpu_count, n.vcpu_count) end,
            case when n.memory_bytes <> o.memory_bytes
                then format('memory_bytes %s → %s', o.memory_bytes, n.memory_bytes) end,
            case when n.autostart <> o.autostart
                then format('autostart %s → %s', o.autostart, n.autostart) end,
            case when n.persistent <> o.persistent
                then format('persistent %s → %s', o.persistent, n.persistent) end)
    from updated n
    join before o using (db_id)
    join hosts h on h.db_id = n.host_db_id
    cross join lateral (
        -- Xen and containers know no difference between these; 4 is on its way to 5.
        select n.state <> 4 and (case when n.state in (0, 1, 2) then 1 else n.state end)
            <> (case when o.state in (0, 1, 2) then 1 else o.state end) as turned,
            (n.name, n.title, n.description, n.autostart, n.persistent)
                is distinct from (o.name, o.title, o.description, o.autostart, o.persistent)
            -- What was never read before has not changed.
            or o.vcpu_count > 0 and (n.vcpu_count, n.memory_bytes)
                is distinct from (o.vcpu_count, o.memory_bytes) as edited
    ) c
    where (c.turned or c.edited)
        and not exists (
            select from at_work w
            where w.host_id = h.id and w.vm_uuid = n.uuid
                and (not c.turned or brings_about(w.kind, n.state))
        )
        and not exists (
            select from at_work w where w.host_id = h.id and w.kind in ('connect', 'move')
        );
    return null;
end $$;

create function vms_added_outside() returns trigger
language plpgsql set enable_nestloop = off as $$
begin
    insert into audit (event, action, host_id, vm_uuid, vm_name, detail)
    select 'outside', 'defined', h.id, n.uuid, n.name, format('state %s', n.state)
    from added n
    -- A host's first look finds what was there before.
    join hosts h on h.db_id = n.host_db_id and h.observation > 0
    where not exists (
        select from at_work w where w.host_id = h.id and w.kind in ('connect', 'move')
    );
    return null;
end $$;

create function vms_removed_outside() returns trigger
language plpgsql set enable_nestloop = off as $$
begin
    insert into audit (event, action, host_id, vm_uuid, vm_name, detail)
    select 'outside', 'removed', h.id, o.uuid, o.name, format('state %s', o.state)
    from removed o
    join hosts h on h.db_id = o.host_db_id
    where not exists (
            -- One that has no configuration goes when it stops.
            select from at_work w
            where w.host_id = h.id and w.vm_uuid = o.uuid and brings_about(w.kind, 5)
        )
        and not exists (
            select from at_work w where w.host_id = h.id and w.kind in ('connect', 'move')
        );
    return null;
end $$;

create trigger changed_outside after update on vms
referencing old table as before new table as updated
for each statement execute function vms_changed_outside();
create trigger added_outside after insert on vms
referencing new table as added for each statement execute function vms_added_outside();
create trigger removed_outside after delete on vms
referencing old table as removed
for each statement execute function vms_removed_outside();
