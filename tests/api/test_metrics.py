"""/metrics of one web process: its format, its cost, and what it says of an outage."""

import json
import statistics
import time

import httpx
import redis as redis_client

from common import bus
from embedded.servers import Postgres, Redis
from tests.api.conftest import Rows, WebProcess
from tests.measured.scrape import scrape

TRAFFIC = [1, 2, 3, 4]
COUNTERS = [0.0, 12.5, {"vda": TRAFFIC, "vdb": TRAFFIC}, {"vnet0": TRAFFIC}]


def thousand_vms(rows: Rows) -> None:
    host = rows.host("kvm-1")
    uuids = [str(rows.vm(host, f"vm-{number}")) for number in range(1000)]
    rows.run(
        "insert into host_samples values (%(host)s, now() - interval '7 s', %(vms)s)",
        host=host,
        vms=json.dumps(dict.fromkeys(uuids, COUNTERS)),
    )


def test_a_scrape_of_a_thousand_vms_is_cheap(api: httpx.Client, rows: Rows) -> None:
    thousand_vms(rows)

    lasted_s: dict[str, list[float]] = {"/metrics": [], "/api/vms?limit=1000": []}
    for _ in range(7):
        for path, taken_s in lasted_s.items():
            began = time.monotonic()
            api.get(path).raise_for_status()
            taken_s.append(time.monotonic() - began)
    answer = api.get("/metrics")

    assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    assert answer.text.count("\nvirtumancer_vm_state{") == 1000
    assert answer.text.count("\nvirtumancer_vm_disk_reads_total{") == 2000
    scrape_s, listing_s = map(statistics.median, lasted_s.values())
    assert scrape_s < 8 * listing_s, lasted_s


def test_names_of_vms_are_escaped(api: httpx.Client, rows: Rows) -> None:
    host = rows.host("kvm-1")
    odd = 'a "b"\\n\n{c="d"} ü\x1b[31m'
    rows.vm(host, odd)
    rows.vm(host, odd)

    seen = scrape(api)

    assert [s.labels["vm"] for s in seen.all("virtumancer_vm_state")] == [odd, odd]
    assert len({s.labels["uuid"] for s in seen.all("virtumancer_vm_state")}) == 2


def test_strangers_paths_and_methods_make_no_new_series(
    api: httpx.Client, rows: Rows
) -> None:
    before = len(scrape(api).all("virtumancer_http_request_seconds_count"))

    for number in range(20):
        api.get(f"/nowhere/{number}")
        api.get(f"/api/hosts/unknown-{number}")
        api.request(f"BREW{number}", "/api/hosts")

    seen = scrape(api)
    assert len(seen.all("virtumancer_http_request_seconds_count")) <= before + 4
    routes = {
        s.labels["route"] for s in seen.all("virtumancer_http_request_seconds_sum")
    }
    assert {"none", "/api/hosts/{host_id}"} <= routes


def test_being_scraped_has_the_fleet_sampled(
    api: httpx.Client, rows: Rows, redis: Redis
) -> None:
    scrape(api)

    with redis_client.Redis.from_url(redis.url) as client:
        assert 0 < client.ttl(bus.SCRAPED) <= 180


def test_an_outage_is_told_of_and_not_waited_for(
    server: WebProcess, api: httpx.Client, rows: Rows, postgres: Postgres, redis: Redis
) -> None:
    redis.stop()
    try:
        without_redis = scrape(api)
    finally:
        redis.start()
    postgres.stop()
    try:
        began = time.monotonic()
        without_postgres = scrape(api)
        lasted_s = time.monotonic() - began
    finally:
        postgres.start()

    assert without_redis.value("virtumancer_redis_up") == 0
    assert without_redis.value("virtumancer_postgres_up") == 1
    assert without_postgres.value("virtumancer_postgres_up") == 0
    assert without_postgres.value("virtumancer_http_request_seconds_count")
    assert lasted_s < 4
