"""What due work remembers changes nothing: with and without it the same changes come out, to the byte."""

from __future__ import annotations

import json
from typing import Any
from unittest.mock import patch

from hypothesis import given, settings
from hypothesis import strategies as st

from rater.core.catalog.compiled import Catalog, compile_catalog
from rater.core.catalog_files.merging import Existing, Merged, merge, read_files
from rater.core.clients import counting, fees, lifecycle
from rater.core.clients.changes import Change
from rater.core.clients.lifecycle import due_change
from rater.core.clients.loading import load_change
from rater.core.clients.moments import due_of, notice_of
from rater.core.clients.planning import Cause, Known
from rater.core.clients.state import ClientState, read_state
from rater.core.instants import DAY_MS, shared_rfc3339

AT_MS = 1_793_491_200_000
"""1 November 2026, 00:00 UTC."""
CAUSE = Cause("due/0")


def _package(of: int, more: dict[str, Any]) -> dict[str, Any]:
    limit = {"type": "volume", "service": "calls", "code": "1*", "limit": 100, "rollover": 50 * (of % 2)}
    return {"id": str(of), "name": f"Package {of}", "type": "customer", "currency": ("USD", "EUR")[of % 2],
            "priority": of % 3, "limits": [limit], **more}  # fmt: skip


_FEES = st.lists(
    st.fixed_dictionaries({
        "type": st.sampled_from(["subscription", "activation"]), "name": st.just("Fee"),
        "rate": st.sampled_from(["10.00", "0.333333", "-1.5"]),
    }),
    max_size=2,
)  # fmt: skip
_SOLD = st.fixed_dictionaries(
    {"period": st.sampled_from(["1 day", "7 days", "1 month"]), "fees": _FEES},
    optional={
        "client_balance": st.just("allow"),
        "renew_for": st.just("3 days"),
        "end_date": st.sampled_from(["2026-11-09", "2026-12-03"]),
        "discounts": st.just([{"activation_count": 2, "discount": "1.00"}]),
    },
)
_HELD = st.fixed_dictionaries(
    {"package": st.sampled_from(["0", "1", "2"]), "quantity": st.integers(1, 3)},
    optional={
        "end_date": st.sampled_from(["2026-11-08", "2026-11-20"]),
        "start_date": st.sampled_from(["2026-11-02", "2026-11-05"]),
    },
)


def _loaded(
    sold: list[dict[str, Any]], held: list[dict[str, Any]], balance: int
) -> tuple[Catalog, ClientState]:
    catalog = {
        "currencies": {"base": "USD", "rates": {"EUR": "1.1"}},
        "tax_profiles": [{"name": "vat", "taxes": [{"name": "VAT", "percent": "19"}]}],
        "packages": [_package(of, more) for of, more in enumerate(sold)],
        "clients": [{"id": "42", "name": "C", "currency": "USD", "time_zone": "Europe/Kyiv",
                     "tax_profile": "vat", "balance": f"{balance}.00", "accounts": [{"id": "a"}]}],
        "client_packages": [{"id": f"h{n}", "client": "42", **of} for n, of in enumerate(held)],
    }  # fmt: skip
    merged = merge(
        None, read_files([("c.json", json.dumps(catalog).encode())], lambda _: b""), AT_MS, Existing({}, {})
    )
    assert isinstance(merged, Merged), merged
    compiled = compile_catalog(merged.content, 1)
    change = load_change(None, merged.entries[0], compiled, at_ms=AT_MS, cause=CAUSE)
    assert change is not None
    return compiled, read_state(change.write.state)


def _due(state: ClientState, catalog: Catalog, upto_ms: int, balance: int, *, closing: bool) -> Change | None:
    return due_change(
        state, catalog, upto_ms=upto_ms, now_ms=upto_ms, known=Known(balance), cause=CAUSE, closing=closing,
        keep_ms=upto_ms - 8 * DAY_MS,
    )  # fmt: skip


def _forget() -> None:
    for remembered in (counting.next_bounds, fees.worked_out, shared_rfc3339):
        remembered.cache_clear()


@settings(deadline=None, max_examples=300)
@given(
    st.lists(_SOLD, min_size=3, max_size=3),
    st.lists(_HELD, min_size=1, max_size=4),
    st.sampled_from([0, 25, 1000]),
    st.lists(st.tuples(st.integers(0, 5 * DAY_MS), st.booleans()), min_size=1, max_size=6),
)
def test_nothing_depends_on_what_is_remembered(
    sold: list[dict[str, Any]], held: list[dict[str, Any]], balance: int, steps: list[tuple[int, bool]]
) -> None:
    """Changes are the same when everything due is looked for each time, by what is worked out each time."""
    catalog, state = _loaded(sold, held, balance)
    upto_ms, micros = AT_MS, balance * 1_000_000
    for later_ms, closing in steps:
        upto_ms += later_ms
        for _ in range(100):
            change = _due(state, catalog, upto_ms, micros, closing=closing)
            _forget()
            with (
                patch.object(lifecycle, "_nothing_due", lambda *_, **__: False),
                patch.object(
                    lifecycle,
                    "_due",
                    lambda plan, place: (
                        due_of(plan.state, plan.packages[place], plan.catalog),
                        notice_of(plan.state, plan.packages[place], plan.catalog),
                    ),
                ),
            ):
                assert _due(state, catalog, upto_ms, micros, closing=closing) == change
            if change is None:
                break
            state, micros = read_state(change.write.state), micros + change.write.delta
            assert change.due_ms == state.due_ms
