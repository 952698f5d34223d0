"""What workers say of themselves, added up: what they did by now, how fast they are, and what waits."""

from __future__ import annotations

import math
from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from msgspec import Struct
from prometheus_client.parser import text_string_to_metric_families

Series = tuple[str, tuple[tuple[str, str], ...]]
"""Name and labels, these by their names."""

POINTS = 300
"""So many scrapes are kept for the plots."""
WINDOW = 5
"""How fast something goes is told over so many scrapes: of a single one it would jump."""

VALUE_MAX = 1e15
"""No counter of a worker gets so far, and sums of what is below stay numbers."""

READY, BUILD = "rater_ready", "rater_build_info"
RECORDS, SIDES, REJECTED = "rater_cdrs_total", "rater_sides_total", "rater_rejected_total"
DUPLICATES, TRANSACTIONS = "rater_duplicates_total", "rater_transactions_total"
WAITING, LONGEST = "rater_consumer_lag_records", "rater_consumer_lag_seconds"
LATENCY = "rater_end_to_end_seconds_bucket"
_RATED = frozenset({RECORDS, REJECTED, LATENCY})
_KEPT = _RATED | {READY, BUILD, SIDES, DUPLICATES, TRANSACTIONS, WAITING, LONGEST}
_BEGINNINGS = tuple(sorted(_KEPT))


class Reading(NamedTuple):
    """What one worker said. at_s: when it answered, by a clock that only goes forward."""

    values: Mapping[Series, float]
    at_s: float


class Sums(Struct, frozen=True, kw_only=True):
    """What workers say together: counters since each began; what waits by now, and the longest of its times.

    sides: by outcome, duplicates: by kind, rejected: by reason, transactions: by type.
    """

    records: int
    sides: dict[str, int]
    duplicates: dict[str, int]
    rejected: dict[str, int]
    transactions: dict[str, int]
    waiting: int
    longest_wait_s: float


class Point(NamedTuple):
    """How it went at a scrape. records, rejected (by reason): a second. p50, p99: seconds of latency.

    None: no worker answered; of latencies also: no record was rated.
    """

    at_ms: int
    records: float | None
    rejected: Mapping[str, float]
    p50: float | None
    p99: float | None
    waiting: int | None
    longest_wait_s: float | None


def read(text: str) -> dict[Series, float]:
    """Return what is used here of a worker's /metrics. Raises ValueError with a sentence for others."""
    lines = [line for line in text.splitlines() if line.startswith(_BEGINNINGS)]
    values: dict[Series, float] = {}
    try:
        for family in text_string_to_metric_families("\n".join(lines) + "\n"):
            for sample in family.samples:
                if sample.name in _KEPT:
                    values[sample.name, tuple(sorted(sample.labels.items()))] = float(sample.value)
        bounds = [float(dict(labels)["le"]) for name, labels in values if name == LATENCY]
    except (ValueError, KeyError, IndexError) as error:
        raise ValueError(f"its metrics cannot be read ({error})") from error
    if any(map(math.isnan, bounds)) or not all(0 <= value <= VALUE_MAX for value in values.values()):
        raise ValueError("its metrics have values that cannot be")
    if not {(READY, ()), (RECORDS, ())} <= values.keys():
        raise ValueError("its metrics are not those of a worker")
    return values


def by(values: Mapping[Series, float], name: str, label: str) -> dict[str, int]:
    """Return a metric's values by one of its labels, those that are 0 left out; the largest first."""
    found: Counter[str] = Counter()
    for (of, labels), value in values.items():
        if of == name:
            found[dict(labels).get(label, "")] += int(value)
    return {text: number for text, number in found.most_common() if number}


def whole(values: Mapping[Series, float], name: str) -> int:
    """Return the sum of all of a metric's values."""
    return int(sum(value for (of, _), value in values.items() if of == name))


def longest(values: Mapping[Series, float]) -> float:
    """Return how many seconds the record waits that waits longest."""
    return max((value for (of, _), value in values.items() if of == LONGEST), default=0.0)


def added(readings: Iterable[Mapping[Series, float]]) -> Sums:
    """Return what workers say together."""
    known = list(readings)
    values: defaultdict[Series, float] = defaultdict(float)
    for one in known:
        for series, value in one.items():
            values[series] += value
    return Sums(
        records=whole(values, RECORDS), sides=by(values, SIDES, "outcome"),
        duplicates=by(values, DUPLICATES, "kind"), rejected=by(values, REJECTED, "reason"),
        transactions=by(values, TRANSACTIONS, "type"), waiting=whole(values, WAITING),
        longest_wait_s=max(map(longest, known), default=0.0),
    )  # fmt: skip


def build(values: Mapping[Series, float]) -> dict[str, str]:
    """Return what runs: version, engine, and others of its labels."""
    return next((dict(labels) for name, labels in values if name == BUILD), {})


class History:
    """How it went: the last `POINTS` scrapes."""

    def __init__(self) -> None:
        """Nothing was scraped yet."""
        self.points: deque[Point] = deque(maxlen=POINTS)
        self._before: dict[str, Reading] = {}
        self._speeds: deque[Mapping[Series, float]] = deque(maxlen=WINDOW)

    def add(self, at_ms: int, found: Mapping[str, Reading]) -> None:
        """Note a scrape. found: by address, what workers said; those that did not answer are not there."""
        speed: defaultdict[Series, float] = defaultdict(float)
        measured = False
        for address, now in found.items():
            before = self._before.get(address)
            if before is not None and now.at_s > before.at_s:
                measured = True
                for series, value in _grown(before, now):
                    speed[series] += value / (now.at_s - before.at_s)
        self._before |= found
        if measured:
            self._speeds.append(speed)
        sums = added(one.values for one in found.values())
        mean = self._mean() if measured else {}
        self.points.append(
            Point(
                at_ms, sum_of(mean, RECORDS) if measured else None, _reasons(mean), quantile(mean, 0.5),
                quantile(mean, 0.99), sums.waiting if found else None, sums.longest_wait_s if found else None,
            )
        )  # fmt: skip

    def _mean(self) -> dict[Series, float]:
        every = {series for one in self._speeds for series in one}
        return {
            series: sum(one.get(series, 0.0) for one in self._speeds) / len(self._speeds) for series in every
        }


def _grown(before: Reading, now: Reading) -> Iterable[tuple[Series, float]]:
    """Yield by how much counters have grown; one that is less than before has begun anew."""
    for series, value in now.values.items():
        if series[0] in _RATED:
            old = before.values.get(series, 0.0)
            yield series, value - old if value >= old else value


def sum_of(values: Mapping[Series, float], name: str) -> float:
    """Return the sum of a metric's values, which need not be whole."""
    return sum(value for (of, _), value in values.items() if of == name)


def _reasons(values: Mapping[Series, float]) -> dict[str, float]:
    found = {series: value for series, value in values.items() if series[0] == REJECTED and value}
    return {dict(labels).get("reason", ""): value for (_, labels), value in found.items()}


def quantile(values: Mapping[Series, float], share: float) -> float | None:
    """Return the latency that a share of records stays below, in seconds; None: there were none.

    As Prometheus has it (`histogram_quantile`): evenly spread within a bucket, and the last bound for what
    is beyond it.
    """
    found = [(dict(labels)["le"], value) for (of, labels), value in values.items() if of == LATENCY]
    buckets = sorted((float(bound), value) for bound, value in found)
    return _within(buckets, share) if buckets and buckets[-1][1] > 0 else None


def _within(buckets: Sequence[tuple[float, float]], share: float) -> float:
    wanted = share * buckets[-1][1]
    low, below = 0.0, 0.0
    for bound, upto in buckets:
        if upto >= wanted and upto > below:
            if math.isinf(bound):
                return low
            return low + (bound - low) * (wanted - below) / (upto - below)
        low, below = bound, upto
    return low
