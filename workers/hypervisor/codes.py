"""libvirt's errors become ours at this door; see libvirt's virterror.h.

Most codes say what is wrong, and each kind of error names its own. A few say only where
it went wrong, above all when QEMU ended: there its words are read.
"""

import contextlib
import re
from collections.abc import Iterator
from typing import Any

import libvirt

from common.catalogue import Kind, kinds
from common.errors import (
    BrokenDomain,
    ConnectionFailed,
    HostUnreachable,
    LibvirtRefused,
    VirtumancerError,
)
from common.refusals import (
    AddressInUse,
    AgentSilent,
    AuthenticationFailed,
    CpuIncompatible,
    DeviceMissing,
    DiskInUse,
    DiskMissing,
    MachineTypeUnknown,
    NetworkInactive,
    NetworkMissing,
    NoAccessToLibvirt,
    NoEmulator,
    NoKvm,
    OutOfMemory,
    PermissionDenied,
    StorageFailed,
    StorageFull,
)

# libvirt prints every error on standard error unless somebody takes it.
libvirt.registerErrorHandler(lambda _ignored, _error: None, None)

_OURS: dict[int, Kind] = {
    getattr(libvirt, name): kind
    for kind in kinds(VirtumancerError)
    for name in kind.libvirt
    if hasattr(libvirt, name)
}

_VAGUE = {
    libvirt.VIR_ERR_INTERNAL_ERROR,
    libvirt.VIR_ERR_SYSTEM_ERROR,
    libvirt.VIR_ERR_OPERATION_FAILED,
    libvirt.VIR_ERR_OPERATION_INVALID,
    libvirt.VIR_ERR_OPEN_FAILED,
    libvirt.VIR_ERR_CONFIG_UNSUPPORTED,
    libvirt.VIR_ERR_ARGUMENT_UNSUPPORTED,
}
# The first that fits: what is in use or not permitted is often said of a disk too.
_WORDS: tuple[tuple[str, Kind], ...] = (
    (r'Failed to get "[\w ]+" lock|Is another process using the image', DiskInUse),
    (r"Address already in use|Failed to find an available port", AddressInUse),
    (
        r"access KVM|virt type 'kvm'|failed to initialize kvm|/dev/kvm",
        NoKvm,
    ),
    (r"support machine type|[Uu]nsupported machine type", MachineTypeUnknown),
    (r"Cannot allocate memory|set up guest memory|hugetlbfs", OutOfMemory),
    (r"No space left on device|Disk quota exceeded", StorageFull),
    (r"network '.*' is not active", NetworkInactive),
    (r"bridge helper|index for interface|get interface MTU", NetworkMissing),
    (r"Unknown CPU model|guest CPU doesn't match", CpuIncompatible),
    (r"Cannot check QEMU binary|[Cc]annot find .*emulator", NoEmulator),
    (r"Permission denied|Operation not permitted", PermissionDenied),
    (r"storage file .*: No such file|Could not open '.*': No such file", DiskMissing),
    (r"Image is not in \w+ format|Could not read .*image", StorageFailed),
    (r"guest agent is not (configured|connected)", AgentSilent),
    (r"No such device|device .*: No such file|/sys/bus/|passthrough", DeviceMissing),
)

# What a connection says that has lost its far side: nova's rule, and our own cut.
_LOST_FROM = {libvirt.VIR_FROM_RPC, libvirt.VIR_FROM_REMOTE}
_LOST = {
    libvirt.VIR_ERR_SYSTEM_ERROR,
    libvirt.VIR_ERR_INTERNAL_ERROR,
    libvirt.VIR_ERR_RPC,
    libvirt.VIR_ERR_INVALID_CONN,
}

# Whoever answers may say anything; nobody reads more.
_LONGEST_WORDS = 2000
NO_TEXT = (UnicodeDecodeError, SystemError)
"""What the binding raises over a text that is none. In a message of an error it leaves
the exception pending, and Python makes a SystemError of that."""

FAILURES = (libvirt.libvirtError, *NO_TEXT)
"""What a call to libvirt can raise."""

_TOO_LARGE = re.compile(r"Unable to (en|de)code message payload")

_REFUSED_LOGIN: dict[int, type[ConnectionFailed]] = {
    libvirt.VIR_ERR_AUTH_FAILED: AuthenticationFailed,
    libvirt.VIR_ERR_AUTH_CANCELLED: AuthenticationFailed,
    libvirt.VIR_ERR_AUTH_UNAVAILABLE: AuthenticationFailed,
    libvirt.VIR_ERR_ACCESS_DENIED: NoAccessToLibvirt,
    libvirt.VIR_ERR_OPERATION_DENIED: NoAccessToLibvirt,
}


def translate(error: Exception) -> VirtumancerError:
    """The same failure in our words, libvirt's own in the detail."""
    if not isinstance(error, libvirt.libvirtError):
        return BrokenDomain("libvirt's answer is not text in UTF-8.")
    code = error.get_error_code()
    words = words_of(error)
    if _is_loss(error):
        return HostUnreachable(f"The connection to the host was lost: {words}.")
    ours = _by_words(words) if code in _VAGUE else None
    ours = ours or _OURS.get(code, LibvirtRefused)
    return ours(f"libvirt refused: {words}.", libvirt_code=code, libvirt_message=words)


def words_of(error: Any) -> str:
    """libvirt's own, as far as anybody would read."""
    words: str = error.get_error_message() or str(error)
    return words[:_LONGEST_WORDS]


def _by_words(words: str) -> Kind | None:
    found = (kind for pattern, kind in _WORDS if re.search(pattern, words))
    return next(found, None)


def _is_loss(error: libvirt.libvirtError) -> bool:
    code = error.get_error_code()
    if code == libvirt.VIR_ERR_INVALID_CONN:
        return True
    # An answer that is larger than the protocol allows concerns one call alone.
    if _TOO_LARGE.search(error.get_error_message() or ""):
        return False
    return error.get_error_domain() in _LOST_FROM and code in _LOST


@contextlib.contextmanager
def translated() -> Iterator[None]:
    """What libvirt raises in this block is raised as one of our errors."""
    try:
        yield
    except FAILURES as error:
        raise translate(error) from error


def refused_login(error: Any) -> type[ConnectionFailed] | None:
    """What it is called if libvirtd does not want this user."""
    return _REFUSED_LOGIN.get(error.get_error_code())
