"""Sides and records that could not be rated."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import aclosing
from typing import Any

from msgspec import Struct

from rater.core.journal.records import CONTROL_HEADER
from rater.core.reasons import Reason
from rater.stream import browsing
from rater.stream.browsing import Seen
from rater.stream.topics import Topics

_DIGITS_MAX = 18


class Rejected(Struct, frozen=True, kw_only=True):
    """A record of the rejected records' topic.

    at_ms: the broker's time of it. source: the name of the setting, None where no source reads the topic now.
    side: None where no side could be read. topic, partition, offset: where the record came from; catalog,
    attempt: what it was judged by, and how often: whole numbers, but text where something else wrote it.
    record: the original bytes.
    """

    at_ms: int
    reason: str
    side: str | None
    detail: str
    value: str
    source: str | None
    topic: str | None
    partition: int | str | None
    offset: int | str | None
    catalog: int | str | None
    attempt: int | str | None
    record: bytes | None


async def rejected(
    kafka: Mapping[str, Any],
    topics: Topics,
    sources: Mapping[str, str],
    *,
    reason: Reason | None = None,
    source_topic: str | None = None,
    since_ms: int | None = None,
    until_ms: int | None = None,
    limit: int = 0,
    passed: Callable[[int], None] = lambda _: None,
) -> AsyncIterator[Rejected]:
    """Yield rejected sides and records, the newest first, at most `limit` (0: all), as they are found.

    sources: topic → name of the source. reason, source_topic: of this one only. The rest as `transactions`.
    """
    found = browsing.newest(
        kafka,
        topics.rejected,
        range(topics.partitions),
        since_ms=since_ms,
        until_ms=until_ms,
        passed=passed,
    )
    count = 0
    async with aclosing(found) as records:
        async for seen in records:
            if any(name == CONTROL_HEADER for name, _ in seen.headers):
                continue  # a note that records were sent again
            one = rejected_of(seen, sources)
            if reason not in (None, one.reason) or source_topic not in (None, one.topic):
                continue
            yield one
            count += 1
            if count == limit:
                return


def rejected_of(seen: Seen, sources: Mapping[str, str]) -> Rejected:
    """Return what a record says, whoever wrote it. sources: topic → name of the source."""
    headers = {name: (raw or b"").decode("utf-8", "replace") for name, raw in seen.headers}
    topic = headers.get("source_topic")
    return Rejected(
        at_ms=seen.at_ms,
        reason=headers.get("reason", ""),
        side=headers.get("side") or None,
        detail=headers.get("detail", ""),
        value=headers.get("value", ""),
        source=sources.get(topic or ""),
        topic=topic,
        partition=_whole(headers.get("source_partition")),
        offset=_whole(headers.get("source_offset")),
        catalog=_whole(headers.get("catalog")),
        attempt=_whole(headers.get("attempt")),
        record=seen.value,
    )


def _whole(text: str | None) -> int | str | None:
    return int(text) if text and text.isdecimal() and len(text) <= _DIGITS_MAX else text or None
