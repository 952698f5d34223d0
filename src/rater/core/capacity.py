"""What an installation needs for so much traffic: a formula over measured figures (`rater plan`).

Pure: figures and demand in, numbers out. Where each comes from is in decision 0141; all of it is of one
machine, so it says where to begin, and what to measure.
"""

from __future__ import annotations

from math import ceil

from msgspec import Struct

HALF = 0.5
"""Of a core, that a worker or a primary of Redis may be busy: with half of it left the p99 of results stays
within 250 ms, and one of two workers carries the work of both."""
PYTHON_TIMES = 4.3
"""So many times as much as the native engine the one in Python takes (30 November 2026: 65.0 to 15.2 µs)."""
WORKERS_MIN, PARTITIONS_MIN = 2, 4
LANES_OF_A_WORKER = 2
"""Partitions of each worker, so that twice as many workers can share the work one day."""
BUCKETS_OF_A_PRIMARY = 4
GENERATIONS = 2
"""Of duplicates, that are full at the most: the present one and the one before."""
DUPLICATE_BYTES, CELLS_BYTES_MIN = 60, 3_000_000
"""At most, of a key; at least, of a generation in a bucket (decision 0104)."""
DAY_S = 86_400


class Figures(Struct, frozen=True):
    """What was measured, as benchmarks/capacity.py takes it from benchmarks/results.

    CPU is in µs of a CDR at full batches, and in ms of a batch whatever it carries. Bytes of Kafka are those
    of its files, one copy: of a CDR as it was sent, of what is published for it, and of a batch besides (its
    mark, and the ends of its Kafka transaction). redis_share: what keys are of all that Redis takes.
    """

    measured: dict[str, str]
    """Part of the measurements → its date."""
    machine: str
    sides: float
    """Of a CDR."""
    worker_us: float
    redis_us: float
    kafka_us: float
    batch_ms: float
    kafka_batch_ms: float
    worker_bytes: float
    worker_client_bytes: float
    client_bytes: float
    client_package_bytes: float
    """With the counters of two limits."""
    redis_share: float
    cdr_bytes: float
    published_bytes: float
    batch_bytes: float


class Demand(Struct, frozen=True):
    """What is to be carried. cdrs_per_second: in the busiest hour; cdrs_per_day: None: that, all day long."""

    cdrs_per_second: int
    clients: int
    packages: int = 1
    """Client packages of each client."""
    cdrs_per_day: int | None = None
    window_days: int = 7
    batch_age_ms: int = 50
    replication: int = 3
    native: bool = True

    @property
    def day(self) -> int:
        """CDRs of a day."""
        return self.cdrs_per_second * DAY_S if self.cdrs_per_day is None else self.cdrs_per_day


class Cores(Struct, frozen=True):
    """Cores that are busy in the busiest hour, of all workers, all primaries of Redis, all brokers."""

    workers: float
    redis: float
    kafka: float


class Plan(Struct, frozen=True):
    """What to set up. Bytes of Kafka are of all copies together."""

    workers: int
    partitions: int
    redis_primaries: int
    buckets: int
    worker_memory_bytes: int
    redis_memory_bytes: int
    redis_duplicates_bytes: int
    """Of that memory, what keys of duplicates take: the window decides."""
    kafka_bytes_per_day: dict[str, int]
    """Topic without prefix → bytes."""
    cpu: Cores


def plan(figures: Figures, demand: Demand) -> Plan:
    """Return what the demand needs."""
    rate = demand.cdrs_per_second
    rating = rate * figures.worker_us * (1 if demand.native else PYTHON_TIMES) / 1e6
    workers = max(WORKERS_MIN, ceil(rating / HALF))
    partitions = max(PARTITIONS_MIN, LANES_OF_A_WORKER * workers)
    # At most one for each age, and none without a CDR.
    batches_s = min(float(rate), partitions * 1000 / demand.batch_age_ms)
    redis = rate * figures.redis_us / 1e6
    primaries = max(1, ceil(redis / HALF))
    buckets = BUCKETS_OF_A_PRIMARY * primaries
    duplicates = _duplicates_bytes(figures, demand, buckets)
    kafka = rate * figures.kafka_us / 1e6 + batches_s * figures.kafka_batch_ms / 1e3
    return Plan(
        workers=workers,
        partitions=partitions,
        redis_primaries=primaries,
        buckets=buckets,
        worker_memory_bytes=round(figures.worker_bytes + figures.worker_client_bytes * demand.clients),
        redis_memory_bytes=round(_clients_bytes(figures, demand) + duplicates),
        redis_duplicates_bytes=round(duplicates),
        kafka_bytes_per_day=_kafka_bytes(figures, demand, batches_s),
        # Who has more to do makes fuller batches, not more of them.
        cpu=Cores(
            round(min(float(workers), rating + batches_s * figures.batch_ms / 1e3), 2),
            round(redis, 2),
            round(kafka, 2),
        ),
    )


def _clients_bytes(figures: Figures, demand: Demand) -> float:
    each = figures.client_bytes + demand.packages * figures.client_package_bytes
    return demand.clients * each / figures.redis_share


def _duplicates_bytes(figures: Figures, demand: Demand, buckets: int) -> float:
    """Return what the keys of two whole generations take (decision 0003)."""
    keys = demand.day * figures.sides * GENERATIONS * (demand.window_days + 1 / 24)
    return max(keys * DUPLICATE_BYTES, GENERATIONS * buckets * CELLS_BYTES_MIN) / figures.redis_share


def _kafka_bytes(figures: Figures, demand: Demand, batches_s: float) -> dict[str, int]:
    """Return the bytes of a day by topic, as if each second of it had as many batches as the busiest."""
    cdrs, copies = demand.day, demand.replication
    batches = min(batches_s * DAY_S, cdrs)
    return {
        "cdrs": round(copies * cdrs * figures.cdr_bytes),
        "transactions": round(copies * (cdrs * figures.published_bytes + batches * figures.batch_bytes)),
    }
