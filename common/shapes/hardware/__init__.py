"""A VM's hardware: the shape of ``GET …/hardware`` and, but for what is absent, of the
column that holds it.

Names follow the contract where it has them, else libvirt's XML
(https://libvirt.org/formatdomain.html). Every field is always present: a fact that the
XML does not state is null, an empty list, or libvirt's own default. A kind of device is
a list unless libvirt allows one of it at most. Units stand in names.
"""

from common.shapes.hardware.devices import (
    Audio,
    CharDevice,
    Controller,
    Crypto,
    Graphics,
    GraphicsDevice,
    GraphicsListen,
    HostDevice,
    HostDeviceSource,
    Hub,
    Input,
    Iommu,
    Lease,
    MemoryDevice,
    Panic,
    RedirectedDevice,
    Rng,
    SharedMemory,
    Smartcard,
    Sound,
    Tpm,
    Video,
    Vsock,
    Watchdog,
)
from common.shapes.hardware.machine import (
    Balloon,
    Clock,
    Cpu,
    CpuFeature,
    CpuLimits,
    CpuPin,
    CpuTopology,
    Features,
    FirmwareFeature,
    HugePages,
    IothreadPin,
    LaunchSecurity,
    Lifecycle,
    Loader,
    Memory,
    NumaCell,
    NumaDistance,
    Nvram,
    Os,
    SecurityLabel,
    Timer,
)
from common.shapes.hardware.network import (
    BandwidthLimit,
    IpAddress,
    Mac,
    Network,
    NetworkDriver,
    NetworkModel,
    NetworkSource,
    NetworkTarget,
    PortForward,
    PortRange,
    VirtualPort,
    VlanTag,
)
from common.shapes.hardware.part import Address, Device, Part
from common.shapes.hardware.storage import (
    Disk,
    DiskDriver,
    DiskLayer,
    DiskLimits,
    DiskMirror,
    DiskTarget,
    Filesystem,
    FilesystemDriver,
    NetworkStorage,
    NvmeSource,
    StorageHost,
    StorageVolume,
)


class Hardware(Part, frozen=True):
    """Everything that a domain's XML says about the machine.

    ``hypervisor`` is what runs it: ``kvm``, ``qemu``, ``xen``, ``lxc``, ``test``.
    """

    disks: list[Disk] = []
    networks: list[Network] = []
    hypervisor: str | None = None
    os: Os = Os()
    cpu: Cpu = Cpu()
    memory: Memory = Memory()
    graphics: list[GraphicsDevice] = []
    video: list[Video] = []
    controllers: list[Controller] = []
    host_devices: list[HostDevice] = []
    filesystems: list[Filesystem] = []
    consoles: list[CharDevice] = []
    serials: list[CharDevice] = []
    parallels: list[CharDevice] = []
    channels: list[CharDevice] = []
    inputs: list[Input] = []
    sound: list[Sound] = []
    audio: list[Audio] = []
    tpm: list[Tpm] = []
    rng: list[Rng] = []
    watchdog: list[Watchdog] = []
    panic: list[Panic] = []
    memory_devices: list[MemoryDevice] = []
    iommu: list[Iommu] = []
    vsock: Vsock | None = None
    smartcards: list[Smartcard] = []
    redirected_devices: list[RedirectedDevice] = []
    shared_memory: list[SharedMemory] = []
    hubs: list[Hub] = []
    leases: list[Lease] = []
    crypto: list[Crypto] = []
    features: Features = Features()
    clock: Clock = Clock()
    lifecycle: Lifecycle = Lifecycle()
    security_labels: list[SecurityLabel] = []
    launch_security: LaunchSecurity | None = None
    emulator: str | None = None
    generation_id: str | None = None
    partition: str | None = None


__all__ = [
    "Address",
    "Audio",
    "Balloon",
    "BandwidthLimit",
    "CharDevice",
    "Clock",
    "Controller",
    "Cpu",
    "CpuFeature",
    "CpuLimits",
    "CpuPin",
    "CpuTopology",
    "Crypto",
    "Device",
    "Disk",
    "DiskDriver",
    "DiskLayer",
    "DiskLimits",
    "DiskMirror",
    "DiskTarget",
    "Features",
    "Filesystem",
    "FilesystemDriver",
    "FirmwareFeature",
    "Graphics",
    "GraphicsDevice",
    "GraphicsListen",
    "Hardware",
    "HostDevice",
    "HostDeviceSource",
    "Hub",
    "HugePages",
    "Input",
    "Iommu",
    "IothreadPin",
    "IpAddress",
    "LaunchSecurity",
    "Lease",
    "Lifecycle",
    "Loader",
    "Mac",
    "Memory",
    "MemoryDevice",
    "Network",
    "NetworkDriver",
    "NetworkModel",
    "NetworkSource",
    "NetworkStorage",
    "NetworkTarget",
    "NumaCell",
    "NumaDistance",
    "NvmeSource",
    "Nvram",
    "Os",
    "Panic",
    "Part",
    "PortForward",
    "PortRange",
    "RedirectedDevice",
    "Rng",
    "SecurityLabel",
    "SharedMemory",
    "Smartcard",
    "Sound",
    "StorageHost",
    "StorageVolume",
    "Timer",
    "Tpm",
    "Video",
    "VirtualPort",
    "VlanTag",
    "Vsock",
    "Watchdog",
]
