"""Every error this product raises on purpose: what it is called, its HTTP status, and
whether trying again can help.

Foreign errors (libvirt, Postgres, Redis, msgspec) become one of these at the door they
enter by. The wire form is RFC 9457's problem object.
"""

from typing import ClassVar, TypedDict, Unpack
from uuid import UUID

from common.shapes.resources import Problem


class Extra(TypedDict, total=False):
    """Further members of a problem object; each is a field of Problem."""

    task: UUID
    step: str
    libvirt_code: int
    libvirt_message: str
    at: str
    state: int


class VirtumancerError(Exception):
    """A failure with a name.

    ``detail`` is a sentence for the person who reads it: what happened and what to do.
    ``extra`` holds further members of the problem object, such as the busy task's id.
    """

    status: ClassVar[int] = 500
    type: ClassVar[str] = "internal-error"
    title: ClassVar[str] = "Internal error"
    retryable: ClassVar[bool] = False
    retry_after_s: ClassVar[int | None] = None

    def __init__(self, detail: str, **extra: Unpack[Extra]) -> None:
        super().__init__(detail)
        self.detail = detail
        self.extra = extra


class InvalidRequest(VirtumancerError):
    status = 400
    type = "invalid-request"
    title = "Invalid request"


class UnknownHost(VirtumancerError):
    status = 404
    type = "unknown-host"
    title = "Unknown host"


class UnknownVm(VirtumancerError):
    status = 404
    type = "unknown-vm"
    title = "Unknown VM"


class UnknownTask(VirtumancerError):
    status = 404
    type = "unknown-task"
    title = "Unknown task"


class UnknownPath(VirtumancerError):
    status = 404
    type = "unknown-path"
    title = "Unknown path"


class MethodNotAllowed(VirtumancerError):
    status = 405
    type = "method-not-allowed"
    title = "Method not allowed"


class HostIdTaken(VirtumancerError):
    status = 409
    type = "host-id-taken"
    title = "Host id taken"


class VmBusy(VirtumancerError):
    status = 409
    type = "vm-busy"
    title = "The VM is busy with another task"


class WrongState(VirtumancerError):
    status = 409
    type = "wrong-state"
    title = "The VM cannot do that in its state"


class HostRemoved(VirtumancerError):
    status = 409
    type = "host-removed"
    title = "The host was removed"


class BodyTooLarge(VirtumancerError):
    status = 413
    type = "body-too-large"
    title = "Body too large"


class WrongMediaType(VirtumancerError):
    status = 415
    type = "wrong-media-type"
    title = "Wrong media type"


class UriNotAllowed(VirtumancerError):
    status = 422
    type = "uri-not-allowed"
    title = "URI not allowed"


class TooManySubscriptions(VirtumancerError):
    status = 429
    type = "too-many-subscriptions"
    title = "Too many subscriptions"


class ConnectionFailed(VirtumancerError):
    """``step`` in ``extra`` says where: dns, tcp, ssh, socket, permission, libvirt."""

    status = 500
    type = "connection-failed"
    title = "The connection to the host failed"
    retryable = True


class LibvirtRefused(VirtumancerError):
    """libvirt said no; its words are in ``detail``, its code in ``extra``."""

    status = 500
    type = "libvirt-refused"
    title = "libvirt refused"


class BrokenDomain(VirtumancerError):
    """The hypervisor's description of a domain cannot be read."""

    status = 500
    type = "broken-domain"
    title = "The hypervisor's description of the VM cannot be read"


class Interrupted(VirtumancerError):
    """A worker ended in mid-task, and the task must not be done a second time."""

    status = 500
    type = "interrupted"
    title = "The task was interrupted"


class HostUnreachable(VirtumancerError):
    status = 503
    type = "host-unreachable"
    title = "The host cannot be reached"
    retryable = True
    retry_after_s = 5


class HostTimeout(HostUnreachable):
    """A libvirt call overran its deadline and its transport was cut."""

    type = "host-timeout"
    title = "The host did not answer in time"


class StoreUnavailable(VirtumancerError):
    """Postgres cannot be reached."""

    status = 503
    type = "store-unavailable"
    title = "The database cannot be reached"
    retryable = True
    retry_after_s = 2


def problem_of(error: VirtumancerError, task: UUID | None = None) -> Problem:
    """The error as its wire form (RFC 9457)."""
    return Problem(
        type=f"/api/problems/{error.type}",
        title=error.title,
        status=error.status,
        detail=error.detail,
        **({"task": task} if task else {}) | error.extra,
    )
