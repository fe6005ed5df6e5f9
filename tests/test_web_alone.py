"""The web process needs no libvirt, no key, no program and no right on any host."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from embedded.processes import family
from tests.lab.system import TOP, eventually

# Whoever imports one of these gets an ImportError, as if it were not installed.
ALONE = """
import runpy, sys
for name in ("libvirt", "libvirtmod", "lxml", "workers"):
    sys.modules[name] = None
sys.argv = ["api"]
runpy.run_module("api", run_name="__main__")
"""


@contextmanager
def web_alone(
    environment: dict[str, str], folder: Path
) -> Iterator[tuple[httpx.Client, int]]:
    """In an empty home, with no program to be found."""
    log = folder / "log"
    with (
        log.open("wb") as output,
        subprocess.Popen(
            [sys.executable, "-c", ALONE],
            cwd=TOP,
            env={
                **environment,
                "HOME": str(folder),
                "PATH": str(folder),
                "PORT": "0",
                "LOG_FORMAT": "json",
                "VIRTUMANCER_AUTH": "off",
                "VIRTUMANCER_SSH_DIR": "/nonexistent",
            },
            stdin=subprocess.DEVNULL,
            stderr=output,
        ) as process,
    ):
        try:

            def port() -> int | None:
                assert process.poll() is None, log.read_text()
                lines = [json.loads(line) for line in log.read_text().splitlines()]
                ports = [one["port"] for one in lines if one["event"] == "listening"]
                return ports[0] if ports else None

            url = f"http://127.0.0.1:{eventually(port, 20)}"
            with httpx.Client(base_url=url, timeout=20) as api:
                yield api, process.pid
        finally:
            process.terminate()


@pytest.fixture
def alone(
    environment: dict[str, str], tmp_path: Path
) -> Iterator[tuple[httpx.Client, int]]:
    with web_alone(environment, tmp_path) as found:
        yield found


def test_the_web_process_runs_without_libvirt_keys_and_programs(
    alone: tuple[httpx.Client, int],
) -> None:
    api, pid = alone
    asked = {"id": "far", "uri": "qemu+ssh://root@127.0.0.1/system"}

    queued = api.post("/api/hosts", json=asked, headers={"Prefer": "respond-async"})
    refused = api.post(
        "/api/hosts", json={"id": "x", "uri": "qemu+ext:///system?command=/bin/sh"}
    )

    assert api.get("/api/hosts").json() == []
    assert api.get("/api/openapi.json").status_code == 200
    assert api.get("/metrics").status_code == 200
    assert queued.status_code == 202
    assert refused.status_code == 422
    # It asked nobody for anything: the task waits for a worker.
    assert api.get(queued.headers["Location"]).json()["state"] == "queued"
    assert family(pid) == [pid]
    loaded = Path(f"/proc/{pid}/maps").read_text()
    assert "uvloop" in loaded
    assert "libvirt" not in loaded
    assert "lxml" not in loaded


def test_a_secret_in_a_uri_is_neither_logged_nor_returned(
    alone: tuple[httpx.Client, int], tmp_path: Path
) -> None:
    api, _ = alone
    answers = []
    for uri in ("qemu+ssh://u:hunter2@host/system", "u:hunter2@host", "hunter2"):
        body = {"id": "far", "uri": uri}
        answers += [
            api.post("/api/hosts", json=body),
            api.post("/api/hosts", json=body, headers={"Idempotency-Key": uri}),
            api.post("/api/hosts", content=f'{{"uri": "{uri}"'),
            api.post("/api/hosts/check", json={"uri": uri}),
            api.patch("/api/hosts/far", json={"uri": uri}),
        ]

    assert [answer.status_code for answer in answers if answer.is_success] == []
    assert not any("hunter2" in answer.text for answer in answers)
    assert "hunter2" not in (tmp_path / "log").read_text()
