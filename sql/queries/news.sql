-- name: newest
-- The place up to which everything is committed and can be read.
select coalesce(n.xid, p.xid)::text::bigint as xid,
    coalesce(n.position, p.position) as position
from news_pruned p
left join lateral (
    select xid, position from news
    where xid < pg_snapshot_xmin(pg_current_snapshot())
    order by xid desc, position desc
    limit 1
) n on true;

-- name: ahead
-- How far a reader may read on from a place, in steps of so many rows: null where
-- nothing is new. Unsettled is what is committed, but may still be overtaken.
select
    (p.xid, p.position) > (:xid::text::xid8, :position::bigint) as too_old,
    step.xid::text::bigint as xid,
    step.position,
    exists (
        select from news where news.xid >= pg_snapshot_xmin(pg_current_snapshot())
    ) as unsettled
from news_pruned p
left join lateral (
    select xid, position
    from (
        select xid, position from news
        where (xid, position) > (:xid::text::xid8, :position::bigint)
            and xid < pg_snapshot_xmin(pg_current_snapshot())
        order by xid, position
        limit :most::int
    ) following
    order by xid desc, position desc
    limit 1
) step on true;

-- name: between
-- What is mentioned after one place and up to another, by its last mention.
select topic, host_id, resource, max(array[xid::text::bigint, position]) as place
from news
where (xid, position) > (:after_xid::text::xid8, :after_position::bigint)
    and (xid, position) <= (:xid::text::xid8, :position::bigint)
    and topic = any(:topics::text[])
    and (:hosts::text[] is null or host_id = any(:hosts))
group by topic, host_id, resource
order by place;

-- name: hosts
select * from hosts where id = any(:ids::text[]);

-- name: vms
-- These, and all of some hosts: in one look, so that none is told older than it was.
select * from listed_vms where host_id = any(:whole_hosts::text[])
union all
select v.* from listed_vms v
join unnest(:host_ids::text[], :uuids::uuid[]) as asked (host_id, uuid)
    on v.host_id = asked.host_id and v.uuid = asked.uuid;

-- name: tasks
select t.*, waits_for(t) from tasks t where id = any(:ids::uuid[]);

-- name: hosts_of_tasks
-- Which hosts a task is about that is about many.
select id, host_ids from tasks where id = any(:ids::uuid[]) and host_ids is not null;

-- name: prune
-- Forgets the oldest, so many at a time: what is a day old, and what is too much.
with oldest as (
    select xid, position, at from news order by xid, position limit :at_a_time::int
), newest as (
    select position from news order by xid desc, position desc limit 1
), last as (
    select xid, position from oldest
    where at < now() - make_interval(secs => :older_than_s)
        or position <= (select position from newest) - :most::bigint
    order by xid desc, position desc
    limit 1
), gone as (
    delete from news using last
    where (news.xid, news.position) <= (last.xid, last.position)
)
update news_pruned p set xid = last.xid, position = last.position
from last
where (p.xid, p.position) < (last.xid, last.position);
