"""Printing: tables and sentences for people, JSON for programs.

Data to standard output (tables, plain text, JSON lines), talk and progress to standard error.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Any, NamedTuple

import click

from rater.core.visible_text import visible

ROWS_AT_ONCE = 500
"""Rows whose widths are aligned with each other in plain text: a list of a million needs no more memory."""

_BAR_CELLS = 12
_BLANKS = str.maketrans("\t\n\r", "   ")

Row = Mapping[str, Any]


class Column(NamedTuple):
    """A column of a table. title: its head; show: of a row, the text; right.

    Aligned to the right (numbers).
    """

    title: str
    show: Callable[[Row], str]
    right: bool = False
    style: Callable[[Row], str] | None = None
    """Of a row, a style of rich; colours only underline what the text says already."""


def column(title: str, key: str | None = None, *, right: bool = False) -> Column:
    """Return the column that shows a member of the row; nothing for None."""
    name = key or title
    return Column(title, lambda row: "" if row.get(name) is None else str(row[name]), right)


def say(text: str) -> None:
    """Tell a person something: a line on standard error."""
    click.echo(text, err=True)


def told_known(sides: int) -> str:
    """Return the sentence about sides that `--late` has found in the journal."""
    are, they = ("side is", "it is") if sides == 1 else ("sides are", "they are")
    return f"{sides} {are} in the journal, so {they} not rated again"


def is_terminal() -> bool:
    """Return whether standard output is a terminal."""
    return sys.stdout.isatty()


def has_colours() -> bool:
    """Return whether colours may be used on standard output (https://no-color.org)."""
    return is_terminal() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def print_json(row: Row) -> None:
    """Print one object as a line of JSON."""
    click.echo(json.dumps(row, ensure_ascii=False, separators=(",", ":"), default=str))


def print_rows(
    rows: Iterable[Row], columns: Sequence[Column], *, as_json: bool, nothing: str = "nothing found"
) -> int:
    """Print a list: JSON lines, a table on a terminal, else aligned text. Returns the number of rows.

    nothing: what is said (not printed) when there are none.
    """
    count = 0
    if as_json:
        for count, row in enumerate(rows, 1):  # noqa: B007 - the count is the result
            print_json(row)
        return count
    iterator = iter(rows)
    while chunk := list(islice(iterator, ROWS_AT_ONCE)):
        if is_terminal():
            _print_table(chunk, columns)
        else:
            for line in plain_lines(chunk, columns, with_head=count == 0):
                click.echo(line)
        count += len(chunk)
    if not count:
        say(nothing)
    return count


def plain_lines(rows: Sequence[Row], columns: Sequence[Column], *, with_head: bool = True) -> Iterator[str]:
    """Yield the lines of a table as aligned text."""
    cells = [[shown_line(one.show(row)) for one in columns] for row in rows]
    if with_head:
        cells.insert(0, [one.title for one in columns])
    widths = [max(len(line[place]) for line in cells) for place in range(len(columns))]
    for line in cells:
        parts = [
            cell.rjust(width) if one.right else cell.ljust(width)
            for cell, width, one in zip(line, widths, columns, strict=True)
        ]
        yield "  ".join(parts).rstrip()


def _print_table(rows: Sequence[Row], columns: Sequence[Column]) -> None:
    from rich.console import Console  # noqa: PLC0415 - costs time that `--help` need not spend
    from rich.table import Table  # noqa: PLC0415 - the same
    from rich.text import Text  # noqa: PLC0415 - the same

    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for one in columns:
        table.add_column(one.title, justify="right" if one.right else "left", overflow="fold")
    for row in rows:
        table.add_row(
            *(Text(shown_line(one.show(row)), style=one.style(row) if one.style else "") for one in columns)
        )
    Console(no_color=not has_colours(), highlight=False).print(table)


def shown_line(text: str) -> str:
    """Return a cell's text on one line, with escapes for what cannot be seen or would command the terminal.

    It may come from a switch.
    """
    return visible(text.translate(_BLANKS))


def print_pairs(pairs: Iterable[tuple[str, str]]) -> None:
    """Print one thing: its members below each other."""
    shown = [(label, shown_line(text)) for label, text in pairs]
    width = max((len(label) for label, _ in shown), default=0)
    for label, text in shown:
        head = click.style(label.ljust(width), bold=True) if has_colours() else label.ljust(width)
        click.echo(f"{head}  {text}".rstrip())


def bar(used: int, size: int) -> str:
    """Return how much is used as a bar: full cells for what is used. Both in the same unit; of 0 all is."""
    full = _BAR_CELLS if size <= 0 else min(max(used, 0), size) * _BAR_CELLS // size
    if used > 0 and not full:  # something is used: it must not look like nothing
        full = 1
    return "█" * full + "░" * (_BAR_CELLS - full)


@contextmanager
def progress(title: str, total: int | None) -> Iterator[Callable[[float], None]]:
    """Show progress on standard error, where that is a terminal; gives the function that takes steps.

    total: the number of steps, None when unknown. Print nothing on the same terminal meanwhile.
    """
    if not sys.stderr.isatty() or os.environ.get("TERM") == "dumb":
        yield lambda _: None
        return
    from rich.console import Console  # noqa: PLC0415 - costs time that `--help` need not spend
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn  # noqa: PLC0415 - the same

    console = Console(stderr=True, no_color=bool(os.environ.get("NO_COLOR")))
    columns = (
        (TextColumn("{task.completed:,.0f}"),)
        if total is None
        else (BarColumn(), TextColumn("{task.percentage:>3.0f}%"), TimeRemainingColumn())
    )
    # Redirected, what is printed meanwhile would go to standard error.
    shown = Progress(
        TextColumn("{task.description}"), *columns, console=console, transient=True,
        redirect_stdout=False, redirect_stderr=False,
    )  # fmt: skip
    with shown:
        task = shown.add_task(title, total=total)
        yield lambda steps: shown.advance(task, steps)


@contextmanager
def shares(title: str) -> Iterator[Callable[[int, int], None]]:
    """Show progress; gives the function that is told how much of how much is done."""
    with progress(title, 1) as step:
        done = 0.0

        def told(part: int, total: int) -> None:
            nonlocal done
            share = min(1.0, part / total) if total else 1.0
            step(share - done)
            done = share

        yield told
