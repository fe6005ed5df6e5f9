"""What is installed is what was looked at: every package pinned, by its hash."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LOCKED = sorted(
    path
    for folder in (ROOT, ROOT / "tests")
    for path in folder.glob("*.in")
    if path.with_suffix(".txt").exists()
)
MAKE_ANEW = "make it anew as docs/security.md says"

_PIN = re.compile(r"([A-Za-z0-9._-]+)==(\S+)((?: --hash=sha256:[0-9a-f]{64})+)")


def pins(locked: Path) -> dict[str, str]:
    """Package to version; fails for a line that is no pin with hashes."""
    text = locked.read_text().replace("\\\n", " ")
    lines = [line.strip() for line in text.splitlines()]
    found = {}
    for line in lines:
        if line and not line.startswith("#"):
            pin = _PIN.fullmatch(re.sub(" +", " ", line))
            assert pin, f"{locked.name}: {line[:80]!r} is no pin: {MAKE_ANEW}"
            found[_normal(pin[1])] = pin[2]
    return found


def _normal(name: str) -> str:
    """PEP 503."""
    return re.sub(r"[-_.]+", "-", name.partition("[")[0]).lower()


def test_there_is_something_to_install() -> None:
    names = {str(path.relative_to(ROOT)) for path in LOCKED}

    assert names == {
        "requirements.in",
        "requirements-tracing.in",
        "tests/requirements.in",
        "tests/tox.in",
    }


@pytest.mark.parametrize("source", LOCKED, ids=lambda path: path.name)
def test_all_that_is_asked_for_is_pinned_by_hash(source: Path) -> None:
    locked = pins(source.with_suffix(".txt"))

    for line in source.read_text().splitlines():
        asked, _, version = line.partition("==")
        if asked and not asked.startswith(("#", "-c ")):
            assert locked.get(_normal(asked)) == version, f"{asked}: {MAKE_ANEW}"


def test_a_package_has_one_version() -> None:
    versions: dict[str, set[str]] = {}
    for source in LOCKED:
        for name, version in pins(source.with_suffix(".txt")).items():
            versions.setdefault(name, set()).add(version)

    assert [name for name, found in versions.items() if len(found) > 1] == []


def test_tox_is_the_one_that_tox_ini_asks_for() -> None:
    asked = re.search(r"^requires = tox==(\S+)$", (ROOT / "tox.ini").read_text(), re.M)

    assert asked
    assert pins(ROOT / "tests" / "tox.txt")["tox"] == asked[1]


def test_nothing_else_is_installed() -> None:
    for place in ("tox.ini", "bin/_install", "bin/up", "bin/test", "bin/bench"):
        text = (ROOT / place).read_text()
        assert "pip install" not in text


def test_no_address_of_an_index_is_written_down() -> None:
    for source in LOCKED:
        text = source.read_text() + source.with_suffix(".txt").read_text()
        assert "://" not in text
