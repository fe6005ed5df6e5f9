"""The environment, read in this one place.

``python -m common.settings`` prints the table that stands in README.md.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, get_args, get_type_hints

from msgspec import Meta, Struct, ValidationError, convert


def _doc(text: str) -> Meta:
    return Meta(description=text)


Positive = Meta(gt=0)
_DRIVER = "(qemu|test|xen|lxc|ch|vz|bhyve)"


class Settings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a process may be told from outside. Durations are seconds."""

    database_url: Annotated[str, _doc("Postgres, as a libpq URL")]
    redis_url: Annotated[str, _doc("Redis: `redis://…`, `rediss://…` or `unix://…`")]
    bind: Annotated[str, _doc("address that the web process listens on")] = "127.0.0.1"
    port: Annotated[int, Meta(ge=0, le=65535), _doc("port of the web process")] = 8080
    virtumancer_auth: Annotated[
        str,
        Meta(pattern="^(tokens|off)$"),
        _doc("`tokens`: every request needs one; `off`: none does, on loopback alone"),
    ] = "tokens"
    virtumancer_hosts: Annotated[
        str, _doc("names besides loopback's that clients may call, between commas")
    ] = ""
    virtumancer_origins: Annotated[
        str,
        Meta(pattern=r"^(https?://[^/,\s]+(,https?://[^/,\s]+)*)?$"),
        _doc("pages from elsewhere that may ask (CORS): `https://console.example.org`"),
    ] = ""
    virtumancer_max_connections: Annotated[
        int, Positive, _doc("connections of a web process; the idlest are dropped then")
    ] = 10_000
    virtumancer_max_requests: Annotated[
        int, Positive, _doc("requests that a web process answers at a time; then 503")
    ] = 2_000
    virtumancer_max_sockets: Annotated[
        int,
        Positive,
        _doc("sockets and streams of one token, per web process"),
    ] = 5_000
    log_format: Annotated[
        str, Meta(pattern="^(people|json)$"), _doc("`people` or `json`")
    ] = "people"
    log_level: Annotated[
        str,
        Meta(pattern="^(debug|info|warning|error)$"),
        _doc("`debug`, `info`, `warning` or `error`"),
    ] = "info"
    virtumancer_uri_socket_dirs: Annotated[
        str, _doc("folders, separated by `:`, whose sockets a host's URI may name")
    ] = ""
    virtumancer_uri_drivers: Annotated[
        str,
        Meta(pattern=f"^{_DRIVER}(,{_DRIVER})*$"),
        _doc("drivers of a host's URI, of qemu, test, xen, lxc, ch, vz and bhyve"),
    ] = "qemu,test"
    virtumancer_ssh_dir: Annotated[
        str, _doc("folder with the ssh keys (`id_*`) and `known_hosts` for ssh hosts")
    ] = "~/.ssh"
    virtumancer_tls_dir: Annotated[
        str,
        _doc("folder with `cacert.pem`, `clientcert.pem`, `clientkey.pem` for tls"),
    ] = "~/.pki/libvirt"
    virtumancer_max_vms: Annotated[
        int, Positive, _doc("a host that lists more VMs is not believed")
    ] = 10_000
    virtumancer_wait_s: Annotated[
        float,
        Positive,
        _doc("how long a request waits for its task, then it gets 202"),
    ] = 30
    virtumancer_connect_timeout_s: Annotated[
        float, Positive, _doc("deadline for opening a connection to a host")
    ] = 10
    virtumancer_call_timeout_s: Annotated[
        float, Positive, _doc("deadline of one libvirt call; then its transport is cut")
    ] = 10
    virtumancer_probe_interval_s: Annotated[
        float,
        Positive,
        _doc("how often an idle host is asked for a sign of life"),
    ] = 5
    virtumancer_stats_interval_s: Annotated[
        float, Positive, _doc("time between two samples of a watched VM")
    ] = 2
    virtumancer_sweep_interval_s: Annotated[
        float, Positive, _doc("time between two full syncs of a host, the safety net")
    ] = 300
    virtumancer_fleet_interval_s: Annotated[
        float,
        Positive,
        _doc("time between two samples of all VMs, taken while `/metrics` is scraped"),
    ] = 15
    virtumancer_worker_threads: Annotated[
        int, Positive, _doc("Dramatiq threads of a worker: they only hand tasks on")
    ] = 4
    virtumancer_host_share: Annotated[
        int,
        Positive,
        _doc("threads that one host may take in a worker, per lane"),
    ] = 4
    virtumancer_actions_per_host: Annotated[
        int,
        Meta(ge=1, le=100),
        _doc("how many VMs of a host one `POST /api/actions` acts on at a time"),
    ] = 4
    virtumancer_audit_days: Annotated[
        int, Meta(ge=30), _doc("the audit is kept for so many days")
    ] = 365
    virtumancer_reuse_port: Annotated[
        bool, _doc("`1`: several web processes share one port (`bin/up --webs`)")
    ] = False
    otel_traces_exporter: Annotated[
        str,
        Meta(pattern="^(|otlp|console|none)$"),
        _doc("`otlp` or `console`: send traces; needs `requirements-tracing.txt`"),
    ] = ""
    otel_exporter_otlp_endpoint: Annotated[
        str, _doc("where traces go by OTLP over HTTP; OpenTelemetry reads its others")
    ] = ""

    @property
    def uri_socket_dirs(self) -> tuple[Path, ...]:
        return tuple(Path(d) for d in self.virtumancer_uri_socket_dirs.split(":") if d)

    @property
    def hosts(self) -> tuple[str, ...]:
        """The names that the web process goes by, besides those of loopback."""
        every = ("", "0.0.0.0", "::")
        named = self.virtumancer_hosts.replace(" ", "").split(",")
        return tuple(name for name in (self.bind, *named) if name not in every)

    @property
    def origins(self) -> tuple[str, ...]:
        return tuple(origin for origin in self.virtumancer_origins.split(",") if origin)

    @property
    def uri_drivers(self) -> tuple[str, ...]:
        return tuple(self.virtumancer_uri_drivers.split(","))

    @property
    def tls_dir(self) -> Path:
        return Path(self.virtumancer_tls_dir).expanduser()

    @property
    def ssh_dir(self) -> Path:
        return Path(self.virtumancer_ssh_dir).expanduser()


def from_environment(environ: Mapping[str, str] = os.environ) -> Settings:
    """The settings in ``environ``; ends the process with one line if they are wrong."""
    names = Settings.__struct_fields__
    given = {n: environ[n.upper()] for n in names if environ.get(n.upper())}
    try:
        return convert(given, Settings, strict=False)
    except ValidationError as error:
        raise SystemExit(
            f"Wrong settings: {error} (variables are in capitals)"
        ) from None


def table() -> str:
    """Every setting as a row of a Markdown table."""
    rows = ["| variable | default | meaning |", "| --- | --- | --- |"]
    defaults = dict(
        zip(
            reversed(Settings.__struct_fields__),
            reversed(Settings.__struct_defaults__),
            strict=False,
        )
    )
    for name, hint in get_type_hints(Settings, include_extras=True).items():
        doc = next(
            m.description
            for m in reversed(get_args(hint))
            if isinstance(m, Meta) and m.description
        )
        default = defaults.get(name)
        if name not in defaults:
            shown = "required"
        else:
            shown = f"`{int(default) if isinstance(default, bool) else default}`"
        rows.append(f"| `{name.upper()}` | {shown if shown != '``' else ''} | {doc} |")
    return "\n".join(rows)


if __name__ == "__main__":
    print(table())  # noqa: T201
