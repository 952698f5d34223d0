"""Which limits a call may draw from, and in which order (RULES.md 2 step 8, 2.1, 3.1)."""

from __future__ import annotations

import json
from contextlib import ExitStack
from typing import Any, NamedTuple
from unittest import mock

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from rater.core.catalog import compiled
from rater.core.catalog.compiled import OFFERS_MAX
from rater.core.catalog.offers import Candidate, counter_field
from rater.core.clients import views
from rater.core.clients.state import id_order
from rater.core.clients.views import OPENED_MAX, SPANS_MAX, ClientView
from rater.core.offline import Rater
from rater.core.rating.explaining import passed_over
from rater.core.rating.matching import match, package_type
from rater.core.reasons import PassOver, Reason, Rejection, Side

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
DAY_0 = 1_793_491_200_000  # 1 November 2026, 00:00 UTC
EDITED_MS = DAY_0 + 4 * DAY_MS + 6 * HOUR_MS
"""When the packages are loaded again, with other priorities and statuses."""
NAMES = {"380": "Ukraine", "38044": "Kiev", "38045": "Kiev", "1": "USA"}


ANY_CODE = {"id": "m", "type": "volume", "service": "calls", "code": "*", "limit": 1}


def day(number: int) -> str:
    """Return the midnight of a day."""
    return f"2026-11-{number + 1:02d}T00:00:00Z"


class Call(NamedTuple):
    """What matching looks at."""

    side: Side
    at_ms: int
    account: str | None
    service: str
    code: str
    billed: int
    sign: int


# ---------------------------------------------------------------- the naive matcher


class Naive:
    """The rules of RULES.md, written down without any thought of speed."""

    def __init__(
        self, packages: list[dict[str, Any]], edits: dict[str, dict[str, Any]], held: list[dict[str, Any]]
    ) -> None:
        self.packages = {one["id"]: one for one in packages}
        self.edits = edits
        self.held = held

    def period(self, held: dict[str, Any], at_ms: int) -> tuple[int, int, float] | None:
        """Return (number, start, stop) of the period that holds the instant, step 5 and section 4."""
        package = self.packages[held["package"]]
        ends = [DAY_0 + one["_end"] * DAY_MS for one in (held, package) if one["_end"] is not None]
        end = min(ends, default=float("inf"))
        start = DAY_0 + held["_start"] * DAY_MS
        if not start <= at_ms < end:
            return None
        if package["_days"] is None:
            return 1, start, end
        length = package["_days"] * DAY_MS
        number = (at_ms - start) // length
        return number + 1, start + number * length, min(end, start + (number + 1) * length)

    def priority(self, held: dict[str, Any]) -> int:
        """Return the priority that the package has in the catalog of now, section 3, Editing."""
        package = self.packages[held["package"]]
        priority: int = self.edits.get(package["id"], {}).get("priority", package["priority"])
        return priority

    def why_not(self, held: dict[str, Any], limit: dict[str, Any], call: Call) -> PassOver | None:  # noqa: PLR0911
        """Return the first reason to leave a limit out, in the order of CONTRACTS.md; None: a candidate."""
        package = self.packages[held["package"]]
        edited = self.edits.get(package["id"], {}) if call.at_ms >= EDITED_MS else {}
        if self.period(held, call.at_ms) is None or edited.get("status", "active") != "active":
            return PassOver.NOT_ACTIVE
        if held["account"] not in (None, call.account):
            return PassOver.OTHER_ACCOUNT
        if limit["service"] != call.service:
            return PassOver.OTHER_SERVICE
        if package["type"] != (
            "customer" if (call.sign or (-1 if call.side == "orig" else 1)) < 0 else "vendor"
        ):
            return PassOver.WRONG_TYPE
        if self.specific(limit, call.code) is None:
            return PassOver.CODE_MISMATCH
        if any(
            call.code == one or (one[-1] == "*" and call.code.startswith(one[:-1]))
            for one in limit["exclude"]
        ):
            return PassOver.EXCLUDED
        return PassOver.SHORT_CALL if call.billed < limit["min_call"] else None

    @staticmethod
    def specific(limit: dict[str, Any], code: str) -> tuple[bool, int] | None:
        """Return what sorts by how specific a matching limit is, 2.1 rule 4; None: it does not match, 3.1."""
        if "code_name" in limit:
            return (False, 0) if NAMES.get(code) == limit["code_name"] else None
        pattern = limit["code"]
        if pattern[-1] == "*":
            return (True, -len(pattern)) if code.startswith(pattern[:-1]) else None
        return (False, 0) if pattern == code else None

    def limits(self) -> list[tuple[dict[str, Any], int, dict[str, Any]]]:
        """Return (client package, position, limit) of all."""
        return [
            (held, position, limit)
            for held in self.held
            for position, limit in enumerate(self.packages[held["package"]]["limits"])
        ]

    def candidates(self, call: Call) -> list[tuple[str, str, int]]:
        """Return (client package, limit, period) in the order of 2.1."""
        found = []
        for held, position, limit in self.limits():
            if self.why_not(held, limit, call) is None:
                period = self.period(held, call.at_ms)
                assert period is not None
                number, _, stop = period
                name = held["id"]
                order = (
                    limit["type"] == "money", self.priority(held), stop,
                    self.specific(limit, call.code), held["account"] is None, held["_start"],
                    not name.isdigit(),
                    (int(name), "") if name.isdigit() else (0, name), position,
                )  # fmt: skip
                found.append((order, (name, limit["id"], number)))
        return [what for _, what in sorted(found)]


# ---------------------------------------------------------------- catalogs and calls

_PATTERNS = ["38044", "38044", "*", "3*", "380*", "38044*", "380", "1*"]
_LIMITS = st.builds(
    lambda code, **rest: {**rest, **code, "limit": 1 if rest["type"] == "volume" else "1"},
    type=st.sampled_from(["volume", "money"]),
    service=st.sampled_from(["calls", "calls", "calls", "calls", "messages"]),
    code=st.sampled_from(_PATTERNS).map(lambda code: {"code": code})
    | st.sampled_from(["Kiev", "Kiev", "Ukraine"]).map(lambda name: {"code_name": name, "code_deck": "a-z"}),
    exclude=st.sampled_from([[], [], [], ["38044"], ["38*", "1"]]),
    min_call=st.sampled_from([0, 0, 0, 30]),
)
_PACKAGES: st.SearchStrategy[dict[str, Any]] = st.builds(
    dict,
    type=st.sampled_from(["customer", "customer", "customer", "vendor"]),
    _days=st.sampled_from([None, 1, 3]),
    _end=st.sampled_from([None, None, 6]),
    priority=st.sampled_from([0, 0, -1, 1]),
    limits=st.lists(_LIMITS, min_size=1, max_size=3),
)
_EDITS: st.SearchStrategy[dict[str, Any]] = st.builds(
    dict, priority=st.integers(-2, 2), status=st.sampled_from(["active", "disabled"])
)
_HELD: st.SearchStrategy[dict[str, Any]] = st.builds(
    dict,
    account=st.sampled_from([None, None, "a", "b"]),
    _start=st.sampled_from([0, 0, 0, 1, 4]),
    _end=st.sampled_from([None, None, None, 5, 7]),
)
_TIMES = [EDITED_MS, EDITED_MS - 1, EDITED_MS + HOUR_MS] * 3 + [
    DAY_0 + days * DAY_MS + ms for days in range(1, 8) for ms in (0, -1)
]
_CALLS = st.builds(
    Call,
    side=st.sampled_from(["orig", "orig", "orig", "term"]),
    at_ms=st.sampled_from(_TIMES),
    account=st.sampled_from(["a", "a", "a", "b", None]),
    service=st.sampled_from(["calls"] * 7 + ["messages"]),
    code=st.sampled_from(["38044", "38044", "38044", "380", "38045", "1"]),
    billed=st.sampled_from([30, 29]),
    sign=st.sampled_from([-1, -1, -1, 0, 1]),
)


@st.composite
def scenes(draw: st.DrawFn) -> tuple[list[dict[str, Any]], dict[str, dict[str, Any]], list[dict[str, Any]]]:
    """Draw packages, edits of some of them, and what the client holds."""
    packages = draw(st.lists(_PACKAGES, min_size=1, max_size=3))
    for number, package in enumerate(packages):
        package["id"] = f"P{number}"
        for position, limit in enumerate(package["limits"]):
            limit["id"] = str(position)
    edits = draw(st.dictionaries(st.sampled_from([one["id"] for one in packages]), _EDITS, max_size=2))
    held = draw(st.lists(_HELD, min_size=2, max_size=5))
    ids = draw(st.permutations(["1", "2", "10", "x", "1.1"]))
    for one, name in zip(held, ids, strict=False):
        one["id"] = name
        one["package"] = draw(st.sampled_from([package["id"] for package in packages]))
    return packages, edits, held


def loaded(
    packages: list[dict[str, Any]], edits: dict[str, dict[str, Any]], held: list[dict[str, Any]],
    until_ms: int = DAY_0 + 200 * DAY_MS,
) -> Rater:  # fmt: skip
    """Return a rater that has loaded these, and then the edits; what is due until then is done."""
    rater = Rater()
    specs = [
        {
            **{name: value for name, value in one.items() if name[0] != "_"}, "name": one["id"],
            "currency": "USD", "end_date": None if one["_end"] is None else day(one["_end"]),
            "period": None if one["_days"] is None else f"{one['_days']} days",
        } for one in packages
    ]  # fmt: skip
    catalog = {
        "currencies": {"base": "USD", "rates": {"EUR": [{"rate": "1.08", "from": day(3)}]}},
        "code_decks": [{"name": "a-z", "codes": NAMES}],
        "packages": specs,
        "clients": [{"id": "42", "name": "Rose", "currency": "USD", "accounts": [{"id": "a"}, {"id": "b"}]}],
        "client_packages": [
            {
                "id": one["id"], "client": "42", "account": one["account"], "package": one["package"],
                "start_date": day(one["_start"]), "activate_in_past": True,
                "end_date": None if one["_end"] is None else day(one["_end"]),
            } for one in held
        ],
    }  # fmt: skip
    faults = rater.load([("catalog.json", json.dumps(catalog).encode())], DAY_0)
    assert not faults, faults
    edited = {"packages": [{**one, **edits[one["id"]]} for one in specs if one["id"] in edits]}
    if edits:
        faults = rater.load([("edits.json", json.dumps(edited).encode())], EDITED_MS)
        assert not faults, faults
    rater.tick(until_ms)
    return rater


def ask(rater: Rater, view: ClientView, call: Call) -> tuple[tuple[Candidate, ...], list[int]] | Rejection:
    """Match a call of client 42; with the periods of the candidates."""
    side, account, service, at_ms, catalog = call.side, call.account, call.service, call.at_ms, rater.catalog
    opened = view.opened(account, service, package_type(call.sign, side), at_ms, catalog)
    assert opened.from_ms <= at_ms < opened.until_ms
    matched = match(opened, view, side, call.code, call.billed, at_ms, catalog, whole=True)
    if isinstance(matched, Rejection):
        return matched
    candidates, cut = matched
    assert not cut
    return candidates, [int(opened.packages[one.group].period) for one in candidates]


def passed_of(rater: Rater, view: ClientView, call: Call) -> dict[tuple[str, str], PassOver]:
    """Return (client package, limit) → why it is passed over, of the limits that are no candidates."""
    kind = package_type(call.sign, call.side)
    found = passed_over(
        view, call.account, call.service, kind, call.code, call.billed, call.at_ms, rater.catalog
    )
    return {(one.client_package, one.limit_id): one.reason for one in found}


def asked(rater: Rater, view: ClientView, call: Call) -> tuple[tuple[Candidate, ...], list[int]]:
    """Return the same of a call that is not refused."""
    found = ask(rater, view, call)
    assert not isinstance(found, Rejection)
    return found


def bounds(most: int) -> ExitStack:
    """Let each memo of matching hold so much."""
    stack = ExitStack()
    for module, name in ((views, "SPANS_MAX"), (views, "OPENED_MAX"), (compiled, "OFFERS_MAX")):
        stack.enter_context(mock.patch.object(module, name, most))
    return stack


@settings(max_examples=500, deadline=None)
@given(scenes(), st.lists(_CALLS, min_size=6, max_size=12))
def test_the_compiled_matcher_agrees_with_the_rules(scene: Any, calls: list[Call]) -> None:
    """Candidates and their order are those of a naive matcher; each other limit has its first reason.

    The calls share a view, in any order of time: what is remembered of one must hold for the next.
    """
    naive = Naive(*scene)
    rater = loaded(*scene)
    view = rater.views.clients["42"]
    for call in calls:
        candidates, periods = asked(rater, view, call)
        got = [
            (view.packages[one.group].id, one.limit_id, period)
            for one, period in zip(candidates, periods, strict=True)
        ]
        assert got == naive.candidates(call), call
        passed = passed_of(rater, view, call)
        expected = {
            (held["id"], limit["id"]): reason
            for held, _, limit in naive.limits()
            if (reason := naive.why_not(held, limit, call)) is not None
        }
        assert passed == expected, call


def test_a_temporary_package_is_prolonged() -> None:
    """A later end date of the package, before it has ended, holds for every call from then on."""
    package = {"id": "P", "type": "customer", "_days": 1, "_end": 5, "priority": 0, "limits": [ANY_CODE]}
    held = {"id": "1", "package": "P", "account": None, "_start": 0, "_end": None}
    rater = loaded([package], {}, [held], until_ms=EDITED_MS)
    longer = json.dumps({"packages": [
        {"id": "P", "name": "P", "type": "customer", "currency": "USD", "period": "1 day", "end_date": day(9),
         "limits": [ANY_CODE]}
    ]})  # fmt: skip
    assert not rater.load([("longer.json", longer.encode())], EDITED_MS)
    rater.tick(DAY_0 + 20 * DAY_MS)
    view = rater.views.clients["42"]
    periods = []
    for at_day in (1, 3, 4, 5, 3, 8, 9):
        call = Call("orig", DAY_0 + at_day * DAY_MS, None, "calls", "380", 60, -1)
        periods.append(asked(rater, view, call)[1])
    assert periods == [[2], [4], [5], [6], [4], [9], []]


def test_a_money_limit_in_another_currency() -> None:
    """It is converted at the call's time; while its currency has no rate yet, the side is refused."""
    package: dict[str, Any] = {
        "id": "P",
        "type": "customer",
        "_days": None,
        "_end": None,
        "priority": 0,
        "limits": [],
    }
    rater = loaded([package], {}, [])
    bonus = {"id": "b", "type": "money", "service": "calls", "code": "*", "limit": "1.08"}
    catalog = {
        "packages": [{"id": "E", "name": "E", "type": "customer", "currency": "EUR", "limits": [bonus]}],
        "client_packages": [
            {"id": "1", "client": "42", "package": "E", "start_date": day(0), "activate_in_past": True}
        ],
    }
    assert not rater.load([("euro.json", json.dumps(catalog).encode())], DAY_0)
    view = rater.views.clients["42"]
    early, late = (Call("orig", DAY_0 + 3 * DAY_MS + ms, None, "calls", "380", 60, -1) for ms in (-1, 0))
    refused, (found, _) = ask(rater, view, early), asked(rater, view, late)
    assert isinstance(refused, Rejection)
    assert (refused.reason, refused.value) == (Reason.CURRENCY_UNKNOWN, "EUR")
    (one,) = found
    assert one.to_package is not None
    assert one.to_client is not None
    assert (one.to_package.at(1_080_000), one.to_client.at(1_000_000)) == (1_000_000, 1_080_000)


@settings(max_examples=100, deadline=None)
@given(scenes(), st.lists(_CALLS, min_size=6, max_size=12))
def test_no_bound_of_memory_changes_what_is_found(scene: Any, calls: list[Call]) -> None:
    """Candidates, their order and periods are the same when each memo holds one thing as when it holds all.

    So they are when it holds two, and things go out of it in between.
    """
    found = []
    for most in (1, 2, 10**9):
        with bounds(most):
            rater = loaded(*scene)
            view = rater.views.clients["42"]
            told = [asked(rater, view, call) for call in calls]
        found.append([([msgspec.structs.asdict(one) for one in of], periods) for of, periods in told])
    assert found[0] == found[1] == found[2]


def test_memory_is_bounded() -> None:
    """Whoever calls ever new codes, at ever new times, by ever new accounts grows no client without end."""
    package = {"id": "P", "type": "customer", "_days": 1, "_end": None, "priority": 0, "limits": [ANY_CODE]}
    rater = loaded([package], {}, [{"id": "1", "package": "P", "account": None, "_start": 0, "_end": None}])
    view = rater.views.clients["42"]
    remembered, offers = view._opened, rater.catalog._offers  # noqa: SLF001 - how much is remembered
    for number in range(3 * OPENED_MAX):
        call = Call("orig", DAY_0 + number * DAY_MS, None, "calls", str(number), 60, -1)
        assert asked(rater, view, call)[1] == [number + 1]
        assert asked(rater, view, call._replace(account=str(number)))[1] == [number + 1]
        assert len(remembered) <= OPENED_MAX
        assert all(len(spans) <= SPANS_MAX for spans in remembered.values())
    assert len(offers) == 1  # whatever the code, the account and the period
    offers.update({(str(number), ()): rater.catalog.offers("x", ()) for number in range(OFFERS_MAX)})
    call = Call("orig", DAY_0, "a", "messages", "1", 60, -1)
    assert asked(rater, view, call)[1] == []
    assert len(offers) == 1


def test_a_view_is_read_by_the_catalog_of_now() -> None:
    """What a view remembers of one catalog is not given to a lane that has another."""
    package = {"id": "P", "type": "customer", "_days": 1, "_end": None, "priority": 0, "limits": [ANY_CODE]}
    rater = loaded([package], {}, [{"id": "1", "package": "P", "account": None, "_start": 0, "_end": None}])
    view, call = rater.views.clients["42"], Call("orig", EDITED_MS, None, "calls", "380", 60, -1)
    older = rater.catalog
    assert [one.package_name for one in asked(rater, view, call)[0]] == ["P"]
    renamed = {"id": "P", "name": "New", "type": "customer", "currency": "USD", "period": "1 day",
               "limits": [ANY_CODE]}  # fmt: skip
    assert not rater.load([("edit.json", json.dumps({"packages": [renamed]}).encode())], EDITED_MS)
    assert [one.package_name for one in asked(rater, view, call)[0]] == ["New"]
    rater.catalog = older
    assert [one.package_name for one in asked(rater, view, call)[0]] == ["P"]


@given(
    st.lists(st.tuples(st.text(max_size=6), st.integers(1, 99), st.text(max_size=6)), unique=True, max_size=9)
)
def test_counter_fields(names: list[tuple[str, int, str]]) -> None:
    """No two counters share a field, whatever their ids."""
    assert len({counter_field(*name) for name in names}) == len(names)


def test_order_of_ids() -> None:
    """Ids that are numbers compare as numbers and come first; the order has no ties and never fails."""
    names = ["1", "01", "2", "10", "9" * 64, "9" * 5000, "1.5", "", "x", "²", "٣"]
    ordered = sorted(names, key=id_order)
    assert ordered[:5] == ["01", "1", "2", "10", "9" * 64]
    assert len({id_order(name) for name in names}) == len(names)
