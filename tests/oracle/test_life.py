"""The oracle of the life of packages against worked examples and cases computed by hand."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

import pytest

from oracle.life import Result, World
from oracle.life_calendar import EPOCH, Length, Terms, asked, fits, later
from oracle.reference import time_text

Row = dict[str, Any]


def ms(text: str) -> int:
    """Return a time as ms; a date is 00:00 UTC."""
    return (
        int((datetime.fromisoformat(text if "T" in text else text + "T00:00:00Z") - EPOCH).total_seconds())
        * 1000
    )


class Told:
    """A world of the client "42", and short words for its steps; amounts and times as texts."""

    def __init__(self, at: str, balance: str = "1000", **client: Any) -> None:
        self.world = World(window_days=4000)
        self.number = 0
        self.client = {
            "id": "42", "name": "R", "currency": "USD", "balance": balance, "time_zone": "UTC",
            "rate_tables": {"orig": {"calls": "t"}, "term": {"calls": "v"}}, **client,
        }  # fmt: skip
        rates = [{"code": "380", "price": "0.10", "setup_fee": "0.05", "min_time": 60, "interval": 60},
                 {"code": "38044", "price": "0.06"}, {"code": "1", "price": "0.60"}]  # fmt: skip
        self.load(
            at,
            currencies={
                "base": "USD",
                "rates": {"EUR": [{"rate": "1.08"}, {"rate": "1.20", "from": "2026-12-01"}]},
            },
            tax_profiles=[
                {"name": "vat", "taxes": [{"name": "VAT", "percent": "20"}]},
                {"name": "two", "taxes": [{"name": "A", "percent": "7"}, {"name": "B", "percent": "3.5"}]},
            ],
            rate_tables=[
                {"name": "t", "currency": "USD", "rates": rates},
                {"name": "v", "currency": "USD", "rates": [{"code": "1", "price": "6"}]},
            ],
            clients=[self.client],
        )

    def load(self, at: str, **rows: Any) -> Result:
        """Load a file."""
        self.world.load(rows, ms(at))
        return self.world.result

    def package(
        self, at: str, name: str = "P", *, fee: str | None = "30.00", minutes: int = 300, **more: Any
    ) -> Result:
        """Load a package: monthly, with a subscription fee and minutes to 38044, unless said otherwise."""
        fees = [] if fee is None else [{"type": "subscription", "name": "Monthly", "rate": fee}]
        limit = {"id": "m", "type": "volume", "service": "calls", "code": "38044", "limit": minutes}
        row = {"id": name, "name": name, "type": "customer", "currency": "USD", "period": "1 month",
               "fees": fees, "limits": [limit], **more}  # fmt: skip
        return self.load(at, packages=[row])

    def do(
        self, at: str, what: str, client_package: str | None = None, key: str | None = None, **args: Any
    ) -> Result:
        """Give a command."""
        self.number += 1
        command = {
            "id": str(self.number), "key": key or str(self.number), "at": time_text(ms(at)), "do": what,
            "client": "42", "client_package": client_package, "args": args,
        }  # fmt: skip
        return self.world.command(command, ms(at))

    def call(self, at: str, seconds: int = 60, called: str = "380441", side: str = "orig") -> Result:
        """Rate a call whose record comes at once."""
        self.number += 1
        record = {"id": f"c{self.number}", "called": called, "answered_at": time_text(ms(at)),
                  "duration_ms": seconds * 1000, side: {"client": "42"}}  # fmt: skip
        self.world.rate(json.dumps(record).encode(), ms(at))
        return self.world.result

    def periods(self, name: str = "42-1") -> list[tuple[int, str, str | None, int]]:
        """Return number, start, stop and size of the first limit of each period."""
        life = self.world.owners["42"].lives[name]
        found = []
        for period in life.periods:
            stop = self.world.stop_of(life, period)
            limit = period.package["limits"][0]
            size = self.world.size(period, limit) + period.rolled.get("m", 0) - period.moved.get("m", 0)
            found.append((period.number, short(period.start.ms), None if stop is None else short(stop), size))
        return found


def short(at: int) -> str:
    """Return an instant without what is 0."""
    return time_text(at).removesuffix(":00.000Z").removesuffix("T00:00")


def moved(result: Result) -> list[tuple[str, str, str]]:
    """Return (id, at, amount) of what was charged or given back."""
    return [(one["id"], short(ms(one["at"])), one["amount"]) for one in result.transactions]


def types(result: Result) -> list[str]:
    """Return the types of events."""
    return [one.type for one in result.events]


ALIGNED: Row = {"payment_terms": {"every": "1 month", "anchor": "2026-01-01"}}


def test_example_10() -> None:
    """Charge on event: with the first call, dated its time; the second brings none."""
    told = Told("2026-11-01")
    told.package("2026-11-01", fee="5.00", minutes=10, charge_on_event=True)
    assert moved(told.do("2026-11-01", "assign", package="P")) == []
    first = told.call("2026-11-03T10:00:00Z")
    assert moved(first) == [("cp/42-1/1/subscription_fee", "2026-11-03T10:00", "-5")]
    assert first.sides[0]["value"]["amount"] == "0"
    assert told.call("2026-11-04T10:00:00Z").transactions == []


@pytest.mark.parametrize(
    ("zone", "at", "date", "amount", "seconds"),
    [
        ("UTC", "2026-11-11", "2026-11-11", "-20", 12_000),
        ("UTC", "2027-01-30", "2027-01-30", "-1.935484", 1_161),
        ("Europe/Kyiv", "2026-10-10T21:00:00Z", "2026-10-10T21:00", "-20.322581", 12_193),
    ],
)
def test_examples_11_17_18(zone: str, at: str, date: str, amount: str, seconds: int) -> None:
    """Aligned to the 1st: the first period costs and grants its share, by the local clock."""
    told = Told(at, time_zone=zone, **ALIGNED)
    told.package(at, align_to_payment_terms=True)
    result = told.do(at, "assign", package="P")
    assert moved(result) == [("cp/42-1/1/subscription_fee", date, amount)]
    assert told.periods()[0][3] == seconds


def test_example_15() -> None:
    """Taxes: included, 4.166667 + 0.833333; added, 5.00 + 1.00."""
    for included, numbers in ((True, ("-4.166667", "-0.833333", "-5")), (False, ("-5", "-1", "-6"))):
        told = Told("2026-11-01", tax_profile="vat")
        told.package("2026-11-01", fee="5.00", fees_include_taxes=included)
        (fee,) = told.do("2026-11-01", "assign", package="P").transactions
        assert (fee["net"], fee["taxes"][0]["amount"], fee["amount"]) == numbers


def test_two_included_taxes() -> None:
    """10 / 1.105 = 9.049774; 7 % of it is 0.633484; the last tax takes the remainder, 0.316742."""
    told = Told("2026-11-01", tax_profile="two")
    told.package("2026-11-01", fee="10", fees_include_taxes=True)
    (fee,) = told.do("2026-11-01", "assign", package="P").transactions
    assert [fee["net"], *(tax["amount"] for tax in fee["taxes"])] == ["-9.049774", "-0.633484", "-0.316742"]


def test_example_16() -> None:
    """Discount from the second activation on, times quantity."""
    told = Told("2026-11-01")
    told.package("2026-11-01", fee="5.00", discounts=[{"activation_count": 2, "discount": "1.00"}])
    assert moved(told.do("2026-11-01", "assign", package="P", quantity=3)) == [
        ("cp/42-1/1/subscription_fee", "2026-11-01", "-15")
    ]
    assert moved(told.do("2026-12-01", "tick")) == [("cp/42-1/2/subscription_fee", "2026-12-01", "-12")]


def test_example_20() -> None:
    """(30 - 3) x 2 x 20/30 = 36.00 net, 7.20 tax; 24,000 s."""
    told = Told("2026-11-11", tax_profile="vat", **ALIGNED)
    told.package(
        "2026-11-11", align_to_payment_terms=True, discounts=[{"activation_count": 1, "discount": "3.00"}]
    )
    (fee,) = told.do("2026-11-11", "assign", package="P", quantity=2).transactions
    assert (fee["net"], fee["amount"], fee["proration"]) == (
        "-36",
        "-43.2",
        {"of": 1_728_000, "in": 2_592_000},
    )
    assert told.periods()[0][3] == 24_000


def test_grid() -> None:
    """Terms of 3 months, anchored ahead, on the 31st; a period of 3 terms: cut to the next of the shorter."""
    cases = [
        # terms of 3 months, period 1 month: 11 Nov - 1 Dec, 20/30 of it (D27)
        (("3 months", "2026-01-01"), "1 month", "2026-11-11", [("2026-11-11", "2026-12-01", 12_000)]),
        # anchored ahead: points before the anchor count
        (("1 month", "2027-05-01"), "1 month", "2026-11-11", [("2026-11-11", "2026-12-01", 12_000)]),
        # on the 31st: 11 Feb - 28 Feb is 17 of the 28 days since 31 Jan: 18000 x 17/28 = 10928.57; no drift
        (("1 month", "2026-01-31"), "1 month", "2027-02-11", [("2027-02-11", "2027-02-28", 10_928),
         ("2027-02-28", "2027-03-31", 18_000), ("2027-03-31", "2027-04-30", 18_000)]),
        # the period has 3 terms: to the next term, 20 of the 91 days of 1 Sep - 1 Dec; then whole ones
        (("1 month", "2026-01-01"), "3 months", "2026-11-11", [("2026-11-11", "2026-12-01", 3_956),
         ("2026-12-01", "2027-03-01", 18_000)]),
        # on a point of the grid: whole at once
        (("1 month", "2026-01-01"), "3 months", "2026-11-01", [("2026-11-01", "2027-02-01", 18_000)]),
        (("7 days", "2026-11-02"), "7 days", "2026-11-11", [("2026-11-11", "2026-11-16", 12_857)]),
    ]  # fmt: skip
    for (every, anchor), period, at, expected in cases:
        told = Told(at, payment_terms={"every": every, "anchor": anchor})
        told.package(at, period=period, align_to_payment_terms=True)
        told.do(at, "assign", package="P")
        told.do("2027-04-01" if len(expected) > 1 else at, "tick")
        assert [one[1:] for one in told.periods()][: len(expected)] == expected


def test_full_charge_costs_and_grants_all() -> None:
    """`full_charge`: cut, but whole in money and minutes."""
    told = Told("2026-11-11", **ALIGNED)
    told.package("2026-11-11", align_to_payment_terms=True, full_charge=True)
    assert moved(told.do("2026-11-11", "assign", package="P"))[0][2] == "-30"
    assert told.periods() == [(1, "2026-11-11", "2026-12-01", 18_000)]


def test_what_does_not_fit_is_refused() -> None:
    """No terms; terms that are no multiple; then nothing is there."""
    for terms in (None, {"every": "2 months", "anchor": "2026-01-01"}):
        told = Told("2026-11-11", payment_terms=terms)
        told.package("2026-11-11", period="3 months", align_to_payment_terms=True)
        assert told.do("2026-11-11", "assign", package="P").refused
        assert told.world.owners["42"].lives == {}
    assert not fits(Length(24, "hour"), Terms(Length(1, "day"), "2026-01-01"))


def test_late_renewal_opens_the_period_of_now() -> None:
    """Unpaid on 1 Dec; paid on 15 Feb: period 2 is 1 Feb - 1 Mar, and what lay between costs nothing."""
    told = Told("2026-11-01", balance="30")
    told.package("2026-11-01")
    told.do("2026-11-01", "assign", package="P")
    pending = told.do("2026-12-01", "tick")
    assert types(pending) == ["charge_pending"]
    assert (pending.events[0].data["amounts"]["total"], pending.events[0].data["missing"]) == ("30", "30")
    late = told.do("2027-02-15", "adjust", amount="40")
    assert moved(late) == [
        ("adjust/42/3", "2027-02-15", "40"), ("cp/42-1/2/subscription_fee", "2027-02-01", "-30"),
    ]  # fmt: skip
    assert types(late) == ["charge_cleared", "renewed_late", "rerate_needed"]
    assert late.events[-1].data == {"from": "2027-02-01T00:00:00.000Z", "to": "2027-02-15T00:00:00.000Z"}
    assert told.periods()[1][:3] == (2, "2027-02-01", "2027-03-01")


def test_three_months_of_standstill_are_three_renewals() -> None:
    """What is due is decided and dated at its due moment, however late the tick (D3)."""
    told = Told("2026-11-01")
    told.package("2026-11-01")
    told.do("2026-11-01", "assign", package="P")
    assert [one[1] for one in moved(told.do("2027-02-10", "tick"))] == [
        "2026-12-01",
        "2027-01-01",
        "2027-02-01",
    ]


def test_renew_for_ends_exactly() -> None:
    """`renew_for` 3 days after the stop of 1 Dec: a rise on 4 Dec 00:00 comes too late."""
    for at, status in (("2026-12-03T23:59:59Z", "active"), ("2026-12-04", "archive")):
        told = Told("2026-11-01", balance="30")
        told.package("2026-11-01", renew_for="3 days")
        told.do("2026-11-01", "assign", package="P")
        told.do(at, "adjust", amount="40")
        assert told.world.status(told.world.owners["42"].lives["42-1"], ms(at)) == status


def test_before_period_and_in_advance() -> None:
    """before_period renews and dates at the stop - 1 s; in advance: then, dated the same."""
    told = Told("2026-11-01")
    told.package("2026-11-01", renewal_charge="before_period")
    told.do("2026-11-01", "assign", package="P")
    assert moved(told.do("2026-11-30T23:59:58Z", "tick")) == []
    assert moved(told.do("2026-11-30T23:59:59Z", "tick")) == [
        ("cp/42-1/2/subscription_fee", "2026-11-30T23:59:59.000Z", "-30")
    ]
    told = Told("2026-11-01")
    told.package("2026-11-01", advance_renew="3 days")
    told.do("2026-11-01", "assign", package="P")
    assert moved(told.do("2026-11-28", "tick")) == [("cp/42-1/2/subscription_fee", "2026-12-01", "-30")]
    stopped = told.do("2026-11-29", "stop_now", "42-1")
    assert moved(stopped) == [
        ("cp/42-1/2/refund", "2026-11-29", "30"),
        ("cp/42-1/1/refund", "2026-11-29", "30"),
    ]


def test_a_withdrawn_period_keeps_its_number_and_does_not_count() -> None:
    """Period 2 is withdrawn by an end date; when that is moved away period 3 opens, with the 2nd discount."""
    told = Told("2026-11-01")
    told.package("2026-11-01", advance_renew="3 days", discounts=[{"activation_count": 2, "discount": "1"},
                 {"activation_count": 3, "discount": "2"}])  # fmt: skip
    told.do("2026-11-01", "assign", package="P")
    told.do("2026-11-28", "tick")
    end = told.do("2026-11-29", "edit_end_date", "42-1", end_date="2026-11-30T12:00:00Z")
    assert moved(end) == [("cp/42-1/2/refund", "2026-11-29", "29")]
    again = told.do("2026-11-30", "edit_end_date", "42-1", end_date=None)
    assert moved(again) == [("cp/42-1/3/subscription_fee", "2026-12-01", "-29")]


def test_activate_in_past() -> None:
    """Three months at once or none; the window to re-rate; 401 periods are refused."""
    told = Told("2026-11-15", balance="100")
    told.package("2026-11-15")
    result = told.do("2026-11-15", "assign", package="P", start_date="2026-09-01", activate_in_past=True)
    assert [one[:2] for one in moved(result)] == [
        ("cp/42-1/1/subscription_fee", "2026-09-01"), ("cp/42-1/2/subscription_fee", "2026-10-01"),
        ("cp/42-1/3/subscription_fee", "2026-11-01"),
    ]  # fmt: skip
    assert types(result) == ["assigned", "activated", "rerate_needed"]
    result = told.do("2026-11-15", "assign", package="P", start_date="2026-09-01", activate_in_past=True)
    assert types(result) == ["assigned", "charge_pending"]
    told.package("2026-11-15", "D", fee=None, period="1 day")
    for start, refused in (("2025-10-12", None), ("2025-10-11", "more than 400 periods")):
        result = told.do("2026-11-15", "assign", package="D", start_date=start, activate_in_past=True)
        assert result.refused == refused


def test_end_in_the_past() -> None:
    """With activate in the past the periods up to it open, then it is archived; else it is refused."""
    told = Told("2026-11-15")
    told.package("2026-11-15")
    dates = {"start_date": "2026-09-01", "end_date": "2026-10-10"}
    result = told.do("2026-11-15", "assign", package="P", activate_in_past=True, **dates)
    assert types(result) == ["assigned", "activated", "rerate_needed", "archived"]
    assert [one[1:3] for one in told.periods()] == [
        ("2026-09-01", "2026-10-01"),
        ("2026-10-01", "2026-10-10"),
    ]
    assert told.do("2026-11-15", "assign", package="P", **dates).refused


def test_retries_in_order_and_one_too_dear_blocks_none() -> None:
    """40, 30 and 15 wait since the 1st, the 2nd, the 3rd; 55 come: 30 is too dear, and blocks nothing."""
    told = Told("2026-11-01", balance="0")
    for name, fee, at in (("A", "40", "2026-11-01"), ("B", "30", "2026-11-02"), ("C", "15", "2026-11-03")):
        told.package(at, name, fee=fee)
        told.do(at, "assign", package=name)
    result = told.do("2026-11-05", "adjust", amount="55")
    assert [one[0] for one in moved(result)][1:] == [
        "cp/42-1/1/subscription_fee",
        "cp/42-3/1/subscription_fee",
    ]
    assert told.world.balances["42"] == 0


def test_several_at_one_instant_by_priority_then_id() -> None:
    """Funds for one of two that are due on 1 Dec: the lower priority number has it."""
    told = Told("2026-11-01", balance="90")
    told.package("2026-11-01", "A", priority=5)
    told.package("2026-11-01", "B", priority=-1)
    told.do("2026-11-01", "assign", package="A")
    told.do("2026-11-01", "assign", package="B")
    assert [one[0] for one in moved(told.do("2026-12-01", "tick"))] == ["cp/42-2/2/subscription_fee"]


def test_roll_over() -> None:
    """120 s of 600 used: 300 s move (the cap); they are taken first, and cannot move again."""
    told = Told("2026-11-01")
    limit = {"id": "m", "type": "volume", "service": "calls", "code": "38044", "limit": 10, "rollover": 5}
    told.package("2026-11-01", limits=[limit])
    told.do("2026-11-01", "assign", package="P")
    told.call("2026-11-05T10:00:00Z", 120)
    told.do("2026-12-01", "tick")
    assert [one[3] for one in told.periods()] == [300, 900]
    told.call("2026-12-05T10:00:00Z", 100)  # of the 300
    told.do("2027-01-01", "tick")
    assert [one[3] for one in told.periods()] == [300, 600, 900]
    left = [draw["left"] for draw in told.call("2026-11-06T10:00:00Z", 60).sides[0]["value"]["draws"]]
    assert left == ["120"]


def test_stop_now_and_remove() -> None:
    """Stop gives both fees of a first period back, removing reverses all three; nothing draws any more."""
    told = Told("2026-11-01", balance="100")
    fees = [
        {"type": "activation", "name": "S", "rate": "7"},
        {"type": "subscription", "name": "M", "rate": "30"},
    ]
    told.package("2026-11-01", fees=fees)
    told.do("2026-11-01", "assign", package="P")
    assert told.do("2026-11-05", "remove", "42-1").refused
    stopped = told.do("2026-11-05", "stop_now", "42-1")
    assert moved(stopped) == [("cp/42-1/1/refund", "2026-11-05", "37")]
    assert stopped.transactions[0]["of"] == ["cp/42-1/1/activation_fee", "cp/42-1/1/subscription_fee"]
    assert types(stopped) == ["stopped", "rerate_needed"]
    assert told.call("2026-11-04T10:00:00Z").sides[0]["value"]["draws"] == []
    removed = told.do("2026-11-06", "remove", "42-1")
    assert [one[2] for one in moved(removed)] == ["7", "30", "-37"]
    assert told.world.balances["42"] == 99_940_000
    assert told.do("2026-11-06", "cancel", "42-1").refused


def test_usage_that_brings_money_clears() -> None:
    """A terminated call of 6.00 clears what waits, at its record's timestamp."""
    told = Told("2026-11-01", balance="0")
    told.package("2026-11-01", fee="5")
    told.do("2026-11-01", "assign", package="P")
    result = told.call("2026-11-03T10:00:00Z", 60, "12", "term")
    assert moved(result) == [("cp/42-1/1/subscription_fee", "2026-11-03T10:00", "-5")]


def test_fee_on_event_that_is_not_covered() -> None:
    """Under deny a fee above the funds passes the package over; the call is charged."""
    told = Told("2026-11-01", balance="3")
    told.package("2026-11-01", fee="5.00", charge_on_event=True)
    told.do("2026-11-01", "assign", package="P")
    assert told.call("2026-11-03T10:00:00Z").sides[0]["value"]["amount"] == "-0.06"
    told.do("2026-11-04", "adjust", amount="2.06")
    assert moved(told.call("2026-11-05T10:00:00Z"))[0][2] == "-5"


def test_disabled_and_enabled_again() -> None:
    """Disabled at the renewal: pending; enabled on 10 Dec: late, and not before."""
    told = Told("2026-11-01")
    told.package("2026-11-01")
    told.do("2026-11-01", "assign", package="P")
    told.package("2026-11-20", status="disabled")
    assert told.do("2026-11-21", "assign", package="P").refused
    assert types(told.do("2026-12-01", "tick")) == ["charge_pending"]
    result = told.package("2026-12-10", status="active")
    assert moved(result) == [("cp/42-1/2/subscription_fee", "2026-12-01", "-30")]
    told.package("2026-12-15", status="archived")
    assert told.world.owners["42"].lives["42-1"].ended == (ms("2026-12-15"), "cancelled")


def test_an_edit_holds_from_the_next_period() -> None:
    """Fee and length changed on 20 Nov: the month ends as it began, then days run from its stop."""
    told = Told("2026-11-01")
    told.package("2026-11-01")
    told.do("2026-11-01", "assign", package="P")
    told.package("2026-11-20", fee="3", minutes=10, period="10 days")
    assert moved(told.do("2026-12-12", "tick")) == [
        ("cp/42-1/2/subscription_fee", "2026-12-01", "-3"),
        ("cp/42-1/3/subscription_fee", "2026-12-11", "-3"),
    ]  # fmt: skip
    assert [one[3] for one in told.periods()] == [18_000, 600, 600]


def test_a_changed_zone_holds_from_the_next_renewal() -> None:
    """From Kyiv to New York on 10 October: from 31 October 22:00 UTC on months run on New York's clock."""
    told = Told("2026-09-30T21:00:00Z", time_zone="Europe/Kyiv")
    told.package("2026-09-30T21:00:00Z")
    told.do("2026-09-30T21:00:00Z", "assign", package="P")
    told.load("2026-10-10", clients=[{**told.client, "time_zone": "America/New_York"}])
    told.do("2027-01-01", "tick")
    assert [one[1] for one in told.periods()] == [
        "2026-09-30T21:00", "2026-10-31T22:00", "2026-11-30T23:00", "2026-12-31T23:00",
    ]  # fmt: skip


def test_all_limits_of_one_package_are_drawn() -> None:
    """180 s: 60 s of minutes, then 0.12 of money."""
    told = Told("2026-11-01")
    limits = [{"id": "m", "type": "volume", "service": "calls", "code": "38044", "limit": 1},
              {"id": "b", "type": "money", "service": "calls", "code": "*", "limit": "1.00"}]  # fmt: skip
    told.package("2026-11-01", fee=None, limits=limits)
    told.do("2026-11-01", "assign", package="P")
    value = told.call("2026-11-02T10:00:00Z", 180).sides[0]["value"]
    assert [draw["taken"] for draw in value["draws"]] == ["60", "0.12"]


def test_other_currency_by_its_date() -> None:
    """EUR 10 is 10.80 in November, 12.00 from December on."""
    told = Told("2026-11-01")
    told.package("2026-11-01", fee="10", currency="EUR")
    assert moved(told.do("2026-11-01", "assign", package="P"))[0][2] == "-10.8"
    assert moved(told.do("2026-12-01", "tick"))[0][2] == "-12"


def test_gaps_and_repeated_hours() -> None:
    """Cairo has no midnight on 24 April 2026; New York repeats 01:30 on 1 November: the first counts."""
    gap = asked("2026-04-24", "Africa/Cairo")
    assert [short(later(gap, Length(1, "month"), times, "Africa/Cairo").ms) for times in range(2)] == [
        "2026-04-23T22:00", "2026-05-23T21:00",
    ]  # fmt: skip
    start = asked("2026-10-31T01:30:00-04:00", "America/New_York")
    assert short(later(start, Length(1, "day"), 1, "America/New_York").ms) == "2026-11-01T05:30"
    assert short(later(start, Length(24, "hour"), 1, "America/New_York").ms) == "2026-11-01T05:30"
    assert short(later(start, Length(2, "day"), 1, "America/New_York").ms) == "2026-11-02T06:30"


def test_a_key_that_comes_again() -> None:
    """The same command gives the first result; another under its key is refused."""
    told = Told("2026-11-01")
    told.package("2026-11-01")
    first = told.do("2026-11-01", "assign", key="k", package="P")
    again = told.do("2026-11-02", "assign", key="k", package="P")
    assert again.done == {**first.done, "repeated": True}
    assert again.transactions == []
    assert told.do("2026-11-02", "assign", key="k", package="P", quantity=2).refused
