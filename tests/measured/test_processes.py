"""What the processes count arrives at /metrics, whichever web is asked."""

import libvirt

from tests.faults.conftest import Hosts, uri
from tests.lab.hypervisors import define
from tests.lab.system import System, eventually
from tests.measured.scrape import Scrape, scrape


def test_one_scrape_shows_all_processes(
    lab: System, behind: libvirt.virConnect, hosts: Hosts
) -> None:
    define(behind, "one")
    lab.start(webs=2, workers=1, monitors=1)
    [host] = hosts(1)
    lab.add_host("alpha", uri(host))
    lab.listen()
    # Before that its monitor hears of no event, and looks at everything instead.
    eventually(lambda: lab.said("host connected", host="alpha"), 10)

    assert lab.act("alpha", "one", "start").status_code == 204

    def counted() -> Scrape | None:
        seen = scrape(lab.api)
        lag = seen.value("virtumancer_event_lag_seconds_count")
        everybody = len(seen.all("virtumancer_sockets")) == 4
        return (
            seen
            if lag and everybody and seen.value("virtumancer_tasks_total", **start)
            else None
        )

    start = {"verb": "start", "outcome": "done"}
    seen: Scrape = eventually(counted, 15)

    assert seen.value("virtumancer_tasks_total", **start) == 1
    assert seen.value("virtumancer_task_seconds_count", verb="start") == 1
    route = "/api/hosts/{host_id}/vms/{vm}/action"
    assert seen.value(
        "virtumancer_http_request_seconds_count", route=route, method="POST"
    )
    assert seen.value("virtumancer_sockets") == 1
    assert seen.value("virtumancer_libvirt_call_seconds_count", verb="create") == 1
    assert seen.value("virtumancer_libvirt_call_seconds_count", host="alpha")
    assert seen.value("virtumancer_host_state", host="alpha", state="connected") == 1
    assert seen.value("virtumancer_host_state", host="alpha") == 1
    assert seen.value("virtumancer_leases") == 1
    assert seen.value("virtumancer_processes", kind="worker") == 1
    assert seen.value("virtumancer_queue_age_seconds", lane="power") == 0
    processes = {s.labels["process"] for s in seen.all("virtumancer_sockets")}
    assert {p.partition("@")[0] for p in processes} >= {"web", "worker", "monitor"}


def test_a_dead_process_is_soon_nobody(lab: System) -> None:
    lab.start(workers=2)
    eventually(
        lambda: len(scrape(lab.api).all("virtumancer_sockets")) == 4, 10, "four count"
    )

    lab.of("worker")[0].kill()

    eventually(
        lambda: len(scrape(lab.api).all("virtumancer_sockets")) == 3, 30, "three count"
    )
