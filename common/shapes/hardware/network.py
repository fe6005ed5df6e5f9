"""Network interfaces."""

from common.shapes.hardware.part import Device, Part


class Mac(Part, frozen=True):
    """``address`` in lower case, as libvirt compares it."""

    address: str | None = None


class NetworkSource(Part, frozen=True):
    """What the interface is plugged into on the host; the type says which apply.

    ``network``: a libvirt network; ``bridge``: a bridge of the host (known for a
    network too while the VM runs); ``dev`` and ``mode``: an interface of the host
    (direct, vdpa); ``path`` and ``mode``: a socket (vhostuser); ``address``: a PCI or
    USB device (hostdev), or with ``port`` a socket's (udp, client, server, mcast).
    """

    bridge: str | None = None
    network: str | None = None
    portgroup: str | None = None
    dev: str | None = None
    mode: str | None = None
    path: str | None = None
    name: str | None = None
    address: str | None = None
    port: int | None = None
    local_address: str | None = None
    local_port: int | None = None
    switch_id: str | None = None


class NetworkModel(Part, frozen=True):
    model_type: str | None = None


class NetworkTarget(Part, frozen=True):
    """``dev`` is the host's end: ``vnet0``."""

    dev: str | None = None
    managed: bool | None = None


class NetworkDriver(Part, frozen=True):
    driver_name: str | None = None
    queues: int | None = None
    rx_queue_size: int | None = None
    tx_queue_size: int | None = None


class VlanTag(Part, frozen=True):
    id: int | None = None
    native_mode: str | None = None


class VirtualPort(Part, frozen=True):
    type: str | None = None
    interface_id: str | None = None
    profile_id: str | None = None


class BandwidthLimit(Part, frozen=True):
    """``average``, ``peak`` and ``floor`` in KiB a second, ``burst`` in KiB."""

    average_kib_per_s: int | None = None
    peak_kib_per_s: int | None = None
    floor_kib_per_s: int | None = None
    burst_kib: int | None = None


class IpAddress(Part, frozen=True):
    family: str | None = None
    address: str | None = None
    prefix: int | None = None
    peer: str | None = None


class PortRange(Part, frozen=True):
    start: int | None = None
    end: int | None = None
    to: int | None = None
    exclude: bool = False


class PortForward(Part, frozen=True):
    protocol: str | None = None
    address: str | None = None
    dev: str | None = None
    ranges: list[PortRange] = []


class Network(Device, frozen=True):
    """``link_state`` is ``up`` unless the XML says otherwise."""

    type: str | None = None
    mac: Mac = Mac()
    source: NetworkSource = NetworkSource()
    model: NetworkModel = NetworkModel()
    target: NetworkTarget = NetworkTarget()
    driver: NetworkDriver = NetworkDriver()
    link_state: str = "up"
    mtu: int | None = None
    boot_order: int | None = None
    vlan_trunk: bool = False
    vlan_tags: list[VlanTag] = []
    virtual_port: VirtualPort | None = None
    inbound: BandwidthLimit | None = None
    outbound: BandwidthLimit | None = None
    ips: list[IpAddress] = []
    port_forwards: list[PortForward] = []
    guest_dev: str | None = None
    guest_dev_actual: str | None = None
    filter: str | None = None
    isolated: bool | None = None
    trust_guest_rx_filters: bool | None = None
    managed: bool | None = None
    backend: str | None = None
    script: str | None = None
    teaming: str | None = None
    teaming_persistent: str | None = None
