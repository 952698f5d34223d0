"""What a lane reads, on a real broker."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

import pytest
from aiokafka import TopicPartition

from rater.errors import Halt, Retake
from rater.stream.connecting import reading, settle
from rater.stream.lane_reader import COMMANDS_BYTES, LaneReader
from rater.stream.topics import Topics
from rater.stream.watching import TopicWatch

if TYPE_CHECKING:
    from stream.conftest import MakeTopics, Scene

pytestmark = pytest.mark.kafka

NOW_MS = time.time_ns() // 1_000_000


async def values(source: LaneReader, count: int) -> list[tuple[str, bytes]]:
    """Poll until so many records came; return (topic without prefix, value)."""
    found: list[tuple[str, bytes]] = []
    async with asyncio.timeout(15):
        while len(found) < count:
            polled = await source.poll(timeout_ms=1000)
            prefix = len(source.topics.prefix)
            found += [(topic[prefix:], record.value) for topic, records in polled for record in records]
    return found


async def test_a_new_lane_reads_all_its_topics_from_their_begin(scene: Scene) -> None:
    """Commands and data of its own partition come, each in order; other partitions' do not."""
    topics = scene.topics
    await scene.put(topics.cdrs, [b"a", b"b"])
    await scene.put(topics.cdrs, [b"other"], partition=1)
    await scene.put(topics.commands, [b"do"], first_ms=NOW_MS)
    source = await scene.source({})
    found = await values(source, 3)
    assert sorted(found) == [("cdrs", b"a"), ("cdrs", b"b"), ("commands", b"do")]
    assert source.next == {topics.cdrs: 2, topics.commands: 1}
    assert source.times[topics.commands] == NOW_MS
    assert await source.poll(timeout_ms=0) == []


async def test_only_committed_records_come(scene: Scene) -> None:
    """Aborted records never come, and what lies behind an open Kafka transaction waits for its end."""
    topics = scene.topics
    await scene.abort(topics.cdrs, times=3)
    await scene.put(topics.cdrs, [b"a"])
    writer = await scene.transactional("pbx")
    await writer.begin_transaction()
    await writer.send_and_wait(topics.cdrs, b"b", partition=0)
    await scene.put(topics.cdrs, [b"c"])
    source = await scene.source({})
    assert await values(source, 1) == [("cdrs", b"a")]
    assert await source.poll(timeout_ms=300) == []
    await writer.commit_transaction()
    assert await values(source, 2) == [("cdrs", b"b"), ("cdrs", b"c")]


async def test_it_goes_on_where_the_mark_stands(scene: Scene) -> None:
    """From the mark's positions on, after the last record's time was found to be the one that was read."""
    topics = scene.topics
    await scene.put(topics.cdrs, [b"a", b"b", b"c"], first_ms=NOW_MS)
    source = await scene.source({topics.cdrs: 2, topics.commands: 0}, {topics.cdrs: NOW_MS + 1})
    assert await values(source, 1) == [("cdrs", b"c")]
    assert (source.next[topics.cdrs], source.times[topics.cdrs]) == (3, NOW_MS + 2)


async def test_calls_do_not_wait_behind_all_commands_of_a_load(scene: Scene) -> None:
    """A poll returns a few commands of those fetched; calls that come meanwhile come with the next ones."""
    topics, sent = scene.topics, [bytes([number]) * (COMMANDS_BYTES // 2) for number in range(7)]
    await scene.put(topics.commands, sent, first_ms=NOW_MS)
    source = await scene.source({})
    assert await values(source, 2) == [("commands", raw) for raw in sent[:2]]
    assert (source.next[topics.commands], source.times[topics.commands]) == (2, NOW_MS + 1)
    assert (await source.lag())[topics.commands][0] == len(sent)
    source.committed(source.next, source.times)
    assert (await source.lag())[topics.commands][0] == len(sent) - 2
    await scene.put(topics.cdrs, [b"call"])
    await asyncio.sleep(1.0)
    rest = await values(source, len(sent) - 2 + 1)
    assert [raw for topic, raw in rest if topic == "commands"] == sent[2:]
    assert rest[-1] == ("commands", sent[-1])
    assert ("cdrs", b"call") in rest


async def test_small_commands_come_together(scene: Scene) -> None:
    """What takes no time is not dealt out."""
    topics, sent = scene.topics, [b"do"] * 300
    await scene.put(topics.commands, sent, first_ms=NOW_MS)
    source = await scene.source({})
    ((topic, records),) = await source.poll(timeout_ms=5000)
    assert (topic, len(records)) == (topics.commands, len(sent))


async def test_without_a_catalog_only_commands_come(scene: Scene) -> None:
    """Data is not polled before `enable_data`, and then from its begin."""
    await scene.put(scene.topics.cdrs, [b"a"])
    source = await scene.source({}, include_data=False)
    await scene.put(scene.topics.commands, [b"do"])
    assert await values(source, 1) == [("commands", b"do")]
    assert await source.poll(timeout_ms=200) == []
    await source.enable_data()
    await source.enable_data()
    assert await values(source, 1) == [("cdrs", b"a")]


async def test_a_source_may_have_fewer_partitions_than_lanes(scene: Scene, make_topics: MakeTopics) -> None:
    """A lane reads the topics that have its partition; positions of others are kept."""
    pbx = f"{scene.topics.prefix}pbx"
    topics = Topics(scene.topics.prefix, 2, {"pbx": pbx})
    await make_topics({pbx: (1, {})})
    await scene.put(pbx, [b"p"])
    await scene.put(topics.cdrs, [b"a"], partition=1)
    assert await values(await scene.source({}, topics=topics), 1) == [("pbx", b"p")]
    second = await scene.source({"dropped": 5}, lane=1, topics=topics)
    assert await values(second, 1) == [("cdrs", b"a")]
    assert second.next["dropped"] == 5


async def test_unread_records_that_are_gone_halt(scene: Scene) -> None:
    """When retention has passed the mark, or the first command of a new lane, opening stops."""
    topics = scene.topics
    await scene.put(topics.cdrs, [b"a", b"b", b"c"])
    await scene.remove_before(topics.cdrs, 2)
    with pytest.raises(
        Halt, match=r"cdrs\[0\] begins at offset 2, but was read up to 1 only: .*retention\.ms"
    ):
        await scene.source({topics.cdrs: 1, topics.commands: 0})
    assert await values(await scene.source({topics.cdrs: 2, topics.commands: 0}), 1) == [("cdrs", b"c")]
    await scene.put(topics.commands, [b"do"])
    await scene.remove_before(topics.commands, 1)
    with pytest.raises(Halt, match=r"commands\[0\] begins at offset 1, but was read up to 0 only"):
        await scene.source({topics.cdrs: 2})


async def test_records_that_vanish_while_reading_halt(scene: Scene) -> None:
    """When retention overtakes a running lane, polling stops instead of jumping over what is gone."""
    topics = scene.topics
    source = await scene.source({}, include_data=False)
    await scene.put(topics.cdrs, [b"a", b"b"])
    await scene.remove_before(topics.cdrs, 1)
    await source.enable_data()
    with pytest.raises(Halt, match=r"cdrs\[0\] no longer has offset 0: .*retention"):
        await values(source, 1)


async def test_a_recreated_topic_halts(scene: Scene) -> None:
    """Shorter than the mark, or with another record where the last one was: it is not the topic we read."""
    topics = scene.topics
    commands = {topics.commands: 0}
    await scene.put(topics.cdrs, [b"a", b"b"], first_ms=NOW_MS)
    with pytest.raises(
        Halt, match=r"not the topic that was read before: it ends at offset 2, but was read up to 3"
    ):
        await scene.source({topics.cdrs: 3, **commands})
    with pytest.raises(Halt, match=rf"the record at offset 1 is of {NOW_MS + 1} ms, but .* was of 5 ms"):
        await scene.source({topics.cdrs: 2, **commands}, {topics.cdrs: 5})
    await scene.abort(topics.cdrs)
    await scene.put(topics.cdrs, [b"c"])
    with pytest.raises(Halt, match=r"there is no record at offset 2, the last one that was read"):
        await scene.source({topics.cdrs: 3, **commands}, {topics.cdrs: NOW_MS})


async def test_a_missing_topic_halts(scene: Scene) -> None:
    """A source whose topic is not there is told with the remedy."""
    topics = Topics(scene.topics.prefix, 2, {"pbx": f"{scene.topics.prefix}none"})
    with pytest.raises(Halt, match=r"none: the topic is missing; create it by `rater topics create`"):
        await scene.source({}, topics=topics)


async def test_any_failure_of_a_poll_takes_the_lane_again(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the library raises, a record that comes twice and a closed source mean Retake."""
    topics = scene.topics
    await scene.put(topics.cdrs, [b"a"])
    source = await scene.source({})
    await values(source, 1)
    place = TopicPartition(topics.cdrs, 0)
    library: Any = source._consumer  # noqa: SLF001 - stands in for what the library does
    library.seek(place, 0)
    with pytest.raises(Retake, match=r"cdrs\[0\] came again from offset 0"):
        await values(source, 1)

    async def broken(**_: Any) -> None:
        await asyncio.sleep(0)
        raise AssertionError("corrupt")

    monkeypatch.setattr(library, "getmany", broken)
    with pytest.raises(Retake, match=r"reading lane 0 failed \(AssertionError: corrupt\)"):
        await source.poll(timeout_ms=0)
    await source.close()
    await source.close()
    with pytest.raises(Retake, match=r"closed"):
        await source.poll(timeout_ms=0)
    assert await source.lag() == {}
    assert await source.waiting() == {}
    await source.commit_offsets()


async def test_offsets_are_committed_for_lag_tools(scene: Scene) -> None:
    """The group GROUP.lanes shows what was published, and where nothing waits it stands at the very end.

    A marker of a Kafka transaction is no record, but for Kafka's own tools it would wait for ever.
    """
    topics = scene.topics
    writer = await scene.writer("pbx")
    await writer.write([(topics.cdrs, 0, None, raw, []) for raw in (b"a", b"b")])
    source = await scene.source({})
    place = TopicPartition(topics.cdrs, 0)
    async with reading(scene.client, [place], deadline_s=10, group_id=f"{scene.group}.lanes") as reader:

        async def shown() -> int | None:
            await source.commit_offsets()
            await settle()
            committed: int | None = await reader.committed(place)
            return committed

        await values(source, 2)
        assert await shown() == 0
        source.committed({topics.cdrs: 1, "dropped": 7}, {})
        assert await shown() == 1
        source.committed({topics.cdrs: 2}, {})
        async with asyncio.timeout(10):
            while await shown() != 3:
                await source.poll(timeout_ms=100)


async def test_the_end_commits_the_last_offsets(scene: Scene) -> None:
    """An orderly stop leaves the group where the lane stands, also while a commit is under way."""
    topics = scene.topics
    await scene.put(topics.cdrs, [b"a", b"b"])
    source = await scene.source({})
    place = TopicPartition(topics.cdrs, 0)
    await values(source, 2)
    await source.commit_offsets()
    source.committed({topics.cdrs: 2}, {})
    await source.commit_last()
    async with reading(scene.client, [place], deadline_s=10, group_id=f"{scene.group}.lanes") as reader:
        assert await reader.committed(place) == 2


async def test_lag_counts_what_is_not_committed(scene: Scene) -> None:
    """What was polled counts until a mark has it, a marker does not; quiet time is none of waiting."""
    topics = scene.topics
    writer = await scene.writer("pbx")
    await writer.write([(topics.cdrs, 0, None, b"a", [])])
    source = await scene.source({})
    await values(source, 1)
    assert await source.waiting() == {topics.cdrs: 0}
    assert (await source.lag())[topics.cdrs][0] > 0
    source.committed(source.next, source.times)
    await _until_lag(source, topics.cdrs, 0)
    assert await source.waiting() == {}
    quiet_ms = time.time_ns() // 1_000_000
    assert (await source.lag())[topics.cdrs] == (0, None)
    await scene.put(topics.cdrs, [b"b"])
    await _until_lag(source, topics.cdrs, 1)
    assert await source.waiting() == {topics.cdrs: 2}
    await values(source, 1)
    records, since_ms = (await source.lag())[topics.cdrs]
    assert (records, (since_ms or 0) >= quiet_ms) == (1, True)


async def test_a_time_that_tells_nothing_is_no_wait(scene: Scene) -> None:
    """Who stamps in seconds has not waited since 1970, but since nothing waited last, if that is known."""
    topics, began_ms = scene.topics, time.time_ns() // 1_000_000
    await scene.put(topics.cdrs, [b"a", b"b"], first_ms=NOW_MS // 1000)
    source = await scene.source({topics.cdrs: 1}, {topics.cdrs: NOW_MS // 1000})
    await values(source, 1)
    assert (await source.lag())[topics.cdrs] == (1, None)
    source.committed(source.next, source.times)
    await _until_lag(source, topics.cdrs, 0)
    await scene.put(topics.cdrs, [b"c"], first_ms=NOW_MS // 1000)
    await _until_lag(source, topics.cdrs, 1)
    assert ((await source.lag())[topics.cdrs][1] or 0) >= began_ms


async def test_commands_are_polled_alone(scene: Scene) -> None:
    """What waits for a command stays where it is, also while commands are held; nothing is passed over."""
    topics, sent = scene.topics, [bytes([number]) * (COMMANDS_BYTES // 2) for number in range(4)]
    await scene.put(topics.cdrs, [b"call"])
    await scene.put(topics.commands, sent)
    source = await scene.source({})
    found: list[bytes | None] = []
    while len(found) < len(sent):
        for topic, records in await source.poll(timeout_ms=1000, commands_only=True):
            assert topic == topics.commands
            found += [record.value for record in records]
    assert found == sent
    assert topics.cdrs not in source.times
    assert await values(source, 1) == [("cdrs", b"call")]


async def test_lag_counts_what_is_not_fetched(scene: Scene) -> None:
    """While there is no catalog data is not fetched: its ends are those that the watch was told."""
    topics = scene.topics
    source = await scene.source({}, include_data=False)
    watch = TopicWatch(scene.client, topics)
    await watch.open()
    try:
        assert await watch.look([source], {0: 0}) == []
        assert (await source.lag())[topics.cdrs] == (0, None)
        await scene.put(topics.cdrs, [b"a", b"b"])
        assert await watch.look([source], {0: 0}) == []
        assert (await source.lag())[topics.cdrs][0] == 2
    finally:
        await watch.close()


async def test_a_journal_that_is_shorter_than_we_wrote_halts(scene: Scene) -> None:
    """The watch knows how far we wrote, whatever the journal's id is."""
    watch = TopicWatch(scene.client, scene.topics)
    await watch.open()
    try:
        with pytest.raises(Halt, match=r"transactions\[1\] is not the topic .* ends at offset 0, .* up to 7"):
            await watch.look([], {0: 0, 1: 7})
    finally:
        await watch.close()


async def test_a_record_without_a_time_gives_no_lag_in_seconds(scene: Scene) -> None:
    """A time of -1 is none: the last that bears one counts, else nothing is said of seconds."""
    topics = scene.topics
    await scene.put(topics.cdrs, [b"a", b"b"])
    source = await scene.source({})
    await values(source, 2)
    source.committed({topics.cdrs: 1}, {topics.cdrs: -1})
    assert (await source.lag())[topics.cdrs] == (1, None)
    source.committed({}, {topics.cdrs: NOW_MS})
    source.committed({}, {topics.cdrs: -1})
    assert (await source.lag())[topics.cdrs] == (1, NOW_MS)


async def test_what_nobody_can_poll_makes_no_lane_stuck(scene: Scene) -> None:
    """Records behind another program's open Kafka transaction are a lag, but no lane could commit them."""
    topics = scene.topics
    source = await scene.source({})
    writer = await scene.transactional("pbx")
    await writer.begin_transaction()
    await writer.send_and_wait(topics.cdrs, b"open", partition=0)
    async with asyncio.timeout(10):
        while not (await source.lag())[topics.cdrs][0]:
            assert await source.poll(timeout_ms=100) == []
    assert await source.waiting() == {}


async def _until_lag(source: LaneReader, topic: str, records: int) -> None:
    """Wait until the library, which fetches by itself, has passed or seen what there is."""
    async with asyncio.timeout(10):
        while (await source.lag())[topic][0] != records:
            if not records:
                await source.poll(timeout_ms=100)
            await asyncio.sleep(0)
