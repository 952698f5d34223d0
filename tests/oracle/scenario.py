"""Catalogs and calls from a seed: what real backlogs mix in one batch, and what repeats in them.

Three styles are drawn by the seed: calls that are mixed, runs of calls that are alike (faults of memos need
alike neighbours, and mixed ones alone miss them), and the smallest shapes of faults that were seen, with
other numbers.
The same seed gives the same scenario on every machine. What the rules are: RULES.md, CONTRACTS.md.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any
from zlib import crc32
from zoneinfo import ZoneInfo

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS


@dataclass(frozen=True)
class LoadStep:
    """A catalog file that is loaded. at_ms: the load's now, whole seconds; file: a decoded JSON object."""

    at_ms: int
    file: dict[str, Any]


@dataclass(frozen=True)
class RecordStep:
    """A record: its timestamp and its bytes. lane_hint: its lane where there are several."""

    record_ms: int
    raw: bytes
    lane_hint: int


Step = LoadStep | RecordStep


@dataclass(frozen=True)
class Scenario:
    """Loads and records in their order, and the duplicate window that holds for them."""

    seed: int
    steps: tuple[Step, ...]
    window_days: int = 7


DECK = {
    "380": "Ukraine",
    "38044": "Ukraine Kiev",
    "38050": "Ukraine Mobile",
    "38067": "Ukraine Mobile",
    "1": "USA",
    "1201": "USA New Jersey",
    "1212": "USA New York",
    "44": "UK",
    "447": "UK Mobile",
}
NUMBERS = ("38044", "38050", "38067", "380", "1201", "1212", "1", "447", "44")
PATTERNS = (
    "380*",
    "38044",
    "38050*",
    "3805*",
    "*",
    "1*",
    "1201",
    "12*",
    "44*",
    "447",
    "38*",
    "3*",
    "380",
    "1",
)
PRICES = ("0.06", "0.10", "0.60", "0.0333333333", "1", "0.0000001", "2.5", "0.0123456789", "0")
ZONES = (
    "UTC",
    "Europe/Kyiv",
    "Europe/London",
    "America/New_York",
    "Australia/Lord_Howe",
    "Africa/Cairo",
    "Asia/Kolkata",
    "America/Santiago",
    "Pacific/Auckland",
)
MOMENTS = (
    "2026-03-29T03:00:00Z",
    "2026-10-25T04:00:00Z",
    "2026-11-01T09:00:00Z",
    "2026-04-05T12:00:00Z",
    "2026-03-01T00:30:00Z",
    "2027-01-01T02:00:00Z",
    "2026-11-27T10:00:00Z",
    "2026-03-08T10:00:00Z",
    "2028-02-29T12:00:00Z",
    "2026-05-01T00:00:00Z",
    "2026-09-06T06:00:00Z",
)
"""Changes of clocks, ends of months and years, and a plain day."""
CLOCKS = (
    ("2026-10-25T01:00:00Z", "Europe/Kyiv"),
    ("2026-03-29T01:00:00Z", "Europe/London"),
    ("2026-11-01T06:00:00Z", "America/New_York"),
    ("2026-03-08T07:00:00Z", "America/New_York"),
    ("2026-04-04T15:00:00Z", "Australia/Lord_Howe"),
    ("2026-10-29T21:00:00Z", "Africa/Cairo"),
)
"""Changes of clocks and whose."""
PERIODS = (
    "1 hour",
    "6 hours",
    "1 day",
    "1 day",
    "1 day",
    "2 days",
    "1 month",
    "1 month",
    "3 months",
    "1 year",
    None,
)

Row = dict[str, Any]


def is_time(record_ms: int) -> bool:
    """Return whether a record's timestamp is one: in ms, of this century."""
    return 10**12 <= record_ms < 10**13


def ms(text: str) -> int:
    """Return the ms since 1970 of an RFC 3339 text."""
    return int(datetime.fromisoformat(text).timestamp()) * 1000


def rfc3339(at_ms: int, zone: str = "UTC") -> str:
    """Return an instant with milliseconds, as UTC or with the zone's offset."""
    at = datetime.fromtimestamp(at_ms // 1000, UTC) + timedelta(milliseconds=at_ms % 1000)
    text = at.astimezone(ZoneInfo(zone)).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")


def second(at_ms: int) -> str:
    """Return an instant of whole seconds, as catalogs have them."""
    return datetime.fromtimestamp(at_ms // 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def day(at_ms: int) -> str:
    """Return the date in UTC."""
    return datetime.fromtimestamp(at_ms // 1000, UTC).strftime("%Y-%m-%d")


class _Maker:
    """A scenario in the making: what is loaded so far, and the time."""

    def __init__(self, seed: int, size: int | None) -> None:
        self.rng = rng = Random(f"scenario {seed}")  # noqa: S311 - the same again
        self.seed = seed
        self.style = rng.choices(("mixed", "runs", "smallest"), (42, 42, 16))[0]
        self.size = size or (rng.randrange(200, 600) if rng.random() < 0.03 else rng.randrange(20, 61))
        self.window_days = rng.choice((7, 7, 7, 30, 100))
        self.now = ms(rng.choice(MOMENTS)) + rng.randrange(-2 * DAY_MS, 3 * DAY_MS)
        self.steps: list[Step] = []
        self.tables: dict[str, Row] = {}
        self.packages: dict[str, Row] = {}
        self.clients: dict[str, Row] = {}
        self.held: dict[str, Row] = {}
        """Client packages by id, as their rows."""
        self.starts: dict[str, int] = {}
        """A client package's first start, at the latest."""
        self.rules: list[Row] = []
        self.file: dict[str, Any] = {}
        self.numbers = {"client": 0, "package": 0, "held": 0, "call": 0, "account": 0}
        self.sent: list[tuple[bytes, Row]] = []
        self.many = rng.random() < 0.35
        """Whether the first client has more than 4, 16 or 64 limits."""
        self.accounts_many = rng.random() < 0.2
        self.keyed = rng.random() < 0.6
        self.backlog_ms = rng.choice((0, HOUR_MS, DAY_MS, self.window_days * DAY_MS - 3 * HOUR_MS))
        """How far calls lie before their records."""
        self.bad = rng.choice((0.0, 0.02, 0.15))
        self.again = rng.choice((0.0, 0.05, 0.2))
        self.overlong = rng.random() < 0.05
        self.poor = rng.random() < 0.2
        """Whether balances are about 0, and packages ask for them."""
        self.edges: list[int] = []
        """Instants at which something begins or ends."""
        self.stamps = Random(f"stamps {seed}")  # noqa: S311 - the same again
        self.undated = self.stamps.choice((0.0, 0.0, 0.0, 0.3))
        """How many records have no time, or one in another unit."""
        self.zone: str | None = None
        if rng.random() < 0.15:  # calls around a change of clocks, of clients whose periods begin then
            change, self.zone = rng.choice(CLOCKS)
            self.edges.append(ms(change))
            self.now = ms(change) + rng.randrange(3 * HOUR_MS)
            self.backlog_ms = 3 * HOUR_MS
        elif rng.random() < 0.15:  # the lane's time goes over to another generation of duplicates
            length = self.window_days * DAY_MS + HOUR_MS
            self.now += length - self.now % length - rng.randrange(30_000)
            self.again = 0.2
        self.common = self.now // HOUR_MS * HOUR_MS - rng.choice((1, 2, 5, 31)) * DAY_MS
        """When many client packages begin."""
        self.large = rng.random() < 0.1

    def number(self, kind: str) -> int:
        self.numbers[kind] += 1
        return self.numbers[kind]

    def made(self) -> Scenario:
        if self.style == "smallest":
            self.rng.choice(_SMALLEST)(self)
        else:
            self.first_load()
            loads = self.rng.choices((0, 1, 2, 3, 4), (25, 30, 20, 15, 10))[0]
            every = max(1, self.size // (loads + 1))
            while len(self.sent) < self.size:
                if loads and len(self.sent) >= every * (self.loads() + 0):
                    if self.loads() <= loads:
                        self.edit()
                    else:
                        loads = 0
                if self.style == "runs":
                    self.run()
                else:
                    self.one()
        return Scenario(self.seed, tuple(self.steps), self.window_days)

    def loads(self) -> int:
        return sum(isinstance(step, LoadStep) for step in self.steps)

    # ------------------------------------------------------------------ time and steps
    def load(self) -> None:
        """Load what was put into the file."""
        self.now = self.whole()
        self.edges.append(self.now)
        if self.file:
            # Loads and records in one second would be in an order that nothing tells.
            self.steps.append(LoadStep(self.now, json.loads(json.dumps(self.file))))
        self.file = {}
        self.now += 1000

    def whole(self) -> int:
        """Return the next whole second: the instant of a load that follows."""
        times = (step.record_ms for step in self.steps if isinstance(step, RecordStep))
        latest = max(filter(is_time, times), default=0)
        return -(-max(self.now, latest) // 1000) * 1000

    def send(self, raw: bytes, lane_key: str, call: Row | None = None) -> None:
        """Send a record; its timestamp rises mostly, as those of several producers do."""
        rng = self.rng
        record_ms = self.now
        if rng.random() < 0.1:
            record_ms = max(self.now - rng.randrange(2000), self.floor())
        lane = crc32(lane_key.encode()) % 2 if self.keyed else rng.randrange(2)
        if self.stamps.random() < self.undated:
            record_ms = self.stamps.choice((-1, record_ms // 1000, record_ms * 1000))
        self.steps.append(RecordStep(record_ms, raw, lane))
        self.sent.append((raw, call or {}))
        self.now += (
            rng.choice((1, 1, 20, 1000, 1000, 60_000)) if rng.random() < 0.97 else rng.randrange(DAY_MS)
        )

    def floor(self) -> int:
        """Return the time of the last load: records that follow it are not before it."""
        return max(step.at_ms for step in self.steps if isinstance(step, LoadStep))

    def put(self, section: str, row: Row) -> Row:
        """Put a row into the file, in place of an earlier one of it."""
        key = "name" if section == "rate_tables" else "id"
        rows = self.file.setdefault(section, [])
        rows[:] = [one for one in rows if one[key] != row[key]]
        rows.append(row)
        return row

    # ------------------------------------------------------------------ the catalog
    def first_load(self) -> None:
        rng = self.rng
        first_gbp = self.now + rng.choice((-400, -400, -10, 1, 30)) * DAY_MS
        self.file["currencies"] = {
            "base": "USD",
            "rates": {
                "EUR": "1.08",
                "GBP": [{"rate": "1.27", "from": day(first_gbp)}],
                "JPY": [
                    {"rate": "0.0067", "from": "2020-01-01"},
                    {"rate": "0.0071", "from": second(self.now - DAY_MS)},
                ],
            },
        }
        self.file["code_decks"] = [{"name": "a-z", "codes": DECK}]
        self.file["services"] = [{"name": "sms_mt", "unit": "piece", "price_unit": 1}]
        for name in ("retail", "carrier", "euro", "odd"):
            self.table(name)
        for _ in range(rng.randrange(1, 7)):
            self.package()
        for _ in range(rng.choice((1, 2, 3, 3, 5, 8))):
            self.client()
        for _ in range(rng.randrange(0, 4)):
            self.rule()
        self.load()

    def table(self, name: str) -> Row:
        rng = self.rng
        currency = {"retail": "USD", "euro": "EUR", "odd": rng.choice(("GBP", "JPY", "USD"))}.get(name, "USD")
        if name in self.tables:
            currency = rng.choice((currency, "USD", "EUR"))
        rates = []
        for code in sorted(DECK):
            if rng.random() < (0.2 if len(code) > 3 else 0.05):
                continue
            rates.append(self.rate(code))
            if rng.random() < 0.15:
                cut = self.now - rng.randrange(-2, 6) * DAY_MS
                self.edges.append(cut // 1000 * 1000)
                rates[-1]["effective_to"] = second(cut)
                if rng.random() < 0.7:
                    rates.append({**self.rate(code), "effective_from": second(cut - rng.choice((0, DAY_MS)))})
        row = {"name": name, "currency": currency, "rates": rates}
        if rng.random() < 0.8:
            row["code_deck"] = "a-z"
        self.tables[name] = row
        return self.put("rate_tables", row)

    def rate(self, code: str) -> Row:
        rng = self.rng
        row: Row = {"code": code, "price": rng.choice(PRICES)}
        if rng.random() < 0.12:
            row["price"] = "-" + rng.choice(PRICES[:4])
        if self.large and rng.random() < 0.1:
            row["price"] = rng.choice(("900000000", "899999999.9999999999"))
        if rng.random() < 0.3:
            row["setup_fee"] = rng.choice(("0.05", "0.01", "0.0000007", "-0.02", "1.23456789"))
        if rng.random() < 0.6:
            row["interval"] = rng.choice((1, 6, 60))
            row["min_time"] = rng.choice((0, 1, 30, 60))
        if rng.random() < 0.15:
            row["grace_time"] = rng.choice((3, 5, 60))
        return row

    def limit(self, number: int, currency: str) -> Row:
        rng = self.rng
        row: Row = {
            "id": rng.choice((f"m{number}", f"m{number}", f"a.{number}", f"{number}%")),
            "service": "calls",
        }
        if rng.random() < 0.08:
            row["service"] = rng.choice(("sms_mt", "data", "messages"))
        if rng.random() < 0.7:
            row["type"] = "volume"
            row["limit"] = rng.choice((1, 1, 2, 5, 10, 30, 300, "0.5", "1.05"))
            if row["service"] == "data":
                row["limit"] = rng.choice((1, 3))
            elif row["service"] != "calls":
                row["limit"] = rng.choice((1, 3, 10))
            if rng.random() < 0.15:
                row["per_call_max"] = rng.choice((6, 30, 60, 61, 3600))
        else:
            row["type"] = "money"
            row["limit"] = rng.choice(("0.05", "0.10", "1.00", "2", "0.333333", "50", "0.000001"))
        if rng.random() < 0.2:
            row["code_deck"], row["code_name"] = (
                "a-z",
                rng.choice(("Ukraine Mobile", "Ukraine", "USA New Jersey")),
            )
        else:
            row["code"] = rng.choice(PATTERNS)
            if rng.random() < 0.15:
                row["exclude"] = rng.sample(PATTERNS[:4] + PATTERNS[5:], rng.randrange(1, 3))
        if rng.random() < 0.12:
            row["min_call"] = rng.choice((6, 30, 61, 300))
        del currency
        return row

    def package(self, **fixed: Any) -> Row:
        rng = self.rng
        identity = str(self.number("package"))
        currency = rng.choice(("USD", "USD", "USD", "EUR", "JPY", "GBP"))
        limits = rng.choice((1, 1, 2, 3, 5, 6))
        if self.many and self.numbers["package"] <= 2:
            limits = rng.choice((5, 9, 18, 40, 70))
        alike = rng.choice(PATTERNS) if rng.random() < 0.4 else None
        row: Row = {
            "id": identity,
            "name": f"Package {identity}",
            "type": "vendor" if rng.random() < 0.2 else "customer",
            "currency": currency,
            "period": rng.choice(PERIODS),
            "limits": [self.limit(number, currency) for number in range(limits)],
        }
        if alike is not None:  # many limits for one call
            for one in row["limits"]:
                if "code" in one:
                    one["code"] = alike
        self.settings(row)
        row.update(fixed)
        self.packages[identity] = row
        return self.put("packages", row)

    def settings(self, row: Row) -> None:
        """Draw the settings that each call reads as they are now."""
        rng = self.rng
        if rng.random() < 0.4:
            row["priority"] = rng.choice((-1, 0, 1, 2, 9))
        if rng.random() < 0.3:
            row["dynamic_tag"] = rng.choice(("promo", 'a "quoted" one', "ö", None))
        if rng.random() < 0.3:
            row["setup_fee"] = rng.choice(("charge", "dont_charge"))
        if rng.random() < (0.8 if self.poor else 0.3):
            row["client_balance"] = rng.choice(("allow", "allow", "deny"))

    def client(self, **fixed: Any) -> Row:
        rng = self.rng
        identity = str(40 + self.number("client"))
        accounts = rng.choice((0, 1, 2, 3, 5))
        if self.accounts_many and self.numbers["client"] == 1:
            accounts = rng.choice((65, 80, 110))
        row: Row = {
            "id": identity,
            "currency": rng.choice(("USD", "USD", "USD", "EUR", "JPY")),
            "time_zone": rng.choice(ZONES),
            "balance": rng.choice(("0", "50.00", "1000", "0.10", "-3")),
            "credit_limit": rng.choice(("0", "0", "5", "0.5")),
            "rate_tables": self.own_tables(),
            "accounts": [self.account() for _ in range(accounts)],
        }
        if self.zone and rng.random() < 0.8:
            row["time_zone"] = self.zone
        if self.poor:
            row["balance"] = rng.choice(("0", "0.05", "0.10", "-0.05"))
            row["credit_limit"] = rng.choice(("0", "0", "0.05"))
        if self.large and rng.random() < 0.3:
            row["balance"] = rng.choice(("9007199254", "-9007199254", "9007199254.740992"))
        row.update(fixed)
        self.clients[identity] = row
        self.put("clients", row)
        many = self.many and self.numbers["client"] == 1
        for _ in range(rng.randrange(3, 12) if many else rng.randrange(4)):
            self.hold(identity)
        return row

    def own_tables(self) -> Row:
        rng = self.rng
        tables: Row = {"orig": {"calls": rng.choice(("retail", "retail", "euro", "odd"))}}
        if rng.random() < 0.75:
            tables["term"] = {"calls": rng.choice(("carrier", "carrier", "euro"))}
        if rng.random() < 0.3:
            tables["orig"]["sms_mt"] = "retail"
        if rng.random() < 0.2:
            tables["orig"]["data"] = "carrier"
        return tables

    def account(self) -> Row:
        rng = self.rng
        row: Row = {"id": f"sip-{1000 + self.number('account')}"}
        if rng.random() < 0.15:
            row["rate_tables"] = {"orig": {"calls": rng.choice(("euro", "carrier"))}}
        return row

    def open_packages(self) -> list[Row]:
        """Return packages that can be assigned now."""
        return [
            row
            for row in self.packages.values()
            if row.get("status", "active") == "active"
            and (row.get("end_date") is None or ms(row["end_date"]) > self.whole() + 3 * DAY_MS)
            and (row.get("start_date") is None or ms(row["start_date"]) < self.whole())
        ]

    def hold(self, client: str, **fixed: Any) -> Row | None:
        """Assign a package to a client, mostly from before its calls on."""
        rng, at = self.rng, self.whole()
        packages = self.open_packages()
        if not packages and "package" not in fixed:
            return None
        package = self.packages[fixed["package"]] if "package" in fixed else rng.choice(packages)
        number = self.number("held")
        row: Row = {
            "id": f"{number}" if rng.random() < 0.9 else f"cp.{number}",
            "client": client,
            "package": package["id"],
        }
        accounts = self.clients[client]["accounts"]
        if accounts and rng.random() < 0.2:
            row["account"] = rng.choice(accounts)["id"]
        if rng.random() < 0.2:
            row["quantity"] = rng.choice((2, 3))
        start = self.begin(row, package)
        if package.get("start_date"):
            start = max(start, ms(package["start_date"]))
        if rng.random() < 0.15:
            end = max(start, at if rng.random() < 0.5 else 0) + rng.choice((2, 3, 40)) * DAY_MS
            row["end_date"] = rng.choice((second, day))(end)
            self.edges.append(end // 1000 * 1000)
        row.update(fixed)
        self.held[row["id"]] = row
        self.starts[row["id"]] = start + DAY_MS
        self.edges += [start, start + 31 * DAY_MS, *(start + n * DAY_MS for n in (1, 5, 7, 8, 9))]
        return self.put("client_packages", row)

    def begin(self, row: Row, package: Row) -> int:
        """Draw when a client package begins; returns it in ms."""
        rng, at = self.rng, self.whole()
        start = at
        if rng.random() < 0.8:
            days = rng.choice((0, 1, self.window_days, self.window_days + 2, 31, 95))
            if "hour" in (package["period"] or ""):
                days = min(days, 12)
            start = at - days * DAY_MS - rng.randrange(DAY_MS) // 1000 * 1000
            if self.zone and "hour" not in (package["period"] or ""):
                start = self.edges[0] - rng.randrange(1, 9) * DAY_MS + rng.randrange(-60, 61) * 60_000
            elif rng.random() < 0.4 and "hour" not in (package["period"] or ""):
                start = self.common
            row["start_date"] = rng.choice((second, day))(start)
            row["activate_in_past"] = rng.random() < 0.9
            if not row["activate_in_past"]:
                start = at
        elif rng.random() < 0.3:
            start = at + rng.randrange(DAY_MS) // 1000 * 1000
            row["start_date"] = second(start)
        return start

    def rule(self) -> None:
        rng = self.rng
        client = rng.choice(list(self.clients))
        row: Row = {"side": rng.choice(("orig", "term")), "client": client}
        row.update(
            rng.choice(
                (
                    {"gateway": f"gw-{rng.randrange(3)}"},
                    {"ip": "203.0.113.0/24"},
                    {"ip": "203.0.113.7"},
                    {"login": f"u{rng.randrange(2)}"},
                    {"caller_prefix": "1415"},
                    {"gateway": "gw-1", "caller_prefix": "14"},
                )
            )
        )
        accounts = self.clients[client]["accounts"]
        if accounts and rng.random() < 0.4:
            row["account"] = rng.choice(accounts)["id"]
        conditions = {name: value for name, value in row.items() if name not in ("client", "account")}
        rules = self.file.setdefault("identification", [])
        same = [
            one
            for one in rules
            if {k: v for k, v in one.items() if k not in ("client", "account")} == conditions
        ]
        if not same:
            rules.append(row)
            self.rules.append(row)

    # ------------------------------------------------------------------ loads in the middle
    def edit(self) -> None:
        """Load some changes."""
        self.now = self.whole()
        kinds: list[Callable[[], object]] = [
            self.edit_package,
            self.edit_package,
            self.edit_package,
            self.new_hold,
            self.end,
            self.swap,
            self.swap,
            self.client,
            self.edit_client,
            self.edit_client,
            self.edit_table,
            self.edit_currency,
            self.rule,
        ]
        for kind in self.rng.sample(kinds, self.rng.randrange(1, 5)):
            kind()
        self.load()

    def edit_package(self) -> None:  # noqa: C901, PLR0912 - a list of kinds
        rng, at = self.rng, self.whole()
        # What this load assigns has to be assignable as the load has it.
        assigned = {one["package"] for one in self.file.get("client_packages", ())}
        rows = [
            row
            for row in self.packages.values()
            if row.get("status") != "archived" and row["id"] not in assigned
        ]
        if not rows:
            return
        row = json.loads(json.dumps(rng.choice(rows)))
        for _ in range(rng.randrange(1, 4)):
            match rng.randrange(9):
                case 0 | 1:
                    one = rng.choice(row["limits"])
                    if one["type"] == "money":
                        one["limit"] = rng.choice(("0.07", "3", "0.5"))
                    else:
                        one["limit"] = rng.choice((1, 3, 7, 40))
                case 2:
                    row["limits"].append(
                        self.limit(100 + at // 1000 % 1000 + len(row["limits"]), row["currency"])
                    )
                case 3 if len(row["limits"]) > 1:
                    del row["limits"][rng.randrange(len(row["limits"]))]
                case 4:
                    row["period"] = rng.choice(PERIODS)
                case 5:
                    row["name"] += "'"
                case 6:
                    row["status"] = rng.choice(("active", "disabled", "disabled", "archived"))
                case 7:
                    self.dates(row)
                case _:
                    self.settings(row)
        if len({one["id"] for one in row["limits"]}) < len(row["limits"]):
            return
        self.packages[row["id"]] = row
        self.put("packages", row)

    def dates(self, row: Row) -> None:
        """Change the dates of a package."""
        rng, at = self.rng, self.whole()
        row["end_date"] = rng.choice(
            (None, second(at), second(at + DAY_MS), day(at + 3 * DAY_MS), second(at - DAY_MS))
        )
        row["start_date"] = rng.choice((None, None, second(at - 9 * DAY_MS), day(at - 40 * DAY_MS)))

    def new_hold(self) -> None:
        self.hold(self.rng.choice(list(self.clients)))

    def unended(self) -> list[Row]:
        """Return client packages whose end date can be changed now."""
        at = self.whole()
        fresh = {one["id"] for one in self.file.get("client_packages", ())}
        return [
            row
            for row in self.held.values()
            if row["id"] not in fresh
            and (row.get("end_date") is None or ms(row["end_date"]) > at + DAY_MS)
            and self.packages[row["package"]].get("status") != "archived"
        ]

    def end(self) -> None:
        """Change an end date."""
        rng, at = self.rng, self.whole()
        rows = [row for row in self.unended() if self.starts[row["id"]] < at]
        if rows:
            row = rng.choice(rows)
            end = rng.choice((None, second(at), second(at + HOUR_MS), day(at + 2 * DAY_MS)))
            self.held[row["id"]] = self.put("client_packages", {**row, "end_date": end})

    def swap(self) -> None:
        """End a client package now and begin another of a new package in its place."""
        rng, at = self.rng, self.whole()
        rows = [row for row in self.unended() if self.starts[row["id"]] < at]
        if not rows:
            return
        row = rng.choice(rows)
        old = self.packages[row["package"]]
        new = self.package(type=old["type"], currency=old["currency"], limits=old["limits"])
        self.held[row["id"]] = self.put("client_packages", {**row, "end_date": second(at)})
        fixed = {
            "package": new["id"],
            "start_date": second(at),
            "activate_in_past": rng.random() < 0.5,
            "end_date": None,
        }
        self.hold(row["client"], **fixed)

    def edit_client(self) -> None:
        rng = self.rng
        row = json.loads(json.dumps(rng.choice(list(self.clients.values()))))
        for _ in range(rng.randrange(1, 3)):
            match rng.randrange(-1, 5):
                case -1 | 0:
                    row["time_zone"] = rng.choice(ZONES)
                case 1:
                    row["credit_limit"] = rng.choice(("0", "10", "0.01", "3"))
                case 2:
                    row["rate_tables"] = self.own_tables()
                case 3:
                    row["accounts"].append(self.account())
                case _ if row["accounts"]:
                    rng.choice(row["accounts"])["rate_tables"] = {
                        "orig": {"calls": rng.choice(("euro", "retail"))}
                    }
        self.clients[row["id"]] = row
        self.put("clients", row)

    def edit_table(self) -> None:
        self.table(self.rng.choice(list(self.tables)))

    def edit_currency(self) -> None:
        rng, at = self.rng, self.whole()
        rates = rng.choice(
            (
                {"EUR": "1.11"},
                {"GBP": "1.3"},
                {"GBP": [{"rate": "1.31", "from": day(at - DAY_MS)}]},
                {
                    "JPY": [
                        {"rate": "0.0069", "from": day(at - 90 * DAY_MS)},
                        {"rate": "0.008", "from": second(at)},
                    ]
                },
            )
        )
        self.file["currencies"] = {"rates": rates}

    # ------------------------------------------------------------------ calls
    def one(self) -> None:
        """Send one call of whatever kind."""
        rng = self.rng
        draw = rng.random()
        if draw < self.bad:
            self.wrong()
        elif draw < self.bad + self.again and self.sent:
            self.repeat()
        else:
            self.send_call(self.call())

    def run(self) -> None:
        """Send calls that are alike: one client, one number, durations and steps that repeat."""
        rng = self.rng
        client = rng.choice(list(self.clients)) if rng.random() < 0.6 else next(iter(self.clients))
        number, seconds = rng.choice(NUMBERS) + "1234567", rng.choice((6, 30, 60, 61, 120, 300))
        accounts = [one["id"] for one in self.clients[client]["accounts"]]
        step = rng.choice((0, HOUR_MS, DAY_MS, DAY_MS, DAY_MS, 31 * DAY_MS))
        count = rng.randrange(3, min(30, max(4, self.size)))
        if accounts and self.accounts_many and rng.random() < 0.5:
            count = len(accounts) + rng.randrange(3)
        # As far back as the window allows: then each step is another period.
        most = max(0, self.window_days * DAY_MS - 3 * HOUR_MS)
        first = min(step * count, most) if step else self.backlog_ms
        side = "term" if rng.random() < 0.15 else "orig"
        for n in range(count):
            back = max(0, first - (n if rng.random() < 0.95 else rng.randrange(count)) * step)
            account = accounts[n % len(accounts)] if accounts and rng.random() < 0.5 else None
            self.send_call(
                self.call(
                    client=client, number=number, seconds=seconds, back=back, account=account, side=side
                )
            )
            if rng.random() < self.bad / 2:
                self.wrong()
            if rng.random() < self.again / 2:
                self.repeat()

    def send_call(self, call: Row) -> None:
        side = call.get("orig") or call.get("term") or {}
        key = side.get("client") or side.get("account") or "none"
        self.send(json.dumps(call).encode(), key, call)

    def call(
        self,
        *,
        client: str | None = None,
        number: str | None = None,
        seconds: int | None = None,
        back: int | None = None,
        account: str | None = None,
        side: str | None = None,
    ) -> Row:
        rng = self.rng
        clients = list(self.clients)
        client = client or (clients[0] if rng.random() < 0.4 else rng.choice(clients))
        duration = (seconds or rng.choice((1, 5, 6, 30, 59, 60, 61, 65, 90, 120, 300, 600, 3000))) * 1000
        if rng.random() < 0.3 and seconds is None:
            duration += rng.randrange(1000)
        if back is None:
            back = rng.randrange(self.backlog_ms + 1) if rng.random() < 0.8 else 0
        answered = max(0, self.now - duration - back - rng.randrange(0, 3000))
        if rng.random() < 0.1:  # where periods, rates and days begin, and where things end
            edges = [
                at
                for at in (*self.edges, answered - answered % HOUR_MS)
                if answered - DAY_MS < at <= self.now
            ]
            answered = rng.choice(edges or [answered])
        call: Row = {
            "id": f"c-{self.number('call')}",
            "called": number or rng.choice(NUMBERS) + f"{rng.randrange(10**6):06d}",
            "answered_at": rfc3339(answered, rng.choice(ZONES) if rng.random() < 0.2 else "UTC"),
            "duration_ms": duration,
        }
        self.dress(call, answered, duration)
        chosen = side or rng.choices(("orig", "term", "both"), (30, 10, 60) if self.poor else (70, 15, 15))[0]
        if chosen in ("orig", "both"):
            call["orig"] = self.party("orig", client, account)
        if chosen in ("term", "both"):
            other = (
                client
                if chosen == "term" or rng.random() < (0.8 if self.poor else 0.4)
                else rng.choice(clients)
            )
            call["term"] = self.party("term", other, account if chosen == "term" else None)
        return call

    def dress(self, call: Row, answered: int, duration: int) -> None:
        """Add what a call may have, and make some of other services or unanswered."""
        rng = self.rng
        if rng.random() < 0.3:
            call["caller"] = rng.choice(("14155550100", "+14155550101", "442071234567", ""))
        if rng.random() < 0.3:
            call["setup_at"] = rfc3339(answered - rng.randrange(9000))
            call["ended_at"] = rfc3339(answered + duration)
        if rng.random() < 0.2:
            call["source"] = rng.choice(("fs1", "fs2"))
        if rng.random() < 0.1:
            call["called"] = "+" + call["called"]
        self.write_as_people_do(call)
        kind = rng.random()
        if kind < 0.05:
            call["duration_ms"] = 0
            call.pop("answered_at")
            call["setup_at"] = rfc3339(answered)
        elif kind < 0.11:
            call["service"] = rng.choice(("sms_mt", "data", "messages"))
            call["volume"] = rng.choice((1, 1, 2, 5, 3000))
            del call["duration_ms"]
        elif kind < 0.13 and self.overlong:
            call["duration_ms"] = rng.choice((10**10, 20_000_000_000, 2**53 - 2))
        if rng.random() < 0.05:
            call["tags"] = {"node": "a3"}

    def write_as_people_do(self, call: Row) -> None:
        """Write some numbers with what sets digits apart on paper and on screens."""
        for name in ("called", "caller"):
            if call.get(name) and self.rng.random() < 0.1:
                call[name] = self.as_people_write(call[name])

    def as_people_write(self, number: str) -> str:
        """Return the number so written."""
        rng = self.rng
        digits = number.removeprefix("+")
        plus = "+" if number != digits or rng.random() < 0.5 else ""
        at = rng.randrange(1, 5)
        parts = (digits[:at], digits[at:-4], digits[-4:])
        match rng.randrange(5):
            case 0:
                return f"{plus}{parts[0]} ({parts[1]}) {parts[2]}"
            case 1:
                return f" {plus}{'-'.join(parts)}\t"
            case 2:
                return f"\u202a{plus}{parts[0]}\u00a0{parts[1]}\u2011{parts[2]}\u202c"
            case 3:
                return plus + "".join(chr(0x0660 + int(one)) for one in digits)  # Arabic-Indic digits
            case _:
                return f"+{parts[0]} (0) {parts[1]}-{parts[2]}"

    def party(self, side: str, client: str, account: str | None) -> Row:
        rng = self.rng
        accounts = [one["id"] for one in self.clients[client]["accounts"]]
        if account is None and accounts and rng.random() < 0.5:
            account = rng.choice(accounts)
        rules = [rule for rule in self.rules if rule["side"] == side]
        if rules and rng.random() < 0.15:
            rule = rng.choice(rules)
            party: Row = {name: rule[name] for name in ("gateway", "login") if name in rule}
            if "ip" in rule:
                party["ip"] = rng.choice(("203.0.113.7", "203.0.113.9"))
            return party
        party = {"client": client}
        if account is not None:
            party["account"] = account
            if rng.random() < 0.3:
                del party["client"]
        if rng.random() < 0.06:
            party["rate"] = self.given()
        return party

    def given(self) -> Row:
        rng = self.rng
        rate: Row = {
            "code": rng.choice(("38044", "380", "1201", "777")),
            "price": rng.choice((*PRICES, "-0.5", "900000000")),
        }
        rate["currency"] = rng.choice(("USD", "USD", "EUR", "GBP", "JPY", "XXX"))
        if rng.random() < 0.5:
            rate |= {
                "setup_fee": rng.choice(("0.05", "0", "-0.01")),
                "interval": rng.choice((1, 60)),
                "min_time": 30,
            }
        if rng.random() < 0.3:
            rate |= {"code_name": "Given", "grace_time": 5}
        return rate

    def repeat(self) -> None:
        """Send an earlier call again: the same, with other content, or as another client's."""
        rng = self.rng
        raw, call = rng.choice(self.sent[-40:])
        if not call or rng.random() < 0.5:
            self.send(raw, self.key_of(call))
            return
        call = json.loads(json.dumps(call))
        sides = [side for side in ("orig", "term") if isinstance(call.get(side), dict)]
        match rng.randrange(5):
            case 0 if call.get("duration_ms"):
                call["duration_ms"] += 1000
            case 1:
                call["called"] = rng.choice(NUMBERS) + "7654321"
            case 2 if sides:
                call[rng.choice(sides)] = {"client": rng.choice(list(self.clients))}
            case 3 if len(sides) == 2:
                del call[rng.choice(sides)]
            case _:
                call["source"] = rng.choice(("fs1", "fs2", "default"))
        self.send(json.dumps(call).encode(), self.key_of(call), call)

    def key_of(self, call: Row) -> str:
        side = call.get("orig") or call.get("term") or {}
        return str(side.get("client") or side.get("account") or "none") if isinstance(side, dict) else "none"

    def wrong(self) -> None:  # noqa: C901, PLR0912 - a list of kinds
        """Send a record that is rejected, or nearly."""
        rng, call = self.rng, self.call()
        sides = [side for side in ("orig", "term") if side in call]
        side = rng.choice(sides)
        raw: bytes | None = None
        match rng.randrange(18):
            case 0:
                raw = rng.choice((b"", b"no json", b"[]", b'{"id": "x"}', b"\xff\xfe", b'{"id": 5}'))
            case 1:
                call[side] = {"client": "999"}
            case 2:
                call[side] = {"account": "sip-none"}
            case 3:
                call[side] = {"client": rng.choice(list(self.clients)), "account": "sip-1001"}
            case 4:
                call["called"] = rng.choice(("38x", "", "anonymous", "+"))
            case 5:
                call["answered_at"] = rng.choice(("yesterday", "2026-11-03T10:00:00", "", 5))
            case 6:
                call["answered_at"] = rfc3339(
                    self.now + rng.choice((HOUR_MS - 5000, HOUR_MS + 5000, 3 * DAY_MS))
                )
            case 7:
                call["answered_at"] = rfc3339(
                    self.now - self.window_days * DAY_MS + rng.choice((-5000, 5000, -DAY_MS))
                )
            case 8:
                call["duration_ms"] = rng.choice((-1, "60", 1.5, 2**53))
            case 9:
                call["service"], call["volume"] = "fax", 3
            case 10:
                call["called"] = "999" + call["called"][-6:].strip("+")
            case 11:
                del call["id"]
            case 12:
                call[side] = {}
            case 13:
                call[side] = {
                    "client": rng.choice(list(self.clients)),
                    "rate": {**self.given(), "currency": "XXX"},
                }
            case 14:
                call[side] = {
                    "client": rng.choice(list(self.clients)),
                    "rate": {**self.given(), "price": "900000000"},
                }
            case 15:
                call[side] = rng.choice((5, "x", [], {"client": 5}))
            case 16:
                call = {name: value for name, value in call.items() if name not in ("orig", "term")}
            case _:
                call[side] = {"gateway": "gw-none", "ip": "198.51.100.1"}
        self.send(
            json.dumps(call).encode() if raw is None else raw, self.key_of(call) if raw is None else "none"
        )

    # ------------------------------------------------------------------ smallest shapes
    def plain(self, limits: list[Row], period: str | None, price: str = "0.60", **client: Any) -> None:
        """Load one client with one package."""
        # At most 400 periods are opened in the past.
        start = self.now - (15 if period == "1 hour" else self.window_days + 40) * DAY_MS
        self.file = {
            "currencies": {"base": "USD"},
            "rate_tables": [
                {
                    "name": "retail",
                    "currency": "USD",
                    "rates": [{"code": "380", "price": price, "interval": 1}],
                }
            ],
            "packages": [
                {
                    "id": "1",
                    "name": "P",
                    "type": "customer",
                    "currency": "USD",
                    "period": period,
                    "limits": limits,
                }
            ],
            "clients": [
                {"id": "42", "currency": "USD", "rate_tables": {"orig": {"calls": "retail"}}, **client}
            ],
            "client_packages": [
                {
                    "id": "1",
                    "client": "42",
                    "package": "1",
                    "start_date": day(start),
                    "activate_in_past": True,
                }
            ],
        }
        self.load()

    def simple(self, client: str, at_ms: int, seconds: int, **more: Any) -> None:
        call = {
            "id": f"c-{self.number('call')}",
            "called": "380501234567",
            "answered_at": rfc3339(at_ms),
            "duration_ms": seconds * 1000,
            "orig": {"client": client},
            **more,
        }
        self.send_call(call)


def _volume(limit: int, number: int = 0, code: str = "380*") -> Row:
    return {"id": f"m{number}", "type": "volume", "service": "calls", "code": code, "limit": limit}


def _another_period(make: _Maker) -> None:
    """Calls of one client in one period, then two or more in another one."""
    rng = make.rng
    unit = rng.choice((HOUR_MS, DAY_MS))
    make.plain([_volume(rng.choice((5, 10)))], "1 hour" if unit == HOUR_MS else "1 day")
    base = make.now - 4 * DAY_MS
    for period in sorted(rng.sample(range(60), rng.randrange(2, 5))):
        for _ in range(rng.randrange(1, 5)):
            make.simple(
                "42", base + period % (60 if unit == HOUR_MS else 4) * unit, rng.choice((30, 60, 120, 600))
            )


def _five_days(make: _Maker) -> None:
    """More than the first limits on more days than a client's spans."""
    rng = make.rng
    make.plain([_volume(1, n) for n in range(rng.randrange(5, 9))], "1 day")
    for n in range(rng.randrange(5, 7)):
        make.simple("42", make.now - (6 - n) * DAY_MS, rng.choice((240, 300, 600)))


def _accounts(make: _Maker) -> None:
    """More than the first limits for more accounts than a client's routes."""
    rng = make.rng
    count = rng.randrange(64, 70)
    make.plain([_volume(1, n) for n in range(5)], "1 day", accounts=[{"id": f"a-{n}"} for n in range(count)])
    at = make.now - HOUR_MS
    for n in range(count):
        make.simple("42", at + n, 300, orig={"client": "42", "account": f"a-{n}"})


def _swapped(make: _Maker) -> None:
    """A load that ends a package and begins another one that no earlier catalog has."""
    rng = make.rng
    make.plain([_volume(10)], rng.choice((None, "1 day")), "1")
    for _ in range(rng.randrange(1, 4)):
        make.simple("42", make.now - 61_000, 60)
    at = make.whole()
    make.file = {
        "packages": [
            {"id": "2", "name": "Q", "type": "customer", "currency": "USD", "limits": [_volume(10)]}
        ],
        "client_packages": [
            {
                "id": "1",
                "client": "42",
                "package": "1",
                "start_date": day(make.now - (make.window_days + 40) * DAY_MS),
                "activate_in_past": True,
                "end_date": second(at),
            },
            {"id": "2", "client": "42", "package": "2", "start_date": second(at)},
        ],
    }
    # The first row's start has to be as it was loaded.
    first = next(step for step in make.steps if isinstance(step, LoadStep))
    make.file["client_packages"][0]["start_date"] = first.file["client_packages"][0]["start_date"]
    make.load()
    for n in range(rng.randrange(2, 6)):
        make.simple("42", make.now + 500 * n, 60 if rng.random() < 0.8 else 10)


def _currency(make: _Maker) -> None:
    """A client whose table's currency has no rate yet gets another table."""
    rng = make.rng
    how = rng.choice(("table", "range"))
    rates = {"GBP": [{"rate": "1.3", "from": day(make.now + 40 * DAY_MS)}]}
    make.file = {
        "currencies": {"base": "USD", "rates": rates},
        "rate_tables": [
            {
                "name": "bad",
                "currency": "GBP" if how == "table" else "USD",
                "rates": [{"code": "380", "price": "1" if how == "table" else "900000000"}],
            },
            {"name": "good", "currency": "USD", "rates": [{"code": "380", "price": "1"}]},
        ],
        "clients": [{"id": "42", "currency": "USD", "rate_tables": {"orig": {"calls": "bad"}}}],
    }
    make.load()
    for _ in range(rng.randrange(1, 3)):
        make.simple("42", make.now - 700_000, 660)
    make.whole()
    make.file = {"clients": [{"id": "42", "currency": "USD", "rate_tables": {"orig": {"calls": "good"}}}]}
    make.load()
    for _ in range(rng.randrange(2, 5)):
        make.simple("42", make.now - 700_000, 660)


def _one_id(make: _Maker) -> None:
    """The same id at another client, a second longer, at another given rate."""
    rng = make.rng
    make.plain([_volume(10)], "1 day")
    make.file = {
        "clients": [
            {"id": str(n), "currency": "USD", "rate_tables": {"orig": {"calls": "retail"}}}
            for n in range(43, 43 + rng.randrange(2, 7))
        ]
    }
    make.load()
    clients = [str(n) for n in range(42, 49)]
    at, given = make.now - 90_000, rng.random() < 0.5
    for _ in range(rng.randrange(3, 9)):
        client = rng.choice(clients[:2] if given else clients)
        more: Row = {"id": rng.choice(("same", "other"))}
        if given:
            rate = {"code": "380", "price": rng.choice(("1", "1.0", "2")), "currency": "USD"}
            more["orig"] = {"client": client, "rate": rate}
        make.simple(client, at, rng.choice((60, 60, 60, 61)), **more)


def _edited(make: _Maker) -> None:
    """Two packages of which one is edited: what holds at once, and what holds from the next period on."""
    rng, period = make.rng, make.rng.choice(("1 month", "1 year", None))
    at = make.now
    packages = [
        {"id": str(n), "name": f"P{n}", "type": "customer", "currency": "USD", "period": period,
         "priority": n, "setup_fee": rng.choice(("charge", "dont_charge")), "limits": [_volume(20 * n)]}
        for n in (1, 2)
    ]  # fmt: skip
    make.plain([_volume(5)], period, balance=rng.choice(("0", "-1", "100")))
    held = {"client": "42", "start_date": day(at - 9 * DAY_MS), "activate_in_past": True}
    rates = [{"code": "380", "price": "0.60", "setup_fee": "0.05", "interval": 1}]
    make.file = {
        "rate_tables": [{"name": "retail", "currency": "USD", "rates": rates}],
        "packages": packages,
        "client_packages": [{"id": str(n + 1), "package": str(n), **held} for n in (1, 2)],
    }
    make.load()
    for _ in range(rng.randrange(2, 4)):
        for _ in range(rng.randrange(1, 4)):
            make.simple("42", make.now - rng.choice((90_000, DAY_MS, 3 * DAY_MS)), rng.choice((30, 60, 600)))
        row, now = rng.choice(packages), make.whole()
        row |= rng.choice(
            (
                {"priority": rng.choice((-1, 0, 3, 9))},
                {"name": f"{row['name']}'"},
                {"dynamic_tag": "autumn"},
                {"setup_fee": "charge" if row["setup_fee"] == "dont_charge" else "dont_charge"},
                {"client_balance": "allow"},
                {"end_date": rng.choice((second(now - DAY_MS), second(now), day(now + 2 * DAY_MS), None))},
                {"start_date": rng.choice((second(now - 2 * DAY_MS), day(now - DAY_MS), None))},
                {"limits": [_volume(rng.choice((1, 7, 40)))]},
            )
        )
        make.file = {"packages": [dict(row)]}
        make.load()
    for _ in range(rng.randrange(2, 6)):
        make.simple("42", make.now - rng.choice((90_000, DAY_MS, 3 * DAY_MS)), rng.choice((30, 60, 600)))


def _gap(make: _Maker) -> None:
    """A month from a date whose midnight does not exist, and calls about each later midnight."""
    rng = make.rng
    zone, date, month = rng.choice(
        (("Africa/Cairo", "2026-04-24", 2_592_000_000), ("Africa/Cairo", "2027-04-30", 2_592_000_000))
    )
    began = ms(f"{date}T00:00:00Z")
    make.now = began + rng.randrange(1, 6) * month + rng.randrange(3 * DAY_MS)
    make.plain([_volume(10)], rng.choice(("1 month", "1 day", "10 days")), time_zone=zone)
    make.file = {
        "client_packages": [
            {"id": "2", "client": "42", "package": "1", "start_date": date, "activate_in_past": True}
        ]
    }
    make.load()
    midnight = make.now // DAY_MS * DAY_MS - rng.choice((2, 3)) * HOUR_MS
    for _ in range(rng.randrange(3, 8)):
        at = midnight - rng.randrange(4) * DAY_MS + rng.choice((-1000, 0, 1000, 1_800_000, HOUR_MS))
        make.simple("42", at, rng.choice((30, 60, 300)))


def _moved(make: _Maker) -> None:
    """A client's time zone is another one from a load on: open periods end by the old one.

    Days after a change of clocks: zones without it, or with another one, cut days at other instants since.
    """
    rng = make.rng
    changed, days_after = rng.choice(
        (
            ("Europe/Kyiv", "2026-10-28T12:00:00Z"),
            ("America/New_York", "2026-11-04T12:00:00Z"),
            ("Australia/Lord_Howe", "2026-10-07T12:00:00Z"),
        )
    )
    make.now = ms(days_after)
    old, new = rng.sample((changed, rng.choice(("UTC", "Asia/Kolkata"))), 2)
    period = rng.choice(("1 day", "1 day", "1 day", "10 days", "1 month"))
    make.plain([_volume(1000)], period, time_zone=old)
    for zone in (new, old) if rng.random() < 0.3 else (new,):
        for _ in range(rng.randrange(1, 4)):
            make.simple("42", make.now - rng.choice((90_000, DAY_MS)), rng.choice((30, 60, 300)))
        make.whole()
        tables = {"orig": {"calls": "retail"}}
        make.file = {"clients": [{"id": "42", "currency": "USD", "time_zone": zone, "rate_tables": tables}]}
        make.load()
        make.now += rng.randrange(3) * DAY_MS
    midnight = make.now // DAY_MS * DAY_MS
    for _ in range(rng.randrange(8, 24)):
        at = (
            midnight
            - rng.randrange(4) * DAY_MS
            + rng.randrange(-12, 6) * HOUR_MS
            + rng.choice((0, 1_800_000))
        )
        make.simple("42", min(at, make.now - 1000), rng.choice((30, 60, 300)))


_SMALLEST: tuple[Callable[[_Maker], None], ...] = (
    _another_period,
    _five_days,
    _accounts,
    _swapped,
    _currency,
    _one_id,
    _edited,
    _edited,
    _gap,
    _moved,
    _moved,
)


def make(seed: int, *, size: int | None = None) -> Scenario:
    """Return the scenario of a seed. size: records, about; None: 20 to 60 mostly, some hundred seldom."""
    return _Maker(seed, size).made()
