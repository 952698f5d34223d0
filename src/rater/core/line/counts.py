"""What a batch did, in plain numbers: filled by whoever decides, added to the metrics once for each batch."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field


@dataclass(slots=True)
class Counts:
    """Numbers of one batch (or of several, added up). Keys are label values of the metrics: closed lists."""

    cdrs: int = 0
    """Records read."""
    sides: Counter[tuple[str, str]] = field(default_factory=Counter)
    """(side, outcome) → sides; side orig | term | none, outcome rated | zero | rejected | duplicate."""
    rejected: Counter[str] = field(default_factory=Counter)
    """Reason → sides."""
    duplicates: Counter[str] = field(default_factory=Counter)
    """same | differs → sides."""
    late: int = 0
    """Rated sides that might draw from a period which was over when their record came in."""
    transactions: Counter[str] = field(default_factory=Counter)
    """Type → transactions."""
    draws: Counter[str] = field(default_factory=Counter)
    """volume | money → draws."""
    events: Counter[str] = field(default_factory=Counter)
    """Type → events."""
    commands: Counter[tuple[str, str]] = field(default_factory=Counter)
    """(do, result) → commands; result done | refused."""
    replayed: int = 0
    """Sides published again from a kept outcome."""
    arrivals: Counter[int] = field(default_factory=Counter)
    """Kafka timestamp in milliseconds → records: how long each has waited is known at the commit."""
