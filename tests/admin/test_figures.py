"""What workers say, added up: sums, speeds, latencies; and what is drawn of it."""

from __future__ import annotations

import math
import re
from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from rater.admin.figures import (
    LATENCY,
    POINTS,
    RECORDS,
    History,
    Point,
    Reading,
    Series,
    added,
    quantile,
    read,
)
from rater.admin.plots import HEIGHT, WIDTH, Curve, ceiling, plot
from rater.admin.shown import duration, speed
from rater.core.kinds import DuplicateKind, SideOutcome, TransactionType
from rater.core.line.counts import Counts
from rater.core.reasons import Reason
from rater.metrics import Metrics

AT_MS = 1_800_000_000_000
numbers = st.integers(0, 10**9)


@st.composite
def counted(draw: st.DrawFn) -> Metrics:
    """Return the metrics of a worker that has done something."""
    counts = Counts(cdrs=draw(numbers))
    for outcome in SideOutcome:
        counts.sides["orig", outcome] += draw(numbers)
        counts.sides["term", outcome] += draw(numbers)
    for reason in draw(st.sets(st.sampled_from(list(Reason)), max_size=3)):
        counts.rejected[reason] += draw(numbers)
    for kind in DuplicateKind:
        counts.duplicates[kind] += draw(numbers)
    counts.transactions[TransactionType.USAGE] += draw(numbers)
    for waited_ms in draw(st.lists(st.integers(0, 10**6), max_size=5)):
        counts.arrivals[AT_MS - waited_ms] += draw(st.integers(1, 100))
    metrics = Metrics()
    metrics.add(counts, committed_ms=AT_MS)
    metrics.lag("rater.cdrs", 0, draw(numbers), draw(st.floats(0, 10**6)))
    metrics.lag("rater.cdrs", 1, draw(numbers), draw(st.floats(0, 10**6)))
    return metrics


def sums_of(texts: list[str]) -> dict[str, Any]:
    """Return the same sums by Prometheus's own reader, apart from what is tested."""
    found: dict[str, Any] = {name: Counter() for name in ("sides", "duplicates", "rejected", "transactions")}
    found |= {"records": 0, "waiting": 0, "longest_wait_s": 0.0}
    labels = {"sides": "outcome", "duplicates": "kind", "rejected": "reason", "transactions": "type"}
    for text in texts:
        for family in text_string_to_metric_families(text):
            for name, label, value in ((of.name, of.labels, of.value) for of in family.samples):
                short = name.removeprefix("rater_").removesuffix("_total")
                if name == "rater_cdrs_total":
                    found["records"] += int(value)
                elif name == "rater_consumer_lag_records":
                    found["waiting"] += int(value)
                elif name == "rater_consumer_lag_seconds":
                    found["longest_wait_s"] = max(found["longest_wait_s"], value)
                elif short in labels and name.endswith("_total"):
                    found[short][label[labels[short]]] += int(value)
    return {
        name: {key: n for key, n in value.items() if n} if isinstance(value, Counter) else value
        for name, value in found.items()
    }


@settings(max_examples=25, deadline=None)
@given(st.lists(counted(), max_size=4))
def test_sums_are_those_of_all_workers(workers: list[Metrics]) -> None:
    """Each counter by its label, what waits, and the longest wait of all."""
    texts = [one.exposition().decode() for one in workers]
    found = added(map(read, texts))
    assert {name: getattr(found, name) for name in found.__struct_fields__} == sums_of(texts)
    assert list(found.sides.values()) == sorted(found.sides.values(), reverse=True)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "not those of a worker"),
        ("rater_ready 1\n", "not those of a worker"),
        ("<html>rater_ready 1</html>", "not those of a worker"),
        ("rater_ready 1\nrater_cdrs_total NaN\n", "cannot be"),
        ("rater_ready 1\nrater_cdrs_total +Inf\n", "cannot be"),
        ("rater_ready 1\nrater_cdrs_total -1\n", "cannot be"),
        ("rater_ready 1\nrater_cdrs_total 1e300\n", "cannot be"),
        ("rater_ready 1\nrater_cdrs_total many\n", "cannot be read"),
        (f'rater_ready 1\nrater_cdrs_total 1\n{LATENCY}{{le="NaN"}} 1\n', "cannot be"),
        ('rater_ready 1\nrater_cdrs_total 1\nrater_sides_total{outcome="x 1\n', "cannot be read"),
        (f"rater_ready 1\nrater_cdrs_total 1\n{LATENCY} 1\n", "cannot be read"),
        (f'rater_ready 1\nrater_cdrs_total 1\n{LATENCY}{{le="soon"}} 1\n', "cannot be read"),
    ],
)
def test_what_is_no_workers_metrics_says_so(text: str, told: str) -> None:
    """What another program serves there is named, and nothing of it is added."""
    with pytest.raises(ValueError, match=told):
        read(text)


labelled = st.text('{}="\\\\, abcle1.NIf#+-', max_size=20)


@given(st.lists(st.tuples(st.sampled_from([RECORDS, LATENCY, "rater_sides_total", "rater_ready"]), labelled)))
def test_whatever_is_served_is_read_or_named(lines: list[tuple[str, str]]) -> None:
    """No text makes more than a sentence of it; what is read can be added, kept and drawn."""
    text = "rater_ready 1\nrater_cdrs_total 1\n" + "".join(f"{name}{rest}\n" for name, rest in lines)
    try:
        values = read(text)
    except ValueError:
        return
    history = History()
    for at_s in (0, 1):
        history.add(at_s, {"a": Reading(values, at_s)})
    assert added([values, values]).records == 2 * added([values]).records


def reading(at_s: float, records: int, **latencies: int) -> Reading:
    """Return what a worker says. latencies: le_BOUND (_ for the point) → records up to it."""
    values: dict[Any, float] = {(RECORDS, ()): records}
    for name, number in latencies.items():
        values[LATENCY, (("le", name.removeprefix("le_").replace("_", ".")),)] = number
    return Reading(values, at_s)


def newest(history: History) -> Point:
    """Return how it went at the last scrape."""
    return history.points[-1]


def test_speeds_are_of_each_worker_by_its_own_time() -> None:
    """Of two, one that was away, and one that began anew; without any answer nothing is known."""
    history = History()
    history.add(0, {"a": reading(0, 100), "b": reading(0, 50)})
    assert newest(history).records is None  # of a single scrape no speed is known
    history.add(2000, {"a": reading(2, 300), "b": reading(2, 60)})
    assert newest(history).records == 105
    history.add(4000, {})
    assert (newest(history).records, newest(history).waiting) == (None, None)
    for scrape in range(3, 10):  # "b" has restarted meanwhile, and counts from 0
        at_s = 2 * scrape
        history.add(at_s * 1000, {"a": reading(at_s, 300), "b": reading(at_s, 20 * (scrape - 2))})
    assert newest(history).records == 10
    assert [point.at_ms for point in history.points][:3] == [0, 2000, 4000]


def test_so_many_points_are_kept() -> None:
    """The history is bounded, the oldest goes."""
    history = History()
    for scrape in range(POINTS + 7):
        history.add(scrape, {"a": reading(scrape, scrape)})
    assert len(history.points) == POINTS
    assert history.points[0].at_ms == 7


def test_latencies_are_those_of_the_last_scrapes() -> None:
    """Quantiles are of what was added, not of all since the workers began; none was rated: none is told."""
    history = History()
    history.add(0, {"a": reading(0, 9, le_0_1=0, le_1=0, le_Inf=1000)})
    history.add(1, {"a": reading(1, 9, le_0_1=50, le_1=100, le_Inf=1100)})
    point = newest(history)
    assert point.p50 == pytest.approx(0.1)
    assert point.p99 == pytest.approx(0.1 + 0.9 * 0.98)
    for scrape in range(2, 8):
        history.add(scrape, {"a": reading(scrape, 9, le_0_1=50, le_1=100, le_Inf=1100)})
    assert newest(history).p99 is None


def test_a_latency_beyond_the_last_bound_is_that_bound() -> None:
    """As Prometheus has it: the page does not claim what nobody measured."""
    beyond: dict[Series, float] = {(LATENCY, (("le", "1"),)): 0.0, (LATENCY, (("le", "+Inf"),)): 4.0}
    assert quantile(beyond, 0.5) == 1
    assert quantile({}, 0.5) is None


@given(st.lists(st.one_of(st.none(), st.floats(0, 1e12)), min_size=1, max_size=400))
def test_a_curve_stays_within_its_plot(values: list[float | None]) -> None:
    """Whatever the figures are, the newest is at the right edge, and gaps are gaps."""
    drawn = plot("Records", [Curve("", values)], speed, places=300, least=1.0)
    points = re.findall(r"([ML])([\d.]+) ([\d.]+)", drawn.lines[0].path)
    known = [value for value in values[-300:] if value is not None]
    assert len(points) == len(known)
    assert all(0 <= float(x) <= WIDTH and 0 <= float(y) <= HEIGHT for _, x, y in points)
    if values[-1] is not None:
        assert float(points[-1][1]) == WIDTH
    begins = [
        at for at, value in enumerate(values[-300:])
        if value is not None and (at == 0 or values[-300:][at - 1] is None)
    ]  # fmt: skip
    assert [mark for mark, _, _ in points].count("M") == len(begins)


@given(st.floats(1e-6, 1e15))
def test_the_upper_edge_is_a_round_number(value: float) -> None:
    """The next 1, 2 or 5 with zeros, so that nobody has to reckon."""
    top = ceiling(value)
    assert value <= top <= value * 2.51
    assert round(top / 10 ** math.floor(math.log10(top * 1.0000001)), 6) in {1, 2, 5}


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 ms"), (0.0124, "12 ms"), (1.26, "1.3 s"), (42.0, "42 s"), (600, "10 min"), (21600, "6.0 h")],
)
def test_spans_are_told_in_the_unit_that_fits(seconds: float, text: str) -> None:
    """Milliseconds to hours."""
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0"), (0.04, "0.0"), (3.14, "3.1"), (5, "5"), (1234.6, "1,235")]
)
def test_speeds_are_told_short(value: float, text: str) -> None:
    """A decimal where there are few."""
    assert speed(value) == text
