"""A worker that rates natively: what it does about faults of the engine, and which one it tells of."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any
from unittest.mock import patch

import pytest
from engine_choice import rating_by

from fuzz.world import LOADED_MS, Lane, load_of
from rater.app import native_engine
from rater.config import Settings, load
from rater.core.line import reading, steps
from rater.core.line.batch import Batch
from rater.errors import Halt, Retake
from rater.metrics import Metrics
from rater.native import engine
from rater.native.holding import Native

GOOD, POISON = "good", "poison"


def cdr(name: str) -> bytes:
    """Return a call that is rated."""
    return json.dumps({
        "id": name, "called": "380501234567", "answered_at": "2026-09-15T00:00:00Z", "duration_ms": 60_000,
        "orig": {"client": "42"},
    }).encode()  # fmt: skip


CDRS = [cdr(f"{GOOD}-1"), cdr(POISON), cdr(f"{GOOD}-2")]


class Odd:
    """An engine's batch in which one step fails."""

    def __init__(self, rating: Any, step: str, fail: Callable[[Any], None]) -> None:
        self._rating, self._step, self._fail = rating, step, fail
        self._poisoned = False

    def decode(self, catalog: Any, topic: str, values: list[bytes | None], *rest: Any, **more: Any) -> Any:
        """Take records, and note whether the one is among them."""
        self._poisoned |= any(POISON.encode() in (value or b"") for value in values)
        if self._step == "blind":
            values = [None if POISON.encode() in (value or b"") else value for value in values]
        elif self._step == "decode" and self._poisoned:
            self._fail(None)
        return self._rating.decode(catalog, topic, values, *rest, **more)

    def __getattr__(self, name: str) -> Any:
        if name == self._step and self._poisoned:
            return lambda *_: self._fail(None)
        return getattr(self._rating, name)


def panics(_: Any) -> None:
    """Fail as the engine does."""
    raise engine.Panic("index out of bounds")


@pytest.fixture
def lane() -> Iterator[Lane]:
    """A lane that rates natively, by a catalog."""
    with rating_by("native"):
        yield Lane()


async def loaded(lane: Lane) -> None:
    """Load the catalog and its clients."""
    await lane.rate(load_of().commands)


def odd(lane: Lane, step: str, fail: Callable[[Any], None] = panics) -> Any:
    """Return a patch under which a step of the engine fails where the poison is."""
    native = lane.shared.native
    assert native is not None
    made = native.batch
    return patch.object(Native, "batch", lambda _, *args, **more: Odd(made(*args, **more), step, fail))


def outcomes(lane: Lane) -> list[dict[int, Any]]:
    """Return what the buckets keep of the lane."""
    return [dict(bucket.lanes[0].outcomes) for bucket in lane.store.buckets if 0 in bucket.lanes]


def told(batch: Batch) -> list[str]:
    """Return the ids of transactions' calls, in order."""
    values = [json.loads(value or b"") for _, value, _ in batch.transactions]
    return [value["cdr"]["id"] for value in values if value["type"] == "usage"]


@pytest.mark.parametrize("step", ["decode", "identify", "prepare", "requests", "packed"])
async def test_a_panic_is_the_lanes_and_python_rates_that_record_the_next_time(lane: Lane, step: str) -> None:
    """Nothing of the batch is kept; the record is named; at its second time the reference alone rates it."""
    await loaded(lane)
    kept = outcomes(lane)
    with odd(lane, step):
        offset = lane.offset
        with pytest.raises(Retake, match=rf"panicked over t\.cdrs\[0\]@{offset + 1} \(index out of bounds\)"):
            await lane.rate([], CDRS)
        assert outcomes(lane) == kept
        lane.offset = offset
        batch = await lane.rate([], CDRS)
    assert sorted(told(batch)) == [f"{GOOD}-1", f"{GOOD}-2", POISON]
    assert not batch.rejected
    assert batch.counts.returned == 0, "it was kept from the engine, which is no fault of reading"


async def test_a_panic_that_no_record_alone_brings_is_all_of_theirs(lane: Lane) -> None:
    """Where it is none alone, Python rates all of the batch the next time."""
    await loaded(lane)
    with odd(lane, "settle"):
        offset = lane.offset
        with pytest.raises(Retake, match=rf"t\.cdrs\[0\]@{offset} or one of the batch behind it"):
            await lane.rate([], CDRS)
    native = lane.shared.native
    assert native is not None
    assert not any(native.trusts(("t.cdrs", 0, offset + n)) for n in range(3))


@pytest.mark.parametrize(("module", "failing"), [(reading, "decode_cdr"), (steps, "price_of")])
async def test_what_neither_can_rate_is_rejected_with_its_bytes(
    lane: Lane, module: Any, failing: str
) -> None:
    """A record that is too much for both engines holds nothing up: it is malformed, and kept."""
    await loaded(lane)
    real = getattr(module, failing)

    def failed(raw: Any, *rest: Any) -> Any:
        if POISON in (raw.decode() if isinstance(raw, bytes) else raw.id):
            raise ArithmeticError("too much")
        return real(raw, *rest)

    with odd(lane, "identify"), patch.object(module, failing, failed):
        offset = lane.offset
        with pytest.raises(Retake):
            await lane.rate([], CDRS)
        lane.offset = offset
        batch = await lane.rate([], CDRS)
    assert told(batch) == [f"{GOOD}-1", f"{GOOD}-2"]
    [(_, value, headers)] = batch.rejected
    assert value == CDRS[1]
    assert dict(headers)["reason"] == b"malformed"
    assert b"ArithmeticError('too much')" in dict(headers)["detail"]


async def test_what_python_rates_and_the_engine_not_is_counted_as_its_fault(lane: Lane) -> None:
    """A record that the engine does not read is rated all the same, told of, and counted."""
    await loaded(lane)
    with odd(lane, "blind"):
        batch = await lane.rate([], CDRS)
    assert sorted(told(batch)) == [f"{GOOD}-1", f"{GOOD}-2", POISON]
    assert batch.counts.returned == 1
    metrics = Metrics()
    metrics.add(batch.counts, committed_ms=LOADED_MS)
    assert metrics.registry.get_sample_value("rater_engine_returned_total") == 1


async def test_what_both_reject_is_no_fault(lane: Lane) -> None:
    """A rejected record is returned by the engine, and the reference says why."""
    await loaded(lane)
    batch = await lane.rate([], [*CDRS, b"{", cdr("other").replace(b'"42"', b'"nobody"')])
    assert len(batch.rejected) == 2
    assert batch.counts.returned == 0


async def test_a_catalog_that_the_engine_cannot_read_is_rated_by_python() -> None:
    """It goes on, and says so."""
    with rating_by("native"), patch.object(Native, "load", side_effect=ValueError("an odd catalog")):
        lane = Lane()
        await loaded(lane)
        with patch.object(Native, "batch", side_effect=AssertionError("not asked")):
            assert len(told(await lane.rate([], CDRS))) == 3


def settings(engine_name: str) -> Settings:
    """Return settings that name an engine."""
    found = load(None, {}, {"worker.engine": engine_name})
    assert isinstance(found, Settings)
    return found


def test_the_setting_says_what_rates() -> None:
    """Auto is native where it can be; native is that or nothing; python is never anything else."""
    assert isinstance(native_engine(settings("auto")), Native)
    assert native_engine(settings("python")) == "worker.engine is python: Python rates"
    with patch.dict("sys.modules", {"rater.native.holding": None}):
        assert isinstance(native_engine(settings("auto")), str)
        with pytest.raises(Halt, match=r"worker\.engine is native, but"):
            native_engine(settings("native"))
