"""What topics and brokers are set to that is dangerous: each is named, with its remedy."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest

from rater.clocks import clock_differs
from rater.stream import dangers
from rater.stream.dangers import Wanted, of_broker, of_copies, of_topics
from rater.stream.quorum import controller_clock, read_clock
from rater.stream.topics import Topics, administrator

if TYPE_CHECKING:
    from collections.abc import Mapping

    from stream.conftest import MakeTopics

DAY = 86_400_000
WANTED = Wanted(session_timeout_ms=30_000, window_ms=7 * DAY)
TOPICS = Topics("", 1, {"pbx": "pbx"})


def settings(**changed: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """Return the settings of all topics as they are made, but for these."""
    made = {spec.name: {"retention.ms": "-1", **spec.settings} for spec in TOPICS.specs(3)}
    return {name: {**own, **changed.get(name, {})} for name, own in made.items()}


def test_topics_as_they_are_made_endanger_nothing() -> None:
    """With three brokers, three copies and two in sync there is nothing to say."""
    assert list(of_copies(dict.fromkeys(settings(), 3), settings(), 3)) == []
    assert list(of_topics(TOPICS, settings(), WANTED)) == []


@pytest.mark.parametrize(
    ("copies", "in_sync", "brokers", "says"),
    [
        (1, "1", 1, "cdrs: one copy of each record.*kafka-reassign-partitions.sh"),
        (3, "1", 3, "cdrs: min.insync.replicas is 1, so a record is confirmed that one.*set it to 2"),
        (3, "3", 3, "cdrs: min.insync.replicas is the number of copies.*set it to one less"),
        (2, "2", 2, "cdrs: min.insync.replicas is the number of copies"),
        (2, "1", 2, "cdrs: min.insync.replicas is 1"),
    ],
)
def test_copies(copies: int, in_sync: str, brokers: int, says: str) -> None:
    """Too few, and too many in sync, are told in one sentence for all topics that it is true of."""
    own = settings(cdrs={"min.insync.replicas": in_sync})
    [told] = of_copies({**dict.fromkeys(own, 3), "cdrs": copies}, own, brokers)
    assert re.match(says, told)


def test_two_copies_where_three_could_be() -> None:
    """With three brokers there may be three copies."""
    few = settings(cdrs={"min.insync.replicas": "2"}, pbx={"min.insync.replicas": "2"})
    told = list(of_copies({**dict.fromkeys(few, 3), "cdrs": 2, "pbx": 2}, few, 3))
    assert [line.partition(":")[0] for line in told] == ["cdrs, pbx", "cdrs, pbx"]
    assert "raise them to 3" in told[1]


@pytest.mark.parametrize(
    ("topic", "setting", "value", "says"),
    [
        ("events", "unclean.leader.election.enable", "true", "it loses what was confirmed; set it to false"),
        (
            "pbx",
            "retention.ms",
            str(6 * DAY),
            "less than worker.duplicate_window_days.*; set it to 604800000",
        ),
        ("commands", "message.timestamp.type", "LogAppendTime", "another time than.*; set it to CreateTime"),
    ],
)
def test_settings_of_topics(topic: str, setting: str, value: str, says: str) -> None:
    """Each is named with its value."""
    [told] = of_topics(TOPICS, settings(**{topic: {setting: value}}), WANTED)
    assert told.startswith(f"{topic}: {setting} is {value}, ")
    assert re.search(says, told)


@pytest.mark.parametrize(
    ("setting", "value", "says"),
    [
        ("transaction.max.timeout.ms", "599999", "a large load needs more.*; set it to 600000"),
        ("group.min.session.timeout.ms", "30001", "kafka.session_timeout_ms is 30000.*; change one of them"),
        ("group.max.session.timeout.ms", "29999", "kafka.session_timeout_ms is 30000.*; change one of them"),
        ("transaction.state.log.replication.factor", "1", "lost with one broker; set it to 3"),
        ("offsets.topic.replication.factor", "1", "lost with one broker; set it to 3"),
        ("transaction.state.log.min.isr", "1", "that one broker has; set it to 2"),
        ("auto.create.topics.enable", "true", "in place of a fault; set it to false"),
    ],
)
def test_settings_of_brokers(setting: str, value: str, says: str) -> None:
    """Each is named with its value and broker; what a broker has by default in production is right."""
    own = {
        "transaction.max.timeout.ms": "900000",
        "group.min.session.timeout.ms": "6000",
        "group.max.session.timeout.ms": "1800000",
        "transaction.state.log.replication.factor": "3",
        "transaction.state.log.min.isr": "2",
        "offsets.topic.replication.factor": "3",
        "auto.create.topics.enable": "false",
    }
    assert list(of_broker(2, own, WANTED)) == []
    [told] = of_broker(2, {**own, setting: value}, WANTED)
    assert told.startswith(f"broker 2: {setting} is {value}, ")
    assert re.search(says, told)


def test_clocks() -> None:
    """Five seconds apart is nothing, more is told with how much, and what is not known is not."""
    assert list(clock_differs("the clock", None, 0)) == []
    assert list(clock_differs("the clock", 5_000, 0)) == []
    [behind] = clock_differs("the clock", 0, 61_000)
    [ahead] = clock_differs("the clock", 61_000, 0)
    assert behind.startswith("the clock is 61 s behind the clock here")
    assert ahead.startswith("the clock is 61 s ahead of the clock here")
    assert ahead.endswith("keep time by NTP")


@pytest.mark.kafka
async def test_a_broker_is_asked_for_all_of_it(
    client: dict[str, Any], make_topics: MakeTopics, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the test's broker its single copies are told, and its clock, which is this machine's."""
    made = Topics(prefix, 1)
    own = {spec.name: (1, spec.settings) for spec in made.specs(1)}
    wrong = {**own[made.events][1], "unclean.leader.election.enable": "true"}
    await make_topics({**own, made.events: (1, wrong)})
    told = await dangers.remarks(client, made, WANTED)
    assert told[0].startswith(
        f"{made.cdrs}, {made.commands}, {made.events}, {made.rejected}, {made.snapshots}, "
    )
    assert told[1].startswith(f"{made.events}: unclean.leader.election.enable is true, ")
    assert [line.partition(",")[0] for line in told[2:]] == [
        "broker 1: transaction.state.log.replication.factor is 1",
        "broker 1: offsets.topic.replication.factor is 1",
    ]
    admin = await administrator(client, 10)
    try:
        assert await controller_clock(admin) is not None
    finally:
        await admin.close()
    monkeypatch.setattr("rater.stream.dangers.time.time_ns", lambda: 10**18)
    assert "the clock of Kafka's controller is " in (await dangers.remarks(client, made, WANTED))[-1]


def test_a_controller_that_tells_nothing() -> None:
    """An answer without the leader among the voters, or with a fault alone, is no clock."""
    voter = {"replica_id": 1, "last_fetch_timestamp": 5}
    partition = {"leader": 1, "voters": [voter]}
    assert read_clock({"topics": [{"partitions": [partition]}]}) == 5
    assert read_clock({"topics": [{"partitions": [{**partition, "leader": 2}]}]}) is None
    assert read_clock({"topics": []}) is None
