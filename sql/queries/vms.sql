-- name: next_observation
-- Drawn before libvirt is read.
select nextval('observations') as number;

-- name: listing_version
-- Another one whenever the list of a host's VMs would be answered otherwise. Looks only
-- raise an observation, other writers a revision; a new VM has a new number.
select h.db_id as host_db_id, h.turns, h.observed_at, v.*
from hosts h, lateral (
    select count(*) as vms, coalesce(max(db_id), 0) as newest,
        coalesce(sum(revision), 0)::bigint as revisions,
        coalesce(sum(observation), 0)::bigint as observations
    from vms where host_db_id = h.db_id
) v
where h.id = :host_id;

-- name: list
select * from listed_vms
where host_id = :host_id and (:after::bigint is null or db_id > :after)
order by db_id
limit :limit::int;

-- name: get
-- By name or, where no VM has that name, by UUID; the newest row of a name that was
-- just passed on.
select * from listed_vms
where host_id = :host_id and (name = :vm or uuid = :uuid::uuid)
order by name = :vm desc, observation desc
limit 1;

-- name: hardware
select hardware from vms where db_id = :db_id;

-- name: search
-- The parameters that are no column of the list are folded away in planning, so that
-- only one branch of each choice is left, and its index is used. What fits few VMs is an
-- array, which is found by primary key; what may fit many is looked up row by row.
select l.*
from listed_vms l
cross join lateral (
    select
        case :by::text when 'name' then l.name when 'host_id' then l.host_id end as text,
        case :by::text
            when 'state' then l.state::bigint
            when 'vcpu_count' then l.vcpu_count::bigint
            when 'memory_bytes' then l.memory_bytes
        end as number
) key
where (:sight::text is null or host_id ~ :sight)
    and (:host::text is null or host_id = :host)
    and (:name::text is null or name like :name)
    and (:state::int is null or state = :state)
    and (:uuid::uuid is null or uuid = :uuid)
    and (:mac::jsonb is null or db_id = any (array(
        select db_id from vms where hardware @> :mac
    )))
    and (:disk::jsonb is null or db_id = any (array(
        select db_id from vms where hardware @> :disk
    )))
    and (:network::text is null or db_id in (
        select db_id from vms
        where hardware @> jsonb_build_object('networks', jsonb_build_array(
                jsonb_build_object('source', jsonb_build_object('bridge', :network))))
            or hardware @> jsonb_build_object('networks', jsonb_build_array(
                jsonb_build_object('source', jsonb_build_object('network', :network))))
            or hardware @> jsonb_build_object('networks', jsonb_build_array(
                jsonb_build_object('source', jsonb_build_object('dev', :network))))
    ))
    and (:name_words::text is null or db_id in (
        select db_id from vms where words like :name_words
    ))
    and (:q::text is null or db_id in (
        select db_id from vms where words like :q
        union
        select v.db_id from vms v join hosts h on h.db_id = v.host_db_id
        where lower(h.id) like :q
    ))
    and (:after::bigint is null or case when :down::boolean
        then (coalesce(key.text, ''), coalesce(key.number, 0), db_id)
            < (coalesce(:after_text::text, ''), coalesce(:after_number::bigint, 0), :after)
        else (coalesce(key.text, ''), coalesce(key.number, 0), db_id)
            > (coalesce(:after_text::text, ''), coalesce(:after_number::bigint, 0), :after)
    end)
    -- The same once more, in words that an index knows.
    and (:after::bigint is null or :by::text <> 'db_id' or :down::boolean or db_id > :after)
    and (:after_text::text is null or :by::text <> 'name' or case when :down::boolean
        then name <= :after_text else name >= :after_text end)
order by
    case when not :down::boolean then key.text end,
    case when not :down::boolean then key.number end,
    case when not :down::boolean then db_id end,
    case when :down::boolean then key.text end desc,
    case when :down::boolean then key.number end desc,
    case when :down::boolean then db_id end desc
limit :limit::int;

-- name: targets
-- VMs that fit a filter, and what keeps them from being acted on.
select host_id, name as vm_name, uuid as vm_uuid, state,
    (select h.state from hosts h where h.db_id = l.host_db_id) as host_state,
    (
        select t.id from tasks t
        where t.host_id = l.host_id and t.vm_uuid = l.uuid and t.lane = 'power'
            and t.state in ('queued', 'running')
    ) as busy
from listed_vms l
where (:sight::text is null or host_id ~ :sight)
    and (:host::text is null or host_id = :host)
    and (:name::text is null or name like :name)
    and (:state::int is null or state = :state)
    and (:uuid::uuid is null or uuid = :uuid)
    and (:mac::jsonb is null or db_id = any (array(
        select db_id from vms where hardware @> :mac
    )))
    and (:disk::jsonb is null or db_id = any (array(
        select db_id from vms where hardware @> :disk
    )))
    and (:network::text is null or db_id in (
        select db_id from vms
        where hardware @> jsonb_build_object('networks', jsonb_build_array(
                jsonb_build_object('source', jsonb_build_object('bridge', :network))))
            or hardware @> jsonb_build_object('networks', jsonb_build_array(
                jsonb_build_object('source', jsonb_build_object('network', :network))))
            or hardware @> jsonb_build_object('networks', jsonb_build_array(
                jsonb_build_object('source', jsonb_build_object('dev', :network))))
    ))
    and (:name_words::text is null or db_id in (
        select db_id from vms where words like :name_words
    ))
    and (:q::text is null or db_id in (
        select db_id from vms where words like :q
        union
        select v.db_id from vms v join hosts h on h.db_id = v.host_db_id
        where lower(h.id) like :q
    ))
order by db_id
limit :limit::int;

-- name: named_targets
-- The same for VMs by name or UUID, in the order they were named; nulls where there is
-- no such VM or no such host.
select n.host_id, coalesce(v.name, n.name) as vm_name, v.uuid as vm_uuid, v.state,
    h.state as host_state,
    (
        select t.id from tasks t
        where t.host_id = n.host_id and t.vm_uuid = v.uuid and t.lane = 'power'
            and t.state in ('queued', 'running')
    ) as busy
from unnest(:hosts::text[], :names::text[], :uuids::uuid[])
    with ordinality as n (host_id, name, uuid, place)
left join hosts h on h.id = n.host_id
left join lateral (
    select v.name, v.uuid, v.state from vms v
    where v.host_db_id = h.db_id and (v.name = n.name or v.uuid = n.uuid)
    order by v.name = n.name desc, v.observation desc
    limit 1
) v on true
order by n.place;

-- name: known
-- What the database has of a host's VMs, to be compared with what libvirt lists.
select uuid, name, xml_hash, state, state_reason, persistent, autostart
from vms where host_db_id = :host_db_id;

-- name: count
select count(*) as vms from vms where host_db_id = :host_db_id;

-- name: disk_sizes
-- Sizes that an earlier look measured; a full sync does not measure them again.
select uuid, hardware -> 'disks' as disks
from vms where host_db_id = :host_db_id and uuid = any(:uuids::uuid[]) and hardware is not null;

-- name: observe
-- Writes what is new of what was seen; no row touched means nobody is told. What was
-- observed earlier than the row, its host or its removal is old news and left alone.
insert into vms as v (
    host_db_id, uuid, name, title, description, vcpu_count, memory_bytes, state,
    state_reason, persistent, autostart, graphics, hardware, xml_hash, observation
)
select :host_db_id, s.uuid, s.name, s.title, s.description, s.vcpu_count,
    s.memory_bytes, s.state, s.state_reason, s.persistent, s.autostart, s.graphics,
    s.hardware, s.xml_hash, :observation
from jsonb_to_recordset(:rows::jsonb) as s (
    uuid uuid, name text, title text, description text, vcpu_count int,
    memory_bytes bigint, state int, state_reason int, persistent boolean,
    autostart boolean, graphics jsonb, hardware jsonb, xml_hash bytea
)
left join removed_vms r on r.host_db_id = :host_db_id and r.uuid = s.uuid
where r.observation is null or r.observation < :observation
on conflict (host_db_id, uuid) do update set
    name = excluded.name,
    title = excluded.title,
    description = excluded.description,
    vcpu_count = excluded.vcpu_count,
    memory_bytes = excluded.memory_bytes,
    state = excluded.state,
    state_reason = excluded.state_reason,
    persistent = excluded.persistent,
    autostart = excluded.autostart,
    graphics = excluded.graphics,
    hardware = excluded.hardware,
    xml_hash = excluded.xml_hash,
    observation = excluded.observation,
    observed_at = now(),
    revision = v.revision + 1
where v.observation < excluded.observation and (
    v.name, v.title, v.description, v.vcpu_count, v.memory_bytes, v.state,
    v.state_reason, v.persistent, v.autostart, v.graphics, v.hardware, v.xml_hash
) is distinct from (
    excluded.name, excluded.title, excluded.description, excluded.vcpu_count,
    excluded.memory_bytes, excluded.state, excluded.state_reason, excluded.persistent,
    excluded.autostart, excluded.graphics, excluded.hardware, excluded.xml_hash
);

-- name: observe_states
-- The same for VMs whose XML is what it was, or cannot be read: the cheap facts alone.
update vms v set
    name = s.name, state = s.state, state_reason = s.state_reason,
    persistent = s.persistent, autostart = s.autostart,
    observation = :observation, observed_at = now(), revision = v.revision + 1
from unnest(
    :uuid::uuid[], :name::text[], :state::int[], :state_reason::int[],
    :persistent::boolean[], :autostart::boolean[]
) as s (uuid, name, state, state_reason, persistent, autostart)
where v.host_db_id = :host_db_id and v.uuid = s.uuid and v.observation < :observation
    and (v.name, v.state, v.state_reason, v.persistent, v.autostart)
        is distinct from (s.name, s.state, s.state_reason, s.persistent, s.autostart);

-- name: add_unread
-- A domain whose XML could not be read yet: it is there, and that is all we know.
insert into vms (
    host_db_id, uuid, name, title, description, vcpu_count, memory_bytes, state,
    state_reason, persistent, autostart, graphics, observation
)
select :host_db_id, s.uuid, s.name, '', '', 0, 0, s.state, s.state_reason,
    s.persistent, s.autostart, '{"vnc": false, "spice": false}', :observation
from unnest(
    :uuid::uuid[], :name::text[], :state::int[], :state_reason::int[],
    :persistent::boolean[], :autostart::boolean[]
) as s (uuid, name, state, state_reason, persistent, autostart)
left join removed_vms r on r.host_db_id = :host_db_id and r.uuid = s.uuid
where r.observation is null or r.observation < :observation
on conflict (host_db_id, uuid) do nothing;

-- name: seen_again
-- A single look that found nothing new still is the latest look.
update vms set observation = :observation, observed_at = now()
where host_db_id = :host_db_id and uuid = :uuid::uuid and observation < :observation;

-- name: namesakes
-- Other rows under the name of a VM that was just looked at: renamed or gone meanwhile.
select uuid from vms
where host_db_id = :host_db_id and name = :name and uuid <> :uuid::uuid;

-- name: remove_absent
-- After a full listing: rows that are not in it, unless they were seen later.
delete from vms
where host_db_id = :host_db_id and observation < :observation
    and uuid <> all(:present::uuid[]);

-- name: forget_removed
delete from removed_vms
where host_db_id = :host_db_id and observation < :observation;

-- name: remove
-- After a look that found no such domain.
with mark as (
    insert into removed_vms as r (host_db_id, uuid, observation)
    values (:host_db_id, :uuid::uuid, :observation)
    on conflict (host_db_id, uuid) do update set
        observation = greatest(r.observation, excluded.observation)
)
delete from vms
where host_db_id = :host_db_id and uuid = :uuid::uuid and observation < :observation;

-- name: put_into_indexes
-- After a big sync: its words wait in a list, which every search reads through, and which
-- somebody's later sync has to put into the index when it is full.
select gin_clean_pending_list('vms_words'), gin_clean_pending_list('vms_hardware');

-- name: analyze
-- After a big sync: until the first one the planner thinks that the table is empty.
analyze vms;
