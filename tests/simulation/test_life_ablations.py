"""The safeguards of the life of packages: each, switched off, makes a run go wrong that is right with it."""

from __future__ import annotations

from dataclasses import replace as replaced
from typing import Any
from unittest import mock

import pytest
from msgspec.structs import replace

from rater.core.bucket.model import _Draft
from rater.core.clients.planning import Plan
from rater.core.journal.outcomes import KeptChange
from rater.core.line import steps
from rater.core.line.batch import Side
from rater.core.line.due import Parted
from rater.worker.buckets import LaneBuckets
from simulation.life import LIFE, Life
from simulation.scenario import Profile
from simulation.test_ablations import check

pytestmark = pytest.mark.usefixtures("simulated")


def profile(name: str, **more: Any) -> Profile:
    """Return a profile of packages that live, with these faults only."""
    return replaced(LIFE, name=name, **{"faults": (0, 0), **more})


CRASHES = profile("life crashes", faults=(3, 6), weights={"crash": 1})
LOSSES = profile("life losses", faults=(1, 3), weights={"flush": 1, "lose_bucket": 1, "crash": 1})
PACKAGES = profile("life packages", faults=(1, 3), weights={"flush": 1}, second_load=1.0)
LANES = profile("life lanes", lanes=(2, 3), workers=(2,))


def test_due_work_before_a_call() -> None:
    """Without it a call is charged what the period that began before it covers."""

    def without(sides: list[Side], *_: object) -> Parted:
        return Parted(sides, [], [])

    check(mock.patch("rater.worker.line.part", without), profile("life"), "L4", Life)


def test_a_kept_change_is_published() -> None:
    """Without replaying it, a change that was drawn and not published is in no journal."""
    replay = steps.replay

    def without(batch: Any, record: Any, decided: Any) -> None:
        if not isinstance(decided, KeptChange):
            replay(batch, record, decided)

    check(mock.patch.object(steps, "replay", without), CRASHES, "I2 I12", Life)


def test_condition_on_the_balance() -> None:
    """Without it a plan for a balance that nobody has is carried out: fees are paid with money that lacks."""
    change = _Draft.change

    def without(self: Any, write: Any) -> None:
        change(self, replace(write, least=-(2**53), most=2**53))

    check(mock.patch.object(_Draft, "change", without), profile("life"), "C", Life)


def test_version_of_a_client() -> None:
    """Without asking for it, two lanes that find the same due both do it."""
    admit = _Draft.admit

    def without(self: Any, request: Any) -> Any:
        stale = admit(self, request)
        return stale if stale is None else []

    check(mock.patch.object(_Draft, "admit", without), LANES, "I1 I2 I3 I12 L3", Life)


def test_key_of_a_command() -> None:
    """Without its counter, a command that comes again is carried out again."""
    counter = Plan.counter

    def without(self: Plan, field: str) -> int:
        value = counter(self, field)
        if field.startswith("key."):
            self._asked[field] = self._asked[field]._replace(least=-(2**53), most=2**53)
            return 0
        return value

    check(mock.patch.object(Plan, "counter", without), profile("life"), "I3 L6", Life)


@pytest.mark.parametrize(
    ("what", "faults", "wanted"),
    [("hints", LOSSES, "D"), ("members", PACKAGES, "L8"), ("history", LOSSES, "L1")],
    ids=["hints", "members", "history"],
)
def test_what_a_rebuild_brings(what: str, faults: Profile, wanted: str) -> None:
    """Without these, what is due after a loss is not found; nor who waits for a package; nor old periods."""
    reconcile = LaneBuckets.reconcile

    async def without(self: LaneBuckets, bucket: int, given: Any) -> None:
        nothing: dict[str, Any] = {what: []}
        await reconcile(self, bucket, replace(given, **nothing))

    check(mock.patch.object(LaneBuckets, "reconcile", without), faults, wanted, Life)


def test_packages_that_change() -> None:
    """Without telling their clients, what waits for a disabled package waits for ever."""
    check(mock.patch("rater.worker.commands.changed_packages", return_value=[]), PACKAGES, "L8", Life)


def test_usage_wakes() -> None:
    """Without trying again when usage raises a balance, what waits for it goes on waiting."""

    async def without(*_: object) -> int:
        return 0

    check(mock.patch.object(LaneBuckets, "wake", without), profile("life"), "L8 C", Life)
