"""The golden cases through `rater rate`: files in, the same transactions and rejections out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from engine_choice import rates_offline

from golden.cases import LOADED_AT as LOADED
from golden.cases import Case, Got, compare, load_cases
from golden.test_golden import got
from rater.cli import rater
from rater.cli.options import Invocation
from rater.core.catalog_files.merging import read_files
from rater.core.instants import DAY_MS, milliseconds
from rater.core.sources.cutting import Record as Piece
from rater.core.trial.arrival import arrivals
from rater.core.trial.trial import Trial

EDITED = {"87-edited-package", "88-edited-dates"}
"""A file of calls is rated by one catalog: they load another one behind it."""
RECORDS = {"30-malformed", "34-time-in-future", "35-too-old", "47-longer-than-its-record"}
"""No file has them so: a record that is not closed takes in the next line, others came at another time."""
CASES = [case for case in load_cases() if case.name not in EDITED]


@pytest.mark.parametrize(
    "case", [case for case in CASES if case.name not in RECORDS], ids=lambda case: case.name
)
def test_case(case: Case, tmp_path: Path) -> None:
    """What the file expects of each record comes out of the command."""
    (tmp_path / "catalog.yaml").write_bytes(case.catalog)
    (tmp_path / "calls.jsonl").write_bytes(b"".join(raw + b"\n" for raw, _ in case.records))
    done = CliRunner().invoke(
        rater,
        ["rate", str(tmp_path / "calls.jsonl"), "--catalog", str(tmp_path / "catalog.yaml"), "--json"],
        obj=Invocation(), standalone_mode=False,
    )  # fmt: skip
    assert done.exception is None
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    outcomes: list[list[Got]] = [[] for _ in case.records]
    for row in rows:
        if row["type"] == "rejected":
            about = {"reason": row["reason"], "value": row["value"]}
            outcomes[row["line"] - 1].append(("rejected", row["side"], about))
        elif row["type"] == "usage":
            outcomes[_record_of(case, row, outcomes)].append(("transaction", row["side"], row))
    assert compare(case, outcomes, duplicates_shown=False) == [], case.title


def _record_of(case: Case, row: dict[str, Any], outcomes: list[list[Got]]) -> int:
    """Return which record a transaction is of: the first of its id whose side has not ended yet."""
    for number, (raw, _) in enumerate(case.records):
        try:
            cdr = json.loads(raw)
        except ValueError:
            continue
        named = isinstance(cdr, dict) and (cdr.get("source", "default"), cdr.get("id"))
        free = all(side != row["side"] for _, side, _ in outcomes[number])
        if free and named == (row["cdr"]["source"], row["cdr"]["id"]):
            return number
    raise AssertionError(f"there is no record of {row['id']}")


@pytest.mark.parametrize("case", [case for case in CASES if case.name in RECORDS], ids=lambda case: case.name)
def test_case_of_records(case: Case) -> None:
    """What the file expects comes out behind the command; each record comes when the file says."""
    for rater_of_case in rates_offline(7 * DAY_MS):
        trial = Trial(rater_of_case)
        assert not trial.load(read_files([("c.yaml", case.catalog)], _no_part), milliseconds(LOADED))
        outcomes = []
        for raw, record_ms in case.records:
            (arrived,) = arrivals([Piece(1, raw)], "calls.jsonl", None, record_ms)
            (tried,) = trial.rate([arrived._replace(record=arrived.record._replace(timestamp=record_ms))])
            outcomes.append([got(ended) for ended in tried.ended])
        assert compare(case, outcomes) == [], case.title


def _no_part(name: str) -> bytes:
    raise FileNotFoundError(name)
