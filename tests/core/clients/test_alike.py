"""Clients that a load brings become by a plan of their kind what they would by plans of their own."""

from __future__ import annotations

import json
from functools import cache
from typing import Any
from unittest.mock import patch

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from rater.core.amounts import LIMIT
from rater.core.catalog.compiled import Catalog, compile_catalog
from rater.core.catalog.specs import AccountSpec, ClientEntry, ClientPackageSpec, ClientSpec, TermsSpec
from rater.core.catalog_files.merging import Existing, Merged, merge, read_files
from rater.core.clients import alike
from rater.core.clients.alike import FORMS_MAX, Alike
from rater.core.clients.loading import load_change
from rater.core.clients.planning import Cause, Known
from rater.core.kinds import EventType

AT_MS = 1_793_491_200_500
"""1 November 2026, half a second past 00:00 UTC."""


def _sold() -> list[dict[str, Any]]:
    limit = {"id": "m", "type": "volume", "service": "calls", "code": "1*", "limit": 100, "rollover": 50}
    fees = [{"type": "activation", "name": "Start", "rate": "7.5"},
            {"type": "subscription", "name": "Fee", "rate": "10.00"}]  # fmt: skip
    more: list[dict[str, Any]] = [
        {},
        {"fees": fees},
        {"fees": fees, "client_balance": "allow", "period": "7 days"},
        {"fees": [{"type": "subscription", "name": "Back", "rate": "-1.5"}], "period": "1 day"},
        {
            "fees": fees,
            "align_to_payment_terms": True,
            "discounts": [{"activation_count": 2, "discount": "1"}],
        },
        {"status": "disabled", "fees": fees},
        {"start_date": "2026-10-15", "end_date": "2026-12-03", "fees": fees, "currency": "EUR"},
        {"charge_on_event": True, "fees": fees[1:]},
        {"period": None},
    ]
    return [
        {"id": str(of), "name": f'100% "{of}"', "type": "customer", "currency": "USD", "period": "1 month",
         "limits": [limit], **rest}
        for of, rest in enumerate(more)
    ]  # fmt: skip


@cache
def _catalog() -> Catalog:
    rows = {
        "currencies": {"base": "USD", "rates": {"EUR": "1.1"}},
        "tax_profiles": [{"name": "vat", "taxes": [{"name": "VAT", "percent": "19"}]}],
        "packages": _sold(),
    }
    file = read_files([("c.json", json.dumps(rows).encode())], lambda _: b"")
    merged = merge(None, file, AT_MS, Existing({}, {}))
    assert isinstance(merged, Merged), merged
    return compile_catalog(merged.content, 3)


_NAMES = st.sampled_from(
    ["1", "b", 'q"u%o%%te\\', "длинно" * 30, "\x7f0\x7f", "\x7f1\x7f", "%b", "\x7faccounts\x7f"]
)
_BALANCES = st.sampled_from([0, 17_499_999, *[10**digits for digits in range(7, 13)], -1, LIMIT])
_HELD: dict[str, list[Any]] = {
    "package": [str(of) for of in range(len(_sold()))],
    "account": [None, "1", "длинно"],
    "start_date": [None, "2026-09-01", "2026-11-01T00:00:00Z", "2026-12-24"],
    "end_date": [None, "2026-10-20", "2026-11-09"],
    "activate_in_past": [False, True],
    "quantity": [1, 2],
}
_SPEC: dict[str, list[Any]] = {
    "currency": ["USD", "EUR"],
    "reseller": [None, "1"],
    "time_zone": ["UTC", "Europe/Kyiv"],
    "credit_limit": [0, 10_000_000],
    "low_balance": [None, 0, 5_000_000],
    "payment_terms": [TermsSpec("1 month", "2026-01-05"), None],
    "tax_profile": [None, "vat"],
    "rate_tables": [{}, {"orig": {"calls": "t"}}],
    "accounts": [[], [AccountSpec("1")], [AccountSpec("z", {"term": {"calls": "t"}}), AccountSpec("1")]],
}
_ROW = st.fixed_dictionaries({name: st.sampled_from(values) for name, values in _HELD.items()})
_FIRST = st.tuples(
    st.fixed_dictionaries({name: st.sampled_from(values) for name, values in _SPEC.items()}),
    st.integers(0, 5).flatmap(lambda n: st.lists(_ROW, min_size=min(n, 1), max_size=1 + n // 5)),
)
_CHANGES = [{"time_zone": "Nowhere/At_All"}] + [
    {name: value} for name, values in (_SPEC | _HELD).items() for value in values
]
_OTHER = st.tuples(_NAMES, _NAMES, _BALANCES, st.sampled_from([{}, *_CHANGES]))


def _entry(spec: ClientSpec, packages: list[ClientPackageSpec]) -> ClientEntry:
    return ClientEntry(spec.id, spec, [msgspec.structs.replace(of, client=spec.id) for of in packages])


def _outcome(load: Any) -> Any:
    try:
        return load()
    except ValueError as error:
        return str(error)


@settings(deadline=None, max_examples=300)
@given(
    _FIRST, st.lists(_OTHER, min_size=2, max_size=12), st.sampled_from(["me", "m%b", "\x7f3\x7f"]),
    st.sampled_from([None, 0, 1, 20_000_000, LIMIT]),
)  # fmt: skip
def test_written_as_planned(
    first: tuple[dict[str, Any], list[dict[str, Any]]], others: list[Any], actor: str, balance: int | None
) -> None:
    """A client, and others that differ in names, balance and one field besides, whatever names there are."""
    plans, catalog, known = Alike(_catalog(), AT_MS, actor), _catalog(), Known(balance)
    for place, (name, of, opening, change) in enumerate(others):
        told, *held = (
            {**row, **{k: change[k] for k in change.keys() & row}} for row in (first[0], *first[1])
        )
        spec = ClientSpec(id=name, name=of, balance=opening, **told)
        own = [ClientPackageSpec(id=f"{name}-{n}{of}", client=name, **row) for n, row in enumerate(held)]
        entry, cause = ClientEntry(name, spec, own), Cause(f'load/"{place}%', actor)
        expected = _outcome(
            lambda: load_change(None, entry, catalog, at_ms=AT_MS, cause=cause, known=known)  # noqa: B023
        )
        assert _outcome(lambda: plans.load_change(entry, cause.id, known)) == expected  # noqa: B023


def test_one_plan_serves_many() -> None:
    """Of clients that differ in names and balances each kind is planned: by a client of it and by marks."""
    plans = Alike(_catalog(), AT_MS, "me")
    with patch.object(alike, "load_change", wraps=load_change) as planned:
        for n in range(1000):
            spec = ClientSpec(f"c{n}", "USD", low_balance=5_000_000, balance=17_500_000 + n * 10_000,
                              accounts=[AccountSpec(f"a{n}")])  # fmt: skip
            held = ClientPackageSpec(f"h{n}", spec.id, "1", f"a{n}")
            change = plans.load_change(_entry(spec, [held]), f"load/{n // 400}", Known())
            assert [of.type for of in change.transactions] == [
                "adjustment", "activation_fee", "subscription_fee",
            ]  # fmt: skip
            is_low = any(event.type == EventType.LOW_BALANCE for event in change.events)
            assert is_low == (n < 500)
    assert planned.call_count == 4


def test_what_rests_on_the_very_balance_is_tried_so_often() -> None:
    """Charges that wait for funds tell what is missing: each is planned, and plans are not gathered."""
    plans, cause = Alike(_catalog(), AT_MS, "me"), Cause("load/1", "me")
    with patch.object(alike, "load_change", wraps=load_change) as planned:
        for n in range(3 * FORMS_MAX):
            spec = ClientSpec(f"c{n}", "USD", balance=n + 1)
            entry = _entry(spec, [ClientPackageSpec("h", spec.id, "1")])
            change = plans.load_change(entry, "load/1", Known())
            assert change == load_change(None, entry, _catalog(), at_ms=AT_MS, cause=cause)
            assert any(event.type == EventType.CHARGE_PENDING for event in change.events)
    assert planned.call_count == 3 * FORMS_MAX + FORMS_MAX


def test_plans_are_of_one_load() -> None:
    """Another catalog, instant or actor is another load; instants are whole seconds."""
    plans = Alike(_catalog(), AT_MS, "me")
    assert plans.goes_by(_catalog(), AT_MS + 499, "me")
    assert not plans.goes_by(_catalog(), AT_MS + 500, "me")
    assert not plans.goes_by(_catalog(), AT_MS, "you")
    assert not plans.goes_by(_catalog.__wrapped__(), AT_MS, "me")
