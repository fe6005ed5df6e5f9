"""libvirt's event loop and what it announces, for the monitor alone.

Hides the one event thread of the process and libvirt's registrations. Start the loop
before the first Connection.open(); connections opened earlier have no events.
"""

from collections.abc import Callable

from workers.hypervisor.connection import Connection
from workers.hypervisor.records import Event


class EventLoop:
    """The one libvirt event thread of this process."""

    def pulse_age_s(self) -> float:
        """Seconds since the loop last turned; it turns at least once a second."""
        raise NotImplementedError


def start_event_loop() -> EventLoop:
    """Register and run the loop; the same one when called again."""
    raise NotImplementedError


def subscribe(connection: Connection, sink: Callable[[Event], None]) -> None:
    """Hand every event of this connection to ``sink``, until the connection closes.

    ``sink`` runs in the event thread: it may put into a queue and nothing more. Kinds
    that the driver does not know are left out. A connection that is lost ends with
    one Event("closed").
    """
    raise NotImplementedError
