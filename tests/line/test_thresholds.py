"""What calls tell beside their transactions, on real servers: each crossing once, whichever lane has it."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from typing import Any

import pytest

from line.conftest import SOON
from line.test_life import MINUTE_MS, NOW_MS, SystemOf, call, catalog, checked, events
from rater.core.instants import HOUR_MS
from rater.worker.process import Worker

pytestmark = pytest.mark.kafka

TOLD = {"limit_threshold": [50, 80, 100], "low_balance": [None]}


def marked() -> bytes:
    """Return a catalog whose client has 600 s, then pays, and is low below 49.00 of 50.00."""
    whole = json.loads(catalog(fees=[]))
    whole["clients"][0]["low_balance"] = "49"
    return json.dumps(whole).encode()


def calls(lane: int) -> list[tuple[bytes, int]]:
    """Return calls of 400 s in all: with those of two lanes 600 are used up, and 2.00 are paid."""
    return [call(f"{lane}-{n}", "c0", -20 * MINUTE_MS + n * 1000, 20) for n in range(20)]


async def told(system: Any) -> dict[str, list[Any]]:
    """Return the percents and crossings that calls told of, in their order."""
    found: dict[str, list[Any]] = {}
    for event in sorted(await events(system), key=lambda event: (event["data"] or {}).get("percent", 0)):
        if event["type"] in ("limit_threshold", "low_balance", "balance_restored"):
            found.setdefault(event["type"], []).append((event["data"] or {}).get("percent"))
            assert (event["client"], event["actor"]) == ("c0", None)
            assert event["cause"].startswith(f"{system.topics.cdrs}/")
    return found


async def those_of_their_calls(system: Any) -> None:
    """Each event's id is that of a transaction, and the draw of this one crosses what the event tells."""
    usage = {f"{t['id']}/1": t for t in await system.transactions() if t["type"] == "usage"}
    for event in await events(system):
        if event["type"] != "limit_threshold":
            continue
        of, percent = event["id"].split("/limit_threshold/m/")
        (draw,) = usage[of]["draws"]
        after = 600 - int(draw["left"])
        assert after - int(draw["taken"]) < 6 * int(percent) <= after, event


async def test_crossings_under_two_lanes(system_of: SystemOf) -> None:
    """Calls of one client come in two lanes: each percent is told by one of them, and the low balance."""
    system = await system_of(partitions=2)
    async with system.worker():
        await system.load(marked(), at_ms=NOW_MS - HOUR_MS // 2)
        for lane in range(2):
            await system.send(calls(lane), partition=lane)
        await system.settled()
        assert await told(system) == TOLD
        await those_of_their_calls(system)
    await checked(system)


@pytest.mark.parametrize("draws", [1, 2])
async def test_a_crossing_that_was_drawn_and_not_published(draws: int, system_of: SystemOf) -> None:
    """A worker is killed when the bucket has decided: the next one tells it, by the same ids."""
    system = await system_of(partitions=2, environ=SOON)
    async with system.worker():
        await system.load(marked(), at_ms=NOW_MS - HOUR_MS // 2)
    for lane in range(2):
        await system.send(calls(lane), partition=lane)
    killed = system.start_worker(f"after a draw:{draws}:SIGKILL")
    await asyncio.to_thread(killed.wait, 60)
    assert killed.returncode == -9
    async with system.worker() as worker:
        await system.settled()
        assert await told(system) == TOLD
        await those_of_their_calls(system)
        assert metric(worker, "rater_replayed_total") > 0
    await checked(system)


def metric(worker: Worker, name: str) -> float:
    """Return what a metric of the worker says."""
    lines = worker.shared.connections.metrics.exposition().decode().splitlines()
    (line,) = [line for line in lines if line.startswith(f"{name} ")]
    return float(line.split()[-1])


async def test_volume_that_expires_is_told_by_the_clock(system_of: SystemOf) -> None:
    """Of each of 150 clients once, though no call comes; and once more of the period that follows."""
    environ = {"RATER_EVENTS__EXPIRING_NOTICE_HOURS": "24", "RATER_EVENTS__LIMIT_PERCENTS": ""}
    system = await system_of(partitions=2, environ=environ)
    async with system.worker() as worker:
        await system.load(catalog(150), at_ms=NOW_MS - HOUR_MS - MINUTE_MS)

        async def all_told() -> bool:
            return Counter(event["type"] for event in await events(system))["limit_expiring"] >= 300

        await system.until(all_told)
        found = [event for event in await events(system) if event["type"] == "limit_expiring"]
        assert Counter((event["client"], event["period"]) for event in found) == Counter(
            (f"c{n}", period) for n in range(150) for period in (1, 2)
        )
        await system.send([call("a", "c0", -MINUTE_MS // 2, 10)])
        await system.settled()
        assert await told(system) == {}
        assert metric(worker, 'rater_events_total{type="limit_expiring"}') == 300
        assert metric(worker, 'rater_renewals_total{outcome="renewed"}') == 150
        assert worker.overdue() == 0
    await checked(system)
