-- name: register
insert into processes (id, kind, machine, pid)
values (:id, :kind, :machine, :pid);

-- name: beat
-- No row back: this process was taken for dead and must let go of all it held.
update processes set
    seen_at = now(),
    steady_since = case
        when seen_at < now() - make_interval(secs => :silent_s) / 2 then now()
        else steady_since end
where id = :id
returning id;

-- name: leave
delete from processes where id = :id;

-- name: bury
-- Leases and running tasks of the dead fall free by their foreign keys. After an outage
-- of this server all have been silent: only who was heard all the while may judge, and
-- just now too, for this statement itself may have hung in the outage.
delete from processes
where seen_at < now() - make_interval(secs => :silent_s)
    and exists (
        select from processes judge
        where judge.id = :process_id
            and judge.steady_since < now() - make_interval(secs => :silent_s)
            and judge.seen_at > now() - make_interval(secs => :silent_s) / 2
    )
returning id, kind, machine, pid;

-- name: alive
select kind, count(*)::int as alive from processes
where seen_at > now() - make_interval(secs => :silent_s)
group by kind;

-- name: owned
-- The hosts that this monitor owns.
select h.* from hosts h join leases l on l.host_db_id = h.db_id
where l.process_id = :process_id and h.state <> 'disabled';

-- name: take_free
-- Takes hosts that nobody owns, up to this monitor's fair share of all; a host that is
-- just being removed or changed is left for the next time.
insert into leases (host_db_id, process_id)
select h.db_id, :process_id from hosts h
where h.state <> 'disabled'
    and not exists (select from leases l where l.host_db_id = h.db_id)
    -- Who was taken for dead takes nothing.
    and exists (select from processes where id = :process_id for key share)
order by h.db_id
limit greatest(0, (
    select ceil(count(*)::numeric / greatest(1, (
        select count(*) from processes where kind = 'monitor'
    ))) from hosts where state <> 'disabled'
) - (select count(*) from leases where process_id = :process_id))::int
for key share of h skip locked
on conflict do nothing
returning host_db_id;

-- name: give_up_surplus
-- Lets go of hosts beyond the fair share, so that a new monitor gets its part.
delete from leases
where host_db_id in (
    select l.host_db_id from leases l
    where l.process_id = :process_id
    order by l.taken_at desc
    limit greatest(0, (
        select count(*) from leases where process_id = :process_id
    ) - (
        select ceil(count(*)::numeric / greatest(1, (
            select count(*) from processes where kind = 'monitor'
        ))) from hosts where state <> 'disabled'
    ))::int
)
returning host_db_id;
