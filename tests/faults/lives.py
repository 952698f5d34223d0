"""Clients whose packages live during a run: fees, periods that stop, too little money, commands.

Periods are of an hour or two, the shortest there are, and began so long ago that their stops fall into the
run, each second some. What a client may do rests on the
beginning of its name (`life_auditor.py` goes by it too):

rich    has money for all, calls, and no command: each boundary is one period
poor    has too little, top-ups by commands, and no calls: what it may not pay it does not have
busy    calls, and all commands: top-ups, assignments, stops, cancels, removals, end dates, repeats
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from faults.rig import BUCKETS, PARTITIONS, Order
from rater.core.bucket.messages import bucket_of

RICH, POOR, BUSY = 30, 30, 30
HOUR_S = 3600
DOING = "stop_now", "stop_at_period_end", "cancel", "remove", "edit_end_date", "invoice_pending_charge"
COMMAND_EVERY = 6
"""Of so many records one is a command."""


def rfc3339(at_s: float) -> str:
    """Return an instant in whole seconds."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at_s))


def fee(kind: str, rate: str) -> dict[str, str]:
    """Return a row of a fee."""
    return {"type": kind, "name": kind.title(), "rate": rate}


def packages() -> list[dict[str, Any]]:
    """Return the packages; a package's fees are charged when it opens, but those of `event`."""
    minutes = {"id": "m", "type": "volume", "service": "calls", "code": "380*"}
    common = {"type": "customer", "currency": "USD", "period": "1 hour"}
    return [
        {**common, "id": "hourly", "name": "Hourly", "limits": [{**minutes, "limit": 30}],
         "fees": [fee("activation", "0.5"), fee("subscription", "1")]},
        {**common, "id": "event", "name": "Charged on event", "charge_on_event": True, "priority": 5,
         "limits": [{**minutes, "limit": 12}], "fees": [fee("subscription", "0.3")]},
        {**common, "id": "ahead", "name": "Renewed ahead", "period": "2 hours", "advance_renew": "1 hour",
         "priority": 9, "limits": [{**minutes, "limit": 5}], "fees": [fee("subscription", "0.7")]},
        {**common, "id": "before", "name": "Paid before", "renewal_charge": "before_period",
         "client_balance": "allow", "fees": [fee("subscription", "0.2"), fee("subscription", "0.05")]},
    ]  # fmt: skip


def catalog(seed: int, run_s: float) -> bytes:
    """Return the catalog: the periods' stops are spread over so many seconds from now."""
    rng = random.Random(seed)  # noqa: S311 - the same again, but for the time
    now = int(time.time())
    counts = {"rich": RICH, "poor": POOR, "busy": BUSY}
    names = [f"{kind}{n}" for kind, count in counts.items() for n in range(count)]
    balances = {"rich": ("1000",), "poor": ("0.4", "1.6", "2.6"), "busy": ("5", "0.2")}
    held = {
        "rich": ("hourly", "event", "ahead", "before"),
        "poor": ("hourly", "ahead"),
        "busy": ("hourly", "event", "ahead"),
    }
    return json.dumps({
        "currencies": {"base": "USD"},
        "tax_profiles": [{"name": "vat", "taxes": [{"name": "VAT", "percent": "20"}]}],
        "rate_tables": [{"name": "retail", "currency": "USD", "rates": [
            {"code": "380", "price": "0.10", "setup_fee": "0.05", "min_time": 60, "interval": 60},
            {"code": "38044", "price": "0.06"}]}],
        "packages": packages(),
        "clients": [
            {"id": name, "name": name, "currency": "USD", "time_zone": "UTC",
             "balance": rng.choice(balances[name[:4]]),
             "rate_tables": {"orig": {"calls": "retail"}, "term": {"calls": "retail"}},
             "tax_profile": "vat" if name.startswith("rich") else None}
            for name in names
        ],
        "client_packages": [
            {"id": f"{name}-{package}", "client": name, "package": package, "activate_in_past": True,
             "start_date": rfc3339(now - rng.randrange(1, 4) * HOUR_S + rng.randrange(int(run_s)))}
            for name in names for package in held[name[:4]]
        ],
    }).encode()  # fmt: skip


def calls(rng: random.Random, seed: int) -> Iterator[bytes]:
    """Yield CDRs of rich and busy clients, of the last hour; 3 % come again."""
    sent: list[bytes] = []
    number = 0
    while True:
        number += 1
        if sent and rng.random() < 0.03:
            yield rng.choice(sent[-300:])
            continue
        client = f"rich{rng.randrange(RICH)}" if rng.random() < 0.6 else f"busy{rng.randrange(BUSY)}"
        cdr: dict[str, Any] = {
            "id": f"{seed}-{number}", "called": rng.choice(["380501234567", "380441234567"]),
            "answered_at": rfc3339(time.time() - rng.choice((rng.randrange(120), rng.randrange(HOUR_S)))),
            "duration_ms": rng.randrange(1, 200_000), "orig": {"client": client},
        }  # fmt: skip
        if rng.random() < 0.1:
            cdr["term"] = {"client": f"busy{rng.randrange(BUSY)}"}
        sent.append(json.dumps(cdr).encode())
        yield sent[-1]


@dataclass
class Commands:
    """Commands without end; what was assigned is stopped, cancelled and removed by and by."""

    rng: random.Random
    count: int = 0

    def __post_init__(self) -> None:
        """Know what the catalog assigned to busy clients."""
        self.held = {
            f"busy{n}": [f"busy{n}-{one}" for one in ("hourly", "event", "ahead")] for n in range(BUSY)
        }
        self.sent: list[dict[str, Any]] = []
        self.closed: list[dict[str, Any]] = []

    def next(self) -> Order:
        """Return a command, or one that was sent, again under its key with another id."""
        rng = self.rng
        self.count += 1
        if self.sent and rng.random() < 0.1:
            command = dict(rng.choice(self.sent[-60:]))
            if command["do"] == "adjust" and rng.random() < 0.3:  # another content under the key
                command["args"] = {"amount": "77"}
        else:
            command = self._new()
            command["key"] = f"k{self.count}"
            self.sent.append(command)
        command |= {"id": f"order-{self.count}", "at": rfc3339(time.time()), "actor": "faults"}
        return order(command)

    def _new(self) -> dict[str, Any]:
        rng = self.rng
        if rng.random() < 0.4:
            client = f"poor{rng.randrange(POOR)}"
            return {"do": "adjust", "client": client, "args": {"amount": rng.choice(("0.3", "1", "2.5"))}}
        client = f"busy{rng.randrange(BUSY)}"
        dice = rng.random()
        if dice < 0.25:
            amount = rng.choice(("2", "0.5", "-0.4", "4"))
            return {"do": "adjust", "client": client, "args": {"amount": amount}}
        if dice < 0.5:
            args: dict[str, Any] = {"package": rng.choice(("hourly", "event", "ahead"))}
            if rng.random() < 0.5:
                args |= {
                    "start_date": rfc3339(time.time() - rng.randrange(2 * HOUR_S)),
                    "activate_in_past": True,
                }
            if rng.random() < 0.7:
                args["id"] = f"{client}-a{self.count}"
                self.held[client].append(args["id"])
            if rng.random() < 0.2:
                args["quantity"] = 2
            return {"do": "assign", "client": client, "args": args}
        if self.closed and rng.random() < 0.4:
            return {**self.closed.pop(), "do": "remove"}
        held = self.held[client]
        at = rng.randrange(len(held))
        do = rng.choice(DOING)
        fields = {"do": do, "client": client, "client_package": held[at]}
        if do == "edit_end_date":
            end = rng.choice((None, rfc3339(time.time() + rng.randrange(1, 40))))
            return {**fields, "args": {"end_date": end}}
        if do in ("stop_now", "cancel"):
            self.closed.append(fields)
        return fields


def order(command: dict[str, Any]) -> Order:
    """Return a command with the lane that it goes to."""
    return Order(json.dumps(command).encode(), bucket_of(command["client"], BUCKETS) % PARTITIONS)


def traffic(seed: int) -> Iterator[bytes | Order]:
    """Yield calls and commands without end."""
    rng = random.Random(seed)  # noqa: S311 - traffic
    commands = Commands(rng)
    for raw in calls(rng, seed):
        yield raw
        if rng.randrange(COMMAND_EVERY) == 0:
            yield commands.next()
