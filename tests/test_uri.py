"""A URI is admitted by a table, refused with a sentence, and written anew."""

from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from common.errors import UriNotAllowed
from common.settings import from_environment
from common.uri import HostUri, parse
from common.uri_policy import CARRIERS, PARAMETERS, PATHS, REFUSED, UriPolicy

POLICY = UriPolicy(socket_folders=(Path("/srv/sockets"),), ssh_folder=Path("/srv/keys"))
EVERY_DRIVER = UriPolicy(drivers=tuple(PATHS))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("qemu:///system", HostUri("qemu", "unix", "system")),
        ("qemu+unix:///system", HostUri("qemu", "unix", "system")),
        (
            "qemu+unix:///session?socket=/srv/sockets/a/libvirt-sock",
            HostUri("qemu", "unix", "session", socket="/srv/sockets/a/libvirt-sock"),
        ),
        (
            "test+unix:///default?SOCKET=%2Fsrv%2Fsockets%2Fa%20b%3F",
            HostUri("test", "unix", "default", socket="/srv/sockets/a b?"),
        ),
        (
            "qemu+ssh://user@host/system",
            HostUri(
                "qemu",
                "ssh",
                "system",
                "user",
                "host",
                socket="/var/run/libvirt/libvirt-sock",
            ),
        ),
        (
            "QEMU+SSH://Kvm-01.Example.org:2222/session?socket=/run/user/7/s",
            HostUri(
                "qemu",
                "ssh",
                "session",
                host="kvm-01.example.org",
                port=2222,
                socket="/run/user/7/s",
            ),
        ),
        (
            "qemu+tcp://[2001:db8::1]:1/system",
            HostUri("qemu", "tcp", "system", host="2001:db8::1", port=1),
        ),
        (
            "test+tcp://192.0.2.1/default",
            HostUri("test", "tcp", "default", None, "192.0.2.1"),
        ),
        ("qemu+tls://host/system", HostUri("qemu", "tls", "system", host="host")),
        ("qemu://host/system", HostUri("qemu", "tls", "system", host="host")),
        (
            "qemu+libssh2://u@host/system?keyfile=/srv/keys/a&known_hosts=/srv/keys/b"
            "&known_hosts_verify=normal",
            HostUri(
                *("qemu", "ssh", "system", "u", "host", None),
                *("/var/run/libvirt/libvirt-sock", "/srv/keys/a", "/srv/keys/b"),
            ),
        ),
    ],
)
def test_a_proper_uri_is_taken_apart(text: str, expected: HostUri) -> None:
    assert parse(text, POLICY) == expected


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("qemu+unix:///system", "qemu:///system"),
        ("QEMU+ssh://user@HOST:22/system", "qemu+ssh://user@host/system"),
        (
            "qemu+ssh://host/system?socket=/var/run/libvirt/libvirt-sock",
            "qemu+ssh://host/system",
        ),
        (
            "qemu+ssh://host/session?socket=/run/s",
            "qemu+ssh://host/session?socket=/run/s",
        ),
        ("qemu+tcp://[2001:DB8::1]:16509/system", "qemu+tcp://[2001:db8::1]/system"),
        (
            "test+unix:///default?socket=/srv/sockets/a%20b%3Fc",
            "test+unix:///default?socket=/srv/sockets/a%20b%3Fc",
        ),
        ("qemu+tls://host:16514/system", "qemu+tls://host/system"),
        ("qemu://host/system", "qemu+tls://host/system"),
        ("qemu+libssh://host/system", "qemu+ssh://host/system"),
        ("qemu+libssh2://host/system", "qemu+ssh://host/system"),
        (
            "qemu+ssh://host/system?known_hosts=/srv/keys/k&keyfile=/srv/keys/id",
            "qemu+ssh://host/system?keyfile=/srv/keys/id&known_hosts=/srv/keys/k",
        ),
    ],
)
def test_a_uri_has_one_canonical_text(text: str, canonical: str) -> None:
    uri = parse(text, POLICY)

    assert str(uri) == canonical
    assert str(parse(str(uri), POLICY)) == canonical


HOSTILE = [
    # Not a URI.
    ("", "form"),
    ("qemu", "form"),
    ("demo-alias", "form"),
    ("qemu:/system", "form"),
    ("://host/system", "form"),
    ("qemu+ssh+ext://host/system", "form"),
    ("qemu+://host/system", "form"),
    (" qemu:///system", "space"),
    ("qemu:///system\n", "control"),
    ("qemu+ssh://host\x00/system", "control"),
    ("qemu+ssh://höst/system", "ASCII"),
    ("qemu+ssh://" + "a" * 2000 + "/system", "longer"),
    ("qemu:///system#", "fragment"),
    ("qemu+ssh://host/system#?socket=/x", "fragment"),
    # Drivers and paths that run tools, read files or talk HTTP.
    ("test:///default", "serve it from a libvirtd"),
    ("test:///etc/hostname", "serve it from a libvirtd"),
    ("test+unix:///etc/hostname?socket=/srv/sockets/s", "/etc/hostname"),
    ("qemu:///embed?root=/tmp", "/embed"),
    ("qemu:///", "path"),
    ("qemu+ssh://host", "path"),
    ("qemu+ssh://host/system/", "path"),
    ("qemu+ssh://host//system", "path"),
    ("qemu+ssh://host/../system", "path"),
    ("qemu:///default", "path"),
    ("esx://host/?no_verify=1", "driver esx"),
    ("vbox:///session", "driver vbox"),
    ("remote://host/", "driver remote"),
    ("lxc:///system", "VIRTUMANCER_URI_DRIVERS"),
    ("xen:///system", "driver xen is not allowed here"),
    # Transports.
    ("qemu+ext:///system?command=/bin/sh", "transport ext"),
    ("QEMU+EXT:///system?COMMAND=/bin/sh", "transport ext"),
    ("qemu+vxstream://host/system", "transport vxstream"),
    # Parameters, in any case and behind any separator.
    ("qemu+ssh://host/system?command=/bin/sh", "'command'"),
    ("qemu+ssh://host/system?COMMAND=/bin/sh", "'COMMAND'"),
    ("qemu+ssh://host/system?c%6Fmmand=/bin/sh", "'c%6Fmmand'"),
    ("qemu+ssh://host/system?netcat=/bin/sh", "'netcat'"),
    ("qemu+ssh://host/system?keyfile=/etc/shadow", "keyfile"),
    ("qemu+ssh://host/system?keyfile=/srv/keys/../a", "keyfile"),
    ("qemu+ssh://host/system?keyfile=/srv/keys/%25h", "keyfile"),
    ("qemu+ssh://host/system?keyfile=/srv/keys/a%22%20b", "keyfile"),
    ("qemu+ssh://host/system?keyfile=~/.ssh/id", "keyfile"),
    ("qemu+ssh://host/system?keyfile=", "keyfile"),
    ("qemu+ssh://host/system?keyfile=/srv/keys", "keyfile"),
    ("qemu+tls://host/system?keyfile=/srv/keys/id", "'keyfile'"),
    ("qemu:///system?keyfile=/srv/keys/id", "'keyfile'"),
    ("qemu+ssh://host/system?known_hosts=/tmp/k", "known_hosts"),
    ("qemu+ssh://host/system?known_hosts=/dev/null", "known_hosts"),
    ("qemu+ssh://host/system?known_hosts_verify=ignore", "'known_hosts_verify'"),
    ("qemu+ssh://host/system?known_hosts_verify=auto", "'known_hosts_verify'"),
    ("qemu+ssh://host/system?known_hosts_verify", "'known_hosts_verify'"),
    ("qemu+ssh://host/system?sshauth=agent", "'sshauth'"),
    ("qemu+ssh://host/system?no_tty=1", "'no_tty'"),
    ("qemu+ssh://host/system?mode=direct", "'mode'"),
    ("qemu+tls://host/system?pkipath=/tmp", "'pkipath'"),
    ("qemu+tls://host/system?tls_priority=NONE", "'tls_priority'"),
    ("qemu+tls://host/system?no_verify=1", "'no_verify'"),
    ("qemu+tls://host/system?socket=/run/s", "'socket'"),
    ("qemu+ssh://host/system?no_verify=1", "'no_verify'"),
    ("qemu+ssh://host/system?proxy=netcat", "'proxy'"),
    ("qemu+ssh://host/system?name=qemu:///embed", "'name'"),
    ("qemu+ssh://host/system?authfile=/tmp/a", "'authfile'"),
    ("qemu+ssh://host/system?socket=/run/s&command=x", "'command'"),
    ("qemu+ssh://host/system?socket=/run/s;command=x", "'command'"),
    ("qemu+ssh://host/system?socket=/run/a&Socket=/run/b", "twice"),
    ("qemu+ssh://host/system?", "''"),
    ("qemu+ssh://host/system?socket=/run/s&", "''"),
    # Users, hosts and ports.
    ("qemu+ssh://-oProxyCommand=id@host/system", "name of a user"),
    ("qemu+ssh://-oProxyCommand=id/system", "neither"),
    ("qemu+ssh://user:secret@host/system", "password"),
    ("qemu+ssh://a@b@host/system", "name of a user"),
    ("qemu+ssh://@host/system", "name of a user"),
    ("qemu+ssh://Root@host/system", "name of a user"),
    ("qemu+ssh://$(id)@host/system", "name of a user"),
    ("qemu+ssh://user%40x@host/system", "percent"),
    ("qemu+ssh://ho%73t/system", "percent"),
    ("qemu+ssh://host;id/system", "neither"),
    ("qemu+ssh://host,other/system", "neither"),
    ("qemu+ssh://`id`/system", "neither"),
    ("qemu+ssh://host..org/system", "neither"),
    ("qemu+ssh://.host/system", "neither"),
    ("qemu+ssh://host-/system", "neither"),
    ("qemu+ssh://2130706433/system", "neither"),
    ("qemu+ssh://127.1/system", "neither"),
    ("qemu+ssh://0x7f000001/system", "neither"),
    ("qemu+ssh://1.2.3.0x4/system", "neither"),
    ("qemu+ssh:///system", "no host"),
    ("qemu+tcp:///system", "no host"),
    ("qemu+tcp://user@host/system", "only ssh takes a user"),
    ("qemu+ssh://host:/system", "port"),
    ("qemu+ssh://host:0/system", "between"),
    ("qemu+ssh://host:65536/system", "between"),
    ("qemu+ssh://host:22x/system", "port"),
    ("qemu+ssh://host:+22/system", "port"),
    ("qemu+ssh://2001:db8::1/system", "brackets"),
    ("qemu+ssh://[host]/system", "IPv6"),
    ("qemu+ssh://[::1/system", "IPv6"),
    ("qemu+ssh://[::1]22/system", "port"),
    ("qemu+ssh://[fe80::1%25eth0]/system", "percent"),
    ("qemu+unix://host/system", "takes no host"),
    # Sockets.
    ("qemu:///session", "socket"),
    ("test+unix:///default", "socket"),
    ("qemu+ssh://host/session", "socket"),
    ("qemu+tcp://host/system?socket=/run/s", "no meaning over a network"),
    ("qemu+unix:///system?socket=", "absolute"),
    ("qemu+unix:///system?socket", "absolute"),
    ("qemu+unix:///system?socket=run/s", "absolute"),
    ("qemu+unix:///system?socket=/etc/s", "VIRTUMANCER_URI_SOCKET_DIRS"),
    ("qemu+unix:///system?socket=/run/libvirt/s", "VIRTUMANCER_URI_SOCKET_DIRS"),
    ("qemu+unix:///system?socket=/srv/sockets", "VIRTUMANCER_URI_SOCKET_DIRS"),
    ("qemu+unix:///system?socket=/srv/socketsx/s", "VIRTUMANCER_URI_SOCKET_DIRS"),
    ("qemu+unix:///system?socket=/srv/sockets/../s", "absolute"),
    ("qemu+unix:///system?socket=/srv/sockets/%2E%2E/s", "absolute"),
    ("qemu+unix:///system?socket=//srv/sockets/s", "'/'"),
    ("qemu+unix:///system?socket=/srv/sockets//s", "absolute"),
    ("qemu+unix:///system?socket=/srv/sockets/s%00", "control"),
    ("qemu+unix:///system?socket=/srv/sockets/s%0A", "control"),
    ("qemu+unix:///system?socket=/srv/sockets/s%FF", "UTF-8"),
    ("qemu+unix:///system?socket=/srv/sockets/" + "a" * 120, "longer"),
    ("qemu+ssh://host/system?socket=/run/s%20;id", "'id'"),
    ("qemu+ssh://host/system?socket=/run/s%3Bid", "far side"),
    ("qemu+ssh://host/system?socket=/run/$(id)", "far side"),
    ("qemu+ssh://host/system?socket=/run/'s'", "far side"),
    ("qemu+ssh://host/system?socket=/run/s:22", "far side"),
    ("qemu+ssh://host/system?socket=/run/%25h", "far side"),
    ("qemu+ssh://host/system?socket=/run/$%7BHOME%7D", "far side"),
    ("qemu+ssh://host/system?socket=/run/../s", "absolute"),
    ("qemu+ssh://host/system?socket=/" + "a" * 107, "longer"),
]


@pytest.mark.parametrize(("text", "named"), HOSTILE, ids=[t[:60] for t, _ in HOSTILE])
def test_a_hostile_uri_is_refused_by_name(text: str, named: str) -> None:
    with pytest.raises(UriNotAllowed) as refusal:
        parse(text, POLICY)

    assert named in refusal.value.detail


@pytest.mark.parametrize("driver", list(PATHS))
def test_a_driver_is_allowed_when_it_is_configured(driver: str) -> None:
    path = PATHS[driver][0]

    assert parse(f"{driver}+tcp://host/{path}", EVERY_DRIVER).driver == driver
    with pytest.raises(UriNotAllowed):
        parse(f"{driver}+tcp://host/{path}", UriPolicy(drivers=()))


def test_the_configured_drivers_are_those_that_are_known() -> None:
    servers = {"DATABASE_URL": "x", "REDIS_URL": "x"}
    told = servers | {"VIRTUMANCER_URI_DRIVERS": ",".join(PATHS)}

    assert UriPolicy.of(from_environment(told)).drivers == tuple(PATHS)
    assert UriPolicy.of(from_environment(servers)).drivers == ("qemu", "test")
    for wrong in ("esx", "qemu,esx", "qemu,", "qemu;xen"):
        with pytest.raises(SystemExit):
            from_environment(servers | {"VIRTUMANCER_URI_DRIVERS": wrong})


@pytest.mark.parametrize("carrier", sorted(set(CARRIERS.values())))
@pytest.mark.parametrize("name", sorted(REFUSED))
def test_a_dangerous_parameter_is_refused_by_name_with_a_reason(
    carrier: str, name: str
) -> None:
    if name in PARAMETERS[carrier]:
        return

    with pytest.raises(UriNotAllowed) as refusal:
        parse(
            f"qemu+{carrier}://host/system?{name}=1".replace("unix://host", "unix://"),
            POLICY,
        )

    assert f"'{name}' is refused: {REFUSED[name]}" in refusal.value.detail


SECRET = "hunter2"


@pytest.mark.parametrize(
    "text",
    [
        f"qemu+ssh://user:{SECRET}@host/system",
        f"qemu+ssh://:{SECRET}@host/system",
        f"qemu+tcp://user:{SECRET}@host/system",
        f"qemu+tls://user:{SECRET}@host/system",
        f"qemu+unix://user:{SECRET}@host/system",
        f"qemu://user:{SECRET}@host/system",
        f"qemu+ext://user:{SECRET}@host/system",
        f"esx://user:{SECRET}@host/system",
        f"qemu+ssh://user:a/{SECRET}@host/system",
        f"qemu+ssh://user:{SECRET}/a@host/system",
        f"qemu+ssh://user:a?{SECRET}@host/system",
        f"qemu+ssh://user:{SECRET}?a@host/system",
        f"qemu+ssh://user:a#{SECRET}@host/system",
        f"qemu+ssh://user:{SECRET}#a@host/system",
        f"qemu+ssh://user:a@{SECRET}@host/system",
        f"qemu+ssh://user:{SECRET}%40@host/system",
        f"qemu+ssh:///user:{SECRET}@host/system",
        f"qemu+ssh://{SECRET}!@host/system",
        f"qemu+ssh://host:{SECRET}/system",
        f"qemu+ssh://host/system?password={SECRET}",
        f"qemu+ssh://host/system?keyfile={SECRET}",
        f"qemu+ssh://host/system?sshauth={SECRET}",
        f"user:{SECRET}@host",
    ],
)
def test_a_secret_is_not_repeated_in_the_refusal(text: str) -> None:
    with pytest.raises(UriNotAllowed) as refusal:
        parse(text, POLICY)

    assert SECRET not in str(refusal.value)


def test_a_link_must_not_lead_out_of_the_allowed_folder(tmp_path: Path) -> None:
    allowed = tmp_path / "allowed"
    allowed.mkdir()
    (allowed / "out").symlink_to("/etc")
    (allowed / "in").symlink_to(allowed)
    policy = UriPolicy((allowed,))

    inside = parse(f"qemu+unix:///system?socket={allowed}/in/s", policy)

    assert inside.socket == f"{allowed}/in/s"
    with pytest.raises(UriNotAllowed):
        parse(f"qemu+unix:///system?socket={allowed}/out/s", policy)


def test_an_allowed_folder_may_itself_be_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    policy = UriPolicy((tmp_path / "link",))

    assert parse(f"qemu+unix:///system?socket={tmp_path}/link/s", policy)
    assert parse(f"qemu+unix:///system?socket={tmp_path}/real/s", policy)


def test_a_key_lies_in_its_folder_whatever_its_links_say(tmp_path: Path) -> None:
    (tmp_path / "id_rack7").touch()
    (tmp_path / "id_shadow").symlink_to("/etc/shadow")
    policy = UriPolicy(ssh_folder=tmp_path)

    inside = parse(f"qemu+ssh://host/system?keyfile={tmp_path}/id_rack7", policy)

    assert inside.keyfile == f"{tmp_path}/id_rack7"
    for name in ("keyfile", "known_hosts"):
        with pytest.raises(UriNotAllowed):
            parse(f"qemu+ssh://host/system?{name}={tmp_path}/id_shadow", policy)
        with pytest.raises(UriNotAllowed):
            parse(f"qemu+ssh://host/system?{name}={tmp_path}/id_rack7", UriPolicy())


def test_no_folder_is_allowed_unless_it_is_named() -> None:
    for folders in [(), (Path("/"),)]:
        with pytest.raises(UriNotAllowed):
            parse("qemu+unix:///system?socket=/etc/libvirt-sock", UriPolicy(folders))


PIECES = st.sampled_from(
    [
        "qemu",
        "test",
        "+",
        "ssh",
        "libssh2",
        "tls",
        "tcp",
        "unix",
        "ext",
        ":",
        "//",
        "/",
        "host",
        "user",
        "@",
        "-",
        "[::1]",
        "system",
        "default",
        "?",
        "&",
        ";",
        "socket",
        "keyfile",
        "known_hosts",
        "/srv/keys/id",
        "=",
        "#",
        "%2F",
        "/srv/sockets/a",
        "command",
        "..",
        "$(id)",
        "22",
        "16509",
        "%00",
        "'",
        "\n",
    ]
)


@given(st.lists(PIECES, max_size=14).map("".join) | st.text(max_size=60))
@example("qemu+unix:///system?socket=/srv/sockets/a")
def test_whatever_is_admitted_survives_being_written_and_read(text: str) -> None:
    try:
        uri = parse(text, POLICY)
    except UriNotAllowed:
        return

    assert parse(str(uri), POLICY) == uri
