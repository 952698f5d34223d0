"""What `rater plan` reckons: a formula whose figures are those of the benchmarks."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rater.cli import main
from rater.cli.planning import measured
from rater.core.capacity import (
    BUCKETS_OF_A_PRIMARY,
    DUPLICATE_BYTES,
    HALF,
    Demand,
    Figures,
    plan,
)

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
ROUND = Figures(
    {"cpu": "2026-11-30"}, "a machine", sides=1.0, worker_us=10, redis_us=5, kafka_us=5, batch_ms=1,
    kafka_batch_ms=1, worker_bytes=1e8, worker_client_bytes=1000, client_bytes=200, client_package_bytes=100,
    redis_share=1.0, cdr_bytes=400, published_bytes=300, batch_bytes=500,
)  # fmt: skip
"""Figures that one can reckon with by head."""

demands = st.builds(
    Demand, st.integers(1, 1_000_000), st.integers(1, 10_000_000), st.integers(0, 100),
    window_days=st.integers(1, 366), batch_age_ms=st.integers(1, 10_000), replication=st.integers(1, 15),
    native=st.booleans(),
)  # fmt: skip


def test_the_figures_are_those_of_the_benchmarks() -> None:
    """Whoever measures again carries them over: python benchmarks/capacity.py."""
    spec = importlib.util.spec_from_file_location("capacity_of_benchmarks", BENCHMARKS / "capacity.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert measured() == module.figures(BENCHMARKS / "results")


def test_by_head() -> None:
    """100,000 CDRs a second at 10 µs are one core, so two workers; Redis half of one, so one primary."""
    found = plan(ROUND, Demand(100_000, 1000, packages=2, window_days=1, batch_age_ms=100, replication=2))
    assert (found.workers, found.partitions, found.redis_primaries, found.buckets) == (2, 4, 1, 4)
    # Four lanes with ten batches a second each, of 1 ms.
    assert (found.cpu.workers, found.cpu.redis, found.cpu.kafka) == (1.04, 0.5, 0.54)
    assert found.worker_memory_bytes == 101_000_000
    day = 100_000 * 86_400
    assert found.redis_duplicates_bytes == day * 2 * 25 * DUPLICATE_BYTES // 24
    assert found.redis_memory_bytes == found.redis_duplicates_bytes + 1000 * 400
    assert found.kafka_bytes_per_day == {
        "cdrs": 2 * day * 400, "transactions": 2 * (day * 300 + 40 * 86_400 * 500),
    }  # fmt: skip


def test_a_trickle_makes_a_batch_of_each_cdr() -> None:
    """Disk is not reckoned with more batches than there are CDRs."""
    found = plan(ROUND, Demand(1, 1, cdrs_per_day=10, replication=1))
    assert found.kafka_bytes_per_day == {"cdrs": 4000, "transactions": 10 * 300 + 10 * 500}


@given(demands)
def test_half_is_left(demand: Demand) -> None:
    """No worker and no primary is reckoned busier than for half of a core with what it rates."""
    found = plan(ROUND, demand)
    rating = demand.cdrs_per_second * ROUND.worker_us / 1e6
    assert found.workers * HALF >= rating
    assert found.redis_primaries * HALF >= demand.cdrs_per_second * ROUND.redis_us / 1e6
    assert found.partitions >= 2 * found.workers
    assert found.buckets == BUCKETS_OF_A_PRIMARY * found.redis_primaries
    assert found.cpu.workers <= found.workers


@given(demands, st.integers(2, 10))
def test_more_never_takes_less(demand: Demand, times: int) -> None:
    """More CDRs, more clients: nothing of the plan becomes smaller."""
    more = msgspec.structs.replace(
        demand, cdrs_per_second=demand.cdrs_per_second * times, clients=demand.clients * times
    )
    small, large = plan(ROUND, demand), plan(ROUND, more)
    assert small.workers <= large.workers
    assert small.redis_memory_bytes <= large.redis_memory_bytes
    assert all(large.kafka_bytes_per_day[topic] >= size for topic, size in small.kafka_bytes_per_day.items())


def told(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """Return the exit code of `rater plan`, what it prints and what it says."""
    code = main(["plan", *arguments])
    out, err = capsys.readouterr()
    return code, out, err


def test_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    """It prints what to set up, and says by figures of when, on what, and the margins."""
    code, out, err = told(capsys, "--cdrs-per-second", "2000", "--clients", "100000")
    assert code == 0
    assert "topics.partitions" in out
    assert "redis.buckets" in out
    assert "by figures of 2026-" in err
    assert "margins:" in err


def test_json(capsys: pytest.CaptureFixture[str]) -> None:
    """One object, with what was asked; settings count."""
    arguments = ("--cdrs-per-second", "2000", "--clients", "100000", "--json", "--replication-factor", "1")
    week: dict[str, Any] = json.loads(told(capsys, *arguments)[1])
    two: dict[str, Any] = json.loads(told(capsys, *arguments, "--duplicate-window-days", "14")[1])
    assert week["cdrs_per_day"] == 2000 * 86_400
    assert {"workers", "partitions", "buckets", "cpu", "kafka_bytes_per_day", "measured"} <= week.keys()
    assert 1.9 < two["redis_memory_bytes"] / week["redis_memory_bytes"] < 2.0


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--cdrs-per-second", "0", "--clients", "1"), "invalid value for '--cdrs-per-second'"),
        (("--clients", "1"), "missing option '--cdrs-per-second'"),
        (
            ("--cdrs-per-second", "1", "--clients", "1", "--cdrs-per-day", "86401"),
            "--cdrs-per-day 86401: 1 a second, all day long, are 86400; give fewer",
        ),
        (
            ("--cdrs-per-second", "10000000", "--clients", "1", "--set", "worker.engine=python"),
            "one installation has at most 1024 of each",
        ),
    ],
)
def test_wrong_input(capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], sentence: str) -> None:
    """A sentence and exit code 2."""
    code, out, err = told(capsys, *arguments)
    assert (code, out) == (2, "")
    assert sentence in err
