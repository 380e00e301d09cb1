"""The description says what the routes do."""

from __future__ import annotations

import inspect
import re
from typing import Any

import pytest

from gateway.web import openapi
from gateway.web.api import people
from gateway.web.api.all_routes import ROUTES
from gateway.web.api.files import BYTES, TYPES
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
def test_every_answer_is_described_as_it_comes() -> None:
    """Models as JSON, downloads and streams by their types, and 204 for those alone that answer with nothing."""
    document = openapi.describe(ROUTES)
    told = {}
    for item in ROUTES:
        responses = document["paths"][item.path][item.method.lower()]["responses"]
        (done,) = [status for status in responses if status.startswith("2")]
        told[item.name] = (int(done), tuple(responses[done].get("content", ())))
        if item.returns is not None:
            assert told[item.name] == (item.status, ("application/json",)), item.name
    assert told["get_attachment"] == (200, (*sorted(TYPES), BYTES))
    assert told["get_message_raw"] == told["get_ledger_raw"] == (200, ("message/rfc822",))
    assert told["stream_events"] == (200, ("text/event-stream",))
    handlers = {item.name: inspect.signature(item.handler).return_annotation for item in ROUTES}
    silent = {name for name, (status, _) in told.items() if status == 204}
    assert {name for name in silent if handlers[name] != "None"} == {"put_my_password"}  # it carries cookies


@pytest.mark.proves("T-N08")
def test_stale_ticket_is_described() -> None:
    document = openapi.describe(ROUTES)
    content = document["paths"]["/api/v1/tickets/{code}"]["patch"]["responses"]["409"]["content"]
    names = [item["$ref"].rpartition("/")[2] for item in content["application/problem+json"]["schema"]["anyOf"]]
    assert names == ["ProblemOut", "StaleTicketOut"]
    assert {"current", "missed", "code"} <= set(document["components"]["schemas"]["StaleTicketOut"]["properties"])


@pytest.mark.proves("R13.1")
async def test_description_and_its_page_are_served(site: Site) -> None:
    async with site.client.get("/api/openapi.json") as answer:
        document = await answer.json()
    assert document["openapi"].startswith("3.1")
    assert document["paths"].keys() == DOCUMENT["paths"].keys()
    async with site.client.get("/api/docs") as answer:
        assert '<script type="module" src="/static/docs-1.js">' in await answer.text()
