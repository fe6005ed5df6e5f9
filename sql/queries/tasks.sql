-- name: add
-- No row back: the VM is busy. Who asked is noted in the same breath.
with added as (
    insert into tasks (
        id, kind, lane, host_id, vm_uuid, vm_name, uri, params, requested_by, request_id
    )
    values (
        :id, :kind, :lane, :host_id, :vm_uuid::uuid, :vm_name::text, :uri::text,
        :params::jsonb, :requested_by, :request_id::text
    )
    on conflict do nothing
    returning id, kind, host_id, vm_uuid, vm_name
), asked as (
    insert into audit (
        event, token_id, token, address, request_id, method, route, detail,
        action, host_id, vm_uuid, vm_name, task_id
    )
    select 'asked', o.token_id, o.token, o.address, o.request_id, o.method, o.route,
        o.detail, a.kind, a.host_id, a.vm_uuid, a.vm_name, a.id
    from added a, jsonb_populate_record(null::audit, :origin::jsonb) o
    where :origin::jsonb is not null
)
select id from added;

-- name: add_parent
with asked as (
    insert into audit (
        event, token_id, token, address, request_id, method, route, detail,
        action, host_id, task_id
    )
    select 'asked', o.token_id, o.token, o.address, o.request_id, o.method, o.route,
        o.detail, :action, :host_id, :id
    from jsonb_populate_record(null::audit, :origin::jsonb) o
    where :origin::jsonb is not null
)
insert into tasks (
    id, kind, lane, host_id, vm_uuid, vm_name, uri, params, requested_by, request_id,
    host_ids, state, started_at, progress
)
values (
    :id, :kind, :lane, :host_id, :vm_uuid::uuid, :vm_name::text, :uri::text,
    :params::jsonb, :requested_by, :request_id::text, :host_ids::text[], 'running', now(),
    jsonb_build_object('action', :action::text, 'total', :total::int, 'done', 0,
        'failed', 0, 'interrupted', 0, 'cancelled', 0)
);

-- name: add_children
-- All are held first: only who is there can be among the first of its host.
insert into tasks (
    id, parent_id, kind, lane, host_id, vm_uuid, vm_name, requested_by, request_id, held
)
select c.id, :parent_id, :kind, 'power', c.host_id, c.vm_uuid, c.vm_name,
    :requested_by, :request_id::text, true
from unnest(:ids::uuid[], :host_ids::text[], :vm_uuids::uuid[], :vm_names::text[])
    as c (id, host_id, vm_uuid, vm_name)
on conflict do nothing
returning id;

-- name: add_refused_children
insert into tasks (
    id, parent_id, kind, lane, host_id, vm_uuid, vm_name, requested_by, request_id,
    state, ended_at, problem
)
select c.id, :parent_id, :kind, 'power', c.host_id, c.vm_uuid, c.vm_name,
    :requested_by, :request_id::text, 'failed', now(), c.problem
from unnest(
    :ids::uuid[], :host_ids::text[], :vm_uuids::uuid[], :vm_names::text[],
    :problems::jsonb[]
) as c (id, host_id, vm_uuid, vm_name, problem);

-- name: settle_parent
-- Count those that were refused at once; from here on each end is counted by itself.
update tasks p set
    progress = jsonb_set(p.progress, '{failed}', to_jsonb(c.failed)),
    problem = c.problem,
    state = case when not c.unfinished then
        case when c.failed > 0 then 'failed' else 'done' end else p.state end,
    ended_at = case when not c.unfinished then now() end
from (
    select count(*) filter (where state = 'failed') as failed,
        (array_agg(problem || jsonb_build_object('task', id) order by id)
            filter (where state = 'failed'))[1] as problem,
        count(*) filter (where state = 'queued') > 0 as unfinished
    from tasks where parent_id = :id
) c
where p.id = :id;

-- name: let_children_go
-- The first of each host; the others follow one by one, see child_ended().
update tasks set held = false
where id in (
    select id
    from (
        select id, row_number() over (partition by host_id order by id) as place
        from tasks where parent_id = :id and state = 'queued'
    ) waiting
    where place <= :per_host::int
)
returning id, host_id, lane;

-- name: hold_parent
-- A child that ends locks its parent; who ends many at once takes that lock first.
select id from tasks
where id = (select coalesce(parent_id, id) from tasks where id = :id)
for update;

-- name: cancel
update tasks set state = 'cancelled', ended_at = now(), problem = :problem::jsonb
where (id = :id or parent_id = :id) and state = 'queued'
returning id, parent_id;

-- name: join_look
-- Asks for a sync, or joins the same one that has not begun yet.
insert into tasks as t (id, kind, lane, host_id, vm_uuid, vm_name, requested_by, request_id)
values (
    :id, :kind, 'look', :host_id, :vm_uuid::uuid, :vm_name::text, :requested_by,
    :request_id::text
)
on conflict (host_id, kind, vm_uuid)
    where kind in ('sync_host', 'sync_vm') and state = 'queued'
do update set rung_at = now()
returning t.id;

-- name: busy
-- The unfinished task that keeps a VM, or the id of a host, from being acted on.
select t.*, waits_for(t) from tasks t
where host_id = :host_id and lane = 'power' and state in ('queued', 'running')
    and vm_uuid is not distinct from :vm_uuid::uuid;

-- name: get
select t.*, case when t.ended_at is null then waits_for(t) end as waits_for
from tasks t where id = :id;

-- name: seen
-- A task, for whom it is there.
select id, kind from tasks t
where id = :id and (:sight::text is null or in_sight(t, :sight));

-- name: list
select t.*, waits_for(t) from tasks t
where (:host::text is null or host_id = :host)
    and (:vm::text is null or vm_name = :vm or vm_uuid = :vm_uuid::uuid)
    and (:state::text is null or state = :state)
    and (:kind::text is null and requested_by <> 'monitor' or kind = :kind)
    and case
        when :parent::uuid is not null then parent_id = :parent
        when :host::text is null and :vm::text is null then parent_id is null
        else true end
    and (:before::uuid is null or id < :before)
    and (:sight::text is null or in_sight(t, :sight))
order by id desc
limit :limit::int;

-- name: claim
-- The next task of a host's lane, with the host as it is now.
update tasks t set
    state = 'running', started_at = now(), attempts = attempts + 1,
    process_id = :process_id, worker = :process_id, revision = revision + 1
where t.id = (
    select id from tasks
    where host_id = :host_id and lane = :lane and state = 'queued' and not held
    order by id
    for update skip locked
    limit 1
)
    -- Who was taken for dead claims nothing. Asked of each task, so that a bell without
    -- one takes no lock and has nothing to commit.
    and exists (
        select from processes where id = :process_id and t.state = 'queued' for key share
    )
returning t.*,
    extract(epoch from clock_timestamp() - t.created_at)::float8 as waited_s,
    (select h.db_id from hosts h where h.id = t.host_id) as host_db_id,
    (select h.uri from hosts h where h.id = t.host_id) as host_uri,
    (select h.state from hosts h where h.id = t.host_id) as host_state,
    (select h.error from hosts h where h.id = t.host_id) as host_error,
    exists (
        select from tasks q
        where q.host_id = t.host_id and q.lane = t.lane and q.state = 'queued'
            and q.id <> t.id
    ) as others_wait;

-- name: held
-- Whether a process still holds a task that it claimed.
select id from tasks
where id = :id and state = 'running' and process_id = :process_id;

-- name: let_go
-- Tasks that their worker holds and does not know of: the answer to its claim was lost.
update tasks set process_id = null
where state = 'running' and process_id = :process_id
    and started_at < now() - make_interval(secs => :after_s)
    and id <> all(:known::uuid[])
returning id;

-- name: end
-- Only the process that holds a task may end it.
update tasks set
    state = :state, ended_at = now(), problem = :problem, result = :result,
    process_id = null, revision = revision + 1
where id = :id and state = 'running' and process_id = :process_id
returning *;

-- name: end_of_host
-- A host that is removed takes its unfinished tasks along.
update tasks set
    state = 'failed', ended_at = now(), problem = :problem, process_id = null
where host_id = :host_id and state in ('queued', 'running')
returning id, parent_id;

-- name: ring_stranded
-- Queued tasks whose bell nobody heard. One row is rung by one monitor.
update tasks set rung_at = now()
where id in (
    select id from tasks
    where state = 'queued' and not held and rung_at < now() - make_interval(secs => :after_s)
    order by rung_at
    for update skip locked
    limit 1000
)
returning id, host_id, lane;

-- name: requeue_orphans
-- Tasks of dead workers that may be done again. Of several equal looks one goes first,
-- and none while an equal one is queued: the rest follow when that has begun.
update tasks set state = 'queued', rung_at = now()
where id in (
    select distinct on (kind, host_id, vm_uuid, look) id
    from (
        select t.*, case when t.lane = 'power' then t.id end as look from tasks t
    ) t
    where state = 'running' and process_id is null and lane <> 'fleet'
        and kind not in ('reboot', 'reset') and attempts < :max_attempts
        and not exists (
            select from tasks q
            where q.state = 'queued' and q.kind = t.kind and q.host_id = t.host_id
                and q.vm_uuid is not distinct from t.vm_uuid
                and t.kind in ('sync_host', 'sync_vm')
        )
    order by kind, host_id, vm_uuid, look, id
)
and state = 'running' and process_id is null
returning id, host_id, lane;

-- name: interrupt_orphans
-- Tasks of dead workers that must not be done a second time.
update tasks set
    state = 'interrupted', ended_at = now(), problem = :problem
where state = 'running' and process_id is null and lane <> 'fleet'
    and (kind in ('reboot', 'reset') or attempts >= :max_attempts)
returning id, kind, host_id, vm_uuid, vm_name, parent_id;

-- name: prune
delete from tasks
where ended_at < now() - case
    when kind in ('sync_host', 'sync_vm', 'info') then interval '1 hour'
    else interval '30 days' end
    and not exists (select from idempotency_keys k where k.task_id = tasks.id);
