"""`rater decks import`: what people and programs are shown, and what is refused before anything is read."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from cli.conftest import Capture, Put
from rater.cli import main
from rater.config import Settings
from rater.core.catalog.codes import Row
from rater.core.catalog.specs import Content, RateTableSpec
from rater.core.catalog_files.merging import CatalogFile
from rater.jobs.load import Loaded, Present

NOW = 1_795_651_200_000  # 2026-11-26T00:00:00Z
DECK = """\
ACME rates
Dial Code;Destination;Rate (USD/min);Increment;Effective Date;Status
380;Ukraine;0.12;1/1;2026-12-01;Increase
44;UK;0.5;1/1;2026-12-01;Decrease
1;USA;0.01;1/1;2026-12-01;New
"""


class _Loader:
    """A loader with one rate table, that keeps what it is to load."""

    def __init__(self) -> None:
        self.loaded: list[tuple[CatalogFile, int | None]] = []

    def now_ms(self) -> int:
        return NOW

    async def present(self) -> Present:
        rows = [Row("380", 10**9, 0, 1, 1), Row("44", 10**9, 0, 1, 1), Row("7", 10**9, 0, 1, 1)]
        content = Content(base="USD", rate_tables={"acme": RateTableSpec("acme", "USD", None, rows)})
        return Present(7, None, content)

    async def load_rows(self, rows: CatalogFile, expected: int | None = None) -> Loaded:
        self.loaded.append((rows, expected))
        return Loaded(8, changed=True, applied=True, refused=[])


@pytest.fixture
def loader(app: Put) -> _Loader:
    """Put a loader in the place of the real one."""
    made = _Loader()

    @asynccontextmanager
    async def connected(_: Settings, __: Callable[[str], None]) -> AsyncIterator[_Loader]:
        yield made

    app(loader=connected)
    return made


@pytest.fixture
def deck(tmp_path: Path) -> str:
    """Write the deck."""
    file = tmp_path / "acme.csv"
    file.write_text(DECK, "utf-8")
    return str(file)


def test_the_difference_for_people(loader: _Loader, deck: str, capsys: Capture) -> None:
    """Counts, then the changes of each kind with place, what was read and how; nothing is loaded."""
    assert main(["decks", "import", deck, "--table", "acme"]) == 0
    told = capsys.readouterr()
    lines = [" ".join(line.split()) for line in told.out.splitlines()]
    for line in (
        "table acme",
        "currency USD",
        "deck partial",
        "header_row 2",
        "1 new codes that the table does not have",
        "2 dearer prices that rise",
        "1 stays codes that a partial deck does not have: they stay",
        "1 moved prices that move by more than 50 percent",
        "1 doubtful the deck's status says something else than its price",
        "code name from before after terms falls to place",
        "44 UK 2026-12-01T00:00:00Z 0.1 0.5 0 + 1/1 line 4, Dial Code",
    ):
        assert line in lines, told.out
    assert "note: read as text in UTF-8, separated by `;`" in told.err
    assert told.err.endswith("nothing was changed; with --apply it is loaded\n")
    assert loader.loaded == []


def test_the_difference_for_programs(loader: _Loader, deck: str, capsys: Capture) -> None:
    """A line for each change, then the counts; --apply loads it for the catalog that was looked at."""
    assert main(["decks", "import", deck, "--table", "acme", "--apply", "--json"]) == 0
    told = capsys.readouterr()
    rows: list[dict[str, Any]] = [json.loads(line) for line in told.out.splitlines()]
    changes = [(row["change"], row["code"]) for row in rows[:-1]]
    assert changes == [("new", "1"), ("dearer", "380"), ("dearer", "44")]
    assert rows[1] == {
        "change": "dearer", "code": "380", "name": "Ukraine", "from": "2026-12-01T00:00:00Z", "before": "0.1",
        "after": "0.12", "terms": "0 + 1/1", "moved": False, "doubtful": False, "falls_to": None,
        "place": "line 3, Dial Code",
    }  # fmt: skip
    assert rows[-1]["summary"]["counts"] == {"dearer": 2, "doubtful": 1, "moved": 1, "new": 1, "stays": 1}
    ((file, expected),) = loader.loaded
    assert expected == 7
    assert [placed.value.name for placed in file.rate_tables] == ["acme"]
    assert "catalog 8 is in use on all 4 lanes" in told.err


def test_faults_are_told_to_a_bound(loader: _Loader, tmp_path: Path, capsys: Capture) -> None:
    """The first faults with line and value, and how many there are; exit code 2."""
    file = tmp_path / "bad.csv"
    file.write_text("Code,Rate\n" + "x1,0.1\n" * 60, "utf-8")
    assert main(["decks", "import", str(file), "--table", "acme", "--apply"]) == 2
    told = capsys.readouterr().err.splitlines()
    assert told[0] == f"{file}: line 2, Code: x1: not a code; write digits"
    assert told[-2:] == ["and 10 more", "60 faults: nothing was changed"]
    assert len(told) == 52
    assert loader.loaded == []


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--columns", "code"], "--columns code: write FIELD=COLUMN; fields are code, country_code"),
        (["--columns", "codes=A"], "--columns codes=A: write FIELD=COLUMN"),
        (["--columns", 'code=A,price="B'], '--columns price="B: write FIELD=COLUMN'),
        (["--columns", 'code=A, price = "Cost, net"'], "nor 'cost net'"),
        (
            ["--profile", "acne"],
            "--profile acne: there is no such profile; there are none; or add [decks.acne]",
        ),
        (["--effective", "01/12/2026"], "--effective 01/12/2026: not a date or time; write"),
        (["--effective", "2026-02-30"], "--effective 2026-02-30: no such date"),
        (["--columns", "price=Cost"], "no header row with a code and a price, nor 'cost'"),
    ],
)
def test_wrong_options_are_sentences(
    more: list[str], said: str, loader: _Loader, deck: str, capsys: Capture
) -> None:
    """What was asked wrongly is code 2 and a sentence with the way out."""
    assert main(["decks", "import", deck, "--table", "acme", *more]) == 2
    assert said in capsys.readouterr().err
    assert loader.loaded == []


@pytest.mark.usefixtures("loader")
def test_columns_and_profile_together(deck: str, tmp_path: Path, capsys: Capture) -> None:
    """Columns of the flag win over those of the profile; the others stay."""
    settings = tmp_path / "rater.toml"
    settings.write_text('[decks.acme]\nkind = "full"\ncolumns = {price = "B", status = ""}\n', "utf-8")
    arguments = [
        "-c",
        str(settings),
        "decks",
        "import",
        deck,
        "--table",
        "acme",
        "--profile",
        "acme",
        "--json",
    ]
    assert main([*arguments, "--columns", 'price="Rate (USD/min)"', "--effective", "2026-12-01"]) == 0
    summary = json.loads(capsys.readouterr().out.splitlines()[-1])["summary"]
    assert summary["counts"] == {"dearer": 2, "lost": 1, "moved": 1, "new": 1}
    assert "status" not in summary["columns"]
