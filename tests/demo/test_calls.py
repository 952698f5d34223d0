"""The generated calls: the same for the same seed, and in a carrier's proportions."""

from __future__ import annotations

from collections import Counter
from itertools import islice
from typing import Any

import orjson
import pytest

from rater.core.cdr import Arrival, Cdr
from rater.core.cdr_decoding import decode
from rater.demo import calls
from rater.demo.calls import sides

START_MS = 1_795_588_000_000
NUMBER = 20_000
WINDOW_MS = 7 * 86_400_000
ARRIVAL = Arrival(START_MS + NUMBER, WINDOW_MS, frozenset({"calls", "messages", "data"}))


@pytest.fixture(scope="module")
def records() -> list[dict[str, Any]]:
    """The first records of a seed."""
    return list(islice(calls.calls(7, START_MS), NUMBER))


def test_a_seed_gives_the_same_calls() -> None:
    """Equal arguments give equal records, another seed gives others."""
    first, again, other = (list(islice(calls.calls(seed, START_MS), 500)) for seed in (1, 1, 2))
    assert first == again
    assert first != other


def test_a_clock_moves_the_calls() -> None:
    """With a clock the calls end just before what it says, however fast they are asked for."""
    later = START_MS + 3_600_000
    record = next(calls.calls(1, START_MS, lambda: later))
    assert later - 60_000 < _ms(record["ended_at"]) <= later


def _ms(text: str) -> int:
    found = decode(
        orjson.dumps({"id": "x", "called": "1", "duration_ms": 0, "ended_at": text, "orig": {"client": "1"}}),
        Arrival(START_MS, WINDOW_MS, frozenset({"calls"})),
    )
    assert isinstance(found, Cdr)
    return found.at_ms


def test_they_look_like_a_carriers(records: list[dict[str, Any]]) -> None:
    """Shares of unanswered calls, of both sides, of repeated and of wrong records are as announced."""
    distinct = list({record["id"]: record for record in records}.values())
    voice = [record for record in distinct if "service" not in record]
    unanswered = sum("answered_at" not in record for record in voice) / len(voice)
    both = sum(sides(record) == 2 for record in voice) / len(voice)
    assert unanswered == pytest.approx(calls.UNANSWERED, abs=0.02)
    assert both == pytest.approx(calls.BOTH_SIDES, abs=0.02)
    assert 1 - len(distinct) / len(records) == pytest.approx(calls.DUPLICATES, abs=0.004)
    kinds = Counter(record.get("service") for record in distinct)
    assert kinds["messages"] > kinds["data"] > 0
    durations = sorted(record["duration_ms"] for record in voice if record["duration_ms"] > 0)
    assert 80_000 < durations[len(durations) // 2] < 110_000
    assert durations[-1] > 1_800_000


def test_a_few_clients_make_most_calls(records: list[dict[str, Any]]) -> None:
    """The busiest client that records name makes some hundred times the calls of the quietest."""
    named = Counter(record["orig"]["client"] for record in records if "client" in record.get("orig", {}))
    ordered = [number for _, number in named.most_common()]
    assert named.most_common(1)[0][0] == "1"
    assert ordered[0] > 20 * ordered[len(ordered) // 2]


def test_all_but_the_wrong_ones_can_be_read(records: list[dict[str, Any]]) -> None:
    """Every record is a CDR, but for about one in a hundred, which are refused for several reasons."""
    reasons: Counter[str] = Counter()
    for record in records:
        found = decode(orjson.dumps(record), ARRIVAL)
        for rejection in found.rejected if isinstance(found, Cdr) else found:
            reasons[rejection.reason] += 1
            assert rejection.side is not None
    assert 0 < reasons.total() < 0.02 * len(records)
    assert {"missing_field", "bad_time", "time_in_future", "too_old", "number_invalid"} <= reasons.keys()
    assert "malformed" not in reasons
