"""Which settings of a topic let one record move its lane's time for good; more in line/test_stamps.py."""

from __future__ import annotations

import pytest

from rater.stream.stamps import far_ahead

AFTER, DIFFERENCE = "message.timestamp.after.max.ms", "message.timestamp.difference.max.ms"
UNBOUNDED = str(2**63 - 1)


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({AFTER: "3600000"}, ""),
        ({AFTER: "60000", DIFFERENCE: UNBOUNDED}, ""),
        ({AFTER: "3600001"}, AFTER),
        ({AFTER: UNBOUNDED, DIFFERENCE: "60000"}, AFTER),
        ({DIFFERENCE: UNBOUNDED}, DIFFERENCE),
        ({DIFFERENCE: "3600000"}, ""),
        ({}, ""),
    ],
)
def test_a_topic_that_takes_the_far_future_is_named(settings: dict[str, str], named: str) -> None:
    """By the setting that its version of Kafka has; one that says nothing is not accused."""
    told = far_ahead("rater.cdrs", settings)
    assert told.partition(" is ")[0] == (f"rater.cdrs: {named}" if named else "")
    assert ("set it to 3600000" in told) is bool(named)
