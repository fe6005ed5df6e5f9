-- A trigger's plan is made once, when one row was changed, and kept when it is a thousand:
-- a nested loop over both then takes 100 ms, a hash join 3.
alter function hosts_updated() set enable_nestloop = off;
alter function vms_added() set enable_nestloop = off;
alter function vms_updated() set enable_nestloop = off;
alter function vms_removed() set enable_nestloop = off;
alter function tasks_updated() set enable_nestloop = off;
