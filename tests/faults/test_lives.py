"""Packages that live while workers die and take over, and Redis forgets: each fee, period, event once.

RATER_FAULT_SEED chooses other packages, commands, faults and moments; RATER_FAULT_MINUTES how long the long
runs are.
"""

from __future__ import annotations

import json
import logging
import time
from collections import Counter
from collections.abc import Awaitable, Callable

import pytest

from faults import auditor, lives
from faults.hooked import CHANGE_POINTS
from faults.kinds import KINDS, Fault, at_a_point
from faults.life_auditor import audit_lives, made_again
from faults.measured import MINUTES
from faults.rig import BUCKETS, PARTITIONS, Order, Rig, until
from faults.test_campaign import SEED
from rater import app

pytestmark = pytest.mark.kafka

log = logging.getLogger(__name__)
Start = Callable[..., Awaitable[Rig]]
Figure = Callable[[str], None]

RATE_PER_S = 60
LONG = {
    "clock_jumps",
    "broker_killed",
    "broker_restarted",
    "broker_frozen",
    "broker_disk_full",
    "records_sent_again",
}
"""Kinds that are left out: by a clock that jumps a lane's time goes a day ahead and periods with it, and a
broker that is away may take a command that we sent twice."""


def at_a_change(number: str, name: str) -> Fault:
    """Return the fault of a worker that sends itself a signal at a point of changing a client."""

    async def fault(rig: Rig) -> None:
        await at_a_point(rig, number, name)

    fault.__name__ = f"{number.lower()}_{name.replace(' ', '_')}"
    return fault


KILLED = [at_a_change("SIGKILL", name) for name in CHANGE_POINTS]
FROZEN = [at_a_change("SIGSTOP", name) for name in CHANGE_POINTS]


async def hurt(rig: Rig, fault: Fault) -> str:
    """Do a fault; returns it with its time. Half of the time the next one comes before it has healed."""
    began = time.monotonic()
    await fault(rig)
    rig.revive()
    if rig.rng.random() < 0.5:
        await rig.progress(20)
    told = f"{fault.__name__}: {time.monotonic() - began:.1f} s"
    log.info("%s", told)
    return told


async def all_due(rig: Rig) -> int:
    """Stop the load and have all done that is due; returns up to when, in ms."""
    await rig.settled()
    at_s = time.time()
    lanes = {bucket % PARTITIONS for bucket in range(BUCKETS)}
    for lane in lanes:
        tick = {"id": f"last-{lane}", "do": "tick", "at": lives.rfc3339(at_s)}
        await rig.order(Order(json.dumps(tick).encode(), lane))
    want = {f"last-{lane}" for lane in lanes}

    async def done() -> bool:
        rig.revive()
        events, _ = await auditor.read_topic(rig.servers.bootstrap, rig.topics.events, PARTITIONS)
        results = (json.loads(one.value) for one in events if one.value)
        return want <= {one["cause"] for one in results if one["type"] == "command_done"}

    await until(done, f"all that is due is done; {rig.told()}")
    return int(at_s) * 1000


async def judged(rig: Rig, figure: Figure, what: str, done: list[str], *, store_kept: bool) -> None:
    """Wait until all is healed and done, audit, print the numbers, and fail with every finding."""
    at_ms = await all_due(rig)
    evidence = await rig.evidence(store_kept=store_kept)
    verdict = auditor.audit(evidence)
    found = [*verdict.found, *audit_lives(evidence, at_ms)]
    kinds = Counter(json.loads(one.value)["type"] for one in evidence.events if one.value)
    told = ", ".join(
        f"{kinds[name]} {name}" for name in ("activated", "renewed", "renewed_late", "command_done")
    )
    figure(
        f"lives, {what}: {len(done) - rig.missed} faults, {verdict}; {told}; findings {len(found)}, "
        f"{made_again(evidence)} changes made again, seed {SEED}"
    )
    assert not found, "\n".join([*done, *found[:50]])
    assert not rig.exits, "\n".join([*done, *rig.exits])
    ledger = await app.audit(rig.settings())
    assert not ledger.findings, ledger.findings
    for kind in ("activated", "renewed", "charge_pending", "charge_cleared", "command_done"):
        assert kinds[kind], f"nothing was {kind}: it shows nothing"


async def killed_and_flushed(rig: Rig) -> None:
    """A worker dies at a point of a change, and Redis forgets all at that moment."""
    await rig.rng.choice(KILLED)(rig)
    await KINDS["redis_flushed"].do(rig)


@pytest.mark.fault("F1", "F3", "F4", "F26")
@pytest.mark.parametrize("lossy", [False, True], ids=["store-kept", "store-lost"])
async def test_killed_while_packages_live(start: Start, figure: Figure, *, lossy: bool) -> None:
    """Killed at points of a change, taken over by the other; in the second run Redis forgets as well."""
    rig = await start(SEED, catalog=lives.catalog(SEED, 30), source=lives.traffic(SEED))
    rig.rate_per_s = RATE_PER_S
    faults = [killed_and_flushed] * 2 if lossy else [*rig.rng.sample(KILLED, 3), rig.rng.choice(FROZEN)]
    rig.rng.shuffle(faults)
    done = [await hurt(rig, fault) for fault in faults]
    await judged(rig, figure, "store lost" if lossy else "store kept", done, store_kept=not lossy)


@pytest.mark.long
@pytest.mark.fault("F1", "F3", "F4", "F26")
@pytest.mark.parametrize("lossy", [False, True], ids=["store-kept", "store-lost"])
async def test_killed_while_packages_live_for_long(start: Start, figure: Figure, *, lossy: bool) -> None:
    """All kinds of faults for minutes, at points of changes most often."""
    run_s = (MINUTES or 10) * 60
    rig = await start(SEED, catalog=lives.catalog(SEED, run_s), source=lives.traffic(SEED))
    rig.rate_per_s = RATE_PER_S
    others: list[Fault] = [
        kind.do for kind in KINDS.values() if kind.name not in LONG and (lossy or kind.family != "loss")
    ]
    faults: list[list[Fault]] = [KILLED, FROZEN, others]
    if lossy:
        faults.append([killed_and_flushed])
    done: list[str] = []
    end = time.monotonic() + run_s
    while time.monotonic() < end:
        done.append(await hurt(rig, rig.rng.choice(rig.rng.choice(faults))))
    await judged(rig, figure, f"{run_s:.0f} s", done, store_kept=not lossy)
