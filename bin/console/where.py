"""Where Virtumancer answers, when the user does not say: this checkout's bin/up."""

import os
from contextlib import suppress
from pathlib import Path

from embedded.options import TOP
from embedded.state import ADDRESS, default_state

DEFAULT = "http://127.0.0.1:8080"


def default_url() -> str:
    """What the bin/up of this checkout says, or where one begins by default."""
    folder = Path(os.environ.get("VIRTUMANCER_STATE") or default_state(TOP))
    with suppress(OSError):
        return (folder / ADDRESS).read_text() or DEFAULT
    return DEFAULT
