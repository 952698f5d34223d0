"""What rating reads of a client: its view, what of its packages is open, and the views that a batch goes by.

Source of the rules: RULES.md 2, steps 4 (the account's rate table replaces the client's) and 8 (which
packages can apply).
"""

from __future__ import annotations

from collections.abc import Mapping
from sys import intern
from typing import NamedTuple
from zlib import crc32

import msgspec
from msgspec import Struct

from rater.core.bucket.messages import ANY_RISE
from rater.core.catalog.compiled import Catalog
from rater.core.catalog.offers import Offer, Offers, escaped
from rater.core.catalog.specs import PackageType
from rater.core.cdr import SIDES
from rater.core.clients.moments import due_before_calls_ms
from rater.core.clients.periods import Period, period_around
from rater.core.clients.planning import Known
from rater.core.clients.state import ClientPackage, ClientState, id_order, read_state
from rater.core.instants import BEGINNING_MS, NEVER_MS
from rater.core.json_text import members, quoted

SPANS_MAX = 4
"""Spans remembered of what is open: this period, the last one for late calls, a change of status."""

OPENED_MAX = 64
"""(account, service, type of package) remembered for one client: accounts are many where it is a reseller."""


class PeriodText(NamedTuple):
    """An open client package as its transactions and counters name it; three empty texts: it is not open.

    id: as JSON. field: how the fields of its counters begin. period: its number.
    """

    id: str
    field: str
    period: str


class ByEvent(NamedTuple):
    """An open client package whose fee the first call of its period brings; group: its place."""

    group: int
    held: ClientPackage
    period: Period


class Opened(Struct, gc=False, eq=False):
    """What of a client's packages is open to calls of an account and service in [from_ms, until_ms).

    Identity is its equality. catalog: by which it is so. packages, stops_ms: of each client package that the
    client has, in its order; packed: packages as msgpack, for what is kept of each draw has them;
    written: the same bytes, by which two are told to be alike. foreign:
    the money limits among the offers that are in other currencies than the client's. by_event: those whose
    fee the first call of their period brings.
    """

    catalog: Catalog
    from_ms: int
    until_ms: int
    packages: tuple[PeriodText, ...]
    packed: msgspec.Raw
    written: bytes
    stops_ms: tuple[int, ...]
    offers: Offers
    foreign: int
    by_event: tuple[ByEvent, ...] = ()


class ClientView:
    """What rating reads of a client; made from its state, which must not be changed."""

    __slots__ = (
        "_due_by",
        "_due_ms",
        "_opened",
        "accounts",
        "catalog",
        "crc",
        "credit_limit",
        "currency",
        "currency_text",
        "id",
        "mark",
        "orig_tables",
        "packages",
        "state",
        "term_tables",
        "text",
        "version",
        "wake",
    )

    def __init__(self, state: ClientState) -> None:
        """Read the state."""
        self.state = state
        self.id = state.id
        self.crc = crc32(state.id.encode())
        """Part of the keys of its duplicates (`duplicates.keys_of`)."""
        self.version = state.version
        self.catalog = state.catalog
        """The version of the catalog that it has to be read with, or a newer one."""
        self.currency = state.currency
        self.credit_limit = state.credit_limit
        self.mark = state.low_balance
        """The balance below which it is low, micros; None: at none."""
        self.accounts = state.accounts
        self.packages = state.packages
        self.text = members({"client": state.id})
        """As its transactions name it."""
        self.currency_text = members({"currency": state.currency})
        """The same of its currency."""
        # Names of a few tables, of as many clients as there are: one text each, and no way through the state.
        self.orig_tables, self.term_tables = (
            {intern(service): intern(name) for service, name in state.rate_tables.get(side, {}).items()}
            for side in SIDES
        )
        self.wake = _wake(state)
        """The least balance at which one of its pending charges clears, micros; None: at none. By a newer
        catalog than its own any rise may do (`RequestBuilder.add`)."""
        self._opened: dict[tuple[str | None, str, PackageType], tuple[Opened, ...]] = {}
        self._due_by: Catalog | None = None
        self._due_ms = NEVER_MS

    def due_ms(self, catalog: Catalog) -> int:
        """Return the first moment from which a call has something of the client to be done before it.

        Asked for each side, so worked out once.
        """
        if self._due_by is not catalog:
            due = self.state.calls_ms
            if self.catalog != catalog.version or any(of.life is None for of in self.packages):
                due = due_before_calls_ms(self.state, catalog)
            self._due_by, self._due_ms = catalog, NEVER_MS if due is None else due
        return self._due_ms

    def table_name(self, account: str | None, side: str, service: str) -> str | None:
        """Return the name of the rate table: the account's for this side and service, else the client's."""
        if account is not None:
            own = self.accounts.get(account, {}).get(side, {}).get(service)
            if own is not None:
                return own
        return (self.orig_tables if side == "orig" else self.term_tables).get(service)

    def opened(
        self, account: str | None, service: str, kind: PackageType, at_ms: int, catalog: Catalog
    ) -> Opened:
        """Return what is open to a call at an instant.

        Remembered, newest first: to work it out takes a third of a client's first call (benchmarks/line.py,
        `new` against `known`).
        """
        key = account, service, kind
        spans = self._opened.get(key, ())
        for one in spans:
            if one.from_ms <= at_ms < one.until_ms and one.catalog is catalog:
                return one
        found = _opened(self, account, service, kind, at_ms, catalog)
        if len(self._opened) >= OPENED_MAX:
            self._opened.clear()
        self._opened[key] = (found, *spans[: SPANS_MAX - 1])
        return found


def _opened(
    view: ClientView, account: str | None, service: str, kind: PackageType, at_ms: int, catalog: Catalog
) -> Opened:
    start, stop = BEGINNING_MS, NEVER_MS
    found: list[tuple[int, ClientPackage, Period]] = []
    by_event: list[ByEvent] = []
    texts = [_SHUT] * len(view.packages)
    stops_ms = [NEVER_MS] * len(view.packages)
    for group, held in enumerate(view.packages):
        package = catalog.packages.get(held.package)
        if package is None or held.account not in (None, account):
            continue
        period, since, until = period_around(view.state, held, package, at_ms)
        start, stop = max(start, since), min(stop, until)
        since, until = package.status_around(at_ms)
        start, stop = max(start, since), min(stop, until)
        if period is not None and period.version.type == kind and package.status_at(at_ms) == "active":
            found.append((group, held, period))
            number = period.number
            if period.version.spec.charge_on_event:
                by_event.append(ByEvent(group, held, period))
            texts[group] = PeriodText(quoted(held.id), f"{escaped(held.id)}.{number}", str(number))
            stops_ms[group] = NEVER_MS if period.stop_ms is None else period.stop_ms
    offers = _offers(found, stops_ms)
    offered = catalog.offers(service, offers)
    foreign = offered.foreign(view.currency)
    written = _encode(texts)
    return Opened(
        catalog,
        start,
        stop,
        tuple(texts),
        msgspec.Raw(written),
        written,
        tuple(stops_ms),
        offered,
        foreign,
        tuple(by_event),
    )


def _offers(found: list[tuple[int, ClientPackage, Period]], stops_ms: list[int]) -> tuple[Offer, ...]:
    expirations = {at: place for place, at in enumerate(sorted({stops_ms[group] for group, _, _ in found}))}
    by_turn = sorted(range(len(found)), key=lambda n: _turn(found[n][1]))
    turns = {n: place for place, n in enumerate(by_turn)}
    return tuple(
        Offer(
            period.version,
            period.latest,
            held.quantity,
            group,
            expirations[stops_ms[group]],
            turns[n],
            period.held.share,
            tuple(period.held.moved.items()),
            tuple((period.held.rolled or {}).items()),
        )
        for n, (group, held, period) in enumerate(found)
    )


def _wake(state: ClientState) -> int | None:
    every = [of.life.waiting for of in state.packages if of.life is not None]
    # What waits for its package clears by no money, and what it would cost must not hide what does.
    waiting = [one for one in every if one is not None and one.reason != "package_disabled"]
    if not all(one.steady for one in waiting):
        return ANY_RISE
    return min([one.total - state.credit_limit for one in waiting], default=None)


_SHUT = PeriodText("", "", "")
_encode = msgspec.msgpack.Encoder().encode


def _turn(held: ClientPackage) -> tuple[object, ...]:
    """Return which of a client's packages is first where all else is equal (RULES.md 2.1)."""
    first = held.life.first_ms if held.life is not None else None
    return held.account is None, held.start_ms if first is None else first, id_order(held.id)


class Views:
    """The client views and account entries that a batch goes by.

    What is absent, and what was fetched for the batch, is known to this object alone: it stays, whatever
    others put into the shared caches or take out of them. So looking up ends, and a rejection can rest on it.
    """

    __slots__ = (
        "absent_accounts", "absent_clients", "accounts", "clients", "fetched", "known", "owners", "parted",
    )  # fmt: skip

    def __init__(
        self, clients: dict[str, ClientView] | None = None, accounts: dict[str, str] | None = None
    ) -> None:
        """Use these caches, which others may share."""
        self.clients: dict[str, ClientView] = {} if clients is None else clients
        self.accounts: dict[str, str] = {} if accounts is None else accounts
        self.absent_clients: set[str] = set()
        self.absent_accounts: set[str] = set()
        self.fetched: dict[str, ClientView] = {}
        """Views as the store had them during this batch: a rejection may rest on such a one."""
        self.owners: dict[str, str] = {}
        """Account → client, as the store had them during this batch."""
        self.known: dict[str, Known] = {}
        """Balances and counters, as the store told them last during this batch."""
        self.parted: dict[str, object] = {}
        """Client → the side before which something of it has to be done: it goes on in the next call."""

    def find(self, client: str) -> ClientView | None:
        """Return a client's view: the one that was fetched for this batch before one of the cache."""
        return self.fetched.get(client) or self.clients.get(client)

    def owner(self, account: str) -> str | None:
        """Return whose account it is: as it was looked up for this batch before one of the cache."""
        return self.owners.get(account) or self.accounts.get(account)

    def learn(
        self, clients: set[str], accounts: set[str], states: dict[str, bytes], owners: dict[str, str],
        balances: Mapping[str, int],
    ) -> None:  # fmt: skip
        """Take in what the store answered to these questions: what it did not name does not exist."""
        for client, balance in balances.items():
            self.known[client] = Known(balance)
        for client, state in states.items():
            self.put(client, state)
        for client in clients - states.keys():
            self.absent_clients.add(client)
            self.fetched.pop(client, None)
            self.clients.pop(client, None)
        self.accounts.update(owners)
        self.owners.update(owners)
        self.absent_accounts |= accounts - owners.keys()

    def changed(self, client: str, state: bytes, *, keep: bool) -> None:
        """Take a client's state after a change; keep False: have no view of it until it is fetched again."""
        if keep:
            self.put(client, state)
        else:
            self.fetched.pop(client, None)
            self.clients.pop(client, None)

    def put(self, client: str, state: bytes) -> None:
        """Take a client's newest state.

        Accounts that it has no more are looked up again when they come.
        """
        old = self.find(client)
        new = self.fetched[client] = self.clients[client] = ClientView(read_state(state))
        self.absent_clients.discard(client)
        if old is not None:
            for account in old.accounts.keys() - new.accounts.keys():
                self.accounts.pop(account, None)
                self.owners.pop(account, None)
