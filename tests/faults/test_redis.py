"""Redis rings and holds nothing: it may go, come back empty, be flushed or hang."""

import time
from concurrent.futures import ThreadPoolExecutor

import libvirt

from embedded.servers import Redis
from tests.faults.conftest import Hosts, NewLab, uri
from tests.lab.hypervisors import define
from tests.lab.proxy import Proxy
from tests.lab.system import System, eventually, flush

RUNNING = 1
BACK_S = 5


def test_nothing_is_lost_when_redis_is_killed_and_comes_back_empty(
    lab: System, behind: libvirt.virConnect, hosts: Hosts, redis: Redis
) -> None:
    names = [f"vm-{n}" for n in range(10)]
    for name in names:
        define(behind, name)
    lab.start(webs=2, workers=2, monitors=2)
    [host] = hosts(1)
    lab.add_host("one", uri(host))
    listeners = [lab.listen(web) for web in lab.webs]
    for listener in listeners:
        listener.subscribe("one", "vm-0")
        listener.wait(5, "vm-stats-updated")

    redis.kill()
    try:
        began = time.monotonic()
        answers = [lab.act("one", name, "start", "wait=0.5") for name in names]
        lasted_s = time.monotonic() - began
        health = lab.api.get("/api/health").json()
    finally:
        redis.start()
    back = time.monotonic()

    assert {a.status_code for a in answers} == {202}
    assert lasted_s < 10 * 1.5
    assert health["redis"] is False
    assert any("Redis" in problem for problem in health["problems"])
    for listener in listeners:
        listener.wait(BACK_S, "vms-changed", since=back, hostId="one")
        listener.wait(BACK_S, "vm-stats-updated", since=back)
        assert listener.open
    ended = [lab.ended(a.headers["Location"], 15) for a in answers]
    assert {task["state"] for task in ended} == {"done"}
    assert host.pressed == {("start", name): 1 for name in names}
    for process in lab.processes:
        assert len(process.said("redis is gone")) == 1, process.name
    changed = time.monotonic()
    assert lab.act("one", "vm-0", "suspend").status_code == 204
    for listener in listeners:
        listener.wait(2, "vms-changed", since=changed, hostId="one")


def test_a_thousand_queued_tasks_run_exactly_once_though_redis_was_flushed(
    lab: System, behind: libvirt.virConnect, hosts: Hosts, redis: Redis
) -> None:
    names = [f"vm-{n}" for n in range(1000)]
    for name in names:
        define(behind, name)
    lab.start(workers=0)
    first = lab.worker()
    [host] = hosts(1)
    lab.add_host("one", uri(host))
    eventually(lambda: not lab.unfinished(), 10)
    assert first.terminate()[0] == 0
    with ThreadPoolExecutor(4) as threads:
        tasks = list(threads.map(lambda name: lab.ask("one", name, "start"), names))

    flush(redis.url)
    lab.worker()
    lab.worker()

    eventually(lambda: not lab.unfinished(), 60)
    ended = lab.rows(
        "select state, attempts, count(*) from tasks where kind = 'start' group by 1, 2"
    )
    assert ended == [{"state": "done", "attempts": 1, "count": len(tasks)}]
    assert host.pressed == {("start", name): 1 for name in names}
    assert {vm["state"] for vm in lab.vms("one").values()} == {RUNNING}


def test_actions_are_taken_and_sockets_stay_while_redis_says_nothing(
    new_lab: NewLab, behind: libvirt.virConnect, hosts: Hosts, redis: Redis
) -> None:
    define(behind, "vm-0")
    with (
        Proxy(redis.socket, hosts.folder / "redis.sock") as between,
        new_lab(REDIS_URL=f"unix://{between.listen}") as lab,
    ):
        lab.start()
        lab.add_host("one", uri(hosts(1)[0]))
        listener = lab.listen()

        between.go_silent()
        began = time.monotonic()
        answer = lab.act("one", "vm-0", "start", "wait=1")
        lasted_s = time.monotonic() - began
        between.forward()
        back = time.monotonic()

        assert answer.status_code == 202
        assert lasted_s < 6
        task = lab.ended(answer.headers["Location"], 10)
        assert (task["state"], task["attempts"]) == ("done", 1)
        assert lab.act("one", "vm-0", "suspend", "wait=5").status_code == 204
        listener.wait(BACK_S, "vms-changed", since=back, hostId="one")
        assert listener.open
