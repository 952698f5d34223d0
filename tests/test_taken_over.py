"""The journal and Redis of earlier versions, killed between draw and commit, are taken over.

Each tests/data/kept-DATE.json was recorded by a version of that day, on its own code, by
`PYTHONPATH=$PWD/src:$PWD/tests python -m taken_over tests/data/kept-DATE.json` (tests/taken_over.py says what
is in it). It is not to be written again by a later version: then it would prove nothing. The second is of the
last version before the life of packages, kept-2026-11-30-groups of the last that kept all duplicates in
groups (`rater_v3`).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast
from uuid import uuid4

import msgspec
import pytest

from rater.core.bucket.messages import DrawResult, Outcome
from rater.core.clients.state import read_state, write_state
from rater.core.clients.views import ClientView
from rater.core.journal.records import (
    CHANGE_INDEX_MIN,
    CONTROL_HEADER,
    ChangeRecord,
    Effect,
    StateRecord,
    change_record,
    effect_headers,
    state_record,
)
from rater.core.rating import transaction as transaction_module
from rater.stream.journal import Mark, control_record, understood
from taken_over import decisions, digest, inputs_of, kept, read, state_of, take_over, told

RECORDED = {
    path.stem: json.loads(path.read_text("utf-8"))
    for path in sorted((Path(__file__).parent / "data").glob("kept-*.json"))
}
KILLED = [
    pytest.param((file, killed), id=f"{name}-{times}")
    for name, file in RECORDED.items()
    for times, killed in zip(("once", "twice"), file["killed"], strict=True)
]
"""What a file holds, and one of the states in it."""

BEFORE_LIFE = [RECORDED[name] for name in ("kept-2026-11-29", "kept-2026-11-30")]
"""Files of versions before the life of packages."""

MARK_FIELDS = 7
"""Of a mark, behind its tag, in the later of those versions."""

Killed = tuple[dict[str, Any], dict[str, Any]]

_context = msgspec.msgpack.Decoder(transaction_module.Context)


class Taken(NamedTuple):
    """What taking over published when it was recorded, and what it publishes now; drawn: as the file says.

    before_life: whether it was recorded before the life of packages.
    """

    then: dict[str, Any]
    now: dict[str, Any]
    drawn: list[str]
    before_life: bool


@pytest.fixture(scope="module", params=KILLED)
def taken(request: pytest.FixtureRequest, redis_url: str) -> Taken:
    """Take a lane over from a state that was recorded."""
    file, killed = request.param
    inputs, prefix = inputs_of(file["inputs"]), f"t{uuid4().hex[:12]}"
    now = take_over(redis_url, prefix, state_of(killed), inputs)
    then, now = read(killed["published"]), read(json.loads(json.dumps(told(now))))
    return Taken(then, now, file["drawn"], file in BEFORE_LIFE)


def values(records: Sequence[Any]) -> list[Any]:
    """Return keys and values of records, without those of ours that have none."""
    return [(key, value) for key, value, _ in records if value is not None]


def with_values(records: Sequence[Any]) -> list[Any]:
    """Return transactions, with their headers."""
    return [record for record in records if record[1] is not None]


def sums(held: Sequence[Any]) -> list[Any]:
    """Return clients' balances and counters."""
    return [
        (key, {name: value for name, value in fields.items() if name != b"v"})
        for key, fields in held
        if isinstance(fields, dict)
    ]


def begins(now: Any, then: Any) -> bool:
    """Return whether a value is one of then, with nothing but further fields behind those of its lists."""
    if isinstance(then, list) and isinstance(now, list):
        return len(now) >= len(then) and all(map(begins, now, then))
    return bool(now == then)


def as_then(records: Sequence[Any], like: Sequence[Any], *, before_life: bool) -> list[Any]:
    """Return records with what is written otherwise now as the version of then did; like: its records.

    The tag of marks is another. Before the life of packages a client's change was written as its state,
    where the file has it so; and a change had no hints, members and history.
    """
    changes = any(isinstance(understood([(name, raw) for name, raw in one[2]]), ChangeRecord) for one in like)
    found = []
    for record in records:
        said = understood([(name, raw) for name, raw in record[2]])
        then: Any = None
        if isinstance(said, Mark):
            _, *fields = msgspec.msgpack.decode(record[2][0][1])
            tagged = ["mark", *fields[:MARK_FIELDS]] if before_life else ["mark_v3", *fields]
            then = record[0], record[1], [(CONTROL_HEADER, msgspec.msgpack.encode(tagged))]
        elif isinstance(said, ChangeRecord) and not changes:
            of = said.topic, said.offset, said.index, said.client, said.version, said.state
            then = state_record(StateRecord(*of, []))
        elif isinstance(said, ChangeRecord) and before_life:
            assert (said.hints, said.members, said.history) == ([], [], [])
            assert (said.upon, said.instead) == ([], [])
            fields = msgspec.msgpack.decode(record[2][0][1])
            then = record[0], record[1], [(CONTROL_HEADER, msgspec.msgpack.encode(fields[:-5]))]
        found.append(record if then is None else read(json.loads(json.dumps(told(then)))))
    return found


@pytest.mark.parametrize("killed", KILLED)
def test_kept_outcomes_are_read(killed: Killed) -> None:
    """Each outcome that the earlier version kept is read as what it was: record, digests, result, effects."""
    file, one = killed
    found = json.loads(json.dumps(told(kept(state_of(one), before_life=file in BEFORE_LIFE))))
    assert len(found) == len(killed[1]["kept"])
    for one, then in zip(found, killed[1]["kept"], strict=True):
        assert one == then


@pytest.mark.parametrize("killed", KILLED)
def test_kept_outcomes_are_rendered_as_decided(killed: Killed) -> None:
    """What is kept gives the bytes that would have been published if the worker had lived, each once."""
    published = [value for _, value in values(read(killed[1]["journal"]))]
    rendered = []
    for _, _, entry, result in decisions(state_of(killed[1])):
        if not isinstance(result, DrawResult):
            rendered += [] if result is None else [one.value for one in result.transactions]
        elif result.outcome == Outcome.RATED:
            kept_of = _context.decode(entry.context)
            rendered.append(
                transaction_module.rendered(kept_of, kept_of.head, kept_of.rate, kept_of.limits, result)
            )
    waiting = [digest(one) for one in rendered if one not in published]
    assert sorted(waiting) == sorted(killed[0]["drawn"])


@pytest.mark.parametrize("killed", KILLED)
def test_headers_are_read(killed: Killed) -> None:
    """Every header of the earlier journal is read, agrees with its record, and is the same written again."""
    kinds, before_life = set(), killed[0] in BEFORE_LIFE
    for key, value, headers in state_of(killed[1]).journal:
        said = understood(headers)
        kinds.add(type(said).__name__)
        if isinstance(said, Effect):
            transaction = json.loads(value or b"")
            assert said.client == transaction["client"] == (key or b"").decode()
            assert len(said.counters) == len(transaction.get("draws", ()))
            assert (said.index >= CHANGE_INDEX_MIN) == (transaction["type"] == "adjustment")
            assert effect_headers(said) == headers
        elif isinstance(said, StateRecord):
            assert state_record(said) == (key, value, headers)
        elif isinstance(said, Mark) and before_life:
            ((_, raw),) = control_record(said)[2]
            assert msgspec.msgpack.decode(raw)[: MARK_FIELDS + 1] == msgspec.msgpack.decode(headers[0][1])
        elif isinstance(said, ChangeRecord) and before_life:
            ((_, raw),) = change_record(said)[2]
            assert msgspec.msgpack.decode(raw)[:-5] == msgspec.msgpack.decode(headers[0][1])
        else:
            written = (
                change_record(said) if isinstance(said, ChangeRecord) else control_record(cast("Any", said))
            )
            assert written == (key, value, headers)
    states = {"StateRecord"} if killed[0] is RECORDED["kept-2026-11-29"] else {"StateRecord", "ChangeRecord"}
    assert kinds == {"Owner", "EarlierMark" if before_life else "GroupsMark", "Effect"} | states


@pytest.mark.parametrize("killed", KILLED)
def test_registers_are_read(killed: Killed) -> None:
    """Every client's register is read and gives a view; written again it says the same, and then more."""
    states = {key.split(":")[2]: raw for key, raw in state_of(killed[1]).redis if key.split(":")[1] == "r"}
    assert states.keys() == {"42", "43", "44", "45", "50", "51", "52", "V"}
    for client, raw in states.items():
        assert isinstance(raw, bytes)
        state = read_state(raw)
        assert state.id == ClientView(state).id == client
        assert begins(msgspec.msgpack.decode(write_state(state)), msgspec.msgpack.decode(raw))


def test_what_was_drawn_is_published_as_decided(taken: Taken) -> None:
    """What waits is found, published with the bytes of then and in their order, and is rejected as then."""
    then, now, drawn, before_life = taken
    assert now["pending"] == then["pending"]
    assert values(now["waiting"]["journal"]) == values(then["waiting"]["journal"])
    assert now["waiting"]["rejected"] == then["waiting"]["rejected"]
    # The load behind it tells of its package, which versions before the life of packages did not.
    told = [one for one in now["waiting"]["events"] if not (before_life and b"package_changed" in one[1])]
    assert told == then["waiting"]["events"]
    decided = [digest(value) for _, value in values(now["waiting"]["journal"])]
    assert sorted(decided) == sorted(drawn)


def test_calls_that_come_again_are_known(taken: Taken) -> None:
    """All calls once more add nothing, and new ones go on from the counters and balances of then.

    Client packages of then are taken over with the first call that meets them: changes that move no money.
    """
    then, now, drawn, before_life = taken
    assert with_values(now["again"]["journal"]) == with_values(then["again"]["journal"])
    assert now["again"]["rejected"] == then["again"]["rejected"]
    # Nor did these tell of percents.
    known = [one for one in now["again"]["events"] if not (before_life and b"limit_threshold" in one[1])]
    assert known == then["again"]["events"]
    new = [digest(value) for _, value in values(now["again"]["journal"])]
    assert len(set(new)) == len(new) > 0
    assert not set(new) & set(drawn)
    assert sums(now["sums"]) == sums(then["sums"])


def test_headers_are_written_as_then(taken: Taken) -> None:
    """Owner record, effects, and all of marks but the tag have the bytes of the earlier version."""
    then, now, _, before_life = taken
    like = then["waiting"]["journal"]
    assert as_then(now["taken"], like, before_life=before_life) == then["taken"]
    assert as_then(now["waiting"]["journal"], like, before_life=before_life) == then["waiting"]["journal"]
