-- name: known
select asked, task_id, answer from idempotency_keys
where requested_by = :requested_by and route = :route and key = :key
    and created_at > now() - interval '24 hours';

-- name: claim
-- No row back: another request has this key. One that is just being written is waited
-- for; one that has had its day may be used again.
insert into idempotency_keys as k (requested_by, route, key, asked, task_id, answer)
values (:requested_by, :route, :key, :asked, :task_id::uuid, :answer::json)
on conflict (requested_by, route, key) do update set
    asked = excluded.asked,
    task_id = excluded.task_id,
    answer = excluded.answer,
    created_at = excluded.created_at
where k.created_at <= now() - interval '24 hours'
returning k.key;

-- name: prune
delete from idempotency_keys where created_at <= now() - interval '24 hours';
