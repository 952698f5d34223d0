"""What the programs count (CONTRACTS.md, Metrics): one registry, closed labels, touched once for each batch.

Labels never hold a client, account, package, number or code. A value that is on no list is counted as
`other`.
"""

from __future__ import annotations

import platform
import time
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

import prometheus_client
from prometheus_client import CollectorRegistry, Counter, Gauge, Info
from prometheus_client.core import HistogramMetricFamily
from prometheus_client.registry import Collector

from rater import __version__
from rater.core.catalog.compiled import Catalog
from rater.core.kinds import TransactionType
from rater.core.line.counts import Counts
from rater.core.reasons import Reason
from rater.core.zones import INSTALLED

OTHER = "other"
SIDES = ("orig", "term", "none")
OUTCOMES = ("rated", "zero", "rejected", "duplicate")
DUPLICATES = ("same", "differs")
TRANSACTIONS = tuple(of.value for of in TransactionType)
DRAWS = ("volume", "money")
STAGES = ("decode", "identify", "price", "match", "draw", "render", "commit")
"""Steps of the line as they are measured; poll waits for records, so its time says nothing."""
RESULTS = ("done", "refused")
DO = (
    "load_catalog", "put_package", "set_package_status", "delete_package", "put_client", "adjust", "assign",
    "edit_end_date", "stop_now", "stop_at_period_end", "cancel", "remove", "tick", "did_assign",
    "did_release",
    "invoice_pending_charge", "rerate",
)  # fmt: skip
EVENTS = (
    "assigned", "activated", "renewed", "renewed_late", "charge_pending",
    "pending_charge_invoiced", "charge_cleared",
    "stop_scheduled", "stopped", "cancelled", "archived", "removed", "end_date_changed", "package_changed",
    "client_changed", "limit_threshold", "limit_expiring", "low_balance", "balance_restored", "did_assigned",
    "did_on_hold", "did_freed", "rerate_needed", "rerate_started", "rerate_done", "catalog_loaded",
    "command_done",
    "command_refused",
)  # fmt: skip

# A stage takes from half a millisecond (decode of a few records) to seconds (a commit while a broker
# restarts).
STAGE_BOUNDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
# From the batch age of an idle worker to the backlog of a night.
END_TO_END_BOUNDS = (
    0.01,
    0.025,
    0.05,
    0.075,
    0.1,
    0.15,
    0.25,
    0.5,
    1,
    2.5,
    5,
    10,
    30,
    60,
    300,
    1800,
    3600,
    21600,
)
BATCH_BOUNDS = (1, 10, 50, 100, 250, 500, 1000, 2000, 4000, 8000, 16000, 50000)


class BulkHistogram(Collector):
    """A histogram that takes a value many times at once; the library's takes one at a time."""

    def __init__(
        self,
        name: str,
        prose: str,
        bounds: Iterable[float],
        registry: CollectorRegistry,
        *,
        label: str = "",
        values: tuple[str, ...] = ("",),
    ) -> None:
        self._name, self._prose, self._label = name, prose, label
        self._bounds = tuple(bounds)
        self._counts = {value: [0] * (len(self._bounds) + 1) for value in values}
        self._sums = dict.fromkeys(values, 0.0)
        registry.register(self)

    def add(self, seen: float, times: int = 1, label: str = "") -> None:
        """Count that `seen` was observed so many times."""
        self._counts[label][bisect_left(self._bounds, seen)] += times
        self._sums[label] += seen * times

    def collect(self) -> Iterator[HistogramMetricFamily]:
        """Return the family as the registry wants it: cumulative counts."""
        family = HistogramMetricFamily(self._name, self._prose, labels=[self._label] if self._label else [])
        bounds = [*(str(float(bound)) for bound in self._bounds), "+Inf"]
        for value, counts in self._counts.items():
            total = 0
            buckets = []
            for bound, count in zip(bounds, counts, strict=True):
                total += count
                buckets.append((bound, total))
            family.add_metric([value] if self._label else [], buckets, self._sums[value])
        yield family


class _Closed:
    """A counter with closed lists as labels: all series are there from the start, so that rates are right."""

    def __init__(
        self, name: str, prose: str, labels: dict[str, tuple[str, ...]], registry: CollectorRegistry
    ) -> None:
        self._lists = tuple(labels.values())
        self._counter = Counter(name, prose, tuple(labels), registry=registry)
        if len(self._lists) == 1:
            for value in self._lists[0]:
                self._counter.labels(value)

    def add(self, numbers: Mapping[str, int] | Mapping[tuple[str, str], int]) -> None:
        """Add label value(s) → number."""
        for key, number in numbers.items():
            values = (key,) if isinstance(key, str) else key
            known = [
                value if value in allowed else OTHER
                for value, allowed in zip(values, self._lists, strict=True)
            ]
            self._counter.labels(*known).inc(number)


class Metrics:
    """Everything that one process counts, in a registry of its own."""

    def __init__(self) -> None:
        prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]  # twice the series, for nothing that anybody reads
        self.registry = registry = CollectorRegistry()
        prometheus_client.ProcessCollector(registry=registry)
        prometheus_client.GCCollector(registry=registry)
        self._build = Info("rater_build", "The version that runs, and its time zones.", registry=registry)
        self._cdrs = Counter("rater_cdrs", "Records read from the topics of CDRs.", registry=registry)
        self._sides = _Closed(
            "rater_sides", "Sides of CDRs, by how they ended.", {"side": SIDES, "outcome": OUTCOMES}, registry
        )
        self._rejected = _Closed(
            "rater_rejected",
            "Sides (or whole records) rejected, by reason.",
            {"reason": tuple(Reason)},
            registry,
        )
        self._duplicates = _Closed(
            "rater_duplicates",
            "Sides seen before, with the same or with other content.",
            {"kind": DUPLICATES},
            registry,
        )
        self._late = Counter(
            "rater_late",
            "Rated sides whose period was over when their record came in.",
            registry=registry,
        )
        self._transactions = _Closed(
            "rater_transactions", "Transactions published, by type.", {"type": TRANSACTIONS}, registry
        )
        self._draws = _Closed("rater_draws", "Draws from limits, by kind.", {"kind": DRAWS}, registry)
        self._events = _Closed("rater_events", "Events published, by type.", {"type": EVENTS}, registry)
        self._commands = _Closed(
            "rater_commands", "Commands carried out, by what they do and how they ended.",
            {"do": DO, "result": RESULTS}, registry,
        )  # fmt: skip
        self._stages = BulkHistogram(
            "rater_stage_seconds", "Time that a batch spends in each step of the line.",
            STAGE_BOUNDS, registry,
            label="stage", values=STAGES,
        )  # fmt: skip
        self._end_to_end = BulkHistogram(
            "rater_end_to_end_seconds",
            "From a record's Kafka timestamp to the commit of what became of it; of those that bear one.",
            END_TO_END_BOUNDS, registry,
        )  # fmt: skip
        self._batch_records = BulkHistogram(
            "rater_batch_records", "Records of a batch.", BATCH_BOUNDS, registry
        )
        lag = ("topic", "partition")
        self._lag_records = Gauge(
            "rater_consumer_lag_records",
            "Records whose results are not committed yet, of the lanes that this worker owns.",
            lag,
            registry=registry,
        )
        self._lag_seconds = Gauge(
            "rater_consumer_lag_seconds",
            "How long records wait at the most: since the last one committed, or since none did; else 0.",
            lag,
            registry=registry,
        )
        self._stuck_lanes = Gauge(
            "rater_stuck_lanes",
            "Lanes of this worker that have committed nothing for worker.stuck_after_s while records wait.",
            registry=registry,
        )
        self._redis_retries = Counter(
            "rater_redis_retries",
            "Redis calls repeated because they did nothing (down, closed, stale, more limits needed).",
            registry=registry,
        )
        self._replayed = Counter(
            "rater_replayed",
            "Sides published again from their kept outcome, not decided again.",
            registry=registry,
        )
        self._catalog_version = Gauge(
            "rater_catalog_version", "Version of the catalog in use; 0: none.", registry=registry
        )
        self.catalog(None)
        self._audit_drift = Gauge(
            "rater_audit_drift",
            "Counters and balances that differ from the journal, at the last audit.",
            registry=registry,
        )

    def add(self, counts: Counts, *, committed_ms: int) -> None:
        """Add what a batch did; `committed_ms`.

        When it was committed, by the clock that Kafka timestamps are from.
        """
        self._cdrs.inc(counts.cdrs)
        self._sides.add(counts.sides)
        self._rejected.add(counts.rejected)
        self._duplicates.add(counts.duplicates)
        self._late.inc(counts.late)
        self._transactions.add(counts.transactions)
        self._draws.add(counts.draws)
        self._events.add(counts.events)
        self._commands.add(counts.commands)
        self._replayed.inc(counts.replayed)
        self._batch_records.add(counts.cdrs)
        for arrived_ms, records in counts.arrivals.items():
            # Some records bear no time (-1), and how long they waited nobody knows. Two machines' clocks: one
            # may seem to come from the near future.
            if arrived_ms > 0:
                self._end_to_end.add(max(0, committed_ms - arrived_ms) / 1000, records)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Measure one step of the line; `name` is one of STAGES."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self._stages.add(time.perf_counter() - start, label=name)

    def lag(self, topic: str, partition: int, records: int, seconds: float) -> None:
        """Tell how far behind a partition of ours is."""
        self._lag_records.labels(topic, str(partition)).set(records)
        self._lag_seconds.labels(topic, str(partition)).set(seconds)

    def forget_lag(self, topic: str, partition: int) -> None:
        """Take out a partition that is no longer ours: its new owner tells about it."""
        for gauge in (self._lag_records, self._lag_seconds):
            gauge.remove(topic, str(partition))

    def stuck(self, lanes: int) -> None:
        """Tell how many of our lanes make no progress."""
        self._stuck_lanes.set(lanes)

    def redis_retried(self, times: int = 1) -> None:
        """Count Redis calls that were repeated."""
        self._redis_retries.inc(times)

    def catalog(self, catalog: Catalog | None) -> None:
        """Tell the version in use, and the release of tzdata by which periods are cut."""
        self._catalog_version.set(0 if catalog is None else catalog.version)
        self._build.info(
            {
                "version": __version__, "engine": "python", "python": platform.python_version(),
                "tzdata": INSTALLED if catalog is None else catalog.zones.name,
            }
        )  # fmt: skip

    def drift(self, differences: int) -> None:
        """Tell what the last audit found."""
        self._audit_drift.set(differences)

    def exposition(self) -> bytes:
        """Return the text that Prometheus reads."""
        return prometheus_client.generate_latest(self.registry)
