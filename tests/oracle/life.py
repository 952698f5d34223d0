"""A slow, plain oracle of the life of packages, written from the rules alone: RULES.md 3 and 4.

It shares no code with the product. What a call is rated at, and how limits are drawn, is reference.py's; here
is which periods there are, and what they cost, grant and give back. One client package at a time, one due
moment at a time, nothing planned ahead. Instants are ms, amounts micros of the client's currency.

Read as (where the rules can be read in two ways):

 1. What is due at m is decided with the packages as they were before m: a load of that instant comes after.
    What a command, a call's rise, or an assignment decides at its `at`, or makes due at it, sees what was
    loaded up to then.
 2. A client's last change is the latest moment at which something was decided for it (a due moment, an `at`),
    not the time of the tick or call that found it. Calls alone are no changes.
 3. A renewal is never due before the period that it follows has begun and was opened, nor before the client
    package last changed (an end date that is moved away makes it due then).
 4. `advance_renew`, `renew_for` and `renewal_charge` are those that the running period opened with.
 5. With `before_period` and `advance_renew` the renewal is in advance, the money is dated the stop - 1 s.
 6. `renew_for` counts from a stop: a first activation waits without end, or until its end date.
 7. A rise exactly at the end of `renew_for` clears nothing.
 8. A renewal that is cleared before the stop, or exactly at it, is on time (`renewed`).
 9. A late renewal counts with the package as it is then: its length where that changed, from the last stop.
10. What waits is tried again when its package is enabled, whatever it waits for; nothing else of the client.
11. Activate in the past without any start date starts at the moment of success. One `activated` for all its
    periods; all are as the package is when they open. What is renewed in advance of now is not among them.
12. A discount never changes a sum of rows that is below 0 (which pays the client).
13. Included taxes: each but the last is its percent of the rounded net.
14. Wall-clock time of a cut period is counted from the local time that was asked for.
15. A period that a changed length, zone or terms cuts has a share like a first one.
16. `rollover` is multiplied by quantity, not by a share; the cap is that of the period which ends; a limit
    that the next period does not have (by id) takes nothing. Moved when the next begins, late when it opens,
    so among all that an activation in the past opens. `per_call_max` is for both parts of a limit together.
17. Stop now and stop at period end need a period that runs (the latter also takes one that waits for its
    renewal, which is archived at once; not twice, nor where there is no end). What was never active can only
    be cancelled.
18. A withdrawn period is one that has not begun; `before_period`'s next one, in its last second, too.
19. An end date may be now. It may not be before, nor at or before the first start, nor at what is archived.
20. Removing reverses every fee and refund that was published, those of 0 too, period by period.
21. Retries of one rise are one pass by (since, priority, id), again as long as one of them brings money.
22. A balance is low below `low_balance`, not at it. A client that is created with less is told so.
23. A call's rise counts at the whole second of its record's timestamp: instants are whole seconds.
24. A fee on event has the package, share and taxes of its period's opening, the currency rate of the call.
    Whether it is covered is judged, and told, of candidates up to the one that is chosen.
25. A command that is refused, repeated or tried changes nothing: what was due is done by whatever comes next.
26. A charge that was pending as its package was disabled is told again when that is enabled and funds lack.
27. Fees that are found late bear the package's name of their due moment; one that a call brings has the name
    that its draws have, today's.
28. What becomes due before a call or clears behind it is published before what the call brings, its fee too.
29. A package's end date that is over when it is loaded ends what clients have with that load.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, NamedTuple

from oracle.life_calendar import (
    FIRST_MS,
    NEVER_MS,
    Boundary,
    Grid,
    Terms,
    aligned_grid,
    asked,
    boundary_at,
    fits,
    free_grid,
    later,
    length_of,
)
from oracle.life_fees import Held, Taxes, fee, micros_of, refund, reversal
from oracle.reference import (
    MICROS,
    Call,
    Candidate,
    Cost,
    Period,
    Rate,
    Reference,
    Rejected,
    Version,
    decimal,
    half_up,
    id_order,
    identify,
    limit_fits,
    money_text,
    read_call,
    read_sides,
    service_of,
    time_text,
)

Row = dict[str, Any]

PERIODS_MAX = 400
"""How many an activation in the past opens at most."""
CHANGES = (
    "assigned", "activated", "renewed", "renewed_late", "charge_pending", "pending_charge_invoiced",
    "charge_cleared", "stop_scheduled", "stopped", "cancelled", "archived", "removed", "end_date_changed",
    "rerate_needed", "low_balance", "balance_restored",
)  # fmt: skip
"""Types of events that are told here."""


class Refused(Exception):  # noqa: N818 - what becomes of a command, not an error of the program
    """A command cannot be done; nothing of it is."""


class Event(NamedTuple):
    """Something that is told. client_package and period: None where it is of the client."""

    type: str
    client: str
    client_package: str | None
    period: int | None
    data: Row


@dataclass
class Waiting:
    """A pending charge. until: when it is given up, None: never."""

    kind: str
    since: int
    until: int | None
    reason: str
    invoiced: bool = False


@dataclass
class Life:
    """A client package. start, end: as asked for in zone, None: none. ended: when it was closed, and why."""

    row: Row
    zone: str
    start: Boundary | None
    end: Boundary | None
    assigned_ms: int
    changed_ms: int
    periods: list[Held] = field(default_factory=list)
    withdrawn: list[Held] = field(default_factory=list)
    waiting: Waiting | None = None
    grid: Grid | None = None
    key: tuple[Any, ...] = ()
    """What the grid is made of: it is kept as long as this stays the same."""
    numbered: int = 0
    ended: tuple[int, str] | None = None
    last: bool = False
    published: list[Row] = field(default_factory=list)

    @property
    def id(self) -> str:
        """Return its id."""
        return str(self.row["id"])

    def ended_by(self, at: int) -> bool:
        """Tell if it is closed then."""
        return self.ended is not None and self.ended[0] <= at


@dataclass
class Owner:
    """What is remembered of a client. keys: of commands → (content, result)."""

    last_ms: int = -NEVER_MS
    lives: dict[str, Life] = field(default_factory=dict)
    keys: dict[str, tuple[str, Row]] = field(default_factory=dict)
    assigned: int = 0
    removed: set[str] = field(default_factory=set)


@dataclass
class Result:
    """What a step did.

    done: what a command tells; refused: why it did nothing; sides: of a call; brought: fees that those bring.
    """

    transactions: list[Row] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    sides: list[Row] = field(default_factory=list)
    brought: list[Row] = field(default_factory=list)
    done: Row = field(default_factory=dict)
    refused: str | None = None


class World(Reference):
    """The reference of rating, whose clients' packages live.

    Steps come in the order in which they are decided, as the records of one lane do: `load`, `rate` and
    `command`. Each leaves what it did in `result`.
    """

    def __init__(self, window_days: int = 7) -> None:
        super().__init__(window_days)
        self.owners: dict[str, Owner] = {}
        self.profiles: dict[str, Taxes] = {}
        self.result = Result()
        self.told: int | None = None
        self.chosen = False
        self.covered: dict[str, bool] = {}
        """Client package of which a draw would bring a fee under `deny` → whether the fee is covered."""
        self.call_ms = FIRST_MS
        self.asked: Row = {}
        """What the last charge was made of, paid or not."""

    # --- What is known of a client package ------------------------------------------------------------

    def package_at(self, life: Life, at: int, *, due: bool) -> Row:
        """Return its package's row at a decision's moment (read as 1); the first loaded counts from ever."""
        versions = self.catalog.packages[life.row["package"]]
        opened = life.periods[-1].opened_ms if life.periods else life.assigned_ms
        due = due and at > max(life.assigned_ms, life.changed_ms, opened)
        known = [one for one in versions if one.at_ms < at or (one.at_ms == at and not due)]
        return (known or versions[:1])[-1].row

    def zone(self, client: str) -> str:
        """Return the name of a client's zone."""
        return self.catalog.client(client).get("time_zone") or "UTC"

    def terms(self, client: str) -> Terms | None:
        """Return a client's payment terms."""
        given = self.catalog.client(client).get("payment_terms") or {}
        length = length_of(given.get("every"))
        return None if length is None else Terms(length, str(given["anchor"]))

    def credit(self, client: str) -> int:
        """Return a client's credit limit."""
        return half_up(decimal(self.catalog.client(client).get("credit_limit") or 0) * MICROS)

    def end_of(self, life: Life) -> int | None:
        """Return the earlier end date of package and client package."""
        text = self.catalog.package(life.row["package"]).get("end_date")
        zone = self.zone(life.row["client"]) if life.grid is None else life.grid.zone
        ends = [] if text is None else [asked(text, zone).ms]
        return min([*ends, *([life.end.ms] if life.end else [])], default=None)

    def stop_of(self, life: Life, period: Held) -> int | None:
        """Return when a period stops: as scheduled, by an end date, or because it was closed."""
        stops = [period.stop.ms if period.stop else None, self.end_of(life)]
        stops.append(life.ended[0] if life.ended else None)
        return min((stop for stop in stops if stop is not None), default=None)

    def starts(self, life: Life, at: int) -> list[Boundary]:
        """Return what a first period may begin with: both start dates that there are, and the moment."""
        zone = self.zone(life.row["client"])
        text = self.catalog.package(life.row["package"]).get("start_date")
        found = [boundary_at(life.start.ms, zone) if zone != life.zone else life.start] if life.start else []
        found += [asked(text, zone)] if text else []
        past = life.row.get("activate_in_past") and found
        return found if past else [*found, boundary_at(at, zone)]

    def status(self, life: Life, at: int) -> str:
        """Return its status at a moment."""
        if life.ended_by(at):
            return "archive"
        if not life.periods:
            return "pending"
        stop = self.stop_of(life, life.periods[-1])
        return "pending" if life.waiting is not None and stop is not None and at >= stop else "active"

    def order(self, life: Life) -> tuple[Any, ...]:
        """Return its order among those that are due at one moment."""
        return int(self.catalog.package(life.row["package"]).get("priority") or 0), id_order(life.id)

    def size(self, period: Held, limit: Row) -> int:
        """Return what a limit grants in a period, without what was rolled over."""
        units = decimal(limit["limit"]) * period.quantity * period.share
        if limit["type"] == "money":
            return half_up(units * MICROS)
        return int(units * self.catalog.services[service_of(limit)])

    # --- What is due ----------------------------------------------------------------------------------

    def due_of(self, life: Life) -> tuple[int, str] | None:  # noqa: PLR0911 - one for each state
        """Return what is due of it next, and when."""
        if life.ended is not None:
            return None
        end = self.end_of(life)
        if end is not None and life.changed_ms > life.assigned_ms:
            end = max(end, life.changed_ms)  # a package's end date that was over when it was loaded
        if not life.periods:
            start = max(one.ms for one in self.starts(life, life.assigned_ms))
            if life.waiting is not None or (end is not None and end <= start):
                return None if end is None else (max(end, life.assigned_ms), "archive")
            return max(start, life.assigned_ms), "activation"
        last = life.periods[-1]
        if not last.rolled_over:
            return max(last.start.ms, last.opened_ms), "roll"
        stop = min([one for one in (last.stop and last.stop.ms, end) if one is not None], default=None)
        if life.waiting is not None:
            given_up = [one for one in (life.waiting.until, end) if one is not None]
            return (min(given_up), "archive") if given_up else None
        if stop is None:
            return None
        if life.last or last.stop is None or stop < last.stop.ms or (end is not None and end <= stop):
            return stop, "archive"
        return self.renewal_ms(life, last), "renewal"

    def renewal_ms(self, life: Life, period: Held) -> int:
        """Return when the renewal that follows a period is due."""
        assert period.stop is not None
        package, zone = period.package, life.grid.zone if life.grid else "UTC"
        advance = length_of(package.get("advance_renew"))
        at = period.stop.ms
        if advance is not None:
            at = later(period.stop, advance, -1, zone).ms
        elif before(package):
            at -= 1000
        return max(at, period.start.ms, period.opened_ms, life.changed_ms)

    def due(self, client: str, until: int, *, archive: bool = True) -> None:
        """Do what is due of a client up to a moment, each at its own; a call leaves archiving to the tick."""
        owner = self.owners[client]
        while True:
            found = [
                (due[0], self.order(life), life, due[1])
                for life in owner.lives.values()
                if (due := self.due_of(life)) is not None and due[0] <= until
            ]
            found = [one for one in found if archive or one[3] != "archive"]
            if not found:
                return
            at, _, life, what = min(found, key=lambda one: one[:2])
            balance = self.balances[client]
            if what == "activation":
                if not self.activate(life, at, due=True):
                    self.wait(life, "activation", at, None)
            elif what == "renewal":
                self.renew_when_due(life, at)
            elif what == "roll":
                self.roll_over(life, at)
            else:
                self.close(life, at, "unpaid" if life.waiting else "expired", "archived")
            self.risen(client, balance, at)

    def risen(self, client: str, balance: int, at: int) -> None:
        """Try what waits for funds again, where the balance is higher than it was."""
        if self.balances[client] > balance:
            self.retry(client, at)

    def retry(self, client: str, at: int, package: str | None = None) -> None:
        """Try all that waits (of a package) again; one that is too dear holds up none behind it."""
        lives = self.owners[client].lives.values()
        waiting = [one for one in lives if one.waiting and package in {None, one.row["package"]}]
        waiting.sort(key=lambda one: (one.waiting.since if one.waiting else 0, self.order(one)))
        again = False
        for life in waiting:
            balance = self.balances[client]
            kind = life.waiting.kind if life.waiting else ""
            until, end = life.waiting.until if life.waiting else None, self.end_of(life)
            if any(bound is not None and at >= bound for bound in (until, end)):
                continue
            done = (self.activate if kind == "activation" else self.renew)(life, at, due=False)
            if not done:
                self.wait_on(life, at)
            again = again or self.balances[client] > balance
        if again:
            self.retry(client, at)

    # --- Opening periods ------------------------------------------------------------------------------

    def grid_of(self, life: Life, package: Row, start: Boundary) -> tuple[Grid, tuple[Any, ...]]:
        """Return the grid on which periods are counted from a moment on, and what it is made of."""
        client = life.row["client"]
        length, zone, terms = length_of(package.get("period")), self.zone(client), self.terms(client)
        if package.get("align_to_payment_terms") and fits(length, terms):
            assert length is not None
            assert terms is not None
            return aligned_grid(length, terms, zone), (length, zone, terms)
        return free_grid(start, length, zone), (length, zone, None)

    def held(self, life: Life, package: Row, at: int, place: tuple[Any, ...], nth: int) -> Held:
        """Return a period that may be opened, the nth from here. place: as `first_place` gives it."""
        start, stop, stop_place, share, wall = place
        quantity = int(life.row.get("quantity") or 1)
        profile = self.profiles.get(self.catalog.client(life.row["client"]).get("tax_profile") or "", [])
        return Held(life.numbered + nth, start, stop, stop_place, package, quantity, len(life.periods) + nth,
                    share, wall, at, profile)  # fmt: skip

    def first_place(self, grid: Grid, start: Boundary, *, full: bool) -> tuple[Any, ...]:
        """Return start, stop, its place, share, wall of a grid's first period; full: of its price."""
        cut = grid.first(start)
        share = (decimal(1), None) if full else (cut.share, cut.wall)
        return cut.start, grid.point(cut.stop_place), cut.stop_place, *share

    def next_place(self, grid: Grid, stop_place: int) -> tuple[Any, ...]:
        """Return the place of the period behind a place of the grid."""
        stop = stop_place + grid.per
        return grid.point(stop_place), grid.point(stop), stop, decimal(1), None

    def activate(self, life: Life, at: int, *, due: bool) -> bool:
        """Open the first period, in the past also those that have begun since; tell if funds allow."""
        package = self.package_at(life, at, due=due)
        start = max(self.starts(life, at), key=lambda one: one.ms)
        grid, key = self.grid_of(life, package, start)
        end = self.end_of(life)
        opened = [self.held(life, package, at, self.first_place(grid, start, full=full(package)), 1)]
        while True:
            stop = opened[-1].stop
            if stop is None or stop.ms > at or (end is not None and stop.ms >= end):
                break
            place = self.next_place(grid, opened[-1].stop_place)
            opened.append(self.held(life, package, at, place, len(opened) + 1))
            if len(opened) > PERIODS_MAX:
                if life.waiting is not None:
                    return False
                raise Refused("more than 400 periods")
        waited = life.waiting is not None
        if not self.pay(life, package, opened):
            return False
        life.grid, life.key = grid, key
        for period in opened:
            self.open(life, period)
        self.tell("charge_cleared", life, opened[0]) if waited else None
        self.tell("activated", life, opened[0])
        if start.ms < at:
            self.rerate(life, start.ms, at)
        for older, newer in pairwise(opened):
            self.move_rest(life, older, newer)
        for period in opened:
            period.rolled_over = True
        self.changed(life, at)
        return True

    def renew_when_due(self, life: Life, at: int) -> None:
        """Renew at the due moment, or note that the charge is pending."""
        last = life.periods[-1]
        assert last.stop is not None
        if self.renew(life, at, due=True):
            return
        given = length_of(last.package.get("renew_for"))
        zone = life.grid.zone if life.grid else "UTC"
        self.wait(life, "renewal", at, None if given is None else later(last.stop, given, 1, zone).ms)

    def renew(self, life: Life, at: int, *, due: bool) -> bool:
        """Open the next period, or late the one that a moment is in; tell if funds allow."""
        last, end = life.periods[-1], self.end_of(life)
        assert last.stop is not None
        assert life.grid is not None
        package = self.package_at(life, at, due=due)
        begins, zone = last.stop, self.zone(life.row["client"])
        if zone != life.grid.zone:
            begins = boundary_at(begins.ms, zone)
        grid, key = self.grid_of(life, package, begins)
        if key == life.key:
            grid = life.grid
            place = self.next_place(grid, last.stop_place)
        else:
            place = self.first_place(grid, begins, full=full(package))
        while place[1] is not None and place[1].ms <= at:
            place = self.next_place(grid, place[2])
        start: Boundary = place[0]
        if end is not None and start.ms >= end:
            return False
        opened = self.held(life, package, at, place, 1)
        waited = life.waiting is not None
        if not self.pay(life, package, [opened]):
            return False
        life.grid, life.key = grid, key
        self.open(life, opened)
        late = waited and at > start.ms
        self.tell("charge_cleared", life, opened) if waited else None
        self.tell("renewed_late" if late else "renewed", life, opened)
        if late:
            self.rerate(life, start.ms, at)
        self.changed(life, at)
        return True

    def pay(self, life: Life, package: Row, opened: list[Held]) -> bool:
        """Charge what periods cost as they open, if the package is enabled and funds allow; tell if so."""
        fees = self.fees(life, opened)
        needed = -sum(micros_of(one) for one in fees)
        self.asked = asked_for(fees)
        if (package.get("status") or "active") != "active":
            return False
        client = life.row["client"]
        if needed > 0 and deny(package) and needed > self.balances[client] + self.credit(client):
            return False
        by_number = {period.number: period for period in opened}
        for one in fees:
            by_number[one["period"]].paid[one["type"]] = one
            self.publish(life, one)
        return True

    def fees(self, life: Life, opened: list[Held]) -> list[Row]:
        """Return the fees of periods that open: the activation of the first one, all subscriptions."""
        found = []
        client = self.catalog.client(life.row["client"])
        for place, period in enumerate(opened):
            first = not life.periods and place == 0
            dated = period.start.ms - (1000 if before(period.package) and not first else 0)
            kinds = ["activation"] if first else []
            kinds += [] if period.package.get("charge_on_event") else ["subscription"]
            for kind in kinds:
                stop = self.stop_of(life, period)
                found.append(fee(self.catalog, life.row, client, period, kind, dated, stop))
        return [one for one in found if one is not None]

    def open(self, life: Life, period: Held) -> None:
        """Add a period whose fees are paid."""
        life.periods.append(period)
        life.numbered = period.number
        life.waiting = None

    def wait(self, life: Life, kind: str, at: int, until: int | None) -> None:
        """Note a pending charge: what is needed, and what is missing."""
        package = self.package_at(life, at, due=True)
        disabled = (package.get("status") or "active") != "active"
        life.waiting = Waiting(kind, at, until, "package_disabled" if disabled else "funds")
        total = micros_of(self.asked, "total")
        funds = self.balances[life.row["client"]] + self.credit(life.row["client"])
        data = {
            "reason": life.waiting.reason, "amounts": self.asked, "missing": money_text(total - funds),
            "since": time_text(at), "retry_until": None if until is None else time_text(until),
        }  # fmt: skip
        self.event("charge_pending", life, life.numbered + 1, data)
        self.changed(life, at)

    def wait_on(self, life: Life, at: int) -> None:
        """Tell of a pending charge again where its package is enabled, and it is funds that lack now."""
        package, waiting = self.package_at(life, at, due=False), life.waiting
        assert waiting is not None
        enabled = (package.get("status") or "active") == "active"
        if enabled and waiting.reason == "package_disabled":
            waiting.reason = "funds"
            self.event("charge_pending", life, life.numbered + 1, {"reason": "funds"})
            self.changed(life, at)

    def changed(self, life: Life, at: int) -> None:
        """Note when a client was last changed."""
        owner = self.owners[life.row["client"]]
        owner.last_ms = max(owner.last_ms, at)

    # --- Roll-over, ends, refunds ---------------------------------------------------------------------

    def roll_over(self, life: Life, at: int) -> None:
        """Move unused volume into the period that begins."""
        newer = life.periods[-1]
        newer.rolled_over = True
        if len(life.periods) > 1:
            self.move_rest(life, life.periods[-2], newer)
            if newer.rolled:
                self.changed(life, at)

    def move_rest(self, life: Life, older: Held, newer: Held) -> None:
        """Move what is left of one period's own volume into the next one, at most each limit's cap."""
        limits = newer.package.get("limits") or []
        takers = {limit_id(limit, place): limit for place, limit in enumerate(limits)}
        for place, limit in enumerate(older.package.get("limits") or []):
            name = limit_id(limit, place)
            if limit.get("rollover") is None or name not in takers or takers[name]["type"] != "volume":
                continue
            cap = int(decimal(limit["rollover"]) * older.quantity * self.catalog.services[service_of(limit)])
            used = self.counters.get(counter(life, older, name), 0)
            own_used = max(0, used - older.rolled.get(name, 0))
            moved = min(cap, self.size(older, limit) - own_used)
            if moved > 0:
                older.moved[name] = newer.rolled[name] = moved

    def close(self, life: Life, at: int, why: str, event: str) -> None:
        """Close it at a moment; what it waits for is dropped."""
        life.ended, life.waiting = (at, why), None
        number = life.periods[-1].number if life.periods else 0
        self.event(event, life, number, {})
        self.changed(life, at)

    def withdraw(self, life: Life, at: int) -> None:
        """Take back a period that was renewed in advance and has not begun, with its fees."""
        while life.periods and life.periods[-1].start.ms > at:
            period = life.periods.pop()
            life.withdrawn.append(period)
            self.give_back(life, period, at)

    def give_back(self, life: Life, period: Held, at: int) -> None:
        """Refund all that was charged for a period."""
        paid = [period.paid[kind] for kind in ("activation_fee", "subscription_fee") if kind in period.paid]
        one = refund(paid, period, at) if paid else None
        if one is not None:
            self.publish(life, one)

    def publish(self, life: Life, transaction: Row, among: list[Row] | None = None) -> None:
        """Publish a transaction (among: those of the result, None: of changes) and move its amount."""
        life.published.append(transaction)
        (self.result.transactions if among is None else among).append(transaction)
        self.balances[life.row["client"]] += micros_of(transaction)

    def tell(self, kind: str, life: Life, period: Held) -> None:
        """Tell of a period."""
        self.event(kind, life, period.number, {})

    def event(self, kind: str, life: Life, number: int, data: Row) -> None:
        """Tell of a client package."""
        self.result.events.append(Event(kind, life.row["client"], life.id, number or None, data))

    def rerate(self, life: Life, since: int, until: int) -> None:
        """Tell that calls of a window have to be re-rated."""
        number = life.periods[-1].number if life.periods else 0
        self.event("rerate_needed", life, number, {"from": time_text(since), "to": time_text(until)})

    # --- Calls ----------------------------------------------------------------------------------------

    def rate(self, raw: bytes | None, record_ms: int, lane: int = 0) -> list[Row]:
        """Rate a record: what is due by its calls' time first, then its sides, then what a rise clears."""
        self.result = Result()
        now = self._time(record_ms, lane)
        low = self.low()
        told = record_ms if len(str(record_ms)) == len("1700000000000") else now
        for client, at in self.met(raw, now):
            self.due(client, at if told is None else min(at, told), archive=False)
        self.told = told
        self.result.sides = super().rate(raw, record_ms, lane)
        self.result.transactions += self.result.brought
        self.crossings(low)
        return self.result.sides

    def met(self, raw: bytes | None, now: int | None) -> Iterator[tuple[str, int]]:
        """Yield the client and the call's time of each side that can be read."""
        try:
            record, sides = read_sides(raw)
        except Rejected:
            return
        for side in sides:
            try:
                call = read_call(record, side, now, self.window_ms, self.catalog.services)
                yield identify(self.catalog, call)[0], call.at_ms
            except Rejected:
                continue

    def _side(self, record: Row, side: str, now: int | None, before: dict[str, int]) -> Row:
        """Rate a side, charge the fees that its draws bring, and try again what waits where money came."""
        earlier = dict(self.balances)
        ended = super()._side(record, side, now, before)
        if ended["outcome"] != "transaction":
            return ended
        value = ended["value"]
        at = read_call(record, side, now, self.window_ms, self.catalog.services).at_ms
        client = value["client"]
        for draw in value["draws"]:
            life = self.owners[client].lives[draw["client_package"]]
            period = next(one for one in life.periods if one.number == draw["period"])
            self.charge_on_event(life, period, at)
        owner = self.owners[client]
        moment = max(owner.last_ms, (at if self.told is None else self.told) // 1000 * 1000)
        self.risen(client, earlier[client], moment)
        return ended

    def event_fee(self, life: Life, period: Held, at: int) -> Row | None:
        """Return the fee that a first draw brings at a call's time; None: none, or charged already."""
        if not period.package.get("charge_on_event") or "subscription_fee" in period.paid:
            return None
        client = self.catalog.client(life.row["client"])
        one = fee(self.catalog, life.row, client, period, "subscription", at, self.stop_of(life, period))
        return one and {**one, "package_name": self.catalog.package(life.row["package"])["name"]}

    def charge_on_event(self, life: Life, period: Held, at: int) -> None:
        """Charge a period's fee with its first draw."""
        one = self.event_fee(life, period, at)
        if one is not None:
            period.paid["subscription_fee"] = one
            self.publish(life, one, self.result.brought)

    def _rate(
        self, call: Call, client: str, account: str | None, balance: int, *, repeat: bool
    ) -> tuple[Row, dict[tuple[str, str], int], int]:
        """Rate a side; what it takes of volume that was rolled over is shown apart, first."""
        self.covered, self.chosen = {}, False
        value, taken, micros = super()._rate(call, client, account, balance, repeat=repeat)
        draws: list[Row] = []
        if self.covered:
            value["fee_covered"] = all(self.covered.values())
        for draw in value["draws"]:
            life = self.owners[client].lives[draw["client_package"]]
            period = next(one for one in life.periods if one.number == draw["period"])
            rolled = period.rolled.get(draw["limit"], 0)
            rolled -= self.counters.get(counter(life, period, draw["limit"]), 0)
            first = min(int(draw["taken"]), max(rolled, 0)) if draw["kind"] == "volume" else 0
            if first:
                draws.append({**draw, "taken": str(first), "left": str(rolled - first), "rolled": True})
            if first == 0 or int(draw["taken"]) > first:
                rest = {} if first == 0 else {"taken": str(int(draw["taken"]) - first)}
                draws.append({**draw, **rest})
        return {**value, "draws": draws}, taken, micros

    def _candidates(
        self, call: Call, client: str, account: str | None, rate: Rate, billed: int, cost: Cost
    ) -> list[Candidate]:
        """Return the limits that can apply, in their order: of periods that were opened, and not voided."""
        self.call_ms = call.at_ms
        pays = call.side == "orig" if cost.exact == 0 else cost.exact < 0
        found = []
        for life in self.owners[client].lives.values():
            package = self.catalog.package(life.row["package"])
            if life.row.get("account") not in {None, account}:
                continue
            if package["type"] != ("customer" if pays else "vendor"):
                continue
            held = self.period_at(life, call.at_ms)
            if held is None or not self.catalog.active(life.row["package"], call.at_ms):
                continue
            stop, given = self.stop_of(life, held), Version(0, 0, life.row)
            period = Period(held.number, held.start.ms, stop, held.package, held.quantity,
                            life.periods[0].start.ms, held.start.ms)  # fmt: skip
            for position, limit in enumerate(held.package.get("limits") or []):
                applies = service_of(limit) == call.service and limit_fits(self.catalog, limit, rate.code)
                if applies and billed >= int(limit.get("min_call") or 0):
                    found.append(Candidate(given, package, period, limit, position))
        return sorted(found, key=Candidate.order)

    def period_at(self, life: Life, at: int) -> Held | None:
        """Return the opened period that a moment is in, if the package's start date of today has come."""
        text = self.catalog.package(life.row["package"]).get("start_date")
        if text is not None and at < asked(text, life.grid.zone if life.grid else "UTC").ms:
            return None
        for period in life.periods:
            stop = self.stop_of(life, period)
            if period.start.ms <= at and (stop is None or at < stop) and not period.voided:
                return period
        return None

    def _left(self, one: Candidate) -> int:
        client = one.client_package.row["client"]
        life = self.owners[client].lives[one.client_package.row["id"]]
        held = next(period for period in life.periods if period.number == one.period.number)
        size = self.size(held, one.limit) + held.rolled.get(one.limit_id, 0) - held.moved.get(one.limit_id, 0)
        return size - self.counters.get(one.counter, 0)

    def _fee_covered(self, client: str, one: Candidate) -> bool:
        """Tell if the fee on event that a draw from it would bring is covered, or its package is `allow`.

        Asked in the order of candidates. Behind the one that is chosen, and where nothing is left, it is not
        judged: it decides nothing there.
        """
        if self.chosen or self._left(one) <= 0:
            return True
        life = self.owners[client].lives[one.client_package.row["id"]]
        held = next(period for period in life.periods if period.number == one.period.number)
        brought = self.event_fee(life, held, self.call_ms)
        if brought is not None and deny(one.package):
            needed = -micros_of(brought)
            self.covered[life.id] = needed <= 0 or needed <= self.balances[client] + self.credit(client)
        self.chosen = self.covered.get(life.id, True)
        return self.chosen

    # --- Loads ----------------------------------------------------------------------------------------

    def load(self, file: Row, at_ms: int, version: int = 0) -> None:
        """Take in a valid catalog file: what is due of the clients that it touches, then its rows."""
        self.result = Result()
        low = self.low()
        before_load = deepcopy(self.catalog)
        touched = self.touched(file)
        for client in touched:
            self.due(client, at_ms)
        limits_before = {client: self.credit(client) for client in touched}
        for row in file.get("tax_profiles") or []:
            self.profiles[row["name"]] = [(tax["name"], decimal(tax["percent"])) for tax in row["taxes"]]
        known = set(self.balances)
        super().load(file, at_ms, version)
        for row in file.get("clients") or []:
            self.owners.setdefault(row["id"], Owner())
            if row["id"] not in known and self.balances[row["id"]]:
                self.opening(row["id"])
        self.clients_changed(limits_before, file, at_ms)
        for row in file.get("packages") or []:
            self.package_changed(before_load.packages.get(row["id"]), row, at_ms)
        for row in file.get("client_packages") or []:
            self.put_client_package(row, at_ms)
        for client in [*touched, *dict.fromkeys(row["client"] for row in file.get("client_packages") or [])]:
            self.due(client, at_ms)
        self.crossings(low)

    def clients_changed(self, limits_before: dict[str, int], file: Row, at: int) -> None:
        """Note that clients changed, and try again what waits where a credit limit has risen."""
        rows = {row["id"] for row in file.get("clients") or []}
        for client, credit in limits_before.items():
            if client in rows:
                self.owners[client].last_ms = max(self.owners[client].last_ms, at)
            if self.credit(client) > credit:
                self.retry(client, at)

    def touched(self, file: Row) -> list[str]:
        """Return the clients that a file changes: themselves, their client packages, their packages."""
        rows = [row for row in file.get("clients") or [] if row["id"] in self.owners]
        found = [row["id"] for row in rows if {**row, "accounts": None} != self.kept_row(row["id"])]
        found += [row["client"] for row in file.get("client_packages") or [] if row["client"] in self.owners]
        for row in file.get("packages") or []:
            if row["id"] not in self.catalog.packages:
                continue
            old = self.catalog.package(row["id"])
            if any(old.get(name) != row.get(name) for name in ("status", "start_date", "end_date")):
                found += [
                    client
                    for client, owner in self.owners.items()
                    if any(life.row["package"] == row["id"] for life in owner.lives.values())
                ]
        return list(dict.fromkeys(found))

    def kept_row(self, client: str) -> Row:
        """Return a client's row but for accounts, of which absence deletes none."""
        return {**self.catalog.client(client), "accounts": None}

    def opening(self, client: str) -> None:
        """Tell of a new client's opening balance."""
        self.result.transactions.append({
            "id": f"adjust/{client}/opening", "revision": 1, "type": "adjustment", "client": client,
            "amount": money_text(self.balances[client]),
        })  # fmt: skip

    def package_changed(self, versions: list[Version] | None, row: Row, at: int) -> None:
        """Carry out what an edit of a package means at once: enabled, archived, other dates."""
        if versions is None:
            return
        was, now = (one.get("status") or "active" for one in (versions[-1].row, row))
        for client, owner in self.owners.items():
            lives = [one for one in owner.lives.values() if one.row["package"] == row["id"] and not one.ended]
            lives.sort(key=self.order)
            if now == "archived" and was != "archived":
                for life in lives:
                    balance = self.balances[client]
                    self.cancel(life, at)
                    self.risen(client, balance, at)
            if was == "disabled" and now == "active" and lives:
                self.retry(client, at, row["id"])
            if versions[-1].row.get("end_date") != row.get("end_date"):
                for life in lives:
                    self.end_changed(life, at)
        for client in self.owners:
            if any(life.row["package"] == row["id"] for life in self.owners[client].lives.values()):
                self.due(client, at)

    def put_client_package(self, row: Row, at: int) -> None:
        """Assign a client package of a file, or change the end date of one that is there."""
        owner = self.owners[row["client"]]
        life = owner.lives.get(row["id"])
        if life is None:
            self.assign(row, at)
        elif not life.ended and life.row.get("end_date") != row.get("end_date"):
            life.row = {**life.row, "end_date": row.get("end_date")}
            self.edit_end(life, at)

    def assign(self, row: Row, at: int) -> Life:
        """Add a client package; what is due of it then is done by `due`."""
        zone = self.zone(row["client"])
        dates = [row.get(name) for name in ("start_date", "end_date")]
        start, end = (None if date is None else asked(date, zone) for date in dates)
        life = Life({"quantity": 1, "account": None, **row}, zone, start, end, at, at)
        self.owners[row["client"]].lives[row["id"]] = life
        self.event("assigned", life, 0, {})
        self.changed(life, at)
        return life

    # --- Commands -------------------------------------------------------------------------------------

    def command(self, row: Row, record_ms: int) -> Result:
        """Carry out a command; what is refused or tried (`dry_run`) changes nothing, what is due included."""
        self.result = Result()
        low = self.low()
        at = asked(row["at"], "UTC").ms
        if row["do"] == "tick":
            for client in self.owners:
                self.due(client, min(at, record_ms))
            self.crossings(low)
            return self.result
        if row.get("client") not in self.owners:
            self.result.refused = "client unknown"
            return self.result
        client = str(row["client"])
        owner = self.owners[client]
        if at > record_ms + 60_000:
            self.result.refused = "ahead of its record"
            return self.result
        at = max(at, owner.last_ms)
        content = json.dumps([row["do"], row.get("client_package"), row.get("args")], sort_keys=True)
        if row.get("key") in owner.keys:
            known, done = owner.keys[row["key"]]
            if known == content:
                self.result.done = {**done, "repeated": True}
            else:
                self.result.refused = "another command had this key"
            return self.result
        kept = deepcopy((self.balances[client], owner))
        try:
            self.due(client, at)
            self.result.done = self.carried_out(row, client, at)
            self.due(client, at)
        except Refused as fault:
            self.result = Result(refused=str(fault))
            self.balances[client] = kept[0]
        self.crossings(low)
        if row.get("dry_run") or self.result.refused:
            self.balances[client], self.owners[client] = kept
        elif row.get("key"):
            owner.keys[row["key"]] = (content, self.result.done)
        return self.result

    def carried_out(self, row: Row, client: str, at: int) -> Row:
        """Do what a command says at a moment, before what that makes due."""
        balance = self.balances[client]
        if row["do"] == "adjust":
            self.adjust(row, client, at)
        elif row["do"] == "assign":
            return {"client_package": self.assign_by_command(row, client, at)}
        else:
            life = self.owners[client].lives.get(row.get("client_package") or "")
            if life is None:
                raise Refused("no such client package")
            self.on_life(row, life, at)
        self.risen(client, balance, at)
        return {}

    def on_life(self, row: Row, life: Life, at: int) -> None:
        """Do what a command says to a client package."""
        actions = {
            "stop_now": self.stop_now,
            "stop_at_period_end": self.stop_at_period_end,
            "cancel": self.cancel,
            "remove": self.remove,
            "invoice_pending_charge": self.invoice,
        }
        if row["do"] == "edit_end_date":
            life.row = {**life.row, "end_date": row["args"]["end_date"]}
            self.edit_end(life, at)
        else:
            actions[row["do"]](life, at)

    def adjust(self, row: Row, client: str, at: int) -> None:
        """Move a balance."""
        if row.get("key") == "opening":
            raise Refused("the key of the opening balance")
        amount = half_up(decimal(row["args"]["amount"]) * MICROS)
        self.balances[client] += amount
        self.owners[client].last_ms = max(self.owners[client].last_ms, at)
        self.result.transactions.append({
            "id": f"adjust/{client}/{row['key']}", "revision": 1, "type": "adjustment", "client": client,
            "at": time_text(at), "amount": money_text(amount),
            "currency": self.catalog.client(client)["currency"],
        })  # fmt: skip

    def assign_by_command(self, row: Row, client: str, at: int) -> str:
        """Assign a package, and activate it where it is due; return the id."""
        args, owner = row["args"], self.owners[client]
        package = args.get("package")
        if package not in self.catalog.packages:
            raise Refused("no such package")
        given = {name: args.get(name) for name in ("account", "start_date", "end_date")}
        if given["account"] is not None and self.catalog.owner(given["account"]) != client:
            raise Refused("no such account")
        owner.assigned += 1
        identifier = args.get("id") or f"{client}-{owner.assigned}"
        if identifier in owner.lives or identifier in owner.removed:
            raise Refused("there is one of that id")
        life = self.assign({"id": identifier, "client": client, "package": package, **given,
                            "quantity": args.get("quantity") or 1,
                            "activate_in_past": bool(args.get("activate_in_past"))}, at)  # fmt: skip
        self.check_assignment(life, at)
        return str(identifier)

    def check_assignment(self, life: Life, at: int) -> None:
        """Refuse what cannot be assigned."""
        package = self.package_at(life, at, due=False)
        newest = self.catalog.package(life.row["package"])
        if any((one.get("status") or "active") != "active" for one in (package, newest)):
            raise Refused("the package is not active")
        if package.get("align_to_payment_terms"):
            length, terms = length_of(package.get("period")), self.terms(life.row["client"])
            if not fits(length, terms):
                raise Refused("the package does not fit the payment terms")
        end = self.end_of(life)
        if end is not None and end <= max(one.ms for one in self.starts(life, at)):
            raise Refused("it would end before it begins")

    def stop_now(self, life: Life, at: int) -> None:
        """Void the period that runs, give back all that was charged for it, and close."""
        if self.status(life, at) != "active":
            raise Refused("no period runs")
        self.withdraw(life, at)
        period = life.periods[-1]
        period.voided = True
        self.give_back(life, period, at)
        self.close(life, at, "stopped", "stopped")
        self.rerate(life, period.start.ms, at)

    def stop_at_period_end(self, life: Life, at: int) -> None:
        """Renew no more."""
        if life.ended or not life.periods:
            raise Refused("no period runs")
        if life.last or self.stop_of(life, life.periods[-1]) is None:
            raise Refused("it is stopped then already, or its period has no end")
        pending = self.status(life, at) == "pending"
        self.withdraw(life, at)
        life.last, life.waiting, life.changed_ms = True, None, at
        self.event("stop_scheduled", life, life.periods[-1].number, {})
        self.changed(life, at)
        if pending:
            stop = self.stop_of(life, life.periods[-1])
            self.close(life, at if stop is None else stop, "stopped", "archived")

    def cancel(self, life: Life, at: int) -> None:
        """Close at this moment; nothing of the period that runs is given back."""
        if life.ended:
            raise Refused("it is archived")
        self.withdraw(life, at)
        self.close(life, at, "cancelled", "cancelled")

    def remove(self, life: Life, at: int) -> None:
        """Take it out with all its fees and refunds."""
        if not life.ended:
            raise Refused("it is not archived")
        owner = self.owners[life.row["client"]]
        kinds = ("activation_fee", "subscription_fee", "refund")
        for transaction in sorted(life.published, key=lambda one: (one["period"], kinds.index(one["type"]))):
            self.publish(life, reversal(transaction, at))
        number = life.periods[-1].number if life.periods else 0
        self.event("removed", life, number, {})
        if life.periods:
            self.rerate(life, life.periods[0].start.ms, life.ended[0])
        self.changed(life, at)
        del owner.lives[life.id]
        owner.removed.add(life.id)

    def invoice(self, life: Life, at: int) -> None:
        """Mark a pending charge for the invoice."""
        if life.waiting is None:
            raise Refused("no charge is pending")
        if life.waiting.invoiced:
            raise Refused("it is marked already")
        life.waiting.invoiced = True
        self.event("pending_charge_invoiced", life, life.numbered + 1, {})
        self.changed(life, at)

    def edit_end(self, life: Life, at: int) -> None:
        """Take over the end date of its row, which may not lie before now."""
        if life.ended:
            raise Refused("it is archived")
        text = life.row.get("end_date")
        end = None if text is None else asked(text, self.zone(life.row["client"]))
        if end is not None and end.ms < at:
            raise Refused("the end date is over")
        starts = [life.periods[0].start] if life.periods else self.starts(life, life.assigned_ms)
        first = max(one.ms for one in starts)
        if end is not None and end.ms <= first:
            raise Refused("it would end before it begins")
        life.end = end
        self.event("end_date_changed", life, life.periods[-1].number if life.periods else 0, {})
        self.end_changed(life, at)

    def end_changed(self, life: Life, at: int) -> None:
        """Withdraw a period in advance that would begin at the end, or later."""
        end = self.end_of(life)
        balance = self.balances[life.row["client"]]
        if end is not None and life.periods and life.periods[-1].start.ms >= end:
            self.withdraw(life, at)
        life.changed_ms = at
        self.changed(life, at)
        self.risen(life.row["client"], balance, at)

    # --- Crossings ------------------------------------------------------------------------------------

    def low(self) -> dict[str, bool]:
        """Return of each client whether its balance is low."""
        found = {}
        for client in self.owners:
            mark = self.catalog.client(client).get("low_balance")
            found[client] = mark is not None and self.balances[client] < decimal(mark) * MICROS
        return found

    def crossings(self, before_step: dict[str, bool]) -> None:
        """Tell whose balance is low now and was not before the step, or the reverse."""
        for client, low in self.low().items():
            if low != before_step.get(client, False):
                kind = "low_balance" if low else "balance_restored"
                self.result.events.append(Event(kind, client, None, None, {}))


def deny(package: Row) -> bool:
    """Tell if the package's client-balance rule is `deny`."""
    return (package.get("client_balance") or "deny") == "deny"


def before(package: Row) -> bool:
    """Tell if a package renews in the last second of a period."""
    return package.get("renewal_charge") == "before_period" and not package.get("charge_on_event")


def full(package: Row) -> bool:
    """Tell if a period that is cut costs and grants all."""
    return bool(package.get("full_charge"))


def asked_for(fees: list[Row]) -> Row:
    """Return what a charge is made of: net of each fee, taxes, and all of it, positive = to pay."""
    nets = {kind: -sum(micros_of(one, "net") for one in fees if one["type"] == f"{kind}_fee")
            for kind in ("activation", "subscription")}  # fmt: skip
    total = -sum(map(micros_of, fees))
    parts = {**nets, "tax": total - sum(nets.values()), "total": total}
    return {name: money_text(micros) for name, micros in parts.items()}


def limit_id(limit: Row, place: int) -> str:
    """Return a limit's id: its position where it was given none."""
    return str(limit["id"]) if limit.get("id") is not None else str(place)


def counter(life: Life, period: Held, name: str) -> tuple[str, str]:
    """Return what a counter is named in `counters`."""
    parts = (life.id, str(period.number), name)
    return life.row["client"], ".".join(part.replace("%", "%25").replace(".", "%2E") for part in parts)
