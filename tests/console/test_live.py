"""Commands that go on: on a terminal, into a pipe, over a web that dies."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.console.conftest import Run
from tests.console.pty import Screen
from tests.lab.hypervisors import define, remove
from tests.lab.system import TOP, System, eventually

RESTORED = b"\x1b[?1049l"
"""What ends the use of a terminal's second screen."""


class Piped:
    """A command whose output goes into a pipe."""

    def __init__(self, url: str, *words: str) -> None:
        here = {"PYTHONPATH": f"{TOP}:{TOP}/bin", "VIRTUMANCER_URL": url}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "console", *words],
            env=os.environ | here,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.lines: list[str] = []
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line.rstrip())

    def says(self, *words: str) -> str:
        """The first line with all of these words, as soon as it comes."""

        def found() -> list[str]:
            return [line for line in self.lines if all(word in line for word in words)]

        return str(eventually(found, 30, f"no line with {words}")[0])

    def close(self) -> None:
        with self.process:
            self.process.kill()
            self._thread.join(30)

    def ended(self) -> tuple[int, str]:
        """Interrupted as by Ctrl-C: the exit code, and what it complained of."""
        self.process.send_signal(signal.SIGINT)
        code = self.process.wait(30)
        assert self.process.stderr is not None
        return code, self.process.stderr.read()


@contextmanager
def piped(url: str, *words: str) -> Iterator[Piped]:
    command = Piped(url, *words)
    try:
        yield command
    finally:
        command.close()
        print("\n".join(command.lines))  # noqa: T201


@pytest.fixture
def url(lab: System) -> str:
    return lab.webs[0].url


def test_watch_shows_vms_as_they_change_over_a_web_that_dies(
    lab: System, url: str, behind: Any
) -> None:
    with Screen("watch", VIRTUMANCER_URL=url) as screen:
        screen.shows(r"kvm1 +web +off")
        behind.lookupByName("web").create()
        screen.shows(r"kvm1 +web +running")

        lab.webs[0].kill()
        screen.shows("link lost")
        behind.lookupByName("db").create()
        behind.lookupByName("web").destroy()
        lab.web(PORT=url.rpartition(":")[2])

        screen.shows(r"db +running[\s\S]*web +off")
        screen.shows(r"^(?![\s\S]*link lost)")
        screen.type("\x03")
        assert screen.ended() == 0
        assert RESTORED in screen.drawn


def test_watch_tells_a_pipe_of_each_change(
    url: str, run: Run, behind: Any, lab: System
) -> None:
    with piped(url, "watch", "--name", "l*") as lines:
        eventually(lambda: _followed(lab, run, lines), 30)
        define(behind, "later")
        lines.says("vm", "kvm1/later", "off")
        remove(behind.lookupByName("later"))

        lines.says("vm", "kvm1/later", "removed")
        assert not [line for line in lines.lines if "kvm1/web  " in line]
        assert lines.ended() == (0, "")


def _followed(lab: System, run: Run, lines: Piped) -> bool:
    """Whether a change is told of, so that the command listens."""
    run("start", "lost")
    run("destroy", "lost")
    return any("kvm1/lost  off" in line for line in lines.lines)


def test_frames_go_on_from_a_cursor(url: str, run: Run) -> None:
    with piped(url, "watch", "--json") as frames:
        cursor = json.loads(frames.says('"subscribed"'))["cursor"]
        run("start", "web")
        told = json.loads(frames.says('"vm-updated"', '"name":"web"'))
        assert told["payload"]["state"] == 1
        frames.ended()

    with piped(url, "watch", "--json", "--since", cursor) as again:
        again.says('"subscribed"', '"missed":"follows"')
        again.says('"vm-updated"', '"name":"web"')
        again.says('"replayed"')

    with piped(url, "watch", "--json", "--since", "nonsense") as refused:
        assert refused.process.wait(30) == 1
        assert refused.process.stderr
        assert "cursor" in refused.process.stderr.read()


def test_top_measures_vms_as_they_start(url: str, run: Run) -> None:
    run("start", "web")
    with Screen("top", "--host", "kvm1", VIRTUMANCER_URL=url) as screen:
        screen.shows(r"kvm1 +web +\d+\.\d +200")
        run("start", "db")
        screen.shows(r"kvm1 +db +\d+\.\d +200")
        run("destroy", "web")
        screen.shows(r"^(?![\s\S]*web)[\s\S]*db")

        screen.process.terminate()

        assert screen.ended() == 128 + signal.SIGTERM
        assert RESTORED in screen.drawn


def test_one_picture_of_what_vms_take(run: Run) -> None:
    run("start", "kvm1/web", "kvm1/db")

    table = run("top", "--once", "--sort", "name", "--host", "kvm1")
    samples = run("top", "--once", "--json", "--name", "web").json

    assert table.code == 0
    assert [line[1] for line in table.lines[1:]] == ["db", "web"]
    assert [sample["vmName"] for sample in samples] == ["web"]
    assert samples[0]["stats"]["cpu_percent"] is not None


def test_samples_into_a_pipe(url: str, run: Run) -> None:
    run("start", "web")
    with piped(url, "top", "--json") as samples:
        first = json.loads(samples.says('"vmName":"web"'))
        eventually(lambda: len(samples.lines) > 2, 30)

        assert first["stats"]["vcpu"] == 2
        assert samples.ended()[0] == 0


def test_a_bar_is_shown_on_a_terminal_alone(url: str, run: Run) -> None:
    with Screen("start", "kvm1/web", "kvm1/db", VIRTUMANCER_URL=url) as screen:
        assert screen.ended() == 0
        assert b"\x1b[?25l" in screen.drawn
        assert "kvm1/db" in screen.frame

    assert "\x1b" not in run("destroy", "kvm1/web", "kvm1/db").err


def test_what_loses_something_is_asked_about_on_a_terminal(
    url: str, run: Run, lab: System
) -> None:
    run("start", "web")
    with Screen("destroy", "kvm1/w*", VIRTUMANCER_URL=url) as screen:
        screen.shows(r"destroy 1 of 1 VM on 1 host\?")
        screen.type("n\n")
        assert screen.ended() == 1
    assert lab.state("kvm1", "web") == 1
    with Screen("destroy", "kvm1/w*", VIRTUMANCER_URL=url) as screen:
        screen.shows("destroy 1 of 1")
        screen.type("y\n")
        assert screen.ended() == 0
    assert lab.state("kvm1", "web") == 5
