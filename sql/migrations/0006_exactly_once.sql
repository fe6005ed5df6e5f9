-- What a mutation with the header Idempotency-Key did, written together with it. The
-- answer is that of the task once it ends; what needs no task has its answer here.
create table idempotency_keys (
    requested_by text not null,
    route text not null,
    key text not null,
    -- A hash of the body and the query.
    asked bytea not null,
    -- Deferred, for the key is written first: of two at once, one waits for the other.
    task_id uuid references tasks on delete cascade deferrable initially deferred,
    -- json, not jsonb: the same answer has its members in the same order.
    answer json,
    created_at timestamptz not null default now(),
    primary key (requested_by, route, key)
);
create index idempotency_keys_task on idempotency_keys (task_id)
    where task_id is not null;
create index idempotency_keys_age on idempotency_keys (created_at);
