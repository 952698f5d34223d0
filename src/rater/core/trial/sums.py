"""What calls come to, client by client and destination by destination: calls, volume, money by currency."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import msgspec
from msgspec import Struct

from rater.core.amounts import format_micros, parse_micros
from rater.core.kinds import TransactionType
from rater.core.offline import Duplicate, Transaction
from rater.core.reasons import Rejection
from rater.core.trial.trial import Tried


class Summed(Struct):
    """What sums and comparisons read of a transaction (CONTRACTS.md, Transaction)."""

    id: str
    type: str
    client: str
    amount: str
    currency: str
    at: str
    side: str | None = None
    service: str | None = None
    called: str | None = None
    code: str | None = None
    code_name: str | None = None
    billed: int = 0

    @property
    def micros(self) -> int:
        """The amount, signed, in millionths of its currency."""
        return parse_micros(self.amount)

    @property
    def is_usage(self) -> bool:
        """Whether it is of a side of a call."""
        return self.type == TransactionType.USAGE


read_summed = msgspec.json.Decoder(Summed).decode


@dataclass
class Sum:
    """Of several transactions: sides of calls, their billed volume in counting units, signed micros."""

    calls: int = 0
    billed: Counter[str] = field(default_factory=Counter)
    usage: int = 0
    fees: int = 0

    def add(self, told: Summed) -> None:
        """Take in a transaction."""
        if told.is_usage:
            self.calls += 1
            self.billed[told.service or ""] += told.billed
            self.usage += told.micros
        else:
            self.fees += told.micros


class Sums:
    """What a trial comes to."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self.clients: dict[tuple[str, str], Sum] = {}
        """(client, currency) → sum."""
        self.destinations: dict[tuple[str, str, str, str], Sum] = {}
        """(code name or code, side, service, currency) → sum."""
        self.rejected: Counter[str] = Counter()
        self.duplicates = 0
        self.records = 0
        self.skipped = 0
        """Records that are no calls, says the map."""

    def add(self, tried: Tried) -> None:
        """Take in what became of a record."""
        if tried.arrived is not None:
            self.records += 1
            self.skipped += not tried.ended
        for one in tried.ended:
            if isinstance(one, Transaction):
                self._add(read_summed(one.value))
            elif isinstance(one, Rejection):
                self.rejected[one.reason.value] += 1
            elif isinstance(one, Duplicate):
                self.duplicates += 1
        for value in tried.changes:
            self._add(read_summed(value))

    def _add(self, told: Summed) -> None:
        self.clients.setdefault((told.client, told.currency), Sum()).add(told)
        if told.is_usage:
            name = told.code_name or told.code or "(nothing used)"
            key = name, told.side or "", told.service or "", told.currency
            self.destinations.setdefault(key, Sum()).add(told)

    def client_rows(self, price_units: dict[str, int]) -> list[dict[str, Any]]:
        """Return a row for each client and currency; volume as `volume`, amounts as decimals."""
        return [
            {
                "client": client, "calls": one.calls, "volume": volume(one.billed, price_units),
                "usage": format_micros(one.usage), "fees": format_micros(one.fees),
                "amount": format_micros(one.usage + one.fees), "currency": currency,
            }
            for (client, currency), one in sorted(self.clients.items())
        ]  # fmt: skip

    def destination_rows(self, price_units: dict[str, int]) -> list[dict[str, Any]]:
        """Return a row for each destination, side, service and currency, those of the most money first."""
        ordered = sorted(self.destinations.items(), key=lambda pair: (-abs(pair[1].usage), pair[0]))
        return [
            {
                "destination": name, "side": side, "service": service, "calls": one.calls,
                "volume": volume(one.billed, price_units), "amount": format_micros(one.usage),
                "currency": currency,
            }
            for (name, side, service, currency), one in ordered
        ]  # fmt: skip

    def totals(self) -> dict[str, str]:
        """Return currency → what all clients come to, a decimal."""
        found: Counter[str] = Counter()
        for (_, currency), one in self.clients.items():
            found[currency] += one.usage + one.fees
        return {currency: format_micros(micros) for currency, micros in sorted(found.items())}


def volume(billed: Counter[str], price_units: dict[str, int]) -> str:
    """Return billed volumes in price units (minutes) with two decimals, each of several with its service."""
    shown = {name: _hundredths(units, price_units.get(name, 1)) for name, units in sorted(billed.items())}
    if len(shown) == 1:
        return next(iter(shown.values()))
    return ", ".join(f"{text} {name}" for name, text in shown.items())


def _hundredths(units: int, price_unit: int) -> str:
    whole, rest = divmod((200 * units + price_unit) // (2 * price_unit), 100)
    return f"{whole}.{rest:02}"
