"""What becomes of a client does not depend on when ticks come (RULES.md section 4, Renewal)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import pytest

from rater.core.instants import DAY_MS, milliseconds
from rater.core.notices import Notices
from rater.core.offline import Rater

Row = dict[str, Any]
PACKAGE: Row = {
    "id": "P", "name": "P", "type": "customer", "currency": "USD", "period": "1 month",
    "fees": [{"type": "subscription", "name": "Monthly", "rate": "5.00"}],
}  # fmt: skip
CLIENT: Row = {"id": "42", "currency": "USD", "balance": "100.00"}
LATER: tuple[str, Row] = ("2027-01-15", {})
DEARER = [{"type": "subscription", "name": "Monthly", "rate": "6.00"}]
ADVANCE: Row = {"advance_renew": "5 days"}


class Slow(Rater):
    """Ticks of a load's packages do not come before others."""

    def _see_to(self, packages: Any, at_ms: int) -> None:
        pass


def told(rater: Rater, steps: Sequence[tuple[str, Row]], *, ticks: bool) -> list[tuple[Any, ...]]:
    """Return what steps publish, by moment: (at, id or type, amount); ticks: one around each of them."""
    found: list[Row] = []
    for number, (date, row) in enumerate(steps):
        at = f"{date}T00:00:00+00:00"
        at_ms = milliseconds(datetime.fromisoformat(at))
        if ticks:
            rater.tick(at_ms)
        if "do" in row:
            command = {"id": f"c{number}", "key": f"k{number}", "at": at, "client": "42", **row}
            rater.command(json.dumps(command).encode(), at_ms)
        elif row:
            assert rater.load([("c.json", json.dumps(row).encode())], at_ms) == []
        if ticks or not row:
            rater.tick(at_ms)
        for values in rater.take():
            found += map(json.loads, values)
    left = {"assigned", "activated", "renewed", "command_done", "client_changed", "end_date_changed"}
    return sorted(
        (one["at"][:10], one["id"] if "amount" in one else one["type"], one.get("amount", ""))
        for one in found
        if one["type"] not in left and one["id"] != "adjust/42/opening"
    )


def sold(**fields: Any) -> Row:
    """Return a load of the package with these fields."""
    return {"packages": [{**PACKAGE, **fields}]}


def begun(held: Row | None = None, **fields: Any) -> tuple[str, Row]:
    """Return the first load: the package with these fields, and a client that has it."""
    assigned = {"id": "3", "client": "42", "package": "P", **(held or {})}
    first = {"currencies": {"base": "USD"}, "clients": [CLIENT], "client_packages": [assigned]}
    return "2026-11-01", {**first, **sold(**fields)}


FEE = ("2026-11-01", "cp/3/1/subscription_fee", "-5")
SECOND = ("2026-12-01", "cp/3/2/subscription_fee", "-5")
THIRD = ("2027-01-01", "cp/3/3/subscription_fee", "-5")


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        pytest.param(
            [begun(), ("2026-11-10", sold(end_date="2026-11-05")), ("2026-11-12", sold()), LATER],
            [FEE, ("2026-11-10", "archived", "")],
            id="an end date of the past comes with its load, and a later load does not take it back",
        ),
        pytest.param(
            [begun(), ("2026-11-10", sold(end_date="2026-11-12")), ("2026-11-14", sold()), LATER],
            [FEE, ("2026-11-12", "archived", "")],
            id="an end date that came is not taken back",
        ),
        pytest.param(
            [begun(), ("2026-11-10", sold(end_date="2026-11-12")), ("2026-11-12", sold()), LATER],
            [FEE, ("2026-11-12", "archived", "")],
            id="what is due at the instant of a load is done before it",
        ),
        pytest.param(
            [begun(), ("2026-11-10", sold(end_date="2026-11-12")), ("2026-11-11", sold()), LATER],
            [FEE, SECOND, THIRD],
            id="an end date that was taken back in time ends nothing",
        ),
        pytest.param(
            [begun(), ("2026-12-10", sold(end_date="2026-11-25")), LATER],
            [FEE, SECOND, ("2026-12-10", "archived", "")],
            id="what was due before the load was due",
        ),
        pytest.param(
            [begun(), ("2026-12-01", sold(end_date="2026-11-25")), LATER],
            [FEE, SECOND, ("2026-12-01", "archived", "")],
            id="also at its very instant",
        ),
        pytest.param(
            [
                begun(**ADVANCE), ("2026-11-28", sold(**ADVANCE, end_date="2026-11-29")),
                ("2026-12-05", sold(**ADVANCE)), LATER,
            ],
            [
                FEE, ("2026-11-28", "cp/3/2/refund", "5"), ("2026-11-29", "archived", ""), SECOND,
            ],
            id="a period in advance is opened and taken back",
        ),
        pytest.param(
            [
                begun(**ADVANCE), ("2026-11-10", sold(**ADVANCE, end_date="2026-12-01")),
                ("2026-11-28", sold(**ADVANCE, fees=DEARER)), ("2026-12-15", {}),
            ],
            [FEE, ("2026-12-01", "cp/3/2/subscription_fee", "-6")],
            id="an end date that is taken back has what it held up done by what is loaded then",
        ),
        pytest.param(
            [
                begun({"end_date": "2026-12-01"}, **ADVANCE), ("2026-11-27", sold(**ADVANCE, fees=DEARER)),
                ("2026-11-28", {"do": "edit_end_date", "client_package": "3", "args": {"end_date": None}}),
                ("2026-12-15", {}),
            ],
            [FEE, ("2026-12-01", "cp/3/2/subscription_fee", "-6")],
            id="the same of its own end date",
        ),
        pytest.param(
            [
                begun(**ADVANCE), ("2026-11-28", sold(**ADVANCE, status="archived")),
                ("2026-11-29", {"do": "remove", "client_package": "3"}), LATER,
            ],
            [
                FEE, SECOND, ("2026-11-28", "cancelled", ""), ("2026-11-28", "cp/3/2/refund", "5"),
                ("2026-11-29", "cp/3/1/subscription_fee", "5"), ("2026-11-29", "cp/3/2/refund", "-5"),
                ("2026-11-29", "cp/3/2/subscription_fee", "5"), ("2026-11-29", "removed", ""),
                ("2026-11-29", "rerate_needed", ""),
            ],
            id="what is taken back and removed in one step is reversed, too",
        ),
        pytest.param(
            [
                begun(), ("2026-11-10", sold(start_date="2026-11-15")), ("2026-11-16", sold()),
                ("2026-11-20", {}),
            ],
            [FEE],
            id="a start date takes nothing back that has begun",
        ),
        pytest.param(
            [
                begun(start_date="2026-11-05"), ("2026-11-04", sold(start_date="2026-11-15")),
                ("2026-11-16", sold(start_date="2027-02-01")), ("2026-11-20", {}),
            ],
            [("2026-11-15", "cp/3/1/subscription_fee", "-5")],
            id="what had come by its start date has begun, though a later load puts that off",
        ),
    ],
)  # fmt: skip
def test_dates_of_a_package_count_as_of_then(
    steps: list[tuple[str, Row]], expected: list[tuple[str, str, str]]
) -> None:
    """The same is published with ticks around each step and with a single one at the end."""
    slow, quick = (told(rater, steps, ticks=ticks) for rater, ticks in ((Slow(), False), (Rater(), True)))
    assert slow == quick == sorted(expected)


@pytest.mark.parametrize(
    "later", [{"start_date": "2027-02-01"}, {"end_date": "2026-11-29"}, {"status": "archived"}]
)
def test_what_expires_is_told_as_of_then(later: Row) -> None:
    """A load that takes the period away later does not take back that its volume expires."""
    limits = [{"type": "volume", "service": "calls", "code": "1*", "limit": 10}]
    steps = [begun(limits=limits), ("2026-12-05", sold(limits=limits, **later)), ("2026-12-06", {})]
    notices = Notices(expiring_ms=DAY_MS)
    slow, quick = (
        told(Slow(notices=notices), steps, ticks=False),
        told(Rater(notices=notices), steps, ticks=True),
    )
    assert slow == quick
    assert ("2026-11-30", "limit_expiring", "") in slow


@pytest.mark.parametrize("period", [None, "1 month"])
def test_the_index_learns_of_an_end_date_of_the_package(period: str | None) -> None:
    """It becomes due then, for ticks go by the index alone; taken back, it does no more."""
    rater = Rater()
    told(rater, [begun(period=period)], ticks=True)
    before = rater.states["42"].due_ms
    for end, due in (("2026-11-20", 1_795_132_800_000), (None, before)):
        told(rater, [("2026-11-10" if end else "2026-11-11", sold(period=period, end_date=end))], ticks=False)
        assert rater.states["42"].due_ms == due
