"""What a batch did, in plain numbers: filled by whoever decides, added to the metrics once for each batch."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import msgspec

from rater.core.catalog.specs import LimitType
from rater.core.clients.changes import ChangeEvent
from rater.core.kinds import (
    DuplicateKind,
    EventType,
    RenewalOutcome,
    RerateOutcome,
    RerateState,
    Result,
    SideLabel,
    SideOutcome,
)
from rater.core.reasons import Reason


@dataclass(slots=True)
class Counts:
    """Numbers of one batch (or of several, added up). Keys are label values of the metrics: closed lists."""

    cdrs: int = 0
    """Records read."""
    topics: Counter[str] = field(default_factory=Counter)
    """Topic → those of it."""
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
    renewals: Counter[RenewalOutcome] = field(default_factory=Counter)
    """What became of renewals, as events tell it."""
    commands: Counter[tuple[str, Result]] = field(default_factory=Counter)
    """(`Do`, result) → commands. Whoever may write to the topic may ask for something else."""
    rerated: Counter[RerateOutcome] = field(default_factory=Counter)
    """Outcome → calls that were rated again."""
    rerates: Counter[RerateState] = field(default_factory=Counter)
    """State → jobs that came to it, at one client each."""
    replayed: int = 0
    """Sides published again from a kept outcome."""
    returned: int = 0
    """Sides that the native engine returned as if they were to be rejected, and Python rated: its faults."""
    arrivals: Counter[int] = field(default_factory=Counter)
    """Kafka timestamp in milliseconds → records: how long each has waited is known at the commit."""

    def tell(self, event: ChangeEvent) -> None:
        """Count an event, and the renewal that it tells of."""
        self.events[event.type] += 1
        if event.type == EventType.RERATE_STARTED:
            self.rerates[RerateState.STARTED] += 1
        elif event.type == EventType.RERATE_DONE:
            given_up = msgspec.json.decode(event.value)["data"]["given_up"]
            self.rerates[RerateState.GIVEN_UP if given_up else RerateState.DONE] += 1
        outcome = _RENEWALS.get(event.type)
        if outcome is not None and _is_renewal(event):
            self.renewals[outcome] += 1


_RENEWALS: dict[str, RenewalOutcome] = {
    EventType.RENEWED: RenewalOutcome.RENEWED,
    EventType.RENEWED_LATE: RenewalOutcome.LATE,
    EventType.CHARGE_PENDING: RenewalOutcome.PENDING,
    EventType.ARCHIVED: RenewalOutcome.ARCHIVED,
}


def _is_renewal(event: ChangeEvent) -> bool:
    """Return whether it tells of a renewal: not of an activation, a charge that waited before, or an end."""
    if event.type == EventType.CHARGE_PENDING:
        told = msgspec.json.decode(event.value)
        return bool(told["data"]["kind"] == "renewal" and told["before"]["waiting"] is None)
    if event.type == EventType.ARCHIVED:
        return bool(msgspec.json.decode(event.value)["data"]["why"] == "unpaid")
    return True
