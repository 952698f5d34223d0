"""The arithmetic of a transaction, line by line, from what it says of itself; and what it comes to.

Exact: no binary float, one rounding. Source of the rules: RULES.md 2, steps 6, 7 and 10 to 12, 2.2; section 4
(Fees of periods); CONTRACTS.md, Transaction.
"""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import Any, NamedTuple

from rater.core.amounts import E10, MICRO, format_micros, half_up, parse_e10, parse_micros
from rater.core.catalog.specs import ServiceSpec
from rater.core.cdr import CALLS
from rater.core.kinds import TransactionType

DECIMALS_MAX = 12
"""Of an exact amount; a longer one ends in `…`."""

Transaction = Mapping[str, Any]
"""As published, decoded."""


class Worked(NamedTuple):
    """Lines of arithmetic, and the amount that they come to: signed micros of the transaction's currency."""

    lines: list[str]
    micros: int


def arithmetic(of: Transaction, services: Mapping[str, ServiceSpec]) -> Worked:
    """Return how a transaction's amount comes about. services: of the catalog that it was made by."""
    kind = of["type"]
    if kind == TransactionType.USAGE:
        return _usage(of, services[of["service"]])
    if kind in (TransactionType.ACTIVATION_FEE, TransactionType.SUBSCRIPTION_FEE):
        return _fee(of)
    return Worked([_sentence(of), f"amount: {money(of)}"], parse_micros(of["amount"]))


def units(number: int, service: ServiceSpec) -> str:
    """Return a number of counting units with their name."""
    return f"{number} {'s' if service.unit == 'second' else service.unit}"


def money(of: Transaction) -> str:
    """Return a transaction's amount with its currency."""
    return f"{of['amount']} {of['currency']}"


def decimal_of(number: Fraction) -> str:
    """Return an exact number as a decimal; `…` behind one that is longer than DECIMALS_MAX."""
    scaled, rest = divmod(abs(number.numerator) * 10**DECIMALS_MAX, number.denominator)
    whole, part = divmod(scaled, 10**DECIMALS_MAX)
    digits = f"{part:0{DECIMALS_MAX}}"
    text = f"{whole}.{digits}…" if rest else f"{whole}.{digits}".rstrip("0").rstrip(".")
    return f"-{text}" if number < 0 else text


# ------------------------------------------------------------------------------------------- a side of a call
def _usage(of: Transaction, service: ServiceSpec) -> Worked:
    if of["outcome"] == "zero":
        return Worked([_zero(of, service), f"amount: {money(of)}"], 0)
    rate, currency = of["rate"], of["rate"]["currency"]
    lines, overage = [_billed(of, service)], of["billed"]
    for draw in of["draws"]:
        if draw["kind"] == "volume":
            left = overage - int(draw["taken"])
            lines.append(
                f"{units(int(draw['taken']), service)} are free, from {_limit(draw)}: "
                f"{overage} - {draw['taken']} = {units(left, service)} to be paid"
            )
            overage = left
    setup = Fraction(parse_e10(of["setup_fee"]), E10)
    if not setup and parse_e10(rate["setup_fee"]):
        lines.append(
            f"the setup fee of {rate['setup_fee']} {currency} is dropped: the package says dont_charge"
        )
    cost = Fraction(parse_e10(rate["price"]) * overage, E10 * service.price_unit) + setup
    fee = f" + {of['setup_fee']} {currency} setup fee" if setup else ""
    lines.append(
        f"{overage} x {rate['price']} {currency} / {service.price_unit}{fee} = {decimal_of(cost)} {currency}"
    )
    cost = _converted(cost, of, (currency, of["currency"]), lines)
    micros = _rounded(-cost if of["side"] == "orig" else cost, of["currency"], lines)
    lines.append(f"{_who(of, micros)}: {format_micros(micros)} {of['currency']}")
    micros = _covered(of, micros, lines)
    lines.append(f"amount: {format_micros(micros)} {of['currency']}")
    return Worked(lines, micros)


def _zero(of: Transaction, service: ServiceSpec) -> str:
    if of["why"] == "unanswered":
        return "the call was not answered: nothing is charged"
    grace = (of["rate"] or {}).get("grace_time", 0)
    return f"{_used(of)} are within the grace time of {units(grace, service)}: nothing is charged"


def _used(of: Transaction) -> str:
    """Return what was used, in seconds or counting units."""
    if of["service"] == CALLS:
        return f"{decimal_of(Fraction(of['duration_ms'], 1000))} s"
    return str(of["volume"])


def _billed(of: Transaction, service: ServiceSpec) -> str:
    rate = of["rate"]
    least = f"at least {rate['min_time']}, then " if rate["min_time"] else ""
    return (
        f"{_used(of)}, {least}in intervals of {rate['interval']}: {units(of['billed'], service)} are billed"
    )


def _limit(draw: Transaction) -> str:
    rolled = ", moved from the period before" if draw.get("rolled") else ""
    return f"limit {draw['limit']} of {draw['package_name']}{rolled} ({draw['left']} left)"


def _who(of: Transaction, micros: int) -> str:
    does = "pays" if micros < 0 else "is paid" if micros else "owes nothing"
    return f"the client of side {of['side']} {does}"


def _covered(of: Transaction, micros: int, lines: list[str]) -> int:
    """Return what is left of a cost when money limits have covered their part of it."""
    sign = -1 if micros < 0 else 1
    for draw in of["draws"]:
        if draw["kind"] == "money":
            left = micros - sign * parse_micros(draw["covered"])
            lines.append(
                f"{draw['taken']} {draw['currency']} from {_limit(draw)} cover {draw['covered']} "
                f"{of['currency']}: {format_micros(left)} {of['currency']}"
            )
            micros = left
    if micros and abs(micros) < MICRO and not parse_micros(of["amount"]):
        rest = f"{format_micros(abs(micros))} {of['currency']}"
        lines.append(
            f"{rest} are less than half a millionth in the currency of a money limit, which covers them: "
            "nothing is taken"
        )
        return 0
    return micros


# ------------------------------------------------------------------------------------------- a fee
def _fee(of: Transaction) -> Worked:
    currency = of["package_currency"]
    rows = [row for row in of["lines"] if "rate" in row]
    total = Fraction(sum(parse_e10(row["rate"]) for row in rows), E10)
    named = " + ".join(f"{row['name']} {row['rate']}" for row in rows)
    lines = [f"{named} = {decimal_of(total)} {currency}"]
    for row in of["lines"]:
        if "discount" in row and total > 0:
            total = max(Fraction(0), total + Fraction(parse_e10(row["discount"]), E10))
            since = f"from activation {row['activation_count']} on"
            lines.append(f"discount {row['discount']} {since}: {decimal_of(total)} {currency}")
    if of["quantity"] != 1:
        total *= of["quantity"]
        lines.append(f"x {of['quantity']} (quantity) = {decimal_of(total)} {currency}")
    if of["proration"] is not None:
        part, whole = of["proration"]["of"], of["proration"]["in"]
        total *= Fraction(part, whole)
        lines.append(f"x {part} s / {whole} s of the period = {decimal_of(total)} {currency}")
    total = _converted(total, of, (currency, of["currency"]), lines)
    return _with_taxes(of, total, lines)


def _with_taxes(of: Transaction, total: Fraction, lines: list[str]) -> Worked:
    """Return net or gross with the taxes that the transaction says: rows of one name and percent are one."""
    currency = of["currency"]
    first = _rounded(total, currency, lines)
    parts = [-parse_micros(tax["amount"]) for tax in of["taxes"]]
    included = bool(parts) and first != -parse_micros(of["net"])
    net = first - sum(parts) if included else first
    if included:
        lines.append(f"taxes are in it: {format_micros(net)} {currency} net")
    for tax, part in zip(of["taxes"], parts, strict=True):
        share = f"{tax['name']} {tax['percent']} % of {format_micros(net)}"
        lines.append(f"{share}: {format_micros(part)} {currency}")
    gross = net + sum(parts)
    lines.append(f"amount: {format_micros(-gross)} {currency}")
    return Worked(lines, -gross)


# ------------------------------------------------------------------------------------------- both, and others
def _converted(amount: Fraction, of: Transaction, pair: tuple[str, str], lines: list[str]) -> Fraction:
    """Return an amount in the second currency of a pair, unrounded, by the transaction's own rates."""
    if pair[0] == pair[1]:
        return amount
    rates = {one["from"]: Fraction(parse_e10(one["rate"]), E10) for one in of.get("fx", ())}
    first, second = (rates.get(name, Fraction(1)) for name in pair)
    found = amount * first / second
    told = f" x {decimal_of(first)}" if pair[0] in rates else ""
    told += f" / {decimal_of(second)}" if pair[1] in rates else ""
    lines.append(f"{decimal_of(amount)} {pair[0]}{told} = {decimal_of(found)} {pair[1]}")
    return found


def _rounded(amount: Fraction, currency: str, lines: list[str]) -> int:
    """Return an exact amount in micros, half up by magnitude."""
    exact = amount * MICRO
    micros = half_up(exact.numerator, exact.denominator)
    if exact.denominator != 1:
        lines.append(f"rounded half up: {format_micros(abs(micros))} {currency}")
    return micros


def _sentence(of: Transaction) -> str:
    kind = of["type"]
    if kind == TransactionType.REFUND:
        return f"gives back {', '.join(of['of'])}: the sums of their net, taxes and amounts, negated"
    if kind == TransactionType.REVERSAL:
        return f"takes back revision {of['reverses']} of {of['id']}: its numbers, negated"
    reason = f": {of['reason']}" if of.get("reason") else ""
    return f"{of.get('actor') or 'somebody'} adjusts the balance (key {of.get('key')}){reason}"
