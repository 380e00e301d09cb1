"""The description says what the routes do."""

from __future__ import annotations

import re
from typing import Any

import pytest

from gateway.web import openapi
from gateway.web.api import people
from tests.web.conftest import Site

DOCUMENT = openapi.describe(people.ROUTES)


def operations() -> list[tuple[str, str, dict[str, Any]]]:
    return [
        (method, path, operation)
        for path, methods in DOCUMENT["paths"].items()
        for method, operation in methods.items()
    ]


def references(value: Any) -> set[str]:
    if isinstance(value, dict):
        own = {value["$ref"]} if isinstance(value.get("$ref"), str) else set()
        return own.union(*(references(item) for item in value.values()))
    if isinstance(value, list):
        return set[str]().union(*(references(item) for item in value))
    return set()


@pytest.mark.proves("R13.1")
def test_every_route_of_the_api_is_described_once() -> None:
    described = {(method.upper(), path) for method, path, _ in operations()}
    assert described == {(route.method, route.path) for route in people.ROUTES}
    names = [operation["operationId"] for _, _, operation in operations()]
    assert len(set(names)) == len(names)


def test_every_reference_leads_somewhere() -> None:
    for reference in references(DOCUMENT):
        name = reference.removeprefix("#/components/schemas/")
        assert name in DOCUMENT["components"]["schemas"], reference


@pytest.mark.proves("T-G12")
def test_every_body_refuses_unknown_members() -> None:
    for _, path, operation in operations():
        if "requestBody" in operation:
            reference = operation["requestBody"]["content"]["application/json"]["schema"]["$ref"]
            schema = DOCUMENT["components"]["schemas"][reference.rpartition("/")[2]]
            assert schema["additionalProperties"] is False, path


def test_every_parameter_of_a_path_is_described() -> None:
    for _, path, operation in operations():
        named = {item["name"] for item in operation["parameters"] if item["in"] == "path"}
        assert named == set(re.findall(r"{(\w+)}", path))


def test_every_operation_says_who_may_and_what_can_go_wrong() -> None:
    for method, path, operation in operations():
        assert operation["security"], (method, path)
        assert operation["summary"], (method, path)
        assert {"401", "403", "422"} <= set(operation["responses"]), (method, path)


@pytest.mark.proves("R13.1")
async def test_description_and_its_page_are_served(site: Site) -> None:
    async with site.client.get("/api/openapi.json") as answer:
        document = await answer.json()
    assert document["openapi"].startswith("3.1")
    assert document["paths"].keys() == DOCUMENT["paths"].keys()
    async with site.client.get("/api/docs") as answer:
        assert '<script type="module" src="/static/docs-1.js">' in await answer.text()
