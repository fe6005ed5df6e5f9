"""One line a request and a task, joined by their ids, and nobody forges one."""

import json
import subprocess
import sys

import libvirt
import pytest

from tests.faults.conftest import Hosts, NewLab, uri
from tests.lab.hypervisors import define
from tests.lab.system import TOP, eventually

SAY = """
import logging, structlog, sys
from common import log, settings
urls = {"DATABASE_URL": "postgresql://", "REDIS_URL": "redis://"}
log.configure(settings.from_environment({**urls, "LOG_FORMAT": sys.argv[1]}), "worker")
evil = "a\\x1b[31m\\nb\\r\\x07\\x9b1m\\u2028c\\u202ed"
with structlog.contextvars.bound_contextvars(request=evil):
    structlog.get_logger().info("start", vm=evil, facts={"a": [evil]})
    logging.getLogger("foreign").warning("words %s", evil)
    try:
        raise ValueError(evil)
    except ValueError:
        structlog.get_logger().exception("a task failed")
"""


def said(log_format: str) -> str:
    """What a process says that has met hostile names."""
    done = subprocess.run(
        [sys.executable, "-c", SAY, log_format],
        cwd=TOP,
        capture_output=True,
        timeout=30,
    )
    return done.stderr.decode()


@pytest.mark.parametrize("log_format", ["people", "json"])
def test_hostile_words_stay_on_their_line(log_format: str) -> None:
    words = said(log_format)

    assert not set(words) & set("\x1b\r\x07\x9b\u2028\u202e")
    assert [line for line in words.split("\n") if line.startswith("b")] == []


def test_json_is_one_object_a_line() -> None:
    start, foreign, failed = map(json.loads, said("json").splitlines())

    assert start["event"] == "start"
    assert start["process"] == foreign["process"] == "worker"
    assert start["vm"] == start["request"] == start["facts"]["a"][0]
    assert "ValueError" in failed["exception"]


def test_people_see_a_line_each_and_tracebacks_set_in() -> None:
    lines = said("people").splitlines()

    assert "start" in lines[0]
    assert "words a\\x1b[31m\\nb" in lines[1]
    assert "a task failed" in lines[2]
    assert all(line.startswith("  ") for line in lines[3:])


def test_one_id_joins_the_request_its_task_and_libvirts_calls(
    new_lab: NewLab, behind: libvirt.virConnect, hosts: Hosts
) -> None:
    define(behind, "one")
    [host] = hosts(1)
    with new_lab(LOG_LEVEL="debug") as lab:
        lab.start()
        lab.add_host("alpha", uri(host))

        answer = lab.act("alpha", "one", "start")
        request = answer.headers["X-Request-ID"]
        eventually(lambda: lab.said("start", request=request), 5)

        [asked] = lab.said("request", request=request)
        [task] = lab.said("start", request=request)
        [call] = lab.said("create", request=request)
        assert (asked["method"], asked["status"]) == ("POST", 204)
        assert (task["host"], task["vm"], task["ended"]) == ("alpha", "one", "done")
        assert call["task"] == task["task"]
        assert call["host"] == "alpha"
        assert min(asked["ms"], task["ms"], call["ms"]) >= 0
