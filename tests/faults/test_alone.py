"""Faults that need a scene of their own: what stops a worker does so with a sentence, and nothing is lost."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import NewPartitions
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from redis.asyncio import Redis as Client
from redis.crc import key_slot

from faults.calls import OTHERS, calls, catalog
from faults.proxy import HOST
from faults.rig import BUCKETS, PARTITIONS, Rig, Servers, Slot, ThreeBrokers, free_ports, until
from rater.errors import Halt
from rater.local.redis import Redis
from rater.stream.content import Writer

pytestmark = pytest.mark.kafka

Start = Callable[..., Awaitable[Rig]]
Figure = Callable[[str], None]
KILLS = 40
"""Messages on the wire at which a worker is killed, one after the other."""
MOVES = 8
HOUR_MS = 3_600_000


async def halted(slot: Slot) -> str:
    """Wait until a worker has ended by itself, and return its last words."""
    await until(lambda: not slot.alive, f"worker {slot.number} stops")
    assert slot.process is not None
    assert slot.process.returncode == 1
    slot.ended_by_us = True
    return slot.log.read_text()


async def set_topic(rig: Rig, topic: str, setting: str, value: str) -> None:
    """Change a setting of a topic and wait until the broker says so."""
    async with rig.admin() as admin:
        spec = next(one for one in rig.topics.specs(1) if one.name == topic)
        whole = {**spec.settings, setting: value}  # what is not named would go back to its default
        await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, whole)])

        async def told() -> bool:
            return value in str(
                await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topic)])
            )

        await until(told, f"{topic} has {setting}={value}")


@pytest.mark.fault("F18")
async def test_a_journal_that_takes_nothing_stops_the_worker(start: Start) -> None:
    """Where the journal refuses a record, no mark passes it; once it takes it again, all are published."""
    rig = await start(3)
    await rig.progress(everywhere=True)
    (keep,) = rig.running()[1:]
    await rig.end(keep)
    await set_topic(rig, rig.topics.transactions, "max.message.bytes", "300")
    said = await halted(rig.slots[0])
    assert "max.message.bytes" in said
    await set_topic(rig, rig.topics.transactions, "max.message.bytes", "11534336")
    await rig.progress(everywhere=True)
    await rig.sound()


@pytest.mark.fault("F11")
async def test_added_partitions_are_refused_before_anything_is_rated(start: Start) -> None:
    """Workers that run and one that starts stop and say so: nobody would read what the new ones get."""
    rig = await start(4)
    slots = [*rig.running(), rig.slots[2]]
    async with rig.admin() as admin:
        await admin.create_partitions({rig.topics.cdrs: NewPartitions(PARTITIONS + 1)})
    rig.launch(rig.slots[2])
    for slot in slots:
        said = await halted(slot)
        assert "topics.partitions" in said
        assert rig.topics.cdrs in said


@pytest.mark.long
@pytest.mark.fault("F9")
async def test_two_installations_in_one_group(start: Start, servers: Servers, tmp_path: Path) -> None:
    """A second installation in the same group, by mistake, fences lanes again and again: no harm is done."""
    rig = await start(5)
    (tmp_path / "second").mkdir()
    other = Rig(servers, tmp_path / "second", 6, catalog())
    await other.topics.create({"bootstrap_servers": servers.bootstrap}, 1)
    group = rig.settings_of("", "")["RATER_KAFKA__GROUP_ID"]
    slot = rig.slots[2]
    own = rig.environ(slot)
    second = other.settings_of(own["RATER_KAFKA__BOOTSTRAP_SERVERS"], own["RATER_REDIS__URL"])
    rig.launch(slot, environ={**second, "RATER_KAFKA__GROUP_ID": group})

    def fences() -> bool:
        return any(line.get("fault") == "Fenced" for one in rig.running() for line in one.events())

    await until(fences, "one fences the other")
    await rig.progress(everywhere=True)
    await rig.end(slot)
    await rig.progress(everywhere=True)
    await rig.sound()


@pytest.mark.fault("F8")
async def test_a_clock_far_ahead_is_named(start: Start) -> None:
    """Where a topic keeps writers' times, a machine whose clock is hours ahead is told so."""
    rig = await start(7, workers=1)
    writer = Writer(
        {"bootstrap_servers": rig.servers.bootstrap},
        f"{rig.prefix}ahead",
        at_ms=time.time_ns() // 10**6 + 2 * HOUR_MS,
    )
    await writer.open()
    try:
        with pytest.raises(Halt, match="clock"):
            await writer.write([(rig.topics.commands, 0, None, b"x", [])])
    finally:
        await writer.close()


@pytest.mark.fault("F44")
async def test_the_whole_topic_again(start: Start) -> None:
    """Every record sent once more, to other partitions: nothing is rated again, no balance moves."""
    rig = await start(8)
    await rig.progress(600)
    rig.feeding.clear()
    await rig.settled()
    before = await rig.evidence(store_kept=True)
    for record in before.inputs:
        await rig.put(record.value or b"", (record.partition + 1) % PARTITIONS)
    await rig.sound()
    after = await rig.evidence(store_kept=True)
    assert len(after.inputs) == 2 * len(before.inputs)
    assert after.stored == before.stored


@pytest.mark.long
@pytest.mark.fault("F2")
async def test_killed_at_each_message_on_the_wire(start: Start, figure: Figure) -> None:
    """A worker is killed at its 1st, 2nd, 3rd … message to or from Kafka and Redis, from its start on."""
    began = time.monotonic()
    rig = await start(9, workers=1)
    rig.rate_per_s = 60
    done = 0
    for step in range(KILLS):
        slot = next(one for one in rig.slots if not one.alive)
        count = 8 + 10 * step  # the first messages only ask the broker which versions it knows

        def passed(slot: Slot = slot, left: list[int] = [count]) -> None:  # noqa: B006 - one for each
            left[0] -= 1
            if left[0] == 0 and slot.process is not None:
                slot.process.kill()

        slot.kafka.on_message = slot.redis.on_message = passed
        rig.launch(slot)
        slot.ended_by_us = True
        await until(lambda slot=slot: not slot.alive, f"message {count}")  # type: ignore[misc]
        slot.kafka.on_message = slot.redis.on_message = lambda: None
        slot.process = None
        done += 1
    await rig.progress(everywhere=True)
    verdict = await rig.sound()
    figure(f"killed at each message: {done} faults, {verdict}; {time.monotonic() - began:.0f} s")


@pytest.mark.long
@pytest.mark.fault("F17")
async def test_an_idle_lane_whose_transactional_id_expired(tmp_path: Path) -> None:
    """The broker forgets the producer of an idle lane; its next batch is published all the same, once."""
    servers = Servers(
        tmp_path / "servers",
        {
            "transactional.id.expiration.ms": "2000",
            "transaction.remove.expired.transaction.cleanup.interval.ms": "500",
        },
    )
    rig = Rig(servers, tmp_path, 10, catalog())
    try:
        await rig.start(calls(10))
        await rig.progress(everywhere=True)
        await rig.settled()
        await forgotten(rig)
        rig.feeding.set()
        await rig.progress(everywhere=True)
        await rig.sound()
    finally:
        await rig.close()
        servers.stop()


async def forgotten(rig: Rig) -> None:
    """Wait until the broker has taken the ids of all lanes out of its topic of transactions."""
    place = TopicPartition("__transaction_state", 0)
    ids = {f"{rig.prefix}-{lane}".encode() for lane in range(PARTITIONS)}
    gone: set[bytes] = set()
    async with AIOKafkaConsumer(bootstrap_servers=rig.servers.bootstrap) as reader:
        reader.assign([place])
        await reader.seek_to_beginning(place)

        async def all_gone() -> bool:
            for record in (await reader.getmany(timeout_ms=200)).get(place, []):
                named = {one for one in ids if one in (record.key or b"")}
                gone.difference_update(named)
                gone.update(named if record.value is None else ())
            return gone == ids

        await until(all_gone, "the broker has forgotten the lanes' transactional ids")


def hot(seed: int) -> Iterator[bytes]:
    """Yield calls of which nine in ten are of one client."""
    for number, raw in enumerate(calls(seed)):
        try:
            cdr = json.loads(raw)
        except ValueError:
            continue
        if number % 10 and cdr.get("orig", {}).get("client", "nobody") != "nobody":
            cdr["orig"] = {"client": f"c{OTHERS - 1}"}
            cdr["id"] = f"hot-{number}"
        yield json.dumps(cdr).encode()


@pytest.mark.long
@pytest.mark.fault("F40")
async def test_one_client_has_nearly_all_calls(start: Start, figure: Figure) -> None:
    """Nine calls in ten are of one client, while a worker is killed: limits are exact, all lanes go on."""
    rig = await start(11, source=hot(11))
    rig.rate_per_s = 1000
    await rig.progress(5000)
    await rig.end(rig.slots[0])
    await rig.progress(10_000, everywhere=True)
    verdict = await rig.sound()
    figure(f"one client has 90 % of 1000 CDR/s, one worker killed: {verdict}; {rig.lateness()}")


@pytest.mark.long
@pytest.mark.fault("F33")
async def test_slots_move_under_load(start: Start, start_redis: Callable[..., Redis], figure: Figure) -> None:
    """A bucket's slot moves between two nodes again and again, and rests half way: nothing is done twice."""
    keeps = {"cluster-allow-replica-migration": "no"}  # a node without slots stays a primary
    first = start_redis(cluster=True, settings=keeps)
    (bus,) = free_ports(1)
    second = start_redis(
        settings={
            **keeps,
            "cluster-enabled": "yes",
            "cluster-config-file": "nodes.conf",
            "cluster-port": str(bus),
            "cluster-announce-ip": HOST,
        }
    )
    nodes = [second, first]
    async with Client.from_url(first.url) as one, Client.from_url(second.url) as two:
        ask: list[Any] = [two.execute_command, one.execute_command]
        ids = [(await each("CLUSTER", "MYID")).decode() for each in ask]
        bus = int(str((await one.config_get("cluster-port"))["cluster-port"]))
        await ask[0]("CLUSTER", "MEET", HOST, first.port, bus)

        async def met() -> bool:
            said = [await each("CLUSTER", "INFO") for each in ask]
            return all(b"cluster_known_nodes:2\r" in told and b"cluster_state:ok\r" in told for told in said)

        await until(met, "the nodes have met")
        rig = await start(12, cluster=[node.url for node in nodes[::-1]])
        for turn in range(MOVES):
            slot = key_slot(f"{rig.prefix}{{{turn // 2 % BUCKETS}}}:meta".encode())
            source, target = (1, 0) if turn % 2 == 0 else (0, 1)
            await move(ask, nodes, ids, slot, source, target)
            await rig.progress(everywhere=True)
        verdict = await rig.sound()
    figure(f"slots moved under load: {MOVES} faults, {verdict}; {rig.lateness()}")


async def move(
    ask: list[Any], nodes: list[Redis], ids: list[str], slot: int, source: int, target: int
) -> None:
    """Move a slot with its keys from a node to the other, with a rest when half of them have moved."""
    await ask[target]("CLUSTER", "SETSLOT", slot, "IMPORTING", ids[source])
    await ask[source]("CLUSTER", "SETSLOT", slot, "MIGRATING", ids[target])
    keys = await ask[source]("CLUSTER", "GETKEYSINSLOT", slot, 100_000)
    for number, key in enumerate(keys):
        await ask[source]("MIGRATE", HOST, nodes[target].port, key, 0, 5000)
        if number == len(keys) // 2:
            await asyncio.sleep(2)
    while keys := await ask[source]("CLUSTER", "GETKEYSINSLOT", slot, 100_000):  # those made meanwhile
        for key in keys:
            await ask[source]("MIGRATE", HOST, nodes[target].port, key, 0, 5000)
    for one in (target, source):
        await ask[one]("CLUSTER", "SETSLOT", slot, "NODE", ids[target])


@pytest.mark.long
@pytest.mark.fault("F13")
async def test_each_of_three_brokers_is_killed(tmp_path: Path, figure: Figure) -> None:
    """Three brokers, killed one after the other, so each coordinator too: all goes on with two of three."""
    began = time.monotonic()
    servers = ThreeBrokers(tmp_path / "servers")
    rig = Rig(servers, tmp_path, 13, catalog())
    try:
        await rig.start(calls(13))
        await rig.progress(everywhere=True)
        for broker in servers.brokers * 2:
            await asyncio.to_thread(broker.kill)
            await rig.progress(everywhere=True)  # with two of three
            await asyncio.to_thread(broker.restart)
            await whole(rig)
        verdict = await rig.sound()
    finally:
        await rig.close()
        servers.stop()
    figure(
        f"each of three brokers killed twice: 6 faults, {verdict}; {rig.lateness()}; "
        f"{time.monotonic() - began:.0f} s"
    )


async def whole(rig: Rig) -> None:
    """Wait until all copies of the topics are in step again: the next kill must not be one too many."""
    async with rig.admin() as admin:

        async def in_step() -> bool:
            topics = await admin.describe_topics([spec.name for spec in rig.topics.specs(3)])
            return all(len(part["isr"]) == rig.copies for topic in topics for part in topic["partitions"])

        await until(in_step, "all copies are in step")
