"""All commands in one place."""

import signal
import sys
from typing import NoReturn

from console import (
    audit,
    hosts,
    one_vm,
    overview,
    power,
    tasks,
    token,
    top,
    vms,
    watch,
)
from console.commands import command, group, opening

app = group(
    help="""Virtumancer's command line: every host and VM of the fleet, over the API.

Exit codes: 0 done · 1 refused or failed, for one VM of many too · 2 wrong usage ·
3 Virtumancer does not answer · 4 no token that may do this · 130 interrupted.
"""
)
opening(app)
command(app, "vms")(vms.list_vms)
command(app, "search")(vms.search)
command(app, "show")(one_vm.show)
command(app, "edit")(one_vm.edit)
power.declare(app)
command(app, "watch")(watch.watch)
command(app, "top")(top.top)
command(app, "overview")(overview.overview)
command(app, "audit")(audit.audit)
app.add_typer(hosts.app, name="hosts")
app.add_typer(tasks.app, name="tasks")
app.add_typer(token.app, name="token")


def main() -> NoReturn:
    # A screen that was taken over is given back on a SIGTERM, too.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    app(prog_name="virtumancer")
    raise SystemExit
