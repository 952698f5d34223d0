"""The journal and Redis of an earlier version, killed between draw and commit, are taken over.

tests/data/kept-2026-11-29.json was recorded by the version of that day, on its own code, by
`PYTHONPATH=$PWD/src:$PWD/tests python -m taken_over tests/data/kept-2026-11-29.json` (tests/taken_over.py
says what is in it). It is not to be written again by a later version: then it would prove nothing.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast
from uuid import uuid4

import msgspec
import pytest

from rater.core.bucket.messages import DrawResult, Outcome
from rater.core.clients.state import read_state, write_state
from rater.core.clients.views import ClientView
from rater.core.journal.records import (
    CHANGE_INDEX_MIN,
    ChangeRecord,
    Effect,
    StateRecord,
    effect_headers,
    state_record,
)
from rater.core.rating import transaction as transaction_module
from rater.stream.journal import control_record, understood
from taken_over import decisions, digest, inputs_of, kept, read, state_of, take_over, told

RECORDED = json.loads((Path(__file__).parent / "data" / "kept-2026-11-29.json").read_text("utf-8"))
KILLED: list[dict[str, Any]] = RECORDED["killed"]
NAMES = "once", "twice"

_context = msgspec.msgpack.Decoder(transaction_module.Context)


@pytest.fixture(scope="module", params=KILLED, ids=NAMES)
def taken(request: pytest.FixtureRequest, redis_url: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """What taking over published when it was recorded, and what it publishes now."""
    inputs, prefix = inputs_of(RECORDED["inputs"]), f"t{uuid4().hex[:12]}"
    now = take_over(redis_url, prefix, state_of(request.param), inputs)
    return read(request.param["published"]), read(json.loads(json.dumps(told(now))))


def values(records: Sequence[Any]) -> list[Any]:
    """Return keys and values of records, without those of ours that have none."""
    return [(key, value) for key, value, _ in records if value is not None]


def as_then(records: Sequence[Any]) -> list[Any]:
    """Return records with a client's change as the earlier version wrote it; its effect stands behind it."""
    found = []
    for record in records:
        said = understood([(name, raw) for name, raw in record[2]])
        if isinstance(said, ChangeRecord):
            state = StateRecord(
                said.topic, said.offset, said.index, said.client, said.version, said.state, []
            )
            found.append(read(json.loads(json.dumps(told(state_record(state))))))
        else:
            found.append(record)
    return found


@pytest.mark.parametrize("killed", KILLED, ids=NAMES)
def test_kept_outcomes_are_read(killed: dict[str, Any]) -> None:
    """Each outcome that the earlier version kept is read as what it was: record, digests, result, effects."""
    found = json.loads(json.dumps(told(kept(state_of(killed)))))
    assert len(found) == len(killed["kept"])
    for one, then in zip(found, killed["kept"], strict=True):
        assert one == then


@pytest.mark.parametrize("killed", KILLED, ids=NAMES)
def test_kept_outcomes_are_rendered_as_decided(killed: dict[str, Any]) -> None:
    """What is kept gives the bytes that would have been published if the worker had lived, each once."""
    published = [value for _, value in values(read(killed["journal"]))]
    rendered = []
    for _, _, entry, result in decisions(state_of(killed)):
        if not isinstance(result, DrawResult):
            rendered += [] if result is None else [one.value for one in result.transactions]
        elif result.outcome == Outcome.RATED:
            kept_of = _context.decode(entry.context)
            rendered.append(
                transaction_module.rendered(kept_of, kept_of.head, kept_of.rate, kept_of.limits, result)
            )
    waiting = [digest(one) for one in rendered if one not in published]
    assert sorted(waiting) == sorted(RECORDED["drawn"])


@pytest.mark.parametrize("killed", KILLED, ids=NAMES)
def test_headers_are_read(killed: dict[str, Any]) -> None:
    """Every header of the earlier journal is read, agrees with its record, and is the same written again."""
    kinds = set()
    for key, value, headers in state_of(killed).journal:
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
        else:
            assert control_record(cast("Any", said)) == (key, value, headers)
    assert kinds == {"Owner", "Mark", "StateRecord", "Effect"}


@pytest.mark.parametrize("killed", KILLED, ids=NAMES)
def test_registers_are_read(killed: dict[str, Any]) -> None:
    """Every client's register is read and gives a view; written again it has the same bytes."""
    states = {key.split(":")[2]: raw for key, raw in state_of(killed).redis if key.split(":")[1] == "r"}
    assert states.keys() == {"42", "43", "44", "45", "50", "51", "52", "V"}
    for client, raw in states.items():
        assert isinstance(raw, bytes)
        state = read_state(raw)
        assert state.id == ClientView(state).id == client
        assert write_state(state) == raw


def test_what_was_drawn_is_published_as_decided(taken: tuple[dict[str, Any], dict[str, Any]]) -> None:
    """What waits is found, published with the bytes of then and in their order, and is rejected as then."""
    then, now = taken
    assert now["pending"] == then["pending"]
    assert values(now["waiting"]["journal"]) == values(then["waiting"]["journal"])
    assert now["waiting"]["rejected"] == then["waiting"]["rejected"]
    assert now["waiting"]["events"] == then["waiting"]["events"]
    decided = [digest(value) for _, value in values(now["waiting"]["journal"])]
    assert sorted(decided) == sorted(RECORDED["drawn"])


def test_calls_that_come_again_are_known(taken: tuple[dict[str, Any], dict[str, Any]]) -> None:
    """All calls once more add nothing, and new ones go on from the counters and balances of then."""
    then, now = taken
    assert now["again"] == then["again"]
    new = [digest(value) for _, value in values(now["again"]["journal"])]
    assert len(set(new)) == len(new) > 0
    assert not set(new) & set(RECORDED["drawn"])
    assert now["sums"] == then["sums"]


def test_headers_are_written_as_then(taken: tuple[dict[str, Any], dict[str, Any]]) -> None:
    """Owner record, marks and effects have the bytes of the earlier version; a state is a change now."""
    then, now = taken
    assert now["taken"] == then["taken"]
    assert as_then(now["waiting"]["journal"]) == then["waiting"]["journal"]
    assert now["again"]["journal"] == then["again"]["journal"]
