"""What the VM is as a machine: CPU, memory, firmware, clock, life and security."""

from common.shapes.hardware.part import Device, Part


class CpuTopology(Part, frozen=True):
    sockets: int | None = None
    dies: int | None = None
    clusters: int | None = None
    cores: int | None = None
    threads: int | None = None


class CpuFeature(Part, frozen=True):
    name: str | None = None
    policy: str | None = None


class NumaDistance(Part, frozen=True):
    cell: int | None = None
    value: int | None = None


class NumaCell(Part, frozen=True):
    """A NUMA cell that the VM sees."""

    id: int | None = None
    cpus: str | None = None
    memory_kib: int | None = None
    access: str | None = None
    discard: bool | None = None
    distances: list[NumaDistance] = []


class CpuPin(Part, frozen=True):
    """``cpuset`` is libvirt's list of host CPUs, such as ``0-3,^2``."""

    vcpu: int | None = None
    cpuset: str | None = None


class IothreadPin(Part, frozen=True):
    iothread: int | None = None
    cpuset: str | None = None


class CpuLimits(Part, frozen=True):
    """Weight and time slices; periods and quotas in microseconds."""

    shares: int | None = None
    period_us: int | None = None
    quota_us: int | None = None
    global_period_us: int | None = None
    global_quota_us: int | None = None
    emulator_period_us: int | None = None
    emulator_quota_us: int | None = None


class Cpu(Part, frozen=True):
    """``vcpus`` are there now, ``max_vcpus`` can be without a restart."""

    vcpus: int = 1
    max_vcpus: int = 1
    placement: str | None = None
    cpuset: str | None = None
    mode: str | None = None
    check: str | None = None
    match: str | None = None
    migratable: bool | None = None
    model: str | None = None
    fallback: str | None = None
    vendor: str | None = None
    topology: CpuTopology | None = None
    features: list[CpuFeature] = []
    cache_mode: str | None = None
    cache_level: int | None = None
    physical_address_mode: str | None = None
    physical_address_bits: int | None = None
    numa_cells: list[NumaCell] = []
    numa_mode: str | None = None
    numa_nodeset: str | None = None
    pins: list[CpuPin] = []
    emulator_cpuset: str | None = None
    iothreads: int | None = None
    iothread_pins: list[IothreadPin] = []
    limits: CpuLimits | None = None


class HugePages(Part, frozen=True):
    size_kib: int | None = None
    nodeset: str | None = None


class Balloon(Device, frozen=True):
    model: str | None = None
    autodeflate: bool | None = None
    free_page_reporting: bool | None = None
    stats_period_s: int | None = None


class Memory(Part, frozen=True):
    """``memory_kib`` at boot, ``current_kib`` what the balloon leaves of it,
    ``max_kib`` what hotplug can reach in ``slots`` steps."""

    memory_kib: int | None = None
    current_kib: int | None = None
    max_kib: int | None = None
    slots: int | None = None
    dump_core: bool | None = None
    hugepages: bool = False
    hugepage_sizes: list[HugePages] = []
    locked: bool = False
    nosharepages: bool = False
    source: str | None = None
    access: str | None = None
    allocation: str | None = None
    discard: bool = False
    hard_limit_kib: int | None = None
    soft_limit_kib: int | None = None
    swap_hard_limit_kib: int | None = None
    min_guarantee_kib: int | None = None
    balloon: Balloon | None = None


class FirmwareFeature(Part, frozen=True):
    name: str | None = None
    enabled: bool | None = None


class Loader(Part, frozen=True):
    path: str | None = None
    type: str | None = None
    format: str | None = None
    readonly: bool | None = None
    stateless: bool | None = None


class Nvram(Part, frozen=True):
    path: str | None = None
    template: str | None = None
    type: str | None = None
    format: str | None = None


class Os(Part, frozen=True):
    """What the VM boots, and on what.

    ``firmware`` is ``efi`` or ``bios``, null where the XML does not tell.
    ``boot_devices`` is the order of kinds (``hd``, ``cdrom``, ``network``); where a VM
    orders single devices, each has its ``boot_order`` instead. ``init…`` are a
    container's. ``libosinfo_id`` names the guest's system, if its maker wrote it down.
    """

    type: str | None = None
    arch: str | None = None
    machine: str | None = None
    firmware: str | None = None
    secure_boot: bool | None = None
    firmware_features: list[FirmwareFeature] = []
    loader: Loader | None = None
    nvram: Nvram | None = None
    boot_devices: list[str] = []
    boot_menu: bool | None = None
    boot_menu_timeout_ms: int | None = None
    reboot_timeout_ms: int | None = None
    serial_bios: bool | None = None
    smbios: str | None = None
    bootloader: str | None = None
    bootloader_args: str | None = None
    kernel: str | None = None
    initrd: str | None = None
    cmdline: str | None = None
    dtb: str | None = None
    init: str | None = None
    init_args: list[str] = []
    init_dir: str | None = None
    init_user: str | None = None
    init_group: str | None = None
    libosinfo_id: str | None = None


class Timer(Part, frozen=True):
    name: str | None = None
    present: bool | None = None
    tick_policy: str | None = None
    track: str | None = None
    mode: str | None = None
    frequency_hz: int | None = None


class Clock(Part, frozen=True):
    """``adjustment`` in seconds, or ``reset``."""

    offset: str | None = None
    adjustment: str | None = None
    timezone: str | None = None
    basis: str | None = None
    start: int | None = None
    timers: list[Timer] = []


class Lifecycle(Part, frozen=True):
    """What libvirt does when the VM ends in one of these ways."""

    on_poweroff: str | None = None
    on_reboot: str | None = None
    on_crash: str | None = None
    on_lockfailure: str | None = None
    suspend_to_mem: bool | None = None
    suspend_to_disk: bool | None = None


class Features(Part, frozen=True):
    """Names of what is switched on: ``acpi``, ``apic``, ``smm``; and the
    enlightenments for Windows (``hyperv``) and Linux (``kvm``)."""

    enabled: list[str] = []
    hyperv: list[str] = []
    kvm: list[str] = []


class SecurityLabel(Part, frozen=True):
    type: str | None = None
    model: str | None = None
    relabel: bool | None = None
    label: str | None = None
    image_label: str | None = None


class LaunchSecurity(Part, frozen=True):
    """Memory encryption: ``sev``, ``sev-snp``, ``tdx``, ``s390-pv``."""

    type: str | None = None
    policy: str | None = None
    kernel_hashes: bool | None = None
