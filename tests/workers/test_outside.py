"""What is found that nobody asked for here is in the audit; what we did is not."""

import uuid
from typing import Any

import pytest

from common.db import sql
from common.errors import UnknownVm
from tests.workers.test_sync import World, world

__all__ = ["world"]

RUNNING, PAUSED, OFF = 1, 3, 5


def outside(world: World) -> list[tuple[str, str, str]]:
    """Action, VM and detail of all that was found, in order."""
    nothing = dict.fromkeys(("token", "action", "task", "since", "until", "before"))
    of = nothing | {"host": "one", "vm": None, "vm_uuid": None, "event": "outside"}
    rows: list[Any] = world.reader.all(sql.audit.list, dict, **of, limit=None)
    return [(r["action"], r["vm_name"], r["detail"]) for r in reversed(rows)]


def task(world: World, kind: str, vm: str | None, **facts: Any) -> None:
    """A task of ours, at work unless ``facts`` say otherwise."""
    row = {"kind": kind, "lane": "power", "host_id": "one", "vm_uuid": vm}
    row |= {"vm_name": None, "uri": None, "params": None, "origin": None}
    task_id = uuid.uuid4()
    with world.changes.begin() as change:
        change.run(sql.tasks.add, **row, id=task_id, requested_by="me", request_id=None)
    with world.pool.connection() as conn:
        conn.execute(
            "update tasks set state = 'running', started_at = now() where id = %s",
            [task_id],
        )
        if ended := facts.get("ended"):
            conn.execute(
                "update tasks set state = 'done', ended_at = now() - %s::interval"
                " where id = %s",
                [ended, task_id],
            )


def turn(world: World, name: str, vm: str, state: int) -> None:
    world.hypervisor.define(name, vm, state=state)
    world.sync_vm(vm)


def test_what_a_host_had_before_is_no_change(world: World) -> None:
    world.hypervisor.define("old")

    world.sync_host()
    world.sync_host()

    assert outside(world) == []


@pytest.mark.parametrize("look", ["sync_host", "sync_vm"])
def test_what_somebody_did_with_virsh_is_found(world: World, look: str) -> None:
    old = world.hypervisor.define("old", state=OFF)
    world.sync_host()

    def see(vm: str) -> None:
        world.sync_host() if look == "sync_host" else world.sync_vm(vm)

    new = world.hypervisor.define("new", state=OFF)
    see(new)
    for state in (RUNNING, PAUSED, RUNNING, OFF):
        world.hypervisor.define("new", new, state=state)
        see(new)
    world.hypervisor.define("renamed", old, state=OFF, title="other")
    see(old)
    world.hypervisor.undefine(old)
    if look == "sync_host":
        world.sync_host()
    else:
        with pytest.raises(UnknownVm):
            world.sync_vm(old)

    assert outside(world) == [
        ("defined", "new", "state 5"),
        ("started", "new", "state 5 → 1"),
        ("paused", "new", "state 1 → 3"),
        ("resumed", "new", "state 3 → 1"),
        ("stopped", "new", "state 1 → 5"),
        ("renamed", "renamed", "name old → renamed, title"),
        ("removed", "renamed", "state 5"),
    ]


def test_what_we_did_is_not_outside(world: World) -> None:
    vm = world.hypervisor.define("one", state=OFF)
    world.sync_host()

    task(world, "start", vm)
    turn(world, "one", vm, RUNNING)

    assert outside(world) == []


def test_a_guest_takes_its_time_to_shut_down(world: World) -> None:
    vm = world.hypervisor.define("one", state=RUNNING)
    world.sync_host()

    task(world, "shutdown", vm, ended="3 minutes")
    turn(world, "one", vm, OFF)

    assert outside(world) == []


def test_a_task_explains_only_what_it_brings_about(world: World) -> None:
    vm = world.hypervisor.define("one", state=OFF)
    other = world.hypervisor.define("other", state=OFF)
    late = world.hypervisor.define("late", state=OFF)
    world.sync_host()

    task(world, "start", vm, ended="1 second")
    turn(world, "one", vm, RUNNING)
    turn(world, "one", vm, OFF)
    turn(world, "other", other, RUNNING)
    task(world, "start", late, ended="5 minutes")
    turn(world, "late", late, RUNNING)

    assert [what[:2] for what in outside(world)] == [
        ("stopped", "one"),
        ("started", "other"),
        ("started", "late"),
    ]


def test_a_reboot_is_known_by_its_event(world: World) -> None:
    vm = world.hypervisor.define("one", state=RUNNING)
    ours = world.hypervisor.define("ours", state=RUNNING)
    world.sync_host()

    def reboot(vm: str) -> None:
        with world.changes.begin() as change:
            change.run(sql.audit.rebooted, host_id="one", uuids=[vm])

    reboot(vm)
    reboot(vm)  # libvirt tells some reboots twice.
    task(world, "reboot", ours)
    reboot(ours)

    assert [what[:2] for what in outside(world)] == [("rebooted", "one")]


def test_a_host_that_moves_brings_its_own(world: World) -> None:
    world.hypervisor.define("old")
    world.sync_host()

    task(world, "move", None)
    world.hypervisor.define("new")
    world.sync_host()

    assert outside(world) == []


PAST = """
insert into tasks (
    id, kind, lane, host_id, vm_uuid, requested_by, state, started_at, ended_at
)
select gen_random_uuid(), kind, 'power', 'one', %(vm)s, 'me', 'done', at, at
from generate_series(1, 1000) n, unnest(array['start', 'destroy', 'shutdown']) kind,
    lateral (select now() - interval '1 hour' + n * interval '1 second' as at) t
"""
READ = """
select seq_tup_read + coalesce(idx_tup_fetch, 0) as tasks
from pg_stat_xact_user_tables where relname = 'tasks'
"""


def test_a_look_reads_few_of_the_tasks_of_a_month(world: World) -> None:
    vm = world.hypervisor.define("vm", state=OFF)
    world.sync_host()
    with world.pool.connection() as conn:
        conn.execute(PAST, {"vm": vm})

        with conn.transaction():
            conn.execute("update vms set state = 1, revision = revision + 1")
            [read] = conn.execute(READ).fetchall()

    assert outside(world) == [("started", "vm", "state 5 → 1")]
    assert read["tasks"] < 10
