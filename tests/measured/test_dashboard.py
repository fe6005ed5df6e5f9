"""docs/grafana.json asks for nothing that /metrics does not have."""

import json
import re
from collections.abc import Iterator

import pytest

from embedded.libvirtd import Libvirtd
from embedded.machines import define_machine
from tests.faults.conftest import NewLab
from tests.lab.hypervisors import behind_our_back
from tests.lab.system import TOP, eventually
from tests.measured.scrape import Scrape, scrape
from tests.measured.test_fleet import QUICK

DASHBOARD = json.loads((TOP / "docs" / "grafana.json").read_text())
_NAME = re.compile(r"virtumancer_\w+")
_LABEL = re.compile(r"(\w+)\s*(?:=~|!=|!~|=)\s*\"")
_GROUPED = re.compile(r"\bby \(([^)]*)\)|\bon \(([^)]*)\)")
_LEGEND = re.compile(r"\{\{(\w+)\}\}")


def queries() -> Iterator[tuple[str, str]]:
    """Every expression of the dashboard and its legend."""
    for panel in DASHBOARD["panels"]:
        for target in panel.get("targets", []):
            yield target["expr"], target["legendFormat"]
    for variable in DASHBOARD["templating"]["list"]:
        if variable["type"] == "query":
            yield variable["query"]["query"], ""


QUERIES = list(queries())


@pytest.fixture(scope="module")
def seen(new_lab: NewLab, domains: Libvirtd) -> Iterator[Scrape]:
    """A scrape of a system that has done a little of everything."""
    with new_lab(**QUICK) as lab, behind_our_back(domains, "qemu") as qemu:
        define_machine(qemu, "seen", domains.folder / "disks").create()
        lab.start()
        lab.add_host("real", domains.uri("qemu", "session"))
        lab.listen().close()
        # Before that its monitor hears of no event, and looks at everything instead.
        eventually(lambda: lab.said("host connected", host="real"), 10)
        assert lab.act("real", "seen", "suspend").status_code == 204
        wanted = (
            "virtumancer_vm_cpu_seconds_total",
            "virtumancer_tasks_total",
            "virtumancer_sockets_closed_total",
            "virtumancer_event_lag_seconds_count",
        )
        eventually(lambda: all(scrape(lab.api).value(n) for n in wanted), 15)
        yield scrape(lab.api)


@pytest.mark.parametrize(("query", "legend"), QUERIES)
def test_query_asks_for_what_is_exposed(seen: Scrape, query: str, legend: str) -> None:
    names = set(_NAME.findall(query))

    assert names
    assert names <= seen.names


@pytest.mark.parametrize(("query", "legend"), QUERIES)
def test_query_knows_the_labels(seen: Scrape, query: str, legend: str) -> None:
    samples = [s for name in _NAME.findall(query) for s in seen.all(name)]
    if not samples:
        assert "_net_" in query  # The machine's NIC has no counters.
        return
    known = {label for sample in samples for label in sample.labels}

    used = {*_LABEL.findall(query), *_LEGEND.findall(legend)}
    for words in _GROUPED.findall(query):
        used |= set(re.findall(r"\w+", "".join(words)))

    assert used <= known


def test_every_panel_has_its_own_place() -> None:
    places = [panel["gridPos"] for panel in DASHBOARD["panels"]]
    taken = [
        (x, y)
        for p in places
        for x in range(p["x"], p["x"] + p["w"])
        for y in range(p["y"], p["y"] + p["h"])
    ]

    assert len(taken) == len(set(taken))
    assert max(x for x, _ in taken) < 24
    identities = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(identities) == len(set(identities))


def test_every_metric_is_on_the_dashboard(seen: Scrape) -> None:
    asked = {name for query, _ in QUERIES for name in _NAME.findall(query)}
    bare = {re.sub("_(bucket|sum|count|total)$", "", name) for name in asked}

    assert {family.name for family in seen.families} <= bare
