"""Whatever calls came in whatever order, re-rating gives what call order gives (RULES.md section 5)."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from rerates import START, Books

from rater.core.rerating.calls import PastSide
from rater.core.rerating.client import Window, base
from rater.core.rerating.rating import ClientRating

HOUR = 3_600_000
CATALOG = """
currencies: {{base: USD, rates: {{EUR: "1.08"}}}}
rate_tables:
  - {{name: retail, currency: USD, rates: [{{code: "380", price: "{price}", setup_fee: "0.05", min_time: 60,
     interval: 60, grace_time: 5}}, {{code: "38044", price: "0.06"}}, {{code: "1", price: "0.02"}}]}}
packages:
  - {{id: "1", name: Volume, type: customer, currency: USD, period: 1 day, priority: 2, dynamic_tag: {tag},
     limits: [{{id: a, type: volume, service: calls, code: "38044*", limit: 3, per_call_max: 90}},
              {{id: b, type: volume, service: calls, code: "380*", limit: 2, min_call: 30}}]}}
  - {{id: "2", name: Money, type: customer, currency: EUR, period: 1 month, priority: 1,
     setup_fee: dont_charge,
     limits: [{{id: c, type: money, service: calls, code: "*", limit: "0.50"}}]}}
  - {{id: "3", name: Event, type: customer, currency: USD, period: 1 day, charge_on_event: true,
     priority: 3, client_balance: {balance}, fees: [{{type: subscription, name: Daily, rate: "{fee}"}}],
     limits: [{{id: d, type: volume, service: calls, code: "380*", limit: 1}}]}}
clients:
  - {{id: "1", name: Rose, currency: USD, time_zone: UTC, balance: "100", credit_limit: "0",
     rate_tables: {{orig: {{calls: retail}}, term: {{calls: retail}}}}, accounts: []}}
client_packages:
  - {{id: "7", client: "1", account: null, package: "1", start_date: 2026-11-01T00:00:00Z, end_date: null,
     activate_in_past: true, quantity: 1}}
  - {{id: "8", client: "1", account: null, package: "2", start_date: 2026-11-01T00:00:00Z, end_date: null,
     activate_in_past: true, quantity: 1}}
  - {{id: "9", client: "1", account: null, package: "3", start_date: 2026-11-01T00:00:00Z, end_date: null,
     activate_in_past: true, quantity: 1}}
"""


def catalog(price: str = "0.10", tag: str = "promo", fee: str = "1.00", balance: str = "allow") -> str:
    """Return the catalog, with these of its settings changed."""
    return CATALOG.format(price=price, tag=tag, fee=fee, balance=balance)


CALLS = st.lists(
    st.tuples(
        st.integers(0, 47), st.sampled_from(["38044123", "38050123", "12125550100"]), st.integers(0, 200),
        st.sampled_from(["orig", "orig", "term"]),
    ),
    min_size=1, max_size=10,
)  # fmt: skip
RATES = st.sampled_from([{}, {"price": "0.20"}, {"tag": "other"}, {"fee": "2.00"}, {"price": "0"}])


def send(made: Books, calls: list[tuple[Any, ...]], order: list[int]) -> None:
    """Rate calls; those of one hour are of one instant, and their names say which is first."""
    made.now_ms = START + 48 * HOUR
    made.rater.tick(made.now_ms)
    for n in order:
        hour, called, seconds, side = calls[n]
        more: dict[str, Any] = {} if side == "orig" else {"orig": None, "term": {"client": "1"}}
        made.call(f"c{n:02}", START + hour * HOUR, seconds, called, **more)


@settings(max_examples=50)
@given(calls=CALLS, data=st.data())
def test_any_order_and_a_rerate_is_call_order(calls: list[Any], data: st.DataObject) -> None:
    """Also: a second run publishes nothing, and in call order the first does not either."""
    in_order = sorted(range(len(calls)), key=lambda n: (calls[n][0], f"c{n:02}"))
    straight, mixed = Books(catalog()), Books(catalog())
    send(straight, calls, in_order)
    assert straight.rerate() == []
    send(mixed, calls, data.draw(st.permutations(range(len(calls)))))
    mixed.rerate()
    mixed.sums_agree()
    assert mixed.standing() == straight.standing()
    assert mixed.rerate() == []


@settings(max_examples=50)
@given(calls=CALLS, change=RATES, data=st.data())
def test_a_change_and_back_is_the_first_state(
    calls: list[Any], change: dict[str, str], data: st.DataObject
) -> None:
    """Limits and fees are copied into periods when these open, so a change of those moves nothing."""
    made = Books(catalog())
    send(made, calls, data.draw(st.permutations(range(len(calls)))))
    made.rerate()
    first = made.standing()
    made.load(catalog(**change))
    made.rerate()
    made.sums_agree()
    assert made.rerate() == []
    made.load(catalog())
    made.rerate()
    made.sums_agree()
    assert made.standing() == first


@settings(max_examples=50)
@given(calls=CALLS, begin=st.integers(0, 40), hours=st.integers(1, 40), data=st.data())
def test_a_part_of_the_calls_keeps_the_others_draws(
    calls: list[Any], begin: int, hours: int, data: st.DataObject
) -> None:
    """Of calls outside of the window nothing is published, and no limit is overdrawn."""
    made = Books(catalog())
    send(made, calls, data.draw(st.permutations(range(len(calls)))))
    outside = {
        name: one for name, one in made.standing().items() if not _inside(name, calls, begin, begin + hours)
    }
    window = Window(START + begin * HOUR, START + (begin + hours) * HOUR)
    made.rerate(window)
    made.sums_agree()
    assert outside.items() <= made.standing().items()
    assert made.rerate(window) == []
    sizes = {"a": 180, "b": 120, "d": 60}
    for field, used in made.rater.used("1").items():
        assert used <= sizes.get(field.rpartition(".")[2], used)


def _inside(name: str, calls: list[Any], first: int, last: int) -> bool:
    return name.startswith("cp/") or first <= calls[int(name.split("/")[1][1:])][0] < last


@settings(max_examples=80)
@given(calls=CALLS, data=st.data())
def test_what_moves_within_the_bounds_changes_nothing(calls: list[Any], data: st.DataObject) -> None:
    """Counters that live calls have moved meanwhile give the same amounts and draws, within the bounds."""
    made = Books(catalog())
    send(made, calls, list(range(len(calls))))
    every = [one for one in made.published(Window(0, 2 * START)) if isinstance(one, PastSide)]
    state, used = made.rater.states["1"], made.rater.used("1")
    without = base(used, every, {}).counters

    def rated(counters: dict[str, int]) -> tuple[ClientRating, list[Any]]:
        rating = ClientRating(state, made.rater.catalog, counters, made.rater.balance("1"))
        return rating, [(one.amount, one.takes, one.fee and one.fee.amount) for one in rating.rate(every)]

    rating, first = rated(without)
    moved = dict(without)
    for field in sorted(field for field in without if ".fee." not in field):
        low, high = rating.bounds.of(field)
        moved[field] += data.draw(st.integers(max(low, -without[field]), min(high, 500)))
    assert rated(moved)[1] == first
