"""The catalogue of all problems: what each means, and what to do about it."""

from functools import cache

from common import denials, limits, refusals
from common.errors import VirtumancerError
from common.shapes import ProblemType

Kind = type[VirtumancerError]

_DECLARED_IN = (denials, limits, refusals)
"""Kinds are found as subclasses; these modules have only to be loaded."""


def kinds(root: Kind) -> list[Kind]:
    """Every kind of error that is this one, itself first."""
    below = [kind for child in root.__subclasses__() for kind in kinds(child)]
    return [root, *below]


@cache
def catalogue() -> dict[str, ProblemType]:
    """Every kind by its name, such as ``vm-busy``."""
    found = sorted(kinds(VirtumancerError), key=lambda kind: (kind.status, kind.type))
    return {kind.type: _entry(kind) for kind in found}


def _entry(kind: Kind) -> ProblemType:
    return ProblemType(
        type=f"/api/problems/{kind.type}",
        title=kind.title,
        status=kind.status,
        meaning=" ".join((kind.__doc__ or f"{kind.title}.").split()),
        advice=kind.advice,
        retryable=kind.retryable,
        libvirt=list(kind.libvirt),
    )
