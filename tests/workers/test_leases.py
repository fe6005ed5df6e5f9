"""Who may be taken for dead, and what becomes of what the dead held."""

import threading
from collections.abc import Callable, Iterator
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg.rows import dict_row

from common import bus
from common.bus import Bus
from common.changes import Changes
from common.db import open_pool
from common.queue import Queue, WakeBroker
from workers.leases import Leases, Presence
from workers.monitor import Stranded


class Fleet:
    """One monitor of ours, and rows of processes and tasks that a test writes."""

    def __init__(self, database_url: str, redis_url: str) -> None:
        self._pool = open_pool(database_url, "test")
        changes = Changes(
            self._pool, Bus(bus.connect(redis_url)), Queue(WakeBroker(redis_url))
        )
        self.presence = Presence(changes, "monitor", threading.Event())
        self.leases = Leases(changes, self.presence)
        self.stranded = Stranded(changes)
        self.rows = psycopg.connect(database_url, autocommit=True, row_factory=dict_row)

    def heard(self, process_id: UUID, ago_s: float, steady_s: float = 60) -> None:
        """As if the last beat had been so long ago, the first missed one before it."""
        self.rows.execute(
            "update processes set seen_at = now() - make_interval(secs => %s),"
            " steady_since = now() - make_interval(secs => %s) where id = %s",
            [ago_s, steady_s, process_id],
        )

    def worker(self, heard_ago_s: float) -> UUID:
        worker = uuid4()
        self.rows.execute(
            "insert into processes (id, kind, machine, pid)"
            " values (%s, 'worker', 'test', 1)",
            [worker],
        )
        self.heard(worker, heard_ago_s)
        return worker

    def lives(self, process_id: UUID) -> bool:
        found = self.rows.execute("select from processes where id = %s", [process_id])
        return found.fetchone() is not None

    def look(
        self, state: str, connection: "psycopg.Connection[Any] | None" = None
    ) -> UUID:
        """A sync of one host, in a state; running, it is an orphan."""
        task = uuid4()
        (connection or self.rows).execute(
            "insert into tasks (id, kind, lane, host_id, requested_by, state)"
            " values (%s, 'sync_host', 'look', 'one', 'monitor', %s)",
            [task, state],
        )
        return task

    def state(self, task: UUID) -> str:
        found = self.rows.execute("select state from tasks where id = %s", [task])
        [row] = found.fetchall()
        return str(row["state"])

    def close(self) -> None:
        self.rows.close()
        self._pool.close()


@pytest.fixture
def fleet(database_url: str, redis_url: str) -> Iterator[Fleet]:
    fleet = Fleet(database_url, redis_url)
    yield fleet
    fleet.close()


def test_a_silent_process_is_buried_by_one_that_was_heard_all_the_while(
    fleet: Fleet,
) -> None:
    dead, alive = fleet.worker(heard_ago_s=7), fleet.worker(heard_ago_s=2)
    fleet.heard(fleet.presence.id, ago_s=0)

    fleet.leases.balance()

    assert not fleet.lives(dead)
    assert fleet.lives(alive)


def test_nobody_is_buried_for_an_outage_of_the_database(fleet: Fleet) -> None:
    worker = fleet.worker(heard_ago_s=30)
    fleet.heard(fleet.presence.id, ago_s=30)

    fleet.presence.beat()
    fleet.leases.balance()

    assert fleet.lives(worker)


def test_a_burial_that_hung_in_the_outage_itself_buries_nobody(fleet: Fleet) -> None:
    worker = fleet.worker(heard_ago_s=30)
    # The last beat came before the outage, and the burial comes out of it.
    fleet.heard(fleet.presence.id, ago_s=30)

    fleet.leases.balance()

    assert fleet.lives(worker)


def test_who_was_buried_takes_no_host_and_does_not_fall_over(fleet: Fleet) -> None:
    fleet.rows.execute(
        "insert into hosts (id, uri, state)"
        " values ('one', 'qemu:///system', 'connected')"
    )
    fleet.rows.execute("delete from processes")

    assert fleet.leases.balance() == []

    fleet.presence.beat()
    assert [host.id for host in fleet.leases.balance()] == ["one"]


def test_an_orphaned_look_waits_for_its_equal_that_is_being_asked_for(
    fleet: Fleet, database_url: str, eventually: Callable[..., None]
) -> None:
    orphan = fleet.look("running")
    failures: list[BaseException] = []

    def rescue() -> None:
        try:
            fleet.stranded.rescue()
        except Exception as error:  # noqa: BLE001 (told to the test)
            failures.append(error)

    with psycopg.connect(database_url) as other:
        equal = fleet.look("queued", other)
        rescuing = threading.Thread(target=rescue)
        rescuing.start()
        eventually(lambda: waits(fleet))
    rescuing.join()

    assert failures == []
    assert fleet.state(orphan) == "running"
    fleet.rows.execute("update tasks set state = 'done' where id = %s", [equal])
    fleet.stranded.rescue()
    assert fleet.state(orphan) == "queued"


def waits(fleet: Fleet) -> bool:
    """Whether somebody waits for another's transaction."""
    [row] = fleet.rows.execute(
        "select count(*) from pg_locks where not granted"
    ).fetchall()
    return bool(row["count"])


def test_a_host_that_is_just_being_removed_is_not_taken(
    fleet: Fleet, database_url: str
) -> None:
    add = "insert into hosts (id, uri, state) values ('one', 'test:///d', 'connecting')"
    fleet.rows.execute(add)
    with psycopg.connect(database_url) as other:
        other.execute("delete from hosts")

        assert fleet.leases.balance() == []

        other.rollback()
    assert [host.id for host in fleet.leases.balance()] == ["one"]
