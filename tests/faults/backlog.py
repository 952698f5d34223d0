"""A backlog: forty days of calls that come at once, and the catalog that they are rated under; from a seed.

All calls of a client, both sides and repeats, are of one group of clients, so that a lane for each group is
a world of its own. What is mixed: runs of calls that are alike and calls that are not, many days and months
of a client, late ones, zones whose clocks change, up to 100 accounts and 80 limits of a client, volume and
money in several currencies, vendors, given rates, prices that change, rejects, and repeats as they were or
with other content under their id. What the rules are: RULES.md, CONTRACTS.md.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

Row = dict[str, Any]

GROUPS = 4
"""Groups of clients; the clients of a catalog are of each group in turn."""
HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
SPAN_MS = 40 * DAY_MS
"""So far back calls reach."""
LIMITS_MAX, ACCOUNTS_MAX = 80, 100
"""Of one client."""

DECK = {
    "380": "Ukraine", "38044": "Ukraine Kiev", "38050": "Ukraine Mobile", "38067": "Ukraine Mobile",
    "1": "USA", "1201": "USA New Jersey", "1212": "USA New York", "44": "UK", "447": "UK Mobile",
}  # fmt: skip
NUMBERS = ("38044", "38050", "38067", "380", "1201", "1212", "1", "447", "44")
PATTERNS = ("380*", "38044", "38050*", "3805*", "*", "1*", "1201", "12*", "44*", "447", "3*", "380", "1")
NAMES = ("Ukraine Mobile", "ukraine  mobile", "Ukraine", "USA New Jersey", "UK Mobile")
PRICES = ("0.06", "0.10", "0.60", "0.0333333333", "1", "0.0000001", "2.5", "0.0123456789", "0")
ZONES = (
    "UTC", "Europe/Kyiv", "Europe/London", "America/New_York", "America/Havana", "Australia/Lord_Howe",
    "Africa/Cairo", "Asia/Kolkata", "America/Santiago",
)  # fmt: skip
CURRENCIES = ("USD", "USD", "USD", "EUR", "JPY", "GBP")
PERIODS = (
    "1 day", "1 day", "1 day", "2 days", "7 days", "10 days", "1 month", "1 month", "2 months",
    "3 months", None,
)  # fmt: skip
TABLES = {"retail": "USD", "euro": "EUR", "yen": "JPY", "sterling": "GBP", "carrier": "USD"}
SECONDS = (1, 5, 6, 30, 59, 60, 61, 65, 90, 120, 180, 300, 600, 3000)


def second(at_ms: int) -> str:
    """Return an instant of whole seconds, as catalogs have them."""
    return datetime.fromtimestamp(at_ms // 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def day(at_ms: int) -> str:
    """Return the date in UTC."""
    return datetime.fromtimestamp(at_ms // 1000, UTC).strftime("%Y-%m-%d")


def rfc3339(at_ms: int, zone: str = "UTC") -> str:
    """Return an instant with milliseconds, in UTC or with a zone's offset."""
    at = datetime.fromtimestamp(at_ms // 1000, UTC) + timedelta(milliseconds=at_ms % 1000)
    return at.astimezone(ZoneInfo(zone)).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def clock_changes(now_ms: int) -> list[int]:
    """Return the hours of the span in which the clocks of a zone change."""
    found = []
    for zone in map(ZoneInfo, ZONES):
        for at in range(now_ms - SPAN_MS, now_ms, HOUR_MS):
            before, after = (
                datetime.fromtimestamp(moment // 1000, UTC).astimezone(zone).utcoffset()
                for moment in (at, at + HOUR_MS)
            )
            if before != after:
                found.append(at)
    return found


class Backlog:
    """A catalog and calls. now_ms: after all calls; the same seed and now give the same backlog."""

    def __init__(self, seed: int, clients: int, now_ms: int) -> None:
        """Make the catalog."""
        self.rng = random.Random(f"backlog {seed}")  # noqa: S311 - the same again
        self.now = now_ms
        self.changes = clock_changes(now_ms)
        self.edges: dict[str, list[int]] = {}
        """Client → instants at which its packages begin, "" → those at which prices and rates change."""
        self.accounts: dict[str, list[str]] = {}
        self.names = [f"{1000 + number}" for number in range(clients)]
        self.calls = 0
        self._sent: list[list[bytes]] = [[] for _ in range(GROUPS)]
        self.catalog = self._catalog()

    # ------------------------------------------------------------------ the catalog
    def _catalog(self) -> Row:
        packages = [self._package(number) for number in range(60)]
        clients = [self._client(name) for name in self.names]
        held: list[Row] = []
        for row in clients:
            held += self._held(row, packages, len(held))
        pound = day(self.now - 30 * DAY_MS)
        return {
            "currencies": {"base": "USD", "rates": {
                "EUR": [{"rate": "1.08", "from": "2020-01-01"},
                        {"rate": "1.11", "from": day(self.now - 20 * DAY_MS)}],
                "JPY": [{"rate": "0.0067", "from": "2020-01-01"},
                        {"rate": "0.0071", "from": second(self.now - 9 * DAY_MS)}],
                "GBP": [{"rate": "1.27", "from": pound}],
            }},
            "services": [{"name": "sms_mt", "unit": "piece", "price_unit": 1}],
            "code_decks": [{"name": "a-z", "codes": DECK}],
            "rate_tables": [self._table(name, currency) for name, currency in TABLES.items()],
            "packages": packages,
            "clients": clients,
            "identification": self._rules(),
            "client_packages": held,
        }  # fmt: skip

    def _table(self, name: str, currency: str) -> Row:
        """A table with prices that change, stop and begin within the span."""
        rng, rates = self.rng, []
        for code in sorted(DECK):
            if rng.random() < (0.15 if len(code) > 3 else 0.02):
                continue
            rates.append(self._rate(code))
            changes = rng.choice((0, 0, 1, 2))
            for days in rng.sample(range(0, 40, 2), changes):
                at = self.now - days * DAY_MS - rng.randrange(DAY_MS)
                rates.append({**self._rate(code), "effective_from": rng.choice((second, day))(at)})
                if rng.random() < 0.3:
                    rates[-1]["effective_to"] = second(at + rng.randrange(1, 9) * DAY_MS)
                self._edge("", *(rates[-1].get(name) for name in ("effective_from", "effective_to")))
        return {"name": name, "currency": currency, "rates": rates, "code_deck": "a-z"}

    def _rate(self, code: str) -> Row:
        rng = self.rng
        row: Row = {"code": code, "price": rng.choice(PRICES)}
        if rng.random() < 0.1:
            row["price"] = "-" + rng.choice(PRICES[:4])
        if rng.random() < 0.3:
            row["setup_fee"] = rng.choice(("0.05", "0.01", "0.0000007", "-0.02", "1.23456789"))
        if rng.random() < 0.6:
            row["interval"], row["min_time"] = rng.choice((1, 6, 60)), rng.choice((0, 1, 30, 60))
        if rng.random() < 0.15:
            row["grace_time"] = rng.choice((3, 5, 60))
        return row

    def _limit(self, number: int, factor: int, alike: str | None) -> Row:
        rng = self.rng
        row: Row = {
            "id": rng.choice((f"m{number}", f"m{number}", f"a.{number}", f"{number}%")),
            "service": "calls",
        }
        if rng.random() < 0.08:
            row["service"] = rng.choice(("sms_mt", "data", "messages"))
        if rng.random() < 0.7:
            row["type"] = "volume"
            row["limit"] = factor * rng.choice((1, 2, 5))
            if row["service"] == "calls" and factor == 1:
                row["limit"] = rng.choice((1, 2, 5, 10, "0.5", "1.05"))
            if rng.random() < 0.15:
                row["per_call_max"] = rng.choice((6, 30, 60, 61, 3600))
        else:
            row["type"] = "money"
            row["limit"] = rng.choice(("0.05", "0.10", "1.00", "2", "0.333333", "50", "0.000001"))
        if rng.random() < 0.2:
            row["code_deck"], row["code_name"] = "a-z", rng.choice(NAMES)
        else:
            row["code"] = alike or rng.choice(PATTERNS)
            if rng.random() < 0.15:
                row["exclude"] = rng.sample(PATTERNS[:4] + PATTERNS[5:], rng.randrange(1, 3))
        if rng.random() < 0.12:
            row["min_call"] = rng.choice((6, 30, 61, 300))
        return row

    def _package(self, number: int) -> Row:
        rng = self.rng
        period = rng.choice(PERIODS)
        factor = 1 if period is None or "day" in period else 10
        limits = rng.choice((1, 1, 2, 3, 4, 5, 8, 12, 20))
        if number < 2:
            limits = (LIMITS_MAX, 40)[number]
        alike = rng.choice(PATTERNS) if rng.random() < 0.3 else None
        row: Row = {
            "id": f"{number}", "name": f"Package {number}", "currency": rng.choice(CURRENCIES),
            "type": "vendor" if rng.random() < 0.2 else "customer", "period": period,
            "limits": [self._limit(position, factor, alike) for position in range(limits)],
        }  # fmt: skip
        if rng.random() < 0.4:
            row["priority"] = rng.choice((-1, 0, 1, 2, 9))
        if rng.random() < 0.3:
            row["dynamic_tag"] = rng.choice(("promo", 'a "quoted" one', "ö"))
        if rng.random() < 0.3:
            row["setup_fee"] = rng.choice(("charge", "dont_charge"))
        if rng.random() < 0.3:
            row["client_balance"] = "allow"
        if rng.random() < 0.1:
            row["start_date"] = day(self.now - rng.randrange(1, 60) * DAY_MS)
        if rng.random() < 0.1:
            row["end_date"] = second(self.now + rng.randrange(1, 60) * DAY_MS)
        return row

    def _client(self, name: str) -> Row:
        rng = self.rng
        count = rng.choice((0, 1, 3, 5, 20, 66, ACCOUNTS_MAX))
        self.accounts[name] = [f"sip-{name}-{number}" for number in range(count)]
        tables: Row = {
            "orig": {"calls": rng.choice((*["retail"] * 9, *["euro"] * 4, *["yen"] * 3, "sterling"))}
        }
        if rng.random() < 0.9:
            tables["term"] = {"calls": rng.choice(("carrier", "carrier", "euro"))}
        if rng.random() < 0.8:
            tables["orig"] |= {"sms_mt": "retail", "data": "carrier"}
        accounts: list[Row] = [{"id": account} for account in self.accounts[name]]
        for account in accounts:
            if rng.random() < 0.1:
                account["rate_tables"] = {"orig": {"calls": rng.choice(("euro", "carrier"))}}
        return {
            "id": name, "currency": rng.choice(("USD", "USD", "USD", "EUR", "JPY")),
            "time_zone": rng.choice(ZONES), "balance": rng.choice(("0", "50.00", "1000", "0.10", "-3")),
            "credit_limit": rng.choice(("0", "0", "5", "0.5")), "rate_tables": tables, "accounts": accounts,
        }  # fmt: skip

    def _held(self, client: Row, packages: list[Row], number: int) -> Iterator[Row]:
        """Assign packages until the client has about so many limits as are drawn for it."""
        rng = self.rng
        room = rng.choice((0, 1, 4, 5, 12, 20, 40, 60, LIMITS_MAX, LIMITS_MAX))
        while room > 0:
            fitting = [row for row in packages if len(row["limits"]) <= room]
            package = (
                max(fitting, key=lambda row: len(row["limits"]))
                if rng.random() < 0.1
                else rng.choice(fitting)
            )
            room -= len(package["limits"])
            start = self.now - rng.choice((41, 45, 70, 100)) * DAY_MS - rng.randrange(DAY_MS)
            if rng.random() < 0.2:
                start = self.now - rng.randrange(SPAN_MS)
            row: Row = {
                "id": f"{number}" if rng.random() < 0.9 else f"cp.{number}", "client": client["id"],
                "package": package["id"], "activate_in_past": True,
                "start_date": rng.choice((second, day))(start),
            }  # fmt: skip
            self._edge(client["id"], row["start_date"], zone=client["time_zone"])
            if client["accounts"] and rng.random() < 0.2:
                row["account"] = rng.choice(client["accounts"])["id"]
            if rng.random() < 0.2:
                row["quantity"] = rng.choice((2, 3))
            if rng.random() < 0.15:
                end = max(start, self.now - 20 * DAY_MS) + rng.choice((62, 90)) * DAY_MS
                if package.get("start_date") is None:
                    end = start + rng.choice((2, 3, 30)) * DAY_MS
                row["end_date"] = rng.choice((second, day))(end)
                self._edge(client["id"], row["end_date"], zone=client["time_zone"])
            number += 1
            yield row

    def _edge(self, client: str, *texts: str | None, zone: str = "UTC") -> None:
        """Note the instants of these times; a date is midnight in the zone."""
        for text in filter(None, texts):
            at = datetime.fromisoformat(text)
            local = at if at.tzinfo else at.replace(tzinfo=ZoneInfo(zone))
            self.edges.setdefault(client, []).append(int(local.timestamp()) * 1000)

    def _rules(self) -> list[Row]:
        """A gateway for some clients of each group, the side and sometimes an account."""
        rules = []
        for name in self.names[:40]:
            rule: Row = {"side": self.rng.choice(("orig", "term")), "gateway": f"gw-{name}", "client": name}
            if self.accounts[name] and self.rng.random() < 0.4:
                rule["account"] = self.accounts[name][0]
            rules.append(rule)
        self.gateways = {rule["client"]: rule["side"] for rule in rules}
        return rules

    # ------------------------------------------------------------------ calls
    def records(self, count: int) -> Iterator[tuple[int, bytes]]:
        """Yield (group, record), so many of them."""
        made = 0
        while made < count:
            for record in self._some(made / count):
                yield record
                made += 1
                if made == count:
                    return

    def _some(self, share: float) -> Iterator[tuple[int, bytes]]:
        """Yield calls that stand behind each other; share: of the backlog that is before them."""
        rng = self.rng
        usual = self.now - int(SPAN_MS * (1 - share))
        if rng.random() < 0.5:
            yield from self._run(usual)
            return
        for _ in range(rng.randrange(1, 12)):
            client = self._any_client()
            yield from self._sent_with(client, self._call(client, self._moment(usual, client)))

    def _any_client(self) -> str:
        few = self.rng.random() < 0.3
        return self.rng.choice(self.names[:16] if few else self.names)

    def _moment(self, usual: int, client: str) -> int:
        """Return when a call was answered: about where the backlog is, or late, or at an edge."""
        rng = self.rng
        dice = rng.random()
        if dice < 0.05 and self.changes:
            return rng.choice(self.changes) + rng.randrange(-2 * HOUR_MS, 3 * HOUR_MS)
        if dice < 0.2:  # where a period, a price or a rate begins or ends
            edge = rng.choice(self.edges.get(client, self.edges[""]) if dice < 0.15 else self.edges[""])
            return edge + rng.randrange(100) * DAY_MS * (dice < 0.12) + rng.choice((-1000, -1, 0, 0, 1, 1000))
        if dice < 0.4:
            return self.now - rng.randrange(SPAN_MS)
        return usual + rng.randrange(-12 * HOUR_MS, HOUR_MS)

    def _run(self, usual: int) -> Iterator[tuple[int, bytes]]:
        """Yield calls that are alike: one client, one number, the same length, in steps."""
        rng = self.rng
        client, accounts = self._any_client(), []
        if rng.random() < 0.5:
            accounts = self.accounts[client]
        number, seconds = rng.choice(NUMBERS) + "1234567", rng.choice(SECONDS)
        step = rng.choice((0, 1000, HOUR_MS, 12 * HOUR_MS, DAY_MS, DAY_MS, DAY_MS, 7 * DAY_MS))
        together = rng.choice((1, 1, 2, 3))  # calls before the next step
        count = rng.randrange(3, 30)
        if len(accounts) > 64 and rng.random() < 0.5:
            count = len(accounts) + rng.randrange(3)
        first = self._moment(usual, client)
        side = "term" if rng.random() < 0.15 else "orig"
        for at in range(count):
            fixed: Row = {"number": number, "seconds": seconds, "side": side}
            if accounts:
                fixed["account"] = accounts[at % len(accounts)]
            yield from self._sent_with(client, self._call(client, first - at // together * step, **fixed))

    def _sent_with(self, client: str, call: Row) -> Iterator[tuple[int, bytes]]:
        """Yield a call and, seldom, what comes with it: a repeat, or a record that is refused."""
        rng, group = self.rng, self._group(client)
        raw = json.dumps(call).encode()
        yield group, raw
        sent = self._sent[group]
        sent.append(raw)
        dice = rng.random()
        if dice < 0.021:
            yield group, rng.choice(sent if rng.random() < 0.5 else sent[-40:])
        elif dice < 0.026:
            yield group, json.dumps(self._other(json.loads(rng.choice(sent[-400:])))).encode()
        elif dice < 0.041:
            yield group, self._wrong(client)

    def _group(self, client: str) -> int:
        return self.names.index(client) % GROUPS

    def _call(
        self, client: str, at: int, *, number: str | None = None, seconds: int | None = None,
        account: str | None = None, side: str | None = None,
    ) -> Row:  # fmt: skip
        rng = self.rng
        duration = (seconds or rng.choice(SECONDS)) * 1000
        if seconds is None and rng.random() < 0.3:
            duration += rng.randrange(1000)
        # Within the span and over by now, wherever a run has come to.
        span = SPAN_MS - 2 * HOUR_MS
        at = self.now - span - HOUR_MS + (at - self.now) % span
        self.calls += 1
        call: Row = {
            "id": f"c-{self.calls}", "called": number or rng.choice(NUMBERS) + f"{rng.randrange(10**6):06d}",
            "answered_at": rfc3339(at, rng.choice(ZONES) if rng.random() < 0.1 else "UTC"),
            "duration_ms": duration,
        }  # fmt: skip
        self._dress(call, at, duration)
        chosen = side or rng.choices(("orig", "term", "both"), (70, 12, 18))[0]
        if chosen in ("orig", "both"):
            call["orig"] = self._party("orig", client, account)
        if chosen in ("term", "both"):
            other = client if chosen == "term" or rng.random() < 0.3 else self._neighbour(client)
            call["term"] = self._party("term", other, account if chosen == "term" else None)
        return call

    def _neighbour(self, client: str) -> str:
        """Return a client of the same group."""
        return self.rng.choice(self.names[self._group(client) :: GROUPS])

    def _dress(self, call: Row, at: int, duration: int) -> None:
        """Add what a call may have, and make some of other services or unanswered."""
        rng = self.rng
        if rng.random() < 0.2:
            call["caller"] = rng.choice(("14155550100", "+14155550101", ""))
        if rng.random() < 0.2:
            call["setup_at"], call["ended_at"] = rfc3339(at - rng.randrange(9000)), rfc3339(at + duration)
        if rng.random() < 0.2:
            call["source"] = rng.choice(("fs1", "fs2"))
        if rng.random() < 0.1:
            call["called"] = "+" + call["called"]
        kind = rng.random()
        if kind < 0.04:
            call["duration_ms"] = 0
            del call["answered_at"]
            call["setup_at"] = rfc3339(at)
        elif kind < 0.08:
            call["service"] = rng.choice(("sms_mt", "sms_mt", "data", "data", "messages"))
            call["volume"] = rng.choice((1, 1, 2, 5, 3000))
            del call["duration_ms"]

    def _party(self, side: str, client: str, account: str | None) -> Row:
        rng, accounts = self.rng, self.accounts[client]
        if account is None:
            if self.gateways.get(client) == side and rng.random() < 0.2:
                return {"gateway": f"gw-{client}"}
            if accounts and rng.random() < 0.5:
                account = rng.choice(accounts)
        party: Row = {"client": client}
        if account is not None:
            party["account"] = account
            if rng.random() < 0.3:
                del party["client"]
        if rng.random() < 0.04:
            party["rate"] = self._given()
        return party

    def _given(self) -> Row:
        rng = self.rng
        rate: Row = {
            "code": rng.choice(("38044", "380", "1201", "777")),
            "price": rng.choice((*PRICES, "-0.5")),
        }
        rate["currency"] = rng.choice(("USD", "USD", "EUR", "GBP", "JPY"))
        if rng.random() < 0.5:
            rate |= {
                "setup_fee": rng.choice(("0.05", "0", "-0.01")),
                "interval": rng.choice((1, 60)),
                "min_time": 30,
            }
        if rng.random() < 0.3:
            rate |= {"code_name": "Given", "grace_time": 5}
        return rate

    def _other(self, call: Row) -> Row:
        """Return a call under its id with other content, or with what is no content."""
        rng = self.rng
        sides = [side for side in ("orig", "term") if side in call]
        match rng.randrange(6):
            case 0 if call.get("duration_ms"):
                call["duration_ms"] += 1000
            case 1:
                call["called"] = rng.choice(NUMBERS) + "7654321"
            case 2 if len(sides) == 2:
                del call[rng.choice(sides)]
            case 3 if "client" in call[sides[0]] and "account" in call[sides[0]]:
                del call[sides[0]]["account"]
            case 4:
                call["source"] = rng.choice(("fs1", "fs2", "fs3"))
            case _:
                call["caller"] = "14155550199"
        return call

    def _wrong(self, client: str) -> bytes:
        """Return a record that is refused, or nearly."""
        rng = self.rng
        call = self._call(client, self.now - rng.randrange(SPAN_MS))
        side = rng.choice([side for side in ("orig", "term") if side in call])
        fields: list[Row] = [
            {"called": rng.choice(("38x", "", "anonymous", "+"))},
            {"called": "999" + call["called"].removeprefix("+")},
            {"answered_at": rng.choice(("yesterday", "2026-11-03T10:00:00", "", 5))},
            {"answered_at": rfc3339(self.now + rng.choice((3, 70)) * DAY_MS)},
            {"answered_at": rfc3339(self.now - rng.choice((99, 101, 400)) * DAY_MS)},
            {"duration_ms": rng.choice((-1, "60", 1.5, 2**53, 10**10, 136_298_900_000))},
            {"service": "fax"},
            {"id": rng.choice((None, ""))},
            {"source": rng.choice(("a/b", "cp"))},
            {"tags": {"padding": "x" * 70_000}} if rng.random() < 0.05 else {"orig": None, "term": None},
        ]
        others = [account for name, held in self.accounts.items() if name != client for account in held[:1]]
        parties: list[Any] = [
            {}, 5, {"client": 5}, {"client": "999"}, {"account": "sip-none"}, {"gateway": "gw-none"},
            {"client": client, "account": others[0]},
            {"client": client, "rate": {**self._given(), "currency": "XXX"}},
            {"client": client, "rate": {**self._given(), "price": "9000000000000"}},
            {"client": client, "rate": {**self._given(), "price": "x"}},
        ]  # fmt: skip
        dice = rng.randrange(21)
        if dice < 10:
            call |= fields[dice]
        elif dice < 20:
            call[side] = parties[dice - 10]
        else:
            return rng.choice((b"", b"no json", b"[]", b'{"id": "x"}', b"\xff\xfe", b'{"id": 5}'))
        return json.dumps(call).encode()
