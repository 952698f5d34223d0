"""What a batch did, in plain numbers: filled by whoever decides, added to the metrics once for each batch."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from rater.core.catalog.specs import LimitType
from rater.core.kinds import DuplicateKind, Result, SideLabel, SideOutcome
from rater.core.reasons import Reason


@dataclass(slots=True)
class Counts:
    """Numbers of one batch (or of several, added up). Keys are label values of the metrics: closed lists."""

    cdrs: int = 0
    """Records read."""
    sides: Counter[tuple[SideLabel, SideOutcome]] = field(default_factory=Counter)
    """(side, outcome) → sides."""
    rejected: Counter[Reason] = field(default_factory=Counter)
    """Reason → sides."""
    duplicates: Counter[DuplicateKind] = field(default_factory=Counter)
    """Kind → sides."""
    late: int = 0
    """Rated sides that might draw from a period which was over when their record came in."""
    transactions: Counter[str] = field(default_factory=Counter)
    """`TransactionType` → transactions. A predecessor of a newer version may have kept another type."""
    draws: Counter[LimitType] = field(default_factory=Counter)
    """Type of the limit → draws."""
    events: Counter[str] = field(default_factory=Counter)
    """`EventType` → events; likewise."""
    commands: Counter[tuple[str, Result]] = field(default_factory=Counter)
    """(`Do`, result) → commands. Whoever may write to the topic may ask for something else."""
    replayed: int = 0
    """Sides published again from a kept outcome."""
    arrivals: Counter[int] = field(default_factory=Counter)
    """Kafka timestamp in milliseconds → records: how long each has waited is known at the commit."""
