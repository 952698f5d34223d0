"""`rater transactions`."""

from __future__ import annotations

import json

from cli.conftest import Capture, PutRecords, seen
from rater.cli import main

USAGE = {
    "id": "fs1/1/orig",
    "revision": 1,
    "type": "usage",
    "client": "42",
    "account": "sip-1001",
    "side": "orig",
    "at": "2026-11-03T10:00:00.000Z",
    "called": "380441234567",
    "code": "38044",
    "code_name": "Ukraine Kiev",
    "billed": 66,
    "amount": "-0.006",
    "currency": "USD",
    "draws": [{"package_name": "Kiev 100", "taken": "60", "left": "0", "kind": "volume"}],
}


def test_transactions_are_listed_for_people_and_for_machines(topic: PutRecords, capsys: Capture) -> None:
    """A line says when, who, what, from which package, and how much; --json gives it as it is."""
    asked = topic(seen(None), seen(json.dumps(USAGE).encode()), seen(b"{", b"7"))
    assert main(["transactions", "--client", "42", "--partitions", "3", "--since", "2026-11-03"]) == 0
    head, line = capsys.readouterr().out.splitlines()
    assert head.split()[:3] == ["at", "client", "account"]
    for text in ("2026-11-03 10:00:00", "Ukraine Kiev", "60 of Kiev 100 (0 left)", "-0.006  USD"):
        assert text in line
    assert asked[0]["topic"] == "rater.transactions"
    assert asked[0]["partitions"] == [0, 1, 2]
    assert asked[0]["since_ms"] == 1_793_664_000_000
    assert main(["transactions", "--type", "usage", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == USAGE
    assert main(["transactions", "--type", "refund"]) == 0
    assert capsys.readouterr() == ("", "there is no such transaction\n")


def test_no_more_than_asked_for(topic: PutRecords, capsys: Capture) -> None:
    """--limit counts what is shown; 0 shows all."""
    topic(*[seen(json.dumps({**USAGE, "id": str(n)}).encode()) for n in range(30)])
    for limit, rows in (("3", 3), ("0", 30), ("20", 20)):
        main(["transactions", "--json", "--limit", limit])
        assert len(capsys.readouterr().out.splitlines()) == rows


def test_what_was_reversed_is_left_out(topic: PutRecords, capsys: Capture) -> None:
    """Neither it nor its reversal is in the list; of another revision it is."""
    fee = {"id": "cp/3/1/subscription_fee", "revision": 1, "type": "subscription_fee", "amount": "-5"}
    back = {**fee, "type": "reversal", "reverses": 1, "amount": "5"}
    rows = [(back, b"42"), (fee, b"43"), ({**fee, "revision": 2}, b"42"), (fee, b"42")]
    topic(*[seen(json.dumps(row).encode(), key) for row, key in rows])
    for more, shown in (
        ([], rows[1:3]),
        (["--type", "subscription_fee"], rows[1:3]),
        (["--type", "reversal"], rows[:1]),
    ):
        assert main(["transactions", "--json", *more]) == 0
        assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == [
            row for row, _ in shown
        ]
