"""``virtumancer token``: made on the database, before anybody has one."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.console.conftest import Outcome, Run, command
from tests.lab.system import System

Token = Callable[..., Outcome]


@pytest.fixture
def token(database_url: str) -> Token:
    def run(*words: str, **variables: str) -> Outcome:
        environment = {"DATABASE_URL": database_url} | variables
        return command("http://nowhere.invalid", "token", *words, **environment)

    return run


def test_a_token_is_made_listed_and_revoked(token: Token) -> None:
    wanted = ("ci", "--role", "operator", "--host", "kvm-*", "--expires", "90d")
    made = token("create", *wanted)

    assert made.code == 0
    assert made.out.splitlines()[-1].startswith("virtumancer_")
    assert "operator of kvm-*" in made.err
    [_, listed] = token("list").lines
    assert listed[:5] == ["ci", "operator", "kvm-*", "90 d left", "never"]
    assert made.out.strip() not in token("list", "--json").out
    assert token("create", *wanted).code == 1
    assert token("revoke", "ci").code == 0
    assert token("revoke", "ci").code == 1
    assert token("list", "--json").json == []
    assert token("list", "--all").lines[1][3] == "revoked"
    assert token("create", *wanted).code == 0


@pytest.mark.parametrize(
    "wanted",
    [
        ("a b", "--role", "viewer"),
        ("n", "--role", "root"),
        ("n",),
        ("n", "--role", "viewer", "--expires", "soon"),
        ("n", "--role", "viewer", "--host", "a/b"),
        ("monitor", "--role", "viewer"),
    ],
)
def test_a_token_that_makes_no_sense_is_wrong_usage(
    token: Token, wanted: tuple[str, ...]
) -> None:
    refused = token("create", *wanted)

    assert refused.code == 2
    assert refused.out == ""


def test_a_database_that_is_not_there_is_said(token: Token, tmp_path: Path) -> None:
    gone = token("list", DATABASE_URL="", VIRTUMANCER_STATE=str(tmp_path))

    assert gone.code == 3
    assert "bin/up" in gone.err


def test_what_was_made_opens_the_api(running: System) -> None:
    web = running.web(VIRTUMANCER_AUTH="tokens")
    url = {"DATABASE_URL": running.rows_url}
    made = command(web.url, "token", "create", "me", "--role", "admin", **url)

    refused = command(web.url, "hosts")
    let_in = command(web.url, "hosts", VIRTUMANCER_TOKEN=made.out.splitlines()[-1])

    assert refused.code == 4
    assert let_in.code == 0
    web.kill()


def test_the_audit_is_shown(run: Run) -> None:
    assert run("start", "kvm1/web").code == 0
    shown = run("audit", "--vm", "web", "--host", "kvm1", "--limit", "1")

    assert shown.code == 0
    facts = ["anonymous", "127.0.0.1", "start", "kvm1/web", "done"]
    assert [line[1:] for line in shown.lines[1:]] == [facts]
    assert run("audit", "--event", "none").code == 1
