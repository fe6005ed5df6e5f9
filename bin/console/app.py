"""All commands in one place."""

from typing import NoReturn

from console import hosts, tasks, token, vms
from console.commands import group, opening

app = group(
    help="""Virtumancer's command line: every host and VM of the fleet, over the API.

Exit codes: 0 done · 1 refused or failed, for one VM of many too · 2 wrong usage ·
3 Virtumancer does not answer · 4 no token that may do this · 130 interrupted.
"""
)
opening(app)
app.add_typer(hosts.app, name="hosts")
vms.declare(app)
app.add_typer(tasks.app, name="tasks")
app.add_typer(token.app, name="token")


def main() -> NoReturn:
    app(prog_name="virtumancer")
    raise SystemExit
