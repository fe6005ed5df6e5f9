"""What goes wrong, as the user is told: a title, what happened, what to do."""

from enum import IntEnum
from typing import Any

from msgspec import Struct

from common.shapes import Problem


class ExitCode(IntEnum):
    """Documented by ``virtumancer --help``."""

    FAILED = 1
    """What was asked for was refused or failed, for one VM of many too."""
    USAGE = 2
    UNREACHABLE = 3
    """Virtumancer does not answer; whether it did anything is not known."""
    FORBIDDEN = 4
    """No token, an unknown one, or one that may not do this."""
    INTERRUPTED = 130


class Failure(Exception):
    """Ends the command: ``title``, ``detail`` and ``advice`` are for the user."""

    code = ExitCode.FAILED

    def __init__(self, title: str, detail: str = "", advice: str = "") -> None:
        super().__init__(title)
        self.title = title
        self.detail = detail
        self.advice = advice

    def facts(self) -> Any:
        """The same for programs."""
        words = {"title": self.title, "detail": self.detail, "advice": self.advice}
        return {name: said for name, said in words.items() if said}


class Unusable(Failure):
    """The command line itself is wrong."""

    code = ExitCode.USAGE


class Unreachable(Failure):
    """Nobody answers, or somebody else does."""

    code = ExitCode.UNREACHABLE


class Refused(Failure):
    """The API answered with a problem."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.title, problem.detail, problem.advice or "")
        self.problem = problem
        if problem.status in (401, 403):
            self.code = ExitCode.FORBIDDEN

    def facts(self) -> Any:
        return self.problem


class Told(Struct, frozen=True):
    """As much of a problem as an unknown server may send."""

    title: str = ""
    detail: str = ""
