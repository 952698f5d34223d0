"""`rater rate`: what it reads, prints and refuses. No server is there."""

from __future__ import annotations

import csv
import gzip
import io
import json
from pathlib import Path

import pytest
import yaml

from rater.cli import main

CATALOG = """\
currencies: {base: USD, rates: {}}
code_decks: [{name: d, codes: {"380": Ukraine, "1": USA}}]
rate_tables:
  - {name: t, currency: USD, code_deck: d, rates: [{code: "380", price: "0.10"}, {code: "1", price: "0.02"}]}
packages:
  - {id: "1", name: Minutes, type: customer, currency: USD, period: 1 month,
     fees: [{type: subscription, name: Monthly, rate: "5.00"}],
     limits: [{id: m, type: volume, service: calls, code: "380*", limit: 1}]}
clients:
  - {id: "42", name: Rose, currency: USD, time_zone: UTC, balance: "50", rate_tables: {orig: {calls: t}}}
client_packages: [{id: "9", client: "42", package: "1", start_date: 2026-11-01}]
"""
CALL = (
    '{"id": "%d", "called": "%s", "duration_ms": 90000, "answered_at": "2026-11-03T10:0%d:00Z", '
    '"orig": {"client": "42"}}\n'
)
CALLS = "".join(CALL % (number, called, number) for number, called in enumerate(("380501", "121", "77")))


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder of a catalog and three calls, which is the working one."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "c.yaml").write_text(CATALOG)
    (tmp_path / "a.jsonl").write_text(CALLS)
    return tmp_path


def rated(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> tuple[str, str]:
    """Return what `rater rate` prints and tells."""
    assert main(["rate", *arguments]) == code
    told = capsys.readouterr()
    return told.out, told.err


@pytest.mark.usefixtures("files")
def test_json_lines_are_the_transactions_as_published(capsys: pytest.CaptureFixture[str]) -> None:
    """The fee, two sides and a rejection, in order; sums are told beside."""
    out, err = rated(capsys, "a.jsonl", "--catalog", "c.yaml", "--format", "jsonl")
    rows = [json.loads(line) for line in out.splitlines()]
    assert [(row["type"], row.get("amount")) for row in rows] == [
        ("subscription_fee", "-5"), ("usage", "-0.05"), ("usage", "-0.03"), ("rejected", None),
    ]  # fmt: skip
    assert rows[1]["draws"][0]["taken"] == "60"
    assert {name: rows[3][name] for name in ("reason", "side", "value", "file", "line")} == {
        "reason": "rate_missing", "side": "orig", "value": "77", "file": "a.jsonl", "line": 3,
    }  # fmt: skip
    assert json.loads(rows[3]["record"])["id"] == "2"
    assert "3 records: 2 sides rated, rejected: 1 rate_missing; all together -5.08 USD" in err
    assert "Ukraine" in err
    assert rated(capsys, "a.jsonl", "--catalog", "c.yaml", "--json")[0] == out


@pytest.mark.usefixtures("files")
def test_table_and_csv(capsys: pytest.CaptureFixture[str]) -> None:
    """A table has the sums below it; CSV has a column for each member, of rejections too."""
    out, _ = rated(capsys, "a.jsonl", "--catalog", "c.yaml")
    assert "60 of Minutes (0 left)" in out
    assert out.index("a.jsonl:3") < out.index("42          2     3.00  -0.08    -5   -5.08  USD")
    assert out.index("USD") < out.index("Ukraine      orig  calls        1     1.50   -0.05  USD")
    out, err = rated(capsys, "a.jsonl", "--catalog", "c.yaml", "--format", "csv")
    rows = list(csv.DictReader(io.StringIO(out)))
    assert [(row["type"], row["amount"], row["reason"]) for row in rows] == [
        ("subscription_fee", "-5", ""), ("usage", "-0.05", ""), ("usage", "-0.03", ""),
        ("rejected", "", "rate_missing"),
    ]  # fmt: skip
    assert rows[1]["draws"] == "60 of Minutes (0 left)"
    assert "client  calls" in err


def test_another_catalog_is_compared(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each transaction that changes is named, then clients and totals; what a catalog lacks is null."""
    other = yaml.safe_load(CATALOG)
    other["rate_tables"][0]["rates"] = [{"code": "380", "price": "0.20"}, {"code": "7", "price": "1"}]
    other["packages"][0]["fees"] = []
    (files / "d.yaml").write_text(yaml.safe_dump(other))
    out, _ = rated(capsys, "a.jsonl", "--catalog", "c.yaml", "--compare", "d.yaml", "--format", "jsonl")
    *rows, client, total = [json.loads(line) for line in out.splitlines()]
    assert [(row["transaction"], row["amount_before"], row["amount_after"]) for row in rows] == [
        ("default/0/orig", "-0.05", "-0.1"), ("default/1/orig", "-0.03", None),
        ("default/2/orig", None, "-1.5"), ("cp/9/1/subscription_fee", "-5", None),
    ]  # fmt: skip
    assert client == {
        "client": "42", "calls": 3, "changed": 4, "volume_before": 180, "volume_after": 180,
        "amount_before": "-5.08", "amount_after": "-1.6", "difference": "3.48", "currency": "USD",
    }  # fmt: skip
    assert (total["amount_before"], total["amount_after"]) == ({"USD": "-5.08"}, {"USD": "-1.6"})
    assert (total["changed"], total["rejected_after"]) == (4, {"rate_missing": 1})
    out, err = rated(capsys, "a.jsonl", "--catalog", "c.yaml", "--compare", "d.yaml")
    assert "default/2/orig" in out
    assert "-5.08 becomes -1.6 USD" in err
    _, err = rated(capsys, "a.jsonl", "--catalog", "c.yaml", "--compare", "c.yaml")
    assert "0 transactions change" in err


def test_several_files_and_catalogs(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Files go together by time, packed ones too; the files of a catalog are named behind the option."""
    first, *rest = CALLS.splitlines(keepends=True)
    (files / "b.jsonl.gz").write_bytes(gzip.compress(first.encode()))
    (files / "a.jsonl").write_text("".join(rest))
    catalog = yaml.safe_load(CATALOG)
    (files / "p.csv").write_text("id,client,package,start_date\n9,42,1,2026-11-01\n")
    del catalog["client_packages"]
    (files / "c.yaml").write_text(yaml.safe_dump(catalog))
    for options in (
        ("--catalog", "c.yaml", "p.csv"),
        ("--catalog", "c.yaml", "--catalog", "p.csv"),
        ("--catalog=c.yaml", "p.csv"),
        ("--catalog=c.yaml", "--catalog=p.csv"),
    ):
        out, _ = rated(capsys, "a.jsonl", "b.jsonl.gz", *options, "--json")
        rows = [json.loads(line) for line in out.splitlines()]
        assert [row["amount"] for row in rows[:3]] == ["-5", "-0.05", "-0.03"]
        assert rows[1]["draws"]
    out, _ = rated(capsys, "--catalog", "c.yaml", "--catalog", "p.csv", "a.jsonl", "b.jsonl.gz", "--json")
    assert [json.loads(line)["amount"] for line in out.splitlines()[:3]] == ["-5", "-0.05", "-0.03"]


def test_files_behind_an_option_of_either_spelling(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With calls before it they are the option's; with none before it, what follows one file is calls."""
    (files / "d.yaml").write_text(CATALOG.replace('"0.10"', '"0.20"'))
    for options in (
        ("a.jsonl", "--catalog=c.yaml", "--compare=d.yaml"),
        ("--catalog=c.yaml", "--compare=d.yaml", "a.jsonl"),
        ("a.jsonl", "--catalog=c.yaml", "--compare", "d.yaml"),
        ("--format=table", "a.jsonl", "--catalog=c.yaml", "--compare", "d.yaml"),
    ):
        assert "1 transactions change" in rated(capsys, *options)[1]


def test_a_package_since_the_beginning_of_time(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """1970-01-01 says "since ever": periods begin on the first of each month, at 00:00 at the client."""
    (files / "a.jsonl").write_text(
        CALLS.splitlines()[0].replace("2026-11-03T10:00:00Z", "1970-02-28T23:30:00Z")
    )
    for zone, stop in (("UTC", "1970-03-01T00:00"), ("Europe/Kyiv", "1970-03-31T21:00")):
        catalog = CATALOG.replace("2026-11-01", "1970-01-01").replace("time_zone: UTC", f"time_zone: {zone}")
        (files / "c.yaml").write_text(catalog)
        out, err = rated(capsys, "a.jsonl", "--catalog", "c.yaml", "--json")
        rows = [json.loads(line) for line in out.splitlines()]
        assert "wait" not in err
        assert [row["period_stop"][:16] for row in rows if row["type"] == "subscription_fee"][-1] == stop


def test_a_switchs_own_file(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A map reads it, as `rater ingest` would cut it; a last row that may be cut off is not rated."""
    row = (
        '"","14155550100","380501","ctx","""x"" <1>","SIP/a","SIP/b","Dial","x","2026-11-03 10:00:00",'
        '"2026-11-03 10:00:00","2026-11-03 10:01:30",90,90,"ANSWERED","DOCUMENTATION","17622.%d","%s"\n'
    )
    (files / "Master.csv").write_text((row % (1, "")) + (row % (2, "")).rstrip("\n"))
    out, err = rated(capsys, "Master.csv", "--map", "asterisk-csv", "--catalog", "c.yaml", "--json", code=1)
    found = [row for row in map(json.loads, out.splitlines()) if row["type"] == "rejected"]
    assert {(row["line"], row["reason"]) for row in found} == {(1, "client_unknown")}
    assert "Master.csv: line 2 has no line break and may be cut off, so it was not rated" in err
    assert "1 records: 0 sides rated, rejected: " in err


def test_disorder_and_waiting_are_told(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A file that is in no order of time, and packages that lack funds, are named."""
    (files / "a.jsonl").write_text(
        "".join(reversed(CALLS.replace("11-03T10:00", "11-01T10:00").splitlines(keepends=True)))
    )
    (files / "c.yaml").write_text(CATALOG.replace('balance: "50"', 'balance: "1"'))
    _, err = rated(capsys, "a.jsonl", "--catalog", "c.yaml")
    assert "a.jsonl: 1 calls ended more than a day before one above them" in err
    assert (
        "1 client packages wait in the end, the first since 2026-11-01 00:00:00 (9 of client 42, funds)"
        in err
    )


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["a.jsonl", "--catalog", "bad.yaml"], "price"),
        (["a.jsonl", "--catalog", "c.yaml", "--compare", "bad.yaml"], "bad.yaml"),
        (["c.yaml", "--catalog", "c.yaml"], "c.yaml: line 1 is no header row of CDRs"),
        (["a.jsonl", "--catalog", "c.yaml", "--map", "nothing"], "there is no shipped map of this name"),
        (["a.jsonl", "--catalog", "nothing.yaml"], "nothing.yaml"),
        (["nothing.jsonl", "--catalog", "c.yaml"], "nothing.jsonl"),
        (["a.jsonl"], "--catalog"),
        (["bad.gz", "--catalog", "c.yaml"], "bad.gz: the packed file is damaged"),
        (["a.jsonl", "--catalog", "a.jsonl"], "1 fault: nothing was rated"),
    ],
)
def test_wrong_input(
    files: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], sentence: str
) -> None:
    """It is a sentence and exit code 2, and nothing is printed."""
    (files / "bad.yaml").write_text(CATALOG.replace('"0.10"', '"cheap"'))
    (files / "bad.gz").write_bytes(gzip.compress(b"{}" * 9000)[:30])
    out, err = rated(capsys, *arguments, code=2)
    assert sentence in err
    assert "Traceback" not in err
    assert out == ""


def test_an_empty_file(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """There is nothing to show, and nothing is due."""
    (files / "a.jsonl").write_text("")
    out, err = rated(capsys, "a.jsonl", "--catalog", "c.yaml")
    assert out == ""
    assert "0 records: 0 sides rated" in err


def test_calls_that_are_still_to_come_are_told(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One wrong year renews all packages up to it, which nobody shall take for last month's fees."""
    (files / "b.jsonl").write_text(CALLS + CALL.replace("2026", "2029") % (9, "121", 9))
    out, err = rated(capsys, "b.jsonl", "--catalog", "c.yaml", "--json")
    assert out.count('"subscription_fee"') > 2
    assert "b.jsonl: 1 calls are made later than tomorrow: client packages were renewed up to then" in err
    assert "later than tomorrow" not in rated(capsys, "a.jsonl", "--catalog", "c.yaml")[1]


def test_a_mobile_networks_file_without_its_map(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The sentence names the option that this command has."""
    (files / "tap").write_bytes(bytes.fromhex("61820003010100"))
    assert "by --format (rater rate: by --map)" in rated(capsys, "tap", "--catalog", "c.yaml", code=2)[1]
