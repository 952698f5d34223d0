"""A world from a seed: a catalog, clients in the middle of their lives, calls, and what draws may answer.

The catalogs and the first calls are the oracle's (`oracle/scenario.py`). What a draw answers is made up: more
takes, fees and crossings than any bucket would give, for a replay renders whatever was kept.
"""

from __future__ import annotations

import json
from random import Random
from typing import Any

from native.lives import moved, touched
from oracle.scenario import DECK, LoadStep, RecordStep, Row, make, rfc3339, second
from rater.core.bucket.messages import DrawItem, DrawResult, FeeResult, Outcome
from rater.core.catalog.compiled import compile_catalog
from rater.core.catalog.specs import Content
from rater.core.catalog_files.merging import Existing, Merged, merge, read_files
from rater.core.clients.lifecycle import due_change
from rater.core.clients.loading import load_change
from rater.core.clients.moments import due_before_calls_ms
from rater.core.clients.planning import Cause, Known
from rater.core.clients.state import read_state, write_state
from rater.core.instants import DAY_MS, HOUR_MS
from rater.core.line.batch import Side
from rater.core.notices import Notices

BUCKETS = 3
KEEP_MS = 0
BALANCE = 1_000_000_000
CHANGES_MAX = 400
PERCENTS = ((80, 100), (), (1, 50, 99, 100), (100,))
PRICES = (
    "0.06",
    "0",
    "-0.01",
    "1",
    "0.0000000001",
    "0.0333333333",
    "99999999999999999999",
    "1234567.0123456789",
    "-5",
    "9007199254.740992",
    "9007199254.740993",
    "0.1000000000",
    "150119987.579016",
    "75059993.789508",
)
AMOUNTS = (0, 1, 59, 60, 61, 999, 1000, 1001, 59_999, 60_000, 60_001, 65_039, 3_600_000)
LARGE = (2**31 - 1, 4_294_901_759, 2**32, 2**52, 2**53 - 1)


ADDRESSES = ("203.0.113.5:5060", "::ffff:203.0.113.9", "198.51.100.1")
TAXES = [
    {"name": "VAT", "percent": "20"},
    {"name": "City", "percent": "1.5"},
    {"name": "VAT", "percent": "20"},
]


def richer(file: dict[str, Any], seed: int, at_ms: int) -> dict[str, Any]:
    """Return a file of the oracle with fees, taxes, roll-over, advance and marks beside."""
    out: dict[str, Any] = json.loads(json.dumps(file))
    out["tax_profiles"] = [{"name": "local", "taxes": TAXES}]
    clients = [row["id"] for row in out.get("clients", ())]
    rng = Random(f"{seed} rules {at_ms}")  # noqa: S311 - the same again
    for field, value in (
        ("gateway", "gw"),
        ("ip", "203.0.113.0/24"),
        ("login", "l"),
        ("caller_prefix", "380"),
    ):
        if clients and rng.random() < 0.7:
            rule = {"side": rng.choice(("orig", "term")), field: value, "client": rng.choice(clients)}
            out.setdefault("identification", []).append(rule)
    for table in out.get("rate_tables", ()):
        rng = Random(f"{seed} table {table['name']} {at_ms}")  # noqa: S311 - the same again
        for rate in {
            rate["code"]: rate for rate in rng.sample(table["rates"], min(2, len(table["rates"])))
        }.values():
            begin, end = second(at_ms - 3 * DAY_MS - 17_000), second(at_ms - DAY_MS - 17_000)
            table["rates"].append(
                {"code": rate["code"], "price": "0.77", "effective_from": begin, "effective_to": end}
            )
            table["rates"].append(
                {**rate, "effective_from": end, "effective_to": None}
            )  # as it was before, again
    for row in out.get("packages", ()):
        _richer_package(row, Random(f"{seed} package {row['id']}"))  # noqa: S311 - the same again
    for row in out.get("clients", ()):
        rng = Random(f"{seed} client {row['id']}")  # noqa: S311 - the same again
        if rng.random() < 0.5:
            row["tax_profile"] = "local"
        if rng.random() < 0.4:
            row["low_balance"] = rng.choice(("0", "10", "-2.5"))
        row["payment_terms"] = {"every": "1 month", "anchor": "2026-01-31"}
    return out


def _richer_package(row: Row, rng: Random) -> None:
    if rng.random() < 0.6 and row["currency"] != "GBP":
        rate = rng.choice(("10", "0.0000001", "-3", "-3", "33.333333"))
        row["fees"] = [
            {"type": "subscription", "name": 'rent "A"', "rate": rate},
            {"type": "activation", "name": "x", "rate": "5"},
        ]
        if rng.random() < 0.5:
            row["fees"].append({"type": "subscription", "name": "more", "rate": "1.10", "note": "\u00e9"})
    period = row.get("period") or ""
    calendar = "month" in period or "year" in period
    for name, fits in (
        ("charge_on_event", period),
        ("fees_include_taxes", True),
        ("align_to_payment_terms", calendar),
    ):
        if fits and rng.random() < 0.5:
            row[name] = True
    if rng.random() < 0.5:
        row["discounts"] = [
            {"activation_count": 2, "discount": "1.5"},
            {"activation_count": 3, "discount": "100"},
        ]
    if period and rng.random() < 0.5:
        row["renewal_charge"] = "before_period"
    if calendar and rng.random() < 0.6:
        row["advance_renew"] = rng.choice(("2 days", "6 hours"))
    _richer_limits(row, rng)


def _richer_limits(row: Row, rng: Random) -> None:
    if rng.random() < 0.25:  # about as many as a call is asked with at first, or more
        more = rng.choice((3, 4, 5, 6))
        row["limits"] += [
            {"id": f"x{n}", "type": "volume", "service": "calls", "code": "*", "limit": 5}
            for n in range(more)
        ]
        row["client_balance"] = rng.choice(("allow", "deny"))
    for limit in row["limits"]:
        if limit["type"] == "volume" and rng.random() < 0.3:
            limit["rollover"] = rng.choice((1, 60))


class World:
    """A catalog and clients, as loads and due work have left them."""

    def __init__(self, seed: int) -> None:
        self.rng = rng = Random(f"world {seed}")  # noqa: S311 - the same again
        self.scenario = make(rng.randrange(10**6))
        loads = [step for step in self.scenario.steps if isinstance(step, LoadStep)]
        notices = Notices(limit_percents=rng.choice(PERCENTS), expiring_ms=rng.choice((0, 0, 0, DAY_MS)))
        self.states: dict[str, bytes] = {}
        self.owners: dict[str, str] = {}
        self.now_ms = 0
        content: Content | None = None
        for version, step in enumerate(loads[: rng.choice((1, 1, 1, 2, 3))], 1):
            known = {client: read_state(raw) for client, raw in self.states.items()}
            # One with more to it may not fit: a currency without a rate, an edit of what is fixed.
            texts = json.dumps(richer(step.file, seed, step.at_ms)), json.dumps(step.file)
            files = [read_files([("catalog.json", text.encode())], lambda _: b"") for text in texts]
            tries = (merge(content, file, step.at_ms, Existing(known, self.owners)) for file in files)
            merged = next((one for one in tries if isinstance(one, Merged)), None)
            if merged is None:
                break
            content, self.now_ms = merged.content, step.at_ms
            self.catalog = compile_catalog(content, version, notices)
            for entry in merged.entries:
                old = known.get(entry.id)
                change = load_change(old, entry, self.catalog, at_ms=step.at_ms, cause=Cause("load"))
                if change is not None:
                    self.put(change.write.state)
        self.now_ms += rng.choice((0, 1000, HOUR_MS, DAY_MS, 3 * DAY_MS, 40 * DAY_MS))
        for client in list(self.states):
            self.live(client)
        assert content is not None
        self.content, self.notices = content, notices
        for _ in range(rng.choice((0, 1, 1, 2, 3))):
            self.edit()
            self.grow_older()
        if rng.random() < 0.35:
            self.go_on()
        self.edges = self.edges_of()
        self.calls = [step.raw for step in self.scenario.steps if isinstance(step, RecordStep)]
        self.number = 0

    def put(self, raw: bytes) -> None:
        """Take a client's state."""
        state = read_state(raw)
        self.states[state.id] = raw
        self.owners |= dict.fromkeys(state.accounts, state.id)

    def live(self, client: str) -> None:
        """Do what is due of a client, mostly."""
        if self.rng.random() < 0.05:
            return
        known = Known(self.rng.choice((BALANCE, BALANCE, 0, -5)))
        for _ in range(CHANGES_MAX):
            change = due_change(
                read_state(self.states[client]),
                self.catalog,
                upto_ms=self.now_ms,
                now_ms=self.now_ms,
                known=known,
                cause=Cause("tick"),
                closing=self.rng.random() < 0.5,
                keep_ms=KEEP_MS,
            )
            if change is None:
                return
            self.put(change.write.state)

    def edit(self) -> None:
        """Let packages be others, of which no state knows: what is due of them is worked out anew."""
        states = list(map(read_state, self.states.values()))
        self.content = moved(self.content, states, self.rng, self.now_ms)
        self.catalog = compile_catalog(self.content, self.catalog.version + 1, self.notices)

    def grow_older(self) -> None:
        """Let some time pass, and some clients be met, or be changed by commands."""
        self.now_ms += self.rng.choice((0, 0, 1000, HOUR_MS, DAY_MS, 3 * DAY_MS))
        for client, raw in list(self.states.items()):
            what = self.rng.random()
            if what < 0.3:
                self.live(client)
            elif what < 0.8:
                self.put(write_state(touched(read_state(raw), self.catalog, self.rng, self.now_ms)))

    def go_on(self) -> None:
        """Let it be about the moment at which something of a client is due before a call."""
        due = [due_before_calls_ms(read_state(raw), self.catalog) for raw in self.states.values()]
        later = [
            at_ms for at_ms in due if at_ms is not None and self.now_ms < at_ms < self.now_ms + 400 * DAY_MS
        ]
        if later:
            self.now_ms = self.rng.choice(later) + self.rng.choice((-2500, -1001, -1000, -999, -1, 0, 1))

    def edges_of(self) -> list[int]:
        """Return instants of the last days at which something begins or ends."""
        content = self.content
        found: set[int | None] = set()
        for table in content.rate_tables.values():
            found |= {at for row in table.rates for at in (row.from_ms, row.to_ms)}
        found |= {row.from_ms for rows in content.currencies.values() for row in rows}
        for history in content.packages.values():
            found |= {at for at, _ in history.versions} | {at for at, _ in history.statuses}
        for raw in self.states.values():
            for held in read_state(raw).packages:
                found |= {held.start_ms, held.end_ms}
                for one in held.life.periods if held.life is not None else ():
                    found |= {one.start_ms, one.stop_ms, one.by_ms}
        return sorted(at for at in found if at is not None and self.now_ms - 6 * DAY_MS < at <= self.now_ms)

    # ------------------------------------------------------------------ calls
    def record(self) -> bytes:
        """Return a call: one of the scenario's, with other ids and times, or one of our own."""
        rng = self.rng
        raw = rng.choice(self.calls) if self.calls and rng.random() < 0.6 else b""
        try:
            row: Any = json.loads(raw)
        except ValueError:
            row = None
        if not isinstance(row, dict) or not isinstance(row.get("id"), str):
            row = self.call()
        self.number += 1
        if rng.random() < 0.95:
            row["id"] = f"{self.number}" + rng.choice(("", "", "", '"', "/x", "\u00e9", "\\n"))
        if rng.random() < 0.8:
            late = rng.choice((0, 1000, HOUR_MS, DAY_MS, 6 * DAY_MS))
            at = self.now_ms - rng.randrange(late + 1)
            if self.edges and rng.random() < 0.3:
                at = rng.choice(self.edges) + rng.choice((-1, 0, 0, 1))
            row["answered_at" if rng.random() < 0.95 else "setup_at"] = rfc3339(at)
        if rng.random() < 0.3:
            row["duration_ms"] = rng.choice(AMOUNTS) if rng.random() < 0.95 else rng.choice(LARGE)
        for side in ("orig", "term"):
            if isinstance(row.get(side), dict) and rng.random() < 0.15:
                row[side]["rate"] = self.given()
        return json.dumps(row, ensure_ascii=rng.random() < 0.1).encode("utf-8", "surrogatepass")

    def call(self) -> Row:
        """Return a call of some client."""
        rng = self.rng
        row: Row = {
            "called": rng.choice(list(DECK)) + str(rng.randrange(10**7)),
            "duration_ms": rng.choice(AMOUNTS),
        }
        row["id"] = ""
        if rng.random() < 0.2:
            row["source"] = rng.choice(("fs1", "sbc.2", "a-b"))
        if rng.random() < 0.1:
            row |= {
                "service": rng.choice(("data", "messages", "sms_mt")),
                "volume": rng.choice((*AMOUNTS, *LARGE)),
            }
        if rng.random() < 0.5:
            row["caller"] = rng.choice(("380501234567", "+1 201 555 0100", "anonymous", 'a"b', ""))
        row["orig" if rng.random() < 0.8 else "term"] = self.party()
        if rng.random() < 0.2:
            row["term"] = self.party()
        return row

    def party(self) -> Row:
        """Return a side that names a client, an account, or both."""
        rng = self.rng
        party: Row = {}
        if rng.random() < 0.15:  # the rules say whose it is
            for field, values in (("gateway", ("gw", " gw ")), ("ip", ADDRESSES),
                                  ("login", ("l", "L"))):  # fmt: skip
                if rng.random() < 0.6:
                    party[field] = rng.choice(values)
            return party
        if rng.random() < 0.7:
            party["client"] = rng.choice(
                [*self.states, "nobody"] if rng.random() < 0.05 else list(self.states)
            )
        if rng.random() < 0.4 or not party:
            own = [account for account, owner in self.owners.items() if owner == party.get("client", owner)]
            if rng.random() < 0.05:
                own = list(self.owners)  # maybe another client's
            party["account"] = rng.choice(own or ["none"])
        return party

    def given(self) -> Row:
        """Return a rate that the record gives."""
        rng = self.rng
        row: Row = {
            "code": rng.choice(list(DECK)),
            "price": rng.choice(PRICES),
            "currency": rng.choice(("USD", "EUR", "GBP", "JPY", "XTS")),
        }
        for name, values in (
            ("setup_fee", PRICES),
            ("min_time", (0, 30, 2**31 - 1)),
            ("interval", (1, 6, 60, 2**31 - 1)),
            ("grace_time", (0, 3, 60)),
            ("code_name", ("Kiev", 'a"b', "\u00e9", None)),
        ):
            if rng.random() < 0.3:
                row[name] = rng.choice(values)
        return row

    def result(self, item: DrawItem, side: Side) -> DrawResult:
        """Return what a bucket might say of an item, or more."""
        rng = self.rng
        outcome = rng.choices(
            (Outcome.RATED, Outcome.DUPLICATE, Outcome.DIFFERS, Outcome.OUT_OF_RANGE), (92, 4, 2, 2)
        )[0]
        if outcome != Outcome.RATED:
            return DrawResult(outcome, 0, None, ())
        takes = []
        for place, one in enumerate(item.candidates):
            if rng.random() < 0.5:
                marks = [rest for _, rest in side.limits[place].marks]
                left = rng.choice((0, 1, max(0, one.size // 5), *marks, *(mark + 1 for mark in marks)))
                takes.append(
                    (place, rng.choice((1, item.billed, max(1, one.size))), left, rng.choice((0, 1, 12_345)))
                )
        fee = None
        if item.fees and rng.random() < 0.6:
            place = rng.randrange(len(item.fees))
            charged = rng.choice((None, place))
            amount = item.fees[place].amount if charged is not None else 0
            fee = FeeResult(charged, rng.choice((None, True, False)), amount)
        amount = rng.choice((0, -1, -12_345_678, 5_000_000, -(2**53), 2**53))
        low = rng.choice((None, None, None, True, False))
        return DrawResult(outcome, amount, rng.choice((None, True, False)), tuple(takes), fee, low)
