"""A program that read nothing but the document asks all it can think of."""

import os
import subprocess
import sys
from pathlib import Path

from tests.lab.admission import admit
from tests.lab.system import System

CONFIGURATION = Path(__file__).with_name("schemathesis.toml")
BUDGET_S = 20
SEED = os.environ.get("VIRTUMANCER_SEED", "20261123")
"""What it thinks of is the same each time, unless somebody asks for more."""


def test_schemathesis_finds_nothing(running: System, tmp_path: Path) -> None:
    web = running.web(VIRTUMANCER_AUTH="tokens")
    shown = admit(running.rows_url, "admin")["Authorization"]
    command = [
        *(sys.executable, "-m", "schemathesis.cli"),
        *("--config-file", str(CONFIGURATION)),
        *("run", f"{web.url}/api/openapi.json", "--header", f"Authorization:{shown}"),
        *(
            "--seed",
            SEED,
            "--max-time",
            str(BUDGET_S),
            "--request-timeout",
            "8",
            "--no-color",
        ),
        *("--suppress-health-check", "all", "--warnings", "off"),
    ]

    outcome = subprocess.run(command, cwd=tmp_path, capture_output=True, timeout=90)

    words = outcome.stdout.decode() + outcome.stderr.decode()
    assert outcome.returncode == 0, words[-6000:]
