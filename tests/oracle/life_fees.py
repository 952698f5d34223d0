"""Fees of periods, their taxes, refunds and reversals (RULES.md 4, Fees of periods), in exact fractions."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from oracle.life_calendar import Boundary
from oracle.reference import (
    MICROS,
    Catalog,
    Conversion,
    decimal,
    decimal_text,
    half_up,
    money_text,
    time_text,
)

Row = dict[str, Any]
Taxes = list[tuple[str, Fraction]]
"""(name, percent) of each tax of a profile, in its order."""


@dataclass
class Held:
    """A period that was opened. package, quantity, count, taxes: those of its opening.

    stop: as scheduled, None: never. stop_place: of the grid it is counted on. count: activations with it.
    share, wall: see life_calendar.Cut. paid: fee type → its transaction, once it was charged.
    moved, rolled: units of each limit that went to the next period, or came from the one before.
    """

    number: int
    start: Boundary
    stop: Boundary | None
    stop_place: int
    package: Row
    quantity: int
    count: int
    share: Fraction
    wall: tuple[int, int] | None
    opened_ms: int
    taxes: Taxes
    paid: dict[str, Row] = field(default_factory=dict)
    moved: dict[str, int] = field(default_factory=dict)
    rolled: dict[str, int] = field(default_factory=dict)
    rolled_over: bool = False
    voided: bool = False


def rows_of(package: Row, kind: str) -> list[Row]:
    """Return the package's fee rows of a type."""
    return [row for row in package.get("fees") or [] if row["type"] == kind]


def discount_of(package: Row, count: int) -> Row | None:
    """Return the discount that holds from so many activations on: that of the highest count reached."""
    reached = [row for row in package.get("discounts") or [] if int(row["activation_count"]) <= count]
    return max(reached, key=lambda row: int(row["activation_count"]), default=None)


def taxed(micros: int, taxes: Taxes, *, included: bool) -> tuple[int, list[int], int]:
    """Return net, each tax and gross of a signed amount: the gross where taxes are included, else the net."""
    if not taxes:
        return micros, [], micros
    if not included:
        parts = [half_up(micros * percent / 100) for _, percent in taxes]
        return micros, parts, micros + sum(parts)
    net = half_up(micros / (1 + sum((percent for _, percent in taxes), Fraction(0)) / 100))
    parts = [half_up(net * percent / 100) for _, percent in taxes[:-1]]
    return net, [*parts, micros - net - sum(parts)], micros


def price_of(period: Held, kind: str) -> tuple[Fraction, list[Row]]:
    """Return a fee in the package's currency, positive = to pay, and its lines."""
    rows = rows_of(period.package, kind)
    total = sum((decimal(row["rate"]) for row in rows), Fraction(0))
    lines = [
        {"name": row["name"], "note": row.get("note") or "", "rate": decimal_text(decimal(row["rate"]))}
        for row in rows
    ]
    discount = discount_of(period.package, period.count) if kind == "subscription" else None
    if discount is not None:
        less = decimal(discount["discount"])
        total = max(Fraction(0), total - less) if total >= 0 else total
        count = int(discount["activation_count"])
        lines.append({"discount": decimal_text(-less), "activation_count": count})
    return total * period.quantity * period.share, lines


def fee(
    catalog: Catalog, held_by: Row, client: Row, period: Held, kind: str, at: int, stop: int | None
) -> Row | None:
    """Return a fee's transaction; None: the package has no rows of the type.

    held_by: the client package's row. at: the fee's date, whose currency rate holds. stop: the period's, as
    bounded by end dates.
    """
    if not rows_of(period.package, kind):
        return None
    price, lines = price_of(period, kind)
    conversion = Conversion(catalog, at)
    currency, of_package = client["currency"], period.package["currency"]
    micros = half_up(-price * conversion.factor(of_package, currency) * MICROS)
    conversion.show(of_package, currency)
    included = bool(period.package.get("fees_include_taxes"))
    net, taxes, gross = taxed(micros, period.taxes, included=included)
    return {
        "id": f"cp/{held_by['id']}/{period.number}/{kind}_fee", "revision": 1, "type": f"{kind}_fee",
        "client": client["id"], "account": held_by.get("account"), "client_package": held_by["id"],
        "package": period.package["id"], "package_name": period.package["name"], "period": period.number,
        "period_start": time_text(period.start.ms), "period_stop": shown(stop), "at": time_text(at),
        "lines": lines, "quantity": period.quantity,
        "proration": None if period.wall is None else {"of": period.wall[0], "in": period.wall[1]},
        "package_currency": of_package, "fx": conversion.shown, "net": money_text(net),
        "taxes": [
            {"name": name, "percent": decimal_text(percent), "amount": money_text(amount)}
            for (name, percent), amount in zip(period.taxes, taxes, strict=True)
        ],
        "amount": money_text(gross), "currency": currency,
    }  # fmt: skip


def shown(ms: int | None) -> str | None:
    """Return an instant as transactions have it; None: never."""
    try:
        return None if ms is None else time_text(ms)
    except OverflowError:
        return None


def micros_of(transaction: Row, name: str = "amount") -> int:
    """Return an amount of a transaction in micros."""
    return half_up(decimal(transaction[name]) * MICROS)


def refund(given_back: list[Row], period: Held, at: int) -> Row | None:
    """Return the refund of a period's fees: the sums, negated; None where they are 0."""
    if sum(map(micros_of, given_back)) == 0:
        return None
    taxes: dict[tuple[str, str], int] = {}
    for one in given_back:
        for tax in one["taxes"]:
            place = tax["name"], tax["percent"]
            taxes[place] = taxes.get(place, 0) + micros_of(tax)
    kept = (
        "client", "account", "client_package", "package", "package_name", "period", "period_start",
        "currency",
    )  # fmt: skip
    return {
        **{name: given_back[0][name] for name in kept},
        "id": f"cp/{given_back[0]['client_package']}/{period.number}/refund", "revision": 1, "type": "refund",
        "at": time_text(at), "of": [one["id"] for one in given_back],
        "net": money_text(-sum(micros_of(one, "net") for one in given_back)),
        "taxes": [
            {"name": name, "percent": percent, "amount": money_text(-amount)}
            for (name, percent), amount in taxes.items()
        ],
        "amount": money_text(-sum(map(micros_of, given_back))),
    }  # fmt: skip


def reversal(transaction: Row, at: int) -> Row:
    """Return what takes a fee or refund back: the same id, its numbers negated."""

    def negated(text: str) -> str:
        return decimal_text(-decimal(text))

    return {
        **{name: value for name, value in transaction.items() if name != "of"},
        "type": "reversal", "reverses": transaction["revision"], "at": time_text(at),
        "net": negated(transaction["net"]), "amount": negated(transaction["amount"]),
        "taxes": [{**tax, "amount": negated(tax["amount"])} for tax in transaction["taxes"]],
    }  # fmt: skip
