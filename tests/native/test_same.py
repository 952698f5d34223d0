"""Both engines do the same, byte for byte (README.md, The native engine)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fuzz.targets
from fuzz.mutating import Mutator
from fuzz.targets import TARGETS
from fuzz.world import LOADED_MS
from native import cases, dates, driven, interleaved, worlds
from native.reading import LANE_MS, WINDOW_MS, Readers, record
from native.shadow import SEEN
from rater.core.catalog.specs import Content
from rater.core.instants import EPOCH
from rater.core.number_text import _ASCII, digits_of, replaced
from rater.core.periods import Span, after, local_of
from rater.core.zones import Zones, installed
from rater.native import engine, feeding

READ_BATCHES, READ_RECORDS, MUTATED = 60, 200, 4000
CASES, WORLDS, INTERLEAVED, DRIVEN, DATES = 12, 25, 60, 15, 400
SECONDS = timedelta(seconds=1)


@pytest.fixture(scope="module")
def readers() -> Readers:
    """Both engines."""
    return Readers()


def test_records_are_taken_alike(readers: Readers) -> None:
    """What is right is read alike, what is not is returned, side by side."""
    before = SEEN.sides
    for seed in range(READ_BATCHES):
        rng = Random(f"reading {seed}")  # noqa: S311 - the same again
        readers.compare([record(rng) for _ in range(READ_RECORDS)])
    assert SEEN.sides - before > READ_BATCHES * READ_RECORDS // 10


def test_mutated_records_are_taken_alike(readers: Readers) -> None:
    """The fuzzer's records, made of good ones and those that ever failed."""
    target, raws = TARGETS["cdrs"], list[bytes | None]()
    seeds = target.seeds()
    for number in range(MUTATED):
        rng = Random(f"mutated {number}")  # noqa: S311 - the same again
        raws.append(target.mutate(Mutator(rng), rng.choice(seeds)))
    raws += [
        path.read_bytes()
        for path in sorted((Path(fuzz.targets.__file__).parent / "corpus" / "cdrs").glob("*"))
    ]
    readers.compare(raws, lane_ms=LOADED_MS)


def test_the_lanes_time_bounds_calls_alike(readers: Readers) -> None:
    """A lane that has no time yet takes what the calendar takes."""
    rng = Random("no time")  # noqa: S311 - the same again
    readers.compare([record(rng) for _ in range(2000)], lane_ms=0)


def test_what_is_no_record_is_returned(readers: Readers) -> None:
    """Tombstones, nothing, bytes that are no UTF-8, and what is too large."""
    readers.compare([None, b"", b" ", b"\xff", b"null", b"[]", b'"x"', b"{", b"{}", b" " * 70_000, b"1"])


@given(st.binary(max_size=80))
@settings(max_examples=300)
def test_bytes_of_any_kind_are_taken_alike(raw: bytes) -> None:
    """Nothing that is read natively is refused by the reference, nor the other way."""
    ANY.compare(
        [
            raw,
            b'{"id":"a","called":"1","answered_at":"2026-09-21T13:00:00Z","duration_ms":1,"orig":{},"x":'
            + raw
            + b"}",
        ]
    )


ANY = Readers()


def test_every_character_of_numbers_is_read_alike() -> None:
    """Beyond the planes that are looked at, no character is read as another."""
    known = replaced()
    assert all(_ASCII[code] == code or chr(code) in known for code in range(0x80, 0x110000))


@given(
    st.text(
        alphabet=st.sampled_from(" +-()0123456789\t\n\u0661\uff0b\u00a0\u2013\u200e\u20e3a.\u3000\U000e0101"),
        max_size=20,
    )
)
@settings(max_examples=2000)
def test_numbers_are_read_alike(text: str) -> None:
    """Digits with blanks, hyphens, parentheses, zeros that are not dialled, of all scripts."""
    assert CACHE.digits_of(text) == digits_of(text)


CACHE = feeding.new_cache()


@pytest.mark.parametrize("first", ["A", "E", "other"])
def test_every_transition_of_every_zone(first: str) -> None:
    """Local times and instants around each change of each zone's clock, by the TZif that Python reads."""
    zones, checked = Zones([installed()]), 0
    for name, raw in installed().rules.items():
        if (name[0] if name[0] in "AE" else "other") != first:
            continue
        zone, native = zones.latest(name), engine.Zone(raw)
        for at_ms in _moments(zone):
            local = local_of(at_ms, zone)
            local_ms = (local.replace(tzinfo=UTC) - EPOCH) // timedelta(milliseconds=1)
            assert native.local_of(at_ms) == local_ms, (name, at_ms)
            for shifted in (local_ms, local_ms - 1_800_000, local_ms + 3_600_000):
                asked = (EPOCH + timedelta(milliseconds=shifted)).replace(tzinfo=zone, fold=0)
                expected = (asked.astimezone(UTC) - EPOCH) // timedelta(milliseconds=1)
                assert native.instant_of(shifted) == expected, (name, shifted)
            checked += 1
    assert checked > 1000


def _moments(zone: ZoneInfo) -> list[int]:
    """Return instants around each change of the clock from 1850 to 2100, to the second, and some between."""
    found: list[int] = []
    begin, step = datetime(1850, 1, 1, tzinfo=UTC), timedelta(days=20)
    offset = begin.astimezone(zone).utcoffset()
    at = begin
    while at.year <= 2100:
        at += step
        new = at.astimezone(zone).utcoffset()
        if new != offset:
            low, high = at - step, at
            while high - low > SECONDS:
                middle = low + (high - low) // 2 // SECONDS * SECONDS
                low, high = (middle, high) if middle.astimezone(zone).utcoffset() == offset else (low, middle)
            seconds = (high - EPOCH) // SECONDS
            found += [(seconds + n) * 1000 for n in (-3600, -1, 0, 1, 1800, 3600)]
            offset = new
    return found


@given(
    st.sampled_from(
        ["UTC", "Europe/Kyiv", "America/New_York", "Australia/Lord_Howe", "Africa/Cairo", "America/Santiago"]
    ),
    st.integers(min_value=0, max_value=4_000_000_000_000),
    st.integers(min_value=1, max_value=400),
)
def test_spans_are_counted_alike(name: str, at_ms: int, days: int) -> None:
    """Days and months later by the calendar of a zone."""
    zone, native = Zones([installed()]).latest(name), engine.Zone(installed().rules[name])
    expected = after(at_ms, Span(days, "day"), zone)
    assert expected is not None
    assert native.later(at_ms, days, 1) == after(expected, Span(1, "month"), zone)


@pytest.mark.parametrize("seed", range(WORLDS))
def test_worlds_are_rated_alike(seed: int) -> None:
    """Made-up catalogs and lives, calls, and whatever a draw may answer."""
    worlds.compare(seed, batches_max=2, records=200)


def test_dates_are_met_alike() -> None:
    """Lives about loads that move the dates of their packages: what is open, and what is due before calls."""
    for seed in range(DATES):
        dates.compare(seed)


@pytest.mark.parametrize("seed", range(INTERLEAVED))
def test_batches_in_any_order_are_rated_alike(seed: int) -> None:
    """Two batches under way; stores answer that views are old, that there is more, that something is due."""
    interleaved.compare(seed)


@pytest.mark.parametrize("seed", range(CASES))
def test_the_line_decides_alike(seed: int) -> None:
    """The oracle's cases: any cut, stale views, crashes, lanes in turns."""
    cases.compare(seed, size=20)


@pytest.mark.parametrize("seed", range(DRIVEN))
def test_a_line_that_is_driven_natively(seed: int) -> None:
    """The engine draws: due work and rejected sides go through the steps, and nothing overtakes."""
    driven.compare(seed, size=20)


def test_a_panic_is_an_exception() -> None:
    """A sum that does not fit is no other sum: the call ends with an exception, and the engine goes on."""
    batch, catalog = engine.Batch(CACHE, 0, -(2**63), 1), feeding.load(Content(), 1)
    with pytest.raises(engine.Panic):
        batch.decode(catalog, "t", [b"{}"], [0], [0])
    assert engine.Batch(CACHE, 0, 1, 1).decode(catalog, "t", [b"{}"], [0], [0]) == [0]


def test_what_is_told_wrongly_is_refused() -> None:
    """Lists of other lengths, no results, requests and catalogs that are none: ValueError."""
    batch, catalog = engine.Batch(CACHE, 0, 1, 1), feeding.load(Content(), 1)
    with pytest.raises(ValueError, match="of the same records"):
        batch.decode(catalog, "t", [b"{}"], [0, 1], [0])
    with pytest.raises(ValueError, match="no such request"):
        batch.settle(0, b"\x91\x00")
    with pytest.raises(ValueError, match="no results"):
        batch.settle(0, b"\xc1")
    with pytest.raises(ValueError, match="no such request"):
        batch.again(3, [])
    with pytest.raises(ValueError, match="no main object"):
        engine.Catalog({}, 1, [], {}, {})
    with pytest.raises(ValueError, match="main"):
        engine.Catalog({"main": b"\xc1"}, 1, [], {}, {})


def test_a_register_that_cannot_be_read_is_returned() -> None:
    """Its client's sides go to the steps, which say what is wrong."""
    batch, catalog = engine.Batch(CACHE, 0, LANE_MS, WINDOW_MS), feeding.load(Content(), 1)
    assert batch.decode(catalog, "t", [GOOD], [0], [LANE_MS]) == []
    assert batch.identify(catalog) == (["42"], [], 0)
    batch.learn(["42"], [], {"42": b"\x93\xa1"}, {})
    assert batch.identify(catalog) == ([], [], 0)
    assert batch.prepare(catalog, 1, []) == ([], [], 0)
    assert batch.requests() == []
    assert batch.returned() == [(0, 0)]


GOOD = (
    b'{"id":"a","called":"380441234567","answered_at":"2026-09-21T13:00:00Z","duration_ms":1000,'
    b'"orig":{"client":"42"}}'
)


def test_all_of_it_is_compared() -> None:
    """Worlds reach every kind of thing that is published; the runs above may have been another process's."""
    for seed in range(WORLDS):
        worlds.compare(seed, batches_max=2, records=200)
        if min(SEEN.sides, SEEN.requests, SEEN.transactions, SEEN.events, SEEN.fees, SEEN.returned) > 0:
            return
    raise AssertionError(SEEN)
