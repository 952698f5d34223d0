"""The form of a package: what it shows and says is the package."""

from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rater.admin.package_values import ROWS, empty, of_form, of_spec, to_row
from rater.admin.pages.package_form import _counted
from rater.admin.requests import DidLimitBody, DiscountBody, FeeBody, LimitBody, PackageBody
from rater.core.catalog.specs import (
    Content,
    DidLimitSpec,
    DiscountSpec,
    FeeSpec,
    LimitSpec,
    PackageSpec,
)
from rater.core.catalog_files.rows import read_packages

CONTENT = Content(base="USD")
TEXT = st.text(
    st.characters(min_codepoint=33, max_codepoint=0x2FF, exclude_characters="\x7f"), min_size=1, max_size=9
)
CODE = st.from_regex(r"[0-9]{1,6}\*?", fullmatch=True)
LIMITS = st.one_of(
    st.builds(
        LimitSpec, id=st.just(""), type=st.just("volume"),
        service=st.sampled_from(["calls", "messages", "data"]),
        limit=st.integers(1, 10_000).map(lambda n: 1536 * n), code=CODE, exclude=st.lists(CODE, max_size=2),
        min_call=st.integers(0, 99), per_call_max=st.none() | st.integers(1, 999),
        rollover=st.integers(0, 9).map(lambda n: 1536 * n),
    ),
    st.builds(
        LimitSpec, id=st.just(""), type=st.just("money"), service=st.just("calls"),
        limit=st.integers(1, 10**12),
        code_deck=st.just("a-z"), code_name=TEXT,
    ),
)  # fmt: skip
SPANS = st.sampled_from([None, "1 month", "24 hours", "30 days", "2 years"])
FEES = st.builds(FeeSpec, st.sampled_from(["activation", "subscription"]), TEXT, st.just("0.05"), TEXT)
DISCOUNTS = st.builds(DiscountSpec, st.integers(1, 9), st.just("1"))
DID_LIMITS = st.builds(
    DidLimitSpec, st.integers(1, 9), st.lists(st.just("kyiv"), max_size=1), st.integers(0, 9)
)
PACKAGES = st.builds(
    PackageSpec, id=TEXT, name=TEXT, type=st.sampled_from(["customer", "vendor"]), currency=st.just("USD"),
    reseller=st.none() | TEXT, period=SPANS, fees_include_taxes=st.booleans(), full_charge=st.booleans(),
    charge_on_event=st.booleans(), setup_fee=st.sampled_from(["charge", "dont_charge"]),
    client_balance=st.sampled_from(["allow", "deny"]), priority=st.integers(-9, 9),
    dynamic_tag=st.none() | TEXT,
    start_date=st.sampled_from([None, "2026-11-01"]),
    fees=st.lists(FEES, max_size=3),
    discounts=st.lists(DISCOUNTS, max_size=3, unique_by=lambda one: one.activation_count),
    did_limits=st.lists(DID_LIMITS, max_size=2),
    limits=st.lists(LIMITS, max_size=3),
)  # fmt: skip


@given(PACKAGES)
def test_a_package_that_is_shown_and_sent_is_the_same(spec: PackageSpec) -> None:
    """What the form shows of a package, sent as it is, is that package: nothing is lost or rounded."""
    limits = [
        msgspec.structs.replace(limit, id=limit.id or str(place)) for place, limit in enumerate(spec.limits)
    ]
    discounts = sorted(spec.discounts, key=lambda one: one.activation_count)
    spec = msgspec.structs.replace(spec, limits=limits, discounts=discounts)
    shown = of_spec(spec, CONTENT.all_services())
    fields = dict(shown.texts)
    for block, rows in shown.rows.items():
        fields |= {f"{block}.{n}.{name}": value for n, row in enumerate(rows) for name, value in row.items()}
    row = json.dumps(to_row(of_form(fields))).encode()
    read = read_packages("package.json", row, {})
    assert read.faults == []
    assert _counted(CONTENT, read.packages[0].value) == spec


def test_rows_that_nobody_filled_in_are_none() -> None:
    """The form shows empty rows with a type chosen; they are no fees and no limits."""
    values = empty()
    values.rows["fees"] = [{**dict.fromkeys(ROWS["fees"], ""), "type": "subscription"}]
    values.rows["limits"] = [{**dict.fromkeys(ROWS["limits"], ""), "type": "volume", "service": "calls"}]
    row = to_row(values)
    assert "fees" not in row
    assert "limits" not in row
    assert row["period"] == "1 month"


def test_what_is_no_number_is_left_to_who_reads_it() -> None:
    """A fault names the field and what was written there."""
    values = empty()
    values.texts |= {
        "id": "9",
        "name": "Nine",
        "priority": "first",
        "period_count": "75",
        "period_unit": "hour",
    }
    read = read_packages("package.json", json.dumps(to_row(values)).encode(), {})
    assert {fault.path: fault.value for fault in read.faults} == {
        "package.priority": "first", "package.period": "75 hours",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("body", "spec"),
    [
        (PackageBody, PackageSpec),
        (FeeBody, FeeSpec),
        (DiscountBody, DiscountSpec),
        (DidLimitBody, DidLimitSpec),
        (LimitBody, LimitSpec),
    ],
)
def test_the_api_takes_each_field_of_a_package(
    body: type[msgspec.Struct], spec: type[msgspec.Struct]
) -> None:
    """What is sold gets a field: the API has it too."""
    assert set(body.__struct_fields__) == set(spec.__struct_fields__)
