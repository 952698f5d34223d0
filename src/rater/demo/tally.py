"""What has been seen of the records so far: a fold over the topics, sharing nothing with what wrote them.

Sums grow with the clients, not with the calls, so that the demonstration can run for days; only with
`keep_ids` (a run of so many calls, whose sums are checked) are the ids of transactions and events remembered.
"""

from __future__ import annotations

from collections import Counter, deque
from itertools import pairwise
from typing import Any, Final

import msgspec
from msgspec import Struct

from rater.core.amounts import parse_micros
from rater.core.commands.records import Event, read_event
from rater.core.json_text import UNREADABLE
from rater.core.kinds import EventType

LATEST: Final = 40
"""Transactions kept to be shown."""
SHOWN: Final = frozenset({
    EventType.ACTIVATED, EventType.RENEWED, EventType.RENEWED_LATE, EventType.CHARGE_PENDING,
    EventType.CHARGE_CLEARED, EventType.STOP_SCHEDULED, EventType.STOPPED, EventType.CANCELLED,
    EventType.ARCHIVED,
})  # fmt: skip
"""Events that are shown as they happen; an assignment is always followed by one of them."""
HISTORY_S: Final = 60
"""Seconds of which the rate is kept."""

_MINUTE: Final = 60
_PRICE_UNITS: Final = {"calls": (_MINUTE, "min"), "messages": (1, ""), "data": (1024, "MB")}


class Draw(Struct):
    """What a transaction took from a limit (CONTRACTS.md, Transaction)."""

    client_package: str
    package_name: str
    limit: str
    kind: str
    period: int
    taken: str
    left: str
    currency: str = ""


class Seen(Struct):
    """A transaction, as much of it as is shown or summed."""

    id: str
    type: str
    client: str
    amount: str
    currency: str
    revision: int = 1
    at: str = ""
    outcome: str = ""
    side: str = ""
    service: str = "calls"
    code_name: str | None = None
    billed: int = 0
    draws: list[Draw] = []


class Bar(Struct):
    """A limit in one period: how much of it is left."""

    client: str
    package: str
    limit: str
    period: int
    unit: str  # what numbers are in: min, MB, a currency, or nothing for pieces
    scale: int  # counter units of one of `unit`
    size: int  # in counter units, like `left`
    left: int
    draws: int = 0

    @property
    def used(self) -> float:
        """Return what part is used, 0 to 1: for the eye alone."""
        return 1 - self.left / self.size if self.size else 1.0

    def text(self) -> str:
        """Return what is left, in the limit's unit."""
        left, size = (
            f"{number / self.scale:,.{0 if self.scale == 1 else 1}f}" for number in (self.left, self.size)
        )
        return f"{left} of {size} {self.unit}".rstrip()


class Tally:
    """Everything that is shown and summed."""

    def __init__(self, *, keep_ids: bool = False) -> None:
        """Begin with nothing; keep_ids: also find transactions and events that come twice."""
        self.fed_records = 0
        self.fed_sides = 0
        self.outcomes: Counter[str] = Counter()
        """rated | zero → sides that the journal has."""
        self.types: Counter[str] = Counter()
        self.rejected: Counter[str] = Counter()
        """Reason → records in `rater.rejected` (one for each side)."""
        self.duplicates = 0
        """Sides seen before with the same content: they leave nothing in a topic, the workers count them."""
        self.lag_records = 0
        self.lag_seconds = 0.0
        self.twice: list[str] = []
        self.unreadable = 0
        self.balances: Counter[str] = Counter()
        """Client → sum of amounts, micros."""
        self.counters: Counter[tuple[str, str]] = Counter()
        """(client, CLIENT_PACKAGE.PERIOD.LIMIT) → sum of what was taken."""
        self.of_clients: Counter[tuple[str, str]] = Counter()
        """(client, type of transaction or event) → how many."""
        self.events: Counter[str] = Counter()
        self.waiting: dict[str, tuple[str, int]] = {}
        """Client package that waits for funds → client, micros that are missing."""
        self.refused: list[str] = []
        """Commands of the demonstration that were not carried out, each in a sentence."""
        self.latest: deque[Seen] = deque(maxlen=LATEST)
        self.latest_events: deque[Event] = deque(maxlen=LATEST)
        self.bars: dict[tuple[str, int, str], Bar] = {}
        self.per_second: deque[tuple[float, int]] = deque()
        self._ids: set[str] | None = set() if keep_ids else None
        self._decoder = msgspec.json.Decoder(Seen)

    # ------------------------------------------------------------------ what comes in
    def fed(self, sides: int) -> None:
        """Count a record that was sent."""
        self.fed_records += 1
        self.fed_sides += sides

    def transaction(self, value: bytes) -> None:
        """Count a record of `rater.transactions`."""
        try:
            seen = self._decoder.decode(value)
            amount = parse_micros(seen.amount)
            taken = [_taken(draw) for draw in seen.draws]
        except UNREADABLE:
            self.unreadable += 1
            return
        self._once(f"{seen.id} {seen.revision} {seen.type}")
        self.types[seen.type] += 1
        self.of_clients[seen.client, seen.type] += 1
        self.balances[seen.client] += amount
        if not seen.side:  # a fee, a refund, an adjustment
            return
        self.outcomes[seen.outcome] += 1 if seen.type == "usage" else -1
        for draw, units in zip(seen.draws, taken, strict=True):
            self.counters[seen.client, f"{draw.client_package}.{draw.period}.{draw.limit}"] += units
            if seen.type == "usage":
                self._bar(seen, draw, units)
        if seen.type == "usage" and seen.outcome == "rated":
            self.latest.appendleft(seen)

    def event(self, value: bytes) -> Event | None:
        """Count a record of `rater.events`; returns what is to be shown of it."""
        event = read_event(value)
        if event is None:
            self.unreadable += 1
            return None
        self._once(f"event {event.id}")
        self.events[event.type] += 1
        if event.client is not None:
            self.of_clients[event.client, event.type] += 1
        if event.type not in SHOWN:
            return None
        name, missing = event.client_package or "", missing_of(event)
        if missing:
            self.waiting[name] = event.client or "", missing
        else:
            self.waiting.pop(name, None)
        self.latest_events.appendleft(event)
        return event

    def reject(self, reason: str) -> None:
        """Count a record of `rater.rejected`."""
        self.rejected[reason] += 1

    def second(self, now: float) -> None:
        """Note how many sides are done at `now` (seconds of a steady clock); called about once a second."""
        self.per_second.append((now, self.done))
        while self.per_second and now - self.per_second[0][0] > HISTORY_S:
            self.per_second.popleft()

    def _once(self, name: str) -> None:
        if self._ids is None:
            return
        if name in self._ids:
            self.twice.append(name)
        self._ids.add(name)

    def _bar(self, seen: Seen, draw: Draw, units: int) -> None:
        left = parse_micros(draw.left) if draw.kind == "money" else int(draw.left)
        key = (draw.client_package, draw.period, draw.limit)
        bar = self.bars.get(key)
        if bar is None:
            scale, unit = (
                (10**6, draw.currency) if draw.kind == "money" else _PRICE_UNITS.get(seen.service, (1, ""))
            )
            bar = self.bars[key] = Bar(
                seen.client, draw.package_name, draw.limit, draw.period, unit, scale, left + units, left
            )
        # Lanes are read side by side, so a draw may be seen after a later one: less is left, never more.
        bar.size = max(bar.size, left + units)
        bar.left = min(bar.left, left)
        bar.draws += 1

    # ------------------------------------------------------------------ what comes out
    @property
    def done(self) -> int:
        """Return how many sides are accounted for."""
        return self.outcomes["rated"] + self.outcomes["zero"] + self.rejected.total() + self.duplicates

    def is_complete(self) -> bool:
        """Tell whether every side that was sent is accounted for."""
        return self.done >= self.fed_sides

    def rate(self, over_s: float = 3.0) -> float:
        """Return the sides done per second, over the last seconds."""
        if len(self.per_second) < 2:  # noqa: PLR2004 - a difference needs two
            return 0.0
        end, last = self.per_second[-1]
        start, first = next(point for point in self.per_second if end - point[0] <= over_s)
        if start == end:
            start, first = self.per_second[-2]
        return (last - first) / (end - start) if end > start else 0.0

    def rates(self) -> list[float]:
        """Return the sides done per second, one number for each second of the history."""
        points = list(self.per_second)
        return [(b[1] - a[1]) / (b[0] - a[0]) for a, b in pairwise(points) if b[0] > a[0]]


def missing_of(event: Event) -> int:
    """Return what a pending charge lacks, in micros; 0 where it is none, or waits for something else."""
    if event.type != EventType.CHARGE_PENDING or not isinstance(event.data, dict):
        return 0
    return parse_micros(str(event.data.get("missing", "0")))


def _taken(draw: Draw) -> int:
    return parse_micros(draw.taken) if draw.kind == "money" else int(draw.taken)


def shown(value: Any) -> str:
    """Return a number with thousands set apart."""
    return f"{value:,}"
