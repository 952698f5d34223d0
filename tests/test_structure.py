"""The README of src/rater names each module once, with what it holds."""

from __future__ import annotations

import re

from structure import BEGIN, END, README, SOURCE, written


def test_the_table_of_modules_is_that_of_the_tree() -> None:
    """Each module stands once, under its folder, with the first line of its docstring."""
    assert written() == README.read_text("utf-8"), "run: python tests/structure.py"
    _, _, rest = README.read_text("utf-8").partition(BEGIN)
    rows = re.findall(r"^\| `(\S+\.py)` \|", rest.partition(END)[0], re.MULTILINE)
    assert len(rows) == sum(path.name != "__init__.py" for path in SOURCE.rglob("*.py"))
