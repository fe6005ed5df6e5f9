"""One trace from the request through its task to libvirt; none unless asked for."""

import subprocess
import sys
from pathlib import Path

import libvirt
import pytest

from tests.faults.conftest import Hosts, NewLab, uri
from tests.lab.hypervisors import define
from tests.lab.system import TOP, System, eventually
from tests.measured.collector import Collector

TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = "b7ad6b7169203331"
ROUTE = "POST /api/hosts/{host_id}/vms/{vm}/action"


def test_a_request_and_its_libvirt_calls_are_one_trace(
    new_lab: NewLab, behind: libvirt.virConnect, hosts: Hosts
) -> None:
    define(behind, "one")
    [host] = hosts(1)
    with (
        Collector() as collector,
        new_lab(
            OTEL_EXPORTER_OTLP_ENDPOINT=collector.url, OTEL_BSP_SCHEDULE_DELAY="100"
        ) as lab,
    ):
        lab.start()
        lab.add_host("alpha", uri(host))

        answer = lab.api.post(
            "/api/hosts/alpha/vms/one/action",
            json={"action": "start"},
            headers={"traceparent": f"00-{TRACE}-{PARENT}-01"},
        )
        wanted = {ROUTE, "task start", "libvirt create"}
        eventually(lambda: wanted <= collector.of(TRACE).keys(), 10)
        spans = collector.of(TRACE)

        assert answer.status_code == 204
        request, task, call = spans[ROUTE], spans["task start"], spans["libvirt create"]
        assert request.parent_id == PARENT
        assert task.parent_id == request.span_id
        assert call.parent_id == task.span_id
        assert request.service == "virtumancer-web"
        assert {task.service, call.service} == {"virtumancer-worker"}
        assert request.attributes["http.response.status_code"] == 204
        assert call.attributes["virtumancer.host"] == "alpha"
        assert request.attributes["virtumancer.request"] == _request_of(lab)
        assert lab.said("start", trace=TRACE)
        assert lab.said("request", trace=TRACE)


def _request_of(lab: System) -> object:
    [line] = lab.said("start", host="alpha")
    return line["request"]


def test_each_request_of_one_connection_has_a_trace_of_its_own(
    new_lab: NewLab,
) -> None:
    with (
        Collector() as collector,
        new_lab(
            OTEL_EXPORTER_OTLP_ENDPOINT=collector.url, OTEL_BSP_SCHEDULE_DELAY="100"
        ) as lab,
    ):
        web = lab.web()
        with web.client() as api:
            for _ in range(3):
                api.get("/api/hosts")
            eventually(lambda: len(collector.spans) == 3, 10)

        assert len({span.trace_id for span in collector.spans}) == 3
        assert {span.parent_id for span in collector.spans} == {""}


def test_a_collector_that_is_away_harms_nobody(
    new_lab: NewLab, behind: libvirt.virConnect, hosts: Hosts
) -> None:
    define(behind, "one")
    [host] = hosts(1)
    with new_lab(OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:1") as lab:
        lab.start()
        lab.add_host("alpha", uri(host))

        assert lab.act("alpha", "one", "start").status_code == 204
        ends = [process.terminate() for process in lab.processes]

        assert [code for code, _ in ends] == [0, 0, 0]
        assert max(lasted_s for _, lasted_s in ends) < 4


def python(program: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-c", program],
        cwd=TOP,
        capture_output=True,
        text=True,
        timeout=30,
    )


CONFIGURE = """
import sys
{first}
import api.app, workers.actors
from common import settings, tracing
urls = {{"DATABASE_URL": "postgresql://", "REDIS_URL": "redis://"}}
tracing.configure(settings.from_environment({{**urls, {variable}}}), "web")
{last}
"""


@pytest.mark.parametrize("variable", ["", '"OTEL_TRACES_EXPORTER": "none"'])
def test_no_tracing_is_imported_unless_asked_for(variable: str) -> None:
    # redis-py takes OpenTelemetry's metrics wherever they are installed.
    tracing = (
        "('common.telemetry', 'opentelemetry.sdk.trace', 'opentelemetry.exporter')"
    )
    loaded = f"print([m for m in sys.modules if m.startswith({tracing})])"

    said = python(CONFIGURE.format(first="", variable=variable, last=loaded))

    assert said.stdout == "[]\n", said.stderr


def test_traces_without_the_library_end_the_process_with_one_line() -> None:
    missing = "sys.modules['opentelemetry'] = None"
    variable = '"OTEL_TRACES_EXPORTER": "otlp"'

    said = python(CONFIGURE.format(first=missing, variable=variable, last=""))

    assert said.returncode == 1
    [line] = said.stderr.splitlines()
    assert "pip install -r requirements-tracing.txt" in line
    assert (Path(TOP) / "requirements-tracing.txt").exists()
