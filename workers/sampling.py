"""Samples of the VMs that somebody watches: one bulk call a host and tick.

Who watches is asked of Redis at every tick: a web process that dies leaves nothing
behind. A host that is slow misses ticks, and no other host does.
"""

import threading
from collections.abc import Set as AbstractSet
from typing import Final

import structlog

from common.bus import Bus, Published, stats_channel
from common.errors import UnknownVm, VirtumancerError
from workers import domain_xml
from workers.connections import Connections
from workers.fleet import FleetSample
from workers.hypervisor.connection import Connection
from workers.hypervisor.records import Devices, StatsGroup
from workers.leases import OwnedHost
from workers.stats import Series

_BALLOON_EVERY: Final = 5
"""The balloon costs as much as all else together, and changes slowly."""
_RETRY_S: Final = 2.0


class Sampler:
    """Samples one host's watched VMs over a connection of its own."""

    def __init__(
        self, host: OwnedHost, connections: Connections, bus: Bus, fleet: FleetSample
    ) -> None:
        self.host = host
        self._connections = connections
        self._bus = bus
        self._fleet = fleet
        self._watched_due = False
        self._fleet_due = False
        self._watched: set[str] = set()
        self._due = threading.Event()
        self._stopping = threading.Event()
        self._uuids: dict[str, str] = {}
        self._series: dict[str, Series] = {}
        self._ticks = 0
        self._log = structlog.get_logger().bind(host=host.id)
        self._thread = threading.Thread(
            target=self._run, name=f"sample {host.id}", daemon=True
        )

    def start(self) -> None:
        self._thread.start()

    def sample(self, vm_names: set[str]) -> None:
        """Sample these VMs now; a tick that comes while one is under way is merged."""
        self._watched = vm_names
        self._watched_due = True
        self._due.set()

    def sample_fleet(self) -> None:
        """Take the counters of all VMs now, for whoever scrapes."""
        self._fleet_due = True
        self._due.set()

    def stop(self) -> None:
        self._stopping.set()
        self._due.set()

    def join(self, timeout_s: float) -> None:
        self._thread.join(timeout_s)

    def _run(self) -> None:
        told = ""
        while self._wait():
            try:
                connection = self._connections.open(self.host.uri, self.host.id)
                try:
                    told = ""
                    self._sample_until_lost(connection)
                finally:
                    connection.close()
            except VirtumancerError as error:
                # The host's state is the watch's to tell; here only samples fail.
                if error.detail != told:
                    self._log.warning("no stats", reason=error.detail)
                told = error.detail
                self._stopping.wait(_RETRY_S)

    def _wait(self) -> bool:
        """Wait for the next tick; False when it is time to stop."""
        self._due.wait()
        self._due.clear()
        return not self._stopping.is_set()

    def _sample_until_lost(self, connection: Connection) -> None:
        while not self._stopping.is_set():
            if self._watched_due:
                self._watched_due = False
                self._bus.publish(self._sample(connection, self._watched))
            if self._fleet_due:
                self._fleet_due = False
                self._fleet.take(connection)
            self._wait()

    def _sample(self, connection: Connection, names: set[str]) -> list[Published]:
        for name in names - self._uuids.keys():
            try:
                self._uuids[name] = connection.find(name)
            except UnknownVm:
                continue
        uuids = {self._uuids[name]: name for name in names if name in self._uuids}
        if not uuids:
            return []
        seen = connection.stats(uuids, self._groups(uuids.keys()), _devices_of)
        published = []
        for uuid, name in uuids.items():
            now = seen.get(uuid)
            if now is None or now.name != name:
                # Renamed, or defined anew under its name: looked up at the next tick.
                del self._uuids[name]
                self._series.pop(uuid, None)
                continue
            if uuid not in self._series:
                self._series[uuid] = Series(self.host.id)
            frame = self._series[uuid].frame(now)
            published.append((stats_channel(self.host.id, name), frame))
        for gone in self._series.keys() - uuids.keys():
            del self._series[gone]
        return published

    def _groups(self, uuids: AbstractSet[str]) -> StatsGroup:
        self._ticks += 1
        all_known = uuids <= self._series.keys()
        dear = self._ticks % _BALLOON_EVERY == 0 or not all_known
        return StatsGroup.ALL if dear else StatsGroup.CHEAP


def _devices_of(xml: str) -> Devices:
    """What has counters in a domain whose driver does not list them."""
    hardware = domain_xml.parse(xml).hardware
    nics = (nic.target.dev or nic.mac.address for nic in hardware.networks)
    return Devices(
        tuple(disk.target.dev for disk in hardware.disks if disk.target.dev),
        tuple(nic for nic in nics if nic),
    )
