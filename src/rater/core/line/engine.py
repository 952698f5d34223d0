"""What an engine does with a batch, bytes and numbers in and out; and the engine that is the law, in Python.

Who rates asks an engine, whichever it is, in this order: decode → (identify, learn) until nothing is lacking
→ (prepare, learn) until nothing is lacking → requests → packed of each, which goes to its bucket → settle, or
again where the bucket did nothing → … until every side is drawn or returned → render. Sides that are returned
go through the steps (`steps`, `due`): they are rejected, or something of their client is due before one of
them. All open sides of a client are returned together, so no second path overtakes
(decisions/0100-two-engines.md). The native engine is `rater.native.engine`; what holds of both is said here.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence
from typing import Any, NamedTuple, Protocol, TypedDict

import msgspec
from msgspec.structs import replace

from rater.core.bucket.messages import DrawRequest, Outcome, unpack_results
from rater.core.catalog.compiled import Catalog
from rater.core.cdr import SIDES, Arrival, Cdr
from rater.core.cdr_decoding import check, decode
from rater.core.clients.views import Views
from rater.core.instants import is_stamp
from rater.core.journal.records import Outgoing, Run
from rater.core.kinds import SideOutcome, TransactionType
from rater.core.line import steps
from rater.core.line.batch import Batch, LanePosition, Side, Standing
from rater.core.line.draw_request import RequestBuilder
from rater.core.line.due import bound_ms
from rater.core.rating.transaction import catalog_of, plain_id

Place = tuple[int, int]
"""Number of a record among all of the batch; side: 0 orig, 1 term."""
Lacking = tuple[list[str], list[str], int]
"""Clients and accounts to look up; the version of the catalog that has to be had, 0: none."""
Packed = tuple[list[str], bytes, bytes, bytes, bytes | None]
"""Clients, payload, digests, context; what rater_v4_change has besides, None: it is rater_v4_draw's."""


class Rendered(TypedDict):
    """All that is published of drawn sides, in the order of the records.

    run: the transactions, in place of these, where that was asked for. places: of their sides. events: (type,
    key, value, place). refused: (place, outcome, id of the CDR, version of the catalog that it was rated by).
    sides: of orig and of term how many were rated, zero, duplicates. draws: of volume and of money.
    """

    transactions: list[Outgoing]
    run: Run
    places: list[Place]
    events: list[tuple[str, bytes, bytes, Place]]
    refused: list[tuple[Place, int, str, int]]
    sides: Sequence[Sequence[int]]
    draws: tuple[int, int]
    fees: int
    late: int


class Rating(Protocol):
    """A batch on its way through an engine. catalog: of the engine's own kind."""

    @property
    def lane_ms(self) -> int:
        """The lane's time, behind the records that were taken."""

    def decode(
        self, catalog: Any, topic: str, values: Sequence[bytes | None], offsets: Sequence[int],
        timestamps: Sequence[int], *, mapped: bool = False, replayed: Sequence[int] | None = None,
        traces: Sequence[bytes | None] | None = None,
    ) -> list[int]:  # fmt: skip
        """Take records; returns the numbers of those that the steps have to look at, or at a side of them.

        catalog None: there is none. mapped: values are fields of a source map as JSON, instants in ms.
        replayed: for each record the bits of sides that were decided before. traces: for each its
        `traceparent`, which what is published of it bears; None: none has one.
        """

    def identify(self, catalog: Any) -> Lacking:
        """Find whose call each open side is, and its rate."""

    def learn(
        self, clients: Sequence[str], accounts: Sequence[str], states: dict[str, bytes],
        owners: dict[str, str],
    ) -> None:  # fmt: skip
        """Take in what the store answered to these questions: what it did not name does not exist."""

    def put(self, client: str, state: bytes) -> None:
        """Take a client's newest state."""

    def forget(self, client: str) -> None:
        """Have no view of a client until it is fetched again."""

    def prepare(self, catalog: Any, buckets: int, whole: Container[str]) -> Lacking:
        """Price identified sides and find their limits. whole: clients that are asked with all at once."""

    def requests(self) -> list[tuple[int, int]]:
        """Return (number, bucket) of the requests for what was prepared; what was rejected is returned."""

    def packed(self, request: int, generation: int, trim: int, floor: int) -> Packed:
        """Return a request as the store takes it. generation, trim, floor: as in `DrawRequest`."""

    def settle(self, request: int, packed: bytes) -> list[tuple[int, int, str]]:
        """Note results as the store packed them; returns (record, side, client) of what woke its client."""

    def again(self, request: int, more: Sequence[int]) -> list[str]:
        """Open the sides of a request again, for it did nothing.

        more: items that the first limits did not do for. Returns the clients of these, all of whose sides in
        the request are asked with all limits then.
        """

    def give_back(self, clients: Sequence[str] | None) -> None:
        """Return all open sides of these clients, for something of them is due first.

        None: all that are open, for there is no catalog to go on by.
        """

    def returned(self) -> list[Place]:
        """Return the sides that the steps go on with, in order."""

    def taken(self, records: set[int]) -> list[Place]:
        """Return the sides of these records that were taken, in order: all that is no fault of theirs."""

    def drawn_by(self, record: int, index: int) -> int:
        """Return the number of the request that drew a side."""

    def rejected(self) -> list[Place]:
        """Return those of `returned` that are to be rejected: nothing of their clients is due first."""

    def render(self, *, written: bool = False) -> Rendered:
        """Return what is published of drawn sides.

        written: transactions as one run, for `stream/batches.py`, by an engine that writes; without places.
        """


class _Record(NamedTuple):
    """A record that was taken."""

    number: int
    offset: int
    timestamp: int
    value: bytes | None
    key: bytes | None = None
    headers: Any = ()


Pack = Callable[[DrawRequest], Packed]
"""Packs a request; the formats are the store's (`store/packing.py`)."""


class ReferenceRating:
    """The law: a batch through the steps. See `Rating`."""

    def __init__(self, views: Views, lane: int, lane_ms: int, window_ms: int, pack: Pack) -> None:
        """Go by these views; what several lanes share of them is their affair."""
        self._views = views
        self._pack = pack
        self._standing = Standing(lane, "", window_ms, 1, LanePosition(lane_ms=lane_ms))
        self._records = 0
        self._traces: dict[tuple[str, int], bytes] = {}
        self._sides: list[Side] = []
        """All that were taken."""
        self._open: list[Side] = []
        self._returned: list[Side] = []
        self._rejected: list[Side] = []
        """Those of them that are to be rejected."""
        self._prepared: dict[int, RequestBuilder] = {}
        self._requests: list[RequestBuilder] = []

    @property
    def lane_ms(self) -> int:
        """See `Rating`."""
        return self._standing.lane_ms

    def decode(
        self, catalog: Catalog | None, topic: str, values: Sequence[bytes | None], offsets: Sequence[int],
        timestamps: Sequence[int], *, mapped: bool = False, replayed: Sequence[int] | None = None,
        traces: Sequence[bytes | None] | None = None,
    ) -> list[int]:  # fmt: skip
        """See `Rating`."""
        returned = []
        self._traces |= {
            (topic, offset): trace
            for offset, trace in zip(offsets, traces or (), strict=False)
            if trace is not None
        }
        services = frozenset[str]() if catalog is None else catalog.service_names
        for place, (value, offset, timestamp) in enumerate(zip(values, offsets, timestamps, strict=True)):
            record = _Record(self._records, offset, timestamp, value)
            self._records += 1
            if timestamp > self.lane_ms and is_stamp(timestamp):
                self._standing.lane_ms = timestamp
            arrival = Arrival(self.lane_ms, self._standing.window_ms, services)
            found = check(msgspec.json.decode(value or b""), arrival) if mapped else decode(value, arrival)
            if not isinstance(found, Cdr) or found.rejected:
                returned.append(record.number)
            if isinstance(found, Cdr):
                skip = 0 if replayed is None else replayed[place]
                for name, party in found.sides():
                    index = SIDES.index(name)
                    if not skip >> index & 1:
                        self._sides.append(Side(topic, record, index, found, party))
        self._open = list(self._sides)
        return returned

    def identify(self, catalog: Catalog) -> Lacking:
        """See `Rating`."""
        return _told(steps.identify(self._open, catalog, self._views))

    def learn(
        self, clients: Sequence[str], accounts: Sequence[str], states: dict[str, bytes],
        owners: dict[str, str],
    ) -> None:  # fmt: skip
        """See `Rating`."""
        self._views.learn(set(clients), set(accounts), states, owners, {})

    def put(self, client: str, state: bytes) -> None:
        """See `Rating`."""
        self._views.put(client, state)

    def forget(self, client: str) -> None:
        """See `Rating`."""
        self._views.changed(client, b"", keep=False)

    def prepare(self, catalog: Catalog, buckets: int, whole: Container[str]) -> Lacking:
        """See `Rating`."""
        due = [
            side.view.id
            for side in self._open
            if side.view is not None
            and side.rejection is None
            and side.view.due_ms(catalog) <= bound_ms(side, self._standing)
        ]
        self.give_back(due)
        lacking = steps.price(self._open, catalog, self._views)
        if not lacking:
            self._prepared, lacking = steps.match(self._open, catalog, self._views, buckets, whole)
        return _told(lacking)

    def requests(self) -> list[tuple[int, int]]:
        """See `Rating`."""
        first = len(self._requests)
        self._requests += self._prepared.values()
        found = [(number, bucket) for number, bucket in enumerate(self._prepared, first)]
        self._rejected += [side for side in self._open if side.rejection is not None]
        self._open, self._prepared = [], {}
        return found

    def packed(self, request: int, generation: int, trim: int, floor: int) -> Packed:
        """See `Rating`."""
        made = self._requests[request].request(self._standing, 0, 0, trim, floor)
        return self._pack(replace(made, generation=generation))

    def asked(self, request: int) -> Sequence[Side]:
        """Return the sides of a request, as its items stand."""
        return self._requests[request].sides

    def settle(self, request: int, packed: bytes) -> list[tuple[int, int, str]]:
        """See `Rating`."""
        of = self._requests[request]
        woken, results = unpack_results(packed)
        for side, result in zip(of.sides, results, strict=True):
            side.result = result
        return [(*_place(of.sides[item]), of.uses[of.items[item].use].client) for item in sorted(woken)]

    def again(self, request: int, more: Sequence[int]) -> list[str]:
        """See `Rating`."""
        of = self._requests[request]
        clients = steps.ask_whole(of, list(more))
        self._open += of.sides
        self._open.sort(key=_place)
        self._requests[request] = RequestBuilder()
        return list(clients)

    def give_back(self, clients: Sequence[str] | None) -> None:
        """See `Rating`."""
        if clients is None:
            self._returned += self._open
            self._open = []
        elif clients:
            named = set(clients)
            theirs = [side for side in self._open if side.view is not None and side.view.id in named]
            self._returned += theirs
            gone = set(map(id, theirs))
            self._open = [side for side in self._open if id(side) not in gone]

    def returned(self) -> list[Place]:
        """See `Rating`."""
        return sorted(map(_place, self._returned + self._rejected))

    def taken(self, records: set[int]) -> list[Place]:
        """See `Rating`."""
        places = map(_place, self._sides)
        return [place for place in places if place[0] in records]

    def drawn_by(self, record: int, index: int) -> int:
        """See `Rating`."""
        asked = [[_place(side) for side in of.sides] for of in self._requests]
        return next(number for number, places in enumerate(asked) if (record, index) in places)

    def rejected(self) -> list[Place]:
        """See `Rating`."""
        return sorted(map(_place, self._rejected))

    def render(self, *, written: bool = False) -> Rendered:  # noqa: ARG002 - this one writes none
        """See `Rating`."""
        whole, places, refused = Batch(self._standing, []), list[Place](), list[tuple[Place, int, str, int]]()
        whole.traces.of = self._traces
        events: list[tuple[str, bytes, bytes, Place]] = []
        for side in self._sides:
            if side.result is None:
                continue
            place, before, told = _place(side), len(whole.transactions), len(whole.events)
            whole.sides = [side]
            steps.render(whole, self._standing)
            places += [place] * (len(whole.transactions) - before)
            events += [
                (_kind(value), key or b"", value or b"", place) for key, value, _ in whole.events[told:]
            ]
            if side.result.outcome not in {Outcome.RATED, Outcome.DUPLICATE}:
                assert side.row is not None  # noqa: S101 - every drawn side has it, and a head
                assert side.head is not None  # noqa: S101 - the same
                refused.append((place, side.result.outcome, plain_id(side.row), catalog_of(side.head)))
        counts, outcomes = whole.counts, (SideOutcome.RATED, SideOutcome.ZERO, SideOutcome.DUPLICATE)
        return {
            "transactions": whole.transactions, "run": b"", "places": places, "events": events,
            "refused": refused,
            "sides": [[counts.sides[name, outcome] for outcome in outcomes] for name in SIDES],
            "draws": (counts.draws["volume"], counts.draws["money"]),
            "fees": counts.transactions[TransactionType.SUBSCRIPTION_FEE], "late": counts.late,
        }  # fmt: skip


def _place(side: Side) -> Place:
    number: int = side.record.number
    return number, side.index


def _kind(value: bytes | None) -> str:
    kind: str = msgspec.json.decode(value or b"")["type"]
    return kind


def _told(lacking: steps.Lacking) -> Lacking:
    return sorted(lacking.clients), sorted(lacking.accounts), lacking.catalog
