"""Which limits a call may draw from, in their order; nothing is drawn here.

Source of the rules: domain.md 2 step 8, 2.1 and 3.1; reasons for passing over: contracts.md, explain.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import msgspec
from msgspec import Struct

from rater.core.amounts import Form, format_e10
from rater.core.catalog import PackageType
from rater.core.clients import ClientPackage, ClientView, Period
from rater.core.codes import BEGINNING_MS, NEVER_MS
from rater.core.compiling import Catalog, Limit, Package
from rater.core.drawing import DrawItem, DrawResult, Funds, ItemCandidate
from rater.core.identifying import Identified
from rater.core.quoting import quoted
from rater.core.reasons import PassOver, Reason, Rejection, Side, shown

KEYS_MAX = 128
"""Sets of candidates remembered for one client: more codes than one client calls in a day, bounded for those
who try."""

SPANS_MAX = 4
"""Validities remembered for one of them: this period, the last one for late calls, and a change of status."""

MADE_MAX = 1024
"""Candidates remembered for one client, whatever the codes: limits of many short periods add up."""


class Part(NamedTuple):
    """What of a candidate goes into a context (`rating.Context`), to be rendered when it gave something.

    prefix: the draw's JSON before the number taken; suffix: after the last number. fx: JSON objects of the
    currency rates that were used for it.
    """

    money: bool
    waive: bool
    field: str
    prefix: str
    suffix: str
    fx: tuple[str, ...] = ()


class Candidate(Struct, gc=False):
    """A limit that the call may draw from.

    size (quantity included) and cap (0: none) in counting units, or micros of the package's currency; group:
    the place of its client package among the client's; to_package, to_client: None for the client's own
    currency; min_call in counting units.
    """

    client_package: str
    package: str
    package_name: str
    limit_id: str
    period: int
    field: str
    size: int
    group: int
    cap: int
    min_call: int
    money: bool
    waive: bool
    allow: bool
    currency: str
    stop_ms: int | None
    part: Part
    to_package: Form | None = None
    to_client: Form | None = None


class Passed(NamedTuple):
    """A limit that was passed over, and why."""

    client_package: str
    package_name: str
    limit_id: str
    reason: PassOver


class Asked(tuple[ItemCandidate, ...]):  # noqa: SLOT001 - a tuple's subclass takes no slots but none
    """Candidates as the draw takes them. flat: for whoever packs them, for the same ones come often."""

    flat: Any = None


class Matched(Struct, gc=False):
    """The candidates in their order.

    stop_ms: when the first of their periods is over. parts, and packed, their msgpack, as a context keeps
    them; asked, as the draw takes them, and fields, their counter fields' indices, where the client has no
    other fields in the call. passed (explain only): the limits left out.
    """

    candidates: tuple[Candidate, ...]
    stop_ms: int
    parts: tuple[Part, ...]
    packed: msgspec.Raw
    asked: Asked
    fields: dict[str, int]
    passed: tuple[Passed, ...] = ()


_encode = msgspec.msgpack.Encoder().encode


def _matched(candidates: list[Candidate]) -> Matched:
    parts = tuple(one.part for one in candidates)
    return Matched(
        tuple(candidates),
        min((one.stop_ms for one in candidates if one.stop_ms is not None), default=NEVER_MS),
        parts,
        msgspec.Raw(_encode(parts)),
        Asked(
            ItemCandidate(
                index, one.size, one.group, one.money, one.waive, one.allow, one.cap,
                one.to_package, one.to_client,
            )
            for index, one in enumerate(candidates)
        ),
        {one.field: index for index, one in enumerate(candidates)},
    )  # fmt: skip


NOTHING = _matched([])


class Known(Struct, gc=False):
    """Candidates that hold for calls in [from_ms, until_ms)."""

    from_ms: int
    until_ms: int
    matched: Matched
    plain: bool
    """Nothing depends on the single call: no min_call, no other currency."""


class Terms(Struct, array_like=True, gc=False):
    """What stands in the transactions of calls that are identified alike (`rating.render`).

    ids: from the side in the transaction's id to before the CDR's source; amount: what stands before the
    duration or volume; rate: from `code` to `rate`; end: from `currency` to `catalog`. setup_fee: as it is
    written, for a fee in 10^-10 may be more than the 64 bits of msgpack's ints.
    """

    client: str
    ids: str
    amount: str
    rate: str
    end: str
    setup_fee: str


class Plan(Struct, gc=False):
    """What calls have in common that are identified alike, for one side under one catalog.

    cost and sign as in `rating.Priced`, for up to billed_max units; sign None: it differs from call to call,
    or is worked out for each. known: the candidates of the last call.
    """

    catalog: Catalog
    cost: Form
    sign: int | None
    billed_max: int
    terms: Terms
    known: Known | None = None


_Key = tuple[PackageType, str | None, str, str]


class _Memo:
    """What is remembered for a client under one catalog."""

    __slots__ = ("catalog", "known", "made", "matched")

    def __init__(self, catalog: Catalog) -> None:
        self.catalog = catalog
        self.known: dict[_Key, list[Known]] = {}
        self.made: dict[tuple[int, int, int], Candidate] = {}
        self.matched: dict[tuple[int, ...], Matched] = {}
        """ids of candidates → what is made of them, which holds them: many codes have the same ones."""


def counter_field(client_package: str, period: int, limit: str) -> str:
    """Return the field of the counter "CLIENT_PACKAGE.PERIOD.LIMIT".

    Dots of ids are escaped, so that no two counters share a field: % → %25, . → %2E.
    """
    return f"{_escaped(client_package)}.{period}.{_escaped(limit)}"


def _escaped(name: str) -> str:
    return name.replace("%", "%25").replace(".", "%2E") if "." in name or "%" in name else name


def split_field(field: str) -> tuple[str, int, str]:
    """Return (client package, period, limit) of a counter's field."""
    client_package, period, limit = field.split(".")
    return _unescaped(client_package), int(period), _unescaped(limit)


def _unescaped(name: str) -> str:
    return name.replace("%2E", ".").replace("%25", "%")


# ---------------------------------------------------------------- matching


def match(
    identified: Identified,
    side: Side,
    at_ms: int,
    billed: int,
    cost_sign: int,
    catalog: Catalog,
    *,
    explain: bool = False,
) -> Matched | Rejection:
    """Return the limits that the call may draw from, in the order of domain.md 2.1.

    cost_sign: that of the exact cost before packages (0: the side decides). billed 0 is a zero transaction
    and draws nothing. Rejection: a money limit's currency has no rate at the call's time.
    """
    rate, view = identified.rate, identified.view
    if rate is None or not billed or not view.packages:
        return NOTHING
    plan: Plan | None = identified.plans.get(side)
    if plan is not None and plan.catalog is catalog and plan.sign == cost_sign:
        known = plan.known
        if known is not None and known.plain and known.from_ms <= at_ms < known.until_ms and not explain:
            return known.matched
    else:
        plan = None
    kind: PackageType = (
        ("customer" if side == "orig" else "vendor")
        if not cost_sign
        else ("customer" if cost_sign < 0 else "vendor")
    )
    key = (kind, identified.account, identified.service.name, rate.code)
    known = _known(view, key, at_ms, catalog)
    if plan is not None:
        plan.known = known
    matched = known.matched
    if not known.plain:
        fitted = _fit(matched, view, at_ms, billed, catalog, side)
        if isinstance(fitted, Rejection):
            return fitted
        matched = fitted
    if explain:
        passed = tuple(_passed_over(view, key, at_ms, billed, catalog))
        return msgspec.structs.replace(matched, passed=passed)
    return matched


def _known(view: ClientView, key: _Key, at_ms: int, catalog: Catalog) -> Known:
    memo: _Memo | None = view.memo.get("match")
    if memo is None or memo.catalog is not catalog:
        memo = view.memo["match"] = _Memo(catalog)
    spans = memo.known.get(key)
    if spans is not None:
        for known in spans:
            if known.from_ms <= at_ms < known.until_ms:
                return known
    else:
        if len(memo.known) >= KEYS_MAX:
            memo.known.clear()
            memo.matched.clear()
        spans = memo.known[key] = []
    known = _work_out(view, key, at_ms, memo)
    spans.insert(0, known)
    del spans[SPANS_MAX:]
    return known


def _work_out(view: ClientView, key: _Key, at_ms: int, memo: _Memo) -> Known:
    kind, account, service, code = key
    start, stop = BEGINNING_MS, NEVER_MS
    found: list[tuple[tuple[object, ...], Candidate]] = []
    for group, held in enumerate(view.packages):
        package = memo.catalog.packages.get(held.package)
        if package is None or held.account not in (None, account):
            continue
        period = view.period(held, package, at_ms)
        since, until = _validity(view, held, package, period, at_ms)
        start, stop = max(start, since), min(stop, until)
        if period is None or period.version.type != kind or package.status_at(at_ms) != "active":
            continue
        for limit, rank in period.version.matches(service, code):
            candidate = _candidate(memo, group, held, period, limit)
            found.append((_order(held, period, limit, rank), candidate))
    found.sort(key=lambda pair: pair[0])
    candidates = [candidate for _, candidate in found]
    plain = all(not one.min_call and not _foreign(one, view) for one in candidates)
    same = tuple(map(id, candidates))
    matched = memo.matched.get(same)
    if matched is None:
        matched = memo.matched[same] = _matched(candidates)
    return Known(start, stop, matched, plain)


def _validity(
    view: ClientView, held: ClientPackage, package: Package, period: Period | None, at_ms: int
) -> tuple[int, int]:
    """Return the [from, until) around an instant in which period and status stay the same."""
    start, stop = BEGINNING_MS, NEVER_MS
    if period is not None:
        start, stop = period.start_ms, NEVER_MS if period.stop_ms is None else period.stop_ms
    elif at_ms < held.start_ms:
        stop = held.start_ms
    elif held.end_ms is not None and at_ms >= held.end_ms:
        start = held.end_ms
    elif package.changes() or view.register.zones:
        # Ended by its package, maybe by an earlier version or in an earlier zone: this instant alone is sure.
        start, stop = at_ms, at_ms + 1
    else:
        end = package.latest.end_ms(view.zone)
        start = at_ms if end is None else end
    for change in package._status_since[1:]:  # noqa: SLF001
        if change <= at_ms:
            start = max(start, change)
        else:
            stop = min(stop, change)
    return start, stop


def _order(held: ClientPackage, period: Period, limit: Limit, rank: int) -> tuple[object, ...]:
    """Return what candidates are sorted by (domain.md 2.1): smaller first, without ties."""
    return (
        limit.kind == "money",
        period.version.priority,
        NEVER_MS if period.stop_ms is None else period.stop_ms,
        rank,
        held.account is None,
        held.start_ms,
        id_order(held.id),
        limit.position,
    )


def id_order(name: str) -> tuple[int, int, str]:
    """Return what ids are sorted by: ids that are numbers as numbers and first, the others as text."""
    digits = len(name)
    # A number of 4,300 digits or more is refused by int(), and is no id that anybody meant as a number.
    return (0, int(name), name) if name.isascii() and name.isdigit() and digits <= 64 else (1, 0, name)  # noqa: PLR2004


def _candidate(memo: _Memo, group: int, held: ClientPackage, period: Period, limit: Limit) -> Candidate:
    key = (group, period.number, limit.position)
    found = memo.made.get(key)
    if found is not None:
        return found
    if len(memo.made) >= MADE_MAX:
        memo.made.clear()
    version = period.version
    money = limit.kind == "money"
    field = counter_field(held.id, period.number, limit.id)
    waive = version.waive_setup and not money
    tag = "null" if version.tag is None else quoted(version.tag)
    currency = f'"currency":{quoted(version.currency)},' if money else ""
    prefix = (
        f'{{"client_package":{quoted(held.id)},"package":{quoted(version.id)},'
        f'"package_name":{quoted(version.name)},"limit":{quoted(limit.id)},"kind":"{limit.kind}",'
        f'"period":{period.number},"tag":{tag},{currency}"taken":"'
    )
    made = memo.made[key] = Candidate(
        client_package=held.id, package=version.id, package_name=version.name, limit_id=limit.id,
        period=period.number, field=field, size=limit.size * held.quantity, group=group,
        cap=0 if money or limit.cap is None else limit.cap, min_call=limit.min_call, money=money, waive=waive,
        allow=version.allow, currency=version.currency, stop_ms=period.stop_ms,
        part=Part(money, waive, field, prefix, '"}'),
    )  # fmt: skip
    return made


def _foreign(candidate: Candidate, view: ClientView) -> bool:
    return candidate.money and candidate.currency != view.currency


def _fit(
    matched: Matched, view: ClientView, at_ms: int, billed: int, catalog: Catalog, side: Side
) -> Matched | Rejection:
    """Leave out limits that this call is too short for, and convert those of other currencies at its time."""
    candidates = []
    for one in matched.candidates:
        if billed < one.min_call:
            continue
        if not _foreign(one, view):
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


# ---------------------------------------------------------------- currencies


def fx_objects(catalog: Catalog, currencies: tuple[str, str], at_ms: int) -> tuple[str, ...]:
    """Return the transaction's `fx` objects for a conversion: of each currency its rate to the base.

    Other pairs go through the base, and a quotient of two rates has no exact decimal: so both are shown.
    """
    out = []
    for name in currencies:
        rate = catalog.fx(name, at_ms)
        if name != catalog.base and rate is not None:
            out.append(
                f'{{"from":{quoted(name)},"to":{quoted(catalog.base or "")},"rate":"{format_e10(rate)}"}}'
            )
    return tuple(out)


def currency_unknown(catalog: Catalog, currencies: tuple[str, str], at_ms: int, side: Side) -> Rejection:
    """Return the rejection of a side that needs a conversion for which a rate is missing at its time."""
    unknown = next((name for name in currencies if catalog.fx(name, at_ms) is None), currencies[0])
    detail = (
        f"currency {shown(unknown)!r} has no rate in force at the call's time; "
        "load one that is dated before it, or correct the record's rate"
    )
    return Rejection(Reason.CURRENCY_UNKNOWN, detail, shown(unknown), side)


# ---------------------------------------------------------------- explain


def _passed_over(view: ClientView, key: _Key, at_ms: int, billed: int, catalog: Catalog) -> Iterator[Passed]:
    """Give each limit of the client that is no candidate, with the first reason of the list that holds."""
    for held in view.packages:
        package = catalog.packages.get(held.package)
        if package is None:
            continue
        period = view.period(held, package, at_ms)
        version = package.at(at_ms) if period is None else period.version
        active = period is not None and package.status_at(at_ms) == "active"
        for limit in version.limits:
            reason = _why(key, held, version.type, limit, billed) if active else PassOver.NOT_ACTIVE
            if reason is not None:
                yield Passed(held.id, version.name, limit.id, reason)


def _why(key: _Key, held: ClientPackage, kind: PackageType, limit: Limit, billed: int) -> PassOver | None:
    wanted, account, service, code = key
    if held.account not in (None, account):
        return PassOver.OTHER_ACCOUNT
    why = limit.why_not(service, code)
    if why is PassOver.OTHER_SERVICE:
        return why
    if kind != wanted:
        return PassOver.WRONG_TYPE
    if why is not None:
        return why
    return PassOver.SHORT_CALL if billed < limit.min_call else None


def not_drawn(
    candidates: tuple[Candidate, ...], item: DrawItem, used: list[int], funds: Funds, result: DrawResult
) -> tuple[Passed, ...]:
    """Return why each candidate that gave nothing was passed over, given the counters before the draw.

    Arguments as in `drawing.draw_item`, with its result.
    """
    gave = {index for index, *_ in result.takes}
    out = []
    for index, (candidate, asked) in enumerate(zip(candidates, item.candidates, strict=True)):
        if index in gave:
            continue
        if asked.size <= used[asked.field]:
            reason = PassOver.USED_UP
        elif asked.allow and funds.before + funds.credit_limit < 0:
            reason = PassOver.BALANCE_BELOW_ZERO
        else:
            reason = PassOver.LOWER_IN_ORDER
        out.append(Passed(candidate.client_package, candidate.package_name, candidate.limit_id, reason))
    return tuple(out)
