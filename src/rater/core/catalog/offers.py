"""What client packages offer together: their limits as candidates, in the order of RULES.md 2.1, by code."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from operator import itemgetter
from typing import NamedTuple

import msgspec
from msgspec import Struct

from rater.core.amounts import Form, half_up
from rater.core.catalog.packages import Limit, Limits, PackageVersion
from rater.core.json_text import quoted

_encode = msgspec.msgpack.Encoder().encode

ROLLED = ".rolled"
"""Ends the counter's field of what came from the period before; no id of a limit has a dot there."""
_ROLLED_TEXT = '"rolled":true,'


class LimitText(NamedTuple):
    """What a transaction says of a limit that gave something; kept with the outcome.

    group: the place of its client package among the client's. field: the end of its counter's field. prefix:
    the draw's JSON from behind the client package to before the period; tag: from there to before the number
    taken. fx: JSON objects of the currency rates that were used for it. marks: (percent, what is left when so
    much is used), of which events tell, in order.
    """

    money: bool
    waive: bool
    group: int
    field: str
    prefix: str
    tag: str
    fx: tuple[str, ...] = ()
    marks: tuple[tuple[int, int], ...] = ()


def pack_text(text: LimitText) -> msgspec.Raw:
    """Return a limit's text as msgpack."""
    return msgspec.Raw(_encode(text))


class Candidate(Struct, gc=False, eq=False):
    """A limit that a call may draw from; identity is its equality.

    group: the place of its client package among the client's. size (quantity included) and cap (0: none;
    below 0: of this and the candidate before it together) in counting units, or micros of the package's
    currency; to_package, to_client: None for the client's own currency; min_call in counting units; rolled:
    it is what came from the period before. packed: text as msgpack, for what is kept of each draw has it.
    """

    group: int
    package_name: str
    limit_id: str
    size: int
    cap: int
    min_call: int
    money: bool
    waive: bool
    allow: bool
    currency: str
    text: LimitText
    packed: msgspec.Raw
    to_package: Form | None = None
    to_client: Form | None = None
    rolled: bool = False


class Offer(NamedTuple):
    """A client package that is open.

    version: that of its period's opening; latest: the package of the catalog. group: its place among the
    client's. expiration: its place among those open by the end of its period, the same for the same end.
    turn: its place where all else is equal. share: of a whole period, None: it is one. moved, rolled: (limit,
    units) that have moved into the next period, and those that came from the one before.
    """

    version: PackageVersion
    latest: PackageVersion
    quantity: int
    group: int
    expiration: int
    turn: int
    share: tuple[int, int] | None = None
    moved: tuple[tuple[str, int], ...] = ()
    rolled: tuple[tuple[str, int], ...] = ()


class Offers:
    """The limits of open packages for calls of one service.

    Sets of candidates are ints: bit n is candidate n of `candidates`, which are in order. limits: finds those
    for a code. short: candidates with a shortest call. allowing: those of packages that look at the balance.
    money: currency and candidates of the money limits.
    """

    __slots__ = ("allowing", "candidates", "limits", "money", "short")

    def __init__(self, offers: Sequence[Offer], service: str, percents: Sequence[int] = ()) -> None:
        """Put the limits in order. percents: of their use, ascending, of which events tell."""
        found = [
            (_order(one, limit, candidate), limit, candidate)
            for one in offers
            for limit in one.version.limits
            if limit.service == service
            for candidate in _candidates(one, limit, percents)
        ]
        found.sort(key=itemgetter(0))
        self.candidates = tuple([candidate for _, _, candidate in found])
        self.limits = Limits([limit for _, limit, _ in found])
        self.short = self.allowing = 0
        money: dict[str, int] = {}
        for place, one in enumerate(self.candidates):
            if one.min_call:
                self.short |= 1 << place
            if one.allow:
                self.allowing |= 1 << place
            if one.money:
                money[one.currency] = money.get(one.currency, 0) | 1 << place
        self.money = tuple(money.items())

    def foreign(self, currency: str) -> int:
        """Return the money limits of other currencies than a client's."""
        return sum(places for name, places in self.money if name != currency)

    def chosen(self, places: int) -> tuple[Candidate, ...]:
        """Return the candidates of a set, in order."""
        found = []
        while places:
            rest = places & (places - 1)
            found.append(self.candidates[(places - rest).bit_length() - 1])
            places = rest
        return tuple(found)


def _order(one: Offer, limit: Limit, candidate: Candidate) -> tuple[object, ...]:
    """Return what candidates are sorted by (RULES.md 2.1): smaller first, without ties."""
    return (
        limit.kind == "money",
        one.latest.priority,
        one.expiration,
        limit.rank(),
        one.turn,
        limit.position,
        not candidate.rolled,
    )


def _candidates(one: Offer, limit: Limit, percents: Sequence[int]) -> Iterator[Candidate]:
    """Yield what came from the period before, where anything did, and the limit's own."""
    rolled = dict(one.rolled).get(limit.id, 0)
    if rolled:
        yield _candidate(one, limit, rolled, (), rolled=True)
    size = size_of(limit, one.quantity, one.share, dict(one.moved).get(limit.id, 0))
    yield _candidate(one, limit, size, marks_of(size, percents))


def size_of(limit: Limit, quantity: int, share: tuple[int, int] | None, moved: int = 0) -> int:
    """Return what a period grants of a limit: times the quantity, its share; less what has moved on.

    Volume is rounded down once, money half up.
    """
    size = limit.size * quantity
    if share is not None:
        of, whole = share
        size = half_up(size * of, whole) if limit.kind == "money" else size * of // whole
    return size - moved


def marks_of(size: int, percents: Sequence[int]) -> tuple[tuple[int, int], ...]:
    """Return (percent, what is left once so much of the size is used); of a size of 0 nothing is told."""
    return tuple([(percent, size + -size * percent // 100) for percent in percents]) if size > 0 else ()


def _candidate(
    one: Offer, limit: Limit, size: int, marks: tuple[tuple[int, int], ...], *, rolled: bool = False
) -> Candidate:
    version, latest = one.version, one.latest
    money = limit.kind == "money"
    waive = latest.waive_setup and not money
    tag = "null" if latest.tag is None else quoted(latest.tag)
    currency = f'"currency":{quoted(version.currency)},' if money else ""
    prefix = (
        f',"package":{quoted(version.id)},"package_name":{quoted(latest.name)},"limit":{quoted(limit.id)},'
        f'{_ROLLED_TEXT if rolled else ""}"kind":"{limit.kind}","period":'
    )
    text = LimitText(
        money,
        waive,
        one.group,
        f".{escaped(limit.id)}" + (ROLLED if rolled else ""),
        prefix,
        f',"tag":{tag},{currency}"taken":"',
        marks=marks,
    )
    return Candidate(
        group=one.group, package_name=latest.name, limit_id=limit.id, size=size,
        cap=_cap(one, limit, rolled=rolled), min_call=limit.min_call, money=money, waive=waive,
        allow=latest.allow, currency=version.currency,
        text=text, packed=pack_text(text), rolled=rolled,
    )  # fmt: skip


def _cap(one: Offer, limit: Limit, *, rolled: bool) -> int:
    """Return the most that one call may draw, 0: no such bound; below 0: with the candidate before it."""
    if limit.kind == "money" or limit.cap is None:
        return 0
    return limit.cap if rolled or limit.id not in dict(one.rolled) else -limit.cap


def counter_field(client_package: str, period: int, limit: str) -> str:
    """Return the field of the counter "CLIENT_PACKAGE.PERIOD.LIMIT".

    Dots of ids are escaped, so that no two counters share a field: % → %25, . → %2E.
    """
    return f"{escaped(client_package)}.{period}.{escaped(limit)}"


def escaped(name: str) -> str:
    """Return an id as it stands in a counter's field."""
    return name.replace("%", "%25").replace(".", "%2E") if "." in name or "%" in name else name
