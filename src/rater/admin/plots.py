"""Plots: figures over time become lines of SVG, and the words that stand beside them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

WIDTH, HEIGHT = 300, 100
"""Of a plot, in units of its own: pages stretch it."""
_ROOM = 0.94
"""So much of the height is used."""


class Curve(NamedTuple):
    """Figures over time, the newest last; None: nobody knows."""

    name: str
    values: Sequence[float | None]


class Line(NamedTuple):
    """A curve as it is drawn. path: of SVG. now: its newest figure in words."""

    name: str
    path: str
    now: str


class Plot(NamedTuple):
    """A plot. top: what its upper edge stands for. said: what it shows, for who does not see it."""

    title: str
    top: str
    lines: list[Line]
    said: str


def plot(
    title: str, curves: Sequence[Curve], shown: Callable[[float], str], *, places: int, least: float
) -> Plot:
    """Draw curves. shown: a figure in words. places: of the whole width. least: the upper edge at least."""
    known = [value for curve in curves for value in curve.values if value is not None]
    top = ceiling(max([least, *known]))
    lines = [
        Line(curve.name, _path(curve.values, top, places), _newest(curve.values, shown)) for curve in curves
    ]
    now = ", ".join(f"{line.name} {line.now}" if line.name else line.now for line in lines) or "nothing"
    most = f"; at most {shown(max(known))}" if known else ""
    return Plot(title, shown(top), lines, f"{title}: now {now}{most}")


def ceiling(value: float) -> float:
    """Return the next 1, 2 or 5 with zeros that is not below a value above 0."""
    step = 10.0 ** math.floor(math.log10(value))
    return next(many * step for many in (1, 2, 5, 10, 20) if many * step >= value)


def _newest(values: Sequence[float | None], shown: Callable[[float], str]) -> str:
    value = values[-1] if values else None
    return "none" if value is None else shown(value)


def _path(values: Sequence[float | None], top: float, places: int) -> str:
    """Return the path of a curve, whose newest figure is at the right edge; it has gaps."""
    parts: list[str] = []
    drawn = False
    for place, value in enumerate(values[-places:], places - min(places, len(values))):
        if value is None:
            drawn = False
            continue
        x = WIDTH * place / max(1, places - 1)
        y = HEIGHT * (1 - _ROOM * value / top)
        parts.append(f"L{x:.1f} {y:.1f}" if drawn else f"M{x:.1f} {y:.1f}h0")  # a point alone is a dot
        drawn = True
    return "".join(parts)
