-- Who may come in. Of a token's secret only the SHA-256 is kept.
create table tokens (
    id uuid primary key,
    name text not null,
    secret bytea not null unique check (length(secret) = 32),
    role text not null check (role in ('viewer', 'operator', 'admin')),
    -- Patterns of host ids; null for every host.
    hosts text[],
    created_at timestamptz not null default now(),
    created_by text not null,
    expires_at timestamptz,
    last_used_at timestamptz,
    revoked_at timestamptz
);
create unique index tokens_name on tokens (name) where revoked_at is null;

-- Single-use stand-ins for a token in a URL. Unlogged: a crash costs one of 30 seconds.
create unlogged table tickets (
    secret bytea primary key check (length(secret) = 32),
    token_id uuid not null references tokens on delete cascade,
    expires_at timestamptz not null
);
create index tickets_token on tickets (token_id);

-- Of a task about many hosts: which.
alter table tasks add column host_ids text[];

-- Whether a task is about nothing but hosts whose id fits this expression.
create function in_sight(t tasks, sight text) returns boolean language sql immutable as $$
    select case
        when sight is null then true
        when t.host_ids is null then t.host_id ~ sight
        else not exists (select from unnest(t.host_ids) host where host !~ sight)
    end
$$;
