"""Whether the records of input topics have timestamps that tell when, as lanes go by them (`rater check`)."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition

from rater.core.instants import HOUR_MS, SECOND_MS, UNSTAMPED_MS, is_stamp
from rater.stream.connecting import Connection, reading
from rater.stream.topics import Topics, configured, partition_counts

NEWEST = 20
"""Offsets that are looked at, at the end of each partition: what is sent now."""
TIMESTAMP_TYPE = "message.timestamp.type"
AHEAD_MAX = ("message.timestamp.after.max.ms", "message.timestamp.difference.max.ms")
"""How far ahead of the broker a record may be; the second is that of Kafka before 3.6. By default an hour
from 4.0 on, without a bound before."""
BROKERS = "LogAppendTime"
DEADLINE_S = 20.0


async def remarks(client: Connection, topics: Topics, *, deadline_s: float = DEADLINE_S) -> list[str]:
    """Return a sentence with its remedy for each input topic whose timestamps tell nothing, or may mislead.

    The topics have to be there. Raises StreamDown, Halt.
    """
    settings = await configured(client, [*topics.data, topics.commands], deadline_s=deadline_s)
    written = [name for name, found in settings.items() if found.get(TIMESTAMP_TYPE) != BROKERS]
    told = [text for name in written if (text := far_ahead(name, settings[name]))]
    undated: dict[str, list[ConsumerRecord]] = {}
    for record in await _undated(client, [name for name in topics.data if name in written], deadline_s):
        undated.setdefault(record.topic, []).append(record)
    return [*told, *(_without_time(name, records) for name, records in sorted(undated.items()))]


def far_ahead(name: str, settings: Mapping[str, str]) -> str:
    """Return the sentence on a topic that takes records of a far future; "": it does not, or says nothing."""
    key = next((key for key in AHEAD_MAX if key in settings), "")
    ahead_ms = int(settings.get(key, HOUR_MS))
    if ahead_ms <= HOUR_MS:
        return ""
    return (
        f"{name}: {key} is {ahead_ms}, so one record with a time of the future makes all later "
        f"calls of its lane too_old; set it to {HOUR_MS}, or {TIMESTAMP_TYPE} to {BROKERS}"
    )


def _without_time(name: str, records: Sequence[ConsumerRecord]) -> str:
    last = records[-1]
    if last.timestamp == UNSTAMPED_MS:
        kind = "have no Kafka timestamp"
    elif is_stamp(last.timestamp * SECOND_MS):
        kind = "have a Kafka timestamp in seconds, which are read as milliseconds of 1970"
    else:
        kind = "have a Kafka timestamp that is no time in milliseconds"
    return (
        f"{name}: {len(records)} of the newest records {kind} (the last is [{last.partition}]@{last.offset}"
        f": {last.timestamp}), so their calls are judged by the clocks of the workers; set the topic's "
        f"{TIMESTAMP_TYPE} to {BROKERS} (kafka-configs.sh --alter --entity-type topics --entity-name {name} "
        f"--add-config {TIMESTAMP_TYPE}={BROKERS}), or have their producer send timestamps in milliseconds"
    )


async def _undated(client: Connection, names: list[str], deadline_s: float) -> list[ConsumerRecord]:
    """Return those of the newest records whose timestamp tells nothing, of each partition in order."""
    counts = await partition_counts(client, names, deadline_s=deadline_s)
    places = [TopicPartition(name, number) for name in names for number in range(counts[name] or 0)]
    found: list[ConsumerRecord] = []
    async with reading(client, places, deadline_s=deadline_s) as reader:
        begins, ends = await reader.beginning_offsets(places), await reader.end_offsets(places)
        for place in places:
            reader.seek(place, max(begins[place], ends[place] - NEWEST))
        until = time.monotonic() + deadline_s
        while time.monotonic() < until and await _behind(reader, ends):
            for records in (await reader.getmany(timeout_ms=200)).values():
                found += [record for record in records if not is_stamp(record.timestamp)]
    return sorted(found, key=lambda record: (record.partition, record.offset))


async def _behind(reader: AIOKafkaConsumer, ends: Mapping[TopicPartition, int]) -> bool:
    return any([await reader.position(place) < end for place, end in ends.items()])
