"""The OpenAPI document of the API, made of the table of routes and its types.

`python -m rater.admin.openapi` writes it to the file beside this one; a test compares both.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec

from rater.admin.problems import TITLES, ProblemDetails
from rater.admin.routes import Route
from rater.admin.table import ROUTES

FILE = Path(__file__).with_name("openapi.json")

_REF = "#/components/schemas/{name}"
_LOOKS = (400, 401, 403, 404, 409, 413, 415, 422, 429, 500, 503)
_WRITES = (*_LOOKS, 504)
_KEY = {
    "name": "Idempotency-Key", "in": "header", "required": False,
    "description": "What the request is known by: the same key again does nothing twice. It has to be given "
    "unless `dry_run` is true.",
    "schema": {"type": "string", "minLength": 1, "maxLength": 200},
}  # fmt: skip


def document(routes: Iterable[Route] = ROUTES) -> dict[str, Any]:
    """Return the document (OpenAPI 3.1)."""
    routes = tuple(routes)
    queries = {route.query for route in routes}
    bodies = {route.body for route in routes if route.body is not None}
    types = [*queries, *bodies, *(route.result for route in routes), ProblemDetails]
    ordered = sorted(set(types), key=lambda one: one.__name__)
    _, components = msgspec.json.schema_components(ordered, ref_template=_REF)
    parameters = {query: _parameters(components.pop(query.__name__)) for query in queries}
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, parameters[route.query])
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "rater",
            "version": "1",
            "description": "Packages, client packages, clients and their money. Instants are RFC 3339, money "
            "and prices decimal text. What changes something takes `dry_run`, which tells what it would do.",
        },
        "security": [{"token": []}],
        "paths": paths,
        "components": {
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
            "schemas": dict(sorted(components.items())),
            "responses": {
                str(status): {
                    "description": title,
                    "content": {"application/problem+json": {"schema": _of("ProblemDetails")}},
                }
                for status, title in TITLES.items()
            },
        },
    }  # fmt: skip


def _parameters(schema: dict[str, Any]) -> list[dict[str, Any]]:
    required = schema.get("required", ())
    return [
        {
            "name": name,
            "in": "query",
            "required": name in required,
            "schema": _plain(one),
        }
        for name, one in schema.get("properties", {}).items()
    ]


def _plain(schema: dict[str, Any]) -> dict[str, Any]:
    """Return a parameter's schema: a query cannot say null, and what is left out is not told as a default."""
    options = [one for one in schema.get("anyOf", ()) if one != {"type": "null"}]
    if len(options) == 1:
        schema = options[0]
    return {name: value for name, value in schema.items() if name != "default" or value not in (None, [])}


def _operation(route: Route, parameters: list[dict[str, Any]]) -> dict[str, Any]:
    told: dict[str, Any] = {
        "operationId": route.name,
        "summary": route.summary,
        "description": f"Needs the role {route.role}.",
        "parameters": [
            *(
                {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
                for name in re.findall(r"\{(\w+)\}", route.path)
            ),
            *parameters,
            *((_KEY,) if route.writes else ()),
        ],
        "responses": {
            "200": {
                "description": "Done",
                "content": {"application/json": {"schema": _of(route.result.__name__)}},
            },
            **{
                str(status): {"$ref": f"#/components/responses/{status}"}
                for status in (_WRITES if route.writes else _LOOKS)
            },
        },
    }
    if route.file:
        content = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}
        told["requestBody"] = {"required": True, "content": content}
    if route.body is not None:
        told["requestBody"] = {
            "required": True,
            "content": {"application/json": {"schema": _of(route.body.__name__)}},
        }
    return told


def _of(name: str) -> dict[str, str]:
    return {"$ref": _REF.format(name=name)}


def written() -> str:
    """Return the text of the file."""
    return msgspec.json.format(msgspec.json.encode(document()), indent=2).decode() + "\n"


if __name__ == "__main__":
    FILE.write_text(written(), "utf-8")
