"""Every route has a contract, and the documents printed from them are right."""

import json
import re
from pathlib import Path

import httpx
import jsonschema_rs
import openapi_spec_validator
import pytest

from api.asyncapi import asyncapi
from api.contract import contract_of
from api.openapi import METHODS, Routes, openapi, operations, problems_of
from common.catalogue import catalogue, kinds
from common.errors import VirtumancerError
from tests.lab import web

SCHEMA = Path(__file__).parent.parent / "schemas" / "asyncapi-3.0.0.json"
"""The official one, out of the npm package @asyncapi/specs (Apache-2.0)."""


@pytest.fixture(scope="module")
def routes() -> Routes:
    return web.routes()


def responders(resource: object) -> list[str]:
    return [name for name in METHODS if hasattr(resource, f"on_{name}")]


def test_every_route_has_a_contract(routes: Routes) -> None:
    missing = [
        f"{method.upper()} {path}: decorate it with @contract"
        for path, resource in routes.items()
        for method in responders(resource)
        if contract_of(getattr(resource, f"on_{method}")) is None
    ]

    assert not missing


def test_every_operation_has_a_name_of_its_own(routes: Routes) -> None:
    names = [
        f"{one.method} {type(one.resource).__name__}" for one in operations(routes)
    ]

    assert len(set(names)) == len(names)


def test_openapi_is_valid(routes: Routes) -> None:
    openapi_spec_validator.validate(openapi(routes))


def test_asyncapi_is_valid() -> None:
    validator = jsonschema_rs.validator_for(json.loads(SCHEMA.read_text()))
    document = asyncapi("localhost:8080")

    assert [error.message for error in validator.iter_errors(document)] == []
    assert all(
        message["summary"] and "\n" not in message["summary"]
        for message in document["components"]["messages"].values()
    )
    document["channels"]["socket"]["colour"] = "red"
    assert not validator.is_valid(document)


def test_every_problem_of_an_operation_is_in_the_catalogue(
    routes: Routes,
) -> None:
    for one in operations(routes):
        assert {kind.type for kind in problems_of(one)} <= set(catalogue())


def test_each_kind_of_error_has_words_of_its_own() -> None:
    found = kinds(VirtumancerError)

    assert len({kind.type for kind in found}) == len(found)
    for kind in found:
        assert {"type", "title", "advice"} <= set(vars(kind)), kind


def test_the_documents_are_served(api: httpx.Client) -> None:
    opened = api.get("/api/openapi.json").json()
    pushed = api.get("/api/asyncapi.json").json()

    assert opened["paths"]["/api/hosts/{host_id}/vms/{vm}/action"]["post"]
    assert pushed["channels"]["socket"]["messages"]["vms-changed"]
    assert pushed["servers"]["socket"]["host"] == api.base_url.netloc.decode()


def test_the_page_needs_nothing_from_outside(api: httpx.Client) -> None:
    page = api.get("/api/docs")

    assert "http" not in page.text.replace("http-equiv", "")
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert "unsafe" not in page.headers["content-security-policy"]
    assert not re.search(r"<style|style=|<script>|\son\w+=", page.text)
    for file in ("swagger-ui.css", "swagger-ui-bundle.js", "start.js", "page.css"):
        assert f"/api/docs/{file}" in page.text
        assert api.get(f"/api/docs/{file}").status_code == 200
    assert api.get("/api/docs/..%2F__init__.py").status_code == 404


def test_every_type_of_problem_is_explained(api: httpx.Client) -> None:
    listed = api.get("/api/problems").json()

    assert {"vm-busy", "disk-missing", "host-key-unknown"} <= {
        one["type"].rpartition("/")[2] for one in listed
    }
    for one in listed:
        assert api.get(one["type"]).json() == one
        page = api.get(one["type"], headers={"Accept": "text/html"})
        assert page.headers["content-type"].startswith("text/html")
    assert (
        api.get("/api/problems/none").json()["type"] == "/api/problems/unknown-problem"
    )


def test_a_problem_leads_to_its_explanation(api: httpx.Client) -> None:
    problem = api.get("/api/hosts/nobody").json()

    known = api.get(problem["type"]).json()

    assert problem["title"] == known["title"]
    assert problem["advice"] == known["advice"]
    assert problem["status"] == known["status"] == 404
