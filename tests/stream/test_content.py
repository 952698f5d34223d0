"""A catalog's content, `rater ingest`, and waiting for events, on a real broker."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Any

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.errors import MessageSizeTooLargeError, TopicAuthorizationFailedError
from aiokafka.partitioner import DefaultPartitioner

from rater.errors import Halt, StreamDown
from rater.stream.content import GAP_MAX, read_content, undecided
from rater.stream.ingest import Ingest
from rater.stream.tail import EventTail, Tail
from rater.stream.topics import partition_counts

if TYPE_CHECKING:
    from stream.conftest import Guarded, Scene

pytestmark = pytest.mark.kafka


async def write(scene: Scene, values: list[bytes]) -> list[int]:
    """Write content to partition 0 of the commands, each piece in a Kafka transaction of its own."""
    writer = await scene.writer("catalog")
    topic = scene.topics.commands
    return [offset for value in values for offset in await writer.write([(topic, 0, b"k", value, [])])]


async def test_pieces_are_found_at_their_offsets(scene: Scene) -> None:
    """Just what was asked for comes, over gaps of any length, markers and aborted records between."""
    values = [b"%d" % number for number in range(GAP_MAX + 4)]
    offsets = await write(scene, values[:3])
    await scene.abort(scene.topics.commands)
    offsets += await write(scene, values[3:])
    assert offsets[1] - offsets[0] == 2  # a marker between
    client, topic = scene.client, scene.topics.commands
    assert await read_content(client, topic, offsets) == dict(zip(offsets, values, strict=True))
    few = [offsets[-1], offsets[0], offsets[2]]
    assert await read_content(client, topic, few) == {
        offsets[-1]: values[-1],
        offsets[0]: b"0",
        offsets[2]: b"2",
    }
    assert await read_content(client, topic, []) == {}


async def test_content_is_there_as_soon_as_it_is_committed(scene: Scene) -> None:
    """The end that readers are told lags behind a commit; what was committed is waited for, not missed."""
    writer = await scene.writer("catalog")
    for number in range(20):
        value = b"%d" % number
        [offset] = await writer.write([(scene.topics.commands, 0, b"k", value, [])])
        assert await read_content(scene.client, scene.topics.commands, [offset]) == {offset: value}


async def test_content_that_is_not_there_halts(scene: Scene) -> None:
    """Removed, aborted, a marker, or behind the end of a recreated topic: the sentence names the offset."""
    topic = scene.topics.commands
    first, second = await write(scene, [b"a", b"b"])
    await scene.abort(topic)
    for missing in (second + 1, second + 2, 1000):  # a marker, an aborted record, behind the end
        with pytest.raises(
            Halt, match=rf"commands\[0\] has no record at offset {missing}, .*restore the topic"
        ):
            await read_content(scene.client, topic, [first, missing])
    with pytest.raises(Halt, match=r"has no record at offset 1000, "):
        await read_content(scene.client, topic, [1000])
    await scene.remove_before(topic, second)
    with pytest.raises(Halt, match=rf"has no record at offset {first}, .*restore the topic"):
        await read_content(scene.client, topic, [first, second])
    assert await read_content(scene.client, topic, [second]) == {second: b"b"}


async def test_content_behind_an_open_transaction_is_waited_for(scene: Scene) -> None:
    """While a Kafka transaction is open before it, content is not missing: StreamDown, which means wait."""
    topic = scene.topics.commands
    foreign = await scene.transactional("foreign")
    await foreign.begin_transaction()
    await foreign.send_and_wait(topic, b"open", partition=0)
    [offset] = await write(scene, [b"a"])
    with pytest.raises(StreamDown, match=r"commands\[0\]@1 could not be read for 0\.5 s"):
        await read_content(scene.client, topic, [offset], deadline_s=0.5)
    await foreign.commit_transaction()
    assert await read_content(scene.client, topic, [offset]) == {offset: b"a"}


async def test_an_open_transaction_is_seen(scene: Scene) -> None:
    """A partition is undecided while a Kafka transaction is open in it, and not before or after."""
    topic = scene.topics.commands
    await write(scene, [b"a"])
    assert await undecided(scene.client, topic, [0, 1]) == set()
    foreign = await scene.transactional("foreign")
    await foreign.begin_transaction()
    await foreign.send_and_wait(topic, b"open", partition=1)
    assert await undecided(scene.client, topic, [0, 1]) == {1}
    await foreign.commit_transaction()
    async with asyncio.timeout(10):  # the marker comes a moment after the answer
        while await undecided(scene.client, topic, [0, 1]):  # noqa: ASYNC110 - a broker signals nothing
            await asyncio.sleep(0.01)


async def test_ingest_keeps_keys_together_and_spreads_the_rest(scene: Scene) -> None:
    """A key goes where other Kafka clients put it, in order; records without keys go round by the batch."""
    topic = scene.topics.cdrs
    keys = [b"%d" % (number % 7) for number in range(200)]
    bulk = [b"x" * 400_000] * 6  # two make a batch
    async with Ingest(scene.client, topic) as ingest:
        for number, key in enumerate(keys):
            await ingest.send(b"%d" % number, key)
        for value in bulk:  # into batches that hold records with keys
            await ingest.send(value)
        await ingest.flush()
    counts: list[int] = []
    for partition in (0, 1):
        found = await scene.committed(topic, partition)
        keyed = [(record.key, record.value) for record in found if record.key is not None]
        assert keyed == [
            (key, b"%d" % number)
            for number, key in enumerate(keys)
            if DefaultPartitioner()(key, [0, 1], [0, 1]) == partition
        ]
        counts.append(len(found) - len(keyed))
    assert sorted(counts) == [2, 4]


async def test_ingest_refuses_what_the_topic_does_not_take(scene: Scene) -> None:
    """A record above the topic's limit is told to whoever sends it; all others go."""
    topic = scene.topics.cdrs
    noise = random.Random(1).randbytes  # noqa: S311 - incompressible, for the broker measures what arrives
    async with Ingest(scene.client, topic) as ingest:
        await ingest.send(noise(1_000_000))
        await ingest.flush()
        for number in range(4):
            assert not await ingest.send(noise(2_000_000), b"%d" % number)
            assert await ingest.send(b"x" * 2_000_000)  # compressed it is small
            assert await ingest.send(b"small", b"key")
        await ingest.flush()
    assert len(await scene.committed(topic)) + len(await scene.committed(topic, 1)) == 9


async def test_ingest_makes_no_topic(guarded: Guarded, prefix: str) -> None:
    """A missing topic is told, and not made by asking, also where the broker makes what clients ask for."""
    client = guarded("admin", "admin")
    with pytest.raises(Halt, match=r"none: the topic is missing; create it by `rater topics create`"):
        await Ingest(client, f"{prefix}none").open()
    async with AIOKafkaProducer(**client) as library:
        await library.partitions_for(f"{prefix}asked")  # which makes it, after what was asked for before
    assert await partition_counts(client, [f"{prefix}none"]) == {f"{prefix}none": None}


async def test_ingest_tells_what_failed(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch that is not confirmed means StreamDown: send again; a refusal means Halt; closed means so."""
    ingest = Ingest(scene.client, scene.topics.cdrs, deadline_s=5)
    with pytest.raises(StreamDown, match=r"closed"):
        await ingest.send(b"a")
    async with ingest:
        library: Any = ingest._producer  # noqa: SLF001 - stands in for what the library raises

        def failing(error: Exception) -> Any:
            async def send_batch(*_: Any, **__: Any) -> None:
                raise error

            return send_batch

        for error, kind in (
            (MessageSizeTooLargeError(), Halt),
            (TopicAuthorizationFailedError("t"), Halt),
            (TimeoutError(), StreamDown),
        ):
            monkeypatch.setattr(library, "send_batch", failing(error))
            await ingest.send(b"a")
            with pytest.raises(kind):
                await ingest.flush()


async def test_a_tail_follows_from_its_offsets(scene: Scene) -> None:
    """What lies at and behind the offsets comes in order; a quiet topic gives none, a closed tail fails."""
    topic = scene.topics.events
    await scene.put(topic, [b"a", b"b"])
    async with Tail(scene.client, topic, {0: 1, 1: 0}) as tail:
        assert [record.value for record in await tail.poll(10_000)] == [b"b"]
        assert await tail.poll(50) == []
        await scene.put(topic, [b"c"], partition=1)
        assert [record.value for record in await tail.poll(10_000)] == [b"c"]
    with pytest.raises(StreamDown, match=r"closed"):
        await tail.poll(0)


async def test_events_after_the_opening_are_seen(scene: Scene) -> None:
    """An event tail shows what any lane writes after it was opened, and nothing from before."""
    await scene.put(scene.topics.events, [b"before"])
    events = EventTail(scene.client, scene.topics)
    with pytest.raises(StreamDown, match=r"closed"):
        await events.poll(0)
    await events.open()
    lane = await scene.lane(1)
    await lane.commit([], [], [(b"c", b"{}", [])], scene.mark(1))
    assert await events.poll(10_000) == [b"{}"]
    await events.close()
