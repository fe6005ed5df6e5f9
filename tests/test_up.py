"""bin/up: what it starts, what it refuses, what is left when it has ended."""

import os
import shutil
import signal
import socket
import stat
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

import pytest

from embedded import FolderError, Libvirtd, keeper, scratch
from embedded.keeper import Keeper, stop_all
from embedded.options import parse
from embedded.processes import of_folder, tagged, wait_until
from embedded.state import ADDRESS, check, default_state, take
from embedded.up import MARK
from tests.lab.up import TOP, Running, home_folder

# Stands in for the API: as much of it as bin/up talks to.
WEB = """
import json, os
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
hosts = []
class Api(BaseHTTPRequestHandler):
    def do_GET(self):
        self.reply({"/api/hosts": hosts, "/env": dict(os.environ)}.get(self.path, {}))
    def do_POST(self):
        hosts.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
        self.reply(hosts[-1])
    def reply(self, body):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps(body).encode())
    def log_message(self, *words):
        pass
address = os.environ["BIND"], int(os.environ["PORT"])
ThreadingHTTPServer(address, Api).serve_forever()
"""
RELEASE = """
import os, psycopg
with psycopg.connect(os.environ["DATABASE_URL"]) as database:
    database.execute("create table if not exists runs (at timestamptz default now())")
    database.execute("insert into runs default values")
    print("run", database.execute("select count(*) from runs").fetchone()[0])
"""
DEAF = """
import signal
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("deaf")
while True:
    signal.pause()
"""


class Begin(Protocol):
    def __call__(self, *words: str, **variables: str) -> Running: ...


@pytest.fixture
def home() -> Iterator[Path]:
    """With the stand-ins for the API and the migrations."""
    with home_folder() as home:
        (home / "web.py").write_text(WEB)
        (home / "release.py").write_text(RELEASE)
        yield home


@pytest.fixture
def begin(home: Path) -> Begin:
    def begin(*words: str, **variables: str) -> Running:
        stand_in = str(home / "Procfile")
        return Running(home, *words, "--procfile", stand_in, **variables)

    procfile(home, "worker: sleep 1000")
    return begin


def procfile(home: Path, *lines: str) -> None:
    usual = f"release: python {home}/release.py", f"web: python {home}/web.py"
    (home / "Procfile").write_text("\n".join([*usual, *lines, ""]))


def leftovers(state: Path) -> list[Path]:
    """Sockets, and files that say who runs."""
    return [
        path
        for path in state.rglob("*")
        if stat.S_ISSOCK(path.lstat().st_mode) or path.suffix in (".pid", ".lock")
    ]


def test_it_starts_everything_and_leaves_nothing(begin: Begin) -> None:
    with begin(VIRTUMANCER_URI_SOCKET_DIRS="/somewhere") as up:
        assert up.hears("Ctrl-C")
        assert up.hears("  curl ", times=4)

        hypervisor = Libvirtd(up.state / "libvirtd")
        assert up.get("/api/hosts") == [{"id": "demo", "uri": hypervisor.url}]
        variables = up.get("/env")
        folders = variables["VIRTUMANCER_URI_SOCKET_DIRS"].split(":")
        assert folders == [str(hypervisor.folder), "/somewhere"]
        assert "VIRTUMANCER_REUSE_PORT" not in variables
        assert (up.state / ADDRESS).read_text() == up.url
        assert hypervisor.virsh("list", "--all", "--name").split() == [
            "demo-one",
            "demo-three",
            "demo-two",
        ]
        hypervisor.virsh("start", "demo-one")

        took = up.end(signal.SIGINT)

        assert up.process.returncode == 0
        assert took < 10
        assert not up.rest()
        assert not leftovers(up.state)
        assert not (up.state / ADDRESS).exists()


def test_after_a_crash_it_starts_again_with_its_data(begin: Begin) -> None:
    with begin() as up:
        assert up.hears("Ctrl-C")
        Libvirtd(up.state / "libvirtd").virsh("start", "demo-one")

        up.end(signal.SIGKILL)

        assert wait_until(lambda: not up.rest(), 5)
    with begin() as up:
        assert up.hears("Ctrl-C")
        assert "run 2" in up.said
        assert "made the demo machines" not in up.said
        up.end()


def test_what_ends_is_started_again_and_said(home: Path, begin: Begin) -> None:
    procfile(home, "monitor: sh -c 'exit 7'", "worker: sleep 1000")
    with begin("--no-demo", "--workers", "2") as up:
        assert up.hears("monitor.1 ended with status 7; starting it again in 0.5 s")
        assert up.hears("Ctrl-C")
        assert len(sleepers(up)) == 2
        for pid in sleepers(up):
            os.kill(pid, signal.SIGKILL)
        postgres = (up.state / "postgres" / "data" / "postmaster.pid").read_text()
        os.kill(int(postgres.split()[0]), signal.SIGKILL)

        assert up.hears("worker.1 was ended by SIGKILL; starting it again")
        assert up.hears("worker.2 was ended by SIGKILL; starting it again")
        assert up.hears("postgres was ended by SIGKILL; starting it again")
        assert up.hears("monitor.1 ended with status 7; starting it again in 1 s")

        assert wait_until(lambda: len(sleepers(up)) == 2, 5)
        socket_file = up.state / "postgres" / ".s.PGSQL.5432"
        assert wait_until(socket_file.exists, 5)
        assert "libvirtd" not in up.said
        up.end()


def sleepers(up: Running) -> list[int]:
    return [
        pid
        for pid in tagged(MARK, str(up.state))
        if Path(f"/proc/{pid}/cmdline").read_bytes() == b"sleep\x001000\x00"
    ]


def test_a_process_that_will_not_stop_is_ended_within_ten_seconds(
    home: Path, begin: Begin
) -> None:
    (home / "deaf.py").write_text(DEAF)
    procfile(home, f"worker: python {home}/deaf.py")
    with begin("--no-demo", "--webs", "2") as up:
        assert up.hears("deaf")
        assert up.hears("Ctrl-C")
        assert up.get("/env")["VIRTUMANCER_REUSE_PORT"] == "1"

        assert up.end() < 10

        assert not up.rest()


def test_a_second_one_of_the_same_folder_is_refused(begin: Begin) -> None:
    with begin("--no-demo") as up:
        assert up.hears("Ctrl-C")
        with begin("--no-demo") as second:
            second.process.wait(timeout=10)
            assert second.hears("another bin/up is running")
            assert second.process.returncode == 1
            # What belongs to the first is left alone.
            assert up.get("/api/health") == {}
            up.end()


def test_a_port_in_use_is_refused(begin: Begin) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with begin("--no-demo", PORT=str(port)) as up:
            up.process.wait(timeout=10)
            assert up.hears(f"port {port} cannot be listened on")
            assert up.process.returncode == 1


def test_who_gets_in_is_said(home: Path, begin: Begin) -> None:
    with begin("--no-demo") as up:
        assert up.hears("Nobody is asked for a token")
    with begin("--no-demo", VIRTUMANCER_AUTH="tokens") as up:
        assert up.hears("bin/virtumancer token create")
        assert up.get("/env")["VIRTUMANCER_AUTH"] == "tokens"
    with begin("--no-demo", BIND="0.0.0.0", VIRTUMANCER_AUTH="off") as up:
        up.process.wait(timeout=10)
        assert up.hears("that is not loopback")
        assert up.process.returncode == 1


def test_a_release_that_fails_ends_it(home: Path, begin: Begin) -> None:
    (home / "release.py").write_text("raise SystemExit('no such thing')")
    with begin("--no-demo") as up:
        up.process.wait(timeout=20)
        assert up.hears("no such thing")
        assert up.hears("release ended with status 1; nothing was started")
        assert up.process.returncode == 1
        assert not up.rest()


def test_servers_that_are_given_are_used(begin: Begin, database_url: str) -> None:
    given = {"DATABASE_URL": database_url, "REDIS_URL": "redis://localhost:1"}
    with begin("--no-demo", **given) as up:
        assert up.hears("Ctrl-C")

        variables = up.get("/env")

        assert {name: variables[name] for name in given} == given
        assert not of_folder(up.state)
        up.end()


def test_a_keeper_waits_longer_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeper, "FIRST_PAUSE_S", 0.01)
    monkeypatch.setattr(keeper, "LONGEST_PAUSE_S", 0.03)
    said: list[str] = []
    kept = Keeper("failing", lambda: session("exit 3"), said.append)

    kept.start()
    assert wait_until(lambda: len(said) >= 4, 10)
    stop_all([kept], 5, lambda: False)

    pauses = [line.split(" in ")[1] for line in said[:4]]
    assert pauses == ["0.01 s", "0.02 s", "0.03 s", "0.03 s"]
    assert said[0].startswith("failing ended with status 3; starting it again")


def test_a_keeper_that_cannot_start_its_process_says_so() -> None:
    said: list[str] = []
    kept = Keeper("absent", lambda: subprocess.Popen(["/no/such/thing"]), said.append)

    kept.start()

    assert wait_until(lambda: bool(said), 10)
    assert "could not be started" in said[0]
    stop_all([kept], 5, lambda: False)
    assert kept.done


def test_a_keeper_ends_the_whole_family() -> None:
    """What its process has started is ended with it, by itself or by a stop."""
    launched: list[subprocess.Popen[bytes]] = []

    def launch() -> subprocess.Popen[bytes]:
        launched.append(session("sleep 1000 & echo $!; wait"))
        return launched[-1]

    heard: list[bytes] = []
    kept = Keeper("parent", launch, lambda text: None, hear=heard.append)
    kept.start()
    assert wait_until(lambda: bool(heard), 10)
    child = Path(f"/proc/{int(heard[0])}")
    assert child.exists()

    launched[0].kill()
    assert wait_until(lambda: gone(child), 5)
    stop_all([kept], 5, lambda: False)
    assert kept.done


def session(script: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        ["/bin/sh", "-c", script], stdout=subprocess.PIPE, start_new_session=True
    )


def gone(process: Path) -> bool:
    """Ended: not there any more, or only waiting for whoever adopted it."""
    try:
        return ") Z " in (process / "stat").read_text()
    except OSError:
        return True


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (lambda folder: folder.chmod(0o777), "written by everybody"),
        (lambda folder: folder.chmod(0o1777), "written by everybody"),
        (lambda folder: folder.parent.chmod(0o757), "written by everybody"),
    ],
)
def test_a_folder_that_others_can_write_is_refused(
    home: Path, spoil: Callable[[Path], None], why: str
) -> None:
    folder = home / "open" / "state"
    folder.mkdir(parents=True, mode=0o755)
    check(folder)

    spoil(folder)

    with pytest.raises(FolderError, match=why):
        take(folder)


def test_a_link_through_somebody_elses_folder_is_refused(home: Path) -> None:
    (home / "open").mkdir()
    (home / "open").chmod(0o777)
    (home / "open" / "link").symlink_to(home)

    with pytest.raises(FolderError, match="everybody"):
        take(home / "open" / "link" / "state")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
def test_a_folder_of_another_user_is_refused() -> None:
    with scratch() as folder, pytest.raises(FolderError, match="another user"):
        take(folder / "state")


def test_a_state_folder_is_taken_once(home: Path) -> None:
    descriptor = take(home / "state")
    with pytest.raises(FolderError, match="another bin/up"):
        take(home / "state")

    os.close(descriptor)

    os.close(take(home / "state"))


def test_checkouts_have_folders_of_their_own() -> None:
    one, two = (default_state(Path(path)) for path in ("/a/tree", "/b/tree"))

    assert one != two
    assert one.name.startswith("tree-")


@pytest.mark.parametrize("words", [["--webs", "0"], ["--workers", "-1"], ["--nodes"]])
def test_senseless_options_are_refused(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        parse(words)

    assert words[0] in capsys.readouterr().err


def install(function: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["/bin/bash", "-c", f". {TOP}/bin/_install; {function}"],
        env=os.environ | variables,
        capture_output=True,
        text=True,
    )


def test_installing_what_is_there_does_and_says_nothing() -> None:
    outcome = install("install_packages bash coreutils")

    assert (outcome.returncode, outcome.stdout, outcome.stderr) == (0, "", "")


def test_only_what_is_missing_is_named() -> None:
    outcome = install("missing_of bash no-such-package coreutils")

    assert outcome.stdout == "no-such-package\n"


def test_another_distribution_is_told_what_to_install(tmp_path: Path) -> None:
    """A machine without dpkg and apt: its PATH has the common tools alone."""
    for tool in ("dirname", "bash"):
        (tmp_path / tool).symlink_to(str(shutil.which(tool)))

    outcome = install("install_packages socat gcc", PATH=str(tmp_path))

    assert outcome.returncode == 1
    assert "socat gcc" in outcome.stderr
    assert len(outcome.stderr.splitlines()) == 1
