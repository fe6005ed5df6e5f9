-- name: add
-- Rows as JSON, in the order in which it happened.
insert into audit (
    event, token_id, token, address, request_id, method, route, action, host_id,
    vm_uuid, vm_name, task_id, status, problem, detail, times
)
select event, token_id, token, address, request_id, method, route, action, host_id,
    vm_uuid, vm_name, task_id, status, problem, detail, coalesce(times, 1)
from jsonb_populate_recordset(null::audit, :entries::jsonb);

-- name: joined
-- Who asked for a look that was queued already.
insert into audit (
    event, token_id, token, address, request_id, method, route, action, host_id, task_id
)
select 'asked', o.token_id, o.token, o.address, o.request_id, o.method, o.route,
    :kind, :host_id, :task_id
from jsonb_populate_record(null::audit, :origin::jsonb) o;

-- name: rebooted
-- A VM that reboots stays in its state: only its event tells of it, often twice.
insert into audit (event, action, host_id, vm_uuid, vm_name)
select 'outside', 'rebooted', h.id, v.uuid, v.name
from hosts h join vms v on v.host_db_id = h.db_id
where h.id = :host_id and v.uuid = any(:uuids::uuid[])
    and not exists (
        select from at_work w
        where w.host_id = h.id and w.vm_uuid = v.uuid and w.kind in ('reboot', 'reset')
    )
    and not exists (
        select from audit a
        where a.at > now() - interval '2 seconds' and a.host_id = h.id
            and a.vm_uuid = v.uuid and a.action = 'rebooted'
    );

-- name: list
select * from audit
where (:before::bigint is null or id < :before)
    and (:token::text is null or token = :token)
    and (:host::text is null or host_id = :host)
    and (:vm::text is null or vm_name = :vm or vm_uuid = :vm_uuid::uuid)
    and (:event::text is null or event = :event)
    and (:action::text is null or action = :action)
    and (:task::uuid is null or task_id = :task)
    and (:since::timestamptz is null or at >= :since)
    and (:until::timestamptz is null or at < :until)
order by id desc
limit :limit::int;

-- name: prune
delete from audit
where id in (
    select id from audit
    where at < now() - make_interval(days => :days::int)
    order by at
    limit :at_a_time::int
);
