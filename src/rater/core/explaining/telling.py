"""What is told of a transaction or a side: as data (CONTRACTS.md, Programs), and the same in words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from rater.core.amounts import format_micros, parse_micros
from rater.core.catalog.compiled import Catalog
from rater.core.explaining.arithmetic import arithmetic
from rater.core.explaining.sides import Asked, Explained
from rater.core.kinds import TransactionType
from rater.core.rating.explaining import Passed
from rater.core.reasons import PassOver, Rejection

IN_WORDS: dict[PassOver, str] = {
    PassOver.NOT_ACTIVE: "its client package or its package is not active at the call's time",
    PassOver.OTHER_ACCOUNT: "it is for another account",
    PassOver.OTHER_SERVICE: "it is of another service",
    PassOver.WRONG_TYPE: "packages of its type are not for a cost of this sign",
    PassOver.CODE_MISMATCH: "it is for other codes",
    PassOver.EXCLUDED: "the code is excluded",
    PassOver.USED_UP: "nothing is left of it",
    PassOver.BALANCE_BELOW_ZERO: "balance and credit limit together are below zero",
    PassOver.FEE_NOT_COVERED: "balance and credit limit do not cover the fee that its first call brings",
    PassOver.SHORT_CALL: "the call is shorter than it asks for",
    PassOver.LOWER_IN_ORDER: "others come before it, and nothing is left for it",
}
_BY = {
    "client": "the record names the client", "account": "the record names the account",
    "rule": "an identification rule holds",
}  # fmt: skip

Row = dict[str, Any]


def told(explained: Explained, catalog: Catalog) -> Row:
    """Return what is told of a side that is worked out now."""
    ended = explained.ended
    if isinstance(ended, Rejection):
        found = _empty(None)
        found["rejected"] = {"reason": ended.reason.value, "detail": ended.detail, "value": ended.value}
    else:
        found = of_transaction(msgspec.json.decode(ended.value), catalog)
    found["side"] = explained.side
    found["identified"] = identified(explained)
    found["candidates"] = candidates(explained)
    found["due"] = [msgspec.json.decode(value)["id"] for value in explained.due]
    found["brings"] = None if explained.brings is None else msgspec.json.decode(explained.brings)["id"]
    return found


def of_transaction(transaction: Mapping[str, Any], catalog: Catalog) -> Row:
    """Return what a transaction says by itself: rate, billed volume, arithmetic, amount.

    catalog: by which it was made.
    """
    found = _empty(transaction["id"])
    worked = arithmetic(transaction, catalog.services)
    if transaction["type"] == TransactionType.USAGE:
        rate = transaction["rate"]
        found["rate"] = rate and {
            "code": transaction["code"], "code_name": transaction["code_name"], **rate,
        }  # fmt: skip
        found["billed"] = transaction["billed"]
    found["identified"] |= {name: transaction.get(name) for name in ("client", "account")}
    found["arithmetic"] = worked.lines
    found["amount"], found["currency"] = transaction["amount"], transaction["currency"]
    if worked.micros != parse_micros(transaction["amount"]):
        found["notes"].append(
            f"the arithmetic comes to {format_micros(worked.micros)}, the transaction says "
            f"{transaction['amount']}: report it"
        )
    return found


def identified(explained: Explained) -> Row:
    """Return whose call a side is, and what said so."""
    return {"by": explained.by, "client": explained.client, "account": explained.account}


def candidates(explained: Explained) -> list[Row]:
    """Return the candidates in their order, then the client's other limits."""
    return [*map(_asked, explained.asked), *map(_passed, explained.passed)]


def _asked(one: Asked) -> Row:
    limit, taken = one.candidate, None
    if one.taken is not None:
        taken = format_micros(one.taken) if limit.money else str(one.taken)
    row: Row = {
        "client_package": one.client_package, "package": one.package, "package_name": limit.package_name,
        "limit": limit.limit_id, "kind": "money" if limit.money else "volume", "period": one.period,
        "taken": taken, "passed_over": one.passed_over,
    }  # fmt: skip
    if limit.money:
        row["currency"] = limit.currency
    return {**row, "rolled": True} if limit.rolled else row


def _passed(one: Passed) -> Row:
    return {
        "client_package": one.client_package, "package": one.package, "package_name": one.package_name,
        "limit": one.limit_id, "kind": one.kind, "period": one.period, "taken": None,
        "passed_over": one.reason,
    }  # fmt: skip


def _empty(name: str | None) -> Row:
    return {
        "transaction": name, "identified": {"by": None, "client": None, "account": None}, "rate": None,
        "billed": None, "candidates": [], "arithmetic": [], "amount": None, "currency": None, "notes": [],
    }  # fmt: skip


# ------------------------------------------------------------------------------------------- in words
def in_words(row: Mapping[str, Any]) -> Iterator[str]:
    """Yield the lines of an explanation for people."""
    yield row["transaction"] or f"side {row.get('side') or 'unknown'}"
    whose = row["identified"]
    if whose["client"] is not None:
        account = f", account {whose['account']}" if whose["account"] is not None else ""
        by = f": {_BY[whose['by']]}" if whose["by"] else ""
        yield f"  client {whose['client']}{account}{by}"
    if row.get("brought_by"):
        yield f"  brought by the first call of the period: {row['brought_by']}"
    if row.get("rejected"):
        yield f"  rejected, {row['rejected']['reason']}: {row['rejected']['detail']}"
    for due in row.get("due", ()):
        yield f"  before it comes what is due: {due}"
    if row.get("brings"):
        yield f"  it is the first call of a period, and brings its fee: {row['brings']}"
    if (rate := row["rate"]) is not None:
        yield f"  {_rate(rate)}"
    if row["candidates"]:
        yield "  limits, in order"
        yield from (f"    {number}. {_candidate(one)}" for number, one in enumerate(row["candidates"], 1))
    if row["arithmetic"]:
        yield "  arithmetic"
        yield from (f"    {line}" for line in row["arithmetic"])
    yield from (f"  note: {note}" for note in row["notes"])


def _rate(rate: Mapping[str, Any]) -> str:
    name = f" {rate['code_name']}" if rate["code_name"] else ""
    table = f"table {rate['table']}" if rate["table"] else "given by the record"
    return (
        f"rate of {rate['code']}{name}, {table}: {rate['price']} {rate['currency']}, setup fee "
        f"{rate['setup_fee']}, {rate['min_time']}/{rate['interval']}, grace time {rate['grace_time']}"
    )


def _candidate(one: Mapping[str, Any]) -> str:
    period = f", period {one['period']}" if one["period"] is not None else ""
    rolled = ", moved from the period before" if one.get("rolled") else ""
    what = (
        f"{one['kind']} limit {one['limit']} of {one['package_name']} "
        f"(client package {one['client_package']}{period}{rolled})"
    )
    if one["taken"] is not None:
        return f"{what}: {one['taken']} {one.get('currency', '')}".rstrip() + " taken"
    if one["passed_over"] is None:
        return f"{what}: passed over, why is not known any more"
    return f"{what}: passed over, {one['passed_over']}: {IN_WORDS[PassOver(one['passed_over'])]}"
