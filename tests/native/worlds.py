"""Worlds from a seed: a catalog, clients in the middle of their lives, calls; all goes through both engines.

The catalogs and the first calls are the oracle's (`oracle/scenario.py`). What a draw answers is made up: more
takes, fees and crossings than any bucket would give, for a replay renders whatever was kept.

    PYTHONPATH=src:tests python -m native.worlds --sides 10000000 --jobs 2
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from random import Random
from types import SimpleNamespace
from typing import Any

import msgspec
from msgspec.structs import replace

from native.shadow import SEEN, Different, Seen, Shadow, shadowing
from oracle.scenario import DECK, LoadStep, RecordStep, Row, make, rfc3339, second
from rater.core.bucket.messages import DrawItem, DrawResult, FeeResult, Outcome
from rater.core.catalog.compiled import Catalog, compile_catalog
from rater.core.catalog.specs import Content
from rater.core.catalog_files.merging import Existing, Merged, merge, read_files
from rater.core.clients.lifecycle import due_change
from rater.core.clients.loading import load_change
from rater.core.clients.moments import due_before_calls_ms
from rater.core.clients.planning import Cause, Known
from rater.core.clients.state import read_state
from rater.core.clients.views import Views
from rater.core.instants import DAY_MS, HOUR_MS
from rater.core.line import batch as batches
from rater.core.line import steps
from rater.core.line.batch import LanePosition, Side, Standing
from rater.core.line.draw_request import RequestBuilder
from rater.core.line.due import part
from rater.core.notices import Notices

BUCKETS = 3
BATCH = 400
PIECE = 10
"""Worlds of one task."""
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
        for code in {rate["code"] for rate in rng.sample(table["rates"], min(2, len(table["rates"])))}:
            begin, end = second(at_ms - 3 * DAY_MS - 17_000), second(at_ms - DAY_MS - 17_000)
            table["rates"].append(
                {"code": code, "price": "0.77", "effective_from": begin, "effective_to": end}
            )
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
        rate = rng.choice(("10", "0.0000001", "-3", "33.333333"))
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
        if fits and rng.random() < 0.4:
            row[name] = True
    if rng.random() < 0.3:
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
    if rng.random() < 0.2:  # more than a call is asked with at first
        row["limits"] += [
            {"id": f"x{n}", "type": "volume", "service": "calls", "code": "*", "limit": 5} for n in range(6)
        ]
        row["client_balance"] = rng.choice(("allow", "deny"))
    for limit in row["limits"]:
        if limit["type"] == "volume" and rng.random() < 0.3:
            limit["rollover"] = rng.choice((1, 60))


def canonical(at_ms: int) -> str:
    """Return the date of an instant."""
    return rfc3339(at_ms)[:10]


class World:
    """A catalog and clients, as loads and due work have left them."""

    def __init__(self, seed: int) -> None:
        self.rng = rng = Random(f"world {seed}")  # noqa: S311 - the same again
        self.scenario = make(rng.randrange(10**6))
        loads = [step for step in self.scenario.steps if isinstance(step, LoadStep)]
        notices = Notices(limit_percents=rng.choice(PERCENTS), expiring_ms=rng.choice((0, DAY_MS)))
        self.states: dict[str, bytes] = {}
        self.owners: dict[str, str] = {}
        self.now_ms = 0
        content = None
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
        if rng.random() < 0.5:
            content = self.edit(content, notices)
        if rng.random() < 0.35:
            self.go_on()
        self.content, self.notices = content, notices
        self.edges = self.edges_of(content)
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

    def edit(self, content: Content | None, notices: Notices) -> Content:
        """Let packages be others, of which no state knows: what is due of them is worked out anew."""
        assert content is not None
        rng, content = self.rng, msgspec.msgpack.decode(msgspec.msgpack.encode(content), type=Content)
        for history in content.packages.values():
            at_ms = self.now_ms - rng.choice((0, 1000, DAY_MS, -DAY_MS))
            if rng.random() < 0.2 and at_ms > history.statuses[-1][0]:
                history.statuses.append((at_ms, rng.choice(("active", "disabled", "archived"))))
            if rng.random() < 0.5 and self.now_ms > history.versions[-1][0]:
                spec = replace(history.latest, priority=rng.choice((-3, 0, 4)), name="renamed")
                if rng.random() < 0.4:
                    dates = [None, *(canonical(self.now_ms + days * DAY_MS) for days in (-2, 1, 40))]
                    start = rng.choice((None, "2026-03-30"))
                    spec = replace(spec, end_date=rng.choice(dates), start_date=start)
                history.versions.append((self.now_ms, spec))
        self.catalog = compile_catalog(content, self.catalog.version + 1, notices)
        self.content = content
        return content

    def go_on(self) -> None:
        """Let it be about the moment at which something of a client is due before a call."""
        due = [due_before_calls_ms(read_state(raw), self.catalog) for raw in self.states.values()]
        later = [
            at_ms for at_ms in due if at_ms is not None and self.now_ms < at_ms < self.now_ms + 400 * DAY_MS
        ]
        if later:
            self.now_ms = self.rng.choice(later) + self.rng.choice((-2500, -1001, -1000, -999, -1, 0, 1))

    def edges_of(self, content: Content | None) -> list[int]:
        """Return instants of the last days at which something begins or ends."""
        assert content is not None
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


class Lane:
    """A lane without its servers, taken through the steps as `worker.Line` does."""

    def __init__(self, world: World, shadow: Shadow) -> None:
        self.world, self.shadow = world, shadow
        self.clients: dict[str, Any] = {}
        self.accounts: dict[str, str] = {}
        position = LanePosition(lane_ms=world.now_ms)
        self.standing = Standing(2, "commands", 7 * DAY_MS, 8 * DAY_MS, position)
        self.offset = 0

    def rate(self, records: Sequence[bytes]) -> None:
        """Take a batch through both engines."""
        world, standing, catalog = self.world, self.standing, self.world.catalog
        stamped = [
            SimpleNamespace(offset=self.offset + n, timestamp=self.stamp(), key=None, value=raw, headers=())
            for n, raw in enumerate(records)
        ]
        self.offset += len(records)
        half = len(stamped) // 2
        lane_ms = standing.lane_ms
        polled: list[tuple[str, list[Any]]] = [("t.cdrs", stamped[:half]), ("t.other", stamped[half:])]
        (batch,) = batches.slices(standing, polled, len(stamped))
        sides = steps.decode(batch, standing, {}, catalog.service_names)
        self.shadow.decoded(batch, standing, lane_ms, set(), sides, catalog)
        views = Views(self.clients, self.accounts)
        if world.rng.random() < 0.3:
            self.clients.clear()
        while True:
            self._identify(sides, catalog, views)
            now, changes, later = part(sides, catalog, views, standing, KEEP_MS)
            lacking = steps.price(now, catalog, views)
            if not lacking:
                _, lacking = steps.match(now, catalog, views, BUCKETS)
                if not lacking:
                    break
            self._have(lacking, views)
        whole = set(world.rng.sample(sorted(world.states), min(1, len(world.states))))
        self.shadow.matched(batch, standing, sides, catalog, views, BUCKETS, whole, set())
        held = {id(side) for side in later} | {
            id(side)
            for side in now
            for planned in changes
            if side.view is not None and side.view.id == planned.view.id
        }
        self._settle(
            [side for side in now if side.rejection is None and id(side) not in held],
            catalog,
            views,
            whole,
        )
        batch.sides = [side for side in batch.sides if side.rejection is not None or side.result is not None]
        self.shadow.rendered(batch, standing)

    def stamp(self) -> int:
        """Return a record's timestamp, seldom none."""
        rng = self.world.rng
        return rng.choice((-1, 5)) if rng.random() < 0.02 else self.world.now_ms + rng.randrange(2000)

    def _settle(self, sides: list[Side], catalog: Catalog, views: Views, whole: set[str]) -> None:
        """Give every side a result, as it was asked for with all limits of some clients."""
        requests, lacking = steps.match(sides, catalog, views, BUCKETS, whole)
        assert not lacking
        for builder in requests.values():
            request: RequestBuilder = builder
            for side, item in zip(request.sides, request.items, strict=True):
                side.result = self.world.result(item, side)

    def _identify(self, sides: list[Side], catalog: Catalog, views: Views) -> None:
        while lacking := steps.identify(sides, catalog, views):
            self._have(lacking, views)

    def _have(self, lacking: steps.Lacking, views: Views) -> None:
        states, owners = self.world.states, self.world.owners
        views.learn(
            lacking.clients,
            lacking.accounts,
            {client: states[client] for client in lacking.clients if client in states},
            {account: owners[account] for account in lacking.accounts if account in owners},
            dict.fromkeys(lacking.clients & states.keys(), BALANCE),
        )


def compare(seed: int, batches_max: int = 3, records: int = BATCH) -> None:
    """Compare the engines over a world; raises Different."""
    with shadowing() as shadow:
        world = World(seed)
        lane = Lane(world, shadow)
        for _ in range(batches_max):
            lane.rate([world.record() for _ in range(records)])


def work(given: tuple[int, int]) -> tuple[Seen, str]:
    """Compare worlds; returns what was seen, and the first difference."""
    first, count = given
    before = Seen(**vars(SEEN))
    problem = ""
    for seed in range(first, first + count):
        try:
            compare(seed)
        except (Different, AssertionError) as error:
            problem = f"seed {seed}: {error}"
            break
    return Seen(**{name: number - getattr(before, name) for name, number in vars(SEEN).items()}), problem


def main() -> int:
    """Compare so many sides, and say what was seen."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--sides", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=1)
    given = parser.parse_args()
    total, begun, seed = Seen(), time.monotonic(), given.seed
    with ProcessPoolExecutor(given.jobs) as pool:
        running: set[Future[tuple[Seen, str]]] = set()
        while total.sides < given.sides or running:
            while total.sides < given.sides and len(running) <= given.jobs:
                running.add(pool.submit(work, (seed, PIECE)))
                seed += PIECE
            done, running = wait(running, return_when=FIRST_COMPLETED)
            for seen, problem in (future.result() for future in done):
                total = Seen(**{name: number + getattr(seen, name) for name, number in vars(total).items()})
                if problem:
                    sys.stdout.write(f"{problem}\n{total}\n1 difference\n")
                    return 1
            sys.stderr.write(f"{total.sides:,} sides\r")
    sys.stdout.write(f"{total}, {time.monotonic() - begun:.0f} s\n0 differences\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
