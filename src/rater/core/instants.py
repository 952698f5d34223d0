"""Instants: milliseconds since 1970 UTC, and how they are read and written."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
SECOND_MS = 1000
HOUR_MS = 3_600_000
DAY_MS = 86_400_000
BEGINNING_MS = -(2**62)
"""Before every instant."""
NEVER_MS = 2**62
"""After every instant."""


def instant(at_ms: int) -> datetime:
    """Return the instant of milliseconds since the epoch (exact: no float is used)."""
    seconds, milliseconds = divmod(at_ms, SECOND_MS)
    return datetime.fromtimestamp(seconds, UTC).replace(microsecond=milliseconds * 1000)


def milliseconds(at: datetime) -> int:
    """Return the milliseconds since the epoch of an aware instant (rounded down, exact)."""
    since = at - EPOCH
    return since.days * DAY_MS + since.seconds * SECOND_MS + since.microseconds // 1000


@lru_cache(maxsize=64)  # a load says the same instant of each of its clients
def rfc3339(at_ms: int) -> str:
    """Return an instant as records write it: UTC with milliseconds and a Z."""
    return instant(at_ms).strftime("%Y-%m-%dT%H:%M:%S.") + f"{at_ms % SECOND_MS:03d}Z"
