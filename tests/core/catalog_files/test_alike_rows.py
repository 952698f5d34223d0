"""Assignments that differ in names alone are checked once: the faults are those of checking each."""

from __future__ import annotations

import json
from itertools import count
from typing import Any
from unittest.mock import patch

from hypothesis import given, settings
from hypothesis import strategies as st

from rater.core.catalog_files import merge_client_packages
from rater.core.catalog_files.merging import Existing, Fault, Merged, merge, read_files

NOW_MS = 1_793_491_200_000
"""1 November 2026, 00:00 UTC."""

LIMIT = {"id": "m", "type": "volume", "service": "calls", "code": "1*", "limit": 900_000_000}
FEES = [{"type": "subscription", "name": "Fee", "rate": "10.00"}]
PACKAGES: list[dict[str, Any]] = [
    {"id": "plain", "limits": [LIMIT]},
    {"id": "daily", "period": "1 day"},
    {"id": "aligned", "period": "1 month", "align_to_payment_terms": True},
    {"id": "dear", "fees": FEES, "currency": "EUR"},
    {"id": "over", "start_date": "2026-10-01", "end_date": "2026-11-02"},
]
CLIENT: dict[str, list[Any]] = {
    "currency": ["USD", "EUR", "CHF"],
    "time_zone": ["UTC", "Europe/Kyiv", "America/Lima"],
    "payment_terms": [
        None, {"every": "1 month", "anchor": "2026-01-01"}, {"every": "7 days", "anchor": "2026-01-01"},
    ],
}  # fmt: skip
HELD: dict[str, list[Any]] = {
    "package": [of["id"] for of in PACKAGES],
    "start_date": [None, "2025-01-01", "2026-11-02T00:00:00Z", "not one"],
    "end_date": [None, "2026-11-02", "2026-11-09"],
    "activate_in_past": [False, True],
    "quantity": [1, 1_000_000],
}
FIRST = st.fixed_dictionaries({name: st.sampled_from(of) for name, of in (CLIENT | HELD).items()})
CHANGES = [{}, *({name: value} for name, of in (CLIENT | HELD).items() for value in of)]


def _merged(rows_of: list[dict[str, Any]]) -> Merged | list[Fault]:
    rows = {
        "currencies": {
            "base": "USD",
            "rates": {"EUR": "1.1", "CHF": [{"rate": "1.1", "from": "2026-11-05"}]},
        },
        "packages": [{"name": of["id"], "type": "customer", "currency": "USD", **of} for of in PACKAGES],
        "clients": [{"id": f"c{n}", **{k: of[k] for k in CLIENT}} for n, of in enumerate(rows_of)],
        "client_packages": [
            {"id": f"h{n}", "client": f"c{n}", **{k: of[k] for k in HELD}} for n, of in enumerate(rows_of)
        ],
    }
    file = read_files([("c.json", json.dumps(rows).encode())], lambda _: b"")
    return merge(None, file, NOW_MS, Existing({}, {}))


@settings(deadline=None, max_examples=300)
@given(FIRST, st.lists(st.sampled_from(CHANGES), min_size=2, max_size=12))
def test_faults_as_if_each_were_checked(first: dict[str, Any], changes: list[dict[str, Any]]) -> None:
    """Clients and assignments that differ in one field, some faulty: the same faults, in order."""
    rows_of, numbers = [{**first, **change} for change in changes], count()
    found = _merged(rows_of)
    with patch.object(merge_client_packages, "_kind", lambda *_: (next(numbers),)):
        assert _merged(rows_of) == found
