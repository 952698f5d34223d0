"""The golden cases through the real line: Kafka, Redis, a load and a worker."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import pytest

from golden.cases import Got, compare, load_cases
from golden.together import Tagged, edited_at, lanes, later_at, merged, tagged
from rater import app
from rater.core.instants import milliseconds
from rater.core.journal.records import Effect
from rater.core.rating import matching
from rater.jobs.audit import audit

pytestmark = pytest.mark.kafka

Place = tuple[int, int]
"""Partition and offset of a record."""
FOREVER_MS = 2**62


@pytest.mark.parametrize("first", [matching.FIRST_MAX, 1])
async def test_golden_cases(
    system_of: Callable[..., Awaitable[Any]], monkeypatch: pytest.MonkeyPatch, first: int
) -> None:
    """Each record of each case ends on real servers as its file expects, and the audit finds nothing.

    first: limits that a draw is asked with before all of them.
    """
    monkeypatch.setattr(matching, "FIRST_MAX", first)
    cases = tagged(load_cases())
    spread = lanes(cases)
    system = await system_of(partitions=len(spread))
    await allow_the_future(system)
    async with system.worker():
        await system.load(merged(cases), at_ms=milliseconds(later_at()), name="catalog.json")
        await system.load(merged(cases, edited=True), at_ms=milliseconds(edited_at()), name="edited.json")
        for partition, lane in enumerate(spread):
            await system.send([record for one in lane for record in one.case.records], partition=partition)
        await system.settled()
        outcomes = await ended(system)
        store = await app.connect_store(system.settings)
        try:
            assert list((await audit(system.client, system.topics, store)).findings) == []
        finally:
            await store.close()
    faults = {}
    for partition, lane in enumerate(spread):
        offset = 0
        for one in lane:
            count = len(one.case.records)
            got = [[plain(one, of) for of in outcomes[partition, offset + n]] for n in range(count)]
            faults[one.case.name] = compare(one.case, got, duplicates_shown=False)
            offset += count
    assert {name: of for name, of in faults.items() if of} == {}
    assert len(faults) == len(cases)


async def allow_the_future(system: Any) -> None:
    """Let the broker take records that are dated years ahead (see `together`); brokers refuse them."""
    later = {"message.timestamp.after.max.ms": str(FOREVER_MS)}
    await system.configure([spec.name for spec in system.topics.specs(1)], later)


async def ended(system: Any) -> dict[Place, list[Got]]:
    """Return what became of each record, by its place in the topic of CDRs."""
    found: dict[Place, list[Got]] = defaultdict(list)
    for record in await system.read(system.topics.transactions):
        effect = next((raw for name, raw in record.headers if name == "e"), None)
        if record.value is None or effect is None:
            continue
        cause = msgspec.msgpack.decode(effect, type=Effect)
        if cause.topic == system.topics.cdrs:
            transaction = msgspec.json.decode(record.value)
            found[cause.partition, cause.offset].append(("transaction", transaction["side"], transaction))
    for record in await system.rejected():
        headers = {name: value.decode() for name, value in record.headers}
        place = int(headers["source_partition"]), int(headers["source_offset"])
        about = {"reason": headers["reason"], "value": headers["value"]}
        found[place].append(("rejected", headers["side"] or None, about))
    return found


def plain(one: Tagged, got: Got) -> Got:
    """Return an outcome with the case's own ids."""
    kind, side, value = got
    return kind, side, msgspec.json.decode(one.plain(msgspec.json.encode(value).decode()))
