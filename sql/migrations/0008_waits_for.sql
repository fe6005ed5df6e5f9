-- What an unfinished task waits for, in words; null when it has ended.
create function waits_for(t tasks) returns text language sql stable as $$
    select case
        when t.state not in ('queued', 'running') then null
        when t.lane = 'fleet' then 'its own tasks'
        when t.state = 'running' and t.process_id is null
            then 'another worker, since its own died'
        when t.state = 'running' then 'the host ' || t.host_id
        when t.held then 'its turn among the tasks of one request'
        when not exists (
            select from processes
            where kind = 'worker' and seen_at > now() - interval '8 seconds'
        ) then 'a worker: none lives'
        when exists (
            select from tasks other
            where other.host_id = t.host_id and other.lane = t.lane
                and other.state = 'running'
        ) then 'its turn on the host ' || t.host_id
        else 'a worker'
    end
$$;
