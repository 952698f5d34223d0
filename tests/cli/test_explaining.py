"""`rater explain`: what it asks for, finds, and says where there is nothing. No server is there."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from cli.conftest import JULY_MS, Store, register, seen
from rater.cli import main

Capture = pytest.CaptureFixture[str]
FEE: dict[str, Any] = {
    "id": "cp/3/1/subscription_fee", "revision": 1, "type": "subscription_fee", "client": "42",
    "account": None,
    "lines": [{"name": "Monthly", "note": "", "rate": "5.00"}, {"discount": "-1.00", "activation_count": 1}],
    "quantity": 2, "proration": {"of": 1, "in": 3}, "package_currency": "EUR",
    "fx": [{"from": "EUR", "to": "USD", "rate": "1.08"}], "net": "-2.88",
    "taxes": [{"name": "VAT", "percent": "20", "amount": "-0.576"}], "amount": "-3.456", "currency": "USD",
    "catalog": 7, "cdr": {"source": "pbx", "id": "c1"},
}  # fmt: skip


@pytest.fixture
def journal(store_of: Callable[..., Store], monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Let these transactions be the newest of the journal, by the catalog of the tests."""

    def put(*transactions: dict[str, Any]) -> None:
        store_of(register(active=(JULY_MS - 10**11, None)), {})

        async def newest(*_: object, **__: object) -> AsyncIterator[Any]:
            for one in transactions:
                yield seen(json.dumps(one, separators=(",", ":")).encode())

        async def catalog(*_: object) -> Any:
            from cli.conftest import CATALOG  # noqa: PLC0415

            return CATALOG

        monkeypatch.setattr("rater.stream.browsing.newest", newest)
        monkeypatch.setattr("rater.queries.explained._catalog", catalog)

    return put


def test_a_fee_is_explained_in_words_and_as_json(journal: Callable[..., None], capsys: Capture) -> None:
    """Rows, discount, quantity, share of the period, currency and taxes come to the amount."""
    journal(FEE)
    assert main(["explain", FEE["id"]]) == 0
    out = capsys.readouterr().out
    assert out.splitlines() == [
        "cp/3/1/subscription_fee",
        "  client 42",
        "  brought by the first call of the period: pbx/c1",
        "  arithmetic",
        "    Monthly 5.00 = 5 EUR",
        "    discount -1.00 from activation 1 on: 4 EUR",
        "    x 2 (quantity) = 8 EUR",
        "    x 1 s / 3 s of the period = 2.666666666666… EUR",
        "    2.666666666666… EUR x 1.08 = 2.88 USD",
        "    VAT 20 % of 2.88: 0.576 USD",
        "    amount: -3.456 USD",
    ]
    assert main(["explain", FEE["id"], "--json"]) == 0
    (row,) = map(json.loads, capsys.readouterr().out.splitlines())
    assert {
        "transaction", "identified", "rate", "billed", "candidates", "arithmetic", "amount", "currency",
    } <= row.keys()  # fmt: skip
    assert (row["amount"], row["identified"]["client"], row["notes"]) == ("-3.456", "42", [])


def test_what_does_not_add_up_is_said(journal: Callable[..., None], capsys: Capture) -> None:
    """An amount that its own numbers do not come to is named; so is a reversal."""
    reversal = {**FEE, "type": "reversal", "reverses": 1}
    journal(reversal, {**FEE, "amount": "-3.50"})
    assert main(["explain", FEE["id"]]) == 0
    out = capsys.readouterr().out
    assert "note: the arithmetic comes to -3.456, the transaction says -3.50: report it" in out
    assert "note: it was taken back later, by a reversal" in out


def test_what_a_reversal_took_back_long_after(
    journal: Callable[..., None], capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is found however long before the reversal it was published."""
    journal()

    async def newest(*_: object, **__: object) -> AsyncIterator[Any]:
        for at_ms, one in ((JULY_MS, {**FEE, "type": "reversal", "reverses": 1}), (JULY_MS - 10**9, FEE)):
            yield seen(json.dumps(one, separators=(",", ":")).encode())._replace(at_ms=at_ms)

    monkeypatch.setattr("rater.stream.browsing.newest", newest)
    assert main(["explain", FEE["id"]]) == 0
    assert "note: it was taken back later, by a reversal" in capsys.readouterr().out


def test_an_adjustment_is_a_sentence(journal: Callable[..., None], capsys: Capture) -> None:
    """Who, why and under which key."""
    journal({
        "id": "adjust/42/k1", "revision": 1, "type": "adjustment", "client": "42", "actor": "anna",
        "reason": "ticket 512", "key": "k1", "amount": "5", "currency": "USD", "catalog": 7,
    })  # fmt: skip
    assert main(["explain", "adjust/42/k1"]) == 0
    assert "anna adjusts the balance (key k1): ticket 512" in capsys.readouterr().out


def test_what_is_not_there(journal: Callable[..., None], capsys: Capture) -> None:
    """It is exit code 1, and where to look."""
    journal(FEE)
    assert main(["explain", "pbx/none"]) == 1
    assert "there is no transaction pbx/none" in capsys.readouterr().err


def test_an_id_that_is_no_text(journal: Callable[..., None], capsys: Capture) -> None:
    """Bytes of the command line that are no UTF-8 are wrong input, no defect."""
    journal(FEE)
    assert main(["explain", "pbx/\udcff"]) == 2
    assert capsys.readouterr().err == "rater: 'pbx/\\udcff': this is not UTF-8; give it as UTF-8\n"


def test_wrong_input(capsys: Capture, tmp_path: Path) -> None:
    """One of both is asked for."""
    (tmp_path / "c.json").write_text("{}")
    for arguments in ([], ["a/b", "--file", str(tmp_path / "c.json")], ["--file", str(tmp_path / "none")]):
        assert main(["explain", *arguments]) == 2
        assert "see rater explain --help" in capsys.readouterr().err


def test_what_a_call_would_come_to(journal: Callable[..., None], capsys: Capture, tmp_path: Path) -> None:
    """A record that is none, and a side that cannot be rated, are told with their reason: exit code 0."""
    journal()
    for text, reason in (("{", "malformed"), (json.dumps(CALL), "rate_missing")):
        (tmp_path / "c.json").write_text(text)
        assert main(["explain", "--file", str(tmp_path / "c.json"), "--json"]) == 0
        (row,) = map(json.loads, capsys.readouterr().out.splitlines())
        assert (row["transaction"], row["rejected"]["reason"]) == (None, reason)
        whose = {"by": "account", "client": "42", "account": "sip-1001"}
        assert row["identified"] == (whose if reason == "rate_missing" else dict.fromkeys(whose))


CALL = {
    "id": "c", "called": "380441234567", "duration_ms": 1000, "answered_at": "2026-11-03T10:00:00Z",
    "orig": {"account": "sip-1001"},
}  # fmt: skip
