"""`rater audit`: read the whole journal, compare it with Redis, and name what differs.

It may run while workers rate. Then the store is ahead of the journal (or the journal that was read is
behind): a client that differs is looked at again after reading on, and is a finding only when it differs
while nothing of it moves.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from rater.core.journal.auditing import Finding, Ledger
from rater.core.journal.records import ChangeRecord, Effect
from rater.store.buckets import Buckets
from rater.stream.journal import end_offsets, read_range
from rater.stream.topics import Topics

ROUNDS_MAX = 20
"""How often clients that differ are looked at again, PAUSE_S apart, while the journal goes on."""
PAUSE_S = 0.5
QUIET_ROUNDS = 3
"""A client that differs over so many rounds without a new record of it is a finding."""

CLIENTS_AT_ONCE = 200
"""Clients of which the state is asked for at once."""

Progress = Callable[[int, int], None]
"""Called with the records read and to be read."""


async def audit(
    client: Mapping[str, Any], topics: Topics, store: Buckets, progress: Progress | None = None
) -> Ledger:
    """Return the ledger of the journal with every finding in it."""
    ledger = Ledger()
    positions = dict.fromkeys(range(topics.partitions), 0)
    await _read_on(client, topics, ledger, positions, progress)
    suspects = await _suspects(ledger, store)
    quiet = dict.fromkeys(suspects, 0)
    for _ in range(ROUNDS_MAX):
        if not suspects:
            break
        await asyncio.sleep(PAUSE_S)
        before = {name: _sums(ledger, name) for name in suspects}
        await _read_on(client, topics, ledger, positions, None)
        again = {}
        for name in suspects:
            found = ledger.compare(name, await _stored(store, name))
            if found:
                again[name] = found
                quiet[name] = quiet[name] + 1 if _sums(ledger, name) == before[name] else 0
        suspects = again
        if all(quiet[name] >= QUIET_ROUNDS for name in suspects):
            break
    for found in suspects.values():
        for finding in found:
            ledger.find(finding.kind, finding.where, finding.problem)
    return ledger


def _sums(ledger: Ledger, name: str) -> tuple[int, dict[str, int]]:
    return ledger.balances.get(name, 0), dict(ledger.counters.get(name, {}))


async def _read_on(
    client: Mapping[str, Any],
    topics: Topics,
    ledger: Ledger,
    positions: dict[int, int],
    progress: Progress | None,
) -> None:
    ends = await end_offsets(client, topics.transactions, list(positions))
    total = sum(max(0, ends[lane] - positions[lane]) for lane in positions)
    done = 0
    for lane, start in positions.items():
        async for records in read_range(client, topics.transactions, lane, start, ends[lane]):
            for offset, _, value, said in records:
                if value is not None:
                    ledger.add(lane, offset, value, said if isinstance(said, Effect) else None)
                else:
                    ledger.control(lane, offset, said if isinstance(said, ChangeRecord) else None)
            done += records[-1][0] + 1 - positions[lane]
            positions[lane] = records[-1][0] + 1
            if progress is not None:
                progress(min(done, total), total)
            await asyncio.sleep(0)
        positions[lane] = max(positions[lane], ends[lane])


async def _stored(store: Buckets, name: str) -> tuple[int, dict[str, int]] | None:
    found = await store.client(name)
    return None if found is None else (found[1], found[2])


async def _suspects(ledger: Ledger, store: Buckets) -> dict[str, list[Finding]]:
    """Return the clients whose state differs from the journal's sums; those of both sides are looked at."""
    suspects = {}
    names = set(ledger.clients())
    async for name in store.scan_clients():
        names.add(name)
    for some in batched(sorted(names), CLIENTS_AT_ONCE):
        for name, stored in zip(
            some, await asyncio.gather(*(_stored(store, name) for name in some)), strict=True
        ):
            found = ledger.compare(name, stored)
            if found:
                suspects[name] = found
    return suspects


def batched(names: list[str], size: int) -> Iterator[list[str]]:
    """Yield the names in lists of at most `size`."""
    for at in range(0, len(names), size):
        yield names[at : at + size]
