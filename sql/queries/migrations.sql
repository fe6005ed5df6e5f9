-- name: lock
-- One migration at a time, whichever machine it is started on.
select pg_advisory_lock(7466616);

-- name: create_record
create table if not exists migrations (
    name text primary key,
    checksum text not null,
    applied_at timestamptz not null default now()
);

-- name: applied
select name, checksum from migrations;

-- name: record
insert into migrations (name, checksum) values (:name, :checksum);
