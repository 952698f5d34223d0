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
from itertools import product
from types import MappingProxyType
from typing import Literal, NamedTuple, get_args

import prometheus_client
from prometheus_client import CollectorRegistry, Counter, Gauge, Info
from prometheus_client.core import Exemplar, HistogramMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from rater import __version__
from rater.core.catalog.compiled import Catalog
from rater.core.catalog.specs import LimitType
from rater.core.instants import is_stamp
from rater.core.journal.traces import Timed, read_trace
from rater.core.kinds import (
    Do,
    DuplicateKind,
    EventType,
    RenewalOutcome,
    RerateOutcome,
    RerateState,
    Result,
    SideLabel,
    SideOutcome,
    Stage,
    TransactionType,
)
from rater.core.line.counts import Counts
from rater.core.reasons import Reason
from rater.core.zones import INSTALLED

OTHER = "other"
OPEN: tuple[str, ...] = ()
"""A label without a closed list: topics and partitions, which the settings bound."""
SIDES: tuple[SideLabel, ...] = get_args(SideLabel)
STAGES: tuple[Stage, ...] = get_args(Stage)
DRAWS: tuple[LimitType, ...] = get_args(LimitType)

# A stage takes from half a millisecond (decode of a few records) to seconds (a commit while a broker
# restarts).
STAGE_BOUNDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
# From the batch age of an idle worker to the backlog of a night.
END_TO_END_BOUNDS = (
    0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 3600, 21600,
)  # fmt: skip
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
        labels: Mapping[str, tuple[str, ...]],
    ) -> None:
        """labels: none, or one with all its values."""
        self._name, self._prose = name, prose
        self._label, values = next(iter(labels.items()), ("", ("",)))
        self._bounds = tuple(bounds)
        self._counts = {value: [0] * (len(self._bounds) + 1) for value in values}
        self._sums = dict.fromkeys(values, 0.0)
        self._exemplars: dict[tuple[str, int], Exemplar] = {}
        """Label and number of a bucket → the last trace that was seen there."""
        registry.register(self)

    def add(self, seen: float, times: int = 1, label: str = "") -> None:
        """Count that `seen` was observed so many times."""
        self._counts[label][bisect_left(self._bounds, seen)] += times
        self._sums[label] += seen * times

    def exemplify(self, seen: float, trace_id: str, at_s: float, label: str = "") -> None:
        """Name a trace in which `seen` was observed. at_s: Unix time."""
        bucket = bisect_left(self._bounds, seen)
        self._exemplars[label, bucket] = Exemplar({"trace_id": trace_id}, seen, at_s)

    def collect(self) -> Iterator[HistogramMetricFamily]:
        """Return the family as the registry wants it: cumulative counts."""
        family = HistogramMetricFamily(self._name, self._prose, labels=[self._label] if self._label else [])
        bounds = [*(str(float(bound)) for bound in self._bounds), "+Inf"]
        for value, counts in self._counts.items():
            total = 0
            buckets = list[tuple[str, float] | tuple[str, float, Exemplar]]()
            for place, (bound, count) in enumerate(zip(bounds, counts, strict=True)):
                total += count
                exemplar = self._exemplars.get((value, place))
                buckets.append((bound, total) if exemplar is None else (bound, total, exemplar))
            family.add_metric([value] if self._label else [], buckets, self._sums[value])
        yield family


class _Counter:
    """A counter; with closed lists as labels all series are there from the start, so that rates are right."""

    def __init__(
        self, name: str, prose: str, labels: Mapping[str, tuple[str, ...]], registry: CollectorRegistry
    ) -> None:
        self._lists = tuple(labels.values())
        self._counter = Counter(name, prose, tuple(labels), registry=registry)
        if labels and OPEN not in self._lists:
            for values in product(*self._lists):
                self._counter.labels(*values)

    def inc(self, number: int) -> None:
        """Add to a counter without labels."""
        self._counter.inc(number)

    def add(self, numbers: Iterable[tuple[str | tuple[str, str], int]]) -> None:
        """Add numbers of (label value or values, number)."""
        for key, number in numbers:
            values = (key,) if isinstance(key, str) else key
            known = [
                value if value in allowed or allowed is OPEN else OTHER
                for value, allowed in zip(values, self._lists, strict=True)
            ]
            self._counter.labels(*known).inc(number)


class Metric(NamedTuple):
    """A line of the table.

    labels: name → the closed list of its values, OPEN where there is none. bounds: of a histogram's buckets.
    """

    kind: Literal["info", "counter", "gauge", "histogram"]
    name: str
    prose: str
    labels: Mapping[str, tuple[str, ...]] = MappingProxyType({})
    bounds: tuple[float, ...] = ()


_LANE = {"topic": OPEN, "partition": OPEN}
TABLE = (
    Metric("info", "rater_build", "The version that runs, and its time zones."),
    Metric("gauge", "rater_ready", "1 while this process does its work, else 0: /readyz tells why."),
    Metric("counter", "rater_cdrs", "Records read from the topics of CDRs."),
    Metric("counter", "rater_source_records", "The same, by topic: what a source sends.", {"topic": OPEN}),
    Metric(
        "counter", "rater_sides", "Sides of CDRs, by how they ended.",
        {"side": SIDES, "outcome": tuple(SideOutcome)},
    ),
    Metric(
        "counter", "rater_rejected", "Sides (or whole records) rejected, by reason.",
        {"reason": tuple(Reason)},
    ),
    Metric(
        "counter", "rater_duplicates", "Sides seen before, with the same or with other content.",
        {"kind": tuple(DuplicateKind)},
    ),
    Metric("counter", "rater_late", "Rated sides whose period was over when their record came in."),
    Metric(
        "counter", "rater_transactions", "Transactions published, by type.", {"type": tuple(TransactionType)}
    ),
    Metric("counter", "rater_draws", "Draws from limits, by kind.", {"kind": DRAWS}),
    Metric("counter", "rater_events", "Events published, by type.", {"type": tuple(EventType)}),
    Metric(
        "counter", "rater_renewals",
        "Renewals: done in time or late, begun to wait, given up when renew_for was over.",
        {"outcome": tuple(RenewalOutcome)},
    ),
    Metric(
        "counter", "rater_commands", "Commands but dry runs, by what they do and how they ended.",
        {"do": tuple(Do), "result": tuple(Result)},
    ),
    Metric(
        "histogram", "rater_stage_seconds", "Time that a batch spends in each step of the line.",
        {"stage": STAGES}, STAGE_BOUNDS,
    ),
    Metric(
        "histogram", "rater_end_to_end_seconds",
        "From a record's Kafka timestamp to the commit of what became of it; of those that bear one.",
        bounds=END_TO_END_BOUNDS,
    ),
    Metric("histogram", "rater_batch_records", "Records of a batch.", bounds=BATCH_BOUNDS),
    Metric(
        "gauge", "rater_consumer_lag_records",
        "Records whose results are not committed yet, of the lanes that this worker owns.", _LANE,
    ),
    Metric(
        "gauge", "rater_consumer_lag_seconds",
        "How long records wait at the most: since the last one committed, or since none did; else 0.", _LANE,
    ),
    Metric(
        "gauge", "rater_stuck_lanes",
        "Lanes of this worker that have committed nothing for worker.stuck_after_s while records wait.",
    ),
    Metric(
        "counter", "rater_redis_retries",
        "Redis calls repeated because they did nothing (down, closed, stale, more limits needed).",
    ),
    Metric(
        "counter", "rater_rerate_calls", "Calls rated again by jobs, by how they ended.",
        {"outcome": tuple(RerateOutcome)},
    ),
    Metric(
        "gauge", "rater_rerate_jobs",
        "Re-rating jobs at clients of this worker since its start, by what became of them.",
        {"state": tuple(RerateState)},
    ),
    Metric(
        "gauge", "rater_rerate_needed",
        "Windows of calls that events of this worker named as to be rated again, since its start.",
    ),
    Metric(
        "counter", "rater_replayed", "Sides published again from their kept outcome, not decided again."
    ),
    Metric(
        "counter", "rater_engine_returned",
        "Sides that Python rated and the native engine would not: faults of it, of which the log tells.",
    ),
    Metric(
        "gauge", "rater_renewals_overdue",
        "Due moments of client packages (renewals, ends) that are over and not in work yet.",
    ),
    Metric("gauge", "rater_pending_charges", "Client packages that wait to be paid, at the last audit."),
    Metric(
        "counter", "rater_readmodel_records", "Records that were read into the read model since the start."
    ),
    Metric(
        "gauge", "rater_readmodel_lag_seconds", "How many seconds the read model is behind the topics."
    ),
    Metric("gauge", "rater_catalog_version", "Version of the catalog in use; 0: none."),
    Metric(
        "gauge", "rater_audit_drift",
        "Counters and balances that differ from the journal, at the last audit.",
    ),
    Metric(
        "gauge", "rater_audit_timestamp_seconds",
        "When the last audit of this process ended, as a Unix time; 0: none did.",
    ),
    Metric(
        "gauge", "rater_audit_every_seconds",
        "How long this process waits between two audits; 0: it audits not.",
    ),
)  # fmt: skip
"""All of rater's metrics, in the order in which they are shown."""


class Metrics:
    """Everything that one process counts, in a registry of its own."""

    def __init__(self) -> None:
        prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]  # twice the series, for nothing that anybody reads
        self.registry = registry = CollectorRegistry()
        prometheus_client.ProcessCollector(registry=registry)
        prometheus_client.GCCollector(registry=registry)
        self._infos: dict[str, Info] = {}
        self._counters: dict[str, _Counter] = {}
        self._gauges: dict[str, Gauge] = {}
        self._histograms: dict[str, BulkHistogram] = {}
        for kind, name, prose, labels, bounds in TABLE:
            match kind:
                case "info":
                    self._infos[name] = Info(name, prose, registry=registry)
                case "counter":
                    self._counters[name] = _Counter(name, prose, labels, registry)
                case "gauge":
                    self._gauges[name] = Gauge(name, prose, tuple(labels), registry=registry)
                case "histogram":
                    self._histograms[name] = BulkHistogram(name, prose, bounds, registry, labels=labels)
        self.engine: Literal["native", "python"] = "python"
        """By which calls are rated."""
        self.catalog(None)
        for state in RerateState:
            self._gauges["rater_rerate_jobs"].labels(state)

    def add(self, counts: Counts, *, committed_ms: int) -> None:
        """Add what a batch did. committed_ms: when it was committed, by the clock of Kafka's timestamps."""
        self._counters["rater_cdrs"].inc(counts.cdrs)
        self._counters["rater_source_records"].add(counts.topics.items())
        self._counters["rater_sides"].add(counts.sides.items())
        self._counters["rater_rejected"].add(counts.rejected.items())
        self._counters["rater_duplicates"].add(counts.duplicates.items())
        self._counters["rater_late"].inc(counts.late)
        self._counters["rater_transactions"].add(counts.transactions.items())
        self._counters["rater_draws"].add(counts.draws.items())
        self._counters["rater_events"].add(counts.events.items())
        self._counters["rater_renewals"].add(counts.renewals.items())
        self._counters["rater_commands"].add(counts.commands.items())
        self._counters["rater_rerate_calls"].add(counts.rerated.items())
        for state, jobs in counts.rerates.items():
            self._gauges["rater_rerate_jobs"].labels(state).inc(jobs)
        self._gauges["rater_rerate_needed"].inc(counts.events[EventType.RERATE_NEEDED])
        self._counters["rater_replayed"].inc(counts.replayed)
        self._counters["rater_engine_returned"].inc(counts.returned)
        self._histograms["rater_batch_records"].add(counts.cdrs)
        for arrived_ms, records in counts.arrivals.items():
            # Some records bear no time, and how long they waited nobody knows. Two machines' clocks: one may
            # seem to come from the near future.
            if is_stamp(arrived_ms):
                self._histograms["rater_end_to_end_seconds"].add(
                    max(0, committed_ms - arrived_ms) / 1000, records
                )

    @contextmanager
    def stage(self, name: Stage) -> Iterator[None]:
        """Measure one step of the line."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self._histograms["rater_stage_seconds"].add(time.perf_counter() - start, label=name)

    def lag(self, topic: str, partition: int, records: int, seconds: float) -> None:
        """Tell how far behind a partition of ours is."""
        self._gauges["rater_consumer_lag_records"].labels(topic, str(partition)).set(records)
        self._gauges["rater_consumer_lag_seconds"].labels(topic, str(partition)).set(seconds)

    def forget_lag(self, topic: str, partition: int) -> None:
        """Take out a partition that is no longer ours: its new owner tells about it."""
        for name in ("rater_consumer_lag_records", "rater_consumer_lag_seconds"):
            self._gauges[name].remove(topic, str(partition))

    def sources(self, topics: Iterable[str]) -> None:
        """Show each topic of CDRs from the start, also one of which nothing comes."""
        self._counters["rater_source_records"].add((topic, 0) for topic in topics)

    def ready(self, *, is_ready: bool) -> None:
        """Tell whether /readyz says that this process is ready."""
        self._gauges["rater_ready"].set(is_ready)

    def read_model(self, records: int, lag_s: float) -> None:
        """Tell how many records were read into the read model just now, and how far it is behind."""
        self._counters["rater_readmodel_records"].inc(records)
        self._gauges["rater_readmodel_lag_seconds"].set(lag_s)

    def stuck(self, lanes: int) -> None:
        """Tell how many of our lanes make no progress."""
        self._gauges["rater_stuck_lanes"].set(lanes)

    def overdue(self, moments: int) -> None:
        """Tell how much due work of our lanes is not in work yet."""
        self._gauges["rater_renewals_overdue"].set(moments)

    def pending_charges(self, charges: int) -> None:
        """Tell how many client packages wait to be paid."""
        self._gauges["rater_pending_charges"].set(charges)

    def redis_retried(self, times: int = 1) -> None:
        """Count Redis calls that were repeated."""
        self._counters["rater_redis_retries"].inc(times)

    def catalog(self, catalog: Catalog | None) -> None:
        """Tell the version in use, and the release of tzdata by which periods are cut."""
        self._gauges["rater_catalog_version"].set(0 if catalog is None else catalog.version)
        self._infos["rater_build"].info(
            {
                "version": __version__, "engine": self.engine, "python": platform.python_version(),
                "tzdata": INSTALLED if catalog is None else catalog.zones.name,
            }
        )  # fmt: skip

    def audits_every(self, seconds: int) -> None:
        """Tell how long an audit that goes on waits between two rounds."""
        self._gauges["rater_audit_every_seconds"].set(seconds)

    def audited(self, differences: int) -> None:
        """Tell what an audit found that has just ended."""
        self._gauges["rater_audit_drift"].set(differences)
        self._gauges["rater_audit_timestamp_seconds"].set_to_current_time()

    def exemplify(self, timed: Iterable[Timed], trace_id: str) -> None:
        """Show the trace of a batch beside the time that its steps took. trace_id: hexadecimal."""
        for stage, begin_ns, end_ns in timed:
            seconds = (end_ns - begin_ns) / 1e9
            self._histograms["rater_stage_seconds"].exemplify(seconds, trace_id, end_ns / 1e9, stage)

    def exemplify_arrival(self, arrived_ms: int, trace: bytes, committed_ms: int) -> None:
        """Show the trace of a call beside the time until its result. arrived_ms: its Kafka timestamp."""
        if is_stamp(arrived_ms):
            seconds = max(0, committed_ms - arrived_ms) / 1000
            trace_id = read_trace(trace).trace_id
            self._histograms["rater_end_to_end_seconds"].exemplify(seconds, trace_id, committed_ms / 1000)

    def exposition(self) -> bytes:
        """Return all of it as text."""
        return self.exposed("")[0]

    def exposed(self, accepted: str) -> tuple[bytes, str]:
        """Return what Prometheus reads, and its content type. accepted: the header `Accept` of who asks.

        OpenMetrics, which has exemplars, where that is accepted; else the older text.
        """
        try:
            encoder, form = choose_encoder(accepted)
        except (TypeError, ValueError):  # a version that is no number
            encoder, form = choose_encoder("")
        return encoder(self.registry), form
