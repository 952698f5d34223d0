"""The steps over a batch, where no real server is needed to see it; the rest is in tests/line."""

from __future__ import annotations

import json
from types import SimpleNamespace

import msgspec
import pytest

from rater.core import batching
from rater.core.batching import Calls, Side
from rater.core.cdr import Arrival, Cdr, decode
from rater.core.clients import ClientView
from rater.core.identifying import Identified, route_of
from rater.core.offline import Rater

AT_MS = 1_793_880_000_000
CATALOG = {
    "currencies": {"base": "USD"},
    "code_decks": [{"name": "d", "codes": {"380": "Ukraine"}}],
    "rate_tables": [
        {"name": "r", "currency": "USD", "code_deck": "d", "rates": [{"code": "380", "price": "1"}]}
    ],
    "clients": [{"id": "42", "name": "Rose", "currency": "USD", "rate_tables": {"orig": {"calls": "r"}}}],
}


@pytest.mark.parametrize("versions", [(3, 2), (2, 3), (2, 2)])
def test_a_view_that_came_in_between_is_found_out(versions: tuple[int, int]) -> None:
    """Two sides of a client with two versions of its view: the call names the older, so the draw refuses."""
    rater = Rater()
    assert not rater.load([("catalog.json", json.dumps(CATALOG).encode())], AT_MS)
    register = rater.registers["42"]
    found = []
    for number, version in enumerate(versions):
        cdr = decode(
            b'{"id":"%d","called":"380501234567","duration_ms":1000,"answered_at":"2026-11-05T10:00:00Z",'
            b'"orig":{"client":"42"}}' % number,
            Arrival(AT_MS, 86_400_000, frozenset({"calls"})),
        )
        assert isinstance(cdr, Cdr)
        view = ClientView(msgspec.structs.replace(register, version=version))
        route = route_of(view, "orig", None, rater.catalog.services["calls"], rater.catalog)
        assert route.table is not None
        rate = route.table.lookup(cdr.called, cdr.at_ms)
        record = SimpleNamespace(offset=number, timestamp=AT_MS)
        found.append((Side("cdrs", record, 0, cdr, cdr.orig), Identified(view, route, rate)))
    calls: Calls = batching.match(found, rater.catalog, 1)
    assert [use.version for use in calls[0].uses] == [min(versions)]
    assert len(calls[0].items) == len(versions)


def test_commands_are_cut_into_small_batches() -> None:
    """A load's commands bring hundreds of clients each: a few go in a batch, none is left out."""
    standing = batching.Standing(0, "commands", 86_400_000, 90_000_000, {}, {}, AT_MS, {})
    records = [SimpleNamespace(offset=number, timestamp=AT_MS) for number in range(250)]
    batches = batching.slices(standing, [("cdrs", records), ("commands", records)], 4000)
    assert [record for batch in batches for record in batch.commands] == records
    assert [record for batch in batches for _, part in batch.polled for record in part] == records
    assert max(len(batch.commands) for batch in batches) <= 4000 // batching.COMMAND_RECORDS
    assert standing.positions == {"cdrs": 250, "commands": 250}
