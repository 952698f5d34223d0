"""Random histories of clients with packages: a catalog with all that a package can be, and what is done."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from hypothesis import strategies as st

from rater.core.instants import HOUR_MS, rfc3339
from rater.core.offline import Rater, Transaction
from rater.core.periods import when_ms, zone_of

START_MS = when_ms("2026-11-01", zone_of("UTC"))
HOURS = 24 * 150
WINDOW_MS = 400 * 24 * HOUR_MS

CATALOG = """
currencies: {base: USD}
code_decks: [{name: d, codes: {"380": Ukraine, "1": USA}}]
rate_tables:
  - {name: r, currency: USD, code_deck: d, rates: [{code: "380", price: "0.60"}, {code: "1", price: "1.20"}]}
tax_profiles: [{name: v, taxes: [{name: VAT, percent: "20"}, {name: city, percent: "1.5"}]}]
packages:
  - {id: monthly, name: M, type: customer, currency: USD, period: 1 month,
     fees: [{type: subscription, name: f, rate: "5.00"}],
     limits: [{id: m, type: volume, service: calls, code: "380*", limit: 10, rollover: 3}]}
  - {id: ten, name: T, type: customer, currency: USD, period: 10 days, renew_for: 3 days, priority: 1,
     fees: [{type: activation, name: a, rate: "1.00"}, {type: subscription, name: f, rate: "2.00"}],
     discounts: [{activation_count: 2, discount: "0.50"}, {activation_count: 4, discount: "9"}],
     limits: [{id: b, type: money, service: calls, code: "*", limit: "1.00"}]}
  - {id: event, name: E, type: customer, currency: USD, period: 1 month, charge_on_event: true,
     fees: [{type: activation, name: a, rate: "0.50"}, {type: subscription, name: f, rate: "3.00"}],
     limits: [{id: e, type: volume, service: calls, code: "1", limit: 5}]}
  - {id: ahead, name: A, type: customer, currency: USD, period: 7 days, advance_renew: 2 days,
     client_balance: allow, renewal_charge: before_period, priority: -1, fees_include_taxes: true,
     fees: [{type: subscription, name: f, rate: "4.00"}],
     limits: [{id: v, type: volume, service: calls, code: "380*", limit: 2}]}
  - {id: aligned, name: L, type: customer, currency: USD, period: 1 month, align_to_payment_terms: true,
     renew_for: 5 days, fees: [{type: subscription, name: f, rate: "3.10"}]}
  - {id: pays, name: P, type: customer, currency: USD, period: 20 days,
     fees: [{type: subscription, name: f, rate: "-1.00"}]}
  - {id: once, name: O, type: customer, currency: USD, renewal_charge: before_period,
     fees: [{type: activation, name: a, rate: "2.00"}, {type: subscription, name: f, rate: "0.70"}]}
clients:
  - {id: "CLIENT", currency: USD, balance: "BALANCE", credit_limit: "1.00", low_balance: "3.00",
     time_zone: Europe/Kyiv, tax_profile: v, payment_terms: {every: 1 month, anchor: 2026-01-31},
     rate_tables: {orig: {calls: r}, term: {calls: r}}}
"""

PACKAGES = ["monthly", "ten", "event", "ahead", "aligned", "pays", "once"]

_ON_PACKAGE = ["stop_now", "stop_at_period_end", "cancel", "remove", "invoice_pending_charge"]


class Step(NamedTuple):
    """What is done of a client, some hours after START_MS. args: of a command; of a call: (code, side, s)."""

    hour: int
    do: str
    place: int = 0
    args: Any = None


def _days(least: int, most: int) -> st.SearchStrategy[str]:
    return st.integers(least, most).map(lambda day: rfc3339(START_MS + day * 24 * HOUR_MS))


_assign = st.fixed_dictionaries(
    {"package": st.sampled_from(PACKAGES)},
    optional={
        "quantity": st.integers(1, 3), "start_date": _days(-40, 60), "end_date": _days(61, 150),
        "activate_in_past": st.booleans(),
    },
)  # fmt: skip
_actions = st.one_of(
    st.tuples(st.just("assign"), st.just(0), _assign),
    st.tuples(st.just("assign"), st.just(0), _assign),
    st.tuples(
        st.just("adjust"), st.just(0), st.integers(-800, 2000).map(lambda n: {"amount": str(n * 10**4 + 1)})
    ),
    st.tuples(st.sampled_from(_ON_PACKAGE), st.integers(0, 4), st.just({})),
    st.tuples(
        st.just("edit_end_date"), st.integers(0, 4), st.builds(dict, end_date=st.none() | _days(0, 150))
    ),
    st.tuples(
        st.just("call"),
        st.just(0),
        st.tuples(
            st.sampled_from(["380", "1"]), st.sampled_from(["orig", "orig", "term"]), st.integers(1, 400)
        ),
    ),
)


def histories(least: int = 1, most: int = 12) -> st.SearchStrategy[list[Step]]:
    """Return lists of steps, in the order of time."""
    hours = st.lists(st.integers(0, HOURS), min_size=least, max_size=most).map(sorted)
    return hours.flatmap(
        lambda found: st.tuples(*[_actions] * len(found)).map(
            lambda actions: [Step(hour, *one) for hour, one in zip(found, actions, strict=True)]
        )
    )


class World:
    """A rater with clients, and all that was published of each."""

    def __init__(self, *clients: str, balance: str = "10.00") -> None:
        """Load the catalog, with these clients."""
        self.rater = Rater(WINDOW_MS)
        head, client = CATALOG.split("clients:\n")
        rows = "".join(client.replace("CLIENT", of).replace("BALANCE", balance) for of in clients)
        faults = self.rater.load([("c.yaml", f"{head}clients:\n{rows}".encode())], START_MS - HOUR_MS)
        assert faults == []
        self.transactions: list[dict[str, Any]] = []
        self.events: list[dict[str, Any]] = []
        self._taken()

    def _taken(self) -> None:
        transactions, events = self.rater.take()
        self.transactions += map(json.loads, transactions)
        self.events += map(json.loads, events)

    def load(self, text: str, hour: int) -> None:
        """Load another file."""
        assert self.rater.load([("d.yaml", text.encode())], START_MS + hour * HOUR_MS) == []
        self._taken()

    def tick(self, hour: int) -> None:
        """Do all that is due until then."""
        self.rater.tick(START_MS + hour * HOUR_MS)
        self._taken()

    def do(self, client: str, step: Step, number: int, *, dry_run: bool = False) -> dict[str, Any] | None:
        """Do a step; returns what the event says of a command, None: of a call, or nothing to do it to."""
        at_ms = START_MS + step.hour * HOUR_MS
        if step.do == "call":
            self._call(client, step, at_ms, number)
            return None
        raw = {
            "id": f"{client}-c{number}", "key": f"k{number}", "at": rfc3339(at_ms), "do": step.do,
            "client": client, "actor": "anna", "args": step.args, "dry_run": dry_run,
        }  # fmt: skip
        if step.do not in ("assign", "adjust"):
            held = self.rater.states[client].packages
            if not held:
                return None
            raw["client_package"] = held[step.place % len(held)].id
        if step.do == "adjust":
            micros = int(step.args["amount"])
            sign, whole, rest = "-" if micros < 0 else "", *divmod(abs(micros), 10**6)
            raw["args"] = {"amount": f"{sign}{whole}.{rest:06}"}
        self.rater.command(json.dumps(raw).encode(), at_ms)
        self._taken()
        told: dict[str, Any] = self.events.pop() if self.events[-1]["type"].startswith("command_") else {}
        if not told:  # the result stands among the events of its change
            place = next(n for n, one in enumerate(self.events) if one["id"] == f"{raw['id']}/done")
            told = self.events.pop(place)
        return told

    def _call(self, client: str, step: Step, at_ms: int, number: int) -> None:
        code, side, seconds = step.args
        record = {
            "id": f"x{number}", "called": code + "5", "duration_ms": seconds * 1000,
            "answered_at": rfc3339(at_ms), side: {"client": client},
        }  # fmt: skip
        ended = self.rater.rate(json.dumps(record).encode(), at_ms)
        self.transactions += [json.loads(one.value) for one in ended if isinstance(one, Transaction)]
        self._taken()


def micros(text: str) -> int:
    """Return a decimal as micros."""
    whole, _, rest = text.removeprefix("-").partition(".")
    found = int(whole) * 10**6 + int(rest.ljust(6, "0") or 0)
    return -found if text.startswith("-") else found


def moved(world: World, client: str) -> int:
    """Return the sum of a client's transactions."""
    return sum(micros(one["amount"]) for one in world.transactions if one["client"] == client)


CROSSINGS = {"low_balance", "balance_restored"}
"""Told of a change as a whole, so they rest on how much is due at once."""


def published(world: World, client: str, *, crossings: bool = True) -> list[tuple[str, ...]]:
    """Return what was published of a client, without ids of events, for these count its changes."""
    money = [
        ("transaction", one["id"], str(one["revision"]), one["type"], one["at"], one["amount"])
        for one in world.transactions
        if one["client"] == client
    ]
    told = [
        ("event", one["type"], one["at"], *(json.dumps(one[name]) for name in _TOLD))
        for one in world.events
        if one["client"] == client and (crossings or one["type"] not in CROSSINGS)
    ]
    return sorted(money + told)


_TOLD = ("client_package", "period", "package_name", "before", "after", "data")
