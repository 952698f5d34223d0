"""Golden cases: a catalog, CDRs, and what must come of them, one file each, for whoever can read YAML.

Cases of what goes on between calls have steps: steps.py. Other files have `title`; `catalog` (a catalog file
as text); maybe `edited`, another one that is loaded an hour later, still before all records; `cdrs`, in
order, each with
- `cdr` (the record as it is sent) or `raw` (its text); `pad`: so many characters more in it;
- `record`: the time of its Kafka record; without it the call's end;
- `expect`: what becomes of each side: fields of its transaction (what is not named is not compared), or
  {rejected: REASON, side: SIDE, value: TEXT}, or {duplicate: SIDE};
- `explain`: PACKAGE/LIMIT → why it was passed over, asked just before the record is rated;
and `expect_either` instead of the records' `expect`: lists of them, one of which must hold.

`compare` does not care where the outcomes come from: the core alone, or Kafka and Redis.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import yaml

LOADED_AT = datetime(2026, 9, 15, tzinfo=UTC)
"""When the catalogs are loaded: before all records. No client package's start depends on it."""

EDITED_AT = LOADED_AT + timedelta(hours=1)

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_TIMES = ("answered_at", "setup_at", "ended_at")
_INSTANT = re.compile(r"\d{4}-\d\d-\d\dT")

Got = tuple[str, str | None, Any]
"""("transaction", side, transaction), ("rejected", side, {reason, value}) or ("duplicate", side, None)."""

Expectation = dict[str, Any]


@dataclass(frozen=True)
class Case:
    """One file. records: (raw CDR, record's time in ms); expected: alternatives, each a list per record."""

    name: str
    title: str
    catalog: bytes
    records: list[tuple[bytes, int]]
    expected: list[list[list[Expectation]]]
    explain: list[dict[str, str]] = field(default_factory=list)
    edited: bytes | None = None


class _Loader(yaml.CSafeLoader):
    """YAML whose times stay text, as JSON has them."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, regexp) for tag, regexp in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.CSafeLoader.yaml_implicit_resolvers.items()
}


def load_cases(folder: Path = Path(__file__).parent) -> list[Case]:
    """Return the cases of the folder's files, by name; of those without steps (steps.py)."""
    read = {path.stem: read_case(path) for path in sorted(folder.glob("*.yaml"))}
    return [_case(name, content) for name, content in read.items() if "steps" not in content]


def read_case(path: Path) -> dict[str, Any]:
    """Return a file's content; times are texts."""
    content = yaml.load(path.read_text(encoding="utf-8"), _Loader)  # noqa: S506 - a safe loader's child
    assert isinstance(content, dict), path
    return content


def _case(name: str, content: dict[str, Any]) -> Case:
    rows = content["cdrs"]
    return Case(
        name=name,
        title=content["title"],
        catalog=content["catalog"].encode(),
        records=[record_of(row) for row in rows],
        expected=content.get("expect_either") or [[row["expect"] for row in rows]],
        explain=[row.get("explain", {}) for row in rows],
        edited=content["edited"].encode() if "edited" in content else None,
    )


def record_of(row: dict[str, Any]) -> tuple[bytes, int]:
    """Return a row's CDR and the time of its record, in ms."""
    if "raw" in row:
        return row["raw"].encode(), milliseconds_of(row["record"])
    cdr = dict(row["cdr"])
    record_ms = milliseconds_of(row["record"]) if "record" in row else _end_ms(cdr)
    if "pad" in row:
        cdr["tags"] = "x" * row["pad"]
    return json.dumps(cdr, ensure_ascii=False).encode(), record_ms


def _end_ms(cdr: dict[str, Any]) -> int:
    began = next(milliseconds_of(cdr[name]) for name in _TIMES if name in cdr)
    duration = cdr.get("duration_ms")
    return began + (duration if isinstance(duration, int) else 0)


def milliseconds_of(text: str) -> int:
    """Return the instant of an RFC 3339 text, in ms."""
    return (datetime.fromisoformat(text) - _EPOCH) // timedelta(milliseconds=1)


def compare(case: Case, outcomes: Sequence[Iterable[Got]], *, duplicates_shown: bool = True) -> list[str]:
    """Return what is not as the case expects it, a sentence each; nothing when it is.

    outcomes: of each record, in order. duplicates_shown False: a duplicate is a side without any outcome, as
    Kafka's readers see it.
    """
    seen = [list(of) for of in outcomes]
    found = [_faults(alternative, seen, duplicates_shown=duplicates_shown) for alternative in case.expected]
    return [] if not all(found) else found[0]


def _faults(
    expected: list[list[Expectation]], outcomes: list[list[Got]], *, duplicates_shown: bool
) -> list[str]:
    faults = []
    if len(expected) != len(outcomes):
        faults.append(f"{len(outcomes)} records have an outcome, {len(expected)} were expected")
    for number, (wanted, got) in enumerate(zip(expected, outcomes, strict=False)):
        rest = list(got)
        for one in wanted:
            kind, side = kind_of(one)
            of_side = next((outcome for outcome in rest if outcome[1] == side), None)
            if of_side is not None:
                rest.remove(of_side)
            elif kind == "duplicate" and not duplicates_shown:
                continue
            faults += [f"record {number}, {side}: {fault}" for fault in differences(kind, one, of_side)]
        faults += [f"record {number}: unexpected {outcome}" for outcome in rest]
    return faults


def kind_of(expected: Expectation) -> tuple[str, str | None]:
    """Return what is expected of which side."""
    if "duplicate" in expected:
        return "duplicate", expected["duplicate"]
    return ("rejected" if "rejected" in expected else "transaction"), expected["side"]


def differences(kind: str, expected: Expectation, got: Got | None) -> list[str]:
    """Return what is not as expected of a side; got: what became of it."""
    if got is None:
        return [f"nothing came, a {kind} was expected"]
    if got[0] != kind:
        return [f"a {got[0]} came ({got[2]}), a {kind} was expected"]
    if kind == "duplicate":
        return []
    if kind == "rejected":
        wanted = {"reason": expected["rejected"]}
        if "value" in expected:
            wanted["value"] = expected["value"]
        return list(less(wanted, got[2], ""))
    return list(less(expected, got[2], ""))


def less(expected: Any, got: Any, where: str) -> Iterable[str]:
    """Give the places where `got` has not what is expected: fields of objects, all items of lists, values."""
    if isinstance(expected, dict) and isinstance(got, dict):
        for name, value in expected.items():
            if name not in got:
                yield f"{where}{name} is missing, {value!r} was expected"
            else:
                yield from less(value, got[name], f"{where}{name}.")
    elif isinstance(expected, list) and isinstance(got, list) and len(expected) == len(got):
        for number, (value, other) in enumerate(zip(expected, got, strict=True)):
            yield from less(value, other, f"{where}{number}.")
    elif expected != got or isinstance(expected, bool) != isinstance(got, bool):
        yield f"{where.removesuffix('.')} is {got!r}, {expected!r} was expected"
