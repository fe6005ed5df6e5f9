-- A look that finds a change asks whether it was ours, and read all tasks of a month for
-- that: now those of the VM that have not ended, or not long ago, by an index that only
-- they need. The index before led to all tasks of a VM, which nothing else asked for.
drop index tasks_vm;
create index tasks_host on tasks (host_id, id);
create index tasks_at_work on tasks (host_id, vm_uuid, coalesce(ended_at, 'infinity'))
    where lane = 'power' and started_at is not null;
create index tasks_asked_a_guest on tasks (host_id, vm_uuid, ended_at)
    where kind in ('shutdown', 'reboot') and started_at is not null;

create or replace view at_work as
select host_id, vm_uuid, kind from tasks
where lane = 'power' and started_at is not null
    and coalesce(ended_at, 'infinity') > now() - interval '10 seconds'
union all
select host_id, vm_uuid, kind from tasks
where kind in ('shutdown', 'reboot') and started_at is not null
    and ended_at > now() - interval '10 minutes';

-- Whether a host's VMs are what its first look, or that at another address, brings.
create function taken_up(host_id text) returns boolean language sql stable as $$
    select exists (
        select from at_work w
        where w.host_id = taken_up.host_id and w.vm_uuid is null
            and w.kind in ('connect', 'move')
    )
$$;

-- The changed rows are joined by hashes, for a thousand VMs may have changed at once; a
-- query in the place of a value is never joined, but asked of each row. A plan that was
-- made when there were few tasks is kept when there are many, hence no seqscan.
create or replace function vms_changed_outside() returns trigger
language plpgsql set enable_nestloop = off set enable_seqscan = off as $$
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
        and (
            select true from at_work w
            where w.host_id = h.id and w.vm_uuid = n.uuid
                and (not c.turned or brings_about(w.kind, n.state))
            limit 1
        ) is null
        and not taken_up(h.id);
    return null;
end $$;

create or replace function vms_added_outside() returns trigger
language plpgsql set enable_nestloop = off set enable_seqscan = off as $$
begin
    insert into audit (event, action, host_id, vm_uuid, vm_name, detail)
    select 'outside', 'defined', h.id, n.uuid, n.name, format('state %s', n.state)
    from added n
    -- A host's first look finds what was there before.
    join hosts h on h.db_id = n.host_db_id and h.observation > 0
    where not taken_up(h.id);
    return null;
end $$;

create or replace function vms_removed_outside() returns trigger
language plpgsql set enable_nestloop = off set enable_seqscan = off as $$
begin
    insert into audit (event, action, host_id, vm_uuid, vm_name, detail)
    select 'outside', 'removed', h.id, o.uuid, o.name, format('state %s', o.state)
    from removed o
    join hosts h on h.db_id = o.host_db_id
    where (
            -- One that has no configuration goes when it stops.
            select true from at_work w
            where w.host_id = h.id and w.vm_uuid = o.uuid and brings_about(w.kind, 5)
            limit 1
        ) is null
        and not taken_up(h.id);
    return null;
end $$;
