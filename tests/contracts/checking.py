"""Whether records are as their schemas say: those without room for members that nobody described."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

import msgspec
from jsonschema import Draft202012Validator

from contracts.schemas import RECORDS
from rater.core.journal.records import CONTROL_HEADER
from rater.core.journal.snapshots import SNAPSHOT_HEADER

Headers = Sequence[tuple[str, bytes]]


@cache
def validator(name: str) -> Any:
    """Return what judges by a schema, closed."""
    schema = RECORDS[name]()
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema)


def faults(name: str, value: object) -> list[str]:
    """Return what is wrong with a value by a schema, with its place."""
    return [
        f"{'/'.join(map(str, error.absolute_path)) or name}: {_why(error)}"
        for error in validator(name).iter_errors(value)
    ]


def _why(error: Any) -> str:
    """Return the message; where one of several had to hold, that of the one which came nearest."""
    if not error.context:
        return str(error.message)[:300]
    near = min(error.context, key=lambda one: (len(list(one.context)), -len(one.absolute_path), one.message))
    return f"{str(error.message)[-120:]}; {'/'.join(map(str, near.absolute_path))} {str(near.message)[:200]}"


def record_faults(topic: str, value: bytes | None, headers: Headers) -> Iterator[str]:
    """Yield what is wrong with a record. topic: without prefix."""
    named = dict(headers)
    if CONTROL_HEADER in named:
        if value is not None and topic != "commands":
            yield "a control record has a value"
        return
    if topic == "rejected":
        yield from faults("rejected-headers", {name: raw.decode() for name, raw in headers})
    elif topic == "snapshots":
        packed = named[SNAPSHOT_HEADER], value or b""
        head, body = (msgspec.to_builtins(msgspec.msgpack.decode(raw)) for raw in packed)
        yield from faults("snapshot", {"head": head, "body": body})
    else:
        yield from faults({"cdrs": "cdr"}.get(topic, topic.removesuffix("s")), json.loads(value or b""))
