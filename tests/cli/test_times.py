"""Moments and spans, as people write them."""

from __future__ import annotations

import time

import click
import pytest

from rater.cli.times import MOMENT, SPAN


def test_moments() -> None:
    """A time with offset, a date in UTC, or a span ago."""
    assert MOMENT.convert("2026-11-03T10:00:00.5+02:00", None, None) == 1_793_692_800_500
    assert MOMENT.convert("2026-11-03", None, None) == 1_793_664_000_000
    assert abs(MOMENT.convert("2h", None, None) - (time.time() - 7200) * 1000) < 5_000
    for wrong in ("2026-11-03T10:00:00", "2026-13-01", "2w", "", "h"):
        with pytest.raises(click.BadParameter):
            MOMENT.convert(wrong, None, None)


def test_spans() -> None:
    """A number with a unit, and never nothing."""
    assert [SPAN.convert(text, None, None) for text in ("30s", "10m", "1h", "1d")] == [30, 600, 3600, 86_400]
    for wrong in ("0s", "1", "1w", "", "-1h"):
        with pytest.raises(click.BadParameter):
            SPAN.convert(wrong, None, None)
