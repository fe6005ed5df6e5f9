-- VMs as lists show them, without their hardware: that is most of a row's weight.
create view listed_vms as
select v.db_id, v.host_db_id, h.id as host_id, v.uuid, v.name, v.title, v.description,
    v.vcpu_count, v.memory_bytes, v.state, v.state_reason, v.persistent, v.autostart,
    v.graphics, h.state <> 'connected' as stale,
    greatest(v.observed_at, h.observed_at) as observed_at, v.observation, v.revision
from vms v join hosts h on h.db_id = v.host_db_id;
