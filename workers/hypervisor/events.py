"""libvirt's event loop and what it announces, for the monitor alone.

Hides the one event thread of the process and libvirt's registrations. Start the loop
before the first Connection.open(): a connection opened earlier has no events, and a
loop that is registered and does not run kills idle connections.
"""

import atexit
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from typing import Any

import libvirt

from common.errors import LibvirtRefused
from workers.hypervisor.codes import NO_TEXT, translated
from workers.hypervisor.connection import Connection
from workers.hypervisor.link import try_to
from workers.hypervisor.records import Event

Sink = Callable[[Event], None]

_PULSE_MS = 1000

# What can change something that the API shows. Left out are the clock and display
# events of every guest: many, and nothing to read anew.
KINDS = {
    "lifecycle": "VIR_DOMAIN_EVENT_ID_LIFECYCLE",
    "reboot": "VIR_DOMAIN_EVENT_ID_REBOOT",
    "device-added": "VIR_DOMAIN_EVENT_ID_DEVICE_ADDED",
    "device-removed": "VIR_DOMAIN_EVENT_ID_DEVICE_REMOVED",
    "metadata-change": "VIR_DOMAIN_EVENT_ID_METADATA_CHANGE",
    "tunable": "VIR_DOMAIN_EVENT_ID_TUNABLE",
    "balloon-change": "VIR_DOMAIN_EVENT_ID_BALLOON_CHANGE",
    "agent-lifecycle": "VIR_DOMAIN_EVENT_ID_AGENT_LIFECYCLE",
    "disk-change": "VIR_DOMAIN_EVENT_ID_DISK_CHANGE",
    "tray-change": "VIR_DOMAIN_EVENT_ID_TRAY_CHANGE",
    "block-job": "VIR_DOMAIN_EVENT_ID_BLOCK_JOB_2",
    "pm-suspend": "VIR_DOMAIN_EVENT_ID_PMSUSPEND",
    "pm-wakeup": "VIR_DOMAIN_EVENT_ID_PMWAKEUP",
    "memory-device-size-change": "VIR_DOMAIN_EVENT_ID_MEMORY_DEVICE_SIZE_CHANGE",
    "nic-mac-change": "VIR_DOMAIN_EVENT_ID_NIC_MAC_CHANGE",
}


class EventLoop:
    """The one libvirt event thread of this process."""

    def __init__(self) -> None:
        self._beat_at = time.monotonic()
        self._stopping = False
        with translated():
            libvirt.virEventRegisterDefaultImpl()
            self._timer = libvirt.virEventAddTimeout(_PULSE_MS, self._beat, None)
        self._thread = threading.Thread(
            target=self._run, name="libvirt-events", daemon=True
        )
        self._thread.start()
        # A callback into an interpreter that is going down crashes the process.
        atexit.register(self._stop)

    def pulse_age_s(self) -> float:
        """Seconds since the loop last turned; it turns at least once a second."""
        return time.monotonic() - self._beat_at

    def _beat(self, _timer: int, _opaque: None) -> None:
        self._beat_at = time.monotonic()

    def _run(self) -> None:
        # An error ends the thread, and the pulse with it; but not one host's words.
        while not self._stopping:
            with suppress(*NO_TEXT):
                libvirt.virEventRunDefaultImpl()

    def _stop(self) -> None:
        self._stopping = True
        libvirt.virEventUpdateTimeout(self._timer, 0)
        self._thread.join(_PULSE_MS / 1000)


@cache
def start_event_loop() -> EventLoop:
    """Register and run the loop; the same one when called again."""
    return EventLoop()


def subscribe(connection: Connection, sink: Sink) -> None:
    """Hand every event of this connection to ``sink``, until the connection closes.

    ``sink`` runs in the event thread: it may put into a queue and nothing more. Kinds
    that the driver does not know are left out. A connection that is lost ends with
    one Event("closed"); one that we close ends in silence.
    """
    subscription = _Subscription(connection, sink)
    connection.on_close(subscription.end)
    subscription.begin()


class _Subscription:
    """libvirt's registrations for one connection, all with the same sink."""

    def __init__(self, connection: Connection, sink: Sink) -> None:
        self._link = connection.link
        self._virt = connection.link.virt
        self._sink = sink
        self._over = threading.Event()
        self._numbers: list[int] = []

    def begin(self) -> None:
        self._link.call(self._virt.registerCloseCallback, self._closed, None)
        for kind, constant in KINDS.items():
            number = getattr(libvirt, constant, None)
            if number is not None:
                self._register(kind, number)

    def _register(self, kind: str, number: int) -> None:
        register = self._virt.domainEventRegisterAny
        try:
            known = self._link.call(register, None, number, self._told, kind)
        except LibvirtRefused:
            # This driver has no such event.
            return
        self._numbers.append(known)

    def end(self) -> None:
        """Silence, and libvirt's references to us given back."""
        self._over.set()
        for number in self._numbers:
            try_to(self._virt.domainEventDeregisterAny, number)
        try_to(self._virt.unregisterCloseCallback)

    def _told(self, _virt: Any, domain: Any, *details: Any) -> None:
        """Copy what happened and return; the last detail is our kind."""
        *numbers, kind = details
        detail = numbers[0] if kind == "lifecycle" else 0
        if not self._over.is_set():
            self._sink(Event(kind, domain.UUIDString(), detail))

    def _closed(self, _virt: Any, reason: int, _opaque: None) -> None:
        if not self._over.is_set():
            self._over.set()
            self._sink(Event("closed", None, reason))
