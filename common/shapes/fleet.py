"""What is asked about the whole fleet, or changed of its hosts and VMs."""

from typing import Annotated

from msgspec import Meta, Struct


class CheckStep(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One step on the way to a host; ``fix`` is the exact thing to do."""

    name: str
    ok: bool
    detail: str
    fix: str | None = None


class HostCheck(Struct, frozen=True, kw_only=True):
    """What stands between us and a host; steps after one that fails are not tried."""

    uri: str
    ok: Annotated[bool, Meta(description="Whether the host can be added.")]
    steps: list[CheckStep]
