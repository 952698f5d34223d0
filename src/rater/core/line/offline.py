"""Rating without Kafka and Redis: a catalog and one bucket in memory, record by record.

The line's own steps; the twin of functions.lua draws. For `rater rate`, `rater explain`, the golden cases,
and whoever needs to know what would come out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from msgspec import Struct
from msgspec.structs import replace

from rater.core.bucket.messages import DrawReply, DrawRequest, DrawResult, Outcome, Status
from rater.core.bucket.model import Bucket, Funds, draw_item
from rater.core.catalog.compiled import Catalog, compile_catalog
from rater.core.catalog.offers import Candidate
from rater.core.catalog.specs import ClientEntry, Content
from rater.core.catalog_files.merging import Existing, Fault, merge, read_files, wanted
from rater.core.clients.changes import load_change
from rater.core.clients.state import ClientState, client_package_name, read_state
from rater.core.clients.views import ClientView, Views
from rater.core.instants import DAY_MS, HOUR_MS
from rater.core.journal.records import CHANGE_INDEX_MIN
from rater.core.line import steps
from rater.core.line.batch import Batch, LanePosition, Side, Standing
from rater.core.line.draw_request import RequestBuilder
from rater.core.rating.explaining import Passed, not_drawn, passed_over
from rater.core.rating.matching import package_type
from rater.core.rating.pricing import Priced
from rater.core.rating.transaction import refused, rendered
from rater.core.reasons import Rejection
from rater.core.reasons import Side as SideName

WINDOW_MS = 7 * DAY_MS
"""The duplicate window's default (CONTRACTS.md, `worker.duplicate_window_days`)."""


class Record(NamedTuple):
    """A record of a source, as a Kafka record has it."""

    value: bytes | None
    timestamp: int
    offset: int = 0
    key: bytes | None = None
    headers: tuple[tuple[str, bytes], ...] = ()


class Transaction(NamedTuple):
    """A side that was rated or is a zero transaction; value: the transaction's JSON."""

    side: SideName
    value: bytes


class Duplicate(NamedTuple):
    """A side that was rated before, with the same content."""

    side: SideName


Ended = Transaction | Rejection | Duplicate


class Explained(Struct):
    """How a side was worked out, or would be: up to where it ended.

    candidates: in their order. takes: what each took (counting units or micros), left, and covered (micros of
    the client's currency), None where it gave nothing. passed: each limit of the client that gave nothing,
    and why.
    """

    side: SideName | None
    ended: Transaction | Rejection
    priced: Priced | None = None
    candidates: Sequence[Candidate] = ()
    takes: tuple[tuple[int, int, int] | None, ...] = ()
    passed: tuple[Passed, ...] = ()
    result: DrawResult | None = None


class Rater:
    """Rates records one by one against loaded catalogs; keeps counters, balances and duplicates in memory."""

    def __init__(self, window_ms: int = WINDOW_MS) -> None:
        """Start without a catalog: every service is unknown until one is loaded."""
        self.content: Content | None = None
        self.catalog: Catalog = compile_catalog(Content(), 0)
        self.states: dict[str, ClientState] = {}
        self.views = Views()
        self.bucket = Bucket()
        self.standing = Standing(0, "", window_ms, window_ms + HOUR_MS, LanePosition())
        """Where its lane stands: its time never runs backwards."""
        self._number = self.bucket.fence(0, 0).number
        _, self._number = self.bucket.register(0, 0, self._number, 1)

    def load(
        self, files: Sequence[tuple[str, bytes]], at_ms: int, open_file: Callable[[str], bytes] | None = None
    ) -> list[Fault]:
        """Load catalog files as `rater load` does, now; returns the faults, and then changed nothing.

        `open_file` reads the CSV parts that a file names; without it there are none.
        """
        file = read_files(list(files), open_file or _no_parts)
        clients, accounts = wanted(file)
        owners = {
            account: self.views.accounts[account] for account in accounts if account in self.views.accounts
        }
        known = {name: self.states[name] for name in {*clients, *owners.values()} if name in self.states}
        merged = merge(self.content, file, at_ms, Existing(known, owners))
        if isinstance(merged, list):
            return merged
        if merged.changed:
            self.content = merged.content
            self.catalog = compile_catalog(merged.content, self.catalog.version + 1)
            self.standing.position = replace(self.standing.position, catalog=self.catalog.version)
            self._change(merged.entries, at_ms)
        return []

    def _change(self, entries: Sequence[ClientEntry], at_ms: int) -> None:
        """Carry out what a load changes of clients, as a chunk of it does."""
        builder, record = RequestBuilder(), Record(None, at_ms)
        for entry in entries:
            change = load_change(self.states.get(entry.id), entry, self.catalog, at_ms=at_ms, actor="")
            if change is None:
                continue
            builder.change(change, "", record, CHANGE_INDEX_MIN + len(builder.changes))
            state = self.states[entry.id] = read_state(change.write.state)
            self.views.clients[entry.id] = ClientView(state)
            names = map(client_package_name, (of.id for of in entry.packages))
            self.views.accounts.update(dict.fromkeys([*state.accounts, *names], state.id))
        if builder.changes:
            self._draw(builder)

    def balance(self, client: str) -> int:
        """Return a client's balance in micros of its currency; 0 for one that does not exist."""
        state = self.bucket.clients.get(client)
        return 0 if state is None else state.balance

    def used(self, client: str) -> dict[str, int]:
        """Return counter field → what is used of it (counting units or micros)."""
        state = self.bucket.clients.get(client)
        return {} if state is None else dict(state.used)

    def rate(self, raw: bytes | None, record_ms: int) -> list[Ended]:
        """Rate one record; returns what became of each of its sides, orig first."""
        batch, sides = self._decoded(raw, record_ms)
        for builder in self._matched(sides):
            steps.settle(batch, builder, self._draw(builder))
        steps.render(batch, self.standing)
        transactions = iter(batch.transactions)
        ended: list[Ended] = []
        for side in batch.sides:
            if side.rejection is not None:
                ended.append(side.rejection)
            elif side.result is not None and side.result.outcome == Outcome.RATED:
                value = next(transactions)[1]
                assert value is not None  # noqa: S101 - a transaction has one
                ended.append(Transaction(_name(side), value))
            else:
                ended.append(Duplicate(_name(side)))
        return sorted(ended, key=_place)

    def _decoded(self, raw: bytes | None, record_ms: int) -> tuple[Batch, list[Side]]:
        batch = Batch(self.standing, [("cdrs", [Record(raw, record_ms)])])
        return batch, steps.decode(batch, self.standing, {}, self.catalog.service_names)

    def _matched(self, sides: list[Side]) -> list[RequestBuilder]:
        """Return the request of sides, if any is to be drawn: all of them, for nobody asks again."""
        views = Views(self.views.clients, self.views.accounts)
        views.fetched, views.owners = self.views.clients, self.views.accounts
        for side in sides:
            side.whole = True
        while lacking := steps.identify(sides, self.catalog, views):
            # All that exists is in memory, so what is not there does not exist.
            views.absent_clients |= lacking.clients
            views.absent_accounts |= lacking.accounts
        steps.price(sides, self.catalog, views)
        builders, _ = steps.match(sides, self.catalog, views, 1)
        return list(builders.values())

    def _draw(self, builder: RequestBuilder) -> DrawReply:
        request = self._request(builder)
        reply = self.bucket.draw(request)
        if reply.status != Status.OK:  # one owner, one bucket, views of this very store
            raise AssertionError(reply.status)
        self._number = reply.number
        return reply

    def _request(self, builder: RequestBuilder) -> DrawRequest:
        return builder.request(self.standing, 0, self._number, self._number, 0)

    def explain(self, raw: bytes | None, record_ms: int) -> list[Explained]:
        """Return how each side of a record, orig first, would be rated now, as if it had not been before.

        Nothing changes: the sides are worked out from the same balances and counters.
        """
        lane_ms = self.standing.lane_ms
        batch, sides = self._decoded(raw, record_ms)
        self.standing.lane_ms = lane_ms
        requests = {side.index: self._matched([side]) for side in sides}
        out = [
            Explained(side.name, side.rejection)
            if side.rejection is not None
            else self._explained(side, self._request(requests[side.index][0]))
            for side in batch.sides
        ]
        return sorted(out, key=_place)

    def _explained(self, side: Side, request: DrawRequest) -> Explained:
        cdr, view, rate, priced, row, head = side.cdr, side.view, side.rate, side.priced, side.row, side.head
        assert cdr is not None and view is not None and priced is not None  # noqa: S101, PT018 - matched
        assert row is not None and head is not None and side.rate_text is not None  # noqa: S101, PT018 - matched
        (item,), (use,) = request.items, request.uses
        counters = self.used(view.id)
        used = [counters.get(name, 0) for name in use.fields]
        balance = self.balance(view.id)
        funds = Funds(balance, balance, view.credit_limit)
        result, name = draw_item(item, used, funds), _name(side)
        if result.outcome != Outcome.RATED:
            return Explained(name, refused(result.outcome, cdr.id, name), priced)
        gave = {index: (taken, left, covered) for index, taken, left, covered in result.takes}
        passed = not_drawn(view, side.candidates, item, used, funds, result)
        if rate is not None and priced.billed:
            kind = package_type(priced.sign, name)
            passed += tuple(
                passed_over(
                    view, side.account, cdr.service, kind, rate.code, priced.billed, cdr.at_ms, self.catalog
                )
            )
        takes = tuple(gave.get(index) for index in range(len(side.candidates)))
        transaction = Transaction(name, rendered(row, head, side.rate_text, side.limits, result))
        return Explained(name, transaction, priced, side.candidates, takes, passed, result)


def _name(side: Side) -> SideName:
    assert side.name is not None  # noqa: S101 - a side that was drawn has one
    return side.name


def _place(ended: Ended | Explained) -> int:
    return 1 if ended.side == "term" else 0


def _no_parts(name: str) -> bytes:
    raise FileNotFoundError(name)
