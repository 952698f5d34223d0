"""Creating the topics, and finding what would lose data, on a real broker."""

from __future__ import annotations

import re
import socket
import ssl
from typing import TYPE_CHECKING, Any

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.client import AIOKafkaClient

from rater.errors import Halt, StreamDown
from rater.stream.topics import RECORD_BYTES_MAX, Topics, configured, partition_counts

if TYPE_CHECKING:
    from stream.conftest import Guarded, MakeTopics

pytestmark = pytest.mark.kafka

NOWHERE = {"bootstrap_servers": "127.0.0.1:1"}


async def settings_of(admin: AIOKafkaAdminClient, topic: str) -> dict[str, str]:
    """Return a topic's settings as the broker says."""
    [reply] = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topic)])
    [(_, _, _, _, entries)] = reply.resources
    return {entry[0]: entry[1] for entry in entries}


async def test_topics_are_created_as_specified_and_only_once(
    client: dict[str, Any], admin: AIOKafkaAdminClient, prefix: str
) -> None:
    """Each topic gets its partitions and settings in the broker; again changes nothing, and says so."""
    made = Topics(
        prefix, 2, {"pbx": f"{prefix}pbx", "built-in": f"{prefix}cdrs"}, {"pbx": 8 * 2**20, "built-in": 2**22}
    )
    said = await made.create(client, 1)
    assert len(said) == len(made.specs(1)) == 7
    assert all(re.search(r": created with 2 partitions and 1 copy$", line) for line in said)
    for spec in made.specs(1):
        found = await settings_of(admin, spec.name)
        assert {key: found[key] for key in spec.settings} == spec.settings
        assert spec.settings.keys() == spec.reasons.keys()
    forever = await settings_of(admin, made.transactions)
    assert (forever["retention.ms"], forever["retention.bytes"]) == ("-1", "-1")
    assert (await settings_of(admin, made.cdrs))["retention.ms"] == str(7 * 86_400_000)
    sizes = [(await settings_of(admin, topic))["max.message.bytes"] for topic in made.data]
    assert sizes == ["1048588", str(8 * 2**20 + 2**16)]
    assert await made.check(client) == []
    again = await made.create(client, 1)
    assert all(line.endswith("is there already with 2 partitions, nothing was changed") for line in again)


async def test_what_is_there_is_left_as_it_is(
    client: dict[str, Any], admin: AIOKafkaAdminClient, make_topics: MakeTopics, prefix: str
) -> None:
    """Creating makes what is missing and alters nothing of what is there, even when it is wrong."""
    made = Topics(prefix, 2)
    await make_topics({made.commands: (3, {"retention.ms": "1000"})})
    said = await made.create(client, 1)
    assert f"{made.commands}: is there already with 3 partitions, nothing was changed" in said
    assert (await settings_of(admin, made.commands))["retention.ms"] == "1000"


async def test_more_copies_than_brokers_are_refused(client: dict[str, Any], prefix: str) -> None:
    """The broker's refusal names the setting, and nothing was made; three copies ask for two in sync."""
    made = Topics(prefix, 2)
    with pytest.raises(
        Halt, match=r"3 copies are more than there are brokers; lower topics\.replication_factor"
    ):
        await made.create(client, 3)
    assert set((await partition_counts(client, [made.cdrs, made.events])).values()) == {None}
    assert {spec.settings.get("min.insync.replicas") for spec in made.specs(3)} == {"2"}
    assert {spec.settings.get("min.insync.replicas") for spec in made.specs(1)} == {None}


FAULTS: list[tuple[str, str, str, str]] = [
    ("transactions", "retention.ms", "604800000", "Redis is rebuilt from this topic; set it to -1"),
    ("transactions", "retention.bytes", "1", "Redis is rebuilt from this topic; set it to -1"),
    ("commands", "retention.ms", "604800000", "the catalogs lie in this topic; set it to -1"),
    ("cdrs", "retention.ms", "86399999", "an outage would lose unrated calls; set it to 604800000"),
    ("cdrs", "retention.bytes", "1000", "a rush would push out unrated calls; set it to -1"),
    ("pbx", "retention.ms", "1", "an outage would lose unrated calls; set it to 604800000"),
    ("cdrs", "cleanup.policy", "compact", "it loses records that share a key; set it to delete"),
    ("rejected", "cleanup.policy", "compact,delete", "it loses records that share a key; set it to delete"),
    ("snapshots", "cleanup.policy", "delete", "it loses what idle clients have; set it to compact"),
    ("transactions", "max.message.bytes", "1048587", "we write batches of up to 1 MiB; set it to 11534336"),
    (
        "pbx",
        "max.message.bytes",
        "2097151",
        "and its source takes records of 2097152, which it would turn away; set it to 2162688",
    ),
    ("cdrs", "max.message.bytes", "10485761", "the largest record we can reject; set it to 10485760"),
]


@pytest.mark.parametrize(("which", "setting", "value", "says"), FAULTS)
async def test_each_setting_that_loses_data_is_named_with_its_remedy(
    client: dict[str, Any],
    make_topics: MakeTopics,
    prefix: str,
    which: str,
    setting: str,
    value: str,
    says: str,
) -> None:
    """One wrong setting of one topic gives one sentence, with the topic, the setting, why and the remedy."""
    made = Topics(prefix, 1, {"pbx": f"{prefix}pbx"}, {"pbx": 2**21})
    own = {spec.name: (1, spec.settings) for spec in made.specs(1)}
    wrong = f"{prefix}{which}"
    await make_topics({**own, wrong: (1, {**own[wrong][1], setting: value})})
    assert await made.check(client) == [f"{wrong}: {setting} is {value}, {says}"]


@pytest.mark.parametrize("kept_ms", ["1000000", "-1", "999999"])
async def test_the_journal_is_kept_as_long_as_rebuilds_need_it(
    client: dict[str, Any], make_topics: MakeTopics, prefix: str, kept_ms: str
) -> None:
    """Where snapshots are written it may be cut behind them."""
    made = Topics(prefix, 1, journal_min_ms=1_000_000)
    own = {spec.name: (1, spec.settings) for spec in made.specs(1)}
    journal = {**own[made.transactions][1], "retention.ms": kept_ms}
    await make_topics({**own, made.transactions: (1, journal)})
    told = (
        f"{made.transactions}: retention.ms is 999999, snapshots and duplicates need 0 days of it when Redis "
        "is rebuilt; set it to 1000000 or more, or to -1"
    )
    assert await made.check(client) == ([told] if kept_ms == "999999" else [])


async def test_a_topic_as_it_was_made_before_is_no_fault(
    client: dict[str, Any], make_topics: MakeTopics, prefix: str
) -> None:
    """Topics of Kafka's own size stay in use: nobody has asked for larger records, and they are told."""
    made = Topics(prefix, 1, {"pbx": f"{prefix}pbx"}, {"pbx": 2**20})
    await make_topics({f"{prefix}pbx": (1, {"max.message.bytes": "500000", "retention.bytes": "-1"})})
    await made.create(client, 1)
    assert await made.check(client) == []
    found = await configured(client, [f"{prefix}pbx"])
    assert found[f"{prefix}pbx"]["max.message.bytes"] == "500000"


async def test_a_rejected_topic_that_is_too_small_is_named(
    client: dict[str, Any], make_topics: MakeTopics, prefix: str
) -> None:
    """Each input that may hold records which could not be rejected is told."""
    made = Topics(prefix, 1)
    await make_topics({made.rejected: (1, {"max.message.bytes": "1048588"})})
    await made.create(client, 1)
    [found] = await made.check(client)
    assert found == (
        f"{made.rejected}: max.message.bytes leaves 983052 bytes, but {made.cdrs} takes records of 1048588, "
        f"which could not be rejected; set it to {RECORD_BYTES_MAX}"
    )


async def test_what_a_topic_does_not_say_the_broker_says(
    client: dict[str, Any], make_topics: MakeTopics, prefix: str
) -> None:
    """A topic made without settings has the broker's, which are judged the same."""
    made = Topics(prefix, 1)
    await make_topics({made.transactions: (1, {})})
    await made.create(client, 1)
    [found] = await made.check(client)
    assert found.startswith(f"{made.transactions}: retention.ms is 604800000, ")


async def test_missing_topics_and_wrong_partition_counts_are_named(
    client: dict[str, Any], make_topics: MakeTopics, prefix: str
) -> None:
    """Missing, too few and too many partitions are told; a source's own topic may have fewer than lanes."""
    few, many = f"{prefix}few", f"{prefix}many"
    made = Topics(prefix, 2, {"few": few, "many": many})
    right = {spec.name: (2, spec.settings) for spec in made.specs(1) if spec.name != made.events}
    wrong = {made.cdrs: 1, made.transactions: 3, few: 1, many: 3, made.snapshots: 1}
    await make_topics(right | {name: (count, right[name][1]) for name, count in wrong.items()})
    own = (
        "but topics.partitions is 2; set topics.partitions to {}, or, for more lanes, add some by "
        "`rater topics grow`"
    )
    others = (
        "but there are only 2 lanes, so nobody would read the others; recreate it with at most 2, or raise "
        "topics.partitions"
    )
    assert await made.check(client) == [
        f"{made.cdrs}: has 1 partitions, {own.format(1)}",
        f"{many}: has 3 partitions, {others} before the first start",
        f"{made.transactions}: has 3 partitions, {own.format(3)}",
        f"{made.events}: the topic is missing; create it by `rater topics create`",
    ]


async def test_asking_for_a_topic_does_not_make_it(guarded: Guarded, prefix: str) -> None:
    """Where the broker makes topics that clients ask for, with its own settings, our questions make none."""
    client = guarded("admin", "admin")
    made = Topics(prefix, 2)
    assert all("is missing" in line for line in await made.check(client))
    async with AIOKafkaProducer(**client) as library:
        await library.partitions_for(f"{prefix}asked")  # which makes it, after what was asked for before
    said = await made.create(client, 1)
    assert all(": created with 2 partitions" in line for line in said)


async def test_a_broker_that_is_away_is_named() -> None:
    """`check` says which setting to look at when nobody answers."""
    [found] = await Topics("t.", 1).check(NOWHERE, deadline_s=0.2)
    assert re.match(r"Kafka is not reachable at kafka\.bootstrap_servers = '127\.0\.0\.1:1' \(127", found)
    assert found.endswith("start it, or correct kafka.bootstrap_servers or kafka.security_protocol")


async def test_a_broker_that_never_answers_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where something listens and says nothing, the sentence tells that, soon, and no word of the library."""
    monkeypatch.setattr("rater.stream.topics.WHY_TIMEOUT_MS", 200)
    with socket.create_server(("127.0.0.1", 0)) as silent:  # the system connects, nobody accepts
        servers = "{}:{}".format(*silent.getsockname())
        [found] = await Topics("t.", 1).check({"bootstrap_servers": servers}, deadline_s=0.2)
    assert f"({servers}: no answer within 0.2 s); start it" in found


async def test_a_broker_that_names_no_broker_is_away(
    client: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A broker that was fenced (it has just started, or is starved) names nobody: that passes, no defect."""
    monkeypatch.setattr(AIOKafkaClient, "get_random_node", lambda _: None)
    with pytest.raises(StreamDown, match="did not answer"):
        await partition_counts(client, ["any"])


async def test_tls_to_a_broker_without_is_named(client: dict[str, Any]) -> None:
    """`check` names kafka.security_protocol when the broker does not speak TLS."""
    encrypted = {**client, "security_protocol": "SSL", "ssl_context": ssl.create_default_context()}
    [found] = await Topics("t.", 1).check(encrypted, deadline_s=0.2)
    assert re.search(r"\(127\.0\.0\.1:\d+: .*\); start it, or correct .*kafka\.security_protocol, ", found)
    assert found.endswith("kafka.ssl_cafile or kafka.ssl_certfile")


async def test_a_wrong_password_is_named(guarded: Guarded) -> None:
    """`check` says that the login was refused, and by which settings, not that the broker is away."""
    [found] = await Topics("t.", 1).check(guarded("admin", "wrong"), deadline_s=0.2)
    assert found.startswith(
        "Kafka refuses kafka.sasl_username, kafka.sasl_password or kafka.sasl_mechanism ("
    )
    mechanism = {**guarded("admin", "admin"), "sasl_mechanism": "SCRAM-SHA-256"}
    [found] = await Topics("t.", 1).check(mechanism, deadline_s=0.2)
    assert found.startswith(
        "Kafka refuses kafka.sasl_username, kafka.sasl_password or kafka.sasl_mechanism ("
    )


async def test_who_waits_for_kafka_does_not_wait_for_a_right_password(guarded: Guarded) -> None:
    """`problems` tells a broker that is away, which passes, from one that refuses us, which does not."""
    with pytest.raises(StreamDown, match=r"not reachable at kafka\.bootstrap_servers"):
        await Topics("t.", 1).problems(NOWHERE, deadline_s=0.2)
    with pytest.raises(Halt, match=r"Kafka refuses kafka\.sasl_username"):
        await Topics("t.", 1).problems(guarded("admin", "wrong"), deadline_s=0.2)


async def test_missing_rights_are_named(guarded: Guarded, prefix: str) -> None:
    """`check` says that the user may not use a topic, instead of that it is missing."""
    made = Topics(prefix, 1)
    await made.create(guarded("admin", "admin"), 1)
    [found] = await made.check(guarded("guest", "guest"))
    assert found.startswith("kafka.sasl_username may not use a topic (TopicAuthorizationFailedError")
