"""What can be changed of a domain without touching its hardware."""

from typing import Final

import libvirt

from workers.hypervisor.domains import Domains
from workers.hypervisor.link import Link

_METADATA: Final = {
    "title": libvirt.VIR_DOMAIN_METADATA_TITLE,
    "description": libvirt.VIR_DOMAIN_METADATA_DESCRIPTION,
}


def set_metadata(
    link: Link, domains: Domains, uuid: str, which: str, text: str
) -> None:
    """Write the title or the description, or take it away if there is no text."""
    domain = domains.look_up(uuid)
    flags = 0
    if link.call(domain.isActive):
        flags |= libvirt.VIR_DOMAIN_AFFECT_LIVE
    if link.call(domain.isPersistent):
        flags |= libvirt.VIR_DOMAIN_AFFECT_CONFIG
    link.call(domain.setMetadata, _METADATA[which], text or None, None, None, flags)


def set_autostart(link: Link, domains: Domains, uuid: str, on: int) -> None:
    """Whether libvirt starts the domain when the host boots: 1 or 0."""
    link.call(domains.look_up(uuid).setAutostart, on)
