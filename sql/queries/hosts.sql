-- name: list
select * from hosts
where (:after::text is null or id > :after)
    and (:sight::text is null or id ~ :sight)
order by id
limit :limit::int;

-- name: get
select * from hosts where id = :id;

-- name: hold
select * from hosts where id = :id for update;

-- name: add
-- A host that a worker has just connected to and read.
insert into hosts (id, uri, state, observed_at)
values (:id, :uri, 'connected', now())
on conflict (id) do nothing
returning db_id;

-- name: move
-- The host at its new address, which a worker has just read; one that a user has
-- disconnected stays so.
update hosts set
    uri = :uri,
    state = case when state = 'disabled' then state else 'connected' end,
    state_since = now(),
    error = null,
    next_retry_at = null,
    revision = revision + 1
where id = :id
returning db_id;

-- name: remove
delete from hosts where id = :id returning *;

-- name: lock
-- Writes about one host wait for each other here; no row means the host is gone.
select observation from hosts where db_id = :db_id for no key update;

-- name: synced
update hosts set
    observation = :observation,
    observed_at = now(),
    cpu_count = coalesce(:cpu_count, cpu_count),
    memory_bytes = coalesce(:memory_bytes, memory_bytes),
    error = case when state = 'connected' then null else error end
where db_id = :db_id;

-- name: accuse
-- The host is there, and what it says is not believed; until a full look succeeds.
update hosts set error = :error, revision = revision + 1
where db_id = :db_id and state = 'connected' and error is distinct from :error::jsonb
returning db_id;

-- name: set_state
-- Only the monitor that owns the host may say how it stands. "changed" is about the
-- state, not about the error or the next try.
update hosts set
    state = :state,
    -- What a full look has against a host that is connected, only a full look takes back.
    error = case when :state = 'connected' and state = 'connected' then error
        else :error end,
    next_retry_at = now() + make_interval(secs => :retry_in_s),
    state_since = case when state = :state then state_since else now() end,
    revision = revision + 1
where db_id = :db_id and state <> 'disabled'
    and exists (
        select from leases
        where leases.host_db_id = hosts.db_id and leases.process_id = :process_id
    )
returning state_since = now() as changed;

-- name: disable
-- No row is touched where it is so already.
update hosts set
    state = 'disabled', state_since = now(), error = null, next_retry_at = null,
    revision = revision + 1
where id = :id and state <> 'disabled';

-- name: let_go
delete from leases using hosts h where host_db_id = h.db_id and h.id = :id;

-- name: enable
update hosts set
    state = 'connecting', state_since = now(), revision = revision + 1
where id = :id and state = 'disabled';

-- name: overview
-- What is off, crashed or in no known state has nothing of the host. The sum of what
-- hosts claim may be beyond any number of ours.
select h.id, h.state, h.cpu_count, h.memory_bytes,
    coalesce(sum(c.vms), 0)::int as vms,
    coalesce(jsonb_object_agg(c.state, c.vms) filter (where c.state is not null), '{}')
        as vms_by_state,
    least(coalesce(sum(c.vcpus), 0), 9223372036854775807)::bigint as vcpus,
    least(coalesce(sum(c.vcpus) filter (where c.active), 0), 9223372036854775807)::bigint as active_vcpus,
    least(coalesce(sum(c.memory), 0), 9223372036854775807)::bigint as vm_memory_bytes,
    least(coalesce(sum(c.memory) filter (where c.active), 0), 9223372036854775807)::bigint as active_vm_memory_bytes
from hosts h
left join (
    select host_db_id, state, state not in (0, 5, 6) as active,
        count(*) as vms, sum(vcpu_count) as vcpus, sum(memory_bytes) as memory
    from vms
    group by host_db_id, state
) c on c.host_db_id = h.db_id
where :sight::text is null or h.id ~ :sight
group by h.db_id
order by h.id;

-- name: in_use
-- Where workers may keep a connection to.
select db_id, uri from hosts where state <> 'disabled';
