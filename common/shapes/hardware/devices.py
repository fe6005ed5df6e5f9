"""Every other device of a VM."""

from common.shapes.hardware.part import Device, Part
from common.shapes.hardware.storage import StorageHost


class Graphics(Part, frozen=True):
    """How a person can see the VM's screen."""

    vnc: bool = False
    spice: bool = False


class GraphicsListen(Part, frozen=True):
    type: str | None = None
    address: str | None = None
    network: str | None = None
    socket: str | None = None


class GraphicsDevice(Part, frozen=True):
    """A way to the VM's screen. A port of -1 is given out when the VM starts.

    The password itself is never here, nor in the XML that is read; ``password_set`` is
    true where something tells of it, else null: libvirt does not say.
    """

    type: str | None = None
    port: int | None = None
    tls_port: int | None = None
    websocket: int | None = None
    autoport: bool | None = None
    listen: str | None = None
    listens: list[GraphicsListen] = []
    socket: str | None = None
    password_set: bool | None = None
    password_valid_to: str | None = None
    keymap: str | None = None
    share_policy: str | None = None
    default_mode: str | None = None
    display: str | None = None
    gl: bool | None = None
    render_node: str | None = None
    clipboard: bool | None = None
    file_transfer: bool | None = None


class Video(Device, frozen=True):
    model: str | None = None
    vram_kib: int | None = None
    ram_kib: int | None = None
    vgamem_kib: int | None = None
    vram64_kib: int | None = None
    heads: int | None = None
    primary: bool | None = None
    accel2d: bool | None = None
    accel3d: bool | None = None
    width: int | None = None
    height: int | None = None
    driver: str | None = None


class Controller(Device, frozen=True):
    """``model_name`` is the device the hypervisor shows for a PCI controller."""

    type: str | None = None
    index: int | None = None
    model: str | None = None
    model_name: str | None = None
    ports: int | None = None
    vectors: int | None = None
    queues: int | None = None
    iothread: int | None = None
    chassis: int | None = None
    port: int | None = None
    bus_nr: int | None = None
    node: int | None = None
    max_grant_frames: int | None = None


class HostDeviceSource(Part, frozen=True):
    """The host's device. ``address`` says where it is in one word, whatever its kind:
    a PCI address, ``bus:device`` of USB, a mediated device's UUID, a SCSI adapter's
    ``bus:target:unit``."""

    address: str | None = None
    vendor_id: str | None = None
    product_id: str | None = None
    adapter: str | None = None
    protocol: str | None = None
    name: str | None = None
    hosts: list[StorageHost] = []
    wwpn: str | None = None
    block: str | None = None
    char: str | None = None
    interface: str | None = None
    startup_policy: str | None = None


class HostDevice(Device, frozen=True):
    mode: str | None = None
    type: str | None = None
    managed: bool | None = None
    model: str | None = None
    driver: str | None = None
    source: HostDeviceSource = HostDeviceSource()
    display: bool | None = None
    ramfb: bool | None = None
    boot_order: int | None = None
    rom_file: str | None = None
    rom_bar: bool | None = None
    readonly: bool = False
    shareable: bool = False


class CharDevice(Device, frozen=True):
    """A console, serial or parallel port, or channel. ``path`` is the host's terminal,
    socket, pipe or file; ``target_name`` the name of a channel inside the VM."""

    type: str | None = None
    path: str | None = None
    mode: str | None = None
    host: str | None = None
    service: str | None = None
    channel: str | None = None
    protocol: str | None = None
    tls: bool | None = None
    log_path: str | None = None
    target_type: str | None = None
    target_name: str | None = None
    target_port: int | None = None
    target_model: str | None = None
    target_address: str | None = None
    state: str | None = None


class Tpm(Device, frozen=True):
    model: str | None = None
    backend: str | None = None
    version: str | None = None
    path: str | None = None
    encrypted: bool = False
    persistent_state: bool | None = None


class Rng(Device, frozen=True):
    """``source`` is the host's file for the backend ``random``."""

    model: str | None = None
    backend: str | None = None
    source: str | None = None
    rate_bytes: int | None = None
    rate_period_ms: int | None = None


class Watchdog(Device, frozen=True):
    model: str | None = None
    action: str | None = None


class Panic(Device, frozen=True):
    model: str | None = None


class Sound(Device, frozen=True):
    model: str | None = None
    codecs: list[str] = []
    audio: int | None = None


class Audio(Part, frozen=True):
    """Where sound goes on the host."""

    id: int | None = None
    type: str | None = None


class Input(Device, frozen=True):
    """``source`` is the host's input device, if it is handed through."""

    type: str | None = None
    bus: str | None = None
    model: str | None = None
    source: str | None = None


class MemoryDevice(Device, frozen=True):
    """A memory module that can be plugged in and out."""

    model: str | None = None
    access: str | None = None
    discard: bool | None = None
    uuid: str | None = None
    path: str | None = None
    pmem: bool = False
    pagesize_kib: int | None = None
    nodemask: str | None = None
    size_kib: int | None = None
    node: int | None = None
    block_kib: int | None = None
    requested_kib: int | None = None
    current_kib: int | None = None
    label_kib: int | None = None
    readonly: bool = False


class Iommu(Device, frozen=True):
    model: str | None = None
    intremap: bool | None = None
    caching_mode: bool | None = None
    eim: bool | None = None
    iotlb: bool | None = None
    aw_bits: int | None = None


class Vsock(Device, frozen=True):
    """``cid`` is the VM's address on the socket family AF_VSOCK."""

    model: str | None = None
    cid: int | None = None
    auto: bool | None = None


class Smartcard(Device, frozen=True):
    mode: str | None = None
    type: str | None = None
    path: str | None = None
    database: str | None = None
    certificates: list[str] = []


class RedirectedDevice(Device, frozen=True):
    bus: str | None = None
    type: str | None = None
    path: str | None = None
    host: str | None = None
    service: str | None = None
    boot_order: int | None = None


class SharedMemory(Device, frozen=True):
    name: str | None = None
    role: str | None = None
    model: str | None = None
    size_kib: int | None = None
    server: str | None = None
    vectors: int | None = None


class Hub(Device, frozen=True):
    type: str | None = None


class Lease(Part, frozen=True):
    """A lock that the VM holds while it runs."""

    lockspace: str | None = None
    key: str | None = None
    path: str | None = None
    offset: int | None = None


class Crypto(Device, frozen=True):
    model: str | None = None
    type: str | None = None
    backend: str | None = None
    queues: int | None = None
