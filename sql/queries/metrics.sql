-- name: publish
-- Writes what a process counted, and takes away what the dead left.
with dead as (
    delete from measurements
    where seen_at < now() - interval '1 minute' and process <> :process
)
insert into measurements (process, families) values (:process, :families::json)
on conflict (process) do update set seen_at = now(), families = excluded.families;

-- name: others
select process, families from measurements
where process <> :process and seen_at > now() - make_interval(secs => :fresh_s)
order by process;

-- name: processes
select p.kind, p.machine, p.pid, count(l.host_db_id)::int as leases
from processes p left join leases l on l.process_id = p.id
where p.seen_at > now() - make_interval(secs => :fresh_s)
group by p.id
order by p.kind, p.machine, p.pid;

-- name: queue
-- Tasks that are not done, and how long the oldest has waited for a worker. One that is
-- held waits for its own kind, not for a worker.
select lane, count(*) filter (where state = 'queued')::int as queued,
    count(*) filter (where state = 'running')::int as running,
    coalesce(extract(epoch from now() - min(created_at)
        filter (where state = 'queued' and not held)), 0)
        ::float8 as oldest_s
from tasks where state in ('queued', 'running')
group by lane;

-- name: hosts
-- Every host, how it stands, and the last counters of its VMs.
select h.id, h.state, extract(epoch from now() - s.sampled_at)::float8 as age_s,
    s.vms::text as vms
from hosts h left join host_samples s on s.host_db_id = h.db_id
order by h.id;

-- name: vms
select host_id, name, uuid, state, vcpu_count, memory_bytes from listed_vms
order by db_id;

-- name: keep_sample
-- The host may have been removed while it was sampled.
insert into host_samples (host_db_id, sampled_at, vms)
select db_id, now() - make_interval(secs => :age_s), :vms::json from hosts where db_id = :host_db_id
on conflict (host_db_id) do update set
    sampled_at = excluded.sampled_at, vms = excluded.vms;

-- name: noticed
-- A look is as old as the event that it is for, which was gathered with others first.
update tasks set created_at = least(created_at, now() - make_interval(secs => :age_s))
where id = any(:ids::uuid[]) and state = 'queued';

-- name: trace
-- The message carries the task's id alone; its trace waits in the row.
update tasks set traceparent = coalesce(traceparent, :traceparent)
where id = any(:ids::uuid[]) and state = 'queued';
