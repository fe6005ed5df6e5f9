"""A systemd unit a process, each as tight as the last."""

from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PROCESSES = dict(
    line.split(": ", 1) for line in (ROOT / "Procfile").read_text().splitlines()
)
STRICT = {
    "NoNewPrivileges": "yes",
    "CapabilityBoundingSet": "",
    "ProtectSystem": "strict",
    "ProtectHome": "yes",
    "PrivateTmp": "yes",
    "PrivateDevices": "yes",
    "NoExecPaths": "/",
    "RestrictAddressFamilies": "AF_UNIX AF_INET AF_INET6",
    "SystemCallArchitectures": "native",
    "LimitCORE": "0",
}


def unit(name: str) -> dict[str, list[str]]:
    """The section [Service]: every value of every key."""
    lines = (ROOT / "docs" / "systemd" / f"virtumancer-{name}.service").read_text()
    service = lines.partition("[Service]\n")[2].partition("\n[")[0]
    found: dict[str, list[str]] = {}
    for line in service.splitlines():
        if line and not line.startswith("#"):
            key, _, value = line.partition("=")
            found.setdefault(key, []).append(value)
    return found


@pytest.mark.parametrize("name", list(PROCESSES))
def test_each_process_has_a_unit_that_locks_it_in(name: str) -> None:
    service = unit(name)

    [start] = service["ExecStart"]
    assert start == f"/opt/virtumancer/.venv/bin/{PROCESSES[name]}"
    assert (
        STRICT.items() <= {key: values[-1] for key, values in service.items()}.items()
    )
    assert "PYTHONDONTWRITEBYTECODE=1" in " ".join(service["Environment"])


@pytest.mark.parametrize("name", ["web", "release"])
def test_who_reaches_no_host_has_no_keys_and_no_network(name: str) -> None:
    service = unit(name)

    assert service["DynamicUser"] == ["yes"]
    assert service["IPAddressDeny"] == ["any"]
    assert service["IPAddressAllow"] == ["localhost"]
    assert "-/etc/virtumancer" in service["InaccessiblePaths"][0].split()
    assert not any("ssh" in path for path in service["ExecPaths"])


@pytest.mark.parametrize("name", ["worker", "monitor"])
def test_who_holds_the_keys_cannot_change_them(name: str) -> None:
    service = unit(name)

    assert service["User"] == ["virtumancer"]
    assert not {"ReadWritePaths", "StateDirectory", "ConfigurationDirectory"} & {
        *service
    }
    assert any("/usr/bin/ssh " in path for path in service["ExecPaths"])
    assert "sh" not in {Path(p).name for p in " ".join(service["ExecPaths"]).split()}
