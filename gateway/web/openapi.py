"""The OpenAPI 3.1 description, made from the routes, and the page that shows it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from importlib.metadata import version
from typing import Any

import orjson
from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field
from pydantic.json_schema import JsonSchemaMode, models_json_schema

from gateway.web.problems import Problem
from gateway.web.routing import IDEMPOTENCY_HEADER, KEY, PARAM, Policy, Request, Route, route

SPEC_PATH = "/api/openapi.json"
REFERENCE = "#/components/schemas/{model}"


class FieldError(BaseModel):
    model_config = ConfigDict(extra="forbid")

    field: str
    message: str


class ProblemOut(BaseModel):
    """RFC 9457."""

    model_config = ConfigDict(extra="forbid", title="Problem")

    type: str
    title: str
    status: int
    code: str = Field(description="stable; for programs")
    detail: str = Field(description="for people")
    ref: str = Field(description="names this request in the server's log")
    errors: list[FieldError]


def describe(routes: Iterable[Route]) -> dict[str, Any]:
    """Return the document. Pages (everything outside /api/) are left out."""
    shown = [item for item in routes if item.path.startswith("/api/v")]
    models: list[tuple[type[Any], JsonSchemaMode]] = [(ProblemOut, "serialization")]
    for item in shown:
        models += [(model, "validation") for model in (item.body,) if model is not None]
        models += [(model, "serialization") for model in (item.returns, item.conflict) if model is not None]
    references, schemas = models_json_schema([*dict.fromkeys(models)], ref_template=REFERENCE)
    paths: dict[str, dict[str, Any]] = {}
    for item in shown:
        paths.setdefault(item.path, {})[item.method.lower()] = _operation(item, references)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Gatehouse", "version": version("gatehouse")},
        "paths": paths,
        "components": {
            "schemas": schemas["$defs"],
            "securitySchemes": {
                "key": {"type": "http", "scheme": "bearer", "description": "an API key, ghk_…"},
                "session": {"type": "apiKey", "in": "cookie", "name": "gatehouse"},
            },
        },
    }


def routes_for(document: dict[str, Any]) -> list[Route]:
    """The description itself and the page that shows it; both are for everybody."""
    content = orjson.dumps(document)

    @route("GET", SPEC_PATH, policy=Policy(who="public"), summary="This description")
    async def get_description(request: Request) -> web.Response:
        return web.Response(body=content, content_type="application/json")

    @route("GET", "/api/docs", policy=Policy(who="public"), summary="This description, to read")
    async def get_docs(request: Request) -> web.Response:
        script = request.services.assets.url("docs.js")
        page = (
            '<!doctype html><html lang="en"><meta charset="utf-8">'
            '<meta name="viewport" content="width=device-width, initial-scale=1"><title>Gatehouse API</title>'
            f'<script type="module" src="{script}"></script>'
            f'<rapi-doc spec-url="{SPEC_PATH}" render-style="read" show-header="false" load-fonts="false" '
            'allow-spec-url-load="false" allow-spec-file-load="false"></rapi-doc></html>'
        )
        # The component writes style attributes; scripts stay limited to our own file.
        csp = (
            "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
            "font-src 'self' data:; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
        )
        return web.Response(text=page, content_type="text/html", headers={"Content-Security-Policy": csp})

    return [get_description, get_docs]


def _operation(item: Route, references: Any) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": item.name,
        "summary": item.summary,
        "tags": list(item.tags),
        "parameters": _parameters(item),
        "responses": _responses(item, references),
    }
    if item.body is not None:
        schema = references[(item.body, "validation")]
        operation["requestBody"] = {"required": True, "content": {"application/json": {"schema": schema}}}
    match item.policy.who:
        case "agent":
            operation["security"] = [{"key": []}, {"session": []}]
        case "session":
            operation["security"] = [{"session": []}]
        case _:
            operation["security"] = []
    if item.policy.action is not None:
        operation["x-action"] = str(item.policy.action)
    return operation


def _parameters(item: Route) -> list[dict[str, Any]]:
    parameters: list[dict[str, Any]] = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string", "pattern": f"^{PARAM.pattern}$"}}
        for name in re.findall(r"{(\w+)}", item.path)
    ]
    if item.query is not None:
        schema = item.query.model_json_schema(ref_template=REFERENCE)
        required = set(schema.get("required", ()))
        for name, described in schema.get("properties", {}).items():
            parameters.append({"name": name, "in": "query", "required": name in required, "schema": described})
    if item.is_idempotent:
        parameters.append(
            {
                "name": IDEMPOTENCY_HEADER,
                "in": "header",
                "required": False,
                "description": "The same key gives the same answer; with other content, 409.",
                "schema": {"type": "string", "pattern": f"^{KEY.pattern}$"},
            }
        )
    return parameters


def _responses(item: Route, references: Any) -> dict[str, Any]:
    responses: dict[str, Any]
    if item.returns is not None:
        schema = references[(item.returns, "serialization")]
        done = {"description": "Done", "content": {"application/json": {"schema": schema}}}
        responses = {str(item.status): done}
    elif item.content:  # bytes and streams have no schema (OpenAPI 3.1, "Considerations for Binary Data")
        content: dict[str, Any] = {kind: {} for kind in item.content}
        responses = {str(item.status): {"description": "Done", "content": content}}
    else:
        responses = {str(item.status if item.status != 200 else 204): {"description": "Done"}}
    problem = {"application/problem+json": {"schema": REFERENCE_TO_PROBLEM}}
    statuses = {400, 422, 429, 503}
    if item.policy.who in ("agent", "session"):
        statuses |= {401, 403}
    if "{" in item.path:
        statuses |= {404}
    if item.is_unsafe:
        statuses |= {403, 409}
    if item.body is not None:
        statuses |= {408, 413, 415}
    for status in sorted(statuses):
        responses[str(status)] = {"description": Problem(status, "").title, "content": problem}
    if item.conflict is not None:
        schemas = [REFERENCE_TO_PROBLEM, references[(item.conflict, "serialization")]]
        content = {"application/problem+json": {"schema": {"anyOf": schemas}}}
        responses["409"] = responses["409"] | {"content": content}
    return responses


REFERENCE_TO_PROBLEM = {"$ref": REFERENCE.format(model="ProblemOut")}
