"""A worker that rates natively: what it does about faults of the engine, and which one it tells of."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import fields
from typing import Any
from unittest.mock import AsyncMock, patch

import msgspec
import pytest
from engine_choice import rating_by
from msgspec.structs import replace

from fuzz import world
from fuzz.world import BUCKETS, LOADED_MS, Lane, load_of
from rater.app import native_engine
from rater.config import Settings, load
from rater.core.bucket.messages import bucket_of
from rater.core.clients.state import read_state, write_state
from rater.core.commands.records import ManifestBody
from rater.core.journal.outcomes import Pending, unpack_kept
from rater.core.line import reading, steps
from rater.core.line.batch import Batch
from rater.core.sources.source_map import SourceMap, compile_map
from rater.errors import Halt, Retake
from rater.metrics import Metrics
from rater.native import engine
from rater.native.holding import Native
from rater.worker.ahead import Ahead
from rater.worker.buckets import LaneBuckets
from rater.worker.commands import adopt
from rater.worker.line import Line

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


def before_the_steps(do: Callable[[], None]) -> Any:
    """Return a patch under which something happens when the engine has drawn and the steps have not begun."""
    real = Ahead._left  # noqa: SLF001 - that moment

    def then(ahead: Ahead) -> list[Any]:
        do()
        return real(ahead)

    return patch.object(Ahead, "_left", then)


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


async def test_both_engines_count_alike() -> None:
    """What a batch counts, for metrics, is the same whoever rates: records, sides, draws, when they came."""
    found = []
    for name in ("python", "native"):
        with rating_by(name):
            lane = Lane()
        await loaded(lane)
        counts = (await lane.rate([], [*CDRS, CDRS[0], b"{", cdr("42").replace(b"38050", b"999")])).counts
        found.append({one.name: getattr(counts, one.name) for one in fields(counts)})
    assert found[0] == found[1]
    assert found[0]["cdrs"] == sum(found[0]["arrivals"].values()) == 6


async def test_what_both_reject_is_no_fault(lane: Lane) -> None:
    """A rejected record is returned by the engine, and the reference says why."""
    await loaded(lane)
    batch = await lane.rate([], [*CDRS, b"{", cdr("other").replace(b'"42"', b'"nobody"')])
    assert len(batch.rejected) == 2
    assert batch.counts.returned == 0


async def test_what_was_to_be_rejected_until_its_client_came_is_no_fault(lane: Lane) -> None:
    """Another lane creates the client after the engine has looked: Python rates by what is there now."""
    await loaded(lane)
    of, bucket = lane.store.buckets, bucket_of("new", BUCKETS)
    [(rose, kept)] = [(one.states["42"], one.clients["42"]) for one in of if "42" in one.states]

    def come() -> None:
        of[bucket].states["new"] = write_state(replace(read_state(rose), id="new"))
        of[bucket].clients["new"] = deepcopy(kept)

    with before_the_steps(come):
        batch = await lane.rate([], [cdr("other").replace(b'"42"', b'"new"')])
    assert told(batch) == ["other"]
    assert batch.counts.returned == 0


LOCAL = """
format = "json"
[fields]
id = "id"
answered_at = {path = "at", format = "%Y-%m-%d %H:%M:%S", zone = "ZONE"}
duration = {path = "d", unit = "s"}
called = "to"
[orig]
client = "who"
"""


def by_zone(name: str) -> SourceMap:
    """Return a map that reads local times of a zone."""
    found = compile_map(LOCAL.replace("ZONE", name), "own", {"source": "s1"})
    assert isinstance(found, SourceMap), found
    return found


async def test_a_record_is_read_again_as_it_was_read_first(lane: Lane) -> None:
    """A load that the lane catches up with brings other rules of a zone, by which the call would be of later.

    The steps go on with the side that the engine took, and reject it as that: it is not lost.
    """
    await loaded(lane)
    maps = [by_zone("Etc/GMT-3"), by_zone("Etc/GMT+12")]
    record = {"id": "a", "at": "2026-09-15 02:00:00", "d": 60, "to": "380501234567", "who": "nobody"}
    with before_the_steps(maps.reverse), patch.object(LaneBuckets, "map_of", lambda *_: maps[0]):
        batch = await lane.rate([], [json.dumps(record).encode()])
    assert [dict(headers)["reason"] for _, _, headers in batch.rejected] == [b"client_unknown"]


@pytest.mark.parametrize("error", [ValueError("an odd catalog"), engine.Panic("an odd catalog")], ids=repr)
async def test_a_catalog_that_the_engine_cannot_read_is_rated_by_python(error: BaseException) -> None:
    """It goes on, and says so."""
    with rating_by("native"), patch("rater.native.holding.feeding.load", side_effect=error):
        lane = Lane()
        await loaded(lane)
        with patch.object(Native, "batch", side_effect=AssertionError("not asked")):
            assert len(told(await lane.rate([], CDRS))) == 3


async def test_a_lane_catches_up_with_a_catalog_that_the_engine_cannot_read(lane: Lane) -> None:
    """In the middle of a batch: Python goes on with it by that catalog, and the lane is not taken again."""
    await loaded(lane)
    bucket = lane.store.buckets[bucket_of("42", BUCKETS)]
    client = bucket.clients["42"]
    client.version = (client.version or 0) + 1
    ahead = replace(read_state(bucket.states["42"]), catalog=2, version=client.version)
    bucket.states["42"] = write_state(ahead)
    newer = load_of(2)
    base, body = 1000, msgspec.msgpack.decode(newer.content[newer.body], type=ManifestBody)
    for place in body.objects:
        place.offsets = [base + offset for offset in place.offsets]
    lane.content |= {base + offset: raw for offset, raw in newer.content.items()}
    lane.content[base + newer.body] = msgspec.msgpack.encode(body)

    async def caught_up(buckets: LaneBuckets, batch: Batch, version: int) -> None:
        await adopt(buckets, batch, version, base + newer.body)

    odd_catalog = patch.object(Native, "load", side_effect=ValueError("an odd catalog"))
    with odd_catalog, patch("rater.worker.ahead.catch_up", caught_up):
        batch = await lane.rate([], [*CDRS, b"{"])
    assert sorted(told(batch)) == [f"{GOOD}-1", f"{GOOD}-2", POISON]
    assert len(batch.rejected) == 1
    assert (batch.position.catalog, batch.counts.returned) == (2, 0)


async def test_what_a_replay_woke_stands_before_the_next_call() -> None:
    """A worker dies behind a draw that pays what is pending: the next call draws from what that opens."""
    rich = world.RICH.replace(b'balance: "50.00"', b'balance: "40.00"')
    with rating_by("native"), patch.object(world, "RICH", rich):
        load_ = load_of.__wrapped__()
        lane = Lane(load_.content)
        await lane.rate(load_.commands)
    pays = cdr("pays").replace(b'"orig"', b'"term"').replace(b"60000", b"6000000")
    calls = [pays.replace(b"2026-09-15T00", b"2026-09-14T22"), cdr("next").replace(b"38050", b"38044")]
    offset = lane.offset
    with patch.object(Line, "wake", new=AsyncMock()):
        await lane.rate([], calls[:1])
    kept = [
        one
        for bucket in lane.store.buckets
        for _, *outcome in bucket.kept(0)
        for one in unpack_kept(*outcome)
    ]
    lane.lane.standing.pending = {one.identity: one for one in kept if isinstance(one, Pending)}
    lane.offset = offset
    batch = await lane.rate([], calls)
    assert batch.counts.replayed == 1
    values = [json.loads(value or b"{}") for _, value, _ in batch.transactions]
    assert [one["amount"] for one in values if one.get("cdr", {}).get("id") == "next"] == ["0"]


async def test_a_panic_over_a_state_that_a_change_made_is_no_end(lane: Lane) -> None:
    """What Python has drawn stands; the client's state is fetched when the engine wants it again."""
    await loaded(lane)
    assert len(told(await lane.rate([], CDRS))) == 3
    native = lane.shared.native
    assert native is not None
    with patch.object(native, "_cache") as cache:
        cache.put.side_effect = engine.Panic("an odd state")
        native.changed("42", b"odd", keep=True)
    cache.forget.assert_called_once_with("42")


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
