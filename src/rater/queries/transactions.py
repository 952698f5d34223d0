"""Money movements, as they were published."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import aclosing
from typing import Any

import orjson
from msgspec import Struct

from rater.core.kinds import TransactionType
from rater.stream import browsing, records
from rater.stream.browsing import Seen
from rater.stream.topics import Topics

DEPTH_MAX = 50
"""Nothing of ours is nested deeper; what others wrote may be, and then may not even be printed."""


class Published(Struct, frozen=True):
    """A record of the transactions' topic.

    transaction: as published (CONTRACTS.md, Transaction: amounts are decimal text in its currency), None
    where the record is none. raw: the record. at_ms: the broker's time of it, which `since_ms` asks for.
    """

    partition: int
    offset: int
    at_ms: int
    transaction: dict[str, Any] | None
    raw: bytes


async def transactions(
    kafka: Mapping[str, Any],
    topics: Topics,
    *,
    client: str | None = None,
    of_type: TransactionType | None = None,
    reversals: bool = True,
    since_ms: int | None = None,
    until_ms: int | None = None,
    limit: int = 0,
    passed: Callable[[int], None] = lambda _: None,
) -> AsyncIterator[Published]:
    """Yield transactions, the newest first, at most `limit` (0: all), as they are found: all may be millions.

    client, of_type: of this one only. reversals: else neither these nor what they take back. since_ms,
    until_ms: bounds of the record's time, the latter excluded. passed: told how many offsets each step went
    back. Raises Halt and StreamDown as `browsing.newest`.
    """
    found = browsing.newest(
        kafka,
        topics.transactions,
        range(topics.partitions),
        since_ms=since_ms,
        until_ms=until_ms,
        passed=passed,
    )
    count, back = 0, set[tuple[Any, ...]]()
    async with aclosing(found) as every:
        async for seen in every:
            if seen.value is None or (client is not None and seen.key != client.encode()):
                continue
            one = published(seen, seen.value)
            told = one.transaction or {}
            left_out = not reversals and _is_reversed(told, seen.key, back)
            if left_out or (of_type is not None and told.get("type") != of_type):
                continue
            yield one
            count += 1
            if count == limit:
                return


async def begins_ms(kafka: Mapping[str, Any], topics: Topics) -> int | None:
    """Return the time from which on the journal has all that was published; None: from the beginning on.

    Raises StreamDown.
    """
    spans = await records.bounds(kafka, topics.transactions, topics.partitions)
    return await records.begins_ms(kafka, topics.transactions, spans)


def _is_reversed(told: dict[str, Any], client: bytes | None, back: set[tuple[Any, ...]]) -> bool:
    """Return whether it is a reversal or what one takes back; the reversal, which is newer, is noted."""
    if told.get("type") == TransactionType.REVERSAL:
        back.add((client, str(told.get("id")), str(told.get("reverses"))))
        return True
    return (client, str(told.get("id")), str(told.get("revision"))) in back


def published(seen: Seen, raw: bytes) -> Published:
    """Return what a record with this value holds."""
    return Published(seen.partition, seen.offset, seen.at_ms, _object(raw), raw)


def _object(raw: bytes) -> dict[str, Any] | None:
    try:
        found = orjson.loads(raw)
    except orjson.JSONDecodeError:
        return None
    return found if isinstance(found, dict) and not _is_deep(found) else None


def _is_deep(value: Any) -> bool:
    level = [value]
    for _ in range(DEPTH_MAX):
        level = [
            of
            for one in level
            for of in (one.values() if isinstance(one, dict) else one)
            if isinstance(of, dict | list)
        ]
        if not level:
            return False
    return True
