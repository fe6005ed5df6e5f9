"""A certificate authority for tests, and what it signs; all of it by openssl."""

import subprocess
from dataclasses import dataclass
from pathlib import Path

from embedded.folders import private, write

_VALID = ("-days", "2")
_NEW_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")


@dataclass(frozen=True)
class Authority:
    """Signs for names of this machine; everything belongs to the servers' user."""

    folder: Path

    def __post_init__(self) -> None:
        private(self.folder)
        _openssl(
            *("req", "-x509", *_NEW_KEY, *_VALID, "-subj", "/CN=lab"),
            *("-addext", "keyUsage=critical,keyCertSign,digitalSignature"),
            *("-keyout", str(self.folder / "ca.key")),
            *("-out", str(self.folder / "cacert.pem")),
        )

    def sign(self, name: str, names: str, use: str, trusted: "Authority") -> Path:
        """A folder with certificate and key as ``use``, and the CA that it trusts."""
        made = private(self.folder / name)
        request, extensions = (
            made / "request",
            write(
                made / "extensions",
                "basicConstraints=critical,CA:false\nkeyUsage=digitalSignature,keyEncipherment\n"
                f"extendedKeyUsage={use}Auth\nsubjectAltName={names}\n",
            ),
        )
        _openssl(
            *("req", "-new", *_NEW_KEY, "-subj", f"/CN={name}"),
            *("-keyout", str(made / f"{use}key.pem"), "-out", str(request)),
        )
        _openssl(
            *("x509", "-req", "-in", str(request), *_VALID, "-CAcreateserial"),
            *("-CA", str(self.folder / "cacert.pem")),
            *("-CAkey", str(self.folder / "ca.key"), "-extfile", str(extensions)),
            *("-out", str(made / f"{use}cert.pem")),
        )
        certificate = (trusted.folder / "cacert.pem").read_text()
        write(made / "cacert.pem", certificate)
        for part in ("key", "cert"):
            # openssl ran as whoever runs the tests.
            write(made / f"{use}{part}.pem", (made / f"{use}{part}.pem").read_text())
        return made


def _openssl(*words: str) -> None:
    subprocess.run(["openssl", *words], check=True, capture_output=True)
