-- name: add
-- No row back: the name is taken.
insert into tokens (id, name, secret, role, hosts, created_by, expires_at)
values (
    :id, :name, :secret, :role, :hosts::text[], :created_by,
    now() + make_interval(secs => :expires_in_s)
)
on conflict (name) where revoked_at is null do nothing
returning *;

-- name: list
select * from tokens
where :after::uuid is null or id > :after
order by id
limit :limit::int;

-- name: by_secret
-- Who is behind a secret, and how long yet. A token that is used is marked so, but not
-- written at each request.
with used as (
    update tokens set last_used_at = now()
    where secret = :secret and revoked_at is null
        and (expires_at is null or expires_at > now())
        and (last_used_at is null or last_used_at < now() - interval '1 minute')
)
select id, name, role, hosts, revoked_at is not null as is_revoked,
    extract(epoch from expires_at - now())::float8 as left_s
from tokens where secret = :secret;

-- name: valid
-- Which of these may still come in.
select id from tokens
where id = any(:ids::uuid[]) and revoked_at is null
    and (expires_at is null or expires_at > now());

-- name: revoke
-- By id, or by the name of one that is not revoked. One that is revoked stays as it is.
update tokens set revoked_at = coalesce(revoked_at, now())
where id = :id::uuid or (name = :name and revoked_at is null)
returning *;

-- name: prune
-- What can be of no use to anybody any more.
delete from tickets where expires_at < now();

-- name: add_ticket
insert into tickets (secret, token_id, expires_at)
values (:secret, :token_id, now() + make_interval(secs => :left_s));

-- name: take_ticket
-- Whoever takes it first has it: the token behind it.
with taken as (
    delete from tickets where secret = :secret returning token_id, expires_at
)
select t.id, t.name, t.role, t.hosts, t.revoked_at is not null as is_revoked,
    extract(epoch from least(t.expires_at - now(), taken.expires_at - now()))::float8
        as left_s
from taken join tokens t on t.id = taken.token_id;
