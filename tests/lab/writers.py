"""``python -m tests.lab.writers NUMBER``: writes what a fleet may write, until killed.

Three threads with the product's own pool, Changes and SQL, and some SQL of somebody who
is careless: transactions of random length that overlap, that are rolled back, that ring
no bell. Postgres and Redis may go and come back.
"""

import random
import sys
import threading
import time
from uuid import UUID, uuid4, uuid5

import msgspec
import psycopg
from msgspec import Struct
from psycopg.types.json import Jsonb

from common import bus, settings
from common.bus import Bus
from common.changes import Change, Changes
from common.db import Query, open_pool, sql
from common.errors import StoreUnavailable
from common.queue import Queue, WakeBroker

HOSTS = ("h-1", "h-2", "h-3")
NAMES = tuple(f"vm-{number}" for number in range(40))
THREADS = 3


class _DbId(Struct):
    db_id: int


class _Number(Struct):
    number: int


class _RolledBack(Exception):
    pass


class Writer(threading.Thread):
    """Writes at random."""

    def __init__(self, changes: Changes, process_id: UUID, seed: str) -> None:
        super().__init__(daemon=True)
        self._changes = changes
        self._process_id = process_id
        self._random = random.Random(seed)

    def run(self) -> None:
        while True:
            try:
                self._write()
            except (StoreUnavailable, _RolledBack):
                pass
            except psycopg.Error as error:
                sys.stderr.write(f"{error}\n")
            time.sleep(self._random.uniform(0, 0.02))

    def _write(self) -> None:
        acts = (
            (8, self._see_many),
            (8, self._see_states),
            (8, self._see_one_gone),
            (8, self._be_careless),
            (2, self._flip_a_host),
            (1, self._remove_a_host),
            (6, self._add_a_task),
            (6, self._claim_and_end_tasks),
        )
        with self._changes.begin() as change:
            host_id = self._random.choice(HOSTS)
            for _ in range(self._random.randint(1, 3)):
                [act] = self._random.choices(
                    [a for _, a in acts], [weight for weight, _ in acts]
                )
                act(change, host_id)
                time.sleep(self._random.choice((0, 0, 0.005, 0.03)))
            if self._random.random() < 0.1:
                raise _RolledBack
            if self._random.random() < 0.7:
                change.publish(bus.vms_changed(host_id))

    def _host(self, change: Change, host_id: str) -> int:
        change.run(_ADD, id=host_id)
        if found := change.one(_HOST, _DbId, id=host_id):
            return found.db_id
        raise _RolledBack  # Somebody has just removed it.

    def _look(self, change: Change, host_id: str) -> dict[str, int]:
        host = self._host(change, host_id)
        drawn = change.one(sql.vms.next_observation, _Number)
        assert drawn
        return {"host_db_id": host, "observation": drawn.number}

    def _sample(self) -> list[str]:
        return sorted(self._random.sample(NAMES, self._random.randint(1, len(NAMES))))

    def _see_many(self, change: Change, host_id: str) -> None:
        where, names = self._look(change, host_id), self._sample()
        title = f"title {self._random.randint(1, 3)}"
        cpus, on = self._random.randint(1, 2), self._random.random() < 0.5
        seen = [
            {
                "uuid": uuid_of(host_id, name),
                "name": name,
                "title": title,
                "description": "",
                "vcpu_count": cpus,
                "memory_bytes": 2**30,
                "state": self._random.randint(0, 7),
                "state_reason": 1,
                "persistent": True,
                "autostart": on,
                "graphics": {"vnc": True, "spice": False},
                "hardware": None,
                "xml_hash": "",
            }
            for name in names
        ]
        rows = msgspec.json.encode(seen).decode()
        change.run(sql.vms.observe, rows=rows, **where)

    def _see_states(self, change: Change, host_id: str) -> None:
        where, names = self._look(change, host_id), self._sample()
        change.run(
            sql.vms.observe_states,
            uuid=[uuid_of(host_id, name) for name in names],
            name=names,
            state=[self._random.randint(0, 7) for _ in names],
            state_reason=[1] * len(names),
            persistent=[True] * len(names),
            autostart=[False] * len(names),
            **where,
        )

    def _see_one_gone(self, change: Change, host_id: str) -> None:
        vm = uuid_of(host_id, self._random.choice(NAMES))
        change.run(sql.vms.remove, uuid=vm, **self._look(change, host_id))

    def _be_careless(self, change: Change, host_id: str) -> None:
        vm = uuid_of(host_id, self._random.choice(NAMES))
        change.run(_CARELESS, title=str(self._random.random()), uuid=vm)

    def _flip_a_host(self, change: Change, host_id: str) -> None:
        state = self._random.choice(("connected", "unreachable", "connecting"))
        change.run(_FLIP, state=state, id=host_id)

    def _remove_a_host(self, change: Change, host_id: str) -> None:
        change.run(sql.hosts.remove, id=host_id)

    def _add_a_task(self, change: Change, host_id: str) -> None:
        name = self._random.choice(NAMES)
        change.run(
            _ASK,
            id=uuid4(),
            host_id=host_id,
            uuid=uuid_of(host_id, name),
            by=self._random.choice(("api", "monitor")),
        )

    def _claim_and_end_tasks(self, change: Change, host_id: str) -> None:
        mine = {"process_id": self._process_id}
        for task in change.all(
            sql.tasks.claim, _Task, host_id=host_id, lane="power", **mine
        ):
            if self._random.random() < 0.8:
                change.run(
                    sql.tasks.end,
                    id=task.id,
                    state="done",
                    problem=None,
                    result=Jsonb({"random": self._random.random()}),
                    **mine,
                )


class _Task(Struct):
    id: UUID


def uuid_of(host_id: str, name: str) -> UUID:
    return uuid5(UUID(int=0), f"{host_id}/{name}")


_ADD = Query(
    "test.add",
    """
    insert into hosts (id, uri, state)
    values (%(id)s, 'test+tcp://somewhere/default', 'connected')
    on conflict do nothing
    """,
)
_HOST = Query(
    "test.host", "select db_id from hosts where id = %(id)s for no key update"
)
_CARELESS = Query(
    "test.careless", "update vms set title = %(title)s where uuid = %(uuid)s"
)
_ASK = Query(
    "test.ask",
    """
    insert into tasks (id, kind, lane, host_id, vm_uuid, requested_by)
    values (%(id)s, 'start', 'power', %(host_id)s, %(uuid)s, %(by)s)
    on conflict do nothing
    """,
)
_FLIP = Query("test.flip", "update hosts set state = %(state)s where id = %(id)s")


def main() -> None:
    told = settings.from_environment()
    pool = open_pool(told.database_url, "writers", max_size=THREADS)
    tell = Bus(bus.connect(told.redis_url))
    changes = Changes(pool, tell, Queue(WakeBroker(told.redis_url)))
    process_id = uuid4()
    with changes.begin() as change:
        change.run(
            sql.processes.register, id=process_id, kind="worker", machine="test", pid=1
        )
    writers = [
        Writer(changes, process_id, f"{sys.argv[1]}/{number}")
        for number in range(THREADS)
    ]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()


if __name__ == "__main__":
    main()
