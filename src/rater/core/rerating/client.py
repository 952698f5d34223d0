"""One client re-rated: what its counters are without the calls, and what changes, cut into pieces.

Pure: state, catalog, sums and calls give what is to be done; `rater.jobs` reads them and sends it. Source of
the rules: RULES.md section 5.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import NamedTuple, Protocol

from rater.core.amounts import LIMIT
from rater.core.bucket.messages import CounterChange
from rater.core.catalog.compiled import Catalog
from rater.core.clients.periods import bounded
from rater.core.clients.state import ClientState
from rater.core.rerating.bounds import ANYTHING, Bounds
from rater.core.rerating.calls import Fee, PastSide, apart, unpack
from rater.core.rerating.difference import Differing, Entry
from rater.core.rerating.rating import ClientRating, Rated, Unchanged

PIECE_ENTRIES = 40
"""Calls that one command changes at most: some 60 kB of an outcome that is kept."""
PIECE_BYTES = 256 * 1024
"""Of the transactions of one command, but for a single call's."""


class Base(NamedTuple):
    """What a client's sums are without the calls. brought: ids of the fees that these have brought."""

    counters: dict[str, int]
    brought: frozenset[str]


def base(counters: Mapping[str, int], calls: Iterable[PastSide], fees: Mapping[str, Fee]) -> Base:
    """Return a client's counters without what its calls drew, and without the fees that they brought.

    fees: `difference.open_fees`.
    """
    left: defaultdict[str, int] = defaultdict(int, counters)
    by_call: dict[tuple[str, str], list[Fee]] = {}
    for fee in fees.values():
        cdr = fee.told().cdr
        if fee.stands and cdr is not None:
            by_call.setdefault((cdr.source, cdr.id), []).append(fee)
    brought: set[str] = set()
    for call in calls:
        told = call.told()
        if told is None:
            continue
        for field, units in told.takes():
            left[field] -= units
        drawn = {(draw.client_package, draw.period) for draw in told.draws}
        for fee in by_call.get((call.source, call.id), ()):
            of = fee.told()
            if fee.id not in brought and (of.client_package, of.period) in drawn:
                brought.add(fee.id)
                for field, units in of.takes():
                    left[field] -= units
    return Base(dict(left), frozenset(brought))


class Window(NamedTuple):
    """Instants of calls: [from_ms, to_ms), milliseconds."""

    from_ms: int
    to_ms: int


def wider(state: ClientState, catalog: Catalog, window: Window) -> Window | None:
    """Return the window that has all periods whole that a window cuts; None: it cuts none.

    A period without a stop cannot be had whole: the window's end stays. state: with all of its periods.
    """
    start, stop = window
    for held in state.packages:
        package = catalog.packages.get(held.package)
        if package is None or held.life is None:
            continue
        for one in held.life.periods:
            period = bounded(state, held, package, one)
            if period is None or period.start_ms >= window.to_ms:
                continue
            if period.stop_ms is None or period.stop_ms > window.from_ms:
                start = min(start, period.start_ms)
                stop = stop if period.stop_ms is None else max(stop, period.stop_ms)
    found = Window(start, stop)
    return None if found == window else found


class Piece(NamedTuple):
    """What one command changes: entries, and the conditions under which they were worked out.

    counters: their intervals, and what is added. least, most: of the balance, micros.
    """

    entries: list[Entry]
    counters: list[CounterChange]
    least: int
    most: int


class Pieces:
    """A client's entries cut into pieces, each with what the sums have to be when its turn comes."""

    def __init__(self, counters: Mapping[str, int], balance: int, bounds: Bounds) -> None:
        """Begin. counters, balance: as the bucket told them, before any of the entries."""
        self._counters = dict(counters)
        self._balance = balance
        self._bounds = bounds

    def cut(self, entries: Iterable[Entry]) -> Iterator[Piece]:
        """Yield pieces of bounded size, in order; each counts on those before it."""
        some: list[Entry] = []
        size = 0
        for entry in entries:
            more = sum(len(one.value) for one in entry.movements)
            if some and (len(some) == PIECE_ENTRIES or size + more > PIECE_BYTES):
                yield self._piece(some)
                some, size = [], 0
            some.append(entry)
            size += more
        if some:
            yield self._piece(some)

    def _piece(self, entries: list[Entry]) -> Piece:
        deltas: defaultdict[str, int] = defaultdict(int)
        for entry in entries:
            for field, units in entry.takes:
                deltas[field] += units
        changes = [
            CounterChange(field, *_interval(self._counters.get(field, 0), self._bounds.of(field)), delta)
            for field in sorted(deltas.keys() | self._bounds.fields.keys())
            if (delta := deltas[field]) or self._bounds.of(field) != ANYTHING
        ]
        piece = Piece(entries, changes, *_interval(self._balance, self._bounds.balance))
        for field, delta in deltas.items():
            self._counters[field] = self._counters.get(field, 0) + delta
        self._balance += sum(entry.amount for entry in entries)
        return piece


def _interval(value: int, bounds: tuple[int, int]) -> tuple[int, int]:
    return max(value + bounds[0], -LIMIT), min(value + bounds[1], LIMIT)


class Sums(NamedTuple):
    """A client's sums as its bucket told them: micros, and what is used of each counter."""

    balance: int
    counters: Mapping[str, int]


class Again(Protocol):
    """Rates one client's calls again: first `take_back` of all, then `rate`; then `bounds` are known.

    calls: packed (`calls.pack`), in order, in parts (`calls.together`). `Twin`, or the native engine
    (jobs/native_again.py).
    """

    @property
    def bounds(self) -> Bounds:
        """By how much counters and balance may have moved."""

    def take_back(self, calls: Iterable[bytes], fees: Mapping[str, Fee]) -> frozenset[str]:
        """Take back what calls drew, and the fees that they brought; returns the ids of these."""

    def rate(self, calls: Iterable[bytes]) -> Iterator[Rated | Unchanged]:
        """Yield how calls end; those that end as they did may come several at once."""


class Twin:
    """`Again` by the steps and the twin of functions.lua."""

    def __init__(self, state: ClientState, catalog: Catalog, sums: Sums) -> None:
        """Rate by this catalog. state: with all of its periods."""
        self._state, self._catalog, self._sums = state, catalog, sums
        self._rating: ClientRating

    @property
    def bounds(self) -> Bounds:
        """See `Again`."""
        return self._rating.bounds

    def take_back(self, calls: Iterable[bytes], fees: Mapping[str, Fee]) -> frozenset[str]:
        """See `Again`."""
        without = base(self._sums.counters, _sides(calls), fees)
        self._rating = ClientRating(self._state, self._catalog, without.counters, self._sums.balance)
        return without.brought

    def rate(self, calls: Iterable[bytes]) -> Iterator[Rated | Unchanged]:
        """See `Again`."""
        yield from self._rating.rate(_sides(calls))


def _sides(calls: Iterable[bytes]) -> Iterator[PastSide]:
    for part in calls:
        for raw in apart(part):
            call = unpack(raw)
            assert isinstance(call, PastSide)  # noqa: S101 - fees are kept apart
            yield call


class Work:
    """One client's re-rate, worked out: go through `entries` to the end, then the rest is known."""

    def __init__(
        self, again: Again, sums: Sums, fees: Mapping[str, Fee], calls: Callable[[], Iterable[bytes]],
        job: str,
    ) -> None:  # fmt: skip
        """Work for a client. fees: `open_fees`. calls: them in parts, in order, as often as asked for."""
        self._again, self._sums, self._calls = again, sums, calls
        self.difference = Differing(job, fees, again.take_back(calls(), fees))

    def entries(self) -> Iterator[Entry]:
        """Yield what changes, in order."""
        yield from self.difference.entries(self._again.rate(self._calls()))

    def pieces(self, entries: Iterable[Entry]) -> Iterator[Piece]:
        """Yield the entries cut into pieces; all of them are known by then."""
        yield from Pieces(self._sums.counters, self._sums.balance, self._again.bounds).cut(entries)
