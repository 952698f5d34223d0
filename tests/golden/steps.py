"""Golden cases in steps: loads, commands, ticks and CDRs in order, and what comes of each.

A file has `steps` in place of `cdrs` (cases.py), each one of
- `load`: another catalog file, as text, with `at`;
- `command`: an object as in CONTRACTS.md, Command, without id and `at`, with `at` beside it; its record has
  the same time unless there is `record`;
- `tick`: an instant, up to which all is done that is due;
- `cdr` or `raw`, with `record`, `pad` and `explain` as in cases.py;
and `expect`: what comes of it. Its entries are
- fields of a transaction; those of a CDR's sides have `side`. Others come in this order;
- {event: TYPE, …}: fields of an event that comes. Others may come too, unless the case says `events: all`;
- {refused: TEXT}: a load or command that is refused with a sentence which has the text in it;
- {done: {…}}: fields of what `command_done` says;
- {rejected: …} and {duplicate: …} of a CDR.
The catalog is the first step: `loaded` says when it is loaded, `expect` beside it what comes of it, opening
balances left out. At the end, when the last step's moment has come, `balances` of clients are compared, and
`client_packages`: fields of what lists show of each (listing.py). `settings`: keys of [events], where a case
needs other ones than the defaults.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import msgspec

from golden.cases import (
    LOADED_AT,
    Expectation,
    Got,
    differences,
    kind_of,
    less,
    milliseconds_of,
    read_case,
    record_of,
)
from rater.config.settings import Events

SYSTEM_EVENTS = {"catalog_loaded", "command_done", "command_refused"}
"""Of the commands themselves, not of what becomes of a client."""

StepKind = Literal["load", "command", "tick", "cdr"]


@dataclass(frozen=True)
class Step:
    """One step. value: catalog, command or CDR; of a tick nothing. at_ms: its record's time."""

    kind: StepKind
    value: bytes
    at_ms: int
    expected: list[Expectation]
    explain: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class StepCase:
    """One file; its first step loads the catalog."""

    name: str
    title: str
    steps: list[Step]
    balances: dict[str, str]
    client_packages: dict[str, dict[str, Any]]
    all_events: bool
    settings: Events

    @property
    def end_ms(self) -> int:
        """Return when the last step is."""
        return max(step.at_ms for step in self.steps)


@dataclass(frozen=True)
class Shown:
    """What is there at the end: balances of clients, and what lists show of client packages."""

    balances: Mapping[str, str]
    client_packages: Mapping[str, Mapping[str, Any]]


def load_step_cases(folder: Path = Path(__file__).parent) -> list[StepCase]:
    """Return the cases in steps of the folder's files, by name."""
    read = {path.stem: read_case(path) for path in sorted(folder.glob("*.yaml"))}
    return [_case(name, content) for name, content in read.items() if "steps" in content]


def _case(name: str, content: dict[str, Any]) -> StepCase:
    loaded = content.get("loaded", LOADED_AT.isoformat())
    first = {"load": content["catalog"], "at": loaded, "expect": content.get("expect", [])}
    return StepCase(
        name=name,
        title=content["title"],
        steps=[_step(name, number, row) for number, row in enumerate([first, *content["steps"]])],
        balances=content["balances"],
        client_packages=content.get("client_packages", {}),
        all_events=content.get("events") == "all",
        settings=msgspec.convert(content.get("settings", {}), Events),
    )


def _step(name: str, number: int, row: dict[str, Any]) -> Step:
    expected = row.get("expect", [])
    if "load" in row:
        return Step("load", row["load"].encode(), milliseconds_of(row["at"]), expected)
    if "tick" in row:
        return Step("tick", b"", milliseconds_of(row["tick"]), expected)
    if "command" in row:
        command_id = f"{name}-{number}"
        whole = {"id": command_id, "key": command_id, "at": row["at"], "args": {}, **row["command"]}
        record_ms = milliseconds_of(row.get("record", row["at"]))
        return Step("command", json.dumps(whole).encode(), record_ms, expected)
    raw, record_ms = record_of(row)
    return Step("cdr", raw, record_ms, expected, row.get("explain", {}))


def tick(command_id: str, at: str, args: dict[str, Any]) -> bytes:
    """Return the command that has all done which is due up to an instant (RFC 3339)."""
    return json.dumps({"id": command_id, "key": command_id, "at": at, "do": "tick", "args": args}).encode()


def outcome_of(transaction: dict[str, Any]) -> Got:
    """Return a transaction as `compare_steps` takes it."""
    return "transaction", transaction.get("side"), transaction


def compare_steps(
    case: StepCase, outcomes: Sequence[Iterable[Got]], shown: Shown, *, duplicates_shown: bool = True
) -> list[str]:
    """Return what is not as the case expects it, a sentence each; nothing when it is.

    outcomes: of each step, the load of the catalog first; events are ("event", None, event), refusals
    ("refused", None, sentence). duplicates_shown: as of `cases.compare`.
    """
    faults = []
    for number, (step, got) in enumerate(zip(case.steps, outcomes, strict=True)):
        found = _step_faults(
            step, list(got), all_events=case.all_events, duplicates_shown=duplicates_shown, first=not number
        )
        faults += [f"step {number} ({step.kind}): {fault}" for fault in found]
    at_end = (
        ("balance", case.balances, shown.balances),
        ("client package", case.client_packages, shown.client_packages),
    )
    for what, wanted, there in at_end:
        faults += [f"{what} {fault}" for fault in less(wanted, there, "")]
    return faults


def _step_faults(
    step: Step, got: list[Got], *, all_events: bool, duplicates_shown: bool, first: bool
) -> Iterable[str]:
    wanted: dict[str, list[Expectation]] = {}
    for one in step.expected:
        wanted.setdefault(_sort(one), []).append(one)
    came: dict[str, list[Got]] = {}
    for outcome in got:
        came.setdefault(_sort_of(outcome), []).append(outcome)
    fees = [value for _, _, value in came.pop("fee", []) if not (first and _is_opening(value))]
    yield from _fee_faults(wanted.get("fee", []), fees)
    yield from _side_faults(wanted.get("side", []), came.pop("side", []), duplicates_shown=duplicates_shown)
    events = [value for _, _, value in came.pop("event", [])]
    yield from _event_faults(wanted.get("event", []), events, all_events=all_events)
    done = [event["data"] for event in events if event["type"] == "command_done"]
    for one in wanted.get("done", []):
        yield from less(one["done"], done[0], "done: ") if done else ["it was not done"]
    yield from _refusal_faults(wanted.get("refused", []), [text for _, _, text in came.pop("refused", [])])


def _sort(one: Expectation) -> str:
    """Return what an expectation is of."""
    for name in ("event", "refused", "done"):
        if name in one:
            return name
    return "side" if {"side", "duplicate"} & one.keys() else "fee"


def _sort_of(outcome: Got) -> str:
    kind, side, _ = outcome
    return kind if kind in ("event", "refused") else "side" if kind != "transaction" or side else "fee"


def _is_opening(transaction: dict[str, Any]) -> bool:
    return (transaction["type"], transaction.get("key")) == ("adjustment", "opening")


def _fee_faults(wanted: list[Expectation], fees: list[dict[str, Any]]) -> Iterable[str]:
    """Give what is wrong with transactions beside those of sides; clients come in any order."""
    order = {one["client"]: number for number, one in reversed(list(enumerate(fees)))}
    fees = sorted(fees, key=lambda one: order[one["client"]])
    if len({one.get("client") for one in wanted}) > 1:
        fees = sorted(fees, key=lambda one: one["client"])
        wanted = sorted(wanted, key=lambda one: one["client"])
    for number, one in enumerate(wanted):
        if number < len(fees):
            yield from (f"fee {number}: {fault}" for fault in less(one, fees[number], ""))
        else:
            yield f"nothing came, {one} was expected"
    yield from (f"unexpected {one}" for one in fees[len(wanted) :])


def _side_faults(wanted: list[Expectation], got: list[Got], *, duplicates_shown: bool) -> Iterable[str]:
    rest = list(got)
    for one in wanted:
        kind, side = kind_of(one)
        of_side = next((outcome for outcome in rest if outcome[1] == side), None)
        if of_side is not None:
            rest.remove(of_side)
        elif kind == "duplicate" and not duplicates_shown:
            continue
        yield from (f"{side}: {fault}" for fault in differences(kind, one, of_side))
    yield from (f"unexpected {outcome}" for outcome in rest)


def _event_faults(
    wanted: list[Expectation], events: list[dict[str, Any]], *, all_events: bool
) -> Iterable[str]:
    """Give the events that lack, and with `all_events` those that nobody named; they come in any order."""
    rest = [event for event in events if event["type"] not in SYSTEM_EVENTS]
    for one in wanted:
        fields = {("type" if name == "event" else name): value for name, value in one.items()}
        found = next((event for event in rest if not list(less(fields, event, ""))), None)
        if found is not None:
            rest.remove(found)
        else:
            near = [event for event in rest if event["type"] == one["event"]]
            yield f"event {one} lacks; of its type came {near}"
    if all_events:
        yield from (f"unexpected event {event}" for event in rest)


def _refusal_faults(wanted: list[Expectation], refused: list[str]) -> Iterable[str]:
    if wanted and not refused:
        yield f"it was not refused, {wanted[0]['refused']!r} was expected"
    for one, sentence in zip(wanted, refused, strict=False):
        if one["refused"] not in sentence:
            yield f"refused: {sentence!r}, {one['refused']!r} was expected in it"
    yield from (f"refused: {sentence!r}" for sentence in refused[len(wanted) :])
