"""The pass-through worker: consumes and transactionally produces as many records and bytes, and does nothing.

    python benchmarks/passing.py PLAN

It has the shape that exactly-once needs (for each partition a consumer that reads what is committed and a
transactional producer), the settings of the shipped XX
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from pathlib import Path
from typing import Any

import msgspec
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition


class Plan(msgspec.Struct):
    """What to do. produced: records written for each read; sample: records (key, value, headers) to write."""

    bootstrap_servers: str
    source: str
    target: str
    starts: dict[int, int]  # partition -> offset
    warm: dict[int, int]  # the end of the warm-up
    ends: dict[int, int]
    produced: float
    sample: str
    batch_records: int
    age_s: float


Sample = list[tuple[bytes | None, bytes | None, list[tuple[str, bytes]]]]


class Passing:
    """All partitions in one process."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.warmed = asyncio.Barrier(len(plan.starts))
        self.began: tuple[float, float] = (0.0, 0.0)
        self.sample = msgspec.msgpack.decode(Path(plan.sample).read_bytes(), type=Sample)

    async def run(self) -> None:
        """Pass everything on."""
        async with asyncio.TaskGroup() as tasks:
            for partition in self.plan.starts:
                tasks.create_task(self._lane(partition))
        records = sum(end - self.plan.warm[partition] for partition, end in self.plan.ends.items())
        cpu_s, at_s = self.began
        print(json.dumps([time.process_time() - cpu_s, time.monotonic() - at_s, records]), flush=True)

    async def _lane(self, partition: int) -> None:
        plan, place = self.plan, TopicPartition(self.plan.source, partition)
        consumer = AIOKafkaConsumer(
            bootstrap_servers=plan.bootstrap_servers, enable_auto_commit=False, auto_offset_reset="none",
            isolation_level="read_committed", fetch_max_wait_ms=100, fetch_max_bytes=16 * 2**20,
            max_partition_fetch_bytes=2 * 2**20,
        )  # fmt: skip
        producer = AIOKafkaProducer(
            bootstrap_servers=plan.bootstrap_servers, transactional_id=f"{plan.target}-{partition}",
            acks="all", compression_type="zstd", linger_ms=0, max_batch_size=2**20,
            max_request_size=11 * 2**20,
        )  # fmt: skip
        await consumer.start()
        await producer.start()
        try:
            consumer.assign([place])
            for begin, end in ((plan.starts, plan.warm), (plan.warm, plan.ends)):
                consumer.seek(place, begin[partition])
                await self._pass(consumer, producer, partition, end[partition])
                await self.warmed.wait()  # nothing of the warm-up is left, and nothing of the rest begun
                if end is plan.warm:
                    self.began = (time.process_time(), time.monotonic())
        finally:
            await consumer.stop()
            await producer.stop()

    async def _pass(self, consumer: Any, producer: Any, partition: int, end: int) -> None:
        plan, place = self.plan, TopicPartition(self.plan.source, partition)
        owed, turn, at = 0.0, 0, 0
        while at < end:
            polled = (await consumer.getmany(timeout_ms=1000)).get(place, [])
            if not polled:
                continue
            if len(polled) < plan.batch_records:
                await asyncio.sleep(plan.age_s)
                polled += (await consumer.getmany(timeout_ms=0)).get(place, [])
            at = polled[-1].offset + 1
            if at > end:
                polled = [record for record in polled if record.offset < end]
            for begin in range(0, len(polled), plan.batch_records):
                records = polled[begin : begin + plan.batch_records]
                owed += len(records) * plan.produced
                turn = await self._commit(producer, partition, int(owed), turn)
                owed -= int(owed)

    async def _commit(self, producer: AIOKafkaProducer, partition: int, count: int, turn: int) -> int:
        """Write so many records of the sample in one transaction; return where the next one goes on."""
        batch: Any = None
        batches = []
        for n in range(turn, turn + count):
            key, value, headers = self.sample[n % len(self.sample)]
            if batch is None or batch.append(timestamp=None, key=key, value=value, headers=headers) is None:
                batch = producer.create_batch()
                batches.append(batch)
                batch.append(timestamp=None, key=key, value=value, headers=headers)
        async with producer.transaction():
            sent = [
                await producer.send_batch(each, self.plan.target, partition=partition) for each in batches
            ]
            await asyncio.gather(*sent)
        return turn + count


if __name__ == "__main__":
    asyncio.run(Passing(msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=Plan)).run())
