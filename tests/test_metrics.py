"""Metrics: names, labels and values as CONTRACTS.md fixes them."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics_families
from prometheus_client.parser import text_string_to_metric_families

from rater import __version__
from rater.core.catalog.compiled import compile_catalog
from rater.core.catalog.specs import Content
from rater.core.journal.traces import Timed
from rater.core.kinds import Do, DuplicateKind, Result, SideOutcome
from rater.core.line.counts import Counts
from rater.core.reasons import Reason
from rater.core.zones import INSTALLED, Release
from rater.metrics import OTHER, Metrics

Figure = Callable[[str], None]

NAMES = {
    "rater_ready",
    "rater_cdrs_total",
    "rater_source_records_total",
    "rater_sides_total",
    "rater_rejected_total",
    "rater_duplicates_total",
    "rater_late_total",
    "rater_transactions_total",
    "rater_draws_total",
    "rater_events_total",
    "rater_renewals_total",
    "rater_renewals_overdue",
    "rater_pending_charges",
    "rater_commands_total",
    "rater_stage_seconds_bucket",
    "rater_end_to_end_seconds_bucket",
    "rater_batch_records_bucket",
    "rater_consumer_lag_records",
    "rater_consumer_lag_seconds",
    "rater_stuck_lanes",
    "rater_redis_retries_total",
    "rater_replayed_total",
    "rater_catalog_version",
    "rater_audit_drift",
    "rater_audit_timestamp_seconds",
    "rater_audit_every_seconds",
    "rater_engine_returned_total",
    "rater_build_info",
}
"""Of CONTRACTS.md, Metrics: those of what this version does."""


def values(metrics: Metrics) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """Return (name, labels) → value, as Prometheus reads them."""
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(metrics.exposition().decode())
        for sample in family.samples
    }


def test_every_name_of_the_contract_is_there() -> None:
    """Dashboards rely on the names, also before anything was counted (those with an open label excepted)."""
    metrics = Metrics()
    metrics.lag("rater.cdrs", 0, 1, 0.5)
    metrics.sources(["rater.cdrs"])
    metrics.add(
        Counts(
            cdrs=1, sides=Counter([("orig", SideOutcome.RATED)]), commands=Counter([("tick", Result.DONE)])
        ),
        committed_ms=0,
    )
    seen = {name for name, _ in values(metrics)}
    assert seen >= NAMES


def test_the_build_tells_the_time_zones_in_use() -> None:
    """Version, engine and release of tzdata: the installed one until a catalog brings its own."""
    metrics = Metrics()
    for catalog, release in (
        (None, INSTALLED),
        (compile_catalog(Content(), 1), INSTALLED),
        (compile_catalog(Content(zones=[Release(0, "2001a", "2001.1", {})]), 2), "2001a"),
    ):
        metrics.catalog(catalog)
        (labels,) = [dict(labels) for name, labels in values(metrics) if name == "rater_build_info"]
        assert (labels["version"], labels["engine"], labels["tzdata"]) == (__version__, "python", release)
        found = values(metrics)["rater_catalog_version", ()]
        assert found == (0 if catalog is None else catalog.version)


AT_MS = 1_790_000_000_000


def test_a_batch_is_added_once() -> None:
    """What a batch counted comes out under its labels."""
    metrics = Metrics()
    counts = Counts(cdrs=3, late=1, replayed=2)
    counts.sides["orig", SideOutcome.RATED] += 2
    counts.sides["term", SideOutcome.REJECTED] += 1
    counts.rejected[Reason.RATE_MISSING] += 1
    counts.duplicates[DuplicateKind.SAME] += 4
    counts.transactions["usage"] += 2
    counts.draws["volume"] += 5
    counts.arrivals[AT_MS] += 3
    for none in (-1, 0, AT_MS // 1000, AT_MS * 1000):  # no time, in seconds, in microseconds
        counts.arrivals[none] += 1
    metrics.add(counts, committed_ms=AT_MS + 100)
    metrics.add(counts, committed_ms=AT_MS + 100)
    found = values(metrics)
    assert found["rater_cdrs_total", ()] == 6
    assert found["rater_sides_total", (("outcome", "rated"), ("side", "orig"))] == 4
    assert found["rater_rejected_total", (("reason", "rate_missing"),)] == 2
    assert found["rater_duplicates_total", (("kind", "same"),)] == 8
    assert found["rater_draws_total", (("kind", "volume"),)] == 10
    assert found["rater_late_total", ()] == 2
    assert found["rater_replayed_total", ()] == 4
    assert found["rater_end_to_end_seconds_count", ()] == 6
    assert found["rater_end_to_end_seconds_sum", ()] == pytest.approx(0.6)
    assert found["rater_end_to_end_seconds_bucket", (("le", "0.075"),)] == 0
    assert found["rater_end_to_end_seconds_bucket", (("le", "0.1"),)] == 6
    assert found["rater_batch_records_count", ()] == 2


def test_labels_are_bounded() -> None:
    """A value that is on no list (a client, a number) never becomes a label."""
    metrics = Metrics()
    counts = Counts()
    counts.events["client 42 is strange"] += 1
    counts.commands["steal", Result.DONE] += 1
    metrics.add(counts, committed_ms=0)
    text = metrics.exposition().decode()
    assert "42" not in "".join(line for line in text.splitlines() if line.startswith("rater_events"))
    found = values(metrics)
    assert found["rater_events_total", (("type", OTHER),)] == 1
    assert found["rater_commands_total", (("do", OTHER), ("result", "done"))] == 1


def test_records_are_counted_by_topic() -> None:
    """A source is there from the start, so that its first records count, and its topic is its label."""
    metrics = Metrics()
    metrics.sources(["rater.cdrs", "pbx1_cdr"])
    metrics.add(Counts(cdrs=3, topics=Counter({"pbx1_cdr": 3})), committed_ms=0)
    found = values(metrics)
    assert found["rater_source_records_total", (("topic", "rater.cdrs"),)] == 0
    assert found["rater_source_records_total", (("topic", "pbx1_cdr"),)] == 3


def test_an_audit_tells_when_it_ended() -> None:
    """0 until one has ended: who watches tells an audit that found nothing from one that never ended."""
    metrics = Metrics()
    assert values(metrics)["rater_audit_timestamp_seconds", ()] == 0
    began = time.time()
    metrics.audited(2)
    assert values(metrics)["rater_audit_drift", ()] == 2
    assert began <= values(metrics)["rater_audit_timestamp_seconds", ()] <= time.time()


def test_closed_lists_are_there_from_the_start() -> None:
    """A rate over a counter is right from its first increment, for the series was there before."""
    found = values(Metrics())
    assert all(found["rater_rejected_total", (("reason", reason),)] == 0 for reason in Reason)
    assert found["rater_sides_total", (("outcome", "rejected"), ("side", "none"))] == 0
    assert found["rater_commands_total", (("do", Do.ADJUST), ("result", Result.REFUSED))] == 0


def test_a_stage_is_measured() -> None:
    """A step of the line is one observation, under its name, also when it fails."""
    metrics = Metrics()
    with metrics.stage("draw"):
        pass
    with pytest.raises(ZeroDivisionError), metrics.stage("draw"):
        _ = 1 // 0
    assert values(metrics)["rater_stage_seconds_count", (("stage", "draw"),)] == 2


def test_a_lost_lane_shows_no_lag() -> None:
    """Of a partition that has another owner now, only that one tells."""
    metrics = Metrics()
    metrics.lag("rater.cdrs", 1, 7, 2.5)
    labels = (("partition", "1"), ("topic", "rater.cdrs"))
    assert values(metrics)["rater_consumer_lag_records", labels] == 7
    assert values(metrics)["rater_consumer_lag_seconds", labels] == 2.5
    metrics.forget_lag("rater.cdrs", 1)
    assert ("rater_consumer_lag_records", labels) not in values(metrics)
    metrics.forget_lag("rater.cdrs", 1)


def test_a_record_of_the_future_is_no_negative_time() -> None:
    """Clocks of two machines differ: such a record took no time."""
    metrics = Metrics()
    counts = Counts()
    counts.arrivals[2_000] += 1
    metrics.add(counts, committed_ms=1_000)
    assert values(metrics)["rater_end_to_end_seconds_sum", ()] == 0


def test_a_record_without_a_time_is_counted_without_latency() -> None:
    """Kafka says -1 where the producer gave none: that is no wait of half a century."""
    metrics = Metrics()
    counts = Counts(cdrs=2)
    counts.arrivals[-1] += 1
    counts.arrivals[AT_MS] += 1
    metrics.add(counts, committed_ms=AT_MS + 100)
    found = values(metrics)
    assert found["rater_cdrs_total", ()] == 2
    assert found["rater_end_to_end_seconds_count", ()] == 1
    assert found["rater_end_to_end_seconds_sum", ()] == pytest.approx(0.1)


TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
OPEN_METRICS = "application/openmetrics-text;version=1.0.0"


def test_exemplars_name_traces_where_they_are_asked_for() -> None:
    """In OpenMetrics, beside the bucket that the observation fell into; the older text has none."""
    metrics = Metrics()
    metrics.exemplify([Timed("draw", 10**18, 10**18 + 3_000_000)], TRACE_ID)
    metrics.exemplify_arrival(AT_MS, f"00-{TRACE_ID}-b7ad6b7169203331-01".encode(), AT_MS + 80)
    metrics.exemplify_arrival(-1, f"00-{TRACE_ID}-b7ad6b7169203331-01".encode(), AT_MS)  # who waited how long
    body, form = metrics.exposed(OPEN_METRICS)
    assert form.startswith("application/openmetrics-text")
    found = [
        (sample.labels["le"], sample.labels.get("stage"), sample.exemplar.labels, sample.exemplar.value)
        for family in openmetrics_families(body.decode())  # type: ignore[no-untyped-call]
        for sample in family.samples
        if sample.exemplar is not None
    ]
    labels = {"trace_id": TRACE_ID}
    assert found == [("0.005", "draw", labels, 0.003), ("0.1", None, labels, 0.08)]
    assert b"trace_id" not in metrics.exposition()


@pytest.mark.parametrize("accepted", ["", OPEN_METRICS])
def test_a_scrape_costs_little(accepted: str, figure: Figure) -> None:
    """Every 5 s, less than a hundredth of what a worker at half load uses of the processor: 25 ms.

    Of a worker with 64 lanes and three topics, more than one process works off.
    """
    metrics = Metrics()
    for place in range(64):
        for topic in ("rater.cdrs", "pbx1_cdr", "rater.commands"):
            metrics.lag(topic, place, 1, 0.5)
    spent_s = []
    for _ in range(7):
        began = time.process_time()
        metrics.exposed(accepted)
        spent_s.append(time.process_time() - began)
    figure(
        f"a scrape of 64 lanes, {accepted.partition(';')[0] or 'text'}: {min(spent_s) * 1000:.1f} ms of CPU"
    )
    assert min(spent_s) < 0.025
