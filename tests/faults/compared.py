"""What came of a backlog against the slow reference of tests/oracle, which shares no code with the worker.

`check_lane`: all calls of a client lay in one lane, so the order is that of the lane, and every transaction
has to equal the reference's in every field. `check_group`: calls of a client lay in any lane, so it is open
which of them drew first; all that does not hang on it has to be equal, and what was drawn has to be what
could be drawn.

Each runs in a process of its own and reads the topics itself.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import accumulate
from typing import Any, NamedTuple

import msgspec
from aiokafka import AIOKafkaConsumer, TopicPartition

from faults.auditor import CONTROL, EFFECT, Rec, record_of
from faults.backlog import GROUPS
from oracle import reference
from oracle.reference import MICROS, Call, Candidate, Cost, Rate, Reference, Row

SIDES = ("orig", "term")
FOUND_MAX = 20
"""Findings that are told; all are counted."""
GROUP = "group"
"""Header of an input record: the group of clients that it is of."""


class Lost(NamedTuple):
    """What Redis held at the moment when it was emptied."""

    stored: dict[str, dict[str, int]]
    """As `Run.stored`."""
    tokens: dict[int, int]
    """Lane → the newest token that a bucket knew. A token is its owner record's offset in the journal."""


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
    lost: tuple[Lost, ...] = ()
    """For each time that Redis was emptied, in order."""


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
    spans: dict[tuple[int, int, int], int]
    """How often Redis had been emptied when a transaction was decided; absent: never."""


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
    journal = await read_lane(run.bootstrap, f"{run.topics}transactions", lane)
    rejected = await read_lane(run.bootstrap, f"{run.topics}rejected", lane)
    return published_of(run, lane, journal, rejected, report)


def published_of(run: Run, lane: int, journal: list[Rec], rejected: list[Rec], report: Report) -> Published:
    """Return what was published by a lane's records of both topics."""
    out, span = Published({}, {}, {}), 0
    for record in journal:
        if CONTROL in record.headers and msgspec.msgpack.decode(record.headers[CONTROL])[0] == "owner":
            span = _span(run, lane, record.offset)
        if record.value is None or EFFECT not in record.headers:
            continue
        topic, partition, offset, index, *_ = msgspec.msgpack.decode(record.headers[EFFECT])
        if topic != f"{run.topics}cdrs":
            continue  # an opening balance
        place = partition, offset, index
        if place in out.transactions or partition != lane:
            report.find(f"{record.place} is a second one, or another lane's, of {place}")
        out.transactions[place] = json.loads(record.value)
        out.spans[place] = span
    for record in rejected:
        said = {name: raw.decode() for name, raw in record.headers.items()}
        index = SIDES.index(said["side"]) if said.get("side") else -1
        place = int(said["source_partition"]), int(said["source_offset"]), index
        if place in out.rejected or place in out.transactions or place[0] != lane:
            report.find(f"{record.place} is a second one, or another lane's, of {place}")
        out.rejected[place] = said["reason"], said["value"]
    return out


def _span(run: Run, lane: int, token: int) -> int:
    """Return how often Redis had been emptied when a lane's owner decided what it published.

    An owner that a bucket knew when Redis was emptied decides nothing afterwards, for it is not known there
    any more. One that none knew has decided nothing before, and finds nothing that was kept.
    """
    known = accumulate((lost.tokens[lane] for lost in run.lost), max)
    return sum(token > newest for newest in known)


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
    published = await read_published(run, lane, report)
    records = await read_lane(run.bootstrap, f"{run.topics}cdrs", lane)
    return compare_lane(run, lane, records, published, report)


def compare_lane(run: Run, lane: int, records: Iterable[Rec], published: Published, report: Report) -> Report:
    """Compare what was published of a lane's records with what comes of them in their order."""
    rater = Reference(run.window_days)
    loaded(run, lane, rater)
    for record in records:
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
        report.find(
            f"{place} at {record.at_ms} {raw!r}: reference {wanted}, published {transaction or rejected}"
        )


def _like(wanted: Row, rejected: tuple[str, str] | None) -> bool:
    """Compare a rejection; of the value where the reference knows its wording."""
    return rejected is not None and rejected[0] == wanted["reason"] and wanted["value"] in {None, rejected[1]}


def _compare_stored(
    run: Run, group: int, balances: dict[str, int], counters: dict[tuple[str, str], int], report: Report
) -> None:
    """Compare the group's balances and counters with what Redis holds."""
    for client in sorted(clients_of(run, group)):
        stored = {
            name: number for name, number in run.stored.get(client, {}).items() if name != "v" and number
        }
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
        """Start without a catalog."""
        super().__init__(window_days)
        self.asked: list[Asked] = []
        """Of the last record."""

    def _earlier(self, call: Call, client: str, now: int | None) -> tuple[Any, ...] | None:
        del call, client, now
        return None

    def _rate(
        self, call: Call, client: str, account: str | None, balance: int, *, repeat: bool
    ) -> tuple[Row, dict[tuple[str, str], int], int]:
        del balance, repeat
        catalog, currency = self.catalog, self.catalog.client(client)["currency"]
        value = self._head(call, client, account, currency)
        rate, cost, candidates = None, None, []
        if call.raw == 0:
            value.update(outcome="zero", why="unanswered" if call.times[1] is None else "grace")
        else:
            rate = reference.identify_rate(catalog, call, client, account)
            value.update(code=rate.code, code_name=rate.code_name, rate=rate.shown())
            billed = reference.billed_volume(call, rate)
            if billed is None:
                value.update(outcome="zero", why="grace")
            else:
                value["billed"] = billed
                cost = self.cost(call, rate, currency, billed, rate.setup_fee)
                reference.in_range(cost.micros)
                candidates = reference.find_candidates(catalog, call, client, account, rate, billed, cost)
        for one in candidates:
            if one.limit["type"] == "money":
                self.conversion(call).factor(currency, one.package["currency"])
        content = reference._content(call, account)  # noqa: SLF001 - what tells repeats from others
        self.asked.append(Asked(call, content, value, rate, cost, candidates))
        return value, {}, 0

    def cost(self, call: Call, rate: Rate, currency: str, volume: int, setup_fee: Fraction) -> Cost:
        """Return what so much volume costs the side, in the rate's and in the client's currency."""
        factor = self.conversion(call).factor(rate.currency, currency)
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
    report, published, records = Report(), Published({}, {}, {}), []
    for lane in range(GROUPS):
        of_lane = await read_published(run, lane, report)
        for record in await read_lane(run.bootstrap, f"{run.topics}cdrs", lane):
            if record.headers[GROUP] == str(group).encode():
                records.append(record)
                _move(record, of_lane, published)
    return compare_group(run, group, records, published, report)


def compare_group(
    run: Run, group: int, records: Iterable[Rec], published: Published, report: Report
) -> Report:
    """Check what was published of a group's records: what must be so in any order of draws."""
    rater = Open(run.window_days)
    loaded(run, group, rater)
    sides: dict[tuple[str, ...], list[Side]] = defaultdict(list)
    for record in records:
        report.counts["records"] += 1
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
    ends = [*map(_used, run.lost), counters]
    for side, transaction in rated:
        try:
            _check_draws(rater, side.asked, transaction, ends, published.spans.get(side.place, 0))
        except (AssertionError, KeyError) as problem:
            report.find(f"{side.place} {transaction}: {problem}")
    _compare_stored(run, group, balances, dict(counters), report)
    return report


def _used(lost: Lost) -> Counter[tuple[str, str]]:
    """Return the counters that Redis held."""
    used: Counter[tuple[str, str]] = Counter()
    for client, held in lost.stored.items():
        used.update({(client, name): number for name, number in held.items() if name not in {"b", "v"}})
    return used


def _move(record: Rec, of_lane: Published, published: Published) -> None:
    """Move what was published of a record."""
    for index in (-1, 0, 1):
        place = record.partition, record.offset, index
        if place in of_lane.transactions:
            published.transactions[place] = of_lane.transactions.pop(place)
            published.spans[place] = of_lane.spans[place]
        if place in of_lane.rejected:
            published.rejected[place] = of_lane.rejected.pop(place)


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
        report.find(
            f"{alike[0].asked.value['id']} of {[side.place for side in alike]} was rated {len(rated)} times"
        )
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


def _drawn(asked: Asked, transaction: Row) -> list[tuple[Candidate, Row]]:
    """Return each draw with its candidate. Raises KeyError for one of a limit that cannot apply."""
    known = {one.counter: one for one in asked.candidates}
    out = []
    for draw in transaction["draws"]:
        parts = (draw["client_package"], str(draw["period"]), draw["limit"])
        name = ".".join(part.replace("%", "%25").replace(".", "%2E") for part in parts)
        out.append((known[transaction["client"], name], draw))
    return out


def _taken(asked: Asked, transaction: Row, report: Report) -> Counter[tuple[str, str]]:
    """Return what a transaction took of counters; a draw from what is no candidate is a finding."""
    taken: Counter[tuple[str, str]] = Counter()
    try:
        for one, draw in _drawn(asked, transaction):
            taken[one.counter] += units(draw)
            report.counts["draws"] += 1
    except KeyError as limit:
        report.find(f"{transaction} drew from {limit}, which cannot apply")
    return taken


class Checking(NamedTuple):
    """A rated side with its transaction. Candidates are in their order."""

    rater: Open
    asked: Asked
    rate: Rate
    cost: Cost
    transaction: Row
    usable: list[Candidate]
    draws: dict[tuple[str, str], Row]
    """By counter."""
    left: dict[tuple[str, str], int]
    """By counter: when all was done, or Redis was next emptied."""
    least: dict[tuple[str, str], int]
    """By counter: at any of these moments."""

    def used(self, one: Candidate) -> int:
        """Return what the side took of a limit."""
        draw = self.draws.get(one.counter)
        return units(draw) if draw else 0


def _check_draws(
    rater: Open, asked: Asked, transaction: Row, ends: list[Counter[tuple[str, str]]], span: int
) -> None:
    """Check a transaction against what was left when all was done; raises AssertionError.

    Counters only grow. So a limit that has something left in the end had so at any time, and a call that it
    applies to has drawn from it, or from one before it. But not beyond a moment at which Redis is emptied:
    what was drawn and not published is lost then, and decided anew, in another order of lanes. A call that
    was published before may have met a limit that such a draw had used up, and that has something left again.

    ends: the counters each time that Redis was emptied, and in the end; span: which of them was the next when
    the transaction was decided.
    """
    fixed = {name: value for name, value in asked.value.items() if name not in OPEN}
    assert {name: value for name, value in transaction.items() if name not in OPEN} == fixed, fixed
    if asked.rate is None or asked.cost is None:
        assert transaction == asked.value, asked.value
        return
    judged = any(reference.allows(one) for one in asked.candidates)
    assert ("balance_sufficient" in transaction) == judged
    sufficient = transaction.get("balance_sufficient", True)
    usable = [one for one in asked.candidates if sufficient or not reference.allows(one)]
    sizes = {one.counter: one.size(rater.catalog.services) for one in usable}
    left = {name: size - ends[span][name] for name, size in sizes.items()}
    least = {name: size - max(end[name] for end in ends) for name, size in sizes.items()}
    drawn = _drawn(asked, transaction)
    draws = {one.counter: draw for one, draw in drawn}
    one = Checking(rater, asked, asked.rate, asked.cost, transaction, usable, draws, left, least)
    _check_shown(one, drawn)
    chosen = [each for each in usable if not drawn or each.client_package is drawn[0][0].client_package]
    need = _check_volumes(one, chosen)
    due = _check_money(one, chosen, need)
    for each in usable:
        if each.counter in draws:
            return
        money = each.limit["type"] == "money"
        assert left[each.counter] <= 0 or (money and not due and not drawn), f"{each.counter} came first"


def _check_shown(one: Checking, drawn: list[tuple[Candidate, Row]]) -> None:
    """Check that draws are of one client package, in order, and say what is so."""
    order = [one.usable.index(each) for each, _ in drawn]
    assert order == sorted(set(order)), order
    assert len({each.client_package.row["id"] for each, _ in drawn}) <= 1, "draws of two client packages"
    for each, draw in drawn:
        size, package = each.size(one.rater.catalog.services), each.package
        after = micros(draw["left"]) if draw["kind"] == "money" else int(draw["left"])
        assert one.least[each.counter] >= 0, f"{each.counter} is overdrawn"
        assert 0 < units(draw) <= size - after, draw
        assert after >= one.left[each.counter], draw
        shown = (draw["package"], draw["package_name"], draw["kind"], draw["tag"])
        wanted = (package["id"], package["name"], each.limit["type"], package.get("dynamic_tag"))
        assert shown == wanted, draw


def _check_volumes(one: Checking, chosen: list[Candidate]) -> int:
    """Check what was taken of the billed volume, and that nothing was left of what had to be taken.

    Returns the volume that is to be paid.
    """
    need = int(one.transaction["billed"])
    for each in chosen:
        if each.limit["type"] != "volume":
            continue
        most, used = min(need, int(each.limit.get("per_call_max") or need)), one.used(each)
        assert used <= most, f"{each.counter} gave more than the call needed"
        assert used == most or one.left[each.counter] <= 0, f"{each.counter} had more"
        need -= used
    assert one.transaction["overage"] == need, need
    return need


def _check_money(one: Checking, chosen: list[Candidate], need: int) -> bool:
    """Compute the amount from the draws, and check that nothing was left of what had to cover it.

    Returns whether there was something to cover that a limit shows.
    """
    transaction, currency = one.transaction, one.transaction["currency"]
    waived = need < transaction["billed"] and chosen[0].package.get("setup_fee") == "dont_charge"
    setup_fee = Fraction(0) if waived else one.rate.setup_fee
    assert transaction["setup_fee"] == reference.decimal_text(setup_fee)
    conversion = one.rater.conversion(one.asked.call)
    conversion.show(one.rate.currency, currency)
    rest = one.rater.cost(one.asked.call, one.rate, currency, need, setup_fee).micros
    to_cover = abs(rest) if rest * one.cost.micros > 0 else 0
    uncovered, hidden = to_cover, False
    for each in chosen:
        if each.limit["type"] != "money" or not uncovered:
            assert each.limit["type"] != "money" or not one.used(each), f"{each.counter} gave too much"
            continue
        of_package, used = each.package["currency"], one.used(each)
        due = reference.half_up(uncovered * conversion.factor(currency, of_package))
        if due == 0 and (one.left[each.counter] > 0 or micros(transaction["amount"]) == 0):
            uncovered, hidden = 0, True  # covered, and not shown
        assert used <= due, f"{each.counter} gave too much"
        assert used == due or one.left[each.counter] <= 0, f"{each.counter} had more"
        if not used:
            continue
        covered = uncovered
        if used < due:
            covered = min(reference.half_up(used * conversion.factor(of_package, currency)), uncovered)
        conversion.show(currency, of_package)
        told = one.draws[each.counter]["currency"], one.draws[each.counter]["covered"]
        assert told == (of_package, reference.money_text(covered)), told
        uncovered -= covered
    paid = (to_cover - uncovered) if rest > 0 else uncovered - to_cover
    assert transaction["amount"] == reference.money_text(rest - paid), reference.money_text(rest - paid)
    assert transaction.get("fx", []) == conversion.shown, conversion.shown
    return to_cover > 0 and not hidden
