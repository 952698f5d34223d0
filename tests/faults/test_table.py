"""The table of faults says what the tests do."""

from __future__ import annotations

from faults import table


def test_each_fault_has_a_test_or_a_sentence() -> None:
    """F1 to F46: none is left out, and what the table names is there."""
    assert list(table.FAULTS) == list(range(1, 47))
    assert table.missing() == []


def test_the_table_is_the_one_in_the_file() -> None:
    """tests/README.md holds the table as it is made now; write it by `make fault-table`."""
    text = table.README.read_text()
    assert table.put(text) == text
