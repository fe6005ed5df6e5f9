"""The lines of every other device."""

from common.shapes.hardware import (
    Audio,
    CharDevice,
    Controller,
    Crypto,
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
    Watchdog,
)
from workers.domain_xml.parts import ADDRESS, ALIAS, STORAGE_HOST
from workers.domain_xml.readers import host_address, kib
from workers.domain_xml.table import Many, OfElement, OfText, Table

GRAPHICS = Table(
    GraphicsDevice,
    type="@type",
    port="@port",
    tls_port="@tlsPort",
    websocket="@websocket",
    autoport="@autoport",
    listen=("@listen", "listen/@address"),
    listens=Many(
        "listen",
        Table(
            GraphicsListen,
            type="@type",
            address="@address",
            network="@network",
            socket="@socket",
        ),
    ),
    socket=("@socket", "listen/@socket"),
    password_set=(OfText("@passwd", bool), OfText("@passwdValidTo", bool)),
    password_valid_to="@passwdValidTo",
    keymap="@keymap",
    share_policy="@sharePolicy",
    default_mode="@defaultMode",
    display="@display",
    gl="gl/@enable",
    render_node="gl/@rendernode",
    clipboard="clipboard/@copypaste",
    file_transfer="filetransfer/@enable",
)

VIDEO = Table(
    Video,
    model="model/@type",
    vram_kib="model/@vram",
    ram_kib="model/@ram",
    vgamem_kib="model/@vgamem",
    vram64_kib="model/@vram64",
    heads="model/@heads",
    primary="model/@primary",
    accel2d="model/acceleration/@accel2d",
    accel3d="model/acceleration/@accel3d",
    width="model/resolution/@x",
    height="model/resolution/@y",
    driver="driver/@name",
    alias=ALIAS,
    address=ADDRESS,
)

CONTROLLER = Table(
    Controller,
    type="@type",
    index="@index",
    model="@model",
    model_name="model/@name",
    ports="@ports",
    vectors="@vectors",
    queues="driver/@queues",
    iothread="driver/@iothread",
    chassis=("target/@chassis", "target/@chassisNr"),
    port="target/@port",
    bus_nr="target/@busNr",
    node="target/node",
    max_grant_frames="@maxGrantFrames",
    alias=ALIAS,
    address=ADDRESS,
)

HOST_DEVICE = Table(
    HostDevice,
    mode="@mode",
    type="@type",
    managed="@managed",
    model="@model",
    driver="driver/@name",
    source=Table(
        HostDeviceSource,
        address=OfElement("source/address", host_address),
        vendor_id="source/vendor/@id",
        product_id="source/product/@id",
        adapter="source/adapter/@name",
        protocol="source/@protocol",
        name="source/@name",
        hosts=Many("source/host", STORAGE_HOST),
        wwpn="source/@wwpn",
        block="source/block",
        char="source/char",
        interface="source/interface",
        startup_policy="source/@startupPolicy",
    ),
    display="@display",
    ramfb="@ramfb",
    boot_order="boot/@order",
    rom_file="rom/@file",
    rom_bar="rom/@bar",
    readonly="readonly",
    shareable="shareable",
    alias=ALIAS,
    address=ADDRESS,
)

CHAR_DEVICE = Table(
    CharDevice,
    type="@type",
    path=("@tty", "source/@path"),
    mode="source/@mode",
    host="source/@host",
    service="source/@service",
    channel="source/@channel",
    protocol="protocol/@type",
    tls="source/@tls",
    log_path="log/@file",
    target_type="target/@type",
    target_name="target/@name",
    target_port="target/@port",
    target_model="target/model/@name",
    target_address="target/@address",
    state="target/@state",
    alias=ALIAS,
    address=ADDRESS,
)

TPM = Table(
    Tpm,
    model="@model",
    backend="backend/@type",
    version="backend/@version",
    path=("backend/device/@path", "backend/source/@path"),
    encrypted="backend/encryption",
    persistent_state="backend/@persistent_state",
    alias=ALIAS,
    address=ADDRESS,
)

RNG = Table(
    Rng,
    model="@model",
    backend="backend/@model",
    source="backend",
    rate_bytes="rate/@bytes",
    rate_period_ms="rate/@period",
    alias=ALIAS,
    address=ADDRESS,
)

WATCHDOG = Table(
    Watchdog, model="@model", action="@action", alias=ALIAS, address=ADDRESS
)

PANIC = Table(Panic, model="@model", alias=ALIAS, address=ADDRESS)

SOUND = Table(
    Sound,
    model="@model",
    codecs="codec/@type",
    audio="audio/@id",
    alias=ALIAS,
    address=ADDRESS,
)

AUDIO = Table(Audio, id="@id", type="@type")

INPUT = Table(
    Input,
    type="@type",
    bus="@bus",
    model="@model",
    source=("source/@evdev", "source/@dev"),
    alias=ALIAS,
    address=ADDRESS,
)

MEMORY_DEVICE = Table(
    MemoryDevice,
    model="@model",
    access="@access",
    discard="@discard",
    uuid="uuid",
    path="source/path",
    pmem="source/pmem",
    pagesize_kib=OfElement("source/pagesize", kib()),
    nodemask="source/nodemask",
    size_kib=OfElement("target/size", kib()),
    node="target/node",
    block_kib=OfElement("target/block", kib()),
    requested_kib=OfElement("target/requested", kib()),
    current_kib=OfElement("target/current", kib()),
    label_kib=OfElement("target/label/size", kib()),
    readonly="target/readonly",
    alias=ALIAS,
    address=ADDRESS,
)

IOMMU = Table(
    Iommu,
    model="@model",
    intremap="driver/@intremap",
    caching_mode="driver/@caching_mode",
    eim="driver/@eim",
    iotlb="driver/@iotlb",
    aw_bits="driver/@aw_bits",
    alias=ALIAS,
    address=ADDRESS,
)

SMARTCARD = Table(
    Smartcard,
    mode="@mode",
    type="@type",
    path="source/@path",
    database="database",
    certificates="certificate",
    alias=ALIAS,
    address=ADDRESS,
)

REDIRECTED_DEVICE = Table(
    RedirectedDevice,
    bus="@bus",
    type="@type",
    path="source/@path",
    host="source/@host",
    service="source/@service",
    boot_order="boot/@order",
    alias=ALIAS,
    address=ADDRESS,
)

SHARED_MEMORY = Table(
    SharedMemory,
    name="@name",
    role="@role",
    model="model/@type",
    size_kib=OfElement("size", kib()),
    server="server/@path",
    vectors="msi/@vectors",
    alias=ALIAS,
    address=ADDRESS,
)

HUB = Table(Hub, type="@type", alias=ALIAS, address=ADDRESS)

LEASE = Table(
    Lease,
    lockspace="lockspace",
    key="key",
    path="target/@path",
    offset="target/@offset",
)

CRYPTO = Table(
    Crypto,
    model="@model",
    type="@type",
    backend="backend/@model",
    queues="backend/@queues",
    alias=ALIAS,
    address=ADDRESS,
)
