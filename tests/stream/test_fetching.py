"""Batches as Kafka has them bring what consumers read, on a real broker."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import aiokafka
import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.errors import (
    CorruptRecordException,
    KafkaConnectionError,
    NotLeaderForPartitionError,
    OffsetOutOfRangeError,
    TopicAuthorizationFailedError,
)
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.util import decode_varint

from rater.core.journal.records import Outgoing
from rater.errors import StreamDown
from rater.stream.batches import BATCH_BYTES
from rater.stream.fetching import FetchedBatch, fetched
from rater.stream.journal import CutError, Owner, read_batches, read_records

if TYPE_CHECKING:
    from stream.conftest import MakeTopics, Scene

LIBRARY = "0.14.0"
"""Of requirements.lock: with another one look at what `fetching` takes of it, then write it here."""
PLACE = TopicPartition("t", 0)
Record = tuple[int, bytes | None, bytes | None, list[tuple[str, bytes | None]]]


def test_the_library_is_the_one_that_was_looked_at() -> None:
    """What is taken of it stands in no documentation."""
    assert aiokafka.__version__ == LIBRARY


def records_of(batch: FetchedBatch) -> Iterator[Record]:
    """Yield offset, key, value and headers of a batch's records."""
    raw, at = bytearray(batch.records), 0

    def number() -> int:
        nonlocal at
        found, at = decode_varint(raw, at)
        return int(found)

    def part() -> bytes | None:
        nonlocal at
        size = number()
        at += max(size, 0)
        return bytes(raw[at - size : at]) if size >= 0 else None

    while at < len(raw):
        number()
        at += 1  # attributes
        number()
        offset, key, value = batch.first + number(), part(), part()
        yield offset, key, value, [(str(part() or b"", "utf-8"), part()) for _ in range(number())]


async def both_ways(client: Any, topic: str, start: int, until: int) -> list[Record]:
    """Return the records of a range that come both ways, which are the same."""
    read = [
        (record.offset, record.key, record.value, list(record.headers))
        async for records in read_records(client, topic, 0, start, until)
        for record in records
    ]
    batches = [batch async for batch in read_batches(client, topic, 0, start, until)]
    found = [record for batch in batches for record in records_of(batch)]
    assert [record for record in found if start <= record[0] < until] == read
    ends = [batch.end for batch in batches]
    assert ends == sorted(ends)
    assert all(batch.first < until and batch.end > start for batch in batches)
    return read


@pytest.mark.kafka
@pytest.mark.parametrize("native", [True, False])
async def test_what_was_committed_comes(scene: Scene, native: bool) -> None:  # noqa: FBT001 - of the table
    """Batches of both engines, of one record and of many; what was aborted between them does not."""
    lane, journal = await scene.lane(native=native), scene.topics.transactions
    first = await lane.claim(Owner("w1", "g"))
    records: list[Outgoing] = [(b"%d" % n, b'{"id":"%d"}' % n * 60, [("e", b"%d" % n)]) for n in range(2000)]
    records[10:10] = [(None, None, [("control", b"\xff"), ("\u00e9", b"")]), (b"", b"", [])]
    records[100] = (b"large", b"z" * (BATCH_BYTES + 1), [])
    aborter = await scene.transactional("aborter")
    await lane.commit(records[:1000], [], [], scene.mark(1))
    await aborter.begin_transaction()
    await aborter.send_and_wait(journal, b"aborted", key=b"a", partition=0)
    await aborter.abort_transaction()
    await lane.commit(records[1000:], [], [], scene.mark(2))
    token = await (await scene.lane()).claim(Owner("w2", "g"))
    read = await both_ways(scene.client, journal, first, token)
    assert [value for _, _, value, _ in read if value is not None] == [
        value for _, value, _ in records if value is not None
    ]
    for start, until in ((first + 1, token), (first + 500, first + 600), (token - 1, token), (token, token)):
        await both_ways(scene.client, journal, start, until)


@pytest.mark.kafka
async def test_whatever_the_compression(client: Any, make_topics: MakeTopics, prefix: str) -> None:
    """A broker or another writer may compress as it likes."""
    topic = f"{prefix}.any"
    await make_topics({topic: (1, {})})
    for way in (None, "gzip", "snappy", "lz4", "zstd"):
        async with AIOKafkaProducer(**client, compression_type=way, enable_idempotence=True) as producer:
            await producer.send(topic, b"of " + str(way).encode() * 50)
            await producer.send_and_wait(topic, b"last")
    async with AIOKafkaProducer(**client) as producer:
        end = await producer.send_and_wait(topic, b"end")
    assert len(await both_ways(client, topic, 0, end.offset)) == 10


@pytest.mark.kafka
async def test_what_is_gone_or_not_there_yet_is_told(scene: Scene) -> None:
    """As of records: a cut journal halts, one that stands still is undecided."""
    journal = scene.topics.transactions
    lane = await scene.lane()
    for number in range(3):
        await lane.commit([(b"c", b"%d" % number, [])], [], [], scene.mark(number))
    token = await lane.claim(Owner("w1", "g"))
    with pytest.raises(StreamDown, match="undecided"):
        [batch async for batch in read_batches(scene.client, journal, 0, 0, token + 9, deadline_s=1)]
    await scene.remove_before(journal, 2)
    with pytest.raises(CutError, match="begins at offset 2, but is needed from 0"):
        [batch async for batch in read_batches(scene.client, journal, 0, 0, token)]
    await both_ways(scene.client, journal, 2, token)


class Answering:
    """A consumer whose broker says one thing."""

    def __init__(self, said: Any) -> None:
        self.said, self.renewed = said, 0
        self._client = self.cluster = self

    def leader_for_partition(self, _: TopicPartition) -> int | None:
        """Return who has the partition."""
        return None if self.said is None else 1

    def force_metadata_update(self) -> None:
        """Note that it is asked who has the partition."""
        self.renewed += 1

    async def send(self, _node: int, _request: Any) -> Any:
        """Answer."""
        if isinstance(self.said, Exception):
            raise self.said
        code, data = self.said
        row: tuple[Any, ...] = (0, code, 9, 9, 0, [], -1, data)
        return SimpleNamespace(API_VERSION=11, topics=[("t", [row])])


@pytest.mark.parametrize("said", [None, KafkaConnectionError(), (NotLeaderForPartitionError.errno, b"")])
async def test_what_passes_is_asked_again(said: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing comes, and who has the partition is asked for anew."""
    monkeypatch.setattr("rater.stream.fetching.RETRY_S", 0)
    reader: Any = Answering(said)
    assert list(await fetched(reader, PLACE, 0)) == []
    assert reader.renewed == 1


@pytest.mark.parametrize(
    ("said", "raised"),
    [
        (TopicAuthorizationFailedError(), TopicAuthorizationFailedError),
        ((TopicAuthorizationFailedError.errno, b""), TopicAuthorizationFailedError),
        ((OffsetOutOfRangeError.errno, b""), OffsetOutOfRangeError),
    ],
)
async def test_what_does_not_pass_is_raised(said: Any, raised: type[Exception]) -> None:
    """A right that is lacking, an offset that is not there."""
    reader: Any = Answering(said)
    with pytest.raises(raised):
        await fetched(reader, PLACE, 0)


async def test_a_damaged_batch_is_not_read() -> None:
    """One byte turned; and what is cut off at the end of an answer comes with the next."""
    builder = DefaultRecordBatchBuilder(2, 0, 1, 0, 0, 0, 2**16)
    builder.append(0, 0, b"key", b"value", [])
    whole = bytes(builder.build())
    reader: Any = Answering((0, whole + whole[:-1]))
    assert [batch.end for batch in await fetched(reader, PLACE, 0)] == [1]
    for at in (16, len(whole) - 3):  # the magic number, the value
        turned = bytearray(whole)
        turned[at] ^= 1
        damaged: Any = Answering((0, bytes(turned)))
        with pytest.raises(CorruptRecordException):
            list(await fetched(damaged, PLACE, 0))
