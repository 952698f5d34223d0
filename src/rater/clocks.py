"""Clocks of other machines, beside ours."""

from __future__ import annotations

from collections.abc import Iterator

APART_MS = 5_000
"""By so much clocks may differ: more than an answer is on its way, and than NTP leaves them apart."""


def clock_differs(whose: str, theirs_ms: int | None, ours_ms: int) -> Iterator[str]:
    """Yield a sentence where another clock is far from ours. theirs_ms: None, where it is not known."""
    ahead_ms = 0 if theirs_ms is None else theirs_ms - ours_ms
    if abs(ahead_ms) > APART_MS:
        how = f"{abs(ahead_ms) / 1000:.0f} s {'ahead of' if ahead_ms > 0 else 'behind'}"
        yield (
            f"{whose} is {how} the clock here, and calls are judged by such times; have all machines keep "
            "time by NTP"
        )
