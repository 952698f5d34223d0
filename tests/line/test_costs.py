"""What a CDR costs, in counts that no busy machine changes: the guard beside the timed benchmarks.

One fixed run: records that come all at once, rated as one batch by a worker of this process. Each bound
stands beside the value that was measured when it was written; a change that needs more has to say why here.
"""

from __future__ import annotations

import gc
import sys
import time
import tracemalloc
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.conn import AIOKafkaConnection

from rater.store.link import Link
from rater.stream.lane_reader import LaneReader
from traffic import calls, catalog

pytestmark = pytest.mark.kafka

SystemOf = Callable[..., Awaitable[Any]]

CDRS = 3_500
"""Fewer than `worker.batch_records_max`, so they are one batch, if one fetch brings them."""
BOUNDS = {
    # of 1,000 CDRs            measured
    "Redis calls": 2.5,        # 1.1: the draws of four buckets; the clients are known
    "Kafka requests": 4.0,     # 2.0: a fetch, and a transaction with a write for each MiB
    # of a CDR
    "bytes produced": 115.0,   # 93, compressed
    "bytes journaled": 1050.0, # 931 in 1.2 transactions
    "bytes alive": 4500.0,     # 3900 at most
    "function calls": 185.0,   # 158, of Python's functions and C's, all of the worker's
}  # fmt: skip
NATIVE = {
    "bytes alive": 2500.0,     # 2106, Python's
    "function calls": 15.0,    # 12.1
}  # fmt: skip
"""Where the native engine rates."""
WRITES = ("ProduceRequest", "AddPartitionsToTxnRequest", "EndTxnRequest")
"""Kafka requests that grow with the CDRs, beside fetches; others go by the clock, or belong to the start."""
BESIDE = ("fence", "reconcile", "register", "probe", "expire")
"""Redis functions that are called at the start or by the clock."""


class Counts:
    """What is counted while a run goes on."""

    def __init__(self) -> None:
        self.redis: Counter[str] = Counter()
        self.kafka: Counter[str] = Counter()
        self.produced = 0
        self.functions = 0

    def install(self, patched: pytest.MonkeyPatch) -> None:
        """Count from now on."""
        ask, poll, send = Link._send, LaneReader.poll, AIOKafkaConnection.send  # noqa: SLF001 - to count

        async def counted_ask(link: Link, address: Any, *command: Any) -> Any:
            if command[0] == "FCALL":
                self.redis[str(command[1]).removeprefix("rater_v4_")] += 1
            return await ask(link, address, *command)

        def counted_send(connection: Any, request: Any, *rest: Any, **more: Any) -> Any:
            name = type(request).__name__
            ours = connection._client_id == "rater"  # noqa: SLF001 - the same
            self.kafka[name] += ours
            if name != "ProduceRequest" or not ours:
                return send(connection, request, *rest, **more)
            writer = connection._writer  # noqa: SLF001 - to count
            connection._writer = Written(writer, self)  # noqa: SLF001 - the same
            try:
                return send(connection, request, *rest, **more)
            finally:
                connection._writer = writer  # noqa: SLF001 - the same

        async def counted_poll(source: LaneReader, timeout_ms: int) -> list[Any]:
            polled = await poll(source, timeout_ms)
            self.kafka["brought"] += bool(polled)
            return polled

        patched.setattr(Link, "_send", counted_ask)
        patched.setattr(AIOKafkaConnection, "send", counted_send)
        patched.setattr(LaneReader, "poll", counted_poll)

    def profile(self, _frame: Any, event: str, _what: Any) -> None:
        """Count calls of functions, of Python's and of C's."""
        if event in ("call", "c_call"):
            self.functions += 1


class Written:
    """Stands in for a connection's writer and counts what is written."""

    def __init__(self, writer: Any, counts: Counts) -> None:
        self.writer, self.counts = writer, counts

    def write(self, data: bytes) -> None:
        """Count and write."""
        self.counts.produced += len(data)
        self.writer.write(data)


@asynccontextmanager
async def at_once(system: Any, cdrs: list[bytes]) -> AsyncIterator[None]:
    """Send records that the worker sees all at once, when the block ends: by one Kafka transaction."""
    connection = {**system.client, "client_id": "test"}
    producer = AIOKafkaProducer(**connection, transactional_id=f"{system.topics.prefix}test")
    await producer.start()
    try:
        await producer.begin_transaction()
        for raw in cdrs:
            await producer.send(system.topics.cdrs, raw, partition=0)
        await producer.flush()
        yield
        await producer.commit_transaction()
    finally:
        await producer.stop()


async def test_a_cdr_costs_no_more_than_its_bounds(
    system_of: SystemOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Redis calls, Kafka requests, bytes, memory and function calls of a fixed run stay in bounds."""
    system = await system_of(partitions=1)
    now_ms = time.time_ns() // 1_000_000
    found = Counts()
    async with system.worker() as worker:

        async def committed(cdrs: int) -> None:
            async def enough() -> bool:
                return (worker.connections.metrics.registry.get_sample_value("rater_cdrs_total") or 0) >= cdrs

            await system.until(enough)

        await system.load(catalog(400, 0))
        async with at_once(system, calls(CDRS, 3, now_ms, contested=0)):  # fills the caches
            pass
        await committed(CDRS)
        # Twice the same: requests and memory, then functions, for a profiler's own would be in the memory.
        with monkeypatch.context() as patched:
            async with at_once(system, calls(CDRS, 4, now_ms, contested=0)):
                found.install(patched)
                gc.collect()
                tracemalloc.start()
            try:
                await committed(2 * CDRS)
                _, peak = tracemalloc.get_traced_memory()
            finally:
                tracemalloc.stop()
        async with at_once(system, calls(CDRS, 5, now_ms, contested=0)):
            sys.setprofile(found.profile)
        try:
            await committed(3 * CDRS)
        finally:
            sys.setprofile(None)
    journal = [record for record in await system.read(system.topics.transactions) if record.value]
    size = sum(
        len(record.key or b"") + len(record.value) + sum(len(raw) for _, raw in record.headers)
        for record in journal
    )
    measured = {
        "Redis calls": sum(n for name, n in found.redis.items() if name not in BESIDE) / CDRS * 1000,
        "Kafka requests": sum(found.kafka[name] for name in (*WRITES, "brought")) / CDRS * 1000,
        "bytes produced": found.produced / CDRS,
        "bytes journaled": size / (3 * CDRS),
        "bytes alive": peak / CDRS,
        "function calls": found.functions / CDRS,
    }
    bounds = BOUNDS | (NATIVE if worker.connections.metrics.engine == "native" else {})
    over = {name: (value, bounds[name]) for name, value in measured.items() if value > bounds[name]}
    assert not over, ", ".join(f"{name} {value:.4g}" for name, value in measured.items())
