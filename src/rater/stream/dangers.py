"""What topics and brokers are set to that may cost records or time later: warnings, each with its remedy.

What loses records as it is, or stops a worker, is refused (`Topics.problems`).
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaError, for_code

from rater.clocks import clock_differs
from rater.core.instants import DAY_MS
from rater.errors import Halt, StreamDown
from rater.stream.connecting import FORBIDDEN, Connection, refusal, shut
from rater.stream.producer import LOAD_TIMEOUT_MS
from rater.stream.quorum import controller_clock
from rater.stream.stamps import BROKERS, TIMESTAMP_TYPE
from rater.stream.topics import REPLICAS_SAFE, Topics, administrator, configured, described

Config = Mapping[str, str]


class Wanted(NamedTuple):
    """What we are set to, as far as brokers and topics have to fit it."""

    session_timeout_ms: int
    window_ms: int
    """worker.duplicate_window_days."""


async def remarks(
    client: Connection, topics: Topics, wanted: Wanted, *, deadline_s: float = 20.0
) -> list[str]:
    """Return a sentence for each dangerous setting of topics, which have to be there, and of the brokers.

    What our user may not look at is said, too. Raises StreamDown, Halt.
    """
    names = [spec.name for spec in topics.specs(1)]
    settings = await configured(client, names, deadline_s=deadline_s)
    admin = await administrator(client, deadline_s)
    try:
        found = await described(admin, names)
        brokers = await _brokers(admin)
        clock_ms, now_ms = await controller_clock(admin), time.time_ns() // 1_000_000
    except FORBIDDEN as error:
        raise Halt(refusal(error)) from error
    except (KafkaError, OSError, TimeoutError) as error:
        raise StreamDown(f"Kafka did not answer ({type(error).__name__}: {error})") from error
    finally:
        await shut(admin)
    copies = {name: topic.copies for name, topic in found.items() if topic is not None}
    told = [*of_copies(copies, settings, len(brokers)), *of_topics(topics, settings, wanted)]
    for number, broker in brokers.items():
        told += of_broker(number, broker, wanted) if broker is not None else []
    if None in brokers.values():
        told.append(
            "the brokers' own settings were not looked at: our user may not DescribeConfigs on the cluster "
            "(`rater config acl --kafka` prints the command)"
        )
    return [*told, *clock_differs("the clock of Kafka's controller", clock_ms, now_ms)]


def of_copies(copies: Mapping[str, int], settings: Mapping[str, Config], brokers: int) -> Iterator[str]:
    """Yield what the numbers of copies endanger. copies: topic -> how many, 0: nobody knows."""
    single = [name for name, count in copies.items() if count == 1]
    if single:
        yield (
            f"{_listed(single)}: one copy of each record, so what was confirmed is lost with its broker; "
            f"have {REPLICAS_SAFE} brokers, and raise the copies by kafka-reassign-partitions.sh"
        )
    unsafe = [name for name, count in copies.items() if count > 1 and _in_sync(settings[name]) < 2]  # noqa: PLR2004 - a second one
    if unsafe:
        yield (
            f"{_listed(unsafe)}: min.insync.replicas is 1, so a record is confirmed that one broker has, and "
            "lost with it; set it to 2"
        )
    stiff = [name for name, count in copies.items() if 1 < count <= _in_sync(settings[name])]
    if stiff:
        yield (
            f"{_listed(stiff)}: min.insync.replicas is the number of copies, so one broker that is away "
            "stops all rating; set it to one less"
        )
    few = [name for name, count in copies.items() if 1 < count < REPLICAS_SAFE <= brokers]
    if few:
        yield (
            f"{_listed(few)}: {REPLICAS_SAFE - 1} copies, so while one broker is being restarted another one "
            f"may not fail; raise them to {REPLICAS_SAFE} by kafka-reassign-partitions.sh"
        )


def _in_sync(settings: Config) -> int:
    return int(settings.get("min.insync.replicas", "1"))


def of_topics(topics: Topics, settings: Mapping[str, Config], wanted: Wanted) -> Iterator[str]:
    """Yield what the settings of topics endanger."""
    for name, found in settings.items():
        if found.get("unclean.leader.election.enable") == "true":
            yield _set(name, found, "unclean.leader.election.enable", "false", "it loses what was confirmed")
        kept_ms = int(found["retention.ms"])
        if name in topics.data and DAY_MS <= kept_ms < wanted.window_ms:
            yield _set(
                name, found, "retention.ms", str(wanted.window_ms),
                "less than worker.duplicate_window_days: calls that wait longer are gone, though they would "
                "still be rated",
            )  # fmt: skip
    commands = settings.get(topics.commands, {})
    if commands.get(TIMESTAMP_TYPE) == BROKERS:
        yield _set(
            topics.commands, commands, TIMESTAMP_TYPE, "CreateTime",
            "so a load's records bear another time than the load, and what it does is judged by that",
        )  # fmt: skip


def of_broker(number: int, found: Config, wanted: Wanted) -> Iterator[str]:
    """Yield what the settings of a broker endanger."""
    name = f"broker {number}"
    longest = int(found.get("transaction.max.timeout.ms", LOAD_TIMEOUT_MS))
    if longest < LOAD_TIMEOUT_MS:
        why = "and a large load needs more: it is refused"
        yield _set(name, found, "transaction.max.timeout.ms", str(LOAD_TIMEOUT_MS), why)
    ours_ms = wanted.session_timeout_ms
    for key, is_least in (("group.min.session.timeout.ms", True), ("group.max.session.timeout.ms", False)):
        limit_ms = int(found.get(key, ours_ms))
        if ours_ms < limit_ms if is_least else ours_ms > limit_ms:
            why = f"and kafka.session_timeout_ms is {ours_ms}, so no worker gets a lane"
            yield f"{name}: {key} is {limit_ms}, {why}; change one of them"
    for key in ("transaction.state.log.replication.factor", "offsets.topic.replication.factor"):
        if found.get(key) == "1":
            why = "so what Kafka knows of transactions and groups is lost with one broker"
            yield _set(name, found, key, f"{REPLICAS_SAFE}, before the first start", why)
    copies = found.get("transaction.state.log.replication.factor", "1")
    if copies != "1" and found.get("transaction.state.log.min.isr") == "1":
        why = "so the end of a Kafka transaction is confirmed that one broker has"
        yield _set(name, found, "transaction.state.log.min.isr", "2", why)
    if found.get("auto.create.topics.enable") == "true":
        why = "so a misspelt topic is made, with one copy and short retention, in place of a fault"
        yield _set(name, found, "auto.create.topics.enable", "false", why)


def _set(name: str, found: Config, key: str, value: str, why: str) -> str:
    return f"{name}: {key} is {found[key]}, {why}; set it to {value}"


def _listed(names: Sequence[str]) -> str:
    return ", ".join(sorted(names))


async def _brokers(admin: AIOKafkaAdminClient) -> dict[int, Config | None]:
    """Return each broker's settings; None: we may not look at them."""
    found: dict[int, Config | None] = {}
    for number in sorted(broker.nodeId for broker in admin._client.cluster.brokers()):  # noqa: SLF001 - it has no other way
        found[number] = None
        for reply in await admin.describe_configs([ConfigResource(ConfigResourceType.BROKER, str(number))]):
            for code, _, _, _, entries in reply.resources:
                if for_code(code).errno == 0:
                    found[number] = {entry[0]: entry[1] for entry in entries}
    return found
