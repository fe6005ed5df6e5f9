"""What a domain's XML is read as, and that nothing a hypervisor writes can hurt."""

import copy
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import cast

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lxml import etree

from common.errors import BrokenDomain
from common.shapes.hardware import Hardware
from tests import golden
from tests.golden import parse
from workers import domain_xml
from workers.domain_xml import DOMAIN, LARGEST_XML, MOST_DEVICES, Domain
from workers.domain_xml.table import NAMESPACES, Chain, Line, Many, Table

LINES = list(DOMAIN.lines("/domain"))
ROOTS = {name: etree.fromstring(golden.xml(name)) for name in golden.NAMES}
# They come from libvirt's storage calls, not from the XML.
NOT_IN_XML = {"Disk.capacity_bytes"}
UUID_OF_ONE = "00000000-0000-0000-0000-000000000001"


def domain(inside: str = "", *, name: str = "one", memory: str = "") -> str:
    return (
        f"<domain type='test'><name>{name}</name><uuid>{UUID_OF_ONE}</uuid>"
        f"{memory}{inside}</domain>"
    )


def with_device(device: str) -> Hardware:
    return parse(domain(f"<devices>{device}</devices>")).hardware


# Golden pairs


@pytest.mark.parametrize("name", golden.NAMES)
def test_golden_domain_is_read_as_recorded(name: str) -> None:
    assert golden.read_now(name) == golden.json(name)


@pytest.mark.parametrize("name", golden.NAMES)
def test_golden_answer_is_of_its_own_shape(name: str) -> None:
    read = msgspec.json.decode(golden.json(name), type=Domain)

    assert read == parse(golden.xml(name))


@pytest.mark.parametrize("name", golden.NAMES)
def test_a_golden_domain_comes_back_whole_from_what_is_stored(name: str) -> None:
    stored = msgspec.json.encode(domain_xml.parse(golden.xml(name)).hardware)

    hardware = msgspec.json.decode(stored, type=Hardware)
    assert hardware == msgspec.json.decode(golden.json(name), type=Domain).hardware
    assert b"null" not in stored
    assert len(stored) < len(msgspec.json.encode(hardware)) / 1.5


# The table


def tables(table: Table[msgspec.Struct]) -> Iterator[Table[msgspec.Struct]]:
    yield table
    for fact in table.facts.values():
        if isinstance(fact, Table):
            yield from tables(fact)
        elif isinstance(fact, Many | Chain):
            yield from tables(fact.table)


def hits(line: Line, root: etree._Element) -> list[etree._Element]:
    """The elements of a document that a line's path leads to."""
    above, _, attribute = line.xpath.rpartition("/@")
    path = f"{above}[@{attribute}]" if above else line.xpath
    return cast("list[etree._Element]", root.xpath(path, namespaces=NAMESPACES))


def test_every_field_of_every_shape_has_a_line() -> None:
    for table in tables(DOMAIN):
        shape = table.shape.__name__
        fields = {f"{shape}.{name}" for name in table.shape.__struct_fields__}
        lines = {f"{shape}.{name}" for name in table.facts}
        assert lines <= fields
        if shape != "BandwidthLimit" or "floor_kib_per_s" in table.facts:
            assert fields - lines <= NOT_IN_XML


@pytest.mark.parametrize(
    "line",
    {(id(line.table), line.field, line.path): line for line in LINES}.values(),
    ids=lambda line: f"{line.table.shape.__name__}.{line.field}={line.path}",
)
def test_every_line_of_the_table_is_hit_by_a_golden_domain(line: Line) -> None:
    """And what it points at matters: without it the domain reads differently."""
    places = [
        other
        for other in LINES
        if (other.table, other.field, other.path) == (line.table, line.field, line.path)
    ]
    for place in places:
        for name, root in ROOTS.items():
            for number, _ in enumerate(hits(place, root)):
                if without(place, number, root) != parse(golden.xml(name)):
                    return

    pytest.fail(f"no golden domain shows {line.field} at {line.path}")


def without(line: Line, number: int, root: etree._Element) -> Domain | None:
    """The domain read again after what the line points at was taken away."""
    root = copy.deepcopy(root)
    element = hits(line, root)[number]
    attribute = line.path.rpartition("@")[2] if "@" in line.path else None
    if attribute is not None:
        del element.attrib[attribute]
    elif (above := element.getparent()) is not None:
        above.remove(element)
    try:
        return parse(etree.tostring(root))
    except BrokenDomain:
        return None


# What a person would ask


def test_contract_fields_are_there_though_the_xml_is_silent() -> None:
    hardware = with_device("<disk/><interface/>")

    answer = msgspec.to_builtins(hardware)
    disk, network = answer["disks"][0], answer["networks"][0]
    assert disk["device"] == "disk"
    assert disk["path"] is None
    assert disk["driver"].keys() >= {"driver_name", "type"}
    assert disk["target"].keys() >= {"dev", "bus"}
    assert network["mac"] == {"address": None}
    assert network["source"]["bridge"] is None
    assert network["model"] == {"model_type": None}


@pytest.mark.parametrize(
    ("written", "size"),
    [
        ("<memory>1024</memory>", 2**20),
        ("<memory unit='b'>1024</memory>", 1024),
        ("<memory unit='bytes'>1025</memory>", 1025),
        ("<memory unit='KB'>1000</memory>", 10**6),
        ("<memory unit='k'>1000</memory>", 1000 * 2**10),
        ("<memory unit='KiB'>1000</memory>", 1000 * 2**10),
        ("<memory unit='MB'>3</memory>", 3 * 10**6),
        ("<memory unit='M'>3</memory>", 3 * 2**20),
        ("<memory unit='MiB'>3</memory>", 3 * 2**20),
        ("<memory unit='GB'>3</memory>", 3 * 10**9),
        ("<memory unit='g'>3</memory>", 3 * 2**30),
        ("<memory unit='GiB'>3</memory>", 3 * 2**30),
        ("<memory unit='TB'>3</memory>", 3 * 10**12),
        ("<memory unit='TiB'>3</memory>", 3 * 2**40),
        ("<memory unit='PiB'>3</memory>", 3 * 2**50),
        ("<memory unit='EiB'>3</memory>", 3 * 2**60),
        ("<memory> 64 </memory>", 64 * 2**10),
        ("", 0),
    ],
)
def test_memory_is_read_in_every_unit_of_libvirt(written: str, size: int) -> None:
    one = parse(domain(memory=written))

    assert one.memory_bytes == size
    assert one.hardware.memory.memory_kib == (-(-size // 1024) if written else None)


def test_vcpus_are_those_the_vm_has_not_those_it_may_have() -> None:
    one = parse(domain("<vcpu current='2'>8</vcpu>"))

    assert (one.vcpu_count, one.hardware.cpu.vcpus) == (2, 2)
    assert one.hardware.cpu.max_vcpus == 8


@pytest.mark.parametrize(
    ("name", "firmware", "secure_boot"),
    [
        ("qemu-9-small", "bios", None),
        ("qemu-9-workstation", "efi", True),
        ("qemu-11-confidential", "efi", True),
        ("qemu-11-aarch64", "efi", None),
        ("qemu-7-ppc64", None, None),
        ("ch-vm", None, None),
        ("esx-vm", None, None),
        ("xen-4-hvm", None, None),
    ],
)
def test_firmware_is_said_where_the_xml_tells(
    name: str, firmware: str | None, *, secure_boot: bool | None
) -> None:
    system = parse(golden.xml(name)).hardware.os

    assert (system.firmware, system.secure_boot) == (firmware, secure_boot)


def test_first_of_two_elements_counts() -> None:
    disk = with_device(
        "<disk><driver type='raw'/><driver type='qcow2' name='qemu'/></disk>"
    ).disks[0]

    assert disk.driver.type == "raw"


def test_text_and_bytes_read_alike() -> None:
    xml = golden.xml("odd-names")

    assert parse(xml) == parse(xml.decode())
    assert parse(xml) == parse(xml.decode().encode("utf-16").decode("utf-16"))


def test_text_that_claims_another_encoding_is_believed_as_text() -> None:
    declared = "<?xml version='1.0' encoding='iso-8859-1'?>" + domain(name="Büro")

    assert parse(declared).name == "Büro"
    assert parse(declared.encode("latin-1")).name == "Büro"


def test_no_password_and_no_container_secret_is_passed_on() -> None:
    device = with_device("<graphics type='vnc' passwd='geheim'/>").graphics[0]

    assert device.password_set is True
    assert "geheim" not in repr(device)
    assert b"kept-out-of-the-answer" not in golden.read_now("lxc-container")


@pytest.mark.parametrize(
    ("address", "at"),
    [
        ("type='pci' domain='0x0000' bus='0x0a' slot='0x1f' function='0x2'",
         "0000:0a:1f.2"),
        ("type='pci' domain='0' bus='10' slot='31' function='2'", "0000:0a:1f.2"),
        ("type='pci' domain='0x10000' bus='0x00' slot='0x01' function='0x0'",
         "10000:00:01.0"),
        ("type='pci' bus='strange'", "0000:strange:00.0"),
        ("type='drive' controller='0' bus='1' unit='2'", "0:1:0:2"),
        ("type='ccid' controller='0' slot='1'", "0:1"),
        ("type='isa' iobase='0x505'", "0x505"),
        ("type='unassigned'", None),
    ],
)  # fmt: skip
def test_addresses_are_one_word(address: str, at: str | None) -> None:
    found = with_device(f"<disk><address {address}/></disk>").disks[0].address

    assert found is not None
    assert found.at == at


@pytest.mark.parametrize(
    ("written", "number"),
    [("7", 7), (" 7 ", 7), ("-1", -1), ("0x10", 16), ("1_0", None), ("seven", None)],
)
def test_what_is_no_number_is_no_fact(written: str, number: int | None) -> None:
    found = with_device(f"<controller index='{written}'/>").controllers[0]

    assert found.index == number


# What a hypervisor must not be able to do


BILLION_LAUGHS = (
    "<!DOCTYPE domain [<!ENTITY a 'ha'>"
    + "".join(
        f"<!ENTITY {this} '{f'&{below};' * 10}'>"
        for this, below in zip("bcdefghij", "abcdefghi", strict=True)
    )
    + "]>"
)
BROKEN: dict[str, str | bytes] = {
    "nothing": "",
    "no XML": "no domain, just text",
    "half": domain()[:-9],
    "another document": "<network><name>n</name></network>",
    "a snapshot": f"<domainsnapshot>{domain()}</domainsnapshot>",
    "a namespace": domain().replace("<domain", "<domain xmlns='urn:x'"),
    "two roots": domain() * 2,
    "no name": f"<domain><uuid>{UUID_OF_ONE}</uuid></domain>",
    "empty name": domain(name=""),
    "endless name": domain(name="n" * 513),
    "no uuid": "<domain><name>one</name></domain>",
    "bad uuid": "<domain><name>one</name><uuid>not-a-uuid</uuid></domain>",
    "memory in words": domain(memory="<memory>plenty</memory>"),
    "memory in parsecs": domain(memory="<memory unit='pc'>1</memory>"),
    "memory below zero": domain(memory="<memory>-1</memory>"),
    "memory beyond 64 bits": domain(memory="<memory unit='EiB'>8</memory>"),
    "vcpus in words": domain("<vcpu>two</vcpu>"),
    "vcpus beyond a row": domain(f"<vcpu>{2**31}</vcpu>"),
    "number beyond 64 bits": domain(f"<iothreads>{2**63}</iothreads>"),
    "number of 5,000 digits": domain(f"<iothreads>{'9' * 5000}</iothreads>"),
    "long path": domain(f"<os><kernel>/{'k' * 4096}</kernel></os>"),
    "too many devices": domain(f"<devices>{'<hub/>' * (MOST_DEVICES + 1)}</devices>"),
    "too many of a list": domain(f"<cpu>{'<feature/>' * 4097}</cpu>"),
    "deep": domain("<x>" * 10_000 + "</x>" * 10_000),
    "deep chain": domain(
        "<devices><disk>"
        + "<backingStore type='file'>" * 300
        + "</backingStore>" * 300
        + "</disk></devices>"
    ),
    "large": domain(f"<description>{'d' * LARGEST_XML}</description>"),
    "50 MiB": b" " * (50 * 2**20),
    "half a character": domain(name="\ud800"),
    "a NUL": domain(name="a\0b"),
    "a NUL in disguise": domain(name="a&#0;b"),
    "a control character": domain(name="a\x07b"),
    "no UTF-8": domain(name="one").encode().replace(b"one", b"\xff\xfe\xfa"),
    "unknown encoding": b"<?xml version='1.0' encoding='klingon'?><domain/>",
    "unknown entity": domain(name="&who;"),
    "internal entity": "<!DOCTYPE domain [<!ENTITY n 'one'>]>" + domain(name="&n;"),
    "file entity": "<!DOCTYPE domain [<!ENTITY n SYSTEM 'file:///etc/hostname'>]>"
    + domain(name="&n;"),
    "external DTD": "<!DOCTYPE domain SYSTEM 'http://127.0.0.1:9/x.dtd'>" + domain(),
    "bare doctype": "<!DOCTYPE domain>" + domain(),
    "doctype in UTF-16": ("<!DOCTYPE domain>" + domain()).encode("utf-16"),
    "parameter entity": "<!DOCTYPE domain [<!ENTITY % p SYSTEM 'file:///etc/passwd'>"
    " %p;]>" + domain(),
    "billion laughs": BILLION_LAUGHS + domain(name="&j;"),
    "billion laughs aside": BILLION_LAUGHS + domain("<cpu mode='&j;'/>"),
}  # fmt: skip


@pytest.mark.parametrize("xml", list(BROKEN.values()), ids=list(BROKEN))
def test_hostile_xml_is_refused_at_once_with_a_sentence(xml: str | bytes) -> None:
    began = time.monotonic()

    with pytest.raises(BrokenDomain) as refused:
        parse(xml)

    assert time.monotonic() - began < 5
    assert refused.value.detail.endswith(".")
    assert len(refused.value.detail) < 400


def test_a_file_of_the_host_is_never_read(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("treasure")
    include = f"<xi:include href='{secret}' parse='text'/>"

    one = parse(
        domain(
            f"<description xmlns:xi='http://www.w3.org/2001/XInclude'>{include}"
            "</description>"
        )
    )

    assert "treasure" not in repr(one)


def test_refused_xml_leaves_the_parser_fit_for_the_next() -> None:
    for xml in BROKEN.values():
        with pytest.raises(BrokenDomain):
            parse(xml)
        assert parse(domain()).name == "one"


def test_threads_may_parse_at_once() -> None:
    names = golden.NAMES * 20

    with ThreadPoolExecutor(8) as pool:
        read = list(pool.map(lambda name: parse(golden.xml(name)), names))

    assert read == [parse(golden.xml(name)) for name in names]


PIECES = [b"<", b">", b"&", b"'", b"/", b"\x00", b"\xff", b"]]>", b"<!--", b"<![CDATA["]
PIECES += [b"99999999999999999999", b"-1", b"0x", b"<devices>", b"<backingStore>", b"@"]
PIECES += [b"unit='YB'", b"\xf0\x9f\x90\xa7", b"<!DOCTYPE x [", b"&#55296;", b"''"]


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_a_mangled_domain_is_read_or_refused(
    data: st.DataObject,
) -> None:
    xml = golden.xml(data.draw(st.sampled_from(golden.NAMES)))
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(xml)))
        end = start + data.draw(st.integers(0, 40))
        piece = data.draw(st.sampled_from(PIECES) | st.binary(max_size=8))
        xml = xml[:start] + piece + xml[end:]

    assert_read_or_refused(xml)


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_a_domain_with_strange_values_is_read_or_refused(data: st.DataObject) -> None:
    strange = st.one_of(
        st.text(st.characters(exclude_categories=["Cc", "Cs", "Cn"]), max_size=20),
        st.integers().map(str),
        st.sampled_from(["yes", "off", "0x1f", "1e9", "9" * 30, "NaN", "x" * 5000]),
    )
    root = copy.deepcopy(ROOTS[data.draw(st.sampled_from(golden.NAMES))])
    elements = list(root.iter(etree.Element))
    for _ in range(data.draw(st.integers(1, 6))):
        element = data.draw(st.sampled_from(elements))
        if element.attrib and data.draw(st.booleans()):
            name = data.draw(st.sampled_from(sorted(element.attrib)))
            element.set(name, data.draw(strange))
        else:
            element.text = data.draw(strange)

    assert_read_or_refused(etree.tostring(root))


def assert_read_or_refused(xml: bytes) -> None:
    try:
        one = parse(xml)
    except BrokenDomain:
        return
    stored = msgspec.json.encode(one)
    assert b"\\u0000" not in stored
    assert msgspec.json.decode(stored, type=Domain) == one


def test_a_thousand_domains_take_a_moment() -> None:
    xml = golden.xml("qemu-9-small")

    began = time.perf_counter()
    for _ in range(1000):
        parse(xml)

    # 0.09 s on an idle machine of 2026; a slow path costs ten times that.
    assert time.perf_counter() - began < 1
