"""What the routes are about, as the documentation page groups them."""

from typing import Final

TAGS: Final = {
    "hosts": "The physical machines, and the link to each.",
    "vms": "The virtual machines: of one host, of all, and what is done to them.",
    "tasks": "What was asked for, and how it ended.",
    "live": "What changes, told by itself; the frames are in /api/asyncapi.json.",
    "access": "Who may do what, and who did it.",
    "system": "How Virtumancer itself is, and what it says of itself.",
}

_PLACES: Final = (
    ("/api/hosts/{host_id}/vms", "vms"),
    ("/api/hosts", "hosts"),
    ("/api/vms", "vms"),
    ("/api/actions", "vms"),
    ("/api/overview", "hosts"),
    ("/api/tasks", "tasks"),
    ("/api/events", "live"),
    ("/ws", "live"),
    ("/api/tickets", "access"),
    ("/api/tokens", "access"),
    ("/api/audit", "access"),
    ("/", "system"),
)


def tag_of(path: str) -> str:
    """By the first that the path begins with."""
    return next(tag for prefix, tag in _PLACES if path.startswith(prefix))
