"""libvirt's errors become ours at this door; see libvirt's virterror.h."""

import contextlib
from collections.abc import Iterator
from typing import Any

import libvirt

from common.errors import (
    BrokenDomain,
    HostUnreachable,
    LibvirtRefused,
    UnknownVm,
    VirtumancerError,
    WrongState,
)

# libvirt prints every error on standard error unless somebody takes it.
libvirt.registerErrorHandler(lambda _ignored, _error: None, None)

_OURS: dict[int, type[VirtumancerError]] = {
    libvirt.VIR_ERR_NO_DOMAIN: UnknownVm,
    libvirt.VIR_ERR_OPERATION_INVALID: WrongState,
}

# What a connection says that has lost its far side: nova's rule, and our own cut.
_LOST_FROM = {libvirt.VIR_FROM_RPC, libvirt.VIR_FROM_REMOTE}
_LOST = {
    libvirt.VIR_ERR_SYSTEM_ERROR,
    libvirt.VIR_ERR_INTERNAL_ERROR,
    libvirt.VIR_ERR_RPC,
    libvirt.VIR_ERR_INVALID_CONN,
}

AUTHENTICATION = {
    libvirt.VIR_ERR_AUTH_FAILED,
    libvirt.VIR_ERR_AUTH_CANCELLED,
    libvirt.VIR_ERR_AUTH_UNAVAILABLE,
    libvirt.VIR_ERR_ACCESS_DENIED,
    libvirt.VIR_ERR_OPERATION_DENIED,
}


def translate(error: Exception) -> VirtumancerError:
    """The same failure in our words, libvirt's own in the detail."""
    if not isinstance(error, libvirt.libvirtError):
        return BrokenDomain("libvirt's answer is not text in UTF-8.")
    code = error.get_error_code()
    words = error.get_error_message() or str(error)
    if _is_loss(error):
        return HostUnreachable(f"The connection to the host was lost: {words}.")
    ours = _OURS.get(code, LibvirtRefused)
    return ours(f"libvirt refused: {words}.", libvirt_code=code, libvirt_message=words)


def _is_loss(error: libvirt.libvirtError) -> bool:
    code = error.get_error_code()
    if code == libvirt.VIR_ERR_INVALID_CONN:
        return True
    return error.get_error_domain() in _LOST_FROM and code in _LOST


@contextlib.contextmanager
def translated() -> Iterator[None]:
    """What libvirt raises in this block is raised as one of our errors."""
    try:
        yield
    except (libvirt.libvirtError, UnicodeDecodeError) as error:
        raise translate(error) from error


def is_authentication(error: Any) -> bool:
    return error.get_error_code() in AUTHENTICATION
