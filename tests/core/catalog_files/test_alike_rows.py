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

LIMIT = {"id": "m", "type": "volume", "service": "calls", "code": "1*", "limit": 6_000_000_000_000}
FEES = [{"type": "subscription", "name": "Fee", "rate": "10.00"}]
PACKAGES: list[dict[str, Any]] = [
    {"id": "plain", "limits": [LIMIT]},
    {"id": "daily", "period": "1 day"},
    {"id": "aligned", "period": "1 month", "align_to_payment_terms": True},
    {"id": "dear", "fees": FEES, "currency": "EUR"},
    {"id": "over", "start_date": "2026-10-01", "end_date": "2026-11-02"},
]
CLIENTS: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {"currency": st.sampled_from(["USD", "EUR", "CHF"])},
    optional={
        "time_zone": st.sampled_from(["Europe/Kyiv", "America/Lima"]),
        "payment_terms": st.sampled_from(
            [{"every": "1 month", "anchor": "2026-01-01"}, {"every": "7 days", "anchor": "2026-01-01"}]
        ),
    },
)
HELD: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {"client": st.integers(0, 3), "package": st.sampled_from([of["id"] for of in PACKAGES])},
    optional={
        "start_date": st.sampled_from(["2025-01-01", "2026-11-02T00:00:00Z", "2026-11-09", "not one"]),
        "end_date": st.sampled_from(["2026-11-01", "2026-11-02", "2026-11-09"]),
        "activate_in_past": st.booleans(),
        "quantity": st.sampled_from([1, 2000]),
    },
)


def _merged(clients: list[dict[str, Any]], held: list[dict[str, Any]]) -> Merged | list[Fault]:
    rows = {
        "currencies": {"base": "USD", "rates": {"CHF": [{"rate": "1.1", "start_date": "2026-11-05"}]}},
        "packages": [{"name": of["id"], "type": "customer", "currency": "USD", **of} for of in PACKAGES],
        "clients": [{"id": f"c{n}", **client} for n, client in enumerate(clients)],
        "client_packages": [{**of, "id": f"h{n}", "client": f"c{of['client']}"} for n, of in enumerate(held)],
    }
    file = read_files([("c.json", json.dumps(rows).encode())], lambda _: b"")
    return merge(None, file, NOW_MS, Existing({}, {}))


@settings(deadline=None, max_examples=300)
@given(st.lists(CLIENTS, min_size=1, max_size=4), st.lists(HELD, min_size=1, max_size=12))
def test_faults_as_if_each_were_checked(clients: list[dict[str, Any]], held: list[dict[str, Any]]) -> None:
    """Rows of several clients, some faulty, of packages with every check: the same faults, in order."""
    found = _merged(clients, held)
    numbers = count()
    with patch.object(merge_client_packages, "_kind", lambda *_: (next(numbers),)):
        assert _merged(clients, held) == found
