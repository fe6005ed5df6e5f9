"""The power verbs: look first, then act, then look again if libvirt said no.

Error codes differ between drivers, states do not; see virDomainState.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import libvirt

from common.errors import (
    HostUnreachable,
    LibvirtRefused,
    UnknownVm,
    VirtumancerError,
    WrongState,
)
from common.refusals import LockedByJob
from workers.hypervisor.domains import Domains
from workers.hypervisor.link import Link

RUNNING = libvirt.VIR_DOMAIN_RUNNING
BLOCKED = libvirt.VIR_DOMAIN_BLOCKED
PAUSED = libvirt.VIR_DOMAIN_PAUSED
DYING = libvirt.VIR_DOMAIN_SHUTDOWN
OFF = libvirt.VIR_DOMAIN_SHUTOFF
CRASHED = libvirt.VIR_DOMAIN_CRASHED
ASLEEP = libvirt.VIR_DOMAIN_PMSUSPENDED

_WORDS = {
    RUNNING: "running",
    BLOCKED: "running",
    PAUSED: "paused",
    DYING: "shutting down",
    OFF: "off",
    CRASHED: "crashed",
    ASLEEP: "asleep",
}
_ADVICE = {
    PAUSED: "resume it first",
    DYING: "wait until it is off, or destroy it",
    OFF: "start it first",
    CRASHED: "destroy it, then start it",
    ASLEEP: "resume it first",
}

_UP = frozenset({RUNNING, BLOCKED})
_ON = _UP | {PAUSED, DYING, CRASHED, ASLEEP}


Press = Callable[[Any], Callable[[], object]]


@dataclass(frozen=True, slots=True)
class Verb:
    """In the states of ``done`` nothing is left to do; ``press`` says what to call in
    those where it can be done."""

    done: frozenset[int]
    press: dict[int, Press]


def _in(states: Iterable[int], press: Press) -> dict[int, Press]:
    return dict.fromkeys(states, press)


VERBS = {
    "start": Verb(_UP, {OFF: lambda domain: domain.create}),
    # Asks the guest, and only a guest that runs can hear.
    "shutdown": Verb(frozenset({OFF, DYING}), _in(_UP, lambda d: d.shutdown)),
    "reboot": Verb(frozenset(), _in(_UP, lambda d: d.reboot)),
    "destroy": Verb(frozenset({OFF}), _in(_ON, lambda d: d.destroy)),
    "reset": Verb(frozenset(), _in(_ON - {DYING, ASLEEP}, lambda d: d.reset)),
    "suspend": Verb(frozenset({PAUSED}), _in(_UP, lambda d: d.suspend)),
    "resume": Verb(_UP, {PAUSED: lambda d: d.resume, ASLEEP: lambda d: d.pMWakeup}),
}

# After these a domain that has no configuration is gone, which is what was wanted.
_ENDS = frozenset({"shutdown", "destroy"})


def power(
    link: Link,
    domains: Domains,
    uuid: str,
    action: str,
    about_to: Callable[[], object],
) -> None:
    """Do the action, or nothing where it is done already.

    ``about_to`` is called at the last moment and may raise.
    """
    verb = VERBS[action]
    handle = domains.look_up(uuid)
    state = _state(link, handle)
    if state in verb.done:
        return
    press = verb.press.get(state)
    if press is None:
        raise _wrong(action, state)
    about_to()
    try:
        link.call_within(link.timeouts.power_s, press(handle))
    except (HostUnreachable, LockedByJob):
        # Looking at a VM that is locked may hang as well.
        raise
    except VirtumancerError as refusal:
        _look_again(link, domains, uuid, action, refusal)


def _look_again(
    link: Link, domains: Domains, uuid: str, action: str, refusal: VirtumancerError
) -> None:
    """Somebody else may have been faster: what counts is how it is now."""
    verb = VERBS[action]
    try:
        state = _state(link, domains.look_up(uuid))
    except UnknownVm:
        if action in _ENDS:
            return
        raise
    if state in verb.done:
        return
    if state not in verb.press:
        raise _wrong(action, state) from refusal
    if isinstance(refusal, WrongState):
        # The state would allow it: libvirt has another reason.
        raise LibvirtRefused(refusal.detail, **refusal.extra) from refusal
    raise refusal


def _state(link: Link, handle: Any) -> int:
    # Some drivers call a domain crashed that has no process any more.
    if handle.ID() == -1:
        return int(OFF)
    state, _reason = link.call(handle.state)
    return int(state)


def _wrong(action: str, state: int) -> WrongState:
    word = _WORDS.get(state, "in no known state")
    advice = f": {_ADVICE[state]}" if state in _ADVICE else ""
    return WrongState(f"The VM is {word} and cannot {action}{advice}.")
