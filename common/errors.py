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
    advice: ClassVar[str] = (
        "This is a fault of ours: report it with what the log has under the id in"
        " `X-Request-ID`."
    )
    libvirt: ClassVar[tuple[str, ...]] = ()
    """Names of libvirt's error codes that always mean this (virterror.h)."""
    retryable: ClassVar[bool] = False
    retry_after_s: int | None = None

    def __init__(self, detail: str, **extra: Unpack[Extra]) -> None:
        super().__init__(detail)
        self.detail = detail
        self.extra = extra


class InvalidRequest(VirtumancerError):
    status = 400
    type = "invalid-request"
    title = "Invalid request"
    advice = "Correct what `detail` names; `at` says where it stands."


class UnknownHost(VirtumancerError):
    status = 404
    type = "unknown-host"
    title = "Unknown host"
    advice = "Look at `GET /api/hosts`; a host may have been removed."


class UnknownVm(VirtumancerError):
    status = 404
    type = "unknown-vm"
    title = "Unknown VM"
    libvirt = ("VIR_ERR_NO_DOMAIN",)
    advice = (
        "Look at `GET /api/hosts/{id}/vms`; a VM may have been renamed or undefined."
    )


class UnknownProblem(VirtumancerError):
    status = 404
    type = "unknown-problem"
    title = "Unknown problem type"
    advice = "Look at `GET /api/problems`, which lists them all."


class UnknownTask(VirtumancerError):
    status = 404
    type = "unknown-task"
    title = "Unknown task"
    advice = "Look at `GET /api/tasks`; ended tasks are kept for 30 days."


class UnknownPath(VirtumancerError):
    status = 404
    type = "unknown-path"
    title = "Unknown path"
    advice = "Look at `/api/docs`, which lists every path."


class MethodNotAllowed(VirtumancerError):
    status = 405
    type = "method-not-allowed"
    title = "Method not allowed"
    advice = "Use a method that the header `Allow` names."


class HostIdTaken(VirtumancerError):
    status = 409
    type = "host-id-taken"
    title = "Host id taken"
    advice = "Choose another id, or remove the host that has this one."


class VmBusy(VirtumancerError):
    status = 409
    type = "vm-busy"
    title = "The VM is busy with another task"
    advice = "Wait for the task that `task` names, then try again."


class WrongState(VirtumancerError):
    status = 409
    type = "wrong-state"
    title = "The VM cannot do that in its state"
    libvirt = ("VIR_ERR_OPERATION_INVALID",)
    advice = "Bring the VM into a state that allows it first; `detail` says how."


class HostRemoved(VirtumancerError):
    status = 409
    type = "host-removed"
    title = "The host was removed"
    advice = "Add the host again if it was not meant to be removed."


class KeyInFlight(VirtumancerError):
    status = 409
    type = "key-in-flight"
    title = "What this Idempotency-Key asked for is under way"
    advice = "Wait for the task that `task` names, then send the same request again."
    retryable = True
    retry_after_s = 1


class TaskCancelled(VirtumancerError):
    status = 409
    type = "task-cancelled"
    title = "The task was cancelled before it began"
    advice = "Ask again if it is wanted after all."


class TaskBegun(VirtumancerError):
    status = 409
    type = "task-begun"
    title = "The task can no longer be cancelled"
    advice = "Wait for its end: `GET /api/tasks/{id}?wait=30`."


class Changed(VirtumancerError):
    """The header ``If-Match`` names what the resource was, and it has changed since."""

    status = 412
    type = "changed"
    title = "It has changed since it was read"
    advice = "Read it again, and ask again with its new `ETag` if that is still right."


class BodyTooLarge(VirtumancerError):
    status = 413
    type = "body-too-large"
    title = "Body too large"
    advice = "Send less; no request of this API needs 64 KiB."


class WrongMediaType(VirtumancerError):
    status = 415
    type = "wrong-media-type"
    title = "Wrong media type"
    advice = "Send JSON, with `Content-Type: application/json`."


class UriNotAllowed(VirtumancerError):
    status = 422
    type = "uri-not-allowed"
    title = "URI not allowed"
    advice = "Write the URI in one of the forms that the README lists."


class KeyReused(VirtumancerError):
    status = 422
    type = "key-reused"
    title = "This Idempotency-Key was used for another request"
    advice = "Make a new key for each request; send the same key only to repeat one."


class UpgradeRequired(VirtumancerError):
    status = 426
    type = "upgrade-required"
    title = "Upgrade required"
    advice = "Open this address as a WebSocket, or read `/api/events` instead."


class TooManySubscriptions(VirtumancerError):
    status = 429
    type = "too-many-subscriptions"
    title = "Too many subscriptions"
    advice = "Open another socket, or unsubscribe from what is no longer watched."


class ConnectionFailed(VirtumancerError):
    """``step`` in ``extra`` says where: dns, tcp, ssh, socket, permission, libvirt."""

    status = 500
    type = "connection-failed"
    title = "The connection to the host failed"
    advice = "Do what `detail` says; `step` is where it failed."
    retryable = True


class LibvirtRefused(VirtumancerError):
    """libvirt said no; its words are in ``detail``, its code in ``extra``."""

    status = 500
    type = "libvirt-refused"
    title = "libvirt refused"
    advice = (
        "Read libvirt's own words in `libvirt_message`; the host's libvirt log says "
        "more."
    )


class BrokenDomain(VirtumancerError):
    """The hypervisor's description of a domain cannot be read."""

    status = 500
    type = "broken-domain"
    title = "The hypervisor's description of the VM cannot be read"
    advice = "Look at the VM with `virsh dumpxml` on the host, and define it anew."


class HostNotBelieved(VirtumancerError):
    """What the host says of its VMs is more than is taken in."""

    status = 500
    type = "host-not-believed"
    title = "The host says more than can be true"
    advice = "Look at the host; if it is right, raise `VIRTUMANCER_MAX_VMS`."


class Interrupted(VirtumancerError):
    """A worker ended in mid-task, and the task must not be done a second time."""

    status = 500
    type = "interrupted"
    title = "The task was interrupted"
    advice = "Look how the VM is now, and ask again if it is still wanted."


class HostUnreachable(VirtumancerError):
    status = 503
    type = "host-unreachable"
    title = "The host cannot be reached"
    advice = (
        "Look at the host's `error` in `GET /api/hosts/{id}`; it is tried again by "
        "itself."
    )
    retryable = True
    retry_after_s = 5


class HostTimeout(HostUnreachable):
    """A libvirt call overran its deadline and its transport was cut."""

    type = "host-timeout"
    title = "The host did not answer in time"
    advice = (
        "Look whether libvirtd hangs on the host, or the network to it loses packets."
    )


class StoreUnavailable(VirtumancerError):
    """Postgres cannot be reached."""

    status = 503
    type = "store-unavailable"
    title = "The database cannot be reached"
    advice = "Try again shortly; if it stays so, look at Postgres and DATABASE_URL."
    retryable = True
    retry_after_s = 2


def problem_of(error: VirtumancerError, task: UUID | None = None) -> Problem:
    """The error as its wire form (RFC 9457)."""
    return Problem(
        type=f"/api/problems/{error.type}",
        title=error.title,
        status=error.status,
        detail=error.detail,
        advice=error.advice,
        **({"task": task} if task else {}) | error.extra,
    )
