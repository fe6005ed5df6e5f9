"""The one call that must not go through libvirt's Python binding.

libvirt's client hands on the number of domains that a host *claims* to list, beside
the array of those that it did list, and the binding reads so many: a host that lies
ends the process, or has it read memory that is none of its own. The array itself ends
with a zero, whatever the number: see virConnectListAllDomains in libvirt-domain.c.
"""

import ctypes
from functools import cache
from typing import Any
from uuid import UUID

import libvirt

_UUID_BYTES = 16


def uuids(virt: Any, flags: int) -> set[str]:
    """The domains that fit libvirt's flags; raises libvirtError."""
    library = _library()
    first = ctypes.POINTER(ctypes.c_void_p)()
    number = library.virConnectListAllDomains(
        _connection(virt), ctypes.byref(first), flags
    )
    if number < 0:
        raise libvirt.libvirtError("virConnectListAllDomains() failed")
    found = set()
    buffer = ctypes.create_string_buffer(_UUID_BYTES)
    place = 0
    while domain := first[place]:
        if library.virDomainGetUUID(domain, buffer) == 0:
            found.add(str(UUID(bytes=buffer.raw)))
        library.virDomainFree(domain)
        place += 1
    _free(first)
    return found


@cache
def _library() -> ctypes.CDLL:
    library = ctypes.CDLL("libvirt.so.0")
    library.virConnectListAllDomains.argtypes = (
        ctypes.c_void_p,
        ctypes.POINTER(ctypes.POINTER(ctypes.c_void_p)),
        ctypes.c_uint,
    )
    library.virDomainGetUUID.argtypes = (ctypes.c_void_p, ctypes.c_char_p)
    library.virDomainFree.argtypes = (ctypes.c_void_p,)
    return library


def _connection(virt: Any) -> int | None:
    """What stands in the capsule of libvirt's Python object."""
    pointer = ctypes.pythonapi.PyCapsule_GetPointer
    pointer.restype = ctypes.c_void_p
    pointer.argtypes = (ctypes.py_object, ctypes.c_char_p)
    address: int | None = pointer(virt._o, b"virConnectPtr")
    return address


def _free(array: Any) -> None:
    free = ctypes.CDLL(None).free
    free.argtypes = (ctypes.c_void_p,)
    free.restype = None
    free(array)
