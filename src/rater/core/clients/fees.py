"""What a package's fees come to: net, taxes and amount, and the transactions that say so.

Source of the rules: RULES.md section 4 (Fees of periods), 2.2 (one rounding, half up by magnitude);
CONTRACTS.md, Transaction. Amounts are seen from the client's balance: a fee that is to be paid is negative.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import msgspec

from rater.core.amounts import E10, LIMIT, MICRO, format_e10, format_micros, half_up, parse_e10
from rater.core.catalog.compiled import Catalog
from rater.core.catalog.currencies import fx_objects
from rater.core.catalog.offers import escaped
from rater.core.catalog.packages import PackageVersion
from rater.core.clients.state import Charged, ClientPackage, ClientState, HeldPeriod
from rater.core.instants import rfc3339, shared_rfc3339
from rater.core.kinds import TransactionType

_encode = msgspec.json.Encoder().encode
_PERCENT = 100 * E10

Taxes = Sequence[tuple[str, str]]
"""(name, percent), in order."""


class Unpayable(Exception):  # noqa: N818 - a reason to wait, not a fault
    """A fee cannot be worked out now; reason: currency_unknown or amount_out_of_range."""

    def __init__(self, reason: str, sentence: str) -> None:
        super().__init__(sentence)
        self.reason = reason


class Fee(NamedTuple):
    """A fee as it is to be charged. lines: what it consists of; fx: JSON objects of currency rates used.

    sums: net, taxes and amount as its transaction tells them.
    """

    charged: Charged
    lines: msgspec.Raw
    sums: dict[str, Any]
    fx: tuple[str, ...] = ()

    @property
    def amount(self) -> int:
        """Signed micros of the client's currency, taxes included."""
        return self.charged.amount


def taxes_of(state: ClientState, catalog: Catalog) -> Taxes:
    """Return the taxes of a client's profile, none without one."""
    return catalog.tax_profiles.get(state.tax_profile or "", ())


def fee_of(
    kind: TransactionType, version: PackageVersion, *, quantity: int, share: tuple[int, int] | None,
    count: int, taxes: Taxes, currency: str, catalog: Catalog, at_ms: int,
) -> Fee | None:  # fmt: skip
    """Return the fee of one type of a period; None: the package has no rows of the type.

    count: activations, this one included. currency: the client's. at_ms: the fee's date. Raises Unpayable.
    """
    row_type = _ROWS[kind]
    if row_type not in version.charges:
        return None
    pair = catalog.convert(version.currency, currency, at_ms)
    if pair is None:
        raise Unpayable(
            "currency_unknown",
            f"its fees are in {version.currency}, and there is no rate to {currency} at {rfc3339(at_ms)}; "
            "load one that is dated before it",
        )
    fee = worked_out(
        kind, version, quantity, share, count if version.spec.discounts else 0, tuple(taxes), currency, pair
    )
    if version.currency == currency:
        return fee
    return fee._replace(fx=fx_objects(catalog, (version.currency, currency), at_ms))


_ROWS: dict[str, str] = {
    TransactionType.ACTIVATION_FEE: "activation", TransactionType.SUBSCRIPTION_FEE: "subscription"
}  # fmt: skip
"""Type of the transaction → type of the rows that it charges."""


@lru_cache(maxsize=4096)
def worked_out(
    kind: TransactionType, version: PackageVersion, quantity: int, share: tuple[int, int] | None, count: int,
    taxes: tuple[tuple[str, str], ...], currency: str, pair: tuple[int, int],
) -> Fee:  # fmt: skip
    """Return a fee that is the same for all clients with these; pair: as of `Catalog.convert`.

    Remembered: to work it out takes 14 of the 97 µs of a renewal (benchmarks/line.py, `renewals`).
    """
    row_type = _ROWS[kind]
    rows = [row for row in version.spec.fees if row.type == row_type]
    total = sum(parse_e10(row.rate) for row in rows)
    lines: list[dict[str, Any]] = [{"name": row.name, "note": row.note, "rate": row.rate} for row in rows]
    if row_type == "subscription":
        total = _discounted(version, count, total, lines)
    of, whole = share or (1, 1)
    net, parts, gross = _taxed(
        total * quantity * of * pair[0], E10 // MICRO * whole * pair[1], taxes,
        included=version.spec.fees_include_taxes,
    )  # fmt: skip
    if not all(-LIMIT <= number <= LIMIT for number in (net, gross, *(part[2] for part in parts))):
        raise Unpayable(
            "amount_out_of_range",
            f"its fees come to more than {format_micros(LIMIT)} {currency}; correct the rate or the quantity",
        )
    negated = tuple([(name, percent, -part) for name, percent, part in parts])
    charged = Charged(kind, -net, negated, -gross)
    return Fee(charged, msgspec.Raw(_encode(lines)), _sums([charged]))


def _discounted(version: PackageVersion, count: int, total: int, lines: list[dict[str, Any]]) -> int:
    """Return what is left of the subscription; a discount takes nothing from a fee that pays the client."""
    reached = [row for row in version.spec.discounts if row.activation_count <= count]
    if not reached:
        return total
    row = max(reached, key=lambda one: one.activation_count)
    lines.append({"discount": format_e10(-parse_e10(row.discount)), "activation_count": row.activation_count})
    return max(0, total - parse_e10(row.discount)) if total > 0 else total


def _taxed(n: int, d: int, taxes: Taxes, *, included: bool) -> tuple[int, list[tuple[str, str, int]], int]:
    """Return net, taxes and gross in micros of the exact amount n / d."""
    rates = [parse_e10(percent) for _, percent in taxes]
    first = half_up(n, d)
    net = half_up(first * _PERCENT, _PERCENT + sum(rates)) if included else first
    parts = [
        (name, percent, half_up(net * rate, _PERCENT))
        for (name, percent), rate in zip(taxes, rates, strict=True)
    ]
    if included and parts:
        name, percent, _ = parts[-1]
        parts[-1] = name, percent, first - net - sum(part for _, _, part in parts[:-1])
    return net, parts, net + sum(part for _, _, part in parts)


def fee_fields(client_package: str, number: int) -> tuple[str, str, str]:
    """Return the counters of a fee that a period's first call brings: charged (0 or 1), net, amount."""
    begin = f"{escaped(client_package)}.{number}.fee."
    return begin + "charged", begin + "net", begin + "amount"


def charged_of(net: int, amount: int, taxes: Taxes) -> Charged:
    """Return a fee again whose net and amount are known: its taxes follow from them."""
    parts: list[tuple[str, str, int]] = []
    rest = amount - net
    for place, (name, percent) in enumerate(taxes, 1):
        part = rest if place == len(taxes) else half_up(net * parse_e10(percent), _PERCENT)
        parts.append((name, percent, part))
        rest -= part
    return Charged(TransactionType.SUBSCRIPTION_FEE, net, tuple(parts), amount)


def fee_text(
    state: ClientState, held: ClientPackage, name: str, period: HeldPeriod, fee: Fee,
    *, stop_ms: int | None, currency: str, at_ms: int, catalog: int, cdr: tuple[str, str] | None = None,
) -> bytes:  # fmt: skip
    """Return the transaction of a fee.

    name, currency: of the package. stop_ms: when the period stops, by its end dates too. cdr: source and id
    of the call that brought it (charge on event).
    """
    share = period.share
    kind = fee.charged.type
    out: dict[str, Any] = {
        "id": f"cp/{held.id}/{period.number}/{kind}",
        "revision": 1 if cdr is None else period.fee_revision, "type": kind, **_head(state, held, name),
        **_period(period, stop_ms), "at": shared_rfc3339(at_ms),
        "lines": fee.lines, "quantity": held.quantity,
        "proration": None if share is None else {"of": share[0], "in": share[1]},
        "package_currency": currency, "fx": [msgspec.Raw(one.encode()) for one in fee.fx],
        **fee.sums, "currency": state.currency, "catalog": catalog,
    }  # fmt: skip
    if cdr is not None:
        out["cdr"] = {"source": cdr[0], "id": cdr[1]}
    return _encode(out)


def refund_text(
    state: ClientState, held: ClientPackage, name: str, period: HeldPeriod,
    charged: Sequence[Charged], *, stop_ms: int | None, at_ms: int, catalog: int,
) -> bytes:  # fmt: skip
    """Return the transaction that gives back what was charged for a period."""
    back = [negated(one) for one in charged]
    return _encode({
        "id": f"cp/{held.id}/{period.number}/refund", "revision": 1, "type": TransactionType.REFUND,
        **_head(state, held, name), **_period(period, stop_ms), "at": rfc3339(at_ms),
        "of": [f"cp/{held.id}/{period.number}/{one.type}" for one in charged],
        **_sums(back), "currency": state.currency, "catalog": catalog,
    })  # fmt: skip


def reversal_text(
    state: ClientState, held: ClientPackage, name: str, period: HeldPeriod, one: Charged,
    *, stop_ms: int | None, at_ms: int, catalog: int, revision: int = 1,
) -> bytes:  # fmt: skip
    """Return the reversal of a fee or refund, of this revision: its id again, with negated numbers."""
    return _encode({
        "id": f"cp/{held.id}/{period.number}/{one.type}", "revision": revision, "reverses": revision,
        "type": TransactionType.REVERSAL, **_head(state, held, name), **_period(period, stop_ms),
        "at": rfc3339(at_ms), **_sums([negated(one)]), "currency": state.currency, "catalog": catalog,
    })  # fmt: skip


def negated(one: Charged) -> Charged:
    """Return the exact opposite of what was charged."""
    taxes = tuple([(name, percent, -part) for name, percent, part in one.taxes])
    return Charged(one.type, -one.net, taxes, -one.amount)


def _head(state: ClientState, held: ClientPackage, name: str) -> dict[str, Any]:
    return {
        "client": state.id, "account": held.account, "client_package": held.id, "package": held.package,
        "package_name": name,
    }  # fmt: skip


def _period(period: HeldPeriod, stop: int | None) -> dict[str, Any]:
    return {
        "period": period.number, "period_start": shared_rfc3339(period.start_ms),
        "period_stop": None if stop is None else shared_rfc3339(stop),
    }  # fmt: skip


def _sums(parts: Iterable[Charged]) -> dict[str, Any]:
    """Return net, taxes and amount; taxes of one name and percent are one."""
    net = amount = 0
    taxes: dict[tuple[str, str], int] = {}
    for one in parts:
        net, amount = net + one.net, amount + one.amount
        for name, percent, part in one.taxes:
            taxes[name, percent] = taxes.get((name, percent), 0) + part
    return {
        "net": format_micros(net),
        "taxes": [
            {"name": name, "percent": percent, "amount": format_micros(part)}
            for (name, percent), part in taxes.items()
        ],
        "amount": format_micros(amount),
    }
