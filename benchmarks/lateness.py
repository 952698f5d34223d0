"""Latency: from sending a CDR to reading its transaction, at shares of the most the worker can do."""

from __future__ import annotations

import asyncio
import re
import time
from itertools import islice
from typing import Any

import plots
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from sizes import Sizes
from system import Servers, System, between
from world import World

SHARES = (0.1, 0.25, 0.5, 0.7, 0.8, 0.9, 1.0)
JUDGED_RATE = 8_000.0
"""CDRs a second at which p99 has a bound."""
TICK_S = 0.01
STEP_S = 12.0
WARM_S = 3.0
"""Of each step; what is sent in it does not count."""
DRAIN_S = 60.0
WARM_UP_S = 60.0
WARM_UP_RATE = 1_000.0
"""A broker that has just started compiles its code for so long, and takes a core for it."""
TICK_RECORDS = 2000
"""At most, of a tick: a batch takes some 2,600 and refuses the rest; what is due then goes with the next."""
LOW = {"RATER_WORKER__BATCH_AGE_MS": "2"}
"""The low-latency setting, with one partition for a worker: each lane makes batches of its own."""
_ID = re.compile(rb'"id":"default/(\w+)-(\d+)/orig"')


class Watch:
    """Reads the transactions as a biller would, and notes when each came."""

    def __init__(self, system: System) -> None:
        self.system = system
        self.sent: dict[bytes, list[float]] = {}
        self.late: dict[bytes, list[float]] = {}
        self.reader = AIOKafkaConsumer(
            **system.client,
            isolation_level="read_committed",
            fetch_max_wait_ms=20,
            auto_offset_reset="latest",
        )

    async def run(self) -> None:
        """Read until cancelled."""
        await self.reader.start()
        try:
            places = [
                TopicPartition(self.system.topics.transactions, n) for n in range(self.system.partitions)
            ]
            self.reader.assign(places)
            await self.reader.seek_to_end(*places)
            while True:
                polled = await self.reader.getmany(timeout_ms=1000)
                now = time.monotonic()
                for record in (record for records in polled.values() for record in records if record.value):
                    self.note(record.value, now)
        finally:
            await self.reader.stop()

    def note(self, value: bytes, now: float) -> None:
        """Note a transaction that came at this moment."""
        found = _ID.search(value)
        if found and found[1] in self.sent:
            self.late[found[1]].append(now - self.sent[found[1]][int(found[2])])

    async def warm_up(self, world: World, *, is_quick: bool) -> None:
        """Let the servers and workers do some calls first."""
        await self.feed(world, WARM_UP_RATE, "warmup", WARM_UP_S / 12 if is_quick else WARM_UP_S, 0.0)

    async def feed(
        self, world: World, rate: float, name: str, seconds: float = STEP_S, warm_s: float = WARM_S
    ) -> list[float]:
        """Send calls at a rate; return the latencies after warm_s, in seconds, sorted."""
        key, seconds = name.encode(), warm_s + seconds
        cdrs = iter(list(world.calls(int(rate * seconds), name)))
        sent = self.sent[key] = []
        late = self.late[key] = []
        producer = AIOKafkaProducer(**self.system.client, max_batch_size=2**20, linger_ms=0)
        await producer.start()
        try:
            began, turn = time.monotonic(), 0
            while (elapsed := time.monotonic() - began) < seconds:
                due = list(islice(cdrs, min(TICK_RECORDS, max(0, int(rate * elapsed) - len(sent)))))
                # A tick goes to one partition, as one collector's batch does.
                if due:
                    batch = producer.create_batch()
                    for raw in due:
                        batch.append(timestamp=None, key=None, value=raw)
                    sent += [time.monotonic()] * len(due)
                    await producer.send_batch(
                        batch, self.system.topics.cdrs, partition=turn % self.system.partitions
                    )
                    turn += 1
                await asyncio.sleep(TICK_S / self.system.partitions)
        finally:
            await producer.stop()
        until = time.monotonic() + DRAIN_S
        while len(late) < len(sent) and time.monotonic() < until:  # noqa: ASYNC110 - the reader knows no end
            await asyncio.sleep(0.05)
        assert len(late) == len(sent), f"{len(sent) - len(late)} of {len(sent)} calls did not come out"
        counted = late[int(len(late) * warm_s / seconds) :]
        del self.sent[key], self.late[key]
        return sorted(counted)


def within_ms(late: list[float], share: float) -> float:
    """Return the ms within which such a share of the latencies (seconds, sorted) lies."""
    return late[min(int(len(late) * share), len(late) - 1)] * 1e3


async def latency(on: Servers, sizes: Sizes) -> dict[str, Any]:
    """Measure the knee with the default settings and with the low-latency one."""
    is_quick = sizes.cdrs < 100_000  # noqa: PLR2004 - the quick sizes
    world = World(clients=100_000 if not is_quick else 2_000)
    found: dict[str, Any] = {}
    for label, more, partitions in (("default", None, 4), ("low latency", LOW, 1)):
        async with System(on, label.replace(" ", "-"), more=more, partitions=partitions) as system:
            await system.start()
            await system.load(world.catalog())
            watch = Watch(system)
            reading = asyncio.create_task(watch.run())
            try:
                await watch.warm_up(world, is_quick=is_quick)
                found[label] = await _steps(
                    system, world, watch, sizes, SHARES if not is_quick else (0.25, 0.5)
                )
            finally:
                reading.cancel()
                await asyncio.gather(reading, return_exceptions=True)
    for shown in ("p50", "p99"):
        series = {
            label: [(step["share"], step[f"{shown}_ms"]) for step in steps["steps"]]
            for label, steps in found.items()
        }
        plots.lines(
            on.results / f"latency-{shown}.svg", f"End to end, {shown}", "share of the most it can do",
            "ms", series, log_y=True, bound=120 if shown == "p99" else None,
        )  # fmt: skip
    return found


async def _steps(
    system: System, world: World, watch: Watch, sizes: Sizes, shares: tuple[float, ...]
) -> dict[str, Any]:
    before = (await system.sample()).cdrs
    total = await system.preload(world.calls(sizes.warm + sizes.cdrs, "most"))
    first = await system.until(before + sizes.warm)
    last = await system.until(before + sizes.warm + sizes.cdrs * 0.9)
    most = (last.cdrs - first.cdrs) / (last.at_s - first.at_s)
    await system.until(before + total)
    judged = await _step(system, world, watch, JUDGED_RATE, "judged")
    steps = [
        {"share": share, **await _step(system, world, watch, most * share, f"s{n}")}
        for n, share in enumerate(shares)
    ]
    return {
        "rate": most,
        "judged": judged,
        "settings": {"age_ms": system.settings.worker.batch_age_ms, "partitions": system.partitions},
        "steps": steps,
    }


async def _step(system: System, world: World, watch: Watch, rate: float, name: str) -> dict[str, float]:
    first = await system.sample()
    late = await watch.feed(world, rate, name)
    last = await system.sample()
    spent = between(first, last)
    step = {
        "rate": rate,
        "p50_ms": within_ms(late, 0.5),
        "p99_ms": within_ms(late, 0.99),
        "worker_us": spent.worker_us,
        "others_cores": spent.others_cores,
    }
    print(", ".join(f"{name} {value:.4g}" for name, value in step.items()), flush=True)
    return step
