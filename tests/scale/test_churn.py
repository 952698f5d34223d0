"""Workers join and leave every few seconds, as where a scheduler moves them, on a cluster under load."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Awaitable, Callable

import pytest

from faults.rig import Rig, started
from rater.local.redis import Flavour
from scale.cluster import Cluster
from scale.test_clusters import flowing, judged

pytestmark = [pytest.mark.kafka, pytest.mark.long]

Start = Callable[..., Awaitable[Rig]]
StartCluster = Callable[[Flavour], Awaitable[Cluster]]
Figure = Callable[[str], None]
SECONDS = float(os.environ.get("RATER_CHURN_SECONDS", "60"))
REST_S = 1.0, 4.0
"""Between two of these."""


@pytest.mark.fault("F10")
async def test_workers_join_and_leave(start: Start, start_cluster: StartCluster, figure: Figure) -> None:
    """Each few seconds one joins, is told to end, or is killed; of three places one at least is taken."""
    rig, cluster = await flowing(start, start_cluster, "valkey", 45)
    rig.least = 1
    done = {"joined": 0, "drained": 0, "killed": 0}
    until = time.monotonic() + SECONDS
    while time.monotonic() < until:
        slot = rig.rng.choice(rig.slots)
        if not slot.alive:
            rig.launch(slot)
            done["joined"] += 1
        elif len(rig.running()) > 1 and rig.rng.random() < 2 / 3:
            await started(slot)
            assert await rig.end(slot, signal.SIGTERM) == 0
            done["drained"] += 1
        elif len(rig.running()) > 1:
            await rig.end(slot)
            done["killed"] += 1
        await asyncio.sleep(rig.rng.uniform(*REST_S))
    began = time.monotonic()
    await rig.progress(everywhere=True)
    told = ", ".join(f"{count} {what}" for what, count in done.items())
    what = (
        f"workers in {SECONDS:g} s: {told}; all lanes go on {time.monotonic() - began:.1f} s after the last"
    )
    await judged(rig, cluster, figure, what, store_kept=True)
