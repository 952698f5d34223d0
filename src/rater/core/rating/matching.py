"""Which limits a call may draw from, in their order; nothing is drawn here.

Source of the rules: RULES.md 2 step 8, 2.1 and 3.1; reasons for passing over: CONTRACTS.md, Passed over.
"""

from __future__ import annotations

from collections.abc import Sequence
from operator import itemgetter
from typing import Any, NamedTuple

import msgspec
from msgspec import Struct

from rater.core.amounts import Form
from rater.core.bucket.messages import ItemCandidate
from rater.core.catalog.compiled import Catalog
from rater.core.catalog.packages import Limit, Limits, PackageVersion, Service
from rater.core.catalog.specs import PackageType
from rater.core.clients.periods import Period
from rater.core.clients.state import ClientPackage
from rater.core.clients.views import ClientView, Route
from rater.core.instants import BEGINNING_MS, NEVER_MS
from rater.core.json_text import quoted
from rater.core.rating.currencies import currency_unknown, fx_objects
from rater.core.rating.identifying import Identified
from rater.core.reasons import Rejection, Side

SHARED_MAX = 4096
"""Sets of packages whose matches are remembered: what a carrier sells together."""

FIRST_MAX = 4
"""Candidates that a draw is asked with at first: those that a call of a client with many packages needs."""

SELECTED_MAX = 256
"""Selections of limits remembered for one of them: as many as its wildcards nest, so a few."""

PLACED_MAX = 16
"""Numberings of counter fields remembered for candidates."""

SPANS_MAX = 4
"""Spans remembered for a client's account: this period, the last one for late calls, a change of status."""


class Part(NamedTuple):
    """What of a candidate goes into a context (`rating.Context`), to be rendered when it gave something.

    group: the place of its client package among the client's. field: the end of its counter's field. prefix:
    the draw's JSON from behind the client package to before the period; tag: from there to before the number
    taken. fx: JSON objects of the currency rates that were used for it.
    """

    money: bool
    waive: bool
    group: int
    field: str
    prefix: str
    tag: str
    fx: tuple[str, ...] = ()


class Candidate(Struct, gc=False):
    """A limit that the call may draw from; clients with the same packages share it.

    group: the place of its client package among the client's. size (quantity included) and cap (0: none) in
    counting units, or micros of the package's currency; to_package, to_client: None for the client's own
    currency; min_call in counting units.
    """

    group: int
    package: str
    package_name: str
    limit_id: str
    size: int
    cap: int
    min_call: int
    money: bool
    waive: bool
    allow: bool
    currency: str
    part: Part
    to_package: Form | None = None
    to_client: Form | None = None


class Asked(tuple[ItemCandidate, ...]):  # noqa: SLOT001 - a tuple's subclass takes no slots but none
    """Candidates as the draw takes them. flat: for whoever packs them, for the same ones come often."""

    flat: Any = None


class Matched(Struct, gc=False):
    """The candidates in their order; clients with the same packages share it.

    parts, and packed, their msgpack, as a context keeps them; asked, as the draw takes them, where the client
    has no other fields in the call. currencies: of those that are money. min_call: whether one has such.
    first: the first few, where there are many (`FIRST_MAX`); cut:
    these are such. placed: asked by the numbers of the fields, where the client has others in the call.
    """

    candidates: tuple[Candidate, ...]
    parts: tuple[Part, ...]
    packed: msgspec.Raw
    asked: Asked
    currencies: tuple[str, ...] = ()
    min_call: bool = False
    first: Matched | None = None
    cut: bool = False
    placed: dict[tuple[int, ...], Asked] = {}


_encode = msgspec.msgpack.Encoder().encode


def _matched(candidates: Sequence[Candidate]) -> Matched:
    parts = tuple(one.part for one in candidates)
    return Matched(
        tuple(candidates),
        parts,
        msgspec.Raw(_encode(parts)),
        Asked(
            ItemCandidate(
                index, one.size, one.group, one.money, one.waive, one.allow, one.cap,
                one.to_package, one.to_client,
            )
            for index, one in enumerate(candidates)
        ),
        tuple({one.currency for one in candidates if one.money}),
        any(one.min_call for one in candidates),
    )  # fmt: skip


NOTHING = _matched([])


class Terms(Struct, array_like=True, gc=False):
    """What stands in the transactions of a client's account, side and service (`rating.render`).

    ids: from the side in the transaction's id to before the CDR's source; amount: what stands before the
    duration or volume; end: from `currency` to `catalog`. packages: of the client packages that are open, by
    `Part.group`: the id as JSON, how its counters' fields begin, the period.
    """

    client: str
    ids: str
    amount: str
    end: str
    packages: Texts


Texts = tuple[tuple[str, str, str], ...]


def counter_field(client_package: str, period: int, limit: str) -> str:
    """Return the field of the counter "CLIENT_PACKAGE.PERIOD.LIMIT".

    Dots of ids are escaped, so that no two counters share a field: % → %25, . → %2E.
    """
    return f"{_escaped(client_package)}.{period}.{_escaped(limit)}"


def _escaped(name: str) -> str:
    return name.replace("%", "%25").replace(".", "%2E") if "." in name or "%" in name else name


def fields_of(parts: tuple[Part, ...], packages: Texts) -> list[str]:
    """Return the counters' fields of candidates."""
    return [packages[part.group][1] + part.field for part in parts]


class Opened(Struct, gc=False):
    """What of a client may give something to calls of one account, service and kind in [from_ms, until_ms).

    packages: `Terms.packages`; terms: those that bear them, and their msgpack, made by who renders.
    """

    from_ms: int
    until_ms: int
    shared: Shared
    packages: Texts
    terms: tuple[Terms, msgspec.Raw] | None = None


class Shared(Struct, gc=False):
    """Packages that clients have, whenever they began: so clients with the same packages share it.

    offers: their limits for the calls' service. limits: the same by code. made: selected offers (bits as of
    `Limits`) → what is made of them.
    """

    offers: tuple[tuple[_Open, Limit], ...]
    limits: Limits
    made: dict[int, Matched]


class _Open(NamedTuple):
    """A client package that is open.

    version, latest: as of `Period`. group: its place among the client's. expiration: its place among those
    open by the end of its period, the same for the same end. turn: as of `_turn`.
    """

    version: PackageVersion
    latest: PackageVersion
    quantity: int
    group: int
    expiration: int
    turn: int


def match(
    identified: Identified,
    side: Side,
    at_ms: int,
    billed: int,
    cost_sign: int,
    catalog: Catalog,
    *,
    whole: bool = False,
) -> Matched | Rejection:
    """Return the limits that the call may draw from, in the order of RULES.md 2.1.

    cost_sign: that of the exact cost before packages (0: the side decides). billed 0 is a zero transaction
    and draws nothing. whole: all of them, for who does not ask again; else maybe the first few (`FIRST_MAX`).
    `identified.opened` is set when there are packages to look at. Rejection: a money limit's currency has no
    rate at the call's time.
    """
    rate, view, route = identified.rate, identified.view, identified.route
    if rate is None or not billed or not view.packages:
        return NOTHING
    kind = package_type(cost_sign, side)
    customer = kind == "customer"
    for opened in route.customer if customer else route.vendor:
        if opened.from_ms <= at_ms < opened.until_ms:
            break
    else:
        opened = _open(view, route, kind, at_ms, catalog)
    identified.opened = opened
    matched = _select(opened.shared, rate.code)
    converts = matched.currencies and matched.currencies != (view.currency,)
    # Money in another currency is looked at whether it is needed or not: it may have no rate.
    if matched.first is not None and not (converts or whole):
        matched = matched.first
    if matched.min_call or converts:
        fitted = _fit(matched, view, at_ms, billed, catalog, side)
        if isinstance(fitted, Rejection):
            return fitted
        matched = fitted
    return matched


def package_type(cost_sign: int, side: Side) -> PackageType:
    """Return which packages can apply: by the sign of the cost, else by side (RULES.md 2, step 8)."""
    return "customer" if (cost_sign < 0 if cost_sign else side == "orig") else "vendor"


def is_late(identified: Identified, matched: Matched, at_ms: int, record_ms: int, catalog: Catalog) -> bool:
    """Return whether a period that the call may draw from was over when its record came."""
    opened, view = identified.opened, identified.view
    if opened is None or record_ms < opened.until_ms:
        return False
    for group in {one.group for one in matched.candidates}:
        held = view.packages[group]
        period = view.period(held, catalog.packages[held.package], at_ms)
        if period is not None and period.stop_ms is not None and period.stop_ms <= record_ms:
            return True
    return False


def _select(shared: Shared, code: str) -> Matched:
    selected = shared.limits.select(code)
    if not selected:
        return NOTHING
    return shared.made.get(selected) or _make(shared, selected)


def _make(shared: Shared, selected: int) -> Matched:
    found = [
        (_order(one, limit), _candidate(one, limit))
        for place, (one, limit) in enumerate(shared.offers)
        if selected >> place & 1
    ]
    found.sort(key=itemgetter(0))
    if len(shared.made) >= SELECTED_MAX:
        shared.made.clear()
    candidates = [candidate for _, candidate in found]
    matched = shared.made[selected] = _matched(candidates)
    first, rest = candidates[:FIRST_MAX], candidates[FIRST_MAX:]
    # `allow` of any that fits the call makes the transaction tell of the balance: then one of these has it.
    if rest and not matched.min_call and any(one.allow for one in first) >= any(one.allow for one in rest):
        matched.first = _matched(first)
        matched.first.cut = True
    return matched


def _order(one: _Open, limit: Limit) -> tuple[object, ...]:
    """Return what candidates are sorted by (RULES.md 2.1): smaller first, without ties."""
    return (
        limit.kind == "money",
        one.latest.priority,
        one.expiration,
        limit.rank(),
        one.turn,
        limit.position,
    )


def _open(view: ClientView, route: Route, kind: PackageType, at_ms: int, catalog: Catalog) -> Opened:
    """Work out what is open at an instant, for how long, and remember it with the client's account."""
    start, stop = BEGINNING_MS, NEVER_MS
    found: list[tuple[int, ClientPackage, Period]] = []
    texts: list[tuple[str, str, str]] = [_SHUT] * len(view.packages)
    for group, held in enumerate(view.packages):
        package = catalog.packages.get(held.package)
        if package is None or held.account not in (None, route.account):
            continue
        period, since, until = view.around(held, package, at_ms)
        start, stop = max(start, since), min(stop, until)
        since, until = package.status_around(at_ms)
        start, stop = max(start, since), min(stop, until)
        if period is not None and period.version.type == kind and package.status_at(at_ms) == "active":
            found.append((group, held, period))
            texts[group] = quoted(held.id), f"{_escaped(held.id)}.{period.number}", str(period.number)
    opened = Opened(start, stop, _shared(route.service, found, catalog), tuple(texts))
    if kind == "customer":
        route.customer = (opened, *route.customer[: SPANS_MAX - 1])
    else:
        route.vendor = (opened, *route.vendor[: SPANS_MAX - 1])
    return opened


_SHUT = "", "", ""


def _shared(service: Service, found: list[tuple[int, ClientPackage, Period]], catalog: Catalog) -> Shared:
    stops = [NEVER_MS if period.stop_ms is None else period.stop_ms for _, _, period in found]
    expirations = {stop: place for place, stop in enumerate(sorted(set(stops)))}
    by_turn = sorted(range(len(found)), key=lambda n: _turn(found[n][1]))
    turns = {n: place for place, n in enumerate(by_turn)}
    packages = tuple(
        [
            _Open(period.version, period.latest, held.quantity, group, expirations[stops[n]], turns[n])
            for n, (group, held, period) in enumerate(found)
        ]
    )
    key = service.name, packages
    shared = catalog.shared.get(key)
    if shared is None:
        if len(catalog.shared) >= SHARED_MAX:
            catalog.shared.clear()
        offers = tuple(
            [
                (one, limit)
                for one in packages
                for limit in one.version.limits
                if limit.service == service.name
            ]
        )
        shared = catalog.shared[key] = Shared(offers, Limits(limit for _, limit in offers), {})
    return shared


def _turn(held: ClientPackage) -> tuple[object, ...]:
    """Return which of a client's packages is first where all else is equal (RULES.md 2.1)."""
    return held.account is None, held.start_ms, id_order(held.id)


def id_order(name: str) -> tuple[int, int, str]:
    """Return what ids are sorted by: ids that are numbers as numbers and first, the others as text."""
    digits = len(name)
    # A number of 4,300 digits or more is refused by int(), and is no id that anybody meant as a number.
    return (0, int(name), name) if name.isascii() and name.isdigit() and digits <= 64 else (1, 0, name)  # noqa: PLR2004


def _candidate(one: _Open, limit: Limit) -> Candidate:
    version, latest = one.version, one.latest
    money = limit.kind == "money"
    waive = latest.waive_setup and not money
    tag = "null" if latest.tag is None else quoted(latest.tag)
    currency = f'"currency":{quoted(version.currency)},' if money else ""
    prefix = (
        f',"package":{quoted(version.id)},"package_name":{quoted(latest.name)},"limit":{quoted(limit.id)},'
        f'"kind":"{limit.kind}","period":'
    )
    return Candidate(
        group=one.group, package=version.id, package_name=latest.name, limit_id=limit.id,
        size=limit.size * one.quantity, cap=0 if money or limit.cap is None else limit.cap,
        min_call=limit.min_call, money=money, waive=waive, allow=latest.allow, currency=version.currency,
        part=Part(
            money, waive, one.group, f".{_escaped(limit.id)}", prefix, f',"tag":{tag},{currency}"taken":"'
        ),
    )  # fmt: skip


def _fit(
    matched: Matched, view: ClientView, at_ms: int, billed: int, catalog: Catalog, side: Side
) -> Matched | Rejection:
    """Leave out limits that this call is too short for, and convert those of other currencies at its time."""
    candidates = []
    for one in matched.candidates:
        if billed < one.min_call:
            continue
        if not one.money or one.currency == view.currency:
            candidates.append(one)
            continue
        pair = (view.currency, one.currency)
        found = catalog.convert(*pair, at_ms)
        if found is None:
            return currency_unknown(catalog, pair, at_ms, side)
        n, d = found
        candidates.append(
            msgspec.structs.replace(
                one, to_package=Form(n, 0, d), to_client=Form(d, 0, n),
                part=one.part._replace(fx=fx_objects(catalog, pair, at_ms)),
            )
        )  # fmt: skip
    return _matched(candidates)
