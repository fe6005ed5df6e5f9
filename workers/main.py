"""The worker process: wires, runs, stops.

Dramatiq's Worker runs in this process, without the master process of its command
line: whoever runs the Procfile starts a worker again that dies.
"""

import signal
import threading
from typing import Final

import dramatiq
import structlog
from msgspec import Struct

from common import bus, log, settings, tracing
from common.bus import Bus
from common.changes import Changes
from common.db import Reader, open_pool, sql
from common.errors import StoreUnavailable
from common.measurements import Publisher
from common.queue import Queue, WakeBroker
from common.uri_policy import UriPolicy
from workers import actors, garbage
from workers.actors import Patience, Tasks, Work
from workers.connections import Connections
from workers.hypervisor.records import Timeouts
from workers.lanes import Lanes
from workers.leases import BEAT_S, Presence
from workers.sync import Sync

_SHUTDOWN_S: Final = 6.0


class _InUse(Struct):
    db_id: int
    uri: str


def main() -> None:
    """Serve tasks until SIGTERM; then finish what is held and exit."""
    config = settings.from_environment()
    log.configure(config, "worker")
    tracing.configure(config, "worker")
    stop = threading.Event()
    for signal_number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signal_number, lambda *_: stop.set())

    pool = open_pool(config.database_url, "virtumancer-worker", max_size=16)
    broker = WakeBroker(config.redis_url)
    changes = Changes(pool, Bus(bus.connect(config.redis_url)), Queue(broker))
    reader = Reader(pool)
    connections = Connections(
        UriPolicy.of(config),
        config.ssh_dir,
        Timeouts(
            config.virtumancer_connect_timeout_s, config.virtumancer_call_timeout_s
        ),
        config.tls_dir,
    )
    patience = Patience()
    presence = Presence(changes, "worker", stop)
    sync = Sync(reader, changes, config.virtumancer_max_vms)
    work = Work(reader, changes, connections, sync, presence, patience)
    tasks = Tasks(changes, presence, work.kinds, patience)
    lanes = Lanes(config.virtumancer_host_share, tasks.run_next)
    actors.declare(broker, lanes)
    worker = dramatiq.Worker(broker, worker_threads=config.virtumancer_worker_threads)
    worker.start()
    publisher = Publisher(changes, "worker")
    publisher.start()
    garbage.settle()
    structlog.get_logger().info("worker serves")

    while not stop.wait(BEAT_S):
        try:
            presence.beat()
            tasks.let_go()
            hosts = reader.all(sql.hosts.in_use, _InUse)
        except StoreUnavailable:
            continue
        connections.keep_only({(host.db_id, host.uri) for host in hosts})

    publisher.stop()
    worker.stop(timeout=1000)
    finished = lanes.stop(_SHUTDOWN_S)
    patience.end()
    if not finished:
        structlog.get_logger().warning("tasks are left to other workers")
    presence.leave()
    connections.close()
    pool.close()
    structlog.get_logger().info("worker ended")


if __name__ == "__main__":
    main()
