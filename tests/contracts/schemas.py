"""JSON Schemas of what lies in the topics, and of the settings, from the types of the code and of `forms`.

Published ones let what is read have further members, for later versions may add some; `closed` ones, which
tests go by, do not.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
from msgspec import field

from contracts import forms
from rater.config.settings import Settings
from rater.core.commands.records import ARGS, LOADS, Command, LoadArgs
from rater.core.journal.snapshots import (
    AccountsHead,
    ClientBody,
    ClientHead,
    PackagesHead,
    RoundHead,
)
from rater.core.kinds import Do, EventType

Schema = dict[str, Any]
DIALECT = "https://json-schema.org/draft/2020-12/schema"
DEFS = "#/$defs/"


def _ref(of: type) -> Schema:
    return {"$ref": DEFS + of.__name__}


def _refs(node: Any) -> Iterator[str]:
    """Yield the names of the definitions that are referred to below a node."""
    if isinstance(node, dict):
        if "$ref" in node:
            yield node["$ref"].removeprefix(DEFS)
        for value in node.values():
            yield from _refs(value)
    elif isinstance(node, list):
        for value in node:
            yield from _refs(value)


def _whole(title: str, about: str, body: Schema, found: Mapping[str, Schema]) -> Schema:
    """Return a schema with the definitions that it needs, and no others."""
    needed: dict[str, Schema] = {}
    left = list(_refs(body))
    while left:
        name = left.pop()
        if name not in needed:
            needed[name] = found[name]
            left += _refs(found[name])
    out = {"$schema": DIALECT, "title": title, "description": about, **body}
    whole: Schema = _portable({**out, "$defs": dict(sorted(needed.items()))} if needed else out)
    return whole


def _portable(node: Any) -> Any:
    r"""Return a schema whose patterns are those of ECMA 262, as JSON Schema asks: it has no `\Z`."""
    if isinstance(node, dict):
        return {
            name: value.replace(r"\Z", "$")
            if name == "pattern" and isinstance(value, str)
            else _portable(value)
            for name, value in node.items()
        }
    return [_portable(value) for value in node] if isinstance(node, list) else node


def _inlined(of: type, found: Mapping[str, Schema]) -> Schema:
    """Return a type's own schema, to be added to."""
    return {name: value for name, value in found[of.__name__].items() if name not in ("title", "description")}


def _when(member: str, values: list[str], then: Schema) -> Schema:
    return {"if": {"properties": {member: {"enum": sorted(map(str, values))}}}, "then": {"properties": then}}


def _parts(*types: Any) -> tuple[list[Schema], dict[str, Schema]]:
    found, parts = msgspec.json.schema_components(types, ref_template=DEFS + "{name}")
    return list(found), parts


# --------------------------------------------------------------------------------------------------- records
def cdr() -> Schema:
    """Return the schema of a CDR."""
    _, parts = _parts(forms.CdrForm)
    body = _inlined(forms.CdrForm, parts)
    sides = [{"required": [side], "properties": {side: {"type": "object"}}} for side in ("orig", "term")]
    at = [
        {"required": [name], "properties": {name: {"type": "string"}}}
        for name in ("setup_at", "answered_at", "ended_at")
    ]
    body["allOf"] = [
        {"anyOf": sides},
        {"anyOf": at},
        {"if": {"properties": {"service": {"const": "calls"}}}, "then": {"required": ["duration_ms"]},
         "else": {"required": ["volume"]}},
    ]  # fmt: skip
    return _whole("CDR", "A call detail record: the value of a record of PREFIXcdrs.", body, parts)


def transaction() -> Schema:
    """Return the schema of a transaction."""
    _, parts = _parts(*forms.TRANSACTIONS, forms.FeeLine, forms.DiscountLine)
    body: Schema = {"anyOf": [_ref(one) for one in forms.TRANSACTIONS]}
    return _whole(
        "Transaction", "A money movement: the value of a record of PREFIXtransactions.", body, parts
    )


def rejected() -> Schema:
    """Return the schema of the headers of a rejected record."""
    _, parts = _parts(forms.RejectedHeaders)
    about = "Headers of a record of PREFIXrejected, as texts; its value is the record as it came."
    return _whole("Headers of a rejected record", about, _inlined(forms.RejectedHeaders, parts), parts)


def event() -> Schema:
    """Return the schema of an event."""
    _, parts = _parts(forms.EventForm, forms.HeldForm, *dict.fromkeys(forms.DATA.values()))
    body = _inlined(forms.EventForm, parts)
    body["properties"]["type"] = {"enum": sorted(map(str, EventType))}
    held: Schema = {"anyOf": [{"type": "null"}, _ref(forms.HeldForm)]}
    plain = sorted(set(EventType) - set(forms.DATA))
    of_data: dict[str, list[str]] = {}
    for kind, form in forms.DATA.items():
        of_data.setdefault(form.__name__, []).append(kind)
    body["allOf"] = [
        *(_when("type", kinds, {"data": {"$ref": DEFS + name}}) for name, kinds in of_data.items()),
        _when("type", [str(kind) for kind in plain], {"data": {"type": "null"}}),
        _when("type", [str(kind) for kind in set(EventType) - forms.FREE], {"before": held, "after": held}),
    ]
    return _whole("Event", "What happened: the value of a record of PREFIXevents.", body, parts)


def command() -> Schema:
    """Return the schema of a command."""
    of_args: dict[str, Any] = {**dict.fromkeys(sorted(LOADS), LoadArgs), **ARGS}
    # `args` are read behind the others, by what `do` is: msgspec.Raw has no schema.
    others = [
        (one.name, one.type) if one.required else (one.name, one.type, one.default)
        for one in msgspec.structs.fields(Command)
        if one.name != "args"
    ]
    form = msgspec.defstruct("Command", [*others, ("args", dict[str, Any], field(default_factory=dict))])
    found, parts = _parts(form, *of_args.values())
    body = _inlined(form, parts)
    body["properties"]["do"] = {"enum": sorted(map(str, Do))}
    body["allOf"] = [
        _when("do", [str(do)], {"args": one}) for do, one in zip(of_args, found[1:], strict=True)
    ]
    about = "What is asked for: the value of a record of PREFIXcommands without the header `control`."
    return _whole("Command", about, body, parts)


def snapshot() -> Schema:
    """Return the schema of a snapshot: header and value, msgpack both, with bytes as base64."""
    pairs: Any = list[tuple[str, str]]
    bodies: dict[Any, Any] = {
        ClientHead: ClientBody,
        RoundHead: None,
        AccountsHead: pairs,
        PackagesHead: pairs,
    }
    found, parts = _parts(*bodies, *bodies.values())
    heads, values = found[: len(bodies)], found[len(bodies) :]
    kinds = [
        {"type": "object", "properties": {"head": head, "body": value}, "required": ["head", "body"]}
        for head, value in zip(heads, values, strict=True)
    ]
    about = (
        "A record of PREFIXsnapshots, for rater alone: its header `snapshot` (head) and its value (body), "
        "both msgpack; bytes are shown as base64."
    )
    return _whole("Snapshot", about, {"oneOf": kinds}, parts)


RECORDS = {
    "cdr": cdr, "transaction": transaction, "rejected-headers": rejected, "event": event, "command": command,
    "snapshot": snapshot,
}  # fmt: skip
"""Name of a schema → what makes it, closed."""

READ: frozenset[str] = frozenset({"transaction", "rejected-headers", "event"})
"""What others read: a later version may add members."""


def settings() -> Schema:
    """Return the schema of a file of settings (TOML): unknown keys are refused."""
    _, parts = _parts(Settings)
    for part in parts.values():
        part.setdefault("additionalProperties", False)
    about = "The file of settings, as TOML has it: `rater --config FILE`. All keys may be left out."
    return _whole("Settings of rater", about, _inlined(Settings, parts), parts)


def opened(node: Any) -> Any:
    """Return a schema that allows further members everywhere."""
    if isinstance(node, dict):
        return {
            name: opened(value)
            for name, value in node.items()
            if not (name == "additionalProperties" and value is False)
        }
    return [opened(value) for value in node] if isinstance(node, list) else node


def published() -> dict[str, Schema]:
    """Return the schemas as they are published, by name."""
    found = {name: opened(make()) if name in READ else make() for name, make in RECORDS.items()}
    return {**found, "settings": settings()}


def text(schema: Schema) -> str:
    """Return a schema as a file has it."""
    return json.dumps(schema, indent=1, ensure_ascii=False) + "\n"
