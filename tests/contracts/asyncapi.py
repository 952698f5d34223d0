"""The AsyncAPI 3 document: each topic as `rater topics create` makes it, and what its records are."""

from __future__ import annotations

from typing import Any

import yaml

from contracts.schemas import DEFS, published
from rater import __version__
from rater.config.settings import Settings
from rater.stream.topics import REPLICAS_SAFE, Topics

COMPONENTS = "#/components/schemas/"
CONTROL = {
    "type": "object",
    "properties": {"control": {"description": "packed, for rater alone"}},
    "required": ["control"],
}
HEADERS_OF_CDRS = {
    "type": "object",
    "properties": {
        "columns": {"type": "string", "description": "of a row of CSV: the header row of its file"},
        "late": {
            "type": "string",
            "description": "JSON: which sides were looked up in the journal, and when",
        },
    },
}
HEADERS_OF_TRANSACTIONS = {
    "type": "object",
    "properties": {"e": {"description": "packed, for rater alone: what it did to the store"}},
    "required": ["e"],
}

MESSAGES: dict[str, dict[str, Any]] = {
    "Cdr": {
        "summary": "A call detail record; of a source with a map the switch's own record.",
        "schema": "cdr", "headers": HEADERS_OF_CDRS,
    },
    "Transaction": {
        "summary": "A money movement. By readers with isolation.level=read_committed each is seen once.",
        "schema": "transaction", "headers": HEADERS_OF_TRANSACTIONS,
    },
    "Command": {"summary": "What is asked for: the audit log.", "schema": "command"},
    "Event": {"summary": "What happened.", "schema": "event"},
    "Rejected": {
        "summary": "A record that could not be rated, as it came.",
        "headers": {"$ref": COMPONENTS + "rejected-headers"}, "contentType": "application/octet-stream",
    },
    "Snapshot": {
        "summary": "A client's state with the positions in it, for rater alone.", "schema": "snapshot",
        "contentType": "application/msgpack",
    },
    "Control": {
        "summary": "A record of rater's own, of null or (in commands) a catalog's content. Readers skip it.",
        "headers": CONTROL, "contentType": "application/octet-stream",
    },
}  # fmt: skip

CHANNELS: dict[str, tuple[str, tuple[str, ...], str]] = {
    "cdrs": ("receive", ("Cdr",), "any key or none; order per client is kept where the key is the client"),
    "transactions": ("send", ("Transaction", "Control"), "the client's id"),
    "commands": ("receive", ("Command", "Control"), "the client's id; of a part of a load the load's"),
    "rejected": ("send", ("Rejected", "Control"), "that of the record"),
    "events": ("send", ("Event",), "the client's id, or the command's"),
    "snapshots": ("send", ("Snapshot",), "the client's id"),
}
"""Topic → what rater does, its messages, its key."""


def document() -> dict[str, Any]:
    """Return the document, of the default settings."""
    settings = Settings()
    topics = Topics(
        settings.topics.prefix, settings.topics.partitions, journal_min_ms=settings.journal_min_ms
    )
    specs = {spec.name: spec for spec in topics.specs(REPLICAS_SAFE)}
    channels, operations = {}, {}
    for name, (action, messages, key) in CHANNELS.items():
        spec = specs[settings.topic(name)]
        channels[name] = {
            "address": spec.name,
            "description": " ".join(f"{setting}: {why}." for setting, why in spec.reasons.items()),
            "messages": {one: {"$ref": f"#/components/messages/{one}"} for one in messages},
            "bindings": {"kafka": {
                "topic": spec.name, "partitions": spec.partitions, "replicas": REPLICAS_SAFE,
                "topicConfiguration": _configuration(spec.settings), "bindingVersion": "0.5.0",
            }},
        }  # fmt: skip
        operations[action + name.capitalize()] = {
            "action": action, "channel": {"$ref": f"#/channels/{name}"}, "summary": f"Key: {key}.",
        }  # fmt: skip
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "rater", "version": __version__,
            "description": "What lies in the topics of rater, with the default prefix. What it means: "
            "src/rater/core/CONTRACTS.md.",
        },
        "defaultContentType": "application/json",
        "channels": channels,
        "operations": operations,
        "components": {
            "messages": {name: _message(of) for name, of in MESSAGES.items()}, "schemas": _schemas(),
        },
    }  # fmt: skip


def _configuration(settings: dict[str, str]) -> dict[str, Any]:
    """Return a topic's settings as the Kafka binding names them, those that it knows."""
    known: dict[str, Any] = {"cleanup.policy": settings["cleanup.policy"].split(",")}
    for name in ("retention.ms", "retention.bytes", "max.message.bytes"):
        if name in settings:
            known[name] = int(settings[name])
    return known


def _message(of: dict[str, Any]) -> dict[str, Any]:
    told = {name: value for name, value in of.items() if name != "schema"}
    return told | ({"payload": {"$ref": COMPONENTS + of["schema"]}} if "schema" in of else {})


def _schemas() -> dict[str, Any]:
    """Return the schemas of records, and what they refer to, under one name each."""
    found: dict[str, Any] = {}
    for name, schema in published().items():
        if name == "settings":
            continue
        parts = schema.pop("$defs", {})
        del schema["$schema"]
        for part, body in {**parts, name: schema}.items():
            moved = _moved(body)
            if found.setdefault(part, moved) != moved:
                message = f"two schemas are named {part}"
                raise ValueError(message)
    return found


def _moved(node: Any) -> Any:
    """Return a schema as the document has it: AsyncAPI means something else by `discriminator`."""
    if isinstance(node, dict):
        return {
            name: COMPONENTS + value.removeprefix(DEFS) if name == "$ref" else _moved(value)
            for name, value in node.items()
            if name != "discriminator"
        }
    return [_moved(value) for value in node] if isinstance(node, list) else node


class _Dumper(yaml.SafeDumper):
    """YAML without anchors: what is there twice is written twice."""

    def ignore_aliases(self, _: object) -> bool:
        return True


def text() -> str:
    """Return the document as a file has it."""
    return yaml.dump(document(), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110)
