"""What a client is refused for, whoever it is: where it comes from, and how much it
asks for.
"""

from common.errors import VirtumancerError


class HostNotAllowed(VirtumancerError):
    """The request is for a name that this service does not go by. A page from elsewhere
    can give itself a name that leads here."""

    status = 403
    type = "host-not-allowed"
    title = "The service does not go by this name"
    advice = "Use a name it knows, or add this one to `VIRTUMANCER_HOSTS`."


class OriginNotAllowed(VirtumancerError):
    """A browser says that a page from elsewhere asks."""

    status = 403
    type = "origin-not-allowed"
    title = "Pages from elsewhere may not ask"
    advice = "Add the page's origin to `VIRTUMANCER_ORIGINS` if it is yours."


class RequestTooSlow(VirtumancerError):
    status = 408
    type = "request-too-slow"
    title = "The request did not come in time"
    advice = "Send it anew."
    retryable = True


class UriTooLong(VirtumancerError):
    status = 414
    type = "uri-too-long"
    title = "The URI is too long"
    advice = "Ask for less at a time."


class HeadersTooLarge(VirtumancerError):
    status = 431
    type = "headers-too-large"
    title = "The headers are too large"
    advice = "Send fewer or shorter headers."


class TooManySockets(VirtumancerError):
    """One token has too many WebSockets and event streams open."""

    status = 429
    type = "too-many-sockets"
    title = "Too many sockets"
    advice = "Close some: one socket can subscribe to many VMs."
    retry_after_s = 5
    retryable = True


class TooBusy(VirtumancerError):
    """This web process answers as many requests, or has as many connections, as it
    may."""

    status = 503
    type = "too-busy"
    title = "Too many requests at once"
    advice = "Try again in a moment; run more web processes if it stays so."
    retry_after_s = 1
    retryable = True
