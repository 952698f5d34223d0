"""The tables of faults, safeguards and guarantees say what the tests do."""

from __future__ import annotations

from pathlib import Path

import pytest

from faults import table

ROOT = table.PROJECT_README.parent
UNTESTED = {23, 39, 43}
"""Faults that have a sentence alone: two cannot happen, and one nothing is built against."""
READMES = [table.PROJECT_README, *ROOT.glob("src/**/README.md"), *ROOT.glob("tests/**/README.md")]


def test_each_fault_has_a_test_or_a_sentence() -> None:
    """F1 to F46, and each ablation: none is left out, and what the tables name is there."""
    assert list(table.FAULTS) == list(range(1, 47))
    assert table.missing() == []


def test_the_table_is_the_one_in_the_file() -> None:
    """tests/README.md holds the table as it is made now; write it by `make fault-table`."""
    text = table.README.read_text()
    assert table.put(text) == text


@pytest.mark.parametrize("readme", READMES, ids=lambda path: path.parent.name)
def test_a_readme_names_tests_that_are_there(readme: Path) -> None:
    """Whoever looks for a test that a README names finds it."""
    assert table.missing_in(readme, readme.read_text()) == []


def test_a_readme_that_names_what_is_not_there_is_noticed() -> None:
    """A file that is not there, or that has no such test, is told; also a golden case."""
    named = (
        "tests/line/test_nothing.py",
        "tests/line/test_line.py::test_nothing",
        "tests/golden/0-none.yaml",
    )
    there = ("tests/line/test_line.py::test_a_call_is_rated", "tests/golden/70-duplicate.yaml")
    text = ", ".join(f"`{name}`" for name in (*named, *there))
    assert table.missing_in(table.PROJECT_README, text) == [
        f"README.md names {name}, which is not there" for name in named
    ]


def test_each_guarantee_has_faults_and_tests() -> None:
    """README.md: guarantees name every fault; each has a test, but for those that no test can show."""
    rows = list(table.guarantees(table.PROJECT_README.read_text()))
    known = table.rows()
    assert len(rows) >= 8
    for happens, faults, tests in rows:
        assert faults, happens
        assert tests, happens
        assert all(any(known[number][:2]) for number in faults if number not in UNTESTED), happens
        assert any(any(known[number][:2]) for number in faults), happens
    assert {number for _, faults, _ in rows for number in faults} == set(table.FAULTS)
