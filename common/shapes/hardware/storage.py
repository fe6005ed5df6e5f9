"""Disks and filesystems."""

from common.shapes.hardware.part import Device, Part


class DiskDriver(Part, frozen=True):
    """``type`` is the image's format."""

    driver_name: str | None = None
    type: str | None = None
    cache: str | None = None
    io: str | None = None
    discard: str | None = None
    detect_zeroes: str | None = None
    error_policy: str | None = None
    copy_on_read: bool | None = None
    iothread: int | None = None
    queues: int | None = None


class DiskTarget(Part, frozen=True):
    dev: str | None = None
    bus: str | None = None
    tray: str | None = None
    rotation_rate: int | None = None


class StorageHost(Part, frozen=True):
    name: str | None = None
    port: int | None = None
    transport: str | None = None
    socket: str | None = None


class NetworkStorage(Part, frozen=True):
    """An image that the hypervisor reaches over a network: RBD, iSCSI, NBD…"""

    protocol: str | None = None
    name: str | None = None
    hosts: list[StorageHost] = []
    tls: bool | None = None
    config: str | None = None
    snapshot: str | None = None
    username: str | None = None
    initiator_iqn: str | None = None


class StorageVolume(Part, frozen=True):
    pool: str | None = None
    volume: str | None = None
    mode: str | None = None


class NvmeSource(Part, frozen=True):
    address: str | None = None
    namespace: int | None = None
    managed: bool | None = None


class DiskLayer(Part, frozen=True):
    """One image below the disk's own; ``path`` as in the disk."""

    type: str | None = None
    format: str | None = None
    path: str | None = None
    index: int | None = None
    protocol: str | None = None
    hosts: list[StorageHost] = []


class DiskMirror(Part, frozen=True):
    """The image that a running block copy or commit writes to."""

    type: str | None = None
    format: str | None = None
    path: str | None = None
    job: str | None = None
    ready: str | None = None


class DiskLimits(Part, frozen=True):
    """Throttling; null is unlimited.

    https://libvirt.org/formatdomain.html#hard-drives-floppy-disks-cdroms (iotune)
    """

    total_bytes_per_s: int | None = None
    read_bytes_per_s: int | None = None
    write_bytes_per_s: int | None = None
    total_bytes_per_s_max: int | None = None
    read_bytes_per_s_max: int | None = None
    write_bytes_per_s_max: int | None = None
    total_iops: int | None = None
    read_iops: int | None = None
    write_iops: int | None = None
    total_iops_max: int | None = None
    read_iops_max: int | None = None
    write_iops_max: int | None = None
    group: str | None = None


class Disk(Device, frozen=True):
    """``path`` is what ``virsh domblklist`` shows: a file, a block device, a folder, a
    socket, or the image's name in its pool; null for an empty drive.

    ``capacity_bytes`` is not in the XML; it is filled in where libvirt was asked.
    ``backing_chain`` runs from the nearest image to the base.
    """

    type: str | None = None
    device: str = "disk"
    driver: DiskDriver = DiskDriver()
    path: str | None = None
    target: DiskTarget = DiskTarget()
    capacity_bytes: int | None = None
    readonly: bool = False
    shareable: bool = False
    transient: bool = False
    removable: bool = False
    serial: str | None = None
    wwn: str | None = None
    vendor: str | None = None
    product: str | None = None
    model: str | None = None
    boot_order: int | None = None
    snapshot: str | None = None
    startup_policy: str | None = None
    index: int | None = None
    encryption: str | None = None
    logical_block_bytes: int | None = None
    physical_block_bytes: int | None = None
    network: NetworkStorage | None = None
    volume: StorageVolume | None = None
    nvme: NvmeSource | None = None
    limits: DiskLimits | None = None
    mirror: DiskMirror | None = None
    backing_chain: list[DiskLayer] = []


class FilesystemDriver(Part, frozen=True):
    driver_name: str | None = None
    format: str | None = None
    queue: int | None = None


class Filesystem(Device, frozen=True):
    """A folder, image or RAM disk of the host that the VM mounts.

    ``source`` is the folder, file, device, socket, template or volume; ``target`` the
    mount point or tag in the VM.
    """

    type: str | None = None
    model: str | None = None
    access_mode: str | None = None
    driver: FilesystemDriver = FilesystemDriver()
    source: str | None = None
    pool: str | None = None
    target: str | None = None
    readonly: bool = False
    ram_bytes: int | None = None
    hard_limit_bytes: int | None = None
    soft_limit_bytes: int | None = None
    boot_order: int | None = None
    multidevs: str | None = None
    binary: str | None = None
    cache: str | None = None
