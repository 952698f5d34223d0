"""What came of a backlog against the slow reference of tests/oracle, which shares no code with the worker.

`check_lane`: all calls of a client lay in one lane, so the order is that of the lane, and every transaction has to
equal the reference's in every field. `check_group`: calls of a client lay in any lane, so it is open which of them
drew first; all that does not hang on it has to be equal, and what was drawn has to be what could be drawn.

Each runs in a process of its own and reads the topics itself.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, NamedTuple

import msgspec
from aiokafka import AIOKafkaConsumer, TopicPartition

from faults.auditor import EFFECT, Rec, record_of
from faults.backlog import GROUPS
from oracle import reference
from oracle.reference import MICROS, Call, Candidate, Cost, Rate, Reference, Rejected, Row

SIDES = ("orig", "term")
FOUND_MAX = 20
"""Findings that are told; all are counted."""
GROUP = "group"
"""Header of an input record: the group of clients that it is of."""


@dataclass(frozen=True)
class Run:
    """Where a run's results lie. catalog: as it was loaded, at at_ms, as version 1."""

    bootstrap: str
    topics: str
    catalog: Row
    at_ms: int
    window_days: int
    stored: dict[str, dict[str, int]]
    """Client → hash field in Redis → number (auditor.read_store)."""


@dataclass
class Report:
    """What was compared, and what differs."""

    counts: Counter[str] = field(default_factory=Counter)
    found: list[str] = field(default_factory=list)

    def find(self, what: str) -> None:
        """Note a finding."""
        self.counts["findings"] += 1
        if len(self.found) < FOUND_MAX:
            self.found.append(what)


class Published(NamedTuple):
    """What was published, by the side (lane, offset, index) that it is of; index -1: no side was read."""

    transactions: dict[tuple[int, int, int], Row]
    rejected: dict[tuple[int, int, int], tuple[str, str]]
    """Reason and value."""


# --- reading


async def read_lane(bootstrap: str, topic: str, lane: int) -> list[Rec]:
    """Return all committed records of a partition."""
    place = TopicPartition(topic, lane)
    found: list[Rec] = []
    async with AIOKafkaConsumer(
        bootstrap_servers=bootstrap, auto_offset_reset="earliest", isolation_level="read_committed",
        fetch_max_wait_ms=50,
    ) as reader:  # fmt: skip
        reader.assign([place])
        end = (await reader.end_offsets([place]))[place]
        while await reader.position(place) < end:
            found += map(record_of, (await reader.getmany(timeout_ms=200)).get(place, ()))
    return found


async def read_published(run: Run, lane: int, report: Report) -> Published:
    """Return what a lane published; a side that did so twice is a finding."""
    out = Published({}, {})
    for record in await read_lane(run.bootstrap, f"{run.topics}transactions", lane):
        if record.value is None or EFFECT not in record.headers:
            continue
        topic, partition, offset, index, *_ = msgspec.msgpack.decode(record.headers[EFFECT])
        if topic != f"{run.topics}cdrs":
            continue  # an opening balance
        place = partition, offset, index
        if place in out.transactions or partition != lane:
            report.find(f"{record.place} is a second one, or another lane's, of {place}")
        out.transactions[place] = json.loads(record.value)
    for record in await read_lane(run.bootstrap, f"{run.topics}rejected", lane):
        said = {name: raw.decode() for name, raw in record.headers.items()}
        index = SIDES.index(said["side"]) if said.get("side") else -1
        place = int(said["source_partition"]), int(said["source_offset"]), index
        if place in out.rejected or place in out.transactions or place[0] != lane:
            report.find(f"{record.place} is a second one, or another lane's, of {place}")
        out.rejected[place] = said["reason"], said["value"]
    return out


def clients_of(run: Run, group: int) -> set[str]:
    """Return the clients of a group."""
    return {row["id"] for row in run.catalog["clients"][group::GROUPS]}


def loaded(run: Run, group: int, rater: Reference) -> None:
    """Load the catalog, but client packages of the group's clients alone: others are never looked at."""
    clients = clients_of(run, group)
    held = [row for row in run.catalog["client_packages"] if row["client"] in clients]
    rater.load({**run.catalog, "client_packages": held}, run.at_ms, 1)


# --- in one order


def check_lane(run: Run, lane: int) -> Report:
    """Rate a lane's records in their order by the reference, and compare everything."""
    return asyncio.run(_check_lane(run, lane))


async def _check_lane(run: Run, lane: int) -> Report:
    report = Report()
    rater = Reference(run.window_days)
    loaded(run, lane, rater)
    published = await read_published(run, lane, report)
    for record in await read_lane(run.bootstrap, f"{run.topics}cdrs", lane):
        report.counts["records"] += 1
        for wanted in rater.rate(record.value, record.at_ms):
            _compare_side(record, wanted, published, report)
    for place in (*published.transactions, *published.rejected):
        report.find(f"{place} was published and is of no side, or of a duplicate")
    _compare_stored(run, lane, rater.balances, dict(rater.counters), report)
    return report


def _compare_side(record: Rec, wanted: Row, published: Published, report: Report) -> None:
    """Compare one side, and take what was published of it out."""
    index = SIDES.index(wanted["side"]) if wanted["side"] else -1
    place = record.partition, record.offset, index
    transaction = published.transactions.pop(place, None)
    rejected = published.rejected.pop(place, None)
    report.counts[wanted["outcome"]] += 1
    match wanted["outcome"]:
        case "transaction":
            same = transaction == wanted["value"] and rejected is None
            report.counts["draws"] += len(wanted["value"]["draws"])
        case "rejected":
            report.counts[wanted["reason"]] += 1
            same = transaction is None and _like(wanted, rejected)
        case _:
            same = transaction is None and rejected is None
    if not same:
        raw = (record.value or b"")[:600]
        report.find(f"{place} at {record.at_ms} {raw!r}: reference {wanted}, published {transaction or rejected}")


def _like(wanted: Row, rejected: tuple[str, str] | None) -> bool:
    """Compare a rejection; of the value where the reference knows its wording."""
    return rejected is not None and rejected[0] == wanted["reason"] and wanted["value"] in {None, rejected[1]}


def _compare_stored(
    run: Run, group: int, balances: dict[str, int], counters: dict[tuple[str, str], int], report: Report
) -> None:
    """Compare the group's balances and counters with what Redis holds."""
    for client in sorted(clients_of(run, group)):
        stored = {name: number for name, number in run.stored.get(client, {}).items() if name != "v" and number}
        wanted = {name: number for (owner, name), number in counters.items() if owner == client and number}
        if balances[client]:
            wanted["b"] = balances[client]
        report.counts["counters"] += len(wanted)
        for name in sorted(stored.keys() ^ wanted.keys() | {n for n in wanted if stored.get(n) != wanted[n]}):
            report.find(f"client {client} {name}: Redis {stored.get(name)}, reference {wanted.get(name)}")


# --- in an open order


class Asked(NamedTuple):
    """A side that can be rated: what it may draw from, and all that hangs on no order."""

    call: Call
    content: tuple[Any, ...]
    value: Row
    rate: Rate | None
    cost: Cost | None
    candidates: list[Candidate]


OPEN = {"draws", "overage", "setup_fee", "amount", "balance_sufficient", "fx"}
"""Fields of a transaction that hang on what was left."""


class Open(Reference):
    """The reference up to where limits are drawn: no call hangs on one before it."""

    def __init__(self, window_days: int) -> None:
        super().__init__(window_days)
        self.asked: list[Asked] = []
        """Of the last record."""

    def _earlier(self, call: Call, client: str, now: int | None) -> tuple[Any, ...] | None:
        del call, client, now
        return None

    def _rate(
        self, call: Call, client: str, account: str | None, balance: int
    ) -> tuple[Row, dict[tuple[str, str], int], int]:
        del balance
        content = reference._content(call, account)  # noqa: SLF001 - what tells repeats from others
        value = self._head(call, client, account, self.catalog.client(client)["currency"])
        rate, cost, candidates = None, None, []
        if call.raw == 0:
            value.update(outcome="zero", why="unanswered")
        else:
            rate = reference.identify_rate(self.catalog, call, client, account)
            value.update(code=rate.code, code_name=rate.code_name, rate=rate.shown())
            billed = reference.billed_volume(call, rate)
            if billed is None:
                value.update(outcome="zero", why="grace")
            else:
                value["billed"] = billed
                cost = self.cost(call, rate, value, billed, rate.setup_fee)
                reference.in_range(cost.micros)
                candidates = reference.find_candidates(self.catalog, call, client, account, rate, billed, cost)
        self.asked.append(Asked(call, content, value, rate, cost, candidates))
        return value, {}, 0

    def cost(self, call: Call, rate: Rate, value: Row, volume: int, setup_fee: Fraction) -> Cost:
        """Return what so much volume costs the side."""
        factor = self.conversion(call).factor(rate.currency, value["currency"])
        return reference.cost_of(call, rate, volume, setup_fee, self.catalog.services[call.service], factor)

    def conversion(self, call: Call) -> reference.Conversion:
        """Return the conversions of the call's time."""
        return reference.Conversion(self.catalog, call.at_ms)


def check_group(run: Run, group: int) -> Report:
    """Check what came of a group's records, whatever the order in which lanes drew."""
    return asyncio.run(_check_group(run, group))


class Side(NamedTuple):
    """One side of one record, and where it lay."""

    place: tuple[int, int, int]
    asked: Asked


async def _check_group(run: Run, group: int) -> Report:
    report, rater = Report(), Open(run.window_days)
    loaded(run, group, rater)
    published = Published({}, {})
    sides: dict[tuple[str, ...], list[Side]] = defaultdict(list)
    for lane in range(GROUPS):
        of_lane = await read_published(run, lane, report)
        for record in await read_lane(run.bootstrap, f"{run.topics}cdrs", lane):
            if record.headers[GROUP] != str(group).encode():
                continue
            report.counts["records"] += 1
            places = [(lane, record.offset, index) for index in (-1, 0, 1)]
            for place in places:
                if place in of_lane.transactions:
                    published.transactions[place] = of_lane.transactions.pop(place)
                if place in of_lane.rejected:
                    published.rejected[place] = of_lane.rejected.pop(place)
            for side in _asked_of(rater, record, published, report):
                call = side.asked.call
                sides[call.source, call.id, call.side, side.asked.value["client"]].append(side)
    rated = [one for alike in sides.values() for one in _rated_once(alike, published, report)]
    for place in (*published.transactions, *published.rejected):
        report.find(f"{place} was published and is of no side, or of a duplicate")
    balances, counters = dict(rater.balances), Counter[tuple[str, str]]()
    for side, transaction in rated:
        balances[transaction["client"]] += micros(transaction["amount"])
        counters.update(_taken(side.asked, transaction, report))
    for side, transaction in rated:
        try:
            _check_draws(rater, side.asked, transaction, counters)
        except AssertionError as problem:
            report.find(f"{side.place} {transaction}: {problem}")
    _compare_stored(run, group, balances, dict(counters), report)
    return report


def _asked_of(rater: Open, record: Rec, published: Published, report: Report) -> Iterator[Side]:
    """Yield the sides that can be rated; compare those that cannot."""
    rater.asked.clear()
    for wanted in rater.rate(record.value, record.at_ms):
        if wanted["outcome"] == "rejected":
            _compare_side(record, wanted, published, report)
        else:
            yield Side((record.partition, record.offset, SIDES.index(wanted["side"])), rater.asked.pop(0))


def _rated_once(alike: list[Side], published: Published, report: Report) -> Iterator[tuple[Side, Row]]:
    """Yield the one of the sides with one id that was rated; the others are duplicates, or differ."""
    rated = [side for side in alike if side.place in published.transactions]
    if len(rated) != 1:
        report.find(f"{alike[0].asked.value['id']} of {[side.place for side in alike]} was rated {len(rated)} times")
        return
    for side in alike:
        rejected = published.rejected.pop(side.place, None)
        if side is rated[0]:
            outcome, wanted = "transaction", None
        elif side.asked.content == rated[0].asked.content:
            outcome, wanted = "duplicate", None
        else:
            outcome, wanted = "duplicate_differs", ("duplicate_differs", side.asked.call.id)
            report.counts["rejected"] += 1
        report.counts[outcome] += 1
        if rejected != wanted:
            report.find(f"{side.place} is {outcome}, and was published as {rejected}")
    yield rated[0], published.transactions.pop(rated[0].place)


def micros(text: str) -> int:
    """Return a decimal of a currency in micros."""
    return int(Fraction(text) * MICROS)


def units(draw: Row) -> int:
    """Return what a draw took: counting units, or micros."""
    return micros(draw["taken"]) if draw["kind"] == "money" else int(draw["taken"])


def _drawn(asked: Asked, transaction: Row) -> list[tuple[int, Candidate, Row]]:
    """Return each draw with its candidate and that one's place in the order."""
    known = {one.counter: (place, one) for place, one in enumerate(asked.candidates)}
    out = []
    for draw in transaction["draws"]:
        parts = (draw["client_package"], str(draw["period"]), draw["limit"])
        name = ".".join(part.replace("%", "%25").replace(".", "%2E") for part in parts)
        place, one = known[transaction["client"], name]
        out.append((place, one, draw))
    return out


def _taken(asked: Asked, transaction: Row, report: Report) -> Counter[tuple[str, str]]:
    """Return what a transaction took of counters; a draw from what is no candidate is a finding."""
    taken: Counter[tuple[str, str]] = Counter()
    try:
        for _, one, draw in _drawn(asked, transaction):
            taken[one.counter] += units(draw)
            report.counts["draws"] += 1
    except KeyError as limit:
        report.find(f"{transaction} drew from {limit}, which cannot apply")
    return taken


def _check_draws(rater: Open, asked: Asked, transaction: Row, counters: Counter[tuple[str, str]]) -> None:
    """Check a transaction against what was left when all was done; raises AssertionError.

    Counters only grow. So a limit that has something left in the end had so at any time, and a call that it
    applies to has drawn from it, or from one before it.
    """
    fixed = {name: value for name, value in asked.value.items() if name not in OPEN}
    assert {name: value for name, value in transaction.items() if name not in OPEN} == fixed, fixed
    if asked.rate is None or asked.cost is None:
        assert transaction == asked.value, asked.value
        return
    judged = any(reference.allows(one) for one in asked.candidates)
    assert ("balance_sufficient" in transaction) == judged
    sufficient = transaction.get("balance_sufficient", True)
    services = rater.catalog.services
    left = {one.counter: one.size(services) - counters[one.counter] for one in asked.candidates}
    usable = [
        (place, one)
        for place, one in enumerate(asked.candidates)
        if sufficient or not reference.allows(one)
    ]
    drawn = _drawn(asked, transaction)
    for _, one, draw in drawn:
        size = one.size(services)
        after = micros(draw["left"]) if draw["kind"] == "money" else int(draw["left"])
        assert counters[one.counter] <= size, f"{one.counter} is overdrawn"
        assert 0 < units(draw) <= size - after, draw
        assert after >= left[one.counter], draw
        shown = (draw["package"], draw["package_name"], draw["kind"], draw["tag"])
        package = one.package
        assert shown == (package["id"], package["name"], one.limit["type"], package.get("dynamic_tag")), draw
    places = [place for place, *_ in drawn]
    assert places == sorted(set(places))
    assert set(places) <= {place for place, _ in usable}
    assert len({one.client_package.row["id"] for _, one, _ in drawn}) <= 1, "draws of two client packages"
    _check_money(rater, asked, transaction, drawn, usable, left)


def _check_money(
    rater: Open,
    asked: Asked,
    transaction: Row,
    drawn: list[tuple[int, Candidate, Row]],
    usable: list[tuple[int, Candidate]],
    left: dict[tuple[str, str], int],
) -> None:
    """Compute the amount from the draws, and check that nothing was left that had to be drawn."""
    call, rate, cost = asked.call, asked.rate, asked.cost
    assert rate is not None
    assert cost is not None
    currency, billed = transaction["currency"], transaction["billed"]
    taken = {one.counter: units(draw) for _, one, draw in drawn}
    chosen = drawn[0][1].client_package if drawn else None
    need = billed
    for _, one in usable:
        if one.limit["type"] == "volume" and one.client_package is chosen:
            most = min(need, int(one.limit.get("per_call_max") or need))
            assert taken.get(one.counter, 0) <= most, one.counter
            assert taken.get(one.counter, 0) == most or left[one.counter] <= 0, f"{one.counter} had more"
            need -= taken.get(one.counter, 0)
    assert transaction["overage"] == need
    waived = need < billed and drawn[0][1].package.get("setup_fee") == "dont_charge"
    setup_fee = Fraction(0) if waived else rate.setup_fee
    assert transaction["setup_fee"] == reference.decimal_text(setup_fee)

    conversion = rater.conversion(call)
    conversion.show(rate.currency, currency)
    rest = rater.cost(call, rate, transaction, need, setup_fee).micros
    toward = rest if (rest < 0) == (cost.exact < 0) else 0
    open_cost, nothing_due = abs(toward), False
    for _, one in usable:
        if one.limit["type"] != "money" or (chosen is not None and one.client_package is not chosen):
            continue
        of_package = one.package["currency"]
        due = reference.half_up(open_cost * conversion.factor(currency, of_package))
        if open_cost and due == 0 and (left[one.counter] > 0 or micros(transaction["amount"]) == 0):
            open_cost, nothing_due = 0, True  # covered, and not shown
        used = taken.get(one.counter, 0)
        assert used <= due, one.counter
        if open_cost and used == 0:
            assert left[one.counter] <= 0, f"{one.counter} was not drawn"
        if used == 0:
            continue
        covered = open_cost
        if used < due:
            assert left[one.counter] <= 0, f"{one.counter} had more"
            covered = min(reference.half_up(used * conversion.factor(of_package, currency)), open_cost)
        conversion.show(currency, of_package)
        (draw,) = [draw for _, other, draw in drawn if other is one]
        assert (draw["currency"], draw["covered"]) == (of_package, reference.money_text(covered)), draw
        open_cost -= covered
    amount = rest - toward + (open_cost if toward > 0 else -open_cost)
    assert transaction["amount"] == reference.money_text(amount), reference.money_text(amount)
    assert transaction.get("fx", []) == conversion.shown, conversion.shown
    first = drawn[0][0] if drawn else len(asked.candidates)
    for place, one in usable:
        if place < first and left[one.counter] > 0:
            assert not drawn, f"{one.counter} came first"
            assert nothing_due, f"{one.counter} was not drawn"
