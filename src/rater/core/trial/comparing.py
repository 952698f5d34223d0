"""What another catalog changes, in money: each transaction that it changes, each client, and all together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from rater.core.amounts import format_micros
from rater.core.offline import Ended, Transaction
from rater.core.reasons import Rejection
from rater.core.trial.sums import Summed, read_summed
from rater.core.trial.trial import Tried

_Key = tuple[str, str]
"""(client, transaction's id): a call may be another client's by the other catalog."""


class _Client:
    """Of one client and currency: sides of calls, and what they and the fees come to by each catalog."""

    __slots__ = ("amounts", "calls", "changed", "volumes")

    def __init__(self) -> None:
        self.calls = 0
        self.changed = 0
        self.volumes = [0, 0]
        self.amounts = [0, 0]


class Comparison:
    """The same calls by two catalogs."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self._clients: dict[tuple[str, str], _Client] = {}
        self._fees: tuple[dict[_Key, Summed], dict[_Key, Summed]] = ({}, {})
        """Fees and refunds that only one of the two has so far."""
        self._rejected: tuple[Counter[str], Counter[str]] = (Counter(), Counter())
        self._changed = 0

    def add(self, before: Tried, after: Tried) -> Iterator[dict[str, Any]]:
        """Take in a record by both; yields what changes, as `_row`."""
        first, second = _usage(before.ended), _usage(after.ended)
        for key in dict.fromkeys([*first, *second]):
            yield from self._pair(first.get(key), second.get(key))
        for place, ended in enumerate((before.ended, after.ended)):
            self._rejected[place].update(one.reason.value for one in ended if isinstance(one, Rejection))
        yield from self._add_changes(before, after)

    def _add_changes(self, *both: Tried) -> Iterator[dict[str, Any]]:
        """Take in fees and refunds; yield what changes of those that both have by now."""
        for place, tried in enumerate(both):
            for told in map(read_summed, tried.changes):
                self._fees[place][told.client, told.id] = told
        for key in self._fees[0].keys() & self._fees[1].keys():
            yield from self._pair(self._fees[0].pop(key), self._fees[1].pop(key))

    def rest(self) -> Iterator[dict[str, Any]]:
        """Yield the fees and refunds that only one catalog has, in the end."""
        first, second = self._fees
        for key in sorted(first.keys() | second.keys()):
            yield from self._pair(first.pop(key, None), second.pop(key, None))

    def _pair(self, before: Summed | None, after: Summed | None) -> Iterator[dict[str, Any]]:
        one = after or before
        assert one is not None  # noqa: S101 - of one catalog at least
        changed = before is None or after is None
        changed = changed or (before.micros, before.currency) != (after.micros, after.currency)  # type: ignore[union-attr]
        for currency in dict.fromkeys(told.currency for told in (before, after) if told is not None):
            client = self._clients.setdefault((one.client, currency), _Client())
            client.calls += one.is_usage
            client.changed += changed
            for place, told in enumerate((before, after)):
                if told is not None and told.currency == currency:
                    client.amounts[place] += told.micros
                    client.volumes[place] += told.billed
        if changed:
            self._changed += 1
            yield _row(one, before, after)

    def client_rows(self) -> list[dict[str, Any]]:
        """Return a row for each client and currency. Volumes in counting units, amounts as decimals."""
        return [
            {
                "client": client, "calls": one.calls, "changed": one.changed,
                "volume_before": one.volumes[0], "volume_after": one.volumes[1],
                "amount_before": format_micros(one.amounts[0]),
                "amount_after": format_micros(one.amounts[1]),
                "difference": format_micros(one.amounts[1] - one.amounts[0]), "currency": currency,
            }
            for (client, currency), one in sorted(self._clients.items())
        ]  # fmt: skip

    def total(self) -> dict[str, Any]:
        """Return what all comes to; amounts by currency."""
        sums: tuple[Counter[str], Counter[str]] = (Counter(), Counter())
        for (_, currency), one in self._clients.items():
            for place in range(2):
                sums[place][currency] += one.amounts[place]
        before, after = (
            {currency: format_micros(micros) for currency, micros in sorted(of.items())} for of in sums
        )
        return {
            "clients": len({client for client, _ in self._clients}),
            "calls": sum(one.calls for one in self._clients.values()), "changed": self._changed,
            "amount_before": before, "amount_after": after,
            "rejected_before": dict(self._rejected[0]), "rejected_after": dict(self._rejected[1]),
        }  # fmt: skip


def _usage(ended: Sequence[Ended]) -> dict[_Key, Summed]:
    found = [read_summed(one.value) for one in ended if isinstance(one, Transaction)]
    return {(told.client, told.id): told for told in found}


def _row(one: Summed, before: Summed | None, after: Summed | None) -> dict[str, Any]:
    """Return what changes of a transaction; None where a catalog has none."""
    currencies = {told.currency for told in (before, after) if told is not None}
    return {
        "transaction": one.id, "client": one.client, "type": one.type, "at": one.at, "called": one.called,
        "code": one.code, "amount_before": None if before is None else before.amount,
        "amount_after": None if after is None else after.amount, "currency": "/".join(sorted(currencies)),
    }  # fmt: skip
