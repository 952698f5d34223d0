"""Random scenarios of the life of packages: several clients and client packages, steps at random moments."""

from __future__ import annotations

from random import Random
from typing import Any

from oracle.life_pairs import (
    BEGIN,
    CALLED,
    DAY_MS,
    OPTIONS,
    SHARED,
    SPANS,
    CommandStep,
    LifeScenario,
    Options,
    Story,
    client_row,
    fits,
    package_row,
    second,
)
from oracle.scenario import ms

Row = dict[str, Any]

WEIGHTS: dict[str, dict[str, int]] = {
    "period": {"1 month": 8, "10 days": 5, "99999 years": 1},
    "fees": {"subscription": 6, "both": 5, "rows": 4, "none": 1},
    "align": {"off": 12},
    "dates": {"none": 12},
    "past": {"no": 6},
    "client_balance": {"deny": 4},
    "charge_on_event": {"no": 3},
    "type": {"customer": 6},
    "renew_for": {"none": 2},
    "currency": {"USD": 3},
    "full_charge": {"no": 2},
    "discounts": {"none": 3},
}
"""Option → how much more often a value comes than 1."""
DOES = {
    "call": 30, "tick": 12, "adjust": 10, "usage": 3, "assign": 4, "stop_now": 2, "stop_at_period_end": 2,
    "cancel": 2, "remove": 3, "edit_end_date": 4, "invoice_pending_charge": 1, "edit package": 4, "status": 3,
    "client": 3, "again": 2, "dry_run": 3,
}  # fmt: skip


def options_of(rng: Random, client: Options) -> Options:
    """Return a random row of options whose client is that one."""
    row: Options = {}
    for name, values in OPTIONS.items():
        kept = [client[name]] if name in {"zone", "tax"} and client else values
        possible = [value for value in kept if fits(row, name, value)]
        weights = [WEIGHTS.get(name, {}).get(value, 1) for value in possible]
        row[name] = rng.choices(possible, weights)[0]
    return row


class _Maker:
    """Clients, packages and client packages as they were made so far."""

    def __init__(self, seed: int) -> None:
        self.rng = rng = Random(f"random life {seed}")  # noqa: S311 - the same again
        self.story = Story(rng)
        base = options_of(rng, {})
        self.begin = ms(BEGIN[base["zone"]])
        self.length = min(int(SPANS[base["period"]].days * DAY_MS), 100 * DAY_MS)
        self.clients: dict[str, Row] = {}
        self.packages: dict[str, tuple[Options, Row]] = {}
        self.held: list[tuple[str, str]] = []
        self.assigned: dict[str, int] = {}
        self.refused = 0
        for number in range(rng.choice((1, 1, 2))):
            identifier = str(7 + number)
            self.clients[identifier] = client_row(
                base, identifier, rng.choice(("0", "20", "44.44", "100", "5000"))
            )
        for number in range(rng.choice((1, 2, 3))):
            options = options_of(rng, base)
            while SPANS[options["period"]].days * DAY_MS < self.length / 30:  # hours beside months take ages
                options = options_of(rng, base)
            if options["align"] != "off" and options["period"] != base["period"]:
                options["align"] = "off"  # the terms are those of the first
            row = package_row(options, f"P{number}", self.begin)
            row["priority"] = rng.choice((0, 0, 1, -1))
            self.packages[row["id"]] = (options, row)
        rows = [row for _, row in self.packages.values()]
        self.story.load(self.begin, **SHARED, clients=list(self.clients.values()), packages=rows)

    def step(self, at: int) -> None:
        """Add a random step at a moment."""
        what = self.rng.choices(list(DOES), list(DOES.values()))[0]
        client = self.rng.choice(list(self.clients))
        story = self.story
        if what in {"call", "usage"}:
            self.call(at, client, usage=what == "usage")
        elif what == "tick":
            story.do(at, "tick", None)
        elif what == "adjust":
            story.do(
                at, "adjust", client, amount=self.rng.choice(("5", "25.5", "60", "250", "-10", "-70.000001"))
            )
        elif what == "assign":
            self.assign(at, client)
        elif what == "edit package":
            self.edit_package(at)
        elif what == "status":
            self.status(at)
        elif what == "client":
            self.client(at, client)
        elif what == "again":
            self.again(at)
        elif self.held:
            self.on_held(at, what)

    def call(self, at: int, client: str, *, usage: bool) -> None:
        """Send a call, mostly as it ends, now and then much later."""
        rng = self.rng
        late = rng.choice((0, 0, 0, 0, self.length // 10, self.length))
        if usage:
            self.story.call(at, client, "380441234567", rng.choice((300, 1800)), "term")
        else:
            self.story.call(at, client, rng.choice(CALLED), rng.choice((20, 61, 150, 400)), late_ms=late)

    def assign(self, at: int, client: str) -> None:
        """Assign a package, now, later, or in the past."""
        rng = self.rng
        name = rng.choice(list(self.packages))
        options, row = self.packages[name]
        dates: Row = {}
        if options["past"] != "no":
            back = rng.choice((0.4, 1, 2.3, 6))
            dates = {"start_date": second(at - int(back * self.length)), "activate_in_past": True}
        elif rng.random() < 0.25:
            dates = {"start_date": second(at + int(rng.choice((-0.5, 0.3, 1)) * self.length))}
        if rng.random() < 0.15:
            dates["end_date"] = second(at + int(rng.choice((0.5, 1.2, 2.5)) * self.length))
        quantity = rng.choice((1, 1, 2))
        by_load = not dates.get("activate_in_past") and not dates.get("end_date") and "end_date" not in row
        by_load = by_load and row.get("status", "active") == "active"  # else a load is refused as a whole
        if rng.random() < 0.7 or not by_load:
            self.assigned[client] = self.assigned.get(client, 0) + 1
            self.held.append((client, f"{client}-{self.assigned[client]}"))
            self.story.do(at, "assign", client, package=name, quantity=quantity, **dates)
            return
        identifier = f"cp{len(self.held)}"
        self.held.append((client, identifier))
        given = {"id": identifier, "client": client, "package": name, "quantity": quantity, **dates}
        self.story.load(at, client_packages=[given])

    def on_held(self, at: int, what: str) -> None:
        """Do something to a client package, whatever its status."""
        rng = self.rng
        client, held = rng.choice(self.held)
        if what == "dry_run":
            self.story.do(at, "tick", None)
            what = rng.choice(("stop_now", "cancel", "stop_at_period_end", "remove"))
            self.story.do(at, what, client, held).row["dry_run"] = True
        elif what == "edit_end_date":
            end = rng.choice((None, at, at + self.length // 9, at + self.length // 2, at + 2 * self.length))
            self.story.do(at, what, client, held, end_date=None if end is None else second(end))
        else:
            self.story.do(at, what, client, held)

    def edit_package(self, at: int) -> None:
        """Change what periods to come cost and grant."""
        rng = self.rng
        name = rng.choice(list(self.packages))
        options, row = self.packages[name]
        drawn = {key: rng.choice(OPTIONS[key]) for key in ("fees", "limits", "discounts")}
        other = package_row({**options, **drawn}, name, self.begin)
        new = {**row, **{key: other[key] for key in drawn}}
        if rng.random() < 0.3 and row["period"] is not None and row["advance_renew"] is None:
            new["period"] = rng.choice(("10 days", "1 month", "3 months"))
        self.put(at, name, new)

    def status(self, at: int) -> None:
        """Disable a package, enable it again, or archive it."""
        name = self.rng.choice(list(self.packages))
        row = self.packages[name][1]
        was = row.get("status", "active")
        if was != "archived":
            to = "active" if was == "disabled" else self.rng.choice(("disabled", "disabled", "archived"))
            self.put(at, name, {**row, "status": to})

    def put(self, at: int, name: str, row: Row) -> None:
        """Load a package; what is archived stays so."""
        if self.packages[name][1].get("status") == "archived":
            return
        self.packages[name] = (self.packages[name][0], row)
        self.story.load(at, packages=[row])

    def client(self, at: int, client: str) -> None:
        """Change a client: credit limit, zone, anchor of its terms, tax profile."""
        rng = self.rng
        row = self.clients[client]
        what = rng.choice(("credit", "credit", "zone", "terms", "tax"))
        if what == "credit":
            row = {**row, "credit_limit": rng.choice(("0", "1", "30", "100"))}
        elif what == "zone":
            row = {**row, "time_zone": rng.choice(OPTIONS["zone"])}
        elif what == "tax":
            row = {**row, "tax_profile": rng.choice(("one", "two"))}
        elif row.get("payment_terms"):
            row = {
                **row,
                "payment_terms": {**row["payment_terms"], "anchor": rng.choice(("2026-01-06", "2026-01-31"))},
            }
        self.clients[client] = row
        self.story.load(at, clients=[row])

    def again(self, at: int) -> None:
        """Send a command of before once more, or another under its key."""
        keyed = [one for one in self.story.steps if isinstance(one, CommandStep) and "key" in one.row]
        if keyed:
            row = dict(self.rng.choice(keyed).row)
            if self.rng.random() < 0.3 and row["do"] in {"assign", "adjust"}:
                row["args"] = {
                    **row["args"],
                    **({"quantity": 9} if row["do"] == "assign" else {"amount": "0.01"}),
                }
            row["id"] = f"again-{len(self.story.steps)}"
            self.story.steps.append(CommandStep(at // 1000 * 1000, row))


def random_scenario(seed: int, size: int | None = None) -> LifeScenario:
    """Return the scenario of a seed; size: how many steps, about."""
    made = _Maker(seed)
    rng = made.rng
    for client in made.clients:
        for _ in range(rng.choice((1, 2, 3))):
            made.assign(made.begin + rng.randrange(3) * 1000, client)
    count = size or rng.randrange(8, 40)
    at = made.begin + 5000
    for _ in range(count):
        at += int(made.length * rng.expovariate(1) * 5 / count)
        made.step(at)
    made.story.do(at + made.length, "tick", None)
    for client in made.clients:
        for back in (0.5, 1.5, 2.5):
            moment = at + made.length - int(back * made.length)
            made.story.call(moment, client, CALLED[0], 61, late_ms=int(back * made.length))
    return made.story.scenario(seed)
