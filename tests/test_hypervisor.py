"""What the floors above may ask of a host, asked of real libvirt daemons."""

import gc
import queue
import threading
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import libvirt
import pytest

from common.errors import (
    HostUnreachable,
    LibvirtRefused,
    UnknownVm,
    VirtumancerError,
    WrongState,
)
from embedded.libvirtd import Libvirtd
from embedded.machines import define_machine
from tests.lab.hypervisors import behind_our_back, checked, define, hypervisor
from tests.lab.proxy import SUSPEND, LibvirtProxy
from workers.hypervisor import power
from workers.hypervisor.connection import POWER_ACTIONS, Connection
from workers.hypervisor.events import start_event_loop, subscribe
from workers.hypervisor.records import Devices, Event, StatsGroup, Timeouts
from workers.hypervisor.watchdog import SLOW_S, Watchdog

RUNNING, PAUSED, OFF = 1, 3, 5

Eventually = Callable[..., None]


@pytest.fixture(scope="module")
def server(server_folder: Path) -> Iterator[Libvirtd]:
    with hypervisor(server_folder / "hypervisor") as server:
        yield server


@pytest.fixture
def virsh(server: Libvirtd) -> Iterator[Any]:
    """Somebody else on the same test driver."""
    with behind_our_back(server) as connection:
        yield connection


@pytest.fixture
def connection(server: Libvirtd, virsh: Any) -> Iterator[Connection]:
    connection = open_test_driver(server)
    yield connection
    connection.close()


def open_test_driver(server: Libvirtd) -> Connection:
    uri = checked(server.uri("test", "default"), server.folder)
    return Connection.open(uri, Path("/nonexistent"), Timeouts())


# ---- Domains.


ODD_NAMES = [
    "plain",
    "with space",
    "ünï-☃-日本",
    "percent%2Fsign",
    "quote'\"<&>",
    "..",
    "-rf",
    "x" * 200,
]


def test_domains_are_listed_with_their_flags(
    connection: Connection, virsh: Any
) -> None:
    off = define(virsh, "off")
    on = define(virsh, "on")
    virsh.lookupByUUIDString(on).create()
    virsh.lookupByUUIDString(off).setAutostart(1)
    passing = define(virsh, "transient")
    virsh.lookupByUUIDString(passing).create()
    virsh.lookupByUUIDString(passing).undefine()

    listing = connection.list_domains()

    by_uuid = {domain.uuid: domain for domain in listing.domains}
    assert listing.unreadable == {}
    assert (by_uuid[off].name, by_uuid[off].state) == ("off", OFF)
    assert (by_uuid[off].active, by_uuid[off].libvirt_id) == (False, None)
    assert (by_uuid[off].autostart, by_uuid[off].persistent) == (True, True)
    assert (by_uuid[on].active, by_uuid[on].state) == (True, RUNNING)
    assert by_uuid[on].libvirt_id is not None
    assert not by_uuid[on].autostart
    assert not by_uuid[passing].persistent
    for domain_uuid, listed in by_uuid.items():
        assert connection.domain(domain_uuid).listed == listed


@pytest.mark.parametrize("name", ODD_NAMES)
def test_a_name_may_hold_any_character(
    name: str, connection: Connection, virsh: Any
) -> None:
    defined = define(virsh, name)

    assert connection.find(name) == defined
    assert connection.domain(defined).listed.name == name
    names = [domain.name for domain in connection.list_domains().domains]
    assert name in names


@pytest.mark.parametrize("name", ["nobody", "", "zero\0byte"])
def test_a_name_that_nobody_has(name: str, connection: Connection) -> None:
    with pytest.raises(UnknownVm):
        connection.find(name)


@pytest.mark.parametrize("unknown", [str(uuid.uuid4()), "not-a-uuid", ""])
def test_a_uuid_that_nobody_has(unknown: str, connection: Connection) -> None:
    for ask in (connection.domain, connection.domain_xml):
        with pytest.raises(UnknownVm):
            ask(unknown)
    with pytest.raises(UnknownVm):
        connection.power(unknown, "start")


def test_xml_of_many_is_fetched_together(connection: Connection, virsh: Any) -> None:
    uuids = [define(virsh, f"many-{number}") for number in range(40)]
    connection.list_domains()
    virsh.lookupByUUIDString(uuids[7]).undefine()

    found = connection.domains_xml(uuids)

    assert set(found) == set(uuids)
    assert isinstance(found.pop(uuids[7]), UnknownVm)
    for domain_uuid, xml in found.items():
        assert isinstance(xml, str)
        assert ElementTree.fromstring(xml).findtext("uuid") == domain_uuid


def test_a_host_lost_in_the_middle_raises(server: Libvirtd, virsh: Any) -> None:
    uuids = [define(virsh, f"lost-{number}") for number in range(20)]
    connection = open_test_driver(server)
    connection.list_domains()
    connection.link.cut()

    with pytest.raises(HostUnreachable):
        connection.domains_xml(uuids)
    connection.close()


def test_block_sizes_leave_out_what_cannot_be_measured(
    connection: Connection, virsh: Any
) -> None:
    defined = define(virsh, "disks")

    sizes = connection.block_sizes(defined, ["vda", "sda"])

    assert list(sizes) == ["vda"]
    assert sizes["vda"].capacity > 0


# ---- Power.


def state_of(connection: Connection, domain_uuid: str) -> int:
    return connection.domain(domain_uuid).listed.state


def bring_to(domain: Any, state: int) -> None:
    if state != OFF:
        domain.create()
    if state == PAUSED:
        domain.suspend()


@pytest.mark.parametrize(
    ("state", "action", "then"),
    [
        (OFF, "start", RUNNING),
        (RUNNING, "start", RUNNING),
        (RUNNING, "shutdown", OFF),
        (OFF, "shutdown", OFF),
        (RUNNING, "destroy", OFF),
        (PAUSED, "destroy", OFF),
        (OFF, "destroy", OFF),
        (RUNNING, "reboot", RUNNING),
        (RUNNING, "reset", RUNNING),
        (RUNNING, "suspend", PAUSED),
        (PAUSED, "suspend", PAUSED),
        (PAUSED, "resume", RUNNING),
        (RUNNING, "resume", RUNNING),
    ],
)
def test_an_action_leads_to_its_state(
    state: int, action: str, then: int, connection: Connection, virsh: Any
) -> None:
    defined = define(virsh, "power")
    bring_to(virsh.lookupByUUIDString(defined), state)

    connection.power(defined, action)

    assert state_of(connection, defined) == then


@pytest.mark.parametrize(
    ("state", "action", "advice"),
    [
        (PAUSED, "start", "resume it first"),
        (PAUSED, "shutdown", "resume it first"),
        (PAUSED, "reboot", "resume it first"),
        (OFF, "reboot", "start it first"),
        (OFF, "reset", "start it first"),
        (OFF, "suspend", "start it first"),
        (OFF, "resume", "start it first"),
    ],
)
def test_an_action_in_the_wrong_state_is_refused_with_advice(
    state: int, action: str, advice: str, connection: Connection, virsh: Any
) -> None:
    defined = define(virsh, "power")
    bring_to(virsh.lookupByUUIDString(defined), state)

    with pytest.raises(WrongState, match=advice):
        connection.power(defined, action)

    assert state_of(connection, defined) == state


def test_the_actions_are_the_contracts_and_two_more() -> None:
    contract = {"start", "shutdown", "reboot", "destroy", "reset"}

    assert {"suspend", "resume"} | contract == POWER_ACTIONS


class Meddler:
    """Does something on the host between our look and our act."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, action: str) -> None:
        self._verb = power.VERBS[action]
        self._monkeypatch = monkeypatch
        self._action = action

    def before_the_act(self, meddle: Callable[[], object]) -> None:
        def first(press: power.Press) -> power.Press:
            def pressed(domain: Any) -> Callable[[], object]:
                meddle()
                return press(domain)

            return pressed

        presses = {state: first(press) for state, press in self._verb.press.items()}
        verb = power.Verb(self._verb.done, presses)
        self._monkeypatch.setitem(power.VERBS, self._action, verb)


@pytest.mark.parametrize(
    ("state", "action", "meddling"),
    [
        (OFF, "start", "create"),
        (RUNNING, "destroy", "destroy"),
        (RUNNING, "shutdown", "destroy"),
        (RUNNING, "suspend", "suspend"),
        (PAUSED, "resume", "resume"),
    ],
)
def test_whoever_was_faster_did_our_work(
    state: int,
    action: str,
    meddling: str,
    connection: Connection,
    virsh: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    domain = virsh.lookupByUUIDString(define(virsh, "race"))
    bring_to(domain, state)
    Meddler(monkeypatch, action).before_the_act(getattr(domain, meddling))

    connection.power(domain.UUIDString(), action)


def test_whoever_was_faster_may_have_made_it_impossible(
    connection: Connection, virsh: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    domain = virsh.lookupByUUIDString(define(virsh, "race"))
    bring_to(domain, RUNNING)
    Meddler(monkeypatch, "reboot").before_the_act(domain.destroy)

    with pytest.raises(WrongState):
        connection.power(domain.UUIDString(), "reboot")


def test_a_domain_without_configuration_that_ends_meanwhile_is_destroyed(
    connection: Connection, virsh: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    domain = virsh.lookupByUUIDString(define(virsh, "transient"))
    domain.create()
    domain.undefine()
    Meddler(monkeypatch, "destroy").before_the_act(domain.destroy)

    connection.power(domain.UUIDString(), "destroy")

    with pytest.raises(UnknownVm):
        connection.domain(domain.UUIDString())


# ---- The host, and counters.


def test_a_host_tells_what_it_is(connection: Connection) -> None:
    facts = connection.host_facts()

    assert facts.hypervisor == "TEST"
    assert facts.hostname
    assert (facts.cpus, facts.sockets, facts.cores, facts.threads) == (16, 2, 2, 2)
    assert facts.memory_bytes == 3072 * 1024 * 1024
    assert facts.libvirt_version.count(".") == 2


def devices_of(xml: str) -> Devices:
    root = ElementTree.fromstring(xml)
    disks = root.iterfind("devices/disk/target")
    nics = root.iterfind("devices/interface/target")
    return Devices(
        tuple(target.get("dev", "") for target in disks),
        tuple(target.get("dev", "") for target in nics),
    )


def test_what_a_driver_leaves_out_of_the_bulk_is_filled_in(
    connection: Connection, virsh: Any
) -> None:
    on, off, gone = (define(virsh, name) for name in ("on", "off", "gone"))
    virsh.lookupByUUIDString(on).create()
    connection.list_domains()
    virsh.lookupByUUIDString(gone).undefine()

    unknown = str(uuid.uuid4())
    samples = connection.stats([on, off, gone, unknown], devices_of=devices_of)

    assert set(samples) == {on, off}
    values = samples[on].values
    assert samples[on].name == "on"
    assert values["state.state"] == RUNNING
    assert values["balloon.maximum"] == values["balloon.current"] == 65536
    assert values["vcpu.current"] == 2
    assert isinstance(values["cpu.time"], int)
    assert (values["block.count"], values["block.0.name"]) == (1, "vda")
    assert isinstance(values["block.0.rd.bytes"], int)
    assert (values["net.count"], values["net.0.name"]) == (1, "testnet0")
    assert isinstance(values["net.0.tx.bytes"], int)
    assert samples[off].values["state.state"] == OFF
    assert samples[off].values["vcpu.current"] == 2


def test_only_the_groups_asked_for_are_read(connection: Connection, virsh: Any) -> None:
    on = define(virsh, "on")
    virsh.lookupByUUIDString(on).create()

    samples = connection.stats([on], StatsGroup.STATE, devices_of)

    assert set(samples[on].values) == {"state.state", "state.reason"}


def test_stats_of_nobody_are_none(connection: Connection) -> None:
    assert connection.stats([]) == {}


# ---- Real machines.


@pytest.fixture(scope="module")
def qemu(server: Libvirtd) -> Iterator[Any]:
    with behind_our_back(server, "qemu") as connection:
        yield connection


@pytest.fixture(scope="module")
def machine(qemu: Any, server: Libvirtd) -> str:
    domain = define_machine(qemu, "machine", server.folder / "disks")
    domain_uuid: str = domain.UUIDString()
    return domain_uuid


@pytest.fixture
def real(server: Libvirtd) -> Iterator[Connection]:
    uri = checked(server.uri("qemu", "session"), server.folder)
    connection = Connection.open(uri, Path("/nonexistent"), Timeouts(power_s=60))
    yield connection
    connection.close()


def test_a_real_machine_obeys(real: Connection, machine: str) -> None:
    states = []
    for action in (
        "start",
        "start",
        "suspend",
        "resume",
        "reset",
        "destroy",
        "destroy",
    ):
        real.power(machine, action)
        states.append(state_of(real, machine))

    assert states == [RUNNING, RUNNING, PAUSED, RUNNING, RUNNING, OFF, OFF]
    with pytest.raises(WrongState):
        real.power(machine, "reset")


def test_a_real_machine_is_counted(real: Connection, machine: str) -> None:
    off = real.stats([machine])[machine]
    real.power(machine, "start")

    on = real.stats([machine], devices_of=devices_of)[machine]
    cheap = real.stats([machine], StatsGroup.CHEAP)[machine]
    sizes = real.block_sizes(machine, ["vda"])
    real.power(machine, "destroy")

    assert off.values["state.state"] == OFF
    assert on.values["state.state"] == RUNNING
    assert on.values["balloon.maximum"] == 65536
    assert isinstance(on.values["cpu.time"], int)
    assert on.values["vcpu.current"] == 1
    assert on.values["block.0.name"] == "vda"
    assert isinstance(on.values["block.0.rd.bytes"], int)
    assert "balloon.current" not in cheap.values
    assert sizes["vda"].capacity == 16 * 1024 * 1024


def test_a_machine_that_cannot_start_is_refused_in_libvirts_words(
    real: Connection, qemu: Any, server: Libvirtd
) -> None:
    domain = define_machine(qemu, "broken", server.folder / "disks")
    (server.folder / "disks" / "broken.img").unlink()

    with pytest.raises(LibvirtRefused) as refusal:
        real.power(domain.UUIDString(), "start")

    assert "broken.img" in refusal.value.detail
    assert isinstance(refusal.value.extra["libvirt_code"], int)
    domain.undefine()


# ---- Events.


class Heard:
    """A sink that remembers."""

    def __init__(self) -> None:
        self._queue: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self.events: list[Event] = []

    def put(self, event: Event) -> None:
        self._queue.put(event)

    def has(
        self, kind: str, domain_uuid: str | None, detail: int | None = None
    ) -> bool:
        while not self._queue.empty():
            self.events.append(self._queue.get())
        return any(
            event.kind == kind
            and event.uuid == domain_uuid
            and detail in (None, event.detail)
            for event in self.events
        )


@pytest.fixture
def heard(server: Libvirtd, virsh: Any) -> Iterator[tuple[Connection, Heard]]:
    start_event_loop()
    connection = open_test_driver(server)
    heard = Heard()
    subscribe(connection, heard.put)
    yield connection, heard
    connection.close()


def test_the_event_loop_has_a_pulse(eventually: Eventually) -> None:
    loop = start_event_loop()

    assert start_event_loop() is loop
    age = loop.pulse_age_s()
    eventually(lambda: loop.pulse_age_s() < age or loop.pulse_age_s() < 0.1)
    assert loop.pulse_age_s() < 2


def test_what_others_do_is_heard(
    heard: tuple[Connection, Heard], virsh: Any, eventually: Eventually
) -> None:
    _connection, ear = heard
    defined = define(virsh, "watched")
    domain = virsh.lookupByUUIDString(defined)

    domain.create()
    domain.suspend()
    domain.destroy()
    domain.setMetadata(libvirt.VIR_DOMAIN_METADATA_TITLE, "new", None, None)
    domain.undefine()

    for detail in (
        libvirt.VIR_DOMAIN_EVENT_DEFINED,
        libvirt.VIR_DOMAIN_EVENT_STARTED,
        libvirt.VIR_DOMAIN_EVENT_SUSPENDED,
        libvirt.VIR_DOMAIN_EVENT_STOPPED,
        libvirt.VIR_DOMAIN_EVENT_UNDEFINED,
    ):
        eventually(lambda detail=detail: ear.has("lifecycle", defined, detail))
    eventually(lambda: ear.has("metadata-change", defined))


def test_a_device_that_comes_is_heard(
    server: Libvirtd, qemu: Any, machine: str, eventually: Eventually
) -> None:
    start_event_loop()
    uri = checked(server.uri("qemu", "session"), server.folder)
    connection = Connection.open(uri, Path("/nonexistent"))
    ear = Heard()
    subscribe(connection, ear.put)
    domain = qemu.lookupByUUIDString(machine)
    domain.create()

    domain.attachDevice(
        "<rng model='virtio'><backend model='random'>/dev/urandom</backend></rng>"
    )

    eventually(lambda: ear.has("lifecycle", machine, libvirt.VIR_DOMAIN_EVENT_STARTED))
    eventually(lambda: ear.has("device-added", machine))
    domain.destroy()
    connection.close()


def test_a_connection_that_dies_is_told_once(
    server_folder: Path, eventually: Eventually
) -> None:
    start_event_loop()
    with hypervisor(server_folder / "dies") as server:
        connection = open_test_driver(server)
        ear = Heard()
        subscribe(connection, ear.put)

        server.kill()

        eventually(lambda: ear.has("closed", None))
    connection.close()
    assert [event.kind for event in ear.events] == ["closed"]


def test_a_connection_that_we_close_ends_in_silence(
    heard: tuple[Connection, Heard], virsh: Any, server: Libvirtd
) -> None:
    connection, ear = heard

    connection.close()
    define(virsh, "unheard")
    with behind_our_back(server):
        pass

    assert not ear.has("closed", None)
    assert ear.events == []


def test_connections_that_close_leave_nothing_behind(
    server: Libvirtd, virsh: Any, eventually: Eventually
) -> None:
    start_event_loop()

    def alive() -> int:
        gc.collect()
        return sum(isinstance(thing, libvirt.virConnect) for thing in gc.get_objects())

    before = alive()
    for _ in range(5):
        connection = open_test_driver(server)
        subscribe(connection, lambda _event: None)
        connection.list_domains()
        connection.close()
        del connection

    eventually(lambda: alive() <= before)


# ---- Deadlines.


def test_deadlines_pass_in_their_order(eventually: Eventually) -> None:
    watchdog = Watchdog()
    passed: list[str] = []
    with (
        watchdog.limit(0.10, lambda: passed.append("late")) as late,
        watchdog.limit(0.05, lambda: passed.append("early")),
        watchdog.limit(60, lambda: passed.append("never")) as never,
    ):
        eventually(lambda: len(passed) == 2)

    assert passed == ["early", "late"]
    assert late.expired
    assert not never.expired


def test_each_slow_call_is_told_of_once(eventually: Eventually) -> None:
    watchdog = Watchdog()
    told: list[str] = []
    with watchdog.limit(60, lambda: None, lambda: told.append("slow")) as limit:
        eventually(lambda: len(told) == 1)
        limit.renew(60)
        eventually(lambda: len(told) == 2)
        with watchdog.limit(3 * SLOW_S, lambda: told.append("cut")):
            eventually(lambda: told[2:] == ["cut"])


def test_a_long_call_does_not_hold_up_others(
    server: Libvirtd, server_folder: Path, virsh: Any
) -> None:
    held = define(virsh, "held")
    virsh.lookupByUUIDString(held).create()
    with LibvirtProxy(server.socket, server_folder / "proxy.sock") as proxy:
        unix = f"test+unix:///default?socket={proxy.listen}"
        address = checked(unix, server_folder)
        times = Timeouts(call_s=2)
        with closing(Connection.open(address, server_folder, times)) as connection:

            def ping_on() -> None:
                for _ in range(1000):
                    connection.ping()

            hold = proxy.hold_replies(SUSPEND)
            with ThreadPoolExecutor(3) as threads:
                long = threads.submit(connection.power, held, "suspend")
                try:
                    for other in [threads.submit(ping_on) for _ in range(2)]:
                        other.result()
                    assert not long.done()
                finally:
                    hold.release()
                long.result()


def test_a_deadline_that_is_lifted_never_cuts(eventually: Eventually) -> None:
    watchdog = Watchdog()
    passed = threading.Event()
    cut_in_time = threading.Event()
    with watchdog.limit(0.05, cut_in_time.set):
        pass

    with watchdog.limit(0.1, passed.set):
        eventually(passed.is_set)

    assert not cut_in_time.is_set()


def test_an_error_knows_how_it_is_told(connection: Connection) -> None:
    with pytest.raises(VirtumancerError) as failure:
        connection.domain(str(uuid.uuid4()))

    assert failure.value.status == 404
