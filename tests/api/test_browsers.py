"""What a page from elsewhere cannot make a browser do here."""

import httpx
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from tests.api.conftest import Rows, WebProcess, Webs
from tests.api.test_http import is_problem

PAGE = "https://console.example.org"


@pytest.mark.parametrize(
    "host",
    [
        *("evil.example", "evil.example:8080", "127.0.0.1.evil.example", "0.0.0.0"),
        *("192.0.2.1", "localhost@evil.example", "localhost/x", "localhost:x", "[::1"),
        *("", "a b", "localhost:99999999"),
    ],
)
def test_a_name_that_is_not_ours_is_403(server: WebProcess, host: str) -> None:
    for path in ("/api/hosts", "/api/docs", "/nothing"):
        answer = httpx.get(server.url + path, headers={"Host": host})
        assert is_problem(answer, 403), path
        assert answer.json()["type"] == "/api/problems/host-not-allowed"


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1", "127.0.0.1", "[::1]:80"])
def test_loopback_has_these_names(server: WebProcess, host: str) -> None:
    answer = httpx.get(f"{server.url}/api/hosts", headers={"Host": host})
    assert answer.status_code == 200


def test_a_rebound_name_opens_no_socket(server: WebProcess) -> None:
    said = len(server.log.read_text())
    with pytest.raises(InvalidStatus) as refusal:
        connect(server.ws_url, additional_headers={"Host": "evil.example"})
    assert refusal.value.response.status_code == 403
    # The log tells of it in the order of the requests, and of no fault.
    httpx.get(f"{server.url}/api/hosts").raise_for_status()
    assert '"level": "error"' not in server.log.read_text()[said:]


@pytest.mark.parametrize(
    "origin",
    [
        *("https://evil.example", "null", "", "file://", "http://localhost:1"),
        *("http://127.0.0.1", "{url}.evil.example", "{url}@evil.example", "{url}/x"),
    ],
)
def test_a_page_from_elsewhere_is_403(
    server: WebProcess, rows: Rows, origin: str
) -> None:
    rows.host("kvm-1")
    headers = {"Origin": origin.format(url=server.url)}

    for method, path in (("GET", "/api/hosts"), ("DELETE", "/api/hosts/kvm-1")):
        answer = httpx.request(method, server.url + path, headers=headers)
        assert is_problem(answer, 403)
        assert "access-control-allow-origin" not in answer.headers
    with pytest.raises(InvalidStatus) as refusal:
        connect(server.ws_url, additional_headers=headers)

    assert refusal.value.response.status_code == 403
    assert b"origin-not-allowed" in refusal.value.response.body
    assert httpx.get(f"{server.url}/api/hosts/kvm-1").status_code == 200


def test_our_own_pages_may_ask(server: WebProcess) -> None:
    headers = {"Origin": server.url, "Sec-Fetch-Site": "same-origin"}

    assert httpx.get(f"{server.url}/api/hosts", headers=headers).status_code == 200
    with connect(server.ws_url, additional_headers=headers):
        pass


def test_a_browser_that_says_so_is_believed(server: WebProcess) -> None:
    elsewhere = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"}
    followed = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}

    answer = httpx.get(f"{server.url}/api/hosts", headers=elsewhere)
    assert is_problem(answer, 403)
    answer = httpx.get(f"{server.url}/api/docs", headers=followed)
    assert answer.status_code == 200


def test_no_page_may_read_unless_it_is_configured(api: httpx.Client) -> None:
    answer = api.options(
        "/api/hosts",
        headers={"Origin": PAGE, "Access-Control-Request-Method": "GET"},
    )
    assert is_problem(answer, 403)
    assert not [name for name in answer.headers if name.startswith("access-control")]


def test_a_configured_page_may_read_and_act(web: Webs, rows: Rows) -> None:
    rows.host("kvm-1")
    server = web(VIRTUMANCER_ORIGINS=PAGE, VIRTUMANCER_HOSTS="virt.example.org")
    headers = {"Origin": PAGE, "Host": "virt.example.org"}
    asked = {
        "Access-Control-Request-Method": "DELETE",
        "Access-Control-Request-Headers": "authorization",
    }

    first = httpx.options(f"{server.url}/api/hosts/kvm-1", headers=headers | asked)
    read = httpx.get(f"{server.url}/api/hosts/kvm-1", headers=headers)
    other = httpx.get(f"{server.url}/api/hosts", headers={"Origin": PAGE + ".evil"})

    assert first.is_success
    assert first.headers["access-control-allow-origin"] == PAGE
    assert "DELETE" in first.headers["access-control-allow-methods"]
    assert first.headers["access-control-allow-headers"] == "authorization"
    assert read.headers["access-control-allow-origin"] == PAGE
    assert "access-control-allow-credentials" not in read.headers
    assert "etag" in read.headers["access-control-expose-headers"].lower()
    assert is_problem(other, 403)
    with connect(server.ws_url, additional_headers={"Origin": PAGE}):
        pass


@pytest.mark.parametrize("path", ["/api/hosts", "/api/docs", "/nothing", "/metrics"])
def test_every_answer_tells_browsers_to_be_careful(
    api: httpx.Client, path: str
) -> None:
    headers = api.get(path).headers

    assert headers["x-content-type-options"] == "nosniff"
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert "default-src 'none'" in headers["content-security-policy"]
    assert headers["referrer-policy"] == "no-referrer"
    assert "set-cookie" not in headers
