"""How lists are printed."""

from __future__ import annotations

import io
import json
import sys

import pytest

from cli.conftest import Capture
from rater.cli.printing import bar, column, print_rows

ROWS = [
    {"name": "b\x1b[31m\nc", "number": 7, "none": None},
    {"name": "längere", "number": 1234, "none": None},
]


COLUMNS = [column("name"), column("number", right=True), column("none")]


def test_plain_lists_are_aligned_text(capsys: Capture) -> None:
    """Without a terminal.

    A head, columns aligned, a record on a line, and nothing that commands a terminal.
    """
    assert print_rows(ROWS, COLUMNS, as_json=False) == 2
    assert capsys.readouterr().out == (
        "name         number  none\nb\\x1b[31m c       7\nlängere        1234\n"
    )


def test_json_lists_are_an_object_on_each_line(capsys: Capture) -> None:
    """--json gives the values as they are."""
    print_rows(iter(ROWS), COLUMNS, as_json=True)
    assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == ROWS


def test_an_empty_list_prints_nothing(capsys: Capture) -> None:
    """That there is nothing is talk, not data."""
    assert print_rows([], COLUMNS, as_json=False, nothing="nobody here") == 0
    assert capsys.readouterr() == ("", "nobody here\n")


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("no_color", ["", "1"])
def test_colours_only_where_they_are_wanted(no_color: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a terminal lists are tables with colours; NO_COLOR takes these away."""
    monkeypatch.setenv("NO_COLOR", no_color)
    monkeypatch.setenv("TERM", "xterm-256color")
    terminal = _Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    styled = column("number", right=True)._replace(style=lambda _: "red")
    print_rows([{"name": "[bold]x", "number": 7}], [column("name"), styled], as_json=False)
    assert "[bold]x" in terminal.getvalue()
    assert ("\x1b[31m" in terminal.getvalue()) is (not no_color)


@pytest.mark.parametrize(
    ("used", "size", "shown"),
    [
        (100, 100, "████████████"),
        (120, 100, "████████████"),
        (99, 100, "███████████░"),
        (50, 100, "██████░░░░░░"),
        (1, 1000, "█░░░░░░░░░░░"),
        (0, 5, "░░░░░░░░░░░░"),
        (-5, 5, "░" * 12),
        (0, 0, "████████████"),
    ],
)
def test_a_bar_is_full_of_what_is_used(used: int, size: int, shown: str) -> None:
    """A little that is used is seen, and so is a little that is left; of a limit of 0 all is used."""
    assert bar(used, size) == shown
