-- Grows whenever the list of a host's VMs would be answered otherwise, whoever wrote
-- what: as long as it stands still, an answer that was made before can be given again.
-- A table of its own, for it changes with every look and hosts has triggers.
create table listing_versions (
    host_db_id bigint primary key references hosts on delete cascade,
    version bigint not null default 0
) with (fillfactor = 50);
insert into listing_versions select db_id from hosts;

create function listing_begins() returns trigger language plpgsql as $$
begin
    insert into listing_versions values (new.db_id);
    return null;
end $$;

create function listing_changes() returns trigger language plpgsql as $$
begin
    update listing_versions l set version = version + 1
    from (select distinct host_db_id from touched) t
    where l.host_db_id = t.host_db_id;
    return null;
end $$;

create function listing_of_host_changes() returns trigger language plpgsql as $$
begin
    update listing_versions l set version = version + 1 where host_db_id = new.db_id;
    return null;
end $$;

create trigger listing_begins after insert on hosts
for each row execute function listing_begins();

create trigger listing_changes after update on hosts
for each row when (new.turns <> old.turns or new.observed_at is distinct from old.observed_at)
execute function listing_of_host_changes();

create trigger listing_added after insert on vms
referencing new table as touched for each statement execute function listing_changes();
create trigger listing_updated after update on vms
referencing new table as touched for each statement execute function listing_changes();
create trigger listing_removed after delete on vms
referencing old table as touched for each statement execute function listing_changes();
