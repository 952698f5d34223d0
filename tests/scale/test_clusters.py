"""A cluster with replicas is hurt and changed under load: nothing is lost or doubled, and all goes on.

What a replica had not got when it was promoted is the protocol's business: buckets that fell back are brought
to the journal before anything new is decided in them (PROTOCOL.md 2, rule 5).
"""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import Awaitable, Callable

import pytest

from faults import auditor
from faults.rig import Rig
from rater import app
from rater.local.redis import Flavour, Redis
from scale.cluster import NODE_TIMEOUT_MS, Cluster, ask, slot_of

pytestmark = [pytest.mark.kafka, pytest.mark.long]

Start = Callable[..., Awaitable[Rig]]
StartCluster = Callable[[Flavour], Awaitable[Cluster]]
Figure = Callable[[str], None]

flavours = pytest.mark.parametrize("flavour", ["redis", "valkey"])
BUCKETS = 6
"""Two or so at each primary."""
MOVED, OTHER = 3, 4
"""Buckets of two primaries."""
REST_S = 5.0
"""So long a slot rests half moved."""
AWAY_S = 6.0


async def flowing(
    start: Start, start_cluster: StartCluster, flavour: Flavour, seed: int
) -> tuple[Rig, Cluster]:
    """Start an installation under load on a cluster."""
    cluster = await start_cluster(flavour)
    rig = await start(seed, cluster=cluster.urls, buckets=BUCKETS)
    await rig.progress(everywhere=True)
    return rig, cluster


async def again(rig: Rig, since: float) -> str:
    """Wait until every lane goes on; return how long it took since a moment, as it is printed."""
    await rig.progress(everywhere=True)
    return f"{time.monotonic() - since:.1f} s"


async def judged(rig: Rig, cluster: Cluster, figure: Figure, what: str, *, store_kept: bool) -> None:
    """Wait until all is healed, then let both auditors look: ours, and the product's."""
    await cluster.sound()
    healed_s = await rig.settled()
    rig.cluster = [node.url for node in await cluster.primaries()]
    verdict = auditor.audit(await rig.evidence(store_kept=store_kept))
    figure(f"{what}: {verdict}; settled after {healed_s:.1f} s; {rig.lateness()}")
    assert not verdict.found, "\n".join(verdict.found[:50])
    assert not rig.exits, "\n".join(rig.exits)
    ledger = await app.audit(rig.settings())
    assert not ledger.findings_total, ledger.findings


async def cut_off(replica: Redis) -> None:
    """Let a replica get no more writes, and yet stand for election: it may not log in at its primary."""
    await ask(replica, "CONFIG", "SET", "masterauth", "none")
    await ask(replica, "CLIENT", "KILL", "TYPE", "master")


@pytest.mark.fault("F28")
@flavours
async def test_nodes_fail(
    start: Start, start_cluster: StartCluster, figure: Figure, flavour: Flavour
) -> None:
    """A replica hangs; a primary hangs, is killed, is killed when its replica is behind, hands over."""
    rig, cluster = await flowing(start, start_cluster, flavour, 41)
    slot, told = slot_of(MOVED), []
    primary = await cluster.primary(slot)
    replica = await cluster.replica(primary)
    with cluster.frozen(replica):
        await asyncio.sleep(2 * NODE_TIMEOUT_MS / 1000)
        began = time.monotonic()
        told.append(f"frozen replica {await again(rig, began)}")
    await cluster.sound()

    began = time.monotonic()
    with cluster.frozen(primary):
        leads = await cluster.led_by_another(slot, primary)
        told.append(f"frozen primary {await again(rig, began)}")
    await cluster.sound()
    await rig.progress(everywhere=True)

    began = time.monotonic()
    await asyncio.to_thread(leads.kill)
    await cluster.led_by_another(slot, leads)
    told.append(f"killed primary {await again(rig, began)}")
    await asyncio.to_thread(leads.restart)
    await cluster.sound()

    primary = await cluster.primary(slot)
    replica = await cluster.replica(primary)
    await cut_off(replica)
    await rig.progress(300, everywhere=True)  # these writes it never gets
    began = time.monotonic()
    await asyncio.to_thread(primary.kill)
    await cluster.led_by_another(slot, primary)
    told.append(f"replica behind {await again(rig, began)}")
    await ask(replica, "CONFIG", "SET", "masterauth", "")
    await asyncio.to_thread(primary.restart)
    await cluster.sound()

    began = time.monotonic()
    await ask(primary, "CLUSTER", "FAILOVER")
    await cluster.led_by_another(slot, replica)
    told.append(f"handed over {await again(rig, began)}")
    what = f"{flavour} cluster, all lanes go on after: {', '.join(told)}"
    await judged(rig, cluster, figure, what, store_kept=False)


@pytest.mark.fault("F33")
@flavours
async def test_slots_move(
    start: Start, start_cluster: StartCluster, figure: Figure, flavour: Flavour
) -> None:
    """A bucket's slot moves key by key, half done for seconds; Valkey moves it back at once."""
    rig, cluster = await flowing(start, start_cluster, flavour, 42)
    slot, told = slot_of(MOVED), []
    source, target = await cluster.primary(slot), await cluster.primary(slot_of(OTHER))
    for to in (target, source):
        began = time.monotonic()
        await cluster.move_by_keys(slot, to, REST_S)
        told.append(f"key by key {await again(rig, began)}")
    if flavour == "valkey":
        for to in (target, source):
            began = time.monotonic()
            await cluster.move_at_once(slot, to)
            told.append(f"at once {await again(rig, began)}")
    what = f"{flavour} cluster, slot moved, all lanes go on after: {', '.join(told)}"
    await judged(rig, cluster, figure, what, store_kept=True)


@pytest.mark.fault("F32")
@flavours
async def test_functions_are_loaded_wherever_they_lack(
    start: Start, start_cluster: StartCluster, figure: Figure, flavour: Flavour
) -> None:
    """A node joins and gets a bucket, a primary loses its functions, an empty replica leads."""
    rig, cluster = await flowing(start, start_cluster, flavour, 43)
    slot = slot_of(MOVED)
    joined = await cluster.join()
    assert await ask(joined, "FUNCTION", "LIST") == []
    await cluster.move_by_keys(slot, joined, 0)
    await rig.progress(everywhere=True)
    assert len(await ask(joined, "FUNCTION", "LIST")) == 1
    primary = await cluster.primary(slot_of(OTHER))
    await ask(primary, "FUNCTION", "FLUSH")
    await rig.progress(everywhere=True)
    replica = await cluster.replica(primary)
    for node in (replica, primary):
        await asyncio.to_thread(node.kill)
    shutil.rmtree(replica.folder / "appendonlydir")
    began = time.monotonic()
    await asyncio.to_thread(replica.restart)
    leads = await cluster.led_by_another(slot_of(OTHER), primary)
    assert leads is replica
    told = await again(rig, began)
    assert len(await ask(replica, "FUNCTION", "LIST")) == 1
    await asyncio.to_thread(primary.restart)
    what = f"{flavour} cluster, an empty replica leads, all lanes go on after: {told}"
    await judged(rig, cluster, figure, what, store_kept=False)


@flavours
async def test_too_few_replicas(
    start: Start, start_cluster: StartCluster, figure: Figure, flavour: Flavour
) -> None:
    """Where min-replicas-to-write asks for a replica that hangs, workers wait, and take no lane anew."""
    rig, cluster = await flowing(start, start_cluster, flavour, 44)
    for node in cluster.nodes:
        await ask(node, "CONFIG", "SET", "min-replicas-max-lag", "2")
        await ask(node, "CONFIG", "SET", "min-replicas-to-write", "1")
    await rig.progress(everywhere=True)
    owners, primary = len(rig.watched.owners), await cluster.primary(slot_of(MOVED))
    with cluster.frozen(await cluster.replica(primary)):
        await asyncio.sleep(AWAY_S)
    told = await again(rig, time.monotonic())
    refused = (await ask(primary, "INFO", "errorstats"))["errorstat_NOREPLICAS"]["count"]
    assert len(rig.watched.owners) == owners, "a lane was taken anew"
    what = (
        f"{flavour} cluster, {refused} calls refused for lack of a replica, all lanes go on {told} after it"
    )
    await judged(rig, cluster, figure, what, store_kept=True)
