"""Options of packages and limits in a re-rate: caps of a call, the client-balance rule, currency rates."""

from __future__ import annotations

import json
from typing import Any

from rerates import START, Books

from rater.core.commands.records import AdjustArgs
from rater.core.kinds import Do

HOUR = 3_600_000
CATALOG = """
currencies: {{base: USD, rates: {{EUR: [{{rate: "1.10"}}{euro}]}}}}
rate_tables:
  - {{name: retail, currency: USD, rates: [{{code: "380", price: "{price}"}}, {{code: "1", price: "0.60"}}]}}
packages:
  - {{id: "1", name: Ten, type: customer, currency: USD, period: 1 month, client_balance: {rule},
     limits: [{{id: m, type: volume, service: calls, code: "380*", limit: {limit}, per_call_max: {cap}}}]}}
clients:
  - {{id: "1", name: Rose, currency: {currency}, time_zone: UTC, balance: "{balance}", credit_limit: "0",
     rate_tables: {{orig: {{calls: retail}}}}, accounts: []}}
client_packages:
  - {{id: "7", client: "1", account: null, package: "1", start_date: 2026-11-01T00:00:00Z, end_date: null,
     activate_in_past: true, quantity: 1}}
"""


def catalog(**more: Any) -> str:
    """Return the catalog, with these of its settings changed."""
    usual = {"euro": "", "price": "0.60", "rule": "deny", "limit": 10, "cap": 60, "currency": "USD"}
    return CATALOG.format(**{**usual, "balance": "0", **more})


def standing(made: Books) -> dict[str, tuple[str, ...]]:
    """Return what stands of each call: amount, draws."""
    return {name.split("/")[1]: (amount, *draws) for name, (amount, _, *draws) in made.standing().items()}


def test_a_call_takes_its_cap_again() -> None:
    """By call order another call is the one that finds too little; none takes more than its cap."""
    made = Books(catalog(limit=2, cap=60))
    for n in range(2):
        made.call(f"c{n}", START + (n + 1) * HOUR, 90)
    made.call("late", START, 90)
    assert standing(made) == {
        "c0": ("-0.3", "m:60"), "c1": ("-0.3", "m:60"), "late": ("-0.9",),
    }  # fmt: skip
    made.rerate()
    assert standing(made) == {
        "late": ("-0.3", "m:60"), "c0": ("-0.3", "m:60"), "c1": ("-0.9",),
    }  # fmt: skip
    made.sums_agree()
    assert made.rerate() == []


def test_another_cap_holds_from_the_next_period() -> None:
    """A period grants what it was opened with: calls of it stand under the cap of then."""
    made = Books(catalog(limit=2, cap=60))
    made.call("c", START + HOUR, 90)
    made.load(catalog(limit=2, cap=120))
    assert made.rerate() == []
    made.load(catalog(limit=2, cap=120, price="1.20"))
    made.rerate()
    assert standing(made) == {"c": ("-0.6", "m:60")}
    made.sums_agree()


def test_under_deny_the_balance_is_not_asked() -> None:
    """Below zero the package gives all the same, the first time and again."""
    made = Books(catalog())
    made.call("debt", START, 60, called="12125550100")
    made.call("c", START + 2 * HOUR, 60)
    made.call("late", START + HOUR, 60)
    assert standing(made)["c"] == ("0", "m:60")
    assert made.rerate() == []
    made.sums_agree()


def test_under_allow_the_answer_of_then_stays() -> None:
    """Whoever was passed over in debt stays so, whoever was not too, whatever the balance is now."""
    made = Books(catalog(rule="allow"))
    made.call("before", START + 3 * HOUR, 60)
    made.call("debt", START, 60, called="12125550100")
    made.call("in-debt", START + HOUR, 60)
    made.command(Do.ADJUST, AdjustArgs("100"))
    made.call("after", START + 2 * HOUR, 60)
    first = {"before": ("0", "m:60"), "debt": ("-0.6",), "in-debt": ("-0.6",), "after": ("0", "m:60")}
    assert standing(made) == first
    assert made.rerate() == []
    made.load(catalog(rule="allow", price="1.20"))
    made.rerate()
    assert standing(made) == {**first, "in-debt": ("-1.2",)}
    made.sums_agree()
    assert made.rerate() == []


def test_a_package_that_comes_to_a_call_is_asked_by_the_balance_of_now() -> None:
    """Its call was rated without the package, so there is no answer of then; later ones keep the new one."""
    for balance, then in (("100", ("0", "m:60")), ("-1", ("-0.6",))):
        bare, _, held = catalog(rule="allow", balance=balance).partition("client_packages:")
        made = Books(bare)
        made.call("c", START + HOUR, 60)
        made.load(f"client_packages:{held}")
        made.rerate()
        assert standing(made) == {"c": then}
        assert made.rerate() == []
        made.sums_agree()


def test_a_changed_currency_rate_changes_nothing() -> None:
    """It holds from its date on. A call that changes for another reason is converted as of its time."""
    later = ', {rate: "2", from: "2026-11-01T03:00:00Z"}'
    made = Books(catalog(currency="EUR", limit=1, balance="100"))
    for n in range(3):
        made.call(f"c{n}", START + n * HOUR, 60)
    before = made.standing()
    made.now_ms += HOUR
    made.load(catalog(currency="EUR", limit=1, balance="100", euro=later))
    assert made.rerate() == []
    assert made.standing() == before
    made.call("new", START + 3 * HOUR, 60)
    assert standing(made)["new"] == ("-0.3",)
    made.load(catalog(currency="EUR", limit=1, balance="100", euro=later, price="1.20"))
    made.rerate()
    assert {name: amount for name, (amount, *_) in standing(made).items()} == {
        "c0": "0", "c1": "-1.090909", "c2": "-1.090909", "new": "-0.6",
    }  # fmt: skip
    told = [json.loads(value) for value in made.journal][-1]
    assert told["currency"] == "EUR"
    made.sums_agree()
    assert made.rerate() == []
