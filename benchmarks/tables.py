"""Tables of README.md, and what stands in their cells."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table of Markdown."""
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)]) + "\n"


def judged(value: float, bound: float, *, least: bool = False) -> str:
    """Return whether a figure is within its target."""
    return "yes" if (value >= bound if least else value <= bound) else "**no**"


def latencies(ms: dict[str, float]) -> str:
    """Return latencies in a cell."""
    return " / ".join(f"{each:.0f}" for each in ms.values()) + " ms"
