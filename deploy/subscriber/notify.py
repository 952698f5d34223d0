"""Tells a web address of events of rater, such as a balance below its client's mark: an example.

It reads `rater.events` as a consumer group and posts each event of the types that are asked for as JSON. What
the address has taken (any 2xx) is committed. All else is repeated, with a line on standard error, until it is
taken: nothing is left out, and the events of a client stay in their order. After a crash some are posted
again, so each bears its id as the header `Idempotency-Key`, by which the address knows what it has. Several
of them share the partitions.

    WEBHOOK_URL=https://crm.example/rater python notify.py

Variables: WEBHOOK_URL, needed; KAFKA (localhost:9092), TOPIC (rater.events), GROUP (rater-notify), TYPES
(low_balance; commas between several). It needs aiokafka and aiohttp, which `pip install rater` brings.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import aiohttp
from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka.errors import CommitFailedError, IllegalStateError, KafkaError

FIRST_S, LONGEST_S = 0.5, 30.0
"""Between two attempts: doubled each time."""
ANSWER_S = 10.0
"""So long the address may take to answer."""
TAKEN_AT_ONCE = 100
"""Events that are read at once; so many may be posted again after a crash."""


class Asked(NamedTuple):
    """What is to be told, of which topic, to whom."""

    url: str
    kafka: str
    topic: str
    group: str
    types: frozenset[str]


def asked(environ: Mapping[str, str]) -> Asked:
    """Return what the variables say. Raises ValueError with a sentence."""
    url = environ.get("WEBHOOK_URL", "")
    if not url.startswith(("http://", "https://")):
        raise ValueError(
            f"WEBHOOK_URL is {'no address' if url else 'not set'}: set it to the one that takes events, "
            "http:// or https://"
        )
    types = frozenset(one.strip() for one in environ.get("TYPES", "low_balance").split(",") if one.strip())
    if not types:
        raise ValueError("TYPES is empty: name the types of events, as low_balance,balance_restored")
    return Asked(
        url, environ.get("KAFKA", "localhost:9092"), environ.get("TOPIC", "rater.events"),
        environ.get("GROUP", "rater-notify"), types,
    )  # fmt: skip


def event_of(value: bytes | None, types: frozenset[str]) -> dict[str, Any] | None:
    """Return the event of a record, None: it is of another type, or none of rater's."""
    try:
        event = json.loads(value or b"null")
    except ValueError:
        return None
    if isinstance(event, dict) and event.get("type") in types and isinstance(event.get("id"), str):
        return event
    return None


def say(text: str) -> None:
    """Tell on standard error."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def shown(url: str) -> str:
    """Return the address without what may be a secret: many have one in the path or before an @."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}/…"


class Lost(Exception):  # noqa: N818 - of a partition, which is no error
    """The group has given our partitions to others; what was not committed they post again."""


class Given(ConsumerRebalanceListener):
    """Knows whether what is being posted is ours still."""

    def __init__(self) -> None:
        """Nothing was taken away yet."""
        self.lost = asyncio.Event()

    async def on_partitions_revoked(self, revoked: set[TopicPartition]) -> None:
        """Give up what is being posted."""
        if revoked:
            self.lost.set()

    async def on_partitions_assigned(self, assigned: set[TopicPartition]) -> None:
        """Begin where the group stands."""


async def post(session: aiohttp.ClientSession, url: str, event: dict[str, Any], given: Given) -> None:
    """Post an event until it is taken. Raises Lost."""
    wait_s = FIRST_S
    while True:
        try:
            async with session.post(url, json=event, headers={"Idempotency-Key": event["id"]}) as answer:
                if 200 <= answer.status < 300:  # noqa: PLR2004 - HTTP's
                    return
                why = f"it answered {answer.status}"
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            why = str(error) or type(error).__name__
        say(f"event {event['id']} was not taken by {shown(url)} ({why}); again in {wait_s:g} s")
        with suppress(TimeoutError):
            await asyncio.wait_for(given.lost.wait(), wait_s)
            raise Lost
        wait_s = min(2 * wait_s, LONGEST_S)


async def tell(consumer: AIOKafkaConsumer, given: Given, session: aiohttp.ClientSession, of: Asked) -> None:
    """Read, post and commit, for ever."""
    while True:
        polled = await consumer.getmany(timeout_ms=500, max_records=TAKEN_AT_ONCE)
        given.lost.clear()
        for place, records in polled.items():
            try:
                for record in records:
                    event = event_of(record.value, of.types)
                    if event is not None:
                        await post(session, of.url, event, given)
                await consumer.commit({place: records[-1].offset + 1})
            except (Lost, CommitFailedError, IllegalStateError):
                say(f"{place.topic}[{place.partition}] is another's now, who tells what was not committed")


async def run(of: Asked) -> None:
    """Tell of events until this is cancelled."""
    given = Given()
    consumer = AIOKafkaConsumer(
        bootstrap_servers=of.kafka, group_id=of.group, enable_auto_commit=False,
        auto_offset_reset="earliest", isolation_level="read_committed",
    )  # fmt: skip
    consumer.subscribe([of.topic], listener=given)
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=ANSWER_S)) as session:
        try:
            await consumer.start()
            await tell(consumer, given, session, of)
        finally:
            await consumer.stop()


async def until_stopped(of: Asked) -> None:
    """Run until SIGTERM or SIGINT."""
    telling = asyncio.create_task(run(of))
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, telling.cancel)
    with suppress(asyncio.CancelledError):
        await telling


def main() -> int:
    """Return the exit code: 0 it was stopped, 1 Kafka failed, 2 the variables are wrong."""
    try:
        of = asked(os.environ)
    except ValueError as error:
        say(str(error))
        return 2
    try:
        asyncio.run(until_stopped(of))
    except KafkaError as error:
        say(f"Kafka at {of.kafka}: {error}; start it again, it goes on where it was")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
