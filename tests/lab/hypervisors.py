"""Hypervisors for tests, and the domains that are put on them behind our back."""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import libvirt

from common.uri import HostUri, parse
from common.uri_policy import UriPolicy
from embedded.libvirtd import Libvirtd
from tests.lab.sshd import free_port

TEST_DOMAIN = """\
<domain type='test'>
  <name>{name}</name>
  <uuid>{uuid}</uuid>
  <memory unit='KiB'>65536</memory>
  <vcpu>2</vcpu>
  <os><type>hvm</type></os>
  <devices>
    <disk type='file' device='disk'>
      <source file='/nowhere/{uuid}.qcow2'/>
      <target dev='vda' bus='virtio'/>
    </disk>
    <interface type='network'>
      <mac address='52:54:00:{mac}'/>
      <source network='default'/>
    </interface>
  </devices>
</domain>
"""


@contextmanager
def hypervisor(folder: Path) -> Iterator[Libvirtd]:
    """A libvirtd on a unix socket and a port of loopback."""
    with Libvirtd(folder, listen_tcp=free_port()) as server:
        yield server


@contextmanager
def behind_our_back(server: Libvirtd, driver: str = "test") -> Iterator[Any]:
    """A plain libvirt connection, as virsh has it.

    The test driver's domains live for as long as somebody is connected, which may be
    longer than we are: those that were added are removed.
    """
    path = {"test": "default", "qemu": "session"}[driver]
    connection = libvirt.open(server.uri(driver, path))
    before = {domain.UUIDString() for domain in connection.listAllDomains()}
    try:
        yield connection
    finally:
        for domain in connection.listAllDomains():
            if domain.UUIDString() not in before:
                remove(domain)
        connection.close()


def remove(domain: Any) -> None:
    """Off and away; others may be quicker."""
    persistent = domain.isPersistent()
    if domain.isActive():
        domain.destroy()
    if persistent:
        domain.undefine()


def define(connection: Any, name: str) -> str:
    """Define a domain of the test driver, and return its uuid."""
    domain_uuid = str(uuid.uuid4())
    mac = f"{domain_uuid[0:2]}:{domain_uuid[2:4]}:{domain_uuid[4:6]}"
    xml = TEST_DOMAIN.format(name=escape(name), uuid=domain_uuid, mac=mac)
    connection.defineXML(xml)
    return domain_uuid


def checked(uri: str, *folders: Path) -> HostUri:
    """The URI as the product reads it, with sockets in these folders allowed."""
    return parse(uri, UriPolicy(folders))
