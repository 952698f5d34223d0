"""The native engine beside the reference: wherever the line decides, both are asked, and compared in bytes.

While `shadowing()` holds, each batch that any `Line` processes goes through the native engine too. Compared
are: which sides are rated (decode), whose each is, its rate and its price, which clients go back since
something of them is due, the request of each bucket as it goes to Redis, and transactions, effects, events,
refusals and counts.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from rater.core.bucket.messages import Outcome, pack_results
from rater.core.catalog.compiled import Catalog
from rater.core.catalog.specs import Content
from rater.core.cdr import Cdr
from rater.core.clients.state import write_state
from rater.core.clients.views import Views
from rater.core.journal.records import CHANGE_INDEX_MIN, Outgoing
from rater.core.kinds import SideOutcome, TransactionType
from rater.core.line import steps
from rater.core.line.batch import Batch, Side, Standing
from rater.core.line.due import bound_ms
from rater.core.line.engine import Lacking
from rater.core.notices import Notices
from rater.core.rating import duplicates
from rater.native import engine, feeding
from rater.store.keys import Keys
from rater.store.packing import pack_draw
from rater.stream.batches import sizes
from rater.worker.line import Line

TOKEN, NUMBER, TRIM, FLOOR = 7, 9, 3, 11
RUN_BYTES = 3000
"""Of a Kafka batch: a few transactions."""
OUTCOMES = (SideOutcome.RATED, SideOutcome.ZERO, SideOutcome.DUPLICATE)


class Different(AssertionError):  # noqa: N818 - what it says
    """The engines differ."""


def same(what: str, reference: object, native: object, *about: object) -> None:
    """Raise Different unless the two are equal."""
    if reference != native:
        raise Different(f"{what}\n  reference {reference!r}\n  native    {native!r}\n  {about}")


@dataclass
class Seen:
    """How much was compared."""

    sides: int = 0
    rejected: int = 0
    requests: int = 0
    transactions: int = 0
    events: int = 0
    fees: int = 0
    returned: int = 0


SEEN = Seen()
_contents: dict[int, tuple[Catalog, Content]] = {}
_loaded: dict[int, tuple[Catalog, engine.Catalog]] = {}


def native_of(catalog: Catalog) -> engine.Catalog:
    """Return the same catalog, ready for native rating."""
    found = _loaded.get(id(catalog))
    if found is None:
        content = _contents[id(catalog)][1]
        found = catalog, feeding.load(content, catalog.version, catalog.notices)
        _loaded[id(catalog)] = found
    return found[1]


@dataclass
class Round:
    """What one round of a batch asked."""

    batch: engine.Batch
    sides: dict[tuple[int, int], Side]
    requests: dict[int, list[Side]] = field(default_factory=dict)


@dataclass
class Beside:
    """A batch as the native engine sees it."""

    lane_ms: int
    rounds: list[Round] = field(default_factory=list)


class Shadow:
    """Asks the native engine the same."""

    def __init__(self) -> None:
        self.cache = feeding.new_cache()
        self.beside: dict[int, Beside] = {}

    # ------------------------------------------------------------------ decode
    def decoded(
        self,
        batch: Batch,
        standing: Standing,
        lane_ms: int,
        replayed: set[tuple[int, int]],
        sides: Sequence[Side],
        catalog: Catalog | None,
    ) -> None:
        """Compare what was read. lane_ms: before the batch."""
        self.beside[id(batch)] = Beside(lane_ms)
        skip: dict[int, int] = {}
        for offset, index in (one for one in replayed if one[1] < CHANGE_INDEX_MIN):
            skip[offset] = skip.get(offset, 0) | 1 << index
        native, returned = self._native(batch, standing, lane_ms, catalog, skip)
        same("lane_ms", standing.lane_ms, native.lane_ms)
        numbers = {id(record): number for number, record in enumerate(records_of(batch))}
        same(
            "sides",
            [told(side, numbers[id(side.record)]) for side in sides],
            [as_told(one) for one in native.told()],
        )
        rejected = {numbers[id(side.record)] for side in batch.sides if side.rejection is not None}
        # A replayed side's record is returned where another side of it is rejected.
        same("returned records", rejected, set(returned) if not replayed else rejected & set(returned))
        SEEN.sides += len(sides)
        SEEN.rejected += len(rejected)

    def _native(
        self, batch: Batch, standing: Standing, lane_ms: int, catalog: Catalog | None, skip: dict[int, int]
    ) -> tuple[engine.Batch, list[int]]:
        native = engine.Batch(self.cache, standing.lane, lane_ms, standing.window_ms)
        returned: list[int] = []
        for topic, records in batch.polled:
            returned += native.decode(
                None if catalog is None else native_of(catalog),
                topic,
                [record.value for record in records],
                [record.offset for record in records],
                [record.timestamp for record in records],
                replayed=bytes(skip.get(record.offset, 0) for record in records),
                traces=batch.traces.by_record(topic, records),
            )
        return native, returned

    # ------------------------------------------------------------------ identify, price, match, request
    def matched(
        self,
        batch: Batch,
        standing: Standing,
        sides: Sequence[Side],
        catalog: Catalog,
        views: Views,
        buckets: int,
        whole: set[str],
        parted: set[str],
    ) -> None:
        """Compare a round of these sides. parted: clients of whom some wait for another round."""
        numbers = {id(record): number for number, record in enumerate(records_of(batch))}
        wanted = {(numbers[id(side.record)], side.index): side for side in sides}
        skip = {
            record.offset: 3 & ~sum(1 << index for index in (0, 1) if (number, index) in wanted)
            for number, record in enumerate(records_of(batch))
        }
        lane_ms = self.beside[id(batch)].lane_ms
        native, _ = self._native(batch, standing, lane_ms, catalog, skip)
        of_catalog = native_of(catalog)
        self.cache.clear()
        self._identified(native, of_catalog, views, sides)
        native.give_back(sorted(parted))
        whole = whole | {side.view.id for side in sides if side.whole and side.view is not None}
        while any(lacking := native.prepare(of_catalog, buckets, sorted(whole))):
            answer(native, lacking, views, sides)
            self._identified(native, of_catalog, views, sides)
        requests = native.requests()
        returned = set(native.returned())
        due = parted | {
            side.view.id
            for side in wanted.values()
            if side.view is not None
            and (before := views.find(side.view.id)) is not None
            and before.due_ms(catalog) <= bound_ms(side, standing)
        }
        self._priced(native, wanted, returned, due)
        ours = [side for place, side in wanted.items() if place not in returned]
        SEEN.returned += len(returned)
        self._requests(native, requests, standing, (ours, catalog, views, buckets, whole))
        self.beside[id(batch)].rounds.append(Round(native, wanted, self._asked(requests, ours, buckets)))

    def _identified(
        self, native: engine.Batch, catalog: engine.Catalog, views: Views, sides: Sequence[Side]
    ) -> None:
        while any(lacking := native.identify(catalog)):
            answer(native, lacking, views, sides)

    def _priced(
        self,
        native: engine.Batch,
        wanted: dict[tuple[int, int], Side],
        returned: set[tuple[int, int]],
        due: set[str],
    ) -> None:
        for one in native.told():
            side = wanted[one["place"]]
            client = None if side.view is None else side.view.id
            if one["place"] in returned:
                if side.rejection is None and client not in due:
                    raise Different(
                        f"returned, and the reference rates it: {one} {side.view and side.view.state}"
                    )
                continue
            if client in due:
                raise Different(f"something of the client is due first: {one}")
            same("rejected", None, side.rejection, one)
            assert side.priced is not None
            assert side.view is not None
            priced = side.priced
            rate = "" if side.rate is None else side.rate.text().fragment
            cost = [str(number) for number in reduced(priced.cost)]
            same("client", (client, side.account), (one["client"], one["account"]), one)
            same("rate", rate, one["rate"], one)
            told_priced = priced.why, priced.billed, cost, priced.sign, list(priced.fx)
            same("priced", told_priced, one["priced"], one)

    def _requests(
        self,
        native: engine.Batch,
        requests: list[tuple[int, int]],
        standing: Standing,
        asked: tuple[Sequence[Side], Catalog, Views, int, set[str]],
    ) -> None:
        ours, catalog, views, buckets, whole = asked
        saved = [(side, [getattr(side, name) for name in side.__struct_fields__]) for side in ours]
        expected, lacking = steps.match(ours, catalog, views, buckets, whole)
        assert not lacking
        same("buckets", list(expected), [bucket for _, bucket in requests])
        for number, bucket in requests:
            keys = Keys("rater:", bucket, buckets)
            request = expected[bucket].request(standing, TOKEN, NUMBER, TRIM, FLOOR)
            args = pack_draw(request, keys)
            clients, payload, digests, context, changes = native.packed(
                number, request.generation, TRIM, FLOOR
            )
            near = request.generation, request.generation - 1, request.generation + 1
            names = [keys.gate, keys.lane(request.lane), keys.outcomes(request.lane)]
            names += (*map(keys.generation, near), *map(keys.cells, near))
            names += [keys.client + client for client in clients]
            same("keys", args.keys, [*names, keys.nothing, keys.unsettled])
            argv = [request.lane, TOKEN, NUMBER, payload, digests, context]
            if changes is not None:
                argv.append(changes)
            if args.argv != argv:
                compare_argv(args.argv, argv)
            SEEN.requests += 1
        for side, values in saved:  # the request of the line itself is another one
            for name, value in zip(side.__struct_fields__, values, strict=True):
                setattr(side, name, value)

    def _asked(
        self, requests: list[tuple[int, int]], ours: Sequence[Side], buckets: int
    ) -> dict[int, list[Side]]:
        out: dict[int, list[Side]] = {}
        for number, bucket in requests:
            out[number] = [
                side for side in ours if side.view is not None and side.view.crc % buckets == bucket
            ]
        return out

    # ------------------------------------------------------------------ settle, render
    def rendered(self, batch: Batch, standing: Standing) -> None:
        """Compare what is published; called before the line renders."""
        beside = self.beside.pop(id(batch), None)
        if beside is None:
            return
        later: set[int] = set()
        for one in reversed(beside.rounds):
            mine: list[Side] = []
            for number, sides in one.requests.items():
                if any(side.result is None or id(side) in later for side in sides):
                    one.batch.again(number, [])
                    continue
                packed = pack_results([], [side.result for side in sides if side.result is not None])
                one.batch.settle(number, packed)
                mine += sides
            later |= {id(side) for side in one.sides.values()}
            if mine:
                self._published(batch, standing, one, mine)

    def _published(self, batch: Batch, standing: Standing, one: Round, mine: list[Side]) -> None:
        alone = Batch(standing, [])
        alone.traces = batch.traces
        ours = {id(side) for side in mine}
        alone.sides = [copied(side) for side in batch.sides if id(side) in ours]
        steps.render(alone, standing)
        found = one.batch.render()
        expected: list[Outgoing] = alone.transactions
        same("count of transactions", len(expected), len(found["transactions"]))
        for reference, native in zip(expected, found["transactions"], strict=True):
            same("key", reference[0], native[0])
            same("transaction", reference[1], native[1])
            same("effect", reference[2], native[2], msgspec.msgpack.decode(native[2][0][1]))
        run = one.batch.render(written=True)["run"]
        same("run", engine.kafka_records(expected, RUN_BYTES), engine.kafka_records([run], RUN_BYTES))
        same("sizes of a run", len(expected), len(list(sizes([run]))))
        same(
            "events",
            [(key, value, []) for key, value, _ in alone.events],
            [(key, value, []) for _, key, value, _ in found["events"]],
        )
        counts = alone.counts
        sides = {(name, outcome): number for (name, outcome), number in counts.sides.items() if number}
        told_sides = {
            (name, outcome): number
            for name, row in zip(("orig", "term"), found["sides"], strict=True)
            for outcome, number in zip(OUTCOMES, row, strict=True)
            if number
        }
        refused = [
            (side.index, side.result.outcome)
            for side in alone.sides
            if side.result is not None and side.result.outcome not in {Outcome.RATED, Outcome.DUPLICATE}
        ]
        same("refused", refused, [(place[1], outcome) for place, outcome, *_ in found["refused"]])
        same("sides", {key: n for key, n in sides.items() if key[1] != SideOutcome.REJECTED}, told_sides)
        same("draws", (counts.draws["volume"], counts.draws["money"]), found["draws"])
        same("late", counts.late, found["late"])
        same("fees", counts.transactions[TransactionType.SUBSCRIPTION_FEE], found["fees"])
        SEEN.fees += found["fees"]
        SEEN.transactions += len(expected)
        SEEN.events += len(alone.events)


def copied(side: Side) -> Side:
    """Return a copy, for rendering notes what it rejects on a side."""
    return msgspec.structs.replace(side)


def records_of(batch: Batch) -> list[Any]:
    """Return the records of a batch in their order."""
    return [record for _, records in batch.polled for record in records]


def answer(native: engine.Batch, lacking: Lacking, views: Views, sides: Sequence[Side]) -> None:
    """Give what is lacking, as the reference's views have it, or the sides that it has identified already."""
    clients, accounts, catalog = lacking
    assert not catalog, "the line has caught up"
    found = {client: views.find(client) for client in clients}
    states = {client: write_state(view.state) for client, view in found.items() if view is not None}
    known = {
        side.account: side.view.id for side in sides if side.account is not None and side.view is not None
    }
    owners = {
        account: owner
        for account in accounts
        if (owner := views.owner(account) or known.get(account)) is not None
    }
    native.learn(clients, accounts, states, owners)


def reduced(form: tuple[int, int, int]) -> tuple[int, int, int]:
    """Return a form's numbers."""
    return form[0], form[1], form[2]


def told(side: Side, number: int) -> dict[str, object]:
    """Return a side as `engine.Batch.told` tells it."""
    cdr, party = side.cdr, side.party
    assert isinstance(cdr, Cdr)
    assert party is not None
    return {
        "place": (number, side.index),
        "texts": (cdr.source, cdr.id, cdr.service),
        "instants": (cdr.setup_ms, cdr.answered_ms, cdr.ended_ms, cdr.at_ms),
        "amounts": (cdr.duration_ms, cdr.volume, cdr.used),
        "numbers": (cdr.caller, cdr.called),
        "named": (party.client, party.account, party.gateway, party.ip, party.login),
        "given": None if party.rate is None else duplicates._by_value(party.rate),  # noqa: SLF001
    }


def as_told(one: dict[str, Any]) -> dict[str, object]:
    """Return what is compared of a side when it was read."""
    return {
        name: one[name] for name in ("place", "texts", "instants", "amounts", "numbers", "named", "given")
    }


def compare_argv(expected: Sequence[Any], found: Sequence[Any]) -> None:
    """Say where two calls differ."""
    same("number of arguments", len(expected), len(found))
    names = ("lane", "token", "number", "payload", "digests", "context", "changes")
    for name, one, other in zip(names, expected, found, strict=False):
        if one == other:
            continue
        if name in {"payload", "changes"}:
            same(name, msgspec.msgpack.decode(one), msgspec.msgpack.decode(other))
        if name == "context":
            tables = zip(msgspec.msgpack.decode(one[1:]), msgspec.msgpack.decode(other[1:]), strict=True)
            for table, (mine, theirs) in zip(
                ("topics", "heads", "rates", "limits", "rows"), tables, strict=True
            ):
                same(table, mine, theirs)
        same(name, one, other)


@contextlib.contextmanager
def shadowing(*, beside: bool = True) -> Iterator[Shadow]:
    """Compare all that lines do meanwhile; not beside: only know of each catalog what it was made of."""
    shadow = Shadow()
    decode, match, render = Line._decode, Line.match, steps.render  # noqa: SLF001 - where the line decides
    made = Catalog.__init__

    def compiled_catalog(self: Catalog, content: Content, version: int, notices: Notices) -> None:
        made(self, content, version, notices)
        _contents[id(self)] = self, content

    def decoded(self: Line, batch: Batch) -> list[Side]:
        standing = self.lane.standing
        stamps = [record.timestamp for record in batch.commands if 10**12 <= record.timestamp < 10**13]
        lane_ms = max([standing.lane_ms, *stamps])
        pending = {(offset, index) for _, offset, index in standing.pending}
        sides = decode(self, batch)
        left = {(offset, index) for _, offset, index in standing.pending}
        catalog = self.lane.catalog
        shadow.decoded(batch, standing, lane_ms, pending - left, sides, catalog)
        return sides

    async def matched(self: Line, batch: Batch, sides: list[Side], views: Views) -> Any:
        parted = set(views.parted)
        found = await match(self, batch, sides, views)
        catalog = self.lane.catalog
        assert catalog is not None
        shadow.matched(
            batch,
            self.lane.standing,
            sides,
            catalog,
            views,
            self.connections.store.count,
            set(self.buckets.ask_whole),
            parted,
        )
        return found

    def rendered(batch: Batch, standing: Standing) -> None:
        shadow.rendered(batch, standing)
        render(batch, standing)

    if beside:
        Line._decode, Line.match, steps.render = decoded, matched, rendered  # type: ignore[method-assign]  # noqa: SLF001
    Catalog.__init__ = compiled_catalog  # type: ignore[method-assign]
    try:
        yield shadow
    finally:
        Line._decode, Line.match, steps.render, Catalog.__init__ = decode, match, render, made  # type: ignore[method-assign]  # noqa: SLF001
        _contents.clear()
        _loaded.clear()
