"""A catalog tried on calls: when it is loaded, in which order calls come, and what all comes to."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from rater.core.amounts import parse_micros
from rater.core.catalog_files.merging import read_files
from rater.core.offline import FOREVER_MS, Rater, Transaction
from rater.core.sources.cutting import Record as Piece
from rater.core.trial.arrival import Arrived, arrivals, first_call_ms, together
from rater.core.trial.comparing import Comparison
from rater.core.trial.sums import Sums, volume
from rater.core.trial.trial import Trial

NOVEMBER_MS = 1_793_491_200_000
SECOND_MS, HOUR_MS, DAY_MS = 1000, 3_600_000, 86_400_000
CATALOG: dict[str, Any] = {
    "currencies": {"base": "USD", "rates": {}},
    "code_decks": [{"name": "d", "codes": {"380": "Ukraine", "1": "USA"}}],
    "rate_tables": [
        {
            "name": "t", "currency": "USD", "code_deck": "d",
            "rates": [{"code": "380", "price": "0.10", "setup_fee": "0.05"}, {"code": "1", "price": "0.02"}],
        }
    ],
    "packages": [
        {
            "id": "1", "name": "Minutes", "type": "customer", "currency": "USD", "period": "1 month",
            "fees": [{"type": "subscription", "name": "Monthly", "rate": "5.00"}],
            "limits": [{"id": "m", "type": "volume", "service": "calls", "code": "380*", "limit": 3}],
        }
    ],
    "clients": [
        {
            "id": name, "name": name, "currency": "USD", "time_zone": "UTC", "balance": "100",
            "rate_tables": {"orig": {"calls": "t"}, "term": {"calls": "t"}}, "accounts": [{"id": f"a{name}"}],
        }
        for name in ("41", "42")
    ],
    "client_packages": [{"id": "9", "client": "42", "package": "1"}],
}  # fmt: skip


def call(number: int, at_ms: int, seconds: int, **more: Any) -> dict[str, Any]:
    """Return a CDR of client 42 that was answered then."""
    return {
        "id": f"c{number}", "called": "380501234567", "duration_ms": seconds * 1000,
        "answered_at": rfc3339(at_ms), "orig": {"client": "42"}, **more,
    }  # fmt: skip


def rfc3339(at_ms: int) -> str:
    """Return an instant as CDRs write it."""
    from rater.core.instants import rfc3339 as written  # noqa: PLC0415

    return written(at_ms)


def file_of(cdrs: Iterable[dict[str, Any] | bytes], name: str = "a.jsonl") -> list[Arrived]:
    """Return the records of a file as they come in."""
    raw = [one if isinstance(one, bytes) else json.dumps(one).encode() for one in cdrs]
    return list(arrivals([Piece(line, text) for line, text in enumerate(raw, 1)], name, None, NOVEMBER_MS))


def trial_of(calls: list[Arrived], **changes: Any) -> Trial:
    """Return a trial of the catalog, with these sections instead of its own."""
    trial = Trial(Rater(FOREVER_MS))
    text = json.dumps({**CATALOG, **changes}).encode()
    assert not trial.load(read_files([("c.json", text)], lambda _: b""), first_call_ms(calls, NOVEMBER_MS))
    return trial


def test_a_call_comes_when_it_ends_and_files_keep_their_order() -> None:
    """Records of two files go together by time; one that is no call comes with those above it."""
    late = call(3, NOVEMBER_MS, 30)
    first = file_of([call(1, NOVEMBER_MS, 60), b"no call", call(2, NOVEMBER_MS + HOUR_MS, 1), late])
    second = file_of([call(4, NOVEMBER_MS + 50_000, 9), call(5, NOVEMBER_MS + 2 * HOUR_MS, 1)], "b.jsonl")
    assert [(one.file[0], one.line) for one in together([first, second])] == [
        ("b", 1), ("a", 1), ("a", 2), ("a", 3), ("a", 4), ("b", 2),
    ]  # fmt: skip
    assert [one.record.timestamp - NOVEMBER_MS for one in first] == [60_000, 60_000, HOUR_MS + 1000, 30_000]
    assert [one.behind_ms for one in first] == [0, 0, 0, HOUR_MS + 1000 - 30_000]
    ended = call(6, NOVEMBER_MS, 60, ended_at=rfc3339(NOVEMBER_MS + 90_000))
    before = call(7, NOVEMBER_MS, 60, ended_at=rfc3339(NOVEMBER_MS - 90_000))
    assert [one.record.timestamp - NOVEMBER_MS for one in file_of([ended, before])] == [90_000, 60_000]


def test_a_wrong_year_renews_nothing() -> None:
    """A call that is dated a century ahead is refused as time_in_future; 1970 is no first call."""
    rows = [{"id": "9", "client": "42", "package": "1", "start_date": "2026-11-01"}]
    wrong = call(1, NOVEMBER_MS + 100 * 366 * DAY_MS, 60)
    for first in ([], [call(0, NOVEMBER_MS + HOUR_MS, 60)]):
        calls = file_of([call(3, 0, 60, called="12"), *first, wrong, call(2, NOVEMBER_MS + 2 * HOUR_MS, 60)])
        assert first_call_ms(calls, 0) >= NOVEMBER_MS + HOUR_MS
        trial, sums = trial_of(calls, client_packages=rows), Sums()
        for tried in [*trial.rate(calls), trial.finish()]:
            sums.add(tried)
        assert dict(sums.rejected) == {"time_in_future": 1}
        assert sums.client_rows({})[0]["fees"] == "-5"


def test_the_catalog_is_there_before_what_begins_in_it() -> None:
    """Periods are counted from the start date; without one from the first call on, to the second."""
    calls = file_of([call(1, NOVEMBER_MS + 5 * DAY_MS + 1_500, 60)])
    dated = [{"id": "9", "client": "42", "package": "1", "start_date": "2026-08-20"}]
    for rows, starts in (
        (dated, ["2026-08-20", "2026-09-20", "2026-10-20"]),
        (CATALOG["client_packages"], ["2026-11-06T00:00:01.000Z"]),
    ):
        trial = trial_of(calls, client_packages=rows)
        (tried,) = trial.rate(calls)
        fees = [json.loads(value) for value in (*tried.changes, *trial.finish().changes)]
        assert [fee["period_start"] for fee in fees] == [
            start if "T" in start else f"{start}T00:00:00.000Z" for start in starts
        ]
        (ended,) = tried.ended
        assert isinstance(ended, Transaction)
        (draw,) = json.loads(ended.value)["draws"]
        assert draw["period"] == len(starts)


def test_fees_of_clients_without_calls_are_charged_up_to_the_last_call() -> None:
    """The renewal at a call's time is done, one a second later is not; waiting packages are named."""
    rows = [
        {"id": "9", "client": "42", "package": "1", "start_date": "2026-11-01"},
        {"id": "8", "client": "41", "package": "1", "start_date": "2026-11-01"},
        {"id": "7", "client": "41", "package": "1", "start_date": "2026-11-01", "quantity": 100},
    ]
    december_ms = NOVEMBER_MS + 30 * DAY_MS
    for at_ms, number in ((december_ms - 1, 1), (december_ms, 2)):
        calls = file_of([call(1, NOVEMBER_MS + HOUR_MS, 1), call(2, at_ms, 1, called="1")])
        trial = trial_of(calls, client_packages=rows)
        found = [value for one in trial.rate(calls) for value in one.changes] + [*trial.finish().changes]
        ids = [json.loads(value)["id"] for value in found]
        wanted = [f"cp/{of}/{period}/subscription_fee" for of in (8, 9) for period in range(1, number + 1)]
        assert sorted(ids) == wanted
        assert [(one.client_package, one.reason) for one in trial.waiting()] == [("7", "funds")]


SIDES: list[dict[str, Any]] = [
    {"orig": {"client": "42"}},
    {"term": {"account": "a41"}},
    {"orig": {"client": "41"}, "term": {"client": "42"}},
    {"orig": {"client": "x"}},
]
CALLS = st.lists(
    st.tuples(
        st.integers(0, 40 * DAY_MS),
        st.integers(0, 200),
        st.sampled_from(("380501", "12", "999")),
        st.sampled_from(SIDES),
    ),
    max_size=12,
)


@given(CALLS)
def test_a_comparison_is_the_difference_of_two_sums(rows: list[Any]) -> None:
    """What changes adds up, client by client, to what the two catalogs come to by themselves."""
    calls = file_of(
        call(number, NOVEMBER_MS + at_ms, seconds, called=called, **{"orig": None, **sides})
        for number, (at_ms, seconds, called, sides) in enumerate(sorted(rows, key=lambda row: row[0]))
    )
    dearer = json.loads(json.dumps(CATALOG["rate_tables"]).replace('"0.02"', '"0.03"').replace("380", "3805"))
    trials = trial_of(calls), trial_of(calls, rate_tables=dearer, packages=[
        {**CATALOG["packages"][0], "fees": []}])  # fmt: skip
    both = [[*trial.rate(calls), trial.finish()] for trial in trials]
    comparison, sums = Comparison(), (Sums(), Sums())
    changed = [row for pair in zip(*both, strict=True) for row in comparison.add(*pair)]
    changed += comparison.rest()
    for place, tried in enumerate(both):
        for one in tried:
            sums[place].add(one)
    total = comparison.total()
    for place, name in enumerate(("amount_before", "amount_after")):
        by_client = {row["client"]: row["amount"] for row in sums[place].client_rows({})}
        assert {row["client"]: row[name] for row in comparison.client_rows()} == {
            row["client"]: by_client.get(row["client"], "0") for row in comparison.client_rows()
        }
        assert by_client.keys() <= {row["client"] for row in comparison.client_rows()}
        assert total[name].get("USD", "0") == sums[place].totals().get("USD", "0")
        assert dict(sums[place].rejected) == total[name.replace("amount", "rejected")]
    difference = sum(parse_micros(row["amount_after"] or "0") for row in changed)
    difference -= sum(parse_micros(row["amount_before"] or "0") for row in changed)
    before, after = (parse_micros(total[name].get("USD", "0")) for name in ("amount_before", "amount_after"))
    assert difference == after - before
    assert total["changed"] == len(changed) == len({(row["client"], row["transaction"]) for row in changed})
    assert all(row["amount_before"] != row["amount_after"] for row in changed)


def test_sums_of_destinations_and_clients_agree() -> None:
    """Each side counts once for its client and once for its destination; fees for the client alone."""
    calls = file_of([
        call(1, NOVEMBER_MS, 90, term={"client": "41"}), call(2, NOVEMBER_MS + 1, 100, called="12"),
        call(2, NOVEMBER_MS + 1, 100, called="12"), call(3, NOVEMBER_MS + 2, 0, called="77"), b"{",
    ])  # fmt: skip
    trial, sums = trial_of(calls), Sums()
    for tried in [*trial.rate(calls), trial.finish()]:
        sums.add(tried)
    units = trial.price_units()
    assert sums.client_rows(units) == [
        {"client": "41", "calls": 1, "volume": "1.50", "usage": "0.2", "fees": "0", "amount": "0.2",
         "currency": "USD"},
        {"client": "42", "calls": 3, "volume": "3.17", "usage": "-0.083333", "fees": "-5",
         "amount": "-5.083333", "currency": "USD"},
    ]  # fmt: skip
    rows = {(row["destination"], row["side"]): row["amount"] for row in sums.destination_rows(units)}
    assert rows == {
        ("Ukraine", "term"): "0.2", ("Ukraine", "orig"): "-0.05", ("USA", "orig"): "-0.033333",
        ("(nothing used)", "orig"): "0",
    }  # fmt: skip
    assert (sums.records, sums.duplicates, dict(sums.rejected)) == (5, 1, {"malformed": 1})
    assert volume(Sums().clients.setdefault(("", ""), _sum()).billed, units) == "1.00 calls, 0.50 data"


def _sum() -> Any:
    from rater.core.trial.sums import Sum  # noqa: PLC0415

    made = Sum()
    made.billed.update({"calls": 60, "data": 512})
    return made
