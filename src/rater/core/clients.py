"""A client as Redis keeps it, how a load changes it, and what rating reads of it.

Source of the rules: domain.md section 4 (Assign, Periods) and section 2.4 (the account's rate table
replaces the client's).
"""

from __future__ import annotations

from bisect import bisect_right
from operator import attrgetter, itemgetter
from typing import Any, NamedTuple
from zlib import crc32
from zoneinfo import ZoneInfo

import msgspec
from msgspec import Struct

from rater.core.catalog import ClientEntry, ClientPackageSpec, ClientSpec, Tables, TermsSpec
from rater.core.codes import BEGINNING_MS, NEVER_MS
from rater.core.compiling import Catalog, Package, PackageVersion
from rater.core.periods import (
    Anchor,
    Span,
    anchor_at,
    boundaries_passed,
    boundary,
    midnight_of,
    period_at,
    renewal,
    when_ms,
)

_SECOND_MS = 1000


class ClientPackage(Struct, array_like=True, gc=False):
    """A package that a client has.

    assigned_ms: the `at` of the load that assigned it. start_ms: start of the first period, decided when it
    was assigned; what periods are counted from is `first_anchor`. end_ms: its own end date; that of the
    package comes on top (`ClientView.around`). start_date and end_date are as the load said them.
    """

    id: str
    package: str
    account: str | None
    quantity: int
    assigned_ms: int
    start_ms: int
    end_ms: int | None
    start_date: str | None = None
    end_date: str | None = None
    activate_in_past: bool = False


class ClientRegister(Struct, array_like=True, gc=False):
    """A client as Redis keeps it, msgpack. Money in micros of its currency.

    version grows with each change; catalog is the version of the catalog that it needs to be read with.
    zones: earlier and present zones by the instant since which each holds (the first from the beginning);
    empty while there was only one.
    """

    id: str
    version: int
    catalog: int
    name: str
    reseller: str | None
    currency: str
    zone: str
    credit_limit: int
    low_balance: int | None
    terms: TermsSpec | None
    tax_profile: str | None
    rate_tables: Tables
    accounts: dict[str, Tables]
    packages: list[ClientPackage]
    opening: int
    zones: tuple[tuple[int, str], ...] = ()


_decode = msgspec.msgpack.Decoder(ClientRegister).decode
_encode = msgspec.msgpack.Encoder(order="deterministic").encode


def read_register(raw: bytes) -> ClientRegister:
    """Return the register in the bytes; msgspec.MsgspecError when there is none."""
    return _decode(raw)


def write_register(register: ClientRegister) -> bytes:
    """Return the register as bytes; equal registers give equal bytes."""
    return _encode(register)


def client_bucket(client_id: str, buckets: int) -> int:
    """Return the bucket of a client: CRC-32 of its id modulo the number of buckets."""
    return crc32(client_id.encode()) % buckets


# ------------------------------------------------------------------------------------------------------ loads
def _told(spec: ClientSpec) -> dict[str, Any]:
    """Return what a load sets of a client, new or not."""
    return {
        "name": spec.name,
        "reseller": spec.reseller,
        "zone": spec.time_zone,
        "credit_limit": spec.credit_limit,
        "low_balance": spec.low_balance,
        "terms": spec.payment_terms,
        "tax_profile": spec.tax_profile,
        "rate_tables": spec.rate_tables,
    }


def same_client(register: ClientRegister, spec: ClientSpec) -> bool:
    """Return whether a row of the client changes nothing. Its balance never does, absent accounts stay."""
    return all(getattr(register, name) == value for name, value in _told(spec).items()) and all(
        register.accounts.get(account.id) == account.rate_tables for account in spec.accounts
    )


def same_package(held: ClientPackage, spec: ClientPackageSpec) -> bool:
    """Return whether a load's row of a client package changes nothing."""
    return (
        held.end_date == spec.end_date
        and held.package == spec.package
        and held.account == spec.account
        and held.start_date == spec.start_date
        and held.quantity == spec.quantity
        and held.activate_in_past == spec.activate_in_past
    )


def apply_entry(
    register: ClientRegister | None, entry: ClientEntry, catalog: Catalog, at_ms: int
) -> ClientRegister:
    """Return the client with what a load says of it; the same object when that changes nothing.

    The load has been checked against the state of its time (`loading.merge`). What may not change any more
    and differs nevertheless (two loads at once) is left as it is: the currency, and all of a client package
    but its end date. ValueError: there is no such client and the entry does not bring it.
    """
    if register is None:
        if entry.client is None:
            raise ValueError(f"client {entry.id!r} does not exist, and the entry does not bring it")
        return _new(entry.client, entry.packages, catalog, at_ms)
    changes: dict[str, Any] = {}
    if entry.client is not None and not same_client(register, entry.client):
        changes = _client_changes(register, entry.client, at_ms)
    zone = catalog.zones.at(changes.get("zone", register.zone), at_ms)
    packages = _packages(register.packages, entry.packages, catalog, zone, at_ms)
    if packages is not register.packages:
        changes["packages"] = packages
    if not changes:
        return register
    return msgspec.structs.replace(register, version=register.version + 1, catalog=catalog.version, **changes)


def _new(spec: ClientSpec, packages: list[ClientPackageSpec], catalog: Catalog, at_ms: int) -> ClientRegister:
    return ClientRegister(
        id=spec.id, version=1, catalog=catalog.version, currency=spec.currency,
        accounts={account.id: account.rate_tables for account in spec.accounts},
        packages=_packages([], packages, catalog, catalog.zones.at(spec.time_zone, at_ms), at_ms),
        opening=spec.balance, **_told(spec),
    )  # fmt: skip


def _client_changes(register: ClientRegister, spec: ClientSpec, at_ms: int) -> dict[str, Any]:
    changes = _told(spec)
    changes["accounts"] = register.accounts | {of.id: of.rate_tables for of in spec.accounts}
    if spec.time_zone != register.zone:
        changes["zones"] = (*(register.zones or ((0, register.zone),)), (at_ms, spec.time_zone))
    return changes


def _packages(
    held: list[ClientPackage], specs: list[ClientPackageSpec], catalog: Catalog, zone: ZoneInfo, at_ms: int
) -> list[ClientPackage]:
    """Return the client packages with those of the load; the same list when nothing changes."""
    places = {of.id: place for place, of in enumerate(held)}
    out, changed = list(held), False
    for spec in specs:
        place = places.get(spec.id)
        if place is None:
            package = catalog.packages.get(spec.package)
            if package is None:
                continue  # checked by the load; nothing is better than a client package of nothing
            places[spec.id] = len(out)
            out.append(assign(spec, package.at(at_ms), zone, at_ms))
        elif out[place].end_date != spec.end_date:
            end_ms = None if spec.end_date is None else when_ms(spec.end_date, zone)
            out[place] = msgspec.structs.replace(out[place], end_date=spec.end_date, end_ms=end_ms)
        else:
            continue
        changed = True
    return out if changed else held


def assign(spec: ClientPackageSpec, version: PackageVersion, zone: ZoneInfo, at_ms: int) -> ClientPackage:
    """Return the client package that an assignment at this instant makes (domain.md section 4, Assign)."""
    return ClientPackage(
        id=spec.id, package=spec.package, account=spec.account, quantity=spec.quantity,
        assigned_ms=whole_second(at_ms),
        start_ms=first_start(spec, version.start_ms(zone), zone, at_ms),
        end_ms=None if spec.end_date is None else when_ms(spec.end_date, zone),
        start_date=spec.start_date, end_date=spec.end_date, activate_in_past=spec.activate_in_past,
    )  # fmt: skip


def first_start(spec: ClientPackageSpec, package_start_ms: int | None, zone: ZoneInfo, at_ms: int) -> int:
    """Return the start of the first period.

    The latest of the assignment's start, the package's start and, without `activate_in_past`, the instant of
    the load (also when no start is given at all).
    """
    at = whole_second(at_ms)
    given = [] if spec.start_date is None else [when_ms(spec.start_date, zone)]
    if package_start_ms is not None:
        given.append(package_start_ms)
    if not given or not spec.activate_in_past:
        given.append(at)
    return max(given)


def opening(held: ClientPackage, start_ms: int) -> int:
    """Return the last instant whose loads count for a period that begins at `start_ms`.

    What is due at a load's instant is done before the load (domain.md section 4, Assign), but for what the
    load itself assigns. With activation in the past, the assignment opens what had begun by then.
    """
    return max(start_ms - 1, held.assigned_ms)


def first_anchor(held: ClientPackage, package: Package, zone: ZoneInfo) -> Anchor:
    """Return what a client package's periods are counted from: the local date and time that was asked for.

    A bare date asks for 00:00, also where that does not exist and the first period begins later; an instant,
    and the moment of a load, for the local time that it is. zone: the client's at the first period, by its
    rules at the assignment.
    """
    for when in (held.start_date, package.at(held.assigned_ms).spec.start_date):
        midnight = None if when is None else midnight_of(when)
        if when is not None and midnight is not None and when_ms(when, zone) == held.start_ms:
            return Anchor(held.start_ms, midnight)
    return anchor_at(held.start_ms, zone)


def whole_second(at_ms: int) -> int:
    """Return the instant's second: instants of the catalog are whole seconds."""
    return at_ms - at_ms % _SECOND_MS


# ----------------------------------------------------------------------------------------------------- rating
class Period(NamedTuple):
    """A period of a client package: [start, stop), None without end.

    version: that of its opening, for what it grants and costs. latest: the package of this catalog, for its
    priority, dynamic tag, name, setup fee rule and client-balance rule (domain.md section 3, Editing).
    """

    version: PackageVersion
    number: int
    start_ms: int
    stop_ms: int | None
    latest: PackageVersion


class _Run(NamedTuple):
    """Periods of one length and zone, from some instant on; `first`: number of the one from boundary 0."""

    anchor: Anchor
    first: int
    span: Span | None
    zone: ZoneInfo

    @property
    def since_ms(self) -> int:
        """The start of the first of these periods."""
        return self.anchor.at_ms


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

    def __init__(self, register: ClientRegister) -> None:
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


def view(register: ClientRegister) -> ClientView:
    """Return what rating reads of the client."""
    return ClientView(register)
