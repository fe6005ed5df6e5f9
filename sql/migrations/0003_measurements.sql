-- What each process counts, for whoever scrapes. Unlogged, for it is written again every
-- few seconds: after a crash of this server the tables are empty for that long.
create unlogged table measurements (
    process text primary key,
    seen_at timestamptz not null default now(),
    families json not null
);

-- The last counters of a host's VMs, all in one row: {uuid: counters}.
create unlogged table host_samples (
    host_db_id bigint primary key references hosts on delete cascade,
    sampled_at timestamptz not null,
    vms json not null
);

-- The trace that a task belongs to (https://www.w3.org/TR/trace-context/).
alter table tasks add column traceparent text;
