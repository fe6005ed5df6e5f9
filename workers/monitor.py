"""The monitor process: owns hosts by lease, watches and samples them, and rings
again for tasks whose bell or worker was lost."""

import signal
import threading
import time
from collections.abc import Callable
from typing import Final
from uuid import UUID

import redis
import structlog
from msgspec import Struct
from psycopg.types.json import Jsonb

from common import bus, log, metrics, settings, tracing
from common.bus import Bus
from common.changes import Changes
from common.db import open_pool, sql
from common.errors import Interrupted, StoreUnavailable, problem_of
from common.measurements import Publisher
from common.queue import Bell, Queue, WakeBroker
from common.settings import Settings
from common.uri_policy import UriPolicy
from workers import garbage
from workers.connections import Connections
from workers.fleet import FleetSample
from workers.hypervisor import events
from workers.hypervisor.records import Timeouts
from workers.leases import BEAT_S, Leases, OwnedHost, Presence
from workers.pruning import Pruning
from workers.sampling import Sampler
from workers.sync import ask_look
from workers.watch import Watch

_RING_AGAIN_S: Final = 5.0
_MAX_ATTEMPTS: Final = 5
# Somebody who opens a page begins to watch many VMs at once.
_GATHER_S: Final = 0.02
_SHUTDOWN_S: Final = 6.0
# The event loop turns once a second; one that stands still tells nobody anything.
_LOOP_STANDS_S: Final = 30.0


class _Interrupted(Struct):
    id: UUID
    kind: str
    host_id: str
    vm_uuid: UUID | None
    parent_id: UUID | None


class Stranded:
    """Tasks that nobody would run: their bell was lost, or their worker."""

    def __init__(self, changes: Changes) -> None:
        self._changes = changes

    def rescue(self) -> None:
        """Ring again, requeue what may be done twice, end what may not."""
        with self._changes.begin() as change:
            rung = change.all(sql.tasks.ring_stranded, Bell, after_s=_RING_AGAIN_S)
            change.ring(rung)
        with self._changes.begin() as change:
            for task in change.all(
                sql.tasks.interrupt_orphans,
                _Interrupted,
                max_attempts=_MAX_ATTEMPTS,
                problem=Jsonb(problem_of(_interrupted())),
            ):
                change.publish(bus.task_ended(task.id))
                if task.parent_id is not None:
                    change.publish(bus.task_ended(task.parent_id))
                metrics.TASKS.labels(task.kind, Interrupted.type).inc()
                if task.vm_uuid:
                    ask_look(change, "sync_vm", task.host_id, task.vm_uuid)
        with self._changes.begin() as change:
            # An equal look that is being asked for this moment goes first.
            again = change.all_if_unique(
                sql.tasks.requeue_orphans, Bell, max_attempts=_MAX_ATTEMPTS
            )
            change.ring(again)


def _interrupted() -> Interrupted:
    return Interrupted(
        "The worker ended in the middle of this task. It may or may not have been done;"
        " look at the VM, and ask again if it was not."
    )


class Owner:
    """The watches and samplers of the hosts that this monitor owns."""

    def __init__(
        self,
        make_watch: Callable[[OwnedHost], Watch],
        make_sampler: Callable[[OwnedHost], Sampler],
    ) -> None:
        self._make_watch = make_watch
        self._make_sampler = make_sampler
        self._watches: dict[OwnedHost, Watch] = {}
        self._samplers: dict[OwnedHost, Sampler] = {}
        self._lock = threading.Lock()

    def own(self, hosts: set[OwnedHost]) -> None:
        """Take up what is new and let go of what is no longer ours."""
        with self._lock:
            for host in self._watches.keys() - hosts:
                self._watches.pop(host).stop()
                self._samplers.pop(host).stop()
                metrics.forget_host(host.id)
            for host in hosts - self._watches.keys():
                self._watches[host] = self._make_watch(host)
                self._samplers[host] = self._make_sampler(host)
                self._watches[host].start()
                self._samplers[host].start()

    def sample(self, watched: dict[str, set[str]]) -> None:
        """Sample these VMs, by host id, as far as the hosts are ours."""
        with self._lock:
            samplers = list(self._samplers.values())
        for sampler in samplers:
            if vm_names := watched.get(sampler.host.id):
                sampler.sample(vm_names)

    def sample_fleet(self) -> None:
        """Sample every VM of the hosts that are ours."""
        with self._lock:
            samplers = list(self._samplers.values())
        for sampler in samplers:
            sampler.sample_fleet()

    def stop(self, timeout_s: float) -> None:
        until = time.monotonic() + timeout_s
        watches, samplers = list(self._watches.values()), list(self._samplers.values())
        self.own(set())
        for watch in watches:
            watch.join(max(0.0, until - time.monotonic()))
        for sampler in samplers:
            sampler.join(max(0.0, until - time.monotonic()))


class Ticker:
    """Asks Redis who watches what, at every tick and when somebody begins to."""

    def __init__(
        self, config: Settings, owner: Owner, hosts_changed: threading.Event
    ) -> None:
        self._url = config.redis_url
        self._interval_s = config.virtumancer_stats_interval_s
        self._fleet_interval_s = config.virtumancer_fleet_interval_s
        self._fleet_at = 0.0
        self._owner = owner
        self._hosts_changed = hosts_changed
        self._stopping = threading.Event()

    def run(self) -> None:
        while not self._stopping.is_set():
            try:
                self._tick_until_lost()
            except bus.PROBLEMS as error:
                bus.outage.began(error)
                self._stopping.wait(1)

    def _tick_until_lost(self) -> None:
        client = bus.connect(self._url, timeout_s=5)
        with client, bus.listen_for(client, bus.STATS_WANTED, bus.HOSTS) as bells:
            tell = Bus(client)
            next_at = time.monotonic()
            while not self._stopping.is_set():
                self._owner.sample(tell.watched_vms())
                self._sample_fleet(tell)
                bus.outage.ended()
                # A slow tick is not made up for by quick ones.
                next_at = max(next_at + self._interval_s, time.monotonic())
                while (left_s := next_at - time.monotonic()) > 0:
                    if wanted := self._wanted(bells, left_s):
                        watched = tell.watched_vms()
                        self._owner.sample(
                            {h: vms for h, vms in watched.items() if h in wanted}
                        )

    def _sample_fleet(self, tell: Bus) -> None:
        """While somebody scrapes, take all VMs' counters; they may wait for a tick."""
        if time.monotonic() >= self._fleet_at and tell.scraped():
            self._fleet_at = time.monotonic() + self._fleet_interval_s
            self._owner.sample_fleet()

    def _wanted(self, bells: redis.client.PubSub, patience_s: float) -> set[str]:
        """Hosts of which somebody has just begun to watch a VM."""
        wanted = set()
        while message := bells.get_message(timeout=patience_s):
            if message["channel"].decode() == bus.HOSTS:
                self._hosts_changed.set()
            else:
                wanted.add(message["data"].decode())
            patience_s = _GATHER_S
        return wanted

    def stop(self) -> None:
        self._stopping.set()


def main() -> None:
    """Watch until SIGTERM; then give back every host and exit."""
    config = settings.from_environment()
    log.configure(config, "monitor")
    tracing.configure(config, "monitor")
    stop = threading.Event()
    hosts_changed = threading.Event()

    def end(*_: object) -> None:
        stop.set()
        hosts_changed.set()

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, end)

    loop = events.start_event_loop()
    pool = open_pool(config.database_url, "virtumancer-monitor", max_size=16)
    queue = Queue(WakeBroker(config.redis_url))
    tell = Bus(bus.connect(config.redis_url))
    changes = Changes(pool, tell, queue)
    presence = Presence(changes, "monitor", stop)
    leases = Leases(changes, presence)
    connections = Connections(
        UriPolicy.of(config),
        config.ssh_dir,
        Timeouts(
            config.virtumancer_connect_timeout_s, config.virtumancer_call_timeout_s
        ),
        config.tls_dir,
    )
    owner = Owner(
        lambda host: Watch(
            host,
            changes,
            connections,
            presence,
            config.virtumancer_probe_interval_s,
            config.virtumancer_sweep_interval_s,
        ),
        lambda host: Sampler(
            host,
            connections,
            tell,
            FleetSample(host, changes, config.virtumancer_max_vms),
        ),
    )
    ticker = Ticker(config, owner, hosts_changed)
    ticking = threading.Thread(target=ticker.run, name="ticker", daemon=True)
    ticking.start()
    stranded = Stranded(changes)
    pruning = Pruning(changes, config.virtumancer_audit_days)
    publisher = Publisher(changes, "monitor")
    publisher.start()
    garbage.settle()
    structlog.get_logger().info("monitor watches")

    while not stop.is_set():
        try:
            presence.beat()
            owner.own(set(leases.balance()))
            stranded.rescue()
            pruning.prune()
        except StoreUnavailable:
            # Said by the outage itself; what is watched goes on being watched.
            pass
        if presence.taken_for_dead:
            owner.own(set())
        if loop.pulse_age_s() > _LOOP_STANDS_S:
            structlog.get_logger().error(
                "libvirt's event loop stands still; starting anew"
            )
            break
        hosts_changed.wait(BEAT_S)
        hosts_changed.clear()

    ticker.stop()
    publisher.stop()
    owner.stop(_SHUTDOWN_S)
    presence.leave()
    ticking.join(1)
    pool.close()
    structlog.get_logger().info("monitor ended")


if __name__ == "__main__":
    main()
