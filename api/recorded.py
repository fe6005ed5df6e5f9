"""The examples of both documents: what a running system was asked, and answered.

``python -m tests.documents`` records them.
"""

import json
from functools import cache
from pathlib import Path
from typing import Any

Record = dict[str, Any]

EXAMPLES = Path(__file__).with_name("examples.json")


@cache
def recorded() -> list[Record]:
    """Requests that were made, and what was really answered."""
    found: list[Record] = json.loads(EXAMPLES.read_text()) if EXAMPLES.exists() else []
    return found


def examples_of(operation: str) -> list[Record]:
    """Those of one operation, such as ``GET /api/hosts/{host_id}``."""
    return [record for record in recorded() if record["operation"] == operation]


@cache
def problems() -> dict[str, Record]:
    """A problem of each type that was answered, whatever was asked."""
    told = [one["body"] for one in recorded() if one.get("status", 0) >= 400]
    return {name_of(problem): problem for problem in reversed(told)}


def name_of(problem: Record) -> str:
    return str(problem["type"].rpartition("/")[2])
