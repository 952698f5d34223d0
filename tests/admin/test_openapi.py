"""OpenAPI: the file is what the code says, and what the code says holds together."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from rater.admin import openapi
from rater.admin.table import ROUTES


def test_the_file_is_what_the_code_says() -> None:
    """The committed document is that of the routes."""
    assert openapi.FILE.read_text("utf-8") == openapi.written(), "run: python -m rater.admin.openapi"


def _references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        for of in value.values():
            yield from _references(of)
    elif isinstance(value, list):
        for of in value:
            yield from _references(of)


def test_all_that_it_names_is_there() -> None:
    """Each reference leads somewhere, each schema is used, each operation has a name of its own."""
    document = openapi.document()
    used = set(_references(document))
    for name in used:
        found: Any = document
        for part in name.removeprefix("#/").split("/"):
            found = found[part]
    schemas = {f"#/components/schemas/{name}" for name in document["components"]["schemas"]}
    assert schemas <= used
    assert len({route.name for route in ROUTES}) == len(ROUTES)


def test_bodies_take_nothing_that_is_not_named() -> None:
    """What is misspelt is refused, and the document says so; a CDR may have further fields."""
    document = openapi.document()
    for route in ROUTES:
        if route.body is not None and route.name != "explain_call":
            schema = document["components"]["schemas"][route.body.__name__]
            assert schema["additionalProperties"] is False, route.name


def test_what_writes_says_so() -> None:
    """GET changes nothing, but for asking what a call would come to; all others take a key and a dry run."""
    for route in ROUTES:
        operation = json.loads(openapi.written())["paths"][route.path][route.method.lower()]
        names = {one["name"] for one in operation["parameters"]}
        assert ({"dry_run", "Idempotency-Key"} <= names) == route.writes
        assert route.writes == (route.method != "GET" and route.name != "explain_call")
