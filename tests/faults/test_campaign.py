"""Every kind of fault on real Kafka, Redis and worker processes, under load; an auditor looks at what came out."""

from __future__ import annotations

import os
import time
from collections.abc import Awaitable, Callable

import pytest

from faults import auditor
from faults.kinds import KINDS, Kind
from faults.rig import Rig
from rater import app

pytestmark = pytest.mark.kafka

Start = Callable[..., Awaitable[Rig]]
Figure = Callable[[str], None]
SEED = int(os.environ.get("RATER_FAULT_SEED", "1"))
IN_A_ROW = 0.25
"""Share of faults that do not wait until the one before has healed."""


async def hurt(rig: Rig, kinds: list[Kind]) -> list[str]:
    """Do all these faults; between most of them, results have to go on. Returns what was done, with times."""
    told = []
    for kind in kinds:
        began = time.monotonic()
        await kind.do(rig)
        rig.revive()
        if rig.rng.random() >= IN_A_ROW:
            await rig.progress()
        told.append(f"{kind.name} {time.monotonic() - began:.1f}")
    return told


async def judged(rig: Rig, figure: Figure, what: str, done: list[str], began: float) -> None:
    """Wait until all is healed, audit, print the numbers, and fail with every finding."""
    healed_s = await rig.settled()
    verdict = auditor.audit(await rig.evidence())
    late = sorted(rig.watched.late_ms)
    figure(
        f"{what}: {len(done)} faults, {rig.sent} CDRs, {verdict.sides} sides, lost {verdict.lost}, "
        f"doubled {verdict.doubled}, drift {verdict.drift}, other findings "
        f"{len(verdict.found) - verdict.lost - verdict.doubled - verdict.drift}; settled after {healed_s:.1f} s, "
        f"latest result {late[-1] / 1000:.1f} s; {time.monotonic() - began:.0f} s; seed {SEED}"
    )
    assert not verdict.found, "\n".join([*done, *verdict.found[:50]])
    assert not rig.exits, "\n".join(rig.exits)
    told: list[str] = []
    assert await app.audit(rig.settings(), told.append) == 0, told


async def test_each_kind_once(start: Start, figure: Figure) -> None:
    """Each kind of fault once, in an order of the seed's: nothing lost, nothing doubled, no drift, all goes on."""
    began = time.monotonic()
    rig = await start(SEED)
    kinds = list(KINDS.values())
    rig.rng.shuffle(kinds)
    done = await hurt(rig, kinds)
    await judged(rig, figure, "each kind once", done, began)
