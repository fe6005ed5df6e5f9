"""What the shell offers when TAB is pressed: hosts and VMs, as the API knows them."""

from collections.abc import Callable, Iterable
from typing import Final

import typer

from common.power import VERBS
from console.api import Api
from console.failures import Failure
from console.terminal import Terminal, Wishes

MOST: Final = 200
STATES: Final = ("running", "paused", "off", "crashed", "asleep")


def wishes_of(ctx: typer.Context) -> Wishes:
    """What the line being completed says already."""
    told = Wishes()
    while ctx:
        given = Wishes(ctx.params.get("url"), ctx.params.get("token"))
        told = told.over(given)
        ctx = ctx.parent  # type: ignore[assignment]
    return told


def _asked(
    ctx: typer.Context, ask: Callable[[Api], Iterable[str]], incomplete: str
) -> list[str]:
    """Nothing is offered when the API does not answer: a shell waits for us."""
    api = Terminal(wishes_of(ctx)).api
    try:
        return [offer for offer in ask(api) if offer.startswith(incomplete)]
    except Failure:
        return []


def hosts(ctx: typer.Context, incomplete: str) -> list[str]:
    def ask(api: Api) -> Iterable[str]:
        return (host["id"] for host in api.get("/api/hosts").body)

    return _asked(ctx, ask, incomplete)


def vms(ctx: typer.Context, incomplete: str) -> list[str]:
    """``HOST/NAME``: the hosts and the names that begin so, then the VMs of a host."""
    if "/" in incomplete:
        return _of_host(ctx, incomplete)
    places = [f"{host}/" for host in hosts(ctx, incomplete)]
    if len(places) == 1:
        # Bash would put a space behind the only one.
        places = _of_host(ctx, places[0])
    if not incomplete:
        return places

    def anywhere(api: Api) -> Iterable[str]:
        return dict.fromkeys(_names(api, f"{incomplete}*"))

    return places + _asked(ctx, anywhere, incomplete)


def _of_host(ctx: typer.Context, incomplete: str) -> list[str]:
    host, _, name = incomplete.partition("/")

    def ask(api: Api) -> Iterable[str]:
        return (f"{host}/{found}" for found in _names(api, f"{name}*", host))

    return _asked(ctx, ask, incomplete)


def _names(api: Api, name: str, host: str | None = None) -> list[str]:
    asked = {"host": host, "name": name, "fields": "name", "sort": "name"}
    return [vm["name"] for vm in api.get("/api/vms", **asked, limit=MOST).body]


def states(incomplete: str) -> list[str]:
    return [state for state in STATES if state.startswith(incomplete)]


def actions(incomplete: str) -> list[str]:
    return [action for action in VERBS if action.startswith(incomplete)]
