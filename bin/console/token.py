"""``virtumancer token``: who may use the API.

Straight on the database: the first token cannot be asked for with a token.
"""

import getpass
from datetime import UTC, datetime
from typing import Annotated, Final, get_args
from uuid import UUID

import msgspec
import typer
from msgspec.structs import asdict

from common.db import sql
from common.errors import InvalidRequest
from common.shapes import MadeToken, NewToken, Role, Token
from common.tokens import described, make_secret, row_of, seconds_of
from console import words
from console.commands import command, default, group
from console.failures import Failure, Unusable
from console.store import Store, opened
from console.tables import Cell, Column, Value
from console.terminal import Terminal

app = group("Tokens of the API: create, list, revoke. On the database itself.")

BY: Final = "console"
COLUMNS = (
    Column("TOKEN", style="bold", whole=True),
    Column("ROLE"),
    Column("HOSTS"),
    Column("STATE"),
    Column("USED"),
    Column("MADE"),
    Column("BY"),
    Column("ID"),
)


@command(app, "create")
def create(
    terminal: Terminal,
    name: Annotated[str, typer.Argument(help="What it is called in tasks and audit.")],
    role: Annotated[
        str, typer.Option(help=f"{', '.join(get_args(Role))}.", show_default=False)
    ],
    host: Annotated[
        list[str] | None,
        typer.Option(help="Only hosts that this fits, as kvm-*; as often as wanted."),
    ] = None,
    expires: Annotated[
        str | None, typer.Option(help="Valid for so long: 90d, 12h, 30m.")
    ] = None,
) -> None:
    """Make a token. Its secret is printed this once, alone on the last line."""
    new = _wanted({"name": name, "role": role, "hosts": host or None}, expires)
    secret = make_secret()
    try:
        row = row_of(new, secret, BY)
    except InvalidRequest as error:
        raise Unusable("There can be no such token", error.detail) from None
    with opened() as store:
        token = store.one(sql.tokens.add, Token, **row)
        if token is not None:
            _note(store, "token-create", token)
    if token is None:
        raise Failure(
            f"There is a token {name}",
            "It is in use.",
            f"Choose another name, or revoke it: virtumancer token revoke {name}",
        )
    terminal.say(f"{name} is {_reach(token)}. This is told once:")
    terminal.result(MadeToken(**asdict(token), secret=secret), secret)


@command(app, "list")
def list_tokens(
    terminal: Terminal,
    *,
    all_: Annotated[
        bool, typer.Option("--all", help="Those too that were revoked.")
    ] = False,
) -> None:
    """List the tokens that are in use."""
    with opened() as store:
        found = store.all(sql.tokens.list, Token, after=None, limit=None)
    shown = [token for token in found if all_ or token.revoked_at is None]
    if terminal.json:
        terminal.value(shown)
        return
    terminal.table(COLUMNS, [_row(token) for token in shown])


default(app, list_tokens)


@command(app, "revoke")
def revoke(
    terminal: Terminal,
    name: Annotated[str, typer.Argument(help="Its name, or its id.")],
) -> None:
    """Let a token open nothing any more; what it has open is closed in seconds."""
    with opened() as store:
        token = store.one(sql.tokens.revoke, Token, id=_uuid(name), name=name)
        if token is not None:
            _note(store, "token-revoke", token)
    if token is None:
        raise Failure(f"There is no token {name}", advice="virtumancer token list")
    terminal.result(token, f"{token.name} is revoked.")


def _note(store: Store, action: str, token: Token) -> None:
    """Who is at the console is known to this machine."""
    entry = {"event": "done", "token": BY, "action": action}
    detail = f"{described(token)}; by {getpass.getuser()}"
    entries = msgspec.json.encode([entry | {"detail": detail}]).decode()
    store.run(sql.audit.add, entries=entries)


def _wanted(facts: dict[str, object], expires: str | None) -> NewToken:
    try:
        facts["expires_in_s"] = seconds_of(expires) if expires else None
        return msgspec.convert(facts, NewToken)
    except (msgspec.ValidationError, ValueError) as error:
        raise Unusable("There can be no such token", f"{error}.") from None


def _uuid(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None


def _state(token: Token) -> Cell:
    if token.revoked_at is not None:
        return Cell("revoked", "dim")
    if token.expires_at is None:
        return Cell("in use", "green")
    left_s = (token.expires_at - datetime.now(UTC)).total_seconds()
    if left_s <= 0:
        return Cell("expired", "dim")
    return Cell(f"{words.span(left_s)} left", "green")


def _reach(token: Token) -> str:
    hosts = ", ".join(token.hosts) if token.hosts else "all hosts"
    return f"{token.role} of {hosts}"


def _row(token: Token) -> list[Value]:
    return [
        token.name,
        token.role,
        ", ".join(token.hosts) if token.hosts else "all",
        _state(token),
        words.ago(token.last_used_at) if token.last_used_at else "never",
        words.ago(token.created_at),
        token.created_by,
        str(token.id),
    ]
