"""Every kind of fault on real Kafka, Redis and worker processes, under load; then the auditor looks.

RATER_FAULT_SEED chooses another order and other moments; RATER_FAULT_KINDS some kinds (names with commas)
for the long runs, RATER_FAULT_TIMES how often each of them.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Awaitable, Callable

import pytest

from faults import auditor
from faults.kinds import KINDS, Family, Kind
from faults.rig import Rig
from rater import app

pytestmark = pytest.mark.kafka

log = logging.getLogger(__name__)
Start = Callable[..., Awaitable[Rig]]
Figure = Callable[[str], None]
SEED = int(os.environ.get("RATER_FAULT_SEED", "1"))
CHOSEN = [name for name in os.environ.get("RATER_FAULT_KINDS", "").split(",") if name]
TIMES = int(os.environ.get("RATER_FAULT_TIMES", "0"))
HEALING = (0.5, 0.75)
"""Before the next fault: up to the first share every lane has to go on, up to the second some lane."""


async def hurt(rig: Rig, kinds: list[Kind], healing: tuple[float, float] = HEALING) -> list[str]:
    """Do all these faults, in an order of the seed's; returns what was done."""
    told = []
    rig.rng.shuffle(kinds)
    for number, kind in enumerate(kinds, 1):
        began = time.monotonic()
        await kind.do(rig)
        rig.revive()
        dice = rig.rng.random()
        if dice < healing[1]:
            await rig.progress(everywhere=dice < healing[0])
        told.append(f"{kind.name}: {time.monotonic() - began:.1f} s")
        log.info("%d of %d: %s", number, len(kinds), told[-1])
    return told


async def judged(
    rig: Rig, figure: Figure, what: str, done: list[str], began: float, *, store_kept: bool
) -> None:
    """Wait until all is healed, audit, print the numbers, and fail with every finding."""
    healed_s = await rig.settled()
    verdict = auditor.audit(await rig.evidence(store_kept=store_kept))
    figure(
        f"{what}: {len(done) - rig.missed} faults, {rig.sent} CDRs, {verdict}; settled after "
        f"{healed_s:.1f} s; {rig.lateness()}; {time.monotonic() - began:.0f} s, seed {SEED}"
    )
    assert not verdict.found, "\n".join([*done, *verdict.found[:50]])
    assert not rig.exits, "\n".join([*done, *rig.exits])
    ledger = await app.audit(rig.settings())
    assert not ledger.findings_total, ledger.findings


@pytest.mark.parametrize("lossy", [False, True], ids=["store-kept", "store-lost"])
async def test_each_quick_kind_once(start: Start, figure: Figure, *, lossy: bool) -> None:
    """Each quick kind of fault once: nothing lost, doubled, drifted or overdrawn, and all goes on."""
    began = time.monotonic()
    rig = await start(SEED)
    done = await hurt(
        rig, [kind for kind in KINDS.values() if kind.quick and (kind.family == "loss") is lossy], (0.0, 0.5)
    )
    await judged(rig, figure, f"once, store {'lost' if lossy else 'kept'}", done, began, store_kept=not lossy)


@pytest.mark.long
@pytest.mark.parametrize("family", ["worker", "kafka", "redis", "loss"])
async def test_a_family_again_and_again(start: Start, figure: Figure, family: Family) -> None:
    """All kinds that hurt workers, Kafka, Redis, or what Redis remembers, many times each."""
    began = time.monotonic()
    chosen = [
        kind for kind in KINDS.values() if kind.family == family and (not CHOSEN or kind.name in CHOSEN)
    ]
    if not chosen:
        pytest.skip("RATER_FAULT_KINDS names none of these")
    rig = await start(SEED)
    rig.rate_per_s = 100 if family == "loss" else 250  # each loss reads the whole journal again
    done = await hurt(rig, [kind for kind in chosen for _ in range(TIMES or kind.times)])
    await judged(rig, figure, family, done, began, store_kept=family != "loss")


@pytest.mark.long
@pytest.mark.fault("F42")
async def test_all_kinds_mixed(start: Start, figure: Figure) -> None:
    """Every kind twice, in any order, most of them before the one before has healed."""
    if CHOSEN:
        pytest.skip("RATER_FAULT_KINDS chooses some only")
    began = time.monotonic()
    rig = await start(SEED + 1)
    rig.rate_per_s = 100
    done = await hurt(rig, [kind for kind in KINDS.values() for _ in range(2)], (0.2, 0.5))
    await judged(rig, figure, "all kinds mixed", done, began, store_kept=False)
