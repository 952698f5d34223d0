"""Three carriers' decks of different forms: the difference, the load, and calls that are rated from them."""

from __future__ import annotations

import asyncio
import io
import json
import zipfile
from collections.abc import Awaitable, Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from rater import app
from rater.cli import main
from rater.core.catalog.specs import RateTableSpec
from rater.core.catalog_files.placed import CatalogFile, Placed
from rater.errors import Halt
from workbook import Value, workbook

pytestmark = [pytest.mark.kafka, pytest.mark.slow]

SystemOf = Callable[..., Awaitable[Any]]

PROFILES = """
[decks.alpha]
kind = "full"
currency = "USD"
create = true
code_deck = "alpha"

[decks.bravo]
kind = "full"
currency = "EUR"
create = true
decimal = ","
dates = "dmy"
increment = "60/60"

[decks.charlie]
dates = "mdy"
statuses = {X = "closed"}
"""
BASE = {"currencies": {"base": "USD", "rates": {"EUR": "1.25"}}}
CLIENTS = {
    "clients": [
        {"id": name, "currency": currency, "balance": "100", "rate_tables": {"orig": {"calls": name}}}
        for name, currency in (("alpha", "USD"), ("bravo", "EUR"))
    ]
}


def alpha(last_month: date, lately: date, next_month: date) -> bytes:
    """Return a workbook with a letter, codes in two columns, statuses, dates and a legend."""
    rows: list[list[Value]] = [
        ["ALPHA TELECOM"],
        ["Rate notification", None, "all prices in USD per minute"],
        [],
        [
            "Country",
            "Country Code",
            "Area Code",
            "Destination",
            "Rate, USD/min",
            "Billing",
            "Effective Date",
            "Status",
        ],
        ["Ukraine", 380.0, None, "Ukraine", 0.1, "60/1", last_month, "No change"],
        ["Ukraine", 380.0, "44", "Ukraine Kyiv", 0.0455, "1/1", last_month, "No change"],
        ["Ukraine", 380.0, "50, 66, 95-97", "Ukraine Mobile", 0.15, "1/1", last_month, "No change"],
        ["Ukraine", 380.0, "50, 66, 95-97", "Ukraine Mobile", 0.18, "1/1", lately, "Increase"],
        ["Ukraine", 380.0, None, "Ukraine", 0.12, "60/1", next_month, "Increase"],
        ["Italy", 39.0, "06", "Italy Rome", 0.02, "30/6", last_month, "No change"],
        [],
        ["Legend: the first figure of billing is the minimum, the second the step, in seconds"],
    ]
    return workbook({"Cover": [["Dear partner"]], "Rates": rows})


def bravo(last_month: date) -> bytes:
    """Return text in Windows-1252 with semicolons, decimal commas and ranges."""
    day = last_month.strftime("%d.%m.%Y")
    rows = [
        "Preisliste Bravo GmbH \N{EN DASH} gültig für alle Kunden", "",
        "Vorwahl;Zielname;Preis/Min;Verbindungsentgelt;Gültig ab",
        f"+49;Deutschland;0,0100;0;{day}",
        f"0049 151;Übersee;0,0900;0,05;{day}",
        f"1242-1246;Karibik \N{EN DASH} Süd;0,1250;0,0500;{day}",
    ]  # fmt: skip
    return "\r\n".join(rows).encode("cp1252")


def charlie(lately: date) -> bytes:
    """Return a notice in UTF-16 with tabs, in a ZIP: what changes alone."""
    day = f"{lately:%m/%d/%Y}"
    rows = [
        "Code\tDestination\tNew Rate\tEffective\tChange",
        f"38044\tKyiv\t$0.05\t{day}\tIncrease",
        f"3906\tRome\t\t{day}\tX",
        f"44 20, 44 161\tUK\t$0.012\t{day}\tNew",
    ]
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("notice.txt", "\n".join(rows).encode("utf-16"))
    return out.getvalue()


def cdr(number: int, client: str, called: str, at: datetime, seconds: int) -> bytes:
    """Return a CDR."""
    return json.dumps({
        "id": str(number), "called": called, "duration_ms": seconds * 1000, "orig": {"client": client},
        "answered_at": f"{at:%Y-%m-%dT%H:%M:%SZ}",
    }).encode()  # fmt: skip


async def test_three_decks_to_transactions(
    system_of: SystemOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each deck is imported by its profile; calls are rated by it, before and after its days."""
    system = await system_of()
    for name, value in system.environ.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "rater.toml").write_text(PROFILES, "utf-8")
    now = datetime.now(UTC).replace(microsecond=0)
    last_month, lately, next_month = (now.date() + timedelta(days) for days in (-30, -3, 30))

    async def imported(
        raw: bytes, name: str, table: str, profile: str, *more: str
    ) -> tuple[int, list[Any], str]:
        (tmp_path / name).write_bytes(raw)
        command = ["--config", str(tmp_path / "rater.toml"), "decks", "import", str(tmp_path / name)]
        capsys.readouterr()
        code = await asyncio.to_thread(
            main, [*command, "--table", table, "--profile", profile, "--json", *more]
        )
        told = capsys.readouterr()
        return code, [json.loads(line) for line in told.out.splitlines()], told.err

    def count(rows: list[Any]) -> dict[str, int]:
        counts: dict[str, int] = rows[-1]["summary"]["counts"]
        return counts

    process = system.start_worker()
    await system.load(json.dumps(BASE).encode())
    # A look changes nothing; the load then does, and again nothing is left to change.
    for more in ((), ("--apply",)):
        code, rows, told = await imported(
            alpha(last_month, lately, next_month), "alpha.xlsx", "alpha", "alpha", *more
        )
        assert (code, count(rows)["new"]) == (0, 8), told
    code, rows, told = await imported(
        alpha(last_month, lately, next_month), "alpha.xlsx", "alpha", "alpha", "--apply"
    )
    assert (code, count(rows)) == (0, {"unchanged": 9}), told
    assert "nothing to change" in told
    code, rows, told = await imported(bravo(last_month), "bravo.csv", "bravo", "bravo", "--apply")
    assert (code, count(rows)) == (0, {"new": 7}), told
    code, rows, told = await imported(charlie(lately), "notice.zip", "alpha", "charlie", "--apply")
    assert (code, count(rows)) == (0, {"closed": 1, "dearer": 1, "new": 2, "stays": 6}), told
    await system.load(json.dumps(CLIENTS).encode(), name="clients.json")

    before, hour = now - timedelta(days=4), now - timedelta(hours=1)
    calls = [
        cdr(1, "alpha", "380441234567", before, 61),  # 61 s at 0.0455
        cdr(2, "alpha", "380321234567", hour, 10),  # at least 60 s at 0.1, until next month
        cdr(3, "alpha", "380961234567", before, 60),  # 0.15 until lately
        cdr(4, "alpha", "390612345678", before, 31),  # 36 s at 0.02
        cdr(5, "alpha", "442012345678", before, 60),  # not before the notice
        cdr(6, "bravo", "49301234567", hour, 61),  # the profile's 60/60: 120 s at 0.01
        cdr(7, "bravo", "12441234567", hour, 60),  # in the range: 0.125 and 0.05
        cdr(8, "alpha", "380441234567", hour, 60),  # 0.05 since the notice
        cdr(9, "alpha", "380961234567", hour, 60),  # 0.18 as the deck said
        cdr(10, "alpha", "390612345678", hour, 60),  # closed
        cdr(11, "alpha", "441611234567", hour, 60),  # new at 0.012
    ]
    await system.send((call, None) for call in calls)
    await system.settled()
    assert system.stop_worker(process) == 0
    rated = {
        one["cdr"]["id"]: (one["amount"], one["rate"]["price"], one["code"], one["code_name"])
        for one in await system.transactions()
        if one["type"] == "usage"
    }
    assert rated == {
        "1": ("-0.046258", "0.0455", "38044", "Ukraine Kyiv"),
        "2": ("-0.1", "0.1", "380", "Ukraine"),
        "3": ("-0.15", "0.15", "38096", "Ukraine Mobile"),
        "4": ("-0.012", "0.02", "3906", "Italy Rome"),
        "6": ("-0.02", "0.01", "49", None),
        "7": ("-0.175", "0.125", "1244", None),
        "8": ("-0.05", "0.05", "38044", "Ukraine Kyiv"),
        "9": ("-0.18", "0.18", "38096", "Ukraine Mobile"),
        "11": ("-0.012", "0.012", "44161", None),
    }
    reasons = {
        json.loads(record.value)["id"]: dict(record.headers)["reason"] for record in await system.rejected()
    }
    assert reasons == {"5": b"rate_missing", "10": b"rate_missing"}


async def test_what_is_refused_changes_nothing(
    system_of: SystemOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Faults are code 2 with sheet, row and value; an unknown table or profile too; nothing is loaded."""
    system = await system_of()
    for name, value in system.environ.items():
        monkeypatch.setenv(name, value)
    deck = tmp_path / "deck.xlsx"
    deck.write_bytes(workbook({"Rates": [["Code", "Rate"], ["380", 0.1], ["38O", "x"]]}))
    (tmp_path / "rater.toml").write_text('[decks.a]\ncurrency = "USD"\ncreate = true\n', "utf-8")
    command = [
        "--config",
        str(tmp_path / "rater.toml"),
        "decks",
        "import",
        str(deck),
        "--table",
        "t",
        "--apply",
    ]

    async def refused(*more: str) -> str:
        capsys.readouterr()
        assert await asyncio.to_thread(main, [*command, *more]) == 2
        told = capsys.readouterr()
        assert told.out == ""
        return told.err

    process = system.start_worker()
    await system.load(json.dumps(BASE).encode())
    before = [record.value for record in await system.commands()]
    assert "no such rate table; or give currency and create" in await refused()
    assert await refused("--profile", "b") == (
        "rater: --profile b: there is no such profile; there are a; or add [decks.b] to the settings\n"
    )
    assert (await refused("--profile", "a")).splitlines() == [
        f"{deck}: Rates!A3: 38O: not a code; write digits",
        f"{deck}: Rates!B3: x: not a price; write a decimal number",
        "2 faults: nothing was changed",
    ]
    deck.write_bytes(b"PK\x03\x04")
    assert "damaged archive or workbook" in await refused("--profile", "a")
    assert [record.value for record in await system.commands()] == before

    async with app.loader(system.settings, print) as loader:
        empty = CatalogFile()
        empty.rate_tables.append(Placed("deck", "rate table", RateTableSpec("t", "USD", None, [])))
        with pytest.raises(Halt, match=r"another load came meanwhile \(catalog 1, not 7\)"):
            await loader.load_rows(empty, expected=7)
    assert [record.value for record in await system.commands()] == before
    assert system.stop_worker(process) == 0
