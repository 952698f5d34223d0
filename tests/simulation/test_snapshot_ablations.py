"""Each safeguard of snapshots (PROTOCOL.md 3, rule 17), switched off, makes runs go wrong."""

from __future__ import annotations

from typing import Any
from unittest import mock

import pytest
from msgspec.structs import replace

from rater.core.bucket.messages import FenceReply
from rater.core.journal import snapshots
from rater.core.journal.reconciling import Effects
from rater.stream.snapshots import SnapshotIndex
from rater.worker import restoring, takeover
from rater.worker.restoring import InPlace
from simulation.test_ablations import check, profile

pytestmark = pytest.mark.usefixtures("simulated")

WRONG = "I2 I3 I4 I12 not"
LOSSES = profile(
    "lost with snapshots", weights={"flush": 2, "lose_bucket": 1, "crash": 1}, snapshots_s=(1,), cdrs=(30, 60)
)
SLOW = profile(
    "slow with snapshots", weights={"flush": 3, "freeze": 2, "noise": 2}, noise=("end_held", "store_slow"),
    snapshots_s=(1,), cdrs=(30, 60), faults=(3, 7),
)  # fmt: skip


def test_kept_outcomes() -> None:
    """Without taking off what is kept, what was drawn and not published yet is there twice."""
    nothing = mock.patch.object(snapshots, "effects", return_value=Effects(0, {}))
    check(nothing, LOSSES, WRONG)


def test_positions() -> None:
    """Without positions, what lies between the round's floors and a client's snapshot is added again."""
    settled = restoring._settled  # noqa: SLF001 - what is switched off

    async def without(*args: Any) -> InPlace:
        place = await settled(*args)
        return place if place.included is None else InPlace(place.fenced, lambda _: 0)

    check(mock.patch.object(restoring, "_settled", without), LOSSES, WRONG)


def test_floors_of_the_round() -> None:
    """Floors of a round's end in place of its beginning: clients that were read before lack the rest."""
    usable = SnapshotIndex.usable

    def without(self: SnapshotIndex, bucket: int) -> Any:
        found = usable(self, bucket)
        if found is None:
            return None
        every = [placed.positions for placed in self.clients[bucket].values()]
        return replace_round(found, tuple(map(max, zip(found.positions, *every, strict=True))))

    def replace_round(found: Any, positions: tuple[int, ...]) -> Any:
        return replace(found, positions=positions)

    check(mock.patch.object(SnapshotIndex, "usable", without), LOSSES, WRONG)


def test_waiting_for_the_lane_that_puts_in_place() -> None:
    """Without it, a lane adds to a bucket what is replaced by snapshots, or is in them."""
    put = restoring.put_in_place

    async def without(buckets: Any, fenced: list[FenceReply], indexes: Any) -> list[InPlace]:
        if buckets.lane.number == 0:
            return await put(buckets, fenced, indexes)
        return [InPlace(reply) for reply in fenced]

    check(
        mock.patch.object(takeover, "put_in_place", without),
        replace_profile(lanes=(2,), buckets=(1,)), f"{WRONG} worker",
    )  # fmt: skip


def replace_profile(**more: Any) -> Any:
    """Return LOSSES with other settings."""
    return profile(**{**vars(LOSSES), **more})


def test_clients_with_kept_changes_wait() -> None:
    """A register with a change that may never be published: it is not decided again."""
    check(mock.patch.object(snapshots, "unsettled_clients", return_value=set()), SLOW, WRONG)
