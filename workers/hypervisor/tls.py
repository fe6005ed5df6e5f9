"""TLS as a carrier: a process of ours that speaks it, and its complaints in sentences.

libvirt itself would read certificates where a URI tells it to; see ``tls_relay``.
"""

import sys
from pathlib import Path
from typing import Final

from common.errors import ConnectionFailed
from common.refusals import CertificateUntrusted, CertificateUnusable, HostSilent
from common.uri import HostUri

_RELAY: Final = Path(__file__).with_name("tls_relay.py")
_KINDS: Final[dict[str, type[ConnectionFailed]]] = {
    "untrusted": CertificateUntrusted,
    "refused": CertificateUntrusted,
    "unusable": CertificateUnusable,
}
_SENTENCES: Final = {
    "untrusted": "The certificate of {host} is not to be trusted: {words}. It must be "
    "signed by the CA of {folder}/cacert.pem, for this name.",
    "refused": "{host} did not accept our certificate {folder}/clientcert.pem: "
    "{words}. Its CA and its tls_allowed_dn_list must admit it.",
    "unusable": "The certificates in {folder} cannot be used: {words}.",
}


def relay(uri: HostUri, folder: Path, local: Path, descriptor: int) -> list[str]:
    """The command that lets ``local`` lead to libvirtd by this connected socket."""
    return [
        *(sys.executable, "-I", "-S", str(_RELAY)),
        *(str(descriptor), str(uri.host), str(local), str(folder)),
    ]


def complaint(words: str, uri: HostUri, folder: Path) -> ConnectionFailed:
    """What the relay said when it ended, as an error of ours."""
    lines = words.strip().splitlines()
    word, _, reason = lines[-1].partition(": ") if lines else ("", "", "")
    kind = _KINDS.get(word, ConnectionFailed)
    sentence = _SENTENCES.get(word, "TLS with {host} failed: {words}.")
    said = reason.strip(". ") or "it ended without a word"
    return kind(
        sentence.format(host=uri.host, folder=folder, words=said[:300]), step="tls"
    )


def no_answer(uri: HostUri, seconds: float) -> ConnectionFailed:
    """The handshake did not end in time."""
    return HostSilent(
        f"{uri.host} did not finish TLS within {seconds:g} seconds. Is it libvirtd "
        "that listens there?",
        step="tls",
    )
