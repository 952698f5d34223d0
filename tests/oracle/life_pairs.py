"""Scenarios of the life of packages in which each pair of RULES.md 3's options comes.

A scenario is loads, commands and calls in their order. `pairs` gives rows of options that hold every pair of
values that may stand together; `of_options` makes a scenario of such a row: one client, one package, several
periods, and what is done to them. Random ones: life_random.py.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations
from random import Random
from typing import Any, NamedTuple

from oracle.reference import time_text
from oracle.scenario import LoadStep, RecordStep, ms

Row = dict[str, Any]
Options = dict[str, str]


@dataclass(frozen=True)
class CommandStep:
    """A command, as JSON has it, and its record's timestamp."""

    record_ms: int
    row: Row


Step = LoadStep | CommandStep | RecordStep


@dataclass(frozen=True)
class LifeScenario:
    """Steps in their order; the duplicate window holds all of them."""

    seed: int
    steps: tuple[Step, ...]


def moment(step: Step) -> int:
    """Return when a step comes."""
    return step.at_ms if isinstance(step, LoadStep) else step.record_ms


class Span(NamedTuple):
    """What goes with a period. days: about how long; the terms: equal, shorter, longer."""

    text: str | None
    days: float
    advance: tuple[str, ...] = ()
    renew_for: tuple[str, ...] = ()
    terms: tuple[str, ...] = ()


SPANS = {
    "none": Span(None, 20),
    "1 hour": Span("1 hour", 1 / 24, (), ("3 hours",)),
    "24 hours": Span("24 hours", 1, ("5 hours",), ("7 hours", "3 days")),
    "10 days": Span(
        "10 days", 10, ("1 day", "9 days"), ("3 days", "1 month"), ("10 days", "5 days", "20 days")
    ),
    "1 month": Span(
        "1 month", 30, ("5 days", "12 hours"), ("5 days", "2 months"), ("1 month", "1 month", "3 months")
    ),
    "3 months": Span(
        "3 months", 91, ("1 month",), ("10 days", "1 year"), ("3 months", "1 month", "6 months")
    ),
    "1 year": Span(
        "1 year", 365, ("2 months",), ("1 month", "2 years"), ("12 months", "3 months", "2 years")
    ),
    "99999 years": Span("99999 years", 30, ("1 month",), ("1 day",)),
}
OPTIONS: dict[str, tuple[str, ...]] = {
    "period": tuple(SPANS),
    "action": (
        "none", "stop_now", "stop_at_period_end", "cancel", "remove", "cut", "cut and back", "disabled",
        "archived", "edited", "invoice", "zone", "terms",
    ),
    "funds": ("plenty", "short, in time", "short, late", "short, by usage", "short, by credit", "none"),
    "fees": ("none", "activation", "subscription", "both", "rows", "negative", "zero"),
    "align": ("off", "equal", "shorter", "longer", "31st", "ahead"),
    "limits": ("volume", "money", "rollover", "exclude", "min_call", "per_call_max", "both"),
    "dates": ("none", "start", "end", "package start", "package end"),
    "zone": ("UTC", "Europe/Kyiv", "America/New_York", "Africa/Cairo"),
    "advance": ("none", "short", "long"),
    "renew_for": ("none", "short", "long"),
    "discounts": ("none", "second", "two", "larger"),
    "tax": ("none", "one", "two"),
    "past": ("no", "yes", "far"),
    "tick": ("eager", "lazy", "calls"),
    "currency": ("USD", "EUR"),
    "quantity": ("1", "3"),
    "included": ("no", "yes"),
    "full_charge": ("no", "yes"),
    "charge_on_event": ("no", "yes"),
    "setup_fee": ("charge", "dont_charge"),
    "client_balance": ("deny", "allow"),
    "renewal_charge": ("on_period", "before_period"),
    "type": ("customer", "vendor"),
    "by": ("command", "load"),
}  # fmt: skip
"""Option → its values. by: what assigns it; tick: how late is found what is due."""


def may(one: tuple[str, str], other: tuple[str, str]) -> bool:
    """Tell if two values may stand together."""
    given = dict((one, other))
    if "period" not in given:
        return True
    span = SPANS[given["period"]]
    (name,) = given.keys() - {"period"} or {"period"}
    needed = {"advance": span.advance, "renew_for": span.renew_for, "align": span.terms}.get(name)
    if needed is not None and given[name] not in {"none", "off"} and not needed:
        return False
    far = name == "past" and given[name] == "far" and given["period"] in {"3 months", "1 year", "99999 years"}
    return not far and not (name == "action" and given[name] == "terms" and not span.terms)


def fits(row: Options, name: str, value: str) -> bool:
    """Tell if a value may join those of a row."""
    return all(may((other, row[other]), (name, value)) for other in row if other != name)


def pairs() -> list[Options]:
    """Return rows in which each pair of values that may stand together comes at least once."""
    rng = Random("pairs")  # noqa: S311 - the same again
    wanted = {
        (one, other)
        for first, second in combinations(OPTIONS, 2)
        for one in ((first, value) for value in OPTIONS[first])
        for other in ((second, value) for value in OPTIONS[second])
        if may(one, other)
    }
    rows = []
    while wanted:
        row = dict(min(wanted))
        names = [name for name in OPTIONS if name not in row]
        names.sort(key=lambda name: name != "period")
        for name in names:
            possible = [value for value in OPTIONS[name] if fits(row, name, value)]
            rng.shuffle(possible)
            row[name] = max(possible, key=lambda value: gain(wanted, row, name, value))
        wanted -= set(pairs_of(row))
        rows.append(row)
    return rows


def pairs_of(row: Options) -> Iterator[tuple[tuple[str, str], tuple[str, str]]]:
    """Give the pairs that a row holds."""
    for first, second in combinations(OPTIONS, 2):
        yield (first, row[first]), (second, row[second])


def values() -> list[tuple[str, str]]:
    """Return each value of each option."""
    return [(name, value) for name in OPTIONS for value in OPTIONS[name]]


def gain(wanted: set[Any], row: Options, name: str, value: str) -> int:
    """Return how many wanted pairs a value adds to a row."""
    one = (name, value)
    return sum((one, (k, v)) in wanted or ((k, v), one) in wanted for k, v in row.items())


# --- Catalog rows ----------------------------------------------------------------------------------------

DAY_MS = 86_400_000
BEGIN = {"UTC": "2026-11-11T00:00:00Z", "Europe/Kyiv": "2026-10-10T21:00:00Z",
         "America/New_York": "2026-10-28T04:00:00Z", "Africa/Cairo": "2026-10-20T21:00:00Z"}  # fmt: skip
"""When scenarios begin: before a change of clocks, 00:00 there."""
FEES: dict[str, list[tuple[str, str]]] = {
    "none": [],
    "activation": [("activation", "7.10")],
    "subscription": [("subscription", "30.00")],
    "both": [("activation", "3.333333"), ("subscription", "12.50")],
    "rows": [("activation", "4"), ("activation", "-1.5"), ("subscription", "10.0000005"),
             ("subscription", "9.99"), ("subscription", "-0.01")],
    "negative": [("activation", "2"), ("subscription", "-6.25")],
    "zero": [("activation", "0"), ("subscription", "0")],
}  # fmt: skip
DISCOUNTS = {
    "none": [],
    "second": [(2, "1.00")],
    "two": [(1, "3.00"), (3, "4.123456")],
    "larger": [(2, "1000")],
}
MINUTES: Row = {"id": "m", "type": "volume", "service": "calls", "code": "38044*", "limit": 7}
LIMITS: dict[str, list[Row]] = {
    "volume": [MINUTES],
    "money": [{"id": "b", "type": "money", "service": "calls", "code": "*", "limit": "1.234567"}],
    "rollover": [{**MINUTES, "rollover": 4}, {**MINUTES, "id": "w", "code": "*", "limit": 2, "rollover": 2}],
    "exclude": [{**MINUTES, "code": "*", "exclude": ["38050*", "1"]}],
    "min_call": [{**MINUTES, "min_call": 61}],
    "per_call_max": [{**MINUTES, "per_call_max": 45}],
    "both": [
        {**MINUTES, "limit": 2},
        {"id": "b", "type": "money", "service": "calls", "code": "*", "limit": "0.50"},
    ],
}


def package_row(options: Options, identifier: str, at: int) -> Row:
    """Return a package of a row of options."""
    span = SPANS[options["period"]]

    def one(values: tuple[str, ...], which: str) -> str | None:
        return None if which == "none" else values[0] if which == "short" else values[-1]

    row: Row = {
        "id": identifier, "name": f"Package {identifier}", "type": options["type"],
        "currency": options["currency"], "period": span.text,
        "advance_renew": one(span.advance, options["advance"]),
        "renew_for": one(span.renew_for, options["renew_for"]),
        "fees_include_taxes": options["included"] == "yes",
        "align_to_payment_terms": options["align"] != "off",
        "full_charge": options["full_charge"] == "yes",
        "charge_on_event": options["charge_on_event"] == "yes", "setup_fee": options["setup_fee"],
        "client_balance": options["client_balance"], "renewal_charge": options["renewal_charge"],
        "fees": [{"type": kind, "name": f"{kind} {place}", "rate": rate}
                 for place, (kind, rate) in enumerate(FEES[options["fees"]])],
        "discounts": [{"activation_count": count, "discount": less}
                      for count, less in DISCOUNTS[options["discounts"]]],
        "limits": LIMITS[options["limits"]],
    }  # fmt: skip
    length = int(span.days * DAY_MS)
    if options["dates"] == "package start":
        row["start_date"] = second(at + length // 3)
    if options["dates"] == "package end":
        row["end_date"] = second(at + length * 5 // 2)
    return row


def second(at: int) -> str:
    """Return an instant in whole seconds, as catalogs have it."""
    return time_text(at // 1000 * 1000).replace(".000Z", "Z")


def client_row(options: Options, identifier: str, balance: str) -> Row:
    """Return a client of a row of options."""
    terms, span = options["align"], SPANS[options["period"]]
    row: Row = {
        "id": identifier, "name": f"Client {identifier}", "currency": "USD", "time_zone": options["zone"],
        "balance": balance, "credit_limit": "1", "low_balance": "4",
        "rate_tables": {"orig": {"calls": "out"}, "term": {"calls": "in"}},
        "accounts": [{"id": f"acc-{identifier}"}],
    }  # fmt: skip
    if span.terms:
        every = {"shorter": span.terms[1], "longer": span.terms[2]}.get(terms, span.terms[0])
        anchor = {"31st": "2026-01-31", "ahead": "2027-05-01"}.get(terms, "2026-01-01")
        row["payment_terms"] = {"every": every, "anchor": anchor}
    if options["tax"] != "none":
        row["tax_profile"] = options["tax"]
    return row


SHARED: Row = {
    "currencies": {"base": "USD", "rates": {
        "EUR": [{"rate": "1.08"}, {"rate": "1.1234567", "from": "2026-12-01"}]}},
    "tax_profiles": [
        {"name": "one", "taxes": [{"name": "VAT", "percent": "20"}]},
        {"name": "two", "taxes": [{"name": "City", "percent": "7"}, {"name": "State", "percent": "3.125"}]},
    ],
    "rate_tables": [
        {"name": "out", "currency": "USD", "rates": [
            {"code": "380", "price": "0.10", "setup_fee": "0.05", "min_time": 60, "interval": 60},
            {"code": "38044", "price": "0.06"}, {"code": "1", "price": "0.0333333333", "interval": 6}]},
        {"name": "in", "currency": "USD", "rates": [
            {"code": "1", "price": "0.02"}, {"code": "380", "price": "3"}]},
    ],
}  # fmt: skip


# --- Steps -----------------------------------------------------------------------------------------------


class Story:
    """A scenario in the making."""

    def __init__(self, rng: Random) -> None:
        self.rng = rng
        self.steps: list[Step] = []
        self.number = 0

    def scenario(self, seed: int) -> LifeScenario:
        """Return what was made, in order of time."""
        return LifeScenario(seed, tuple(sorted(self.steps, key=moment)))

    def load(self, at: int, **rows: Any) -> None:
        """Load a file."""
        self.steps.append(LoadStep(at // 1000 * 1000, json.loads(json.dumps(rows))))

    def do(
        self, at: int, what: str, client: str | None, client_package: str | None = None, **args: Any
    ) -> CommandStep:
        """Give a command at a moment."""
        self.number += 1
        at = at // 1000 * 1000
        row = {"id": f"command-{self.number}", "key": f"key-{self.number}", "at": second(at), "actor": "anna",
               "reason": "ticket", "do": what, "client": client, "client_package": client_package,
               "args": args}  # fmt: skip
        if what == "tick":
            del row["client"], row["client_package"], row["key"]
        step = CommandStep(at, row)
        self.steps.append(step)
        return step

    def call(
        self, at: int, client: str, called: str, seconds: int, side: str = "orig", late_ms: int = 0
    ) -> None:
        """Send a call that was answered at a moment; late_ms: its record comes so much after its end."""
        self.number += 1
        row = {"id": f"call-{self.number}", "source": "s", "called": called, "answered_at": time_text(at),
               "duration_ms": seconds * 1000,
               side: {"client": client, "account": f"acc-{client}"}}  # fmt: skip
        self.steps.append(RecordStep(at + seconds * 1000 + late_ms, json.dumps(row).encode(), 0))


CALLED = ("380441234567", "380501234567", "12125550100")


def opening_balance(options: Options, rng: Random) -> str:
    """Return what a client begins with: enough for all, for a period or not, or nothing."""
    return {"plenty": "5000", "none": "0"}.get(options["funds"], rng.choice(("6.5", "14", "44.44")))


def of_options(options: Options, seed: int) -> LifeScenario:
    """Return the scenario of a row of options: one client, one package, several periods, one action."""
    rng = Random(f"life {seed}")  # noqa: S311 - the same again
    begin = ms(BEGIN[options["zone"]])
    story, length = Story(rng), int(SPANS[options["period"]].days * DAY_MS)
    client = client_row(options, "7", opening_balance(options, rng))
    if SPANS[options["period"]].days > 300:
        length //= 2
    package = package_row(options, "P", begin)
    story.load(begin, **SHARED, clients=[client], packages=[package])
    held = assign(story, options, begin, length)
    topped = {"short, in time": 1.02, "short, late": 2.4, "short, by usage": 1.6, "short, by credit": 1.3}
    acts = {round(1.45, 2): options["action"], topped.get(options["funds"], 9.0): "money"}
    moments = sorted([*(place * 0.23 + rng.random() * 0.05 for place in range(20)), *acts])
    for place in moments:
        at = begin + int(place * length) + 1000
        if options["tick"] == "eager":
            story.do(at, "tick", None)
        if acts.get(place) == "money":
            money(story, options, at, client)
        elif place in acts:
            act(story, acts[place], at, held, package, client, length)
        else:
            call(story, at)
    if options["tick"] != "eager":
        story.do(begin + int(length * 4.8), "tick", None)
    if options["action"] == "remove":
        story.do(begin + int(length * 4.9), "remove", "7", held)
    for place in (0.3, 1.2, 2.3, 3.3, 4.85):
        story.call(
            begin + int(place * length) + 1000, "7", CALLED[0], 61, late_ms=int((4.9 - place) * length)
        )
    return story.scenario(seed)


def assign(story: Story, options: Options, at: int, length: int) -> str:
    """Assign the package, by a command or a load; return the id."""
    dates: Row = {}
    if options["past"] != "no":
        dates["start_date"] = second(at - length * (25 if options["past"] == "far" else 2) - length // 7)
        dates["activate_in_past"] = True
    if options["dates"] == "start":
        dates["start_date"] = second(at + length // 2)
    if options["dates"] == "end":
        dates["end_date"] = second(at + length * 13 // 5)
    quantity = int(options["quantity"])
    if options["by"] == "command":
        story.do(at, "assign", "7", package="P", quantity=quantity, **dates)
        return "7-1"
    row = {"id": "cp1", "client": "7", "package": "P", "quantity": quantity, **dates}
    story.load(at + 1000, client_packages=[row])
    return "cp1"


def money(story: Story, options: Options, at: int, client: Row) -> None:
    """Bring money as the options say."""
    if options["funds"] == "short, by usage":
        story.call(at, "7", "380441234567", 1800, "term")
    elif options["funds"] == "short, by credit":
        story.load(at, clients=[{**client, "credit_limit": "300"}])
    else:
        story.do(at, "adjust", "7", amount="250.5")


def act(story: Story, action: str, at: int, held: str, package: Row, client: Row, length: int) -> None:
    """Do what a row's action says."""
    told = {"remove": "stop_now", "invoice": "invoice_pending_charge"}.get(action, action)
    if told in {"stop_now", "stop_at_period_end", "cancel", "invoice_pending_charge"}:
        story.do(at, told, "7", held)
    elif action.startswith("cut"):
        story.do(at, "edit_end_date", "7", held, end_date=second(at + length // 3))
        if action == "cut and back":
            story.do(at + length // 8, "edit_end_date", "7", held, end_date=None)
    elif action == "zone":
        story.load(at, clients=[{**client, "time_zone": "Asia/Kolkata"}])
    elif action == "terms":
        terms = {**client["payment_terms"], "anchor": "2026-01-06"}
        story.load(at, clients=[{**client, "payment_terms": terms}])
    elif action in {"disabled", "archived"}:
        story.load(at, packages=[{**package, "status": action}])
        if action == "disabled":
            story.do(at + length * 4 // 5, "tick", None)
            story.load(at + length * 4 // 5, packages=[package])
    elif action == "edited":
        limits = [{**limit, "limit": "3" if limit["type"] == "money" else 3} for limit in package["limits"]]
        fees = [*package["fees"], {"type": "subscription", "name": "more", "rate": "0.75"}]
        story.load(at, packages=[{**package, "name": "Renamed", "limits": limits, "fees": fees}])


def call(story: Story, at: int) -> None:
    """Send a call, mostly at once, now and then late."""
    rng = story.rng
    late = rng.choice((0, 0, 0, DAY_MS // 3))
    side = "term" if rng.random() < 0.2 else "orig"
    story.call(at, "7", rng.choice(CALLED), rng.choice((30, 61, 200)), side, late)
