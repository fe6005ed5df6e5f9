"""Subscriptions: resources as they change, from any place on, with nothing missed."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import httpx
import psycopg
import pytest
from websockets.asyncio.client import ClientConnection, connect

from common import bus
from common.db import sql
from common.shapes import HostsChanged
from tests.api.conftest import Rows, ScriptedWorker, WebProcess, Webs
from tests.api.test_live import frame, refused, until

CURSOR = "X-Virtumancer-Cursor"
ALL = ("hosts", "vms", "tasks")


def subscribe(*topics: str, **further: Any) -> str:
    return json.dumps({"type": "subscribe", "payload": {"topics": topics, **further}})


async def subscribed(
    ws: ClientConnection, *topics: str, **further: Any
) -> dict[str, Any]:
    """The answer to a subscription; ``missed`` and the cursor."""
    await ws.send(subscribe(*topics, **further))
    answer = await frame(ws)
    assert answer["type"] == "subscribed"
    return answer


async def frames_until(ws: ClientConnection, kind: str) -> list[dict[str, Any]]:
    """What comes before the next frame of this kind."""
    seen: list[dict[str, Any]] = []
    while (received := await frame(ws))["type"] != kind:
        seen.append(received)
    return seen


@pytest.fixture
async def ws(server: WebProcess, rows: Rows) -> AsyncIterator[ClientConnection]:
    await until(lambda: rows.listeners(bus.NEWS) == 1)
    async with connect(server.ws_url) as ws:
        yield ws


def update(rows: Rows, name: str, **facts: Any) -> None:
    columns = ", ".join(f"{column} = %({column})s" for column in facts)
    rows.run(f"update vms set {columns} where name = %(vm)s", vm=name, **facts)
    rows.publish(bus.news())


async def test_frames_hold_what_rest_returns(
    ws: ClientConnection, rows: Rows, api: httpx.Client
) -> None:
    answer = await subscribed(ws, *ALL)
    rows.vm(rows.host("kvm-1"), "a")
    rows.publish(bus.news())
    texts = [str(await asyncio.wait_for(ws.recv(), 5)) for _ in range(2)]

    assert answer["payload"] == {"topics": list(ALL), "hosts": None, "missed": None}
    for text, kind, url in zip(
        texts,
        ("host-updated", "vm-updated"),
        ("/api/hosts/kvm-1", "/api/hosts/kvm-1/vms/a"),
        strict=True,
    ):
        body = (await asyncio.to_thread(api.get, url)).text
        cursor = json.loads(text)["cursor"]
        assert text == f'{{"type":"{kind}","payload":{body},"cursor":"{cursor}"}}'


async def test_a_change_and_a_removal_are_told(
    ws: ClientConnection, rows: Rows
) -> None:
    vm_uuid = rows.vm(rows.host("kvm-1"), "a")
    await subscribed(ws, *ALL)

    update(rows, "a", state=5)
    changed = await frame(ws)
    rows.run("delete from vms")
    rows.publish(bus.news())
    removed = await frame(ws)
    rows.run(sql.hosts.remove, id="kvm-1")
    rows.publish(bus.news())
    gone = await frame(ws)

    assert (changed["payload"]["state"], changed["payload"]["revision"]) == (5, 2)
    identity = {"host_id": "kvm-1", "uuid": str(vm_uuid)}
    assert (removed["type"], removed["payload"]) == ("vm-removed", identity)
    assert (gone["type"], gone["payload"]) == ("host-removed", {"id": "kvm-1"})


async def test_a_host_takes_its_vms_along(ws: ClientConnection, rows: Rows) -> None:
    host = rows.host("kvm-1")
    uuids = {str(rows.vm(host, name)) for name in "abc"}
    await subscribed(ws, "vms")

    rows.run(sql.hosts.remove, id="kvm-1")
    rows.publish(bus.news())
    frames = [await frame(ws) for _ in range(3)]

    assert {f["type"] for f in frames} == {"vm-removed"}
    assert {f["payload"]["uuid"] for f in frames} == uuids


async def test_vms_of_a_host_that_is_lost_are_told_to_be_stale(
    ws: ClientConnection, rows: Rows
) -> None:
    host = rows.host("kvm-1")
    for name in "abc":
        rows.vm(host, name)
    await subscribed(ws, "vms")

    rows.run("update hosts set state = 'unreachable'")
    rows.publish(bus.news())
    frames = [await frame(ws) for _ in range(3)]

    facts = {(f["payload"]["stale"], f["payload"]["revision"]) for f in frames}
    assert facts == {(True, 2)}
    # Only the last one says that the host's VMs are known.
    first, second, last = (f["cursor"] for f in frames)
    assert first == second != last


async def test_a_task_is_told_at_every_step(
    ws: ClientConnection, rows: Rows, api: httpx.Client, worker: ScriptedWorker
) -> None:
    rows.vm(rows.host("kvm-1"), "a")
    await subscribed(ws, "tasks")
    action = {"json": {"action": "start"}, "headers": {"Prefer": "respond-async"}}
    url = "/api/hosts/kvm-1/vms/a/action"

    await asyncio.to_thread(lambda: api.post(url, **action))  # type: ignore[arg-type]
    queued = await frame(ws)
    worker.answers["start"] = lambda task: None
    while (done := await frame(ws))["payload"]["state"] != "done":
        pass

    assert (queued["type"], queued["payload"]["state"]) == ("task-updated", "queued")
    assert (queued["payload"]["revision"], done["payload"]["revision"]) == (1, 3)
    answer = await asyncio.to_thread(api.get, f"/api/tasks/{done['payload']['id']}")
    assert done["payload"] == answer.json()


async def test_bookkeeping_is_no_news(ws: ClientConnection, rows: Rows) -> None:
    host = rows.host("kvm-1")
    vm_uuid = rows.vm(host, "a")
    await subscribed(ws, *ALL)

    rows.run("update hosts set observation = 9, observed_at = now()")
    rows.run(sql.vms.seen_again, host_db_id=host, uuid=vm_uuid, observation=9)
    update(rows, "a", state=5)

    assert (await frame(ws))["payload"]["state"] == 5


async def test_only_what_was_asked_for_is_told(
    server: WebProcess, ws: ClientConnection, rows: Rows
) -> None:
    one, two = rows.host("one"), rows.host("two")
    await subscribed(ws, "vms", hosts=["two"])
    async with connect(server.ws_url) as other:
        rows.vm(one, "a")
        rows.vm(two, "b")
        rows.publish(bus.news(), bus.frame("kvm-1", HostsChanged()))

        # Who asks for nothing sees the contract's messages alone.
        assert (await frame(other))["type"] == "hosts-changed"
    seen = [await frame(ws), await frame(ws)]
    names = [f["payload"]["name"] for f in seen if f["type"] == "vm-updated"]
    assert names == ["b"]


async def test_a_subscription_takes_the_place_of_another_and_ends(
    ws: ClientConnection, rows: Rows
) -> None:
    host = rows.host("kvm-1")
    await subscribed(ws, "hosts", "vms")
    await subscribed(ws, "vms", "tasks")
    await ws.send('{"type": "unsubscribe", "payload": {"topics": ["tasks"]}}')
    left = await frame(ws)
    rows.vm(host, "a")
    rows.publish(bus.news())
    told = await frame(ws)
    await ws.send('{"type": "unsubscribe", "payload": {}}')
    ended = await frame(ws)
    update(rows, "a", state=5)
    rows.publish(bus.frame("kvm-1", HostsChanged()))

    assert left == {"type": "unsubscribed", "payload": {"topics": ["vms"]}}
    assert told["type"] == "vm-updated"
    assert ended == {"type": "unsubscribed", "payload": {"topics": []}}
    assert (await frame(ws))["type"] == "hosts-changed"


async def test_a_lost_bell_is_made_up_for(ws: ClientConnection, rows: Rows) -> None:
    await subscribed(ws, "hosts")

    rows.host("kvm-1")

    assert (await frame(ws, 3))["type"] == "host-updated"


async def test_nothing_was_missed(ws: ClientConnection, rows: Rows) -> None:
    rows.vm(rows.host("kvm-1"), "a")
    first = await subscribed(ws, *ALL)
    rows.run("update vms set observed_at = now()")

    again = await subscribed(ws, *ALL, since=first["cursor"])

    assert again["payload"]["missed"] == "nothing"
    assert again["cursor"] == first["cursor"]


async def test_what_was_missed_is_replayed_as_it_is_now(
    server: WebProcess, ws: ClientConnection, rows: Rows
) -> None:
    host = rows.host("kvm-1")
    for name in "ab":
        rows.vm(host, name)
    cursor = (await subscribed(ws, *ALL))["cursor"]
    for state in (5, 1, 3):
        update(rows, "a", state=state)
    gone = str(rows.run("delete from vms where name = 'b' returning uuid")[0]["uuid"])

    async with connect(server.ws_url) as other:
        answer = await subscribed(other, *ALL, since=cursor)
        replayed = await frames_until(other, "replayed")
        update(rows, "a", state=1)
        live = await frame(other)

    assert answer["payload"]["missed"] == "follows"
    assert answer["cursor"] == cursor
    assert [f["type"] for f in replayed] == ["vm-updated", "vm-removed"]
    assert replayed[0]["payload"]["state"] == 3
    assert replayed[1]["payload"]["uuid"] == gone
    assert live["payload"]["state"] == 1


async def test_a_list_and_the_news_since_it_are_complete(
    server: WebProcess, ws: ClientConnection, rows: Rows, api: httpx.Client
) -> None:
    host = rows.host("kvm-1")
    rows.vm(host, "a")
    cursors = [
        (await asyncio.to_thread(api.get, url)).headers[CURSOR]
        for url in ("/api/hosts", "/api/hosts/kvm-1/vms", "/api/vms", "/api/tasks")
    ]
    rows.vm(host, "b")

    for cursor in cursors:
        await subscribed(ws, "vms", since=cursor)
        names = {f["payload"]["name"] for f in await frames_until(ws, "replayed")}
        assert "b" in names


async def test_what_commits_late_is_not_overtaken(
    ws: ClientConnection, rows: Rows, environment: dict[str, str]
) -> None:
    """A transaction takes its positions early, and commits after another's."""
    one, two = rows.host("one"), rows.host("two")
    rows.vm(one, "slow")
    await subscribed(ws, "vms")
    with psycopg.connect(environment["DATABASE_URL"]) as slow:
        slow.execute("update vms set state = 3 where name = 'slow'")
        rows.vm(two, "quick")
        rows.publish(bus.news())
        with pytest.raises(TimeoutError):
            await frame(ws, 0.3)
        slow.commit()

    frames = [await frame(ws, 0.5), await frame(ws, 0.5)]

    assert [f["payload"]["name"] for f in frames] == ["slow", "quick"]


async def test_an_old_cursor_is_too_old(
    ws: ClientConnection, rows: Rows, environment: dict[str, str]
) -> None:
    cursor = (await subscribed(ws, *ALL))["cursor"]
    rows.host("kvm-1")
    rows.host("kvm-2")
    rows.run(sql.news.prune, older_than_s=1e6, most=1, at_a_time=10**6)

    answer = await subscribed(ws, *ALL, since=cursor)
    rows.host("kvm-3")
    rows.publish(bus.news())

    assert answer["payload"]["missed"] == "too-old"
    assert (await frame(ws))["payload"]["id"] == "kvm-3"
    assert len(rows.run("select xid from news")) == 2


async def test_a_cursor_from_elsewhere_is_too_old(
    ws: ClientConnection, rows: Rows
) -> None:
    from_elsewhere = "OTk5OTk5OTk5OTk5LjE"

    answer = await subscribed(ws, "vms", since=from_elsewhere)

    assert answer["payload"]["missed"] == "too-old"


@pytest.mark.parametrize(
    "message",
    [
        subscribe(),
        subscribe("dogs"),
        subscribe("vms", since="!"),
        subscribe("vms", since="ü"),
        subscribe("vms", since=""),
        subscribe("vms", since="LTEuMQ"),
        subscribe("vms", since=7),
        subscribe("vms", hosts=["a b"]),
        subscribe("vms", colour="red"),
        '{"type": "subscribe"}',
        '{"type": "unsubscribe", "payload": {"topics": []}}',
    ],
)
async def test_a_bad_subscription_is_refused_and_the_old_one_stays(
    ws: ClientConnection, rows: Rows, message: str
) -> None:
    await subscribed(ws, "hosts")

    payload = await refused(ws, message)

    assert payload["code"] == "invalid-request"
    rows.host("kvm-1")
    assert (await frame(ws))["type"] == "host-updated"


async def test_a_backlog_larger_than_an_outbox_arrives(
    ws: ClientConnection, server: WebProcess, rows: Rows
) -> None:
    host = rows.host("kvm-1")
    cursor = (await subscribed(ws, "vms"))["cursor"]
    many(rows, host, 3000)
    wide = {"max_queue": 1}

    async with connect(server.ws_url, **wide) as other:  # type: ignore[arg-type]
        await subscribed(other, "vms", since=cursor)
        await asyncio.sleep(0.5)  # It reads late, and loses nothing by that.
        replayed = await frames_until(other, "replayed")
    live = [await frame(ws) for _ in range(3000)]

    for frames in (replayed, live):
        assert len({f["payload"]["uuid"] for f in frames}) == 3000


async def test_a_subscriber_that_reads_slowly_is_not_closed(
    server: WebProcess, rows: Rows
) -> None:
    host = rows.host("kvm-1")
    narrow = socket.socket()
    narrow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    narrow.connect(("127.0.0.1", server.port))
    async with connect(server.ws_url, sock=narrow, max_queue=1) as slow:
        await subscribed(slow, "vms")
        many(rows, host, 3000)
        await asyncio.sleep(0.5)
        update(rows, "vm-7", state=5)

        last: dict[str, int] = {}
        while len(last) < 3000 or last["vm-7"] != 5:
            payload = (await frame(slow))["payload"]
            last[payload["name"]] = payload["state"]


def test_a_bulk_change_is_noted_in_no_time(rows: Rows) -> None:
    """A trigger keeps its first plan, which was made for one row."""
    host = rows.host("kvm-1")
    rows.vm(host, "a")
    update(rows, "a", state=5)
    many(rows, host, 3000)

    [plan] = rows.run(
        "explain (analyze, format json) update vms set revision = revision + 1"
    )

    spent = {t["Trigger Name"]: t["Time"] for t in plan["QUERY PLAN"][0]["Triggers"]}
    assert spent["updated"] < 200


def many(rows: Rows, host: int, number: int) -> None:
    """So many VMs, in one statement, and the bell."""
    rows.run(
        """
        insert into vms (host_db_id, uuid, name, title, description, vcpu_count,
            memory_bytes, state, state_reason, persistent, autostart, graphics,
            observation)
        select %(host)s, gen_random_uuid(), 'vm-' || n, '', '', 1, 1, 1, 1, true, false,
            '{"vnc": false, "spice": false}', 1
        from generate_series(1, %(number)s) n
        """,
        host=host,
        number=number,
    )
    rows.publish(bus.news())


async def test_events_continue_from_the_last_event_id(
    server: WebProcess, rows: Rows
) -> None:
    host = rows.host("kvm-1")
    params = {"topics": "vms,hosts", "hosts": "kvm-1,kvm-2"}
    async with httpx.AsyncClient(base_url=server.url) as api:
        async with api.stream("GET", "/api/events", params=params) as stream:
            first = await event(stream.aiter_lines())
        vm_uuid = rows.vm(host, "a")
        headers = {"Last-Event-ID": first["id"]}
        async with api.stream(
            "GET", "/api/events", params=params, headers=headers
        ) as stream:
            lines = stream.aiter_lines()
            events = [await event(lines) for _ in range(3)]

    assert first["event"] == "subscribed"
    assert [e["event"] for e in events] == ["subscribed", "vm-updated", "replayed"]
    told = json.loads(events[1]["data"])
    assert UUID(told["payload"]["uuid"]) == vm_uuid
    assert told["cursor"] == events[1]["id"]


async def event(lines: AsyncIterator[str]) -> dict[str, str]:
    """The next server-sent event, by its fields."""
    fields: dict[str, str] = {}
    while line := await asyncio.wait_for(anext(lines), 5):
        name, _, value = line.partition(": ")
        fields[name] = value
    return fields


@pytest.mark.parametrize(
    ("params", "at"),
    [
        ({"topics": "dogs"}, "?topics"),
        ({"topics": ""}, "?topics"),
        ({"topics": "vms", "hosts": "a b"}, "?hosts"),
        ({"topics": "vms", "since": "!"}, "?since"),
        ({"hosts": "kvm-1"}, "?topics"),
    ],
)
def test_events_of_nonsense_do_not_begin(
    api: httpx.Client, params: dict[str, str], at: str
) -> None:
    answer = api.get("/api/events", params=params)

    assert (answer.status_code, answer.json()["at"]) == (400, at)


async def test_subscriptions_outlive_redis(web: Webs, rows: Rows, redis: Any) -> None:
    server = web()
    async with connect(server.ws_url) as ws:
        await subscribed(ws, "hosts")
        redis.stop()
        try:
            rows.host("kvm-1")
            told = await frame(ws, 5)
        finally:
            redis.start()

    assert (told["type"], told["payload"]["id"]) == ("host-updated", "kvm-1")
