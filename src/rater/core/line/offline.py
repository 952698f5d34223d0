"""Rating without Kafka and Redis: a catalog and one bucket in memory, record by record.

The same steps as the worker's, in the same order; the twin (`drawing.Bucket`) draws. For `rater rate`, `rater
explain`, the golden cases, and whoever needs to know what would come out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from msgspec import Struct

from rater.core.bucket.messages import ClientWrite, DrawItem, DrawRequest, DrawResult, Outcome, Status, Use
from rater.core.bucket.model import Bucket, Funds, draw_item
from rater.core.catalog.compiled import Catalog, compile_catalog
from rater.core.catalog.specs import ClientEntry, Content
from rater.core.catalog_files.merging import Existing, Fault, merge, read_files, wanted
from rater.core.cdr import Arrival, Cdr, Party
from rater.core.cdr_decoding import decode
from rater.core.clients.changes import load_change
from rater.core.clients.state import ClientState, read_state
from rater.core.clients.views import Views, view
from rater.core.rating import duplicates as duplicates_module
from rater.core.rating import pricing
from rater.core.rating import transaction as transaction_module
from rater.core.rating.explaining import Passed, not_drawn, passed_over
from rater.core.rating.identifying import Identified, Missing, identify
from rater.core.rating.matching import Candidate, Matched, match, package_type
from rater.core.reasons import Rejection, Side

DAY_MS = 86_400_000
WINDOW_MS = 7 * DAY_MS
"""The duplicate window's default (CONTRACTS.md, `worker.duplicate_window_days`)."""

_HOUR_MS = 3_600_000


class Transaction(NamedTuple):
    """A side that was rated or is a zero transaction; value: the transaction's JSON."""

    side: Side
    value: bytes


class Duplicate(NamedTuple):
    """A side that was rated before, with the same content."""

    side: Side


Ended = Transaction | Rejection | Duplicate


class Explained(Struct):
    """How a side was worked out, or would be: up to where it ended.

    candidates: in their order. takes: what each took (counting units or micros), left, and covered (micros of
    the client's currency), None where it gave nothing. passed: each limit of the client that gave nothing,
    and why.
    """

    side: Side | None
    ended: Transaction | Rejection
    identified: Identified | None = None
    priced: pricing.Priced | None = None
    candidates: tuple[Candidate, ...] = ()
    takes: tuple[tuple[int, int, int] | None, ...] = ()
    passed: tuple[Passed, ...] = ()
    result: DrawResult | None = None


class _Ready(NamedTuple):
    """A side just before its draw."""

    side: Side
    party: Party
    identified: Identified
    priced: pricing.Priced
    matched: Matched


class Rater:
    """Rates records one by one against loaded catalogs; keeps counters, balances and duplicates in memory."""

    def __init__(self, window_ms: int = WINDOW_MS) -> None:
        """Start without a catalog: every service is unknown until one is loaded."""
        self.window_ms = window_ms
        self.content: Content | None = None
        self.catalog: Catalog = compile_catalog(Content(), 0)
        self.registers: dict[str, ClientState] = {}
        self.views = Views()
        self.bucket = Bucket()
        self.lane_ms = 0
        self._call = self.bucket.fence(0, 0).call
        _, self._call = self.bucket.register(0, 0, self._call, 1)

    # ---------------------------------------------------------------- catalog

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
        known = {
            name: self.registers[name] for name in {*clients, *owners.values()} if name in self.registers
        }
        merged = merge(self.content, file, at_ms, Existing(known, owners))
        if isinstance(merged, list):
            return merged
        if merged.changed:
            self.content = merged.content
            self.catalog = compile_catalog(merged.content, self.catalog.version + 1)
            self._change(merged.entries, at_ms)
        return []

    def _change(self, entries: Sequence[ClientEntry], at_ms: int) -> None:
        writes = []
        for entry in entries:
            old = self.registers.get(entry.id)
            change = load_change(old, entry, self.catalog, at_ms=at_ms, actor="")
            if change is None:
                continue
            writes.append(change.write)
            new = self.registers[entry.id] = read_state(change.write.register)
            self.views.clients[entry.id] = view(new)
            self.views.accounts.update(dict.fromkeys(new.accounts, new.id))
        self._draw(writes, [], [])

    def balance(self, client: str) -> int:
        """Return a client's balance in micros of its currency; 0 for one that does not exist."""
        state = self.bucket.clients.get(client)
        return 0 if state is None else state.balance

    def used(self, client: str) -> dict[str, int]:
        """Return counter field → what is used of it (counting units or micros)."""
        state = self.bucket.clients.get(client)
        return {} if state is None else dict(state.used)

    # ---------------------------------------------------------------- rating

    def arrival(self, record_ms: int) -> Arrival:
        """Return what a record's arrival adds; the lane's time never runs backwards."""
        self.lane_ms = max(self.lane_ms, record_ms)
        return Arrival(self.lane_ms, self.window_ms, self.catalog.service_names)

    def rate(self, raw: bytes | None, record_ms: int) -> list[Ended]:
        """Rate one record; returns what became of each of its sides."""
        return self.rate_decoded(decode(raw, self.arrival(record_ms)))

    def rate_decoded(self, found: Cdr | tuple[Rejection, ...]) -> list[Ended]:
        """Rate a record that was decoded by this rater's `arrival` (source maps)."""
        if not isinstance(found, Cdr):
            return list(found)
        ended: list[Ended] = list(found.rejected)
        uses: list[Use] = []
        fields: list[dict[str, int]] = []
        items: list[DrawItem] = []
        ready: list[_Ready] = []
        for side, party in found.sides():
            one = self._ready(found, side, party)
            if isinstance(one, Rejection):
                ended.append(one)
                continue
            of = one.identified.view
            use = next((n for n, known in enumerate(uses) if known.client == of.id), len(uses))
            if use == len(uses):
                uses.append(Use(of.id, of.version, of.credit_limit, []))
                fields.append({})
            key, content = duplicates_module.digests(found, side, one.identified, party)
            same_record = any(known.identified.view is of for known in ready)
            items.append(
                transaction_module.request(
                    one.identified, one.priced, one.matched, use, fields[use], key, content, same_record
                )
            )
            ready.append(one)
        for known, names in zip(uses, fields, strict=True):
            known.fields = list(names)
        results = self._draw([], uses, items)
        ended += [self._ended(found, one, result) for one, result in zip(ready, results, strict=True)]
        return sorted(ended, key=_place)

    def _ready(self, cdr: Cdr, side: Side, party: Party) -> _Ready | Rejection:
        identified = self._identify(cdr, side, party)
        if isinstance(identified, Rejection):
            return identified
        priced = pricing.price(cdr, side, identified, self.catalog)
        if isinstance(priced, Rejection):
            return priced
        matched = match(identified, side, cdr.at_ms, priced.billed, priced.sign, self.catalog, whole=True)
        return matched if isinstance(matched, Rejection) else _Ready(side, party, identified, priced, matched)

    def _identify(self, cdr: Cdr, side: Side, party: Party) -> Identified | Rejection:
        while True:
            found = identify(cdr, side, party, self.catalog, self.views)
            if isinstance(found, (Identified, Rejection)):
                return found
            assert isinstance(found, Missing)  # noqa: S101 - states and catalog change together here
            # Everything that exists is in memory, so what is not there does not exist.
            if found.client is not None:
                self.views.absent_clients = {found.client}
            if found.account is not None:
                self.views.absent_accounts = {found.account}

    def _draw(self, changes: list[ClientWrite], uses: list[Use], items: list[DrawItem]) -> list[DrawResult]:
        if not changes and not items:
            return []
        reply = self.bucket.draw(
            DrawRequest(
                lane=0, token=0, call=self._call, lane_ms=self.lane_ms,
                generation=self.lane_ms // (self.window_ms + _HOUR_MS), trim=self._call, floor=0,
                changes=changes, accounts=[], uses=uses, items=items, context=b"", contextless=True,
            )
        )  # fmt: skip
        if reply.status != Status.OK:  # one owner, one bucket, views of this very store
            raise AssertionError(reply.status)
        self._call = reply.call
        return reply.results

    def _ended(self, cdr: Cdr, one: _Ready, result: DrawResult) -> Ended:
        if result.outcome == Outcome.RATED:
            return Transaction(one.side, self._render(cdr, one, result))
        if result.outcome == Outcome.DUPLICATE:
            return Duplicate(one.side)
        return transaction_module.refused(result.outcome, cdr.id, one.side)

    def _render(self, cdr: Cdr, one: _Ready, result: DrawResult) -> bytes:
        context = transaction_module.context(
            cdr, one.side, one.identified, one.priced, one.matched, self.catalog
        )
        return transaction_module.render(context, result)

    # ---------------------------------------------------------------- explaining

    def explain(self, raw: bytes | None, record_ms: int) -> list[Explained]:
        """Return how each side of a record would be rated now, as if it had not been rated before.

        Nothing changes: the sides are worked out from the same balances and counters.
        """
        found = decode(raw, Arrival(max(self.lane_ms, record_ms), self.window_ms, self.catalog.service_names))
        if not isinstance(found, Cdr):
            return [Explained(one.side, one) for one in found]
        out = [Explained(one.side, one) for one in found.rejected]
        return out + [self._explain(found, side, party) for side, party in found.sides()]

    def _explain(self, cdr: Cdr, side: Side, party: Party) -> Explained:
        one = self._ready(cdr, side, party)
        if isinstance(one, Rejection):
            return Explained(side, one)
        of = one.identified.view
        fields: dict[str, int] = {}
        item = transaction_module.request(
            one.identified, one.priced, one.matched, 0, fields, b"", b"", same_record=False
        )
        state = self.used(of.id)
        used = [state.get(name, 0) for name in fields]
        balance = self.balance(of.id)
        funds = Funds(balance, balance, of.credit_limit)
        result = draw_item(item, used, funds)
        if result.outcome != Outcome.RATED:
            return Explained(
                side, transaction_module.refused(result.outcome, cdr.id, side), one.identified, one.priced
            )
        gave = {index: (taken, left, covered) for index, taken, left, covered in result.takes}
        return Explained(
            side,
            Transaction(side, self._render(cdr, one, result)),
            one.identified,
            one.priced,
            one.matched.candidates,
            tuple(gave.get(index) for index in range(len(one.matched.candidates))),
            not_drawn(of, one.matched.candidates, item, used, funds, result) + self._passed_over(cdr, one),
            result,
        )

    def _passed_over(self, cdr: Cdr, one: _Ready) -> tuple[Passed, ...]:
        if not one.priced.billed:
            return ()
        kind = package_type(one.priced.sign, one.side)
        return tuple(passed_over(one.identified, kind, cdr.at_ms, one.priced.billed, self.catalog))


def _place(ended: Ended) -> int:
    return 1 if ended.side == "term" else 0


def _no_parts(name: str) -> bytes:
    raise FileNotFoundError(name)
