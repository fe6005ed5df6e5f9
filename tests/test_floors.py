"""The walls of the house: imports only go down, and each library has one door."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
HOUSES = ("api", "workers", "common")
LONGEST = 320

FLOORS = {
    # The lowest floor first; a module may import from lower floors of its house.
    "workers": (
        ("workers.hypervisor", "workers.domain_xml", "workers.sparse"),
        (
            "workers.stats",
            "workers.rows",
            "workers.belief",
            "workers.garbage",
            "workers.lanes",
            "workers.leases",
            "workers.pruning",
        ),
        ("workers.measured",),
        ("workers.connections", "workers.claimed", "workers.reading"),
        ("workers.sync", "workers.fleet"),
        ("workers.host_work",),
        ("workers.actors", "workers.watch", "workers.sampling"),
        ("workers.main", "workers.monitor"),
    ),
    "api": (
        ("api.bell",),
        ("api.framed", "api.handshake", "api.long_lived", "api.roles", "api.throttle"),
        ("api.principal",),
        (
            "api.contract",
            "api.exposition",
            "api.measures",
            "api.http",
            "api.routing",
            "api.ended",
            "api.etags",
            "api.problems",
            "api.pages",
            "api.outbox",
            "api.recorded",
            "api.tags",
        ),
        ("api.audit",),
        ("api.relay", "api.inventory", "api.idempotency", "api.fleet_page", "api.news"),
        (
            "api.attempts",
            "api.auth",
            "api.cursors",
            "api.listings",
            "api.outcome",
            "api.schemas",
            "api.subscriptions",
        ),
        ("api.browsers", "api.limits", "api.spans"),
        ("api.security",),
        ("api.openapi",),
        ("api.asyncapi",),
        ("api.search",),
        (
            "api.actions",
            "api.doctor",
            "api.hosts",
            "api.host_links",
            "api.vms",
            "api.tasks",
            "api.live",
            "api.health",
            "api.docs",
            "api.audit_log",
            "api.tickets",
            "api.tokens",
        ),
        ("api.scrape",),
        ("api.app", "api.server"),
    ),
    "common": (
        ("common.shapes", "common.settings"),
        ("common.metrics", "common.samples", "common.tracing", "common.telemetry"),
        ("common.errors", "common.log", "common.uri_policy", "common.uri"),
        ("common.bus", "common.power"),
        ("common.denials", "common.limits", "common.refusals"),
        ("common.db", "common.queue", "common.catalogue"),
        ("common.changes", "common.migrate", "common.tokens"),
        ("common.measurements",),
    ),
}

DOORS = {
    "libvirt": ("workers/hypervisor/",),
    "lxml": ("workers/domain_xml",),
    "psycopg": ("common/db.py", "common/changes.py", "common/migrate.py", "workers/"),
    "psycopg_pool": ("common/db.py",),
    "redis": ("common/bus.py", "common/queue.py", "api/", "workers/monitor.py"),
    "dramatiq": ("common/queue.py", "workers/main.py", "workers/actors.py"),
    "falcon": ("api/",),
    "uvicorn": ("api/",),
    "aiosql": ("common/db.py",),
    "prometheus_client": ("common/metrics.py",),
    "opentelemetry": ("common/telemetry.py",),
}

CONSOLE = {
    # Where it looks when nobody says: at this checkout's bin/up.
    "where.py": ("embedded",),
    # The first token is made where there is nobody yet who could ask for one.
    "token.py": ("common",),
    "store.py": ("embedded", "common"),
}
"""What the command line may know beside the API and its shapes."""


def sources() -> list[Path]:
    return [path for house in HOUSES for path in sorted((ROOT / house).rglob("*.py"))]


def imported(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


def floor_of(module: str, floors: tuple[tuple[str, ...], ...]) -> int | None:
    for number, names in enumerate(floors):
        if any(module == name or module.startswith(f"{name}.") for name in names):
            return number
    return None


@pytest.mark.parametrize("path", sources(), ids=name_of)
def test_there_is_no_door_between_the_two_houses(path: Path) -> None:
    house = path.relative_to(ROOT).parts[0]
    forbidden = {
        "api": ("workers",),
        "workers": ("api",),
        "common": ("api", "workers"),
    }[house]

    seen = {module.split(".")[0] for module in imported(path)}

    assert not seen.intersection(forbidden)


@pytest.mark.parametrize("path", sources(), ids=name_of)
def test_imports_only_go_down(path: Path) -> None:
    floors = FLOORS.get(path.relative_to(ROOT).parts[0], ())
    module = name_of(path)
    here = floor_of(module, floors)
    if here is None:
        return

    above = {
        other
        for other in imported(path)
        if (floor := floor_of(other, floors)) is not None and floor > here
    }

    assert not above


@pytest.mark.parametrize(
    "path", sorted((ROOT / "bin" / "console").glob("*.py")), ids=lambda path: path.stem
)
def test_the_command_line_knows_the_api_and_nothing_behind_it(path: Path) -> None:
    allowed = ("common.shapes", "common.power", *CONSOLE.get(path.name, ()))

    seen = {
        module
        for module in imported(path)
        if module.startswith(("api", "workers", "common", "embedded"))
    }

    assert not {module for module in seen if not module.startswith(allowed)}
    assert len(path.read_text().splitlines()) <= LONGEST


@pytest.mark.parametrize("path", sources(), ids=name_of)
def test_each_library_has_its_door(path: Path) -> None:
    place = str(path.relative_to(ROOT))

    strangers = {
        module
        for module in imported(path)
        if (doors := DOORS.get(module.split(".")[0])) and not place.startswith(doors)
    }

    assert not strangers


@pytest.mark.parametrize("path", sources(), ids=name_of)
def test_the_environment_is_read_in_one_place(path: Path) -> None:
    if name_of(path) == "common.settings":
        return

    words = path.read_text()

    assert "environ" not in words.replace("from_environment", "")
    assert "getenv" not in words


@pytest.mark.parametrize("path", sources(), ids=name_of)
def test_sql_is_written_in_sql(path: Path) -> None:
    if name_of(path) in ("common.db", "common.migrate"):
        return

    texts = [
        node.value.lower().split()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    ]

    assert not [t for t in texts if t[:1] in (["select"], ["insert"], ["update"])]


def test_sql_holds_no_python() -> None:
    assert not list((ROOT / "sql").rglob("*.py"))


@pytest.mark.parametrize("path", sources(), ids=name_of)
def test_no_file_takes_somebody_elses_work(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= LONGEST


def test_every_module_of_a_floored_house_has_a_floor() -> None:
    homeless = [
        name_of(path)
        for path in sources()
        if path.stem not in ("__init__", "__main__")
        and (floors := FLOORS.get(path.relative_to(ROOT).parts[0]))
        and floor_of(name_of(path), floors) is None
    ]

    assert not homeless
