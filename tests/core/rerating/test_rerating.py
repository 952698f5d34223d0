"""Calls rated again: what changes, in which order, and that nothing else does (RULES.md section 5)."""

from __future__ import annotations

from msgspec.structs import replace
from rerates import DAY, START, Books

from rater.core.bucket.messages import CounterChange
from rater.core.commands.records import AdjustArgs, NoArgs, RerateBeginArgs
from rater.core.kinds import Do
from rater.core.rerating.calls import read_told
from rater.core.rerating.client import Window, wider

CATALOG = """
currencies: {{base: USD}}
rate_tables:
  - {{name: retail, currency: USD, rates: [{{code: "380", price: "{price}"}}, {{code: "1", price: "0.02"}}]}}
packages:
  - {{id: "1", name: Ten, type: customer, currency: USD, period: 1 month,
     limits: [{{id: m, type: volume, service: calls, code: "380*", limit: {limit}}}]}}
clients:
  - {{id: "1", name: Rose, currency: USD, time_zone: UTC, balance: "100", credit_limit: "0",
     rate_tables: {{orig: {{calls: retail}}}}, accounts: []}}
client_packages:
  - {{id: "7", client: "1", account: null, package: "1", start_date: 2026-11-01T00:00:00Z, end_date: null,
     activate_in_past: true, quantity: 1}}
"""
HOUR = 3_600_000


def books(price: str = "0.60", limit: int = 10) -> Books:
    """Return a client with minutes of a month, and no calls yet."""
    return Books(CATALOG.format(price=price, limit=limit))


def test_calls_that_came_in_order_change_nothing() -> None:
    """Neither does a second run."""
    made = books()
    for n in range(12):
        made.call(f"c{n}", START + n * HOUR, 60)
    assert made.rerate() == []
    made.sums_agree()


def test_a_late_call_takes_its_turn() -> None:
    """It came last and found nothing left; in call order it is the first, and the last call pays."""
    made = books()
    for n in range(10):
        made.call(f"c{n}", START + (n + 1) * HOUR, 60)
    made.call("late", START, 60)
    assert made.standing()["default/late/orig"][0] == "-0.6"
    entries = made.rerate()
    rows = [row for entry in entries for row in entry.rows]
    assert [(row.transaction, row.revision, row.before, row.after) for row in rows] == [
        ("default/late/orig", 2, -600_000, 0),
        ("default/c9/orig", 2, 0, -600_000),
    ]
    made.sums_agree()
    assert made.rerate() == []


def test_a_changed_rate_and_back() -> None:
    """What is free has another rate, too; the way back ends where it began."""
    made = books(limit=1)
    for n in range(5):
        made.call(f"c{n}", START + n * HOUR, 30)
    first = made.standing()
    made.load(CATALOG.format(price="1.20", limit=1))
    assert len(made.rerate()) == 5  # of the free ones the rate has changed
    made.sums_agree()
    assert made.rerate() == []
    made.load(CATALOG.format(price="0.60", limit=1))
    made.rerate()
    made.sums_agree()
    assert made.standing() == first


def test_a_window_and_a_code() -> None:
    """Calls of other times and codes stay as they are."""
    made = books(limit=1)
    for n in range(4):
        made.call(f"c{n}", START + n * HOUR, 60)
        made.call(f"d{n}", START + n * HOUR, 60, called="12125550100")
    made.load(CATALOG.format(price="1.20", limit=1).replace('"0.02"', '"0.04"'))
    entries = made.rerate(Window(START + HOUR, START + 3 * HOUR), "38")
    assert [entry.rows[0].transaction for entry in entries] == ["default/c1/orig", "default/c2/orig"]
    made.sums_agree()
    assert made.work(Window(START + HOUR, START + DAY)).difference.calls == 0


def test_a_code_that_a_rerate_has_changed() -> None:
    """Calls go by the code of their last transaction: what an earlier revision had says nothing."""
    made = books(limit=1)
    for n in range(3):
        made.call(f"c{n}", START + n * HOUR, 60)
    made.load(CATALOG.format(price="0.60", limit=1).replace('"380", price', '"38044", price'))
    assert len(made.rerate(code="380")) == 3
    made.load(CATALOG.format(price="0.60", limit=1))
    assert len(made.rerate(code="38044")) == 3
    assert made.rerate(code="38044") == []  # they have code 380 by now
    made.sums_agree()
    made.load(CATALOG.format(price="1.20", limit=1))
    assert [entry.rows[0].revision for entry in made.rerate(code="380")] == [4] * 3
    made.sums_agree()


def test_a_call_that_cannot_be_rated_any_more_and_comes_back() -> None:
    """It has no transaction that stands, and is rated by the next run that can."""
    made = books()
    made.call("c0", START, 60)
    made.call("c1", START + HOUR, 60)
    made.load(CATALOG.format(price="0.60", limit=10).replace('"380", price', '"381", price'))
    entries = made.rerate()
    assert [entry.rejection is not None and entry.rejection.reason for entry in entries] == [
        "rate_missing"
    ] * 2
    assert made.standing() == {}
    made.sums_agree()
    assert made.rerate() == []
    made.load(CATALOG.format(price="0.60", limit=10))
    rows = [entry.rows[0] for entry in made.rerate()]
    assert [(row.revision, row.before, row.after) for row in rows] == [(2, None, 0), (2, None, 0)]
    made.sums_agree()


EVENT = """
currencies: {{base: USD}}
rate_tables:
  - {{name: retail, currency: USD, rates: [{{code: "380", price: "0.60"}}]}}
packages:
  - {{id: "1", name: Event, type: customer, currency: USD, period: 1 month, charge_on_event: true,
     client_balance: {rule}, fees: [{{type: subscription, name: Monthly, rate: "5.00"}}],
     limits: [{{id: m, type: volume, service: calls, code: "{code}", limit: 10}}]}}
clients:
  - {{id: "1", name: Rose, currency: USD, time_zone: UTC, balance: "{balance}", credit_limit: "0",
     rate_tables: {{orig: {{calls: retail}}}}, accounts: []}}
client_packages:
  - {{id: "7", client: "1", package: "1", start_date: 2026-11-01T00:00:00Z, activate_in_past: true}}
"""
FEE = "cp/7/1/subscription_fee"


def fees(made: Books) -> list[tuple[str, int, str]]:
    """Return the published transactions of the period's fee: type, revision, the call."""
    told = [read_told(value) for value in made.journal]
    return [(one.type, one.revision, one.cdr.id) for one in told if one.id == FEE and one.cdr is not None]


def test_a_fee_moves_to_the_call_that_is_first_now() -> None:
    """It was brought by the call that came first; by call order another one brings it."""
    made = Books(EVENT.format(rule="allow", code="380*", balance="100"))
    made.call("b", START + 2 * HOUR, 60)
    made.call("a", START + HOUR, 60)
    made.rerate()
    assert fees(made) == [("subscription_fee", 1, "b"), ("reversal", 1, "b"), ("subscription_fee", 2, "a")]
    made.sums_agree()
    assert made.rerate() == []


def test_a_fee_that_no_call_brings_and_one_that_brings_it_again() -> None:
    """Calls cannot be rated any more: the fee goes with them. A later call brings its next revision."""
    made = Books(EVENT.format(rule="allow", code="380*", balance="100"))
    made.call("a", START + HOUR, 60)
    made.load(EVENT.format(rule="allow", code="380*", balance="100").replace('code: "380",', 'code: "49",'))
    made.rerate()
    made.sums_agree()
    made.load(EVENT.format(rule="allow", code="380*", balance="100"))
    made.call("b", START + 2 * HOUR, 60)
    assert fees(made) == [("subscription_fee", 1, "a"), ("reversal", 1, "a"), ("subscription_fee", 2, "b")]
    made.rerate()  # the first call comes back, and is the first again
    assert fees(made)[3:] == [("reversal", 2, "b"), ("subscription_fee", 3, "a")]
    made.sums_agree()
    assert made.rerate() == []


def test_a_fee_of_which_the_journal_has_nothing_left() -> None:
    """Its next revision is the one that the register knows."""
    catalog = EVENT.format(rule="allow", code="380*", balance="100")
    made = Books(catalog)
    made.call("a", START + HOUR, 60)
    made.load(catalog.replace('code: "380",', 'code: "38",'))  # the limit is not for it: no call brings a fee
    made.rerate()
    made.journal.clear()
    made.call("b", START + 2 * HOUR, 60)
    made.load(catalog)
    made.rerate()
    assert fees(made) == [("subscription_fee", 2, "b")]
    assert made.rerate() == []


def test_a_package_with_a_brought_fee_is_removed() -> None:
    """What is reversed with it is the revision that stands; a re-rate leaves the fee alone then."""
    made = Books(EVENT.format(rule="allow", code="380*", balance="100"))
    made.call("b", START + 2 * HOUR, 60)
    made.call("a", START + HOUR, 60)
    made.rerate()
    made.command(Do.CANCEL, NoArgs(), client_package="7")
    made.command(Do.REMOVE, NoArgs(), client_package="7")
    last = read_told(made.journal[-1])
    assert (last.id, last.type, last.revision) == (FEE, "reversal", 2)
    entries = made.rerate()
    assert [row.transaction for entry in entries for row in entry.rows] == [
        "default/a/orig",
        "default/b/orig",
    ]
    assert made.rerate() == []


def test_a_stop_with_rollback() -> None:
    """The fee was given back and stays so; the calls pay for themselves."""
    made = Books(EVENT.format(rule="allow", code="380*", balance="100"))
    made.call("a", START + HOUR, 60)
    made.command(Do.STOP_NOW, NoArgs(), client_package="7")
    before = made.rater.balance("1")
    made.rerate()
    assert made.rater.balance("1") == before - 600_000
    assert fees(made) == [("subscription_fee", 1, "a")]
    assert made.rerate() == []


def test_the_answer_about_funds_stays() -> None:
    """A call that was passed over for its fee is passed over again, however rich its client is now."""
    made = Books(EVENT.format(rule="deny", code="380*", balance="3"))
    made.call("a", START + HOUR, 60)
    assert b'"fee_covered":false' in made.journal[-1]
    made.command(Do.ADJUST, AdjustArgs("100"))
    assert made.rerate() == []
    made.call("b", START + 2 * HOUR, 60)
    assert fees(made) == [("subscription_fee", 1, "b")]
    assert made.rerate() == []


def test_what_no_job_has_written_is_refused() -> None:
    """Counters that are not the sums of the draws, another client's transaction, a job that has not begun."""
    made = books()
    made.call("c0", START, 60)
    made.load(CATALOG.format(price="1.20", limit=10))
    work = made.work(Window(0, 2 * START))
    (piece,) = work.pieces(list(work.entries()))
    version = made.rater.states["1"].version
    assert "has not begun" in made.command(Do.RERATE, made.swap(piece, version))["reason"]
    made.command(Do.RERATE, RerateBeginArgs("job", 0, 1))
    good = made.swap(piece, version + 1)
    of_another = good.transactions[0].replace('"client":"1"', '"client":"2"')
    wrong = [
        (replace(good, version=version), "moved on: client '1' is at version"),
        (replace(good, catalog=1), "moved on: catalog 2 is in force"),
        (replace(good, counters=[CounterChange("7.1.m", 0, 99, 5)]), "counter 7.1.m moves by other than"),
        (replace(good, counters=[CounterChange("7.1.m", 61, 99, 0)]), "have drawn what this rests on"),
        (replace(good, least=2**53), "have drawn what this rests on"),
        (replace(good, transactions=[of_another]), "is not of a call of this client"),
        (replace(good, transactions=["{}"]), "a transaction cannot be read"),
        (replace(good, job="other"), "job 'other' has not begun"),
    ]  # fmt: skip
    for args, sentence in wrong:
        assert sentence in made.command(Do.RERATE, args)["reason"]
    other = made.command(Do.RERATE, RerateBeginArgs("second", 0, 1))["reason"]
    assert "job 'job' rates calls of client '1' again since" in other
    assert made.command(Do.RERATE, good)["type"] == "command_done"
    made.sums_agree()


def test_the_window_that_has_whole_periods() -> None:
    """Of the month that is cut; of a window that has it whole there is none wider."""
    made = books()
    month = Window(START, START + 30 * DAY)
    state, now = made.rater.states["1"], made.rater.catalog
    assert wider(state, now, Window(START + DAY, START + 2 * DAY)) == month
    assert wider(state, now, month) is None
    assert wider(state, now, Window(START - 2 * DAY, START - DAY)) is None
