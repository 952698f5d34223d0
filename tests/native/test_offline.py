"""Jobs rate in memory: the native bucket draws as the twin does, and `NativeRater` publishes as `Rater`."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from golden.steps import StepCase, load_step_cases, tick
from native import buckets, offline
from native.shadow import same
from rater.core.bucket.messages import ClientWrite, CounterChange, DrawRequest, Status
from rater.core.instants import DAY_MS, HOUR_MS, milliseconds, rfc3339
from rater.core.offline import Duplicate, Rater, Record, Transaction
from rater.core.reasons import Reason, Rejection
from rater.core.sources.source_map import SourceMap, compile_map
from rater.errors import Halt
from rater.jobs.native_rating import BATCH_RECORDS, NativeRater
from rater.native import engine

BUCKETS, SCENARIOS, SIZE = 40, 30, 40
NOW_MS = milliseconds(datetime(2026, 11, 5, 10, tzinfo=UTC))
CATALOG = """
currencies: {base: USD}
rate_tables:
  - {name: carrier, currency: USD, rates: [{code: "1", price: "0.02", min_time: 60, interval: 60}]}
clients:
  - {id: "42", name: Rose, currency: USD, balance: "4.97",
     rate_tables: {term: {calls: carrier}, orig: {calls: carrier}}}
  - {id: "43", name: Tom, currency: USD, balance: "1", rate_tables: {orig: {calls: carrier}}}
packages:
  - {id: P, name: P, type: customer, currency: USD, period: 1 month,
     fees: [{type: subscription, name: Monthly, rate: "5.00"}],
     limits: [{type: volume, service: calls, code: "*", limit: 90}]}
client_packages:
  - {id: "3", client: "42", package: P}
"""
CASES = load_step_cases()


@pytest.mark.parametrize("seed", range(BUCKETS))
def test_calls_of_a_bucket_are_carried_out_alike(seed: int) -> None:
    """Changes, draws, fees, duplicates, sums as only a fault leaves them, numbers beyond doubles."""
    buckets.compare(seed)


@pytest.mark.parametrize("seed", range(SCENARIOS))
def test_records_are_rated_alike(seed: int) -> None:
    """Scenarios of calls and of lives, in batches of any size."""
    offline.compare(seed, SIZE)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_golden_cases_are_rated_alike(case: StepCase) -> None:
    """The golden cases in steps; calls that follow each other are one batch."""
    raters = both(notices=case.settings.notices)
    waiting: list[Record] = []
    for number, step in enumerate(case.steps):
        if step.kind == "cdr":
            waiting.append(Record(step.value, step.at_ms, number))
            continue
        rate(raters, waiting)
        waiting = []
        for rater in raters:
            if step.kind == "load":
                rater.load([(f"{case.name}.yaml", step.value)], step.at_ms)
            else:
                raw = step.value if step.kind == "command" else tick(str(number), rfc3339(step.at_ms), {})
                rater.command(raw, step.at_ms)
    rate(raters, waiting)
    for client in raters[0].states:
        same("balance", *[rater.balance(client) for rater in raters], client)
        same("counters", *[offline.some(rater.used(client)) for rater in raters], client)


def rate(raters: tuple[Rater, NativeRater], records: list[Record]) -> None:
    """Rate a batch by both, and compare also what came before it."""
    expected, found = [rater.rate_all(records) for rater in raters]
    same("records", expected, found)
    taken, told = [tuple(map(offline.by_client, rater.take())) for rater in raters]
    same("changes", taken, told)


def both(window_ms: int = 7 * DAY_MS, **given: Any) -> tuple[Rater, NativeRater]:
    """Return a rater of each kind."""
    return Rater(window_ms, **given), NativeRater(window_ms, **given)


def loaded(window_ms: int = 7 * DAY_MS) -> tuple[Rater, NativeRater]:
    """Return a rater of each kind, with the catalog."""
    raters = both(window_ms)
    for rater in raters:
        assert rater.load([("c.yaml", CATALOG.encode())], NOW_MS - 4 * DAY_MS) == []
        rater.take()
    return raters


def call(name: str, at_ms: int = NOW_MS, side: str = "orig", **fields: Any) -> Record:
    """Return the record of a call of a minute, which comes at once."""
    row = {
        "id": name, "called": "12125550100", "duration_ms": 60_000, "answered_at": rfc3339(at_ms),
        side: {"client": "42"}, **fields,
    }  # fmt: skip
    return Record(json.dumps(row).encode(), at_ms)


def test_what_a_call_wakes_stands_before_the_next() -> None:
    """A call that pays its client clears a charge in the middle of a batch, and the next one draws on it."""
    records = [
        call(name, NOW_MS + at * 1000, side)
        for at, (name, side) in enumerate((("a", "term"), ("b", "term"), ("c", "orig"), ("d", "orig")))
    ]
    reference, native = loaded()
    expected = reference.rate_all(records)
    assert native.rate_all(records) == expected
    amounts = [json.loads(one.value)["amount"] for (one,) in expected if isinstance(one, Transaction)]
    assert amounts == ["0.02", "0.02", "0", "0"]
    found = reference.take()
    assert [json.loads(one)["type"] for one in found[0]] == ["subscription_fee"]
    assert native.take() == found
    assert native.balance("42") == reference.balance("42")


def test_the_last_call_of_a_batch_may_wake() -> None:
    """What it wakes is done though no call of the client follows."""
    records = [call("a", NOW_MS, "term"), call("b", NOW_MS + 1000, "term")]
    reference, native = loaded()
    assert native.rate_all(records) == reference.rate_all(records)
    expected = reference.take()
    assert [json.loads(one)["type"] for one in expected[0]] == ["subscription_fee"]
    assert native.take() == expected


def test_sides_of_a_record_may_go_two_ways() -> None:
    """One side is rated natively, the other is rejected by the steps: orig comes first, each once."""
    records = [
        call("a", orig={"client": "nobody"}, term={"client": "42"}),
        call("b", orig={"client": "43"}, term={"client": "43"}),
        call("c", orig={"client": "43"}, term={"client": 7}),
        Record(None, NOW_MS), Record(b"{", NOW_MS),
    ]  # fmt: skip
    reference, native = loaded()
    expected = reference.rate_all(records)
    assert [[type(one) for one in sides] for sides in expected] == [
        [Rejection, Transaction], [Transaction, Rejection], [Transaction, Rejection], [Rejection],
        [Rejection],
    ]  # fmt: skip
    assert native.rate_all(records) == expected


def test_duplicates_are_found_generation_by_generation() -> None:
    """Within a batch, in another one, with other content; and not when the window is long past."""
    generation_ms = DAY_MS + HOUR_MS
    later = NOW_MS + 5 * generation_ms
    records = [
        call("a"), call("a"), call("a", called="12125550101"), call("a", NOW_MS + generation_ms),
        call("a", later), call("a", later), call("b", later),
    ]  # fmt: skip
    reference, native = loaded(DAY_MS)
    expected = reference.rate_all(records)
    kinds = [type(one) for (one,) in expected]
    assert kinds == [Transaction, Duplicate, Rejection, Rejection, Transaction, Duplicate, Transaction]
    assert native.rate_all(records) == expected
    assert len(native.held) == 2  # of generations that are asked no more nothing is kept
    assert native.rate_all([call("b", later)]) == [[Duplicate("orig")]]


def test_calls_that_are_known_to_come_once() -> None:
    """No duplicates are kept or looked for."""
    rater = NativeRater(unique=True)
    assert rater.load([("c.yaml", CATALOG.encode())], NOW_MS) == []
    first, second = rater.rate_all([call("a"), call("a")])
    assert isinstance(first[0], Transaction)
    assert isinstance(second[0], Transaction)
    assert len(rater.held) == 0
    assert rater.balance("42") == 4_970_000 - 40_000


def test_more_than_a_batch() -> None:
    """Batches follow each other: a call of the second may be one of the first."""
    records = [call(str(number)) for number in range(BATCH_RECORDS)]
    reference, native = loaded()
    assert native.rate_all([*records, records[0], call("last")]) == reference.rate_all(
        [*records, records[0], call("last")]
    )
    assert native.balance("42") == reference.balance("42")


def test_a_catalog_that_the_engine_cannot_read_is_rated_by_the_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """What comes is the same, from the same bucket."""
    reference, native = loaded()
    monkeypatch.setattr(native, "_engine_catalog", lambda: None)
    records = [call("a"), call("a"), call("b", side="term")]
    assert native.rate_all(records) == reference.rate_all(records)
    assert native.balance("42") == reference.balance("42")


def test_a_panic_before_the_draw_is_rated_by_the_steps() -> None:
    """Of a batch over which the engine panics the steps rate each record; nobody sees it."""
    reference, native = loaded()
    for rater in (reference, native):
        rater.standing.lane_ms = -(2**63)  # a time that no lane has: the engine's sums overflow
    records = [call("a"), call("a")]
    assert native.rate_all(records) == reference.rate_all(records)
    assert native.standing.lane_ms == reference.standing.lane_ms


@pytest.mark.parametrize("blind", [True, False])
def test_what_the_engine_alone_rejects_is_counted(blind: bool, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: FBT001
    """The steps rate it, and the log tells of the engine's fault; what both reject is none."""

    class Blind:
        """An engine that reads no record."""

        def __init__(self, of: Any) -> None:
            self.of = of

        def decode(self, by: Any, topic: str, values: Any, *rest: Any, **more: Any) -> Any:
            return self.of.decode(by, topic, [None for _ in values], *rest, **more)

        def __getattr__(self, name: str) -> Any:
            return getattr(self.of, name)

    reference, native = loaded()
    made = native._native.batch  # noqa: SLF001 - the engine that fails
    if blind:
        monkeypatch.setattr(native._native, "batch", lambda *args, **more: Blind(made(*args, **more)))  # noqa: SLF001
    records = [call("a"), call("b", orig={"client": "nobody"}), call("c"), Record(b"{", NOW_MS)]
    assert native.rate_all(records) == reference.rate_all(records)
    assert native.returned == (2 if blind else 0)


def test_a_panic_in_the_draw_stops_with_a_sentence() -> None:
    """What the bucket holds may be half done: the job ends, and says what to do."""
    _, native = loaded()
    write = ClientWrite("42", 1, 2, b"", counters=[CounterChange("1.1.a", 0, 2**53, 2**63 - 1)])
    native.held.put("42", 1, 0, {"1.1.a": 5})
    request = DrawRequest(0, 0, 1, 0, 0, 0, 0, [write], [], [], [], b"")
    with pytest.raises(Halt, match="run it again with RATER_WORKER__ENGINE=python"):
        native.ask(request)


def test_what_is_no_call_of_a_bucket_is_refused() -> None:
    """ValueError, and nothing was changed."""
    bucket = engine.Bucket()
    with pytest.raises(ValueError, match=r"beyond 2\^62"):
        bucket.put("42", 1, 2**62 + 1, {})
    bucket.put("42", 1, 7, {"1.1.a": 3})
    with pytest.raises(ValueError, match="no call of rater_v4_draw"):
        bucket.draw(["{0}:g"], [0, 0, 1, b"\xc1", b"", b""])
    with pytest.raises(ValueError, match="8 bytes"):
        bucket.remember(1, b"short", b"1234")
    assert bucket.client("42") == (1, 7, {"1.1.a": 3})
    assert bucket.client("43") is None


def test_a_client_that_is_not_there_is_lost() -> None:
    """As where a store was emptied."""
    _, native = loaded()
    request = DrawRequest(0, 0, 4, 0, 0, 0, 0, [ClientWrite("nobody", 3, 4, b"")], [], [], [], b"")
    reply = native.ask(request)
    assert (reply.status, reply.number) == (Status.LOST, 4)


MAP = """
format = "json"
[fields]
id = "id"
answered_at = {path = "at", format = "iso"}
duration = {path = "d", unit = "s"}
called = "to"
[orig]
client = "who"
"""


def test_records_of_a_switch_are_read_by_its_map() -> None:
    """Rows that are no calls, and those that cannot be read, go by the steps."""
    source_map = compile_map(MAP, "own", {"source": "s1"})
    assert isinstance(source_map, SourceMap), source_map
    records = [
        Record(json.dumps(row).encode(), NOW_MS)
        for row in (
            {"id": "a", "to": "12125550100", "d": 60, "at": rfc3339(NOW_MS), "who": "42"},
            {"id": "a", "to": "12125550100", "d": 60, "at": rfc3339(NOW_MS), "who": "42"},
            {"id": "b", "to": "12125550100", "d": -1, "at": rfc3339(NOW_MS), "who": "42"},
            {"id": "c", "to": "12125550100", "d": 60, "at": rfc3339(NOW_MS), "who": "nobody"},
        )
    ]
    reference, native = loaded()
    expected = reference.rate_all(records, source_map)
    assert native.rate_all(records, source_map) == expected
    assert isinstance(expected[0][0], Transaction)
    assert [one.reason for sides in expected for one in sides if isinstance(one, Rejection)][-1] is (
        Reason.CLIENT_UNKNOWN
    )
