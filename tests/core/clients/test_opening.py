"""What moves from period to period, and what a version before left (RULES.md 3 and 4)."""

from __future__ import annotations

import json

import pytest
from histories import START_MS, Step, World
from hypothesis import given, settings
from hypothesis import strategies as st
from lives import lived
from msgspec.structs import replace

from rater.core.catalog.compiled import Catalog, compile_catalog
from rater.core.catalog.specs import (
    ClientEntry,
    ClientPackageSpec,
    ClientSpec,
    Content,
    FeeSpec,
    PackageHistory,
    PackageSpec,
)
from rater.core.clients.changes import Change
from rater.core.clients.earlier import KEPT_MS
from rater.core.clients.lifecycle import due_change
from rater.core.clients.loading import load_change
from rater.core.clients.planning import Cause, Known
from rater.core.clients.state import ClientState, Life, read_state
from rater.core.instants import DAY_MS, HOUR_MS, NEVER_MS, rfc3339
from rater.core.zones import installed

SIZE, CAP = 600, 180
"""Seconds of the limit of package `monthly`, and of what moves of it."""
MONTH = [0, 30, 61, 92, 120]
"""Days from the start to the same day of each month."""


def world_with(package: str) -> World:
    """Return a client with a package from the start on."""
    world = World("a", balance="1000.00")
    world.do("a", Step(0, "assign", 0, {"package": package}), 1)
    return world


def call(world: World, number: int, hour: int, seconds: int) -> list[tuple[str, bool, int]]:
    """Make a call; returns (limit, rolled, taken) of its draws, with the period in the limit's place."""
    world.do("a", Step(hour, "call", 0, ("380", "orig", seconds)), number)
    draws = [one for one in world.transactions if one["type"] == "usage"][-1]["draws"]
    return [(f"{one['period']}.{one['limit']}", one.get("rolled", False), int(one["taken"])) for one in draws]


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(st.integers(2, 24 * 119), st.integers(1, 399)), max_size=12).map(sorted))
def test_unused_volume_rolls_over(calls: list[tuple[int, int]]) -> None:
    """In order of time: what came over is taken first and moves no more; of the rest CAP at most moves."""
    world, period, rolled, left = world_with("monthly"), 1, 0, SIZE
    for number, (hour, seconds) in enumerate(calls):
        while period < len(MONTH) - 1 and hour * HOUR_MS >= MONTH[period] * DAY_MS:
            period, rolled, left = period + 1, min(left, CAP), SIZE
        first = min(rolled, seconds)
        second = min(left, seconds - first)
        wanted = [(f"{period}.m", True, first), (f"{period}.m", False, second)]
        assert call(world, number + 10, hour, seconds) == [one for one in wanted if one[2]]
        rolled, left = rolled - first, left - second


@pytest.mark.parametrize(("used", "found"), [(0, 420), (300, 120), (480, 0), (600, 0)])
def test_a_late_call_finds_what_did_not_move(used: int, found: int) -> None:
    """The old period keeps its size less what moved."""
    world = world_with("monthly")
    for number in range(used // 60):
        call(world, number, 50 + number, 60)
    world.tick(24 * 31)
    draws = call(world, 100, 24 * 20, 600)
    assert sum(taken for _, _, taken in draws) == found
    assert {name for name, _, _ in draws} <= {"1.m"}


def test_of_a_voided_period_nothing_moves() -> None:
    """Stopped now, it has no next one; renewed late, the last one that was opened gives."""
    world = World("a", balance="6.10")
    world.do("a", Step(0, "assign", 0, {"package": "monthly"}), 1)
    world.tick(24 * 40)  # the second fee waits for funds
    world.do("a", Step(24 * 70, "adjust", 0, {"amount": str(100 * 10**6)}), 2)
    (late,) = [one for one in world.events if one["type"] == "renewed_late"]
    assert (late["period"], late["after"]["period_start"]) == (2, rfc3339(START_MS + 61 * DAY_MS))
    assert call(world, 10, 24 * 71, 200) == [("2.m", True, CAP), ("2.m", False, 20)]
    world.do("a", Step(24 * 72, "stop_now", 0, {}), 3)
    assert call(world, 11, 24 * 71 + 5, 60) == []


# ------------------------------------------------------------------------------- coming from a version before
_SPANS = st.sampled_from(["1 hour", "1 day", "10 days", "1 month", "1 year"])


def before_lives(span: str, start: str, zone: str, end: str | None) -> tuple[ClientState, Catalog]:
    """Return a client as a version before left it: its package ran by the calendar, and cost nothing."""
    spec = PackageSpec("1", "n", "customer", "USD", period=span, fees=[FeeSpec("subscription", "f", "1")])
    history = PackageHistory([(0, spec)], [(0, "active")], assigned=True)
    catalog = compile_catalog(Content(base="USD", packages={"1": history}, zones=[installed()]), 1)
    held = ClientPackageSpec("3", "a", "1", start_date=start, end_date=end, activate_in_past=True)
    client = ClientSpec("a", currency="USD", time_zone=zone)
    change = load_change(
        None, ClientEntry("a", client, [held]), catalog, at_ms=START_MS, cause=Cause("load"),
        known=Known(10**12),
    )  # fmt: skip
    assert change is not None
    state = read_state(change.write.state)
    return replace(state, packages=[replace(state.packages[0], life=None)], due_ms=None), catalog


def due(state: ClientState, catalog: Catalog, now_ms: int) -> Change | None:
    """Return all that is due now."""
    return due_change(
        state, catalog, upto_ms=now_ms, now_ms=now_ms, known=Known(), cause=Cause("tick"), closing=True
    )


@settings(deadline=None, max_examples=60)
@given(
    _SPANS, st.integers(0, 15), st.sampled_from(["UTC", "Europe/Kyiv", "America/Havana"]),
    st.none() | st.integers(30, 400), st.integers(1, 300),
)  # fmt: skip
def test_what_a_version_before_left_goes_on(
    span: str, before: int, zone: str, end: int | None, days: int
) -> None:
    """Its periods are those that openings would have made, by number; none is charged, the next one is."""
    start = rfc3339(START_MS - before * DAY_MS)
    ends = None if end is None else rfc3339(START_MS + end * DAY_MS)
    old, catalog = before_lives(span, start, zone, ends)
    now_ms = START_MS + days * DAY_MS
    new = replace(old, packages=[replace(old.packages[0], life=lives_anew(old, catalog, now_ms))])
    wanted = new.packages[0].life
    change = due(old, catalog, now_ms)
    assert change is not None
    assert (change.transactions, change.write.delta) == ((), 0)
    state = read_state(change.write.state)
    life = state.packages[0].life
    assert life is not None
    assert wanted is not None
    over = old.packages[0].end_ms or NEVER_MS
    kept = [one for one in wanted.periods if min(one.stop_ms or NEVER_MS, over) > now_ms - KEPT_MS]
    found = [(one.number, one.start_ms, one.stop_ms) for one in life.periods]
    assert found == [(one.number, one.start_ms, one.stop_ms) for one in kept]
    assert {one.charged for one in life.periods} <= {()}
    if life.ended_ms is not None:
        assert (life.ended_ms, life.ended) == (wanted.ended_ms, wanted.ended) == (over, "expired")
        return
    assert (life.numbered, life.counted) == (wanted.numbered, wanted.counted)
    last = life.periods[-1].stop_ms
    assert last is not None
    change = due(state, catalog, last)
    assert change is not None
    ids = [json.loads(one.value)["id"] for one in change.transactions]
    assert ids == ([f"cp/3/{life.numbered + 1}/subscription_fee"] if over > last else [])


def lives_anew(old: ClientState, catalog: Catalog, now_ms: int) -> Life | None:
    """Return the life that the client package would have, had it been assigned to this version."""
    held = old.packages[0]
    spec = ClientPackageSpec(
        "3", "a", "1", start_date=held.start_date, end_date=held.end_date, activate_in_past=True
    )
    client = ClientSpec("a", currency="USD", time_zone=old.zone)
    change = load_change(
        None, ClientEntry("a", client, [spec]), catalog, at_ms=START_MS, cause=Cause("load"),
        known=Known(10**12),
    )  # fmt: skip
    assert change is not None
    return lived(read_state(change.write.state), catalog, now_ms).packages[0].life
