"""`rater audit`: read the whole journal, compare it with Redis, and name what differs."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from typing import Any

from rater.core.clients.state import did_name
from rater.core.journal.auditing import Ledger
from rater.core.journal.comparing import Step
from rater.core.journal.records import ChangeRecord, Effect
from rater.errors import Halt
from rater.jobs.audit_looks import Looks
from rater.store.buckets import Buckets
from rater.stream.journal import CutError, Mark, Read, end_offsets, read_range
from rater.stream.topics import Topics

Progress = Callable[[int, int], None]
"""Called with the records read and to be read."""


async def audit(
    client: Mapping[str, Any],
    topics: Topics,
    store: Buckets,
    progress: Progress | None = None,
    inventory: Collection[str] | None = None,
) -> Ledger:
    """Return the ledger of the journal with every finding in it. inventory: DIDs of the catalog in force."""
    ledger = Ledger()
    positions = dict.fromkeys(range(topics.partitions), 0)
    await _read_on(client, topics, ledger, positions, progress)
    names = {*ledger.clients(), *map(did_name, inventory or ())}
    async for name in store.scan_clients():
        names.add(name)
    looks = Looks(store, ledger.book, ledger.usage, inventory)
    suspects = await looks.look(names)

    async def steps_of(watched: Collection[str]) -> Mapping[str, Sequence[Step]]:
        ledger.watched, ledger.steps = watched, defaultdict(list)
        await _read_on(client, topics, ledger, positions, None)
        return ledger.steps

    settled = await looks.settle(suspects, steps_of)
    ledger.unsettled = len(settled.unsettled)
    for found in settled.found.values():
        for finding in found:
            ledger.find(finding.kind, finding.where, finding.problem)
    return ledger


async def _read_on(
    client: Mapping[str, Any],
    topics: Topics,
    ledger: Ledger,
    positions: dict[int, int],
    progress: Progress | None,
) -> None:
    async for lane, records, end in read_on(client, topics, positions, progress):
        fold(ledger, lane, records)
        positions[lane] = end


async def read_on(
    client: Mapping[str, Any], topics: Topics, positions: Mapping[int, int], progress: Progress | None
) -> AsyncIterator[tuple[int, list[Read], int]]:
    """Yield (partition, records, offset behind them) of what the journal has behind these positions."""
    ends = await end_offsets(client, topics.transactions, list(positions))
    starts = dict(positions)
    for lane, start in starts.items():
        if ends[lane] < start:
            why = f"it ends at offset {ends[lane]}, and was read up to {start}"
            raise Halt(topics.another(topics.transactions, lane, why))
    total = sum(max(0, ends[lane] - start) for lane, start in starts.items())
    done = 0
    for lane, start in starts.items():
        at = start
        async for records in _from(client, topics, lane, start, ends[lane]):
            done += records[-1][0] + 1 - at
            at = records[-1][0] + 1
            yield lane, records, at
            if progress is not None:
                progress(min(done, total), total)
            await asyncio.sleep(0)
        if at < ends[lane]:  # what lies behind the last record is Kafka's own
            yield lane, [], ends[lane]


async def _from(
    client: Mapping[str, Any], topics: Topics, lane: int, start: int, end: int
) -> AsyncIterator[list[Read]]:
    try:
        async for records in read_range(client, topics.transactions, lane, start, end):
            yield records
    except CutError as error:
        raise Halt(
            f"{topics.transactions}[{lane}] is needed from offset {start} on, where records were removed; an "
            "audit adds up all of them. If its retention is bounded: an audit that goes on (--every 10s "
            "--file FILE) needs what is new alone, where FILE was begun before and was never so far behind. "
            "If it is not: restore the topic from a backup"
        ) from error


def fold(ledger: Ledger, lane: int, records: list[Read]) -> None:
    """Take records of the journal into a ledger."""
    for offset, _, value, said in records:
        if value is not None:
            ledger.add(lane, offset, value, said if isinstance(said, Effect) else None)
            continue
        ledger.control(lane, offset, said if isinstance(said, ChangeRecord) else None)
        if isinstance(said, Mark):
            ledger.lane_ms[lane] = said.lane_ms
