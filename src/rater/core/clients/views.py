"""What rating reads of a client, and the views that a batch goes by.

Source of the rules: RULES.md 2, step 4 (the account's rate table replaces the client's), and section 4
(Periods).
"""

from __future__ import annotations

from bisect import bisect_right
from operator import attrgetter, itemgetter
from typing import Any
from zlib import crc32

from msgspec import Struct

from rater.core.catalog.codes import RateTable
from rater.core.catalog.compiled import Catalog
from rater.core.catalog.packages import Package, Service
from rater.core.clients.periods import Period, _Run, first_anchor, opening
from rater.core.clients.state import ClientPackage, ClientState, read_state
from rater.core.instants import BEGINNING_MS, NEVER_MS
from rater.core.periods import (
    Anchor,
    anchor_at,
    boundaries_passed,
    boundary,
    period_at,
    renewal,
)


class ClientView:
    """What rating reads of a client; made from its register, which must not be changed."""

    __slots__ = (
        "accounts",
        "catalog",
        "crc",
        "credit_limit",
        "currency",
        "id",
        "memo",
        "packages",
        "register",
        "version",
    )  # fmt: skip

    def __init__(self, register: ClientState) -> None:
        """Read the register."""
        self.register = register
        self.id = register.id
        self.crc = crc32(register.id.encode())
        """Its remainder is the client's bucket (`client_bucket`)."""
        self.version = register.version
        self.catalog = register.catalog
        """The version of the catalog that it has to be read with, or a newer one."""
        self.currency = register.currency
        self.credit_limit = register.credit_limit
        self.accounts = register.accounts
        self.packages = register.packages
        self.memo: dict[tuple[str, str | None, str], Any] = {}
        """For whoever identifies: lives as long as this version of the client is cached. Bound it."""

    def has_account(self, account: str) -> bool:
        """Return whether the account is the client's."""
        return account in self.accounts

    def table_name(self, account: str | None, side: str, service: str) -> str | None:
        """Return the name of the rate table: the account's for this side and service, else the client's."""
        if account is not None:
            own = self.accounts.get(account, {}).get(side, {}).get(service)
            if own is not None:
                return own
        return self.register.rate_tables.get(side, {}).get(service)

    def period(self, held: ClientPackage, package: Package, at_ms: int) -> Period | None:
        """Return the period of a client package that holds an instant; None: it is not active then."""
        return self.around(held, package, at_ms)[0]

    def around(self, held: ClientPackage, package: Package, at_ms: int) -> tuple[Period | None, int, int]:
        """Return the period that holds an instant, and the [from, until) around it in which that is so.

        A period keeps the version of the package, and the client's time zone with its rules, that were in
        force when it opened (`opening`). It lies between the dates that the package has in this catalog, and
        ends at the client package's own end date. The status of the package is not looked at.
        """
        runs = self._runs(held, package)
        place = bisect_right(runs, at_ms, key=attrgetter("since_ms")) - 1
        if place < 0:
            return None, BEGINNING_MS, held.start_ms
        run, until = runs[place], runs[place + 1].since_ms if place + 1 < len(runs) else NEVER_MS
        latest = package.latest
        begin, end = latest.start_ms(run.zone), latest.end_ms(run.zone)
        if held.end_ms is not None:
            end = held.end_ms if end is None else min(end, held.end_ms)
        if end is not None and at_ms >= end:
            return None, max(run.since_ms, end), until
        if begin is not None and at_ms < begin:
            return None, run.since_ms, min(begin, until)
        found = period_at(run.anchor, run.span, run.zone, at_ms, end)
        assert found is not None  # noqa: S101 - it is neither before the anchor nor at the end
        number, start, stop = found
        version = package.at(opening(held, start))
        if begin is not None:
            start = max(start, begin)
        period = Period(version, run.first + number - 1, start, stop, latest)
        return period, start, NEVER_MS if stop is None else stop

    def _runs(self, held: ClientPackage, package: Package) -> list[_Run]:
        """Return the runs.

        A changed length or zone holds from the next renewal, whose start is the anchor. So do other rules of
        the same zone (a release of tzdata), but what was asked for stays: the local date and time.
        """
        zones, opened = package.zones, opening(held, held.start_ms)
        name = self._zone_name(opened)
        if name == self._zone_name(held.assigned_ms):
            asked = first_anchor(held, package, zones.at(name, held.assigned_ms))
        else:  # as after any change of the zone: the start is the anchor
            asked = anchor_at(held.start_ms, zones.at(name, opened))
        local, anchor, changes = asked.local, asked, self._changes(package)
        if opened < zones.since_ms:
            # Until the catalog carries time zones, periods are counted as they always were: from the clock at
            # the first start. Those that opened so keep their bounds.
            anchor = anchor_at(held.start_ms, zones.at(name, opened))
            if anchor != asked and zones.carried:
                changes = sorted({*changes, zones.since_ms})
        runs = [_Run(anchor, 1, package.at(opened).span, zones.at(name, opened))]
        for change in changes:
            run = runs[-1]
            if run.span is None:
                break
            if change <= opening(held, run.since_ms):
                continue
            n = boundaries_passed(run.anchor, run.span, run.zone, change) + 1
            start = boundary(run.anchor, run.span, run.zone, n)
            if start is None:
                break
            opened = opening(held, start)
            span, name = package.at(opened).span, self._zone_name(opened)
            zone = zones.at(name, opened)
            if (span, name) != (run.span, run.zone.key):
                same_clock = name == run.zone.key and opened >= zones.since_ms
                anchor = renewal(run.anchor, run.span, run.zone, n) if same_clock else anchor_at(start, zone)
                local = anchor.local
                runs.append(_Run(anchor, run.first + n, span, zone))
            elif (zone, local) != (run.zone, run.anchor.local):
                runs.append(_Run(Anchor(start, local, n), run.first, span, zone))
        return runs

    def _changes(self, package: Package) -> list[int]:
        """Return the instants at which something came into force that periods are cut by, in order."""
        register = self.register
        found = {*package.changes(), *package.zones.changes(register.zone)}
        for since, name in register.zones:
            found |= {since, *package.zones.changes(name)}
        return sorted(found)

    def _zone_name(self, at_ms: int) -> str:
        zones = self.register.zones
        if not zones:
            return self.register.zone
        return zones[max(bisect_right(zones, at_ms, key=itemgetter(0)) - 1, 0)][1]


def view(register: ClientState) -> ClientView:
    """Return what rating reads of the client."""
    return ClientView(register)


class Views:
    """The client views and account entries that a batch goes by.

    What is absent, and what was fetched for the batch, is known to this object alone: it stays, whatever
    others put into the shared caches or take out of them. So looking up ends, and a rejection can rest on it.
    """

    __slots__ = ("absent_accounts", "absent_clients", "accounts", "clients", "fetched", "owners")

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

    def find(self, client: str) -> ClientView | None:
        """Return a client's view: the one that was fetched for this batch before one of the cache."""
        return self.fetched.get(client) or self.clients.get(client)

    def owner(self, account: str) -> str | None:
        """Return whose account it is: as it was looked up for this batch before one of the cache."""
        return self.owners.get(account) or self.accounts.get(account)

    def learn(
        self, clients: set[str], accounts: set[str], registers: dict[str, bytes], owners: dict[str, str]
    ) -> None:
        """Take in what the store answered to these questions: what it did not name does not exist."""
        for client, register in registers.items():
            self.put(client, register)
        for client in clients - registers.keys():
            self.absent_clients.add(client)
            self.fetched.pop(client, None)
            self.clients.pop(client, None)
        self.accounts.update(owners)
        self.owners.update(owners)
        self.absent_accounts |= accounts - owners.keys()

    def put(self, client: str, register: bytes) -> None:
        """Take a client's newest register.

        Accounts that it has no more are looked up again when they come.
        """
        old = self.find(client)
        new = self.fetched[client] = self.clients[client] = view(read_state(register))
        self.absent_clients.discard(client)
        if old is not None:
            for account in old.accounts.keys() - new.accounts.keys():
                self.accounts.pop(account, None)
                self.owners.pop(account, None)


class Route(Struct, gc=False):
    """What a side, account and service of a client lead to under one catalog; kept with the client's view."""

    catalog: Catalog
    account: str | None
    service: Service
    table: RateTable | None
    terms: Any = None
    """`rating.terms_of` calls without packages: worked out with the first call, as all that follows."""
    checksum: int | None = None
    """Of client and account, with which the content digest of each call begins."""
    customer: tuple[Any, ...] = ()
    """`matching.Opened` for packages of this type, the newest first."""
    vendor: tuple[Any, ...] = ()


ROUTES_MAX = 64
"""(side, account, service) remembered for one client: accounts are many where a client is a reseller."""
