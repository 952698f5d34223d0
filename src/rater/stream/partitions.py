"""Partitions of topics: adding some, which cannot be taken away again."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping

from aiokafka.admin import NewPartitions
from aiokafka.errors import KafkaError

from rater.errors import Halt, StreamDown
from rater.stream.connecting import FORBIDDEN, NOBODY, RETRY_S, Connection, refusal, shut
from rater.stream.metadata import Found
from rater.stream.topics import administrator, described


async def add_partitions(
    client: Connection, names: Iterable[str], count: int, *, deadline_s: float = 30.0
) -> None:
    """Let topics have so many partitions, and return when the brokers tell of them.

    Raises StreamDown, also where only some have them so far, and Halt where the broker refuses.
    """
    wanted = list(names)
    admin = await administrator(client, deadline_s)
    try:
        async with asyncio.timeout(deadline_s):
            await admin.create_partitions({name: NewPartitions(count) for name in wanted})
            # The controller has made them; the brokers learn of them within milliseconds.
            while not _all_have(await described(admin, wanted), count):  # noqa: ASYNC110 - theirs
                await asyncio.sleep(RETRY_S)
    except FORBIDDEN as error:
        raise Halt(refusal(error)) from error
    except (KafkaError, OSError, TimeoutError, *NOBODY) as error:
        if isinstance(error, KafkaError) and not error.retriable:
            raise Halt(f"the broker refused to add partitions ({type(error).__name__}: {error})") from error
        raise StreamDown(f"Kafka did not answer ({type(error).__name__}: {error})") from error
    finally:
        await shut(admin)


def _all_have(topics: Mapping[str, Found | None], count: int) -> bool:
    return all(topic is not None and topic.partitions >= count for topic in topics.values())
