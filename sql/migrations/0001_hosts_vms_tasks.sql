create table hosts (
    db_id bigint generated always as identity primary key,
    id text not null unique check (id ~ '^[A-Za-z0-9._-]{1,64}$'),
    uri text not null,
    created_at timestamptz not null default now(),
    state text not null
        check (state in ('connecting', 'connected', 'unreachable', 'disabled')),
    state_since timestamptz not null default now(),
    error jsonb,
    next_retry_at timestamptz,
    -- The last full sync: every VM of the host was seen at least this late.
    observation bigint not null default 0,
    observed_at timestamptz,
    revision bigint not null default 1
);

-- Workers and monitors. seen_at is this server's clock, written by the process's
-- heartbeat; whoever has not beaten for long is deleted, and what it held falls free.
create table processes (
    id uuid primary key,
    kind text not null check (kind in ('worker', 'monitor')),
    machine text not null,
    pid integer not null,
    started_at timestamptz not null default now(),
    seen_at timestamptz not null default now()
);

-- Which monitor owns a host.
create table leases (
    host_db_id bigint primary key references hosts on delete cascade,
    process_id uuid not null references processes on delete cascade,
    taken_at timestamptz not null default now()
);
create index leases_process on leases (process_id);

-- Numbers drawn before libvirt is read: what was read later has the higher number.
create sequence observations;

create table vms (
    db_id bigint generated always as identity primary key,
    host_db_id bigint not null references hosts on delete cascade,
    uuid uuid not null,
    name text not null,
    title text not null,
    description text not null,
    vcpu_count integer not null,
    memory_bytes bigint not null,
    state smallint not null,
    state_reason integer not null,
    persistent boolean not null,
    autostart boolean not null,
    graphics jsonb not null,
    -- Exactly what GET …/hardware returns; null while the XML could never be read.
    hardware jsonb,
    xml_hash bytea,
    observation bigint not null,
    observed_at timestamptz not null default now(),
    revision bigint not null default 1,
    unique (host_db_id, uuid)
);
-- Not unique: a rename or a swap of names is seen one VM at a time.
create index vms_host_name on vms (host_db_id, name);
create index vms_name on vms (name text_pattern_ops);
-- Answers "which VM has this MAC, this disk path" over all hosts.
create index vms_hardware on vms using gin (hardware jsonb_path_ops);

-- VMs that a single look found gone, so that an older look does not bring them back.
create table removed_vms (
    host_db_id bigint not null references hosts on delete cascade,
    uuid uuid not null,
    observation bigint not null,
    primary key (host_db_id, uuid)
);

-- host_id is no foreign key: the record of a task outlives its host.
create table tasks (
    id uuid primary key,
    kind text not null,
    lane text not null check (lane in ('power', 'look')),
    host_id text not null,
    vm_uuid uuid,
    vm_name text,
    uri text,
    state text not null default 'queued'
        check (state in ('queued', 'running', 'done', 'failed', 'interrupted')),
    requested_by text not null,
    request_id text,
    created_at timestamptz not null default now(),
    rung_at timestamptz not null default now(),
    started_at timestamptz,
    ended_at timestamptz,
    attempts integer not null default 0,
    process_id uuid references processes on delete set null,
    -- Stays when the process is gone.
    worker uuid,
    problem jsonb,
    result jsonb
);
-- The lock on a VM, and on the id of a host that is being added: this is the 409.
create unique index tasks_vm_busy on tasks (host_id, vm_uuid)
    where lane = 'power' and kind <> 'connect' and state in ('queued', 'running');
create unique index tasks_host_connecting on tasks (host_id)
    where kind = 'connect' and state in ('queued', 'running');
-- Looks that have not begun are one look.
create unique index tasks_one_look on tasks (host_id, kind, vm_uuid) nulls not distinct
    where kind in ('sync_host', 'sync_vm') and state = 'queued';
create index tasks_queued on tasks (host_id, lane, id) where state = 'queued';
create index tasks_unfinished on tasks (state, rung_at)
    where state in ('queued', 'running');
create index tasks_process on tasks (process_id) where process_id is not null;
create index tasks_ended on tasks (ended_at) where ended_at is not null;
create index tasks_vm on tasks (host_id, vm_uuid, id);
