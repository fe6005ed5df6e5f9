"""The way to the API: nobody there, somebody else, answers that are lost."""

import os
import shlex
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest

from console.api import Api
from console.tables import Column as C
from console.tables import lines_of, plain
from console.words import size, vm_state_number
from tests.console.conftest import command
from tests.lab.admission import admit
from tests.lab.sshd import free_port
from tests.lab.system import TOP, System

HOST = (
    b'{"id":"kvm1","uri":"test:///d","created_at":"2026-11-23T00:00:00Z","state":'
    b'"disabled","state_since":"2026-11-23T00:00:00Z","error":null,"next_retry_at":'
    b'null,"observed_at":null,"revision":1}'
)
PROBLEM = b'{"type":"t","title":"No token","status":401,"detail":"d","advice":"a"}'


class Stranger(BaseHTTPRequestHandler):
    """Answers what it was told to; ``None`` is a connection that is dropped."""

    answers: ClassVar[list[tuple[int, str, bytes] | None]] = []
    keys: ClassVar[list[str | None]] = []

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("content-length") or 0))
        self.do_GET()

    def do_GET(self) -> None:
        self.keys.append(self.headers.get("Idempotency-Key"))
        answer = self.answers.pop(0)
        if answer is None:
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        status, kind, body = answer
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def stranger(*answers: tuple[int, str, bytes] | None) -> Iterator[str]:
    Stranger.answers, Stranger.keys = list(answers), []
    server = ThreadingHTTPServer(("127.0.0.1", 0), Stranger)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def test_nobody_there_is_said_plainly() -> None:
    outcome = command(f"http://127.0.0.1:{free_port()}", "hosts")

    assert outcome.code == 3
    assert "Nobody answers" in outcome.err
    assert "VIRTUMANCER_URL" in outcome.err


@pytest.mark.parametrize(
    "answer",
    [
        (200, "text/html", b"<html>hello</html>"),
        (404, "text/html", b"<html>not found</html>"),
        (200, "application/json", b'[{"surprise": true}]'),
    ],
)
def test_somebody_else_there_is_said_plainly(answer: tuple[int, str, bytes]) -> None:
    with stranger(answer) as url:
        assert command(url, "hosts").code == 3


def test_who_may_not_is_told_with_an_exit_code_of_its_own() -> None:
    with stranger((401, "application/problem+json", PROBLEM)) as url:
        outcome = command(url, "hosts")

    assert outcome.code == 4
    assert "No token" in outcome.err


def test_a_token_is_shown_over_http_and_the_socket(lab: System) -> None:
    web = lab.web(VIRTUMANCER_AUTH="tokens")
    shown = admit(lab.environment["DATABASE_URL"], "viewer")
    token = {"VIRTUMANCER_TOKEN": shown["Authorization"].removeprefix("Bearer ")}

    assert command(web.url, "hosts").code == 4
    assert command(web.url, "hosts", **token).code == 0
    assert command(web.url, "top", "--once", **token).code == 0
    denied = command(web.url, "start", "kvm1/web", **token)
    assert denied.code == 4
    assert "operator" in denied.err

    web.kill()


def test_a_change_whose_answer_is_lost_is_sent_again_with_the_same_key() -> None:
    with stranger(None, None, (200, "application/json", HOST)) as url:
        outcome = command(url, "hosts", "disconnect", "kvm1")

    assert outcome.code == 0
    assert len(Stranger.keys) == 3
    assert len(set(Stranger.keys)) == 1
    assert Stranger.keys[0]


def test_a_list_is_read_to_its_end(lab: System) -> None:
    pages = Api(lab.webs[0].url, None).all("/api/vms", limit=1, host="kvm1")

    assert len(pages.body) == len(lab.vms("kvm1"))


def test_the_shell_is_offered_hosts_and_vms(lab: System) -> None:
    def offered(line: str) -> list[str]:
        variables = {
            "_VIRTUMANCER_COMPLETE": "complete_bash",
            "COMP_WORDS": line,
            "COMP_CWORD": str(len(shlex.split(line)) - 1),
        }
        return command(lab.webs[0].url, **variables).out.split()

    assert offered("virtumancer hosts check k") == ["kvm1"]
    assert {"kvm1/web", "kvm1/db"} <= set(offered("virtumancer start k"))
    assert offered("virtumancer start kvm1/w") == ["kvm1/web"]
    assert offered("virtumancer start w") == ["web"]
    assert "overview" in offered("virtumancer over")
    assert offered("virtumancer vms --state of") == ["off"]


def test_no_completion_where_nobody_answers() -> None:
    variables = {
        "_VIRTUMANCER_COMPLETE": "complete_bash",
        "COMP_WORDS": "virtumancer start k",
        "COMP_CWORD": "2",
    }

    assert command(f"http://127.0.0.1:{free_port()}", **variables).out.strip() == ""


def test_the_script_finds_this_checkouts_bin_up(lab: System, tmp_path: Path) -> None:
    """By a link in the PATH, from a folder whose files must not be imported."""
    (tmp_path / "address").write_text(lab.webs[0].url)
    (tmp_path / "httpx.py").write_text("raise SystemExit('imported')")
    link = tmp_path / "virtumancer"
    link.symlink_to(TOP / "bin" / "virtumancer")
    variables = {"VIRTUMANCER_STATE": str(tmp_path), "VIRTUMANCER_URL": ""}

    outcome = subprocess.run(
        [link, "hosts"],
        cwd=tmp_path,
        env=os.environ | variables,
        capture_output=True,
        text=True,
    )

    assert outcome.returncode == 0, outcome.stderr
    assert outcome.stdout.startswith("HOST ")
    assert "\x1b" not in outcome.stdout
    assert "kvm1" in outcome.stdout


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain Ä 日本", "plain Ä 日本"),
        ("\x1b[31mred", "\\x1b[31mred"),
        ("one\ntwo\r", "one\\ntwo\\r"),
        ("\u202eturned\u200b\udc80", "\\u202eturned\\u200b\\udc80"),
    ],
)
def test_what_a_terminal_would_obey_is_spelled_out(text: str, shown: str) -> None:
    assert plain(text) == shown
    assert lines_of([C("X")], [[text]]) == ["X", shown]


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0 B"), (999, "999 B"), (1 << 20, "1 MiB"), (1023 << 20, "0.999 GiB")],
)
def test_sizes_are_said_in_the_unit_that_fits(number: int, text: str) -> None:
    assert size(number) == text


def test_states_are_known_by_word_and_number() -> None:
    assert [vm_state_number(w) for w in ("Running", "5", "shutting-down")] == [1, 5, 4]
    assert vm_state_number("9") is None
