"""What deploy/contracts holds is what the code says now; each schema is one, and refuses what is broken."""

from __future__ import annotations

import gzip
import json
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft7Validator, Draft202012Validator

from contracts import schemas
from contracts.asyncapi import CHANNELS
from contracts.written import FOLDER, files, kept
from rater.config.settings import OWN_TOPICS
from rater.core.commands.records import ARGS, LOADS
from rater.core.explaining.telling import IN_WORDS
from rater.core.kinds import Do, EventType
from rater.core.reasons import MEANINGS, PassOver, Reason

CONFIG = Path(__file__).parents[2] / "config"
ASYNCAPI = Path(__file__).with_name("asyncapi-3.0.0.json.gz")
"""AsyncAPI's own schema: schemas/3.0.0-without-$id.json of npm's @asyncapi/specs 6.11.1 (Apache-2.0)."""


def test_what_is_kept_is_what_the_code_says() -> None:
    """No file differs, none is lacking, and none is left over."""
    assert kept() == files(), "run: make contracts"


def test_each_list_of_the_code_is_whole() -> None:
    """A reason has a meaning, a command its arguments, a topic its channel."""
    assert list(MEANINGS) == list(Reason)
    assert list(IN_WORDS) == list(PassOver)
    assert {*ARGS, *LOADS} == set(Do)
    assert tuple(CHANNELS) == OWN_TOPICS


@pytest.mark.parametrize("name", sorted(schemas.published()))
def test_each_is_a_schema(name: str) -> None:
    """By the dialect that it names; and it says what it is of."""
    schema = json.loads((FOLDER / "schemas" / f"{name}.json").read_text("utf-8"))
    Draft202012Validator.check_schema(schema)
    assert schema["title"]
    assert schema["description"]


def referred(node: Any) -> list[str]:
    """Return all that a document refers to."""
    if isinstance(node, dict):
        own = [node["$ref"]] if isinstance(node.get("$ref"), str) else []
        return own + [one for value in node.values() for one in referred(value)]
    return [one for value in node for one in referred(value)] if isinstance(node, list) else []


def test_what_the_asyncapi_document_refers_to_is_there() -> None:
    """Each reference leads to a part of it, and each message and schema is referred to."""
    document = yaml.safe_load((FOLDER / "asyncapi.yaml").read_text("utf-8"))
    assert document["asyncapi"] == "3.0.0"
    found = set(referred(document))
    for reference in found:
        node = document
        for step in reference.removeprefix("#/").split("/"):
            assert step in node, reference
            node = node[step]
    for kind in ("messages", "schemas"):
        for name in document["components"][kind]:
            assert f"#/components/{kind}/{name}" in found, name
    for operation in document["operations"].values():
        assert operation["action"] in ("send", "receive")


def test_the_asyncapi_document_is_one() -> None:
    """By the schema that AsyncAPI publishes; it refuses what OpenAPI alone has."""
    schema = Draft7Validator(json.loads(gzip.decompress(ASYNCAPI.read_bytes())))
    document = yaml.safe_load((FOLDER / "asyncapi.yaml").read_text("utf-8"))
    assert [error.message for error in schema.iter_errors(document)] == []
    document["components"]["schemas"]["cdr"]["discriminator"] = {"propertyName": "id"}
    assert not schema.is_valid(document)


# ------------------------------------------------------------------------------------------------- settings
def settings_faults(given: dict[str, Any]) -> list[str]:
    """Return what the schema of settings says is wrong."""
    return [error.message for error in Draft202012Validator(schemas.settings()).iter_errors(given)]


def test_the_shipped_settings_are_settings() -> None:
    """config/rater.toml is taken, with what stands in it as a comment left out."""
    assert settings_faults(tomllib.loads((CONFIG / "rater.toml").read_text("utf-8"))) == []


@pytest.mark.parametrize(
    "given",
    [
        {"kafka": {"session_timeout_ms": 10}},
        {"kafka": {"servers": "a:1"}},
        {"topics": {"partitions": "4"}},
        {"worker": {"engine": "rust"}},
        {"sources": {"a": {"map": "asterisk"}}},
        {"cafka": {}},
    ],
)
def test_wrong_settings_are_refused(given: dict[str, Any]) -> None:
    """A value out of its bounds, of a wrong type, a key or section that is none, a source without topic."""
    assert settings_faults(given)


def test_events_without_data_are_named() -> None:
    """Every type of event is told apart by the schema: it has a form of data, or none."""
    conditions = [one["if"]["properties"]["type"]["enum"] for one in schemas.event()["allOf"]]
    assert {kind for kinds in conditions[:-1] for kind in kinds} == set(EventType)
