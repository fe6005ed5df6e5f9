"""How a command is declared: a function of a Terminal, known to Typer.

    @command(app, "sync")
    def sync(terminal: Terminal, host: Host) -> None:
        \"\"\"What its help says.\"\"\"

Every command takes the options of ``Wishes`` beside its own, before and after its name.
"""

import inspect
from collections.abc import Callable
from typing import Annotated, Any, Concatenate, ParamSpec

import typer

from console.failures import Failure
from console.terminal import Terminal, Wishes

P = ParamSpec("P")
Command = Callable[Concatenate[Terminal, P], None]

Url = Annotated[
    str | None,
    typer.Option(
        envvar="VIRTUMANCER_URL",
        help="Where the API answers; by default where bin/up of this checkout runs.",
        rich_help_panel="Everywhere",
        show_default=False,
    ),
]
Token = Annotated[
    str | None,
    typer.Option(
        envvar="VIRTUMANCER_TOKEN",
        help="A token of the API; better in the variable, where no list of processes"
        " shows it.",
        rich_help_panel="Everywhere",
        show_default=False,
    ),
]
Json = Annotated[
    bool,
    typer.Option(
        "--json",
        help="Print what the API answers; one line each for what goes on.",
        rich_help_panel="Everywhere",
    ),
]


def group(help: str) -> typer.Typer:
    return typer.Typer(
        help=help,
        no_args_is_help=True,
        add_completion=True,
        rich_markup_mode="markdown",
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )


def command(app: typer.Typer, name: str) -> Callable[[Command[P]], Command[P]]:
    """Declare a command of ``app``."""

    def declare(run: Command[P]) -> Command[P]:
        app.command(name)(_with_wishes(run))
        return run

    return declare


def default(app: typer.Typer, run: Command[P]) -> None:
    """What a group does when none of its commands is named."""
    app.callback(
        invoke_without_command=True, no_args_is_help=False, help=app.info.help
    )(_with_wishes(run))


def opening(app: typer.Typer) -> None:
    """Options of ``Wishes`` before the name of any command."""

    def nothing(terminal: Terminal) -> None:
        pass

    app.callback()(_with_wishes(nothing))


def _with_wishes(run: Command[P]) -> Callable[..., None]:
    """The function that Typer calls, with a signature of both."""

    def told(
        ctx: typer.Context,
        *,
        url: Url = None,
        token: Token = None,
        json: Json = False,
        **given: Any,
    ) -> None:
        wishes = Wishes(url, token, json)
        ctx.obj = wishes.over(ctx.obj or Wishes())
        if ctx.invoked_subcommand is not None:
            return
        terminal = Terminal(ctx.obj)
        try:
            run(terminal, **given)  # type: ignore[call-arg]
        except Failure as failure:
            terminal.tell(failure)
            raise typer.Exit(failure.code) from None

    own = list(inspect.signature(run).parameters.values())[1:]
    shared = inspect.signature(told).parameters.values()
    kept = [p for p in shared if p.kind is not p.VAR_KEYWORD]
    for parameter in own:
        kept.insert(-3, parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY))
    told.__signature__ = inspect.Signature(kept)  # type: ignore[attr-defined]
    told.__annotations__ = {}
    told.__doc__ = run.__doc__
    return told
