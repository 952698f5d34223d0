"""Pictures as SVG: lines over a logarithmic or linear axis, and a flame graph; no library is needed."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

COLOURS = ("#1f6feb", "#d1242f", "#1a7f37", "#9a6700", "#8250df")
_STYLE = (
    "<style>text{font:12px sans-serif;fill:#57606a}.t{font-size:14px;font-weight:bold}"
    ".g{stroke:#8c959f;stroke-opacity:.3}.f text{font:11px monospace;fill:#000;pointer-events:none}</style>"
)
_WIDTH, _HEIGHT = 640, 340
_LEFT, _RIGHT, _TOP, _BOTTOM = 60, 20, 50, 50

Series = Mapping[str, Sequence[tuple[float, float]]]


def _document(width: int, height: int, parts: Iterable[str]) -> str:
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}">'
    ground = f'<rect width="{width}" height="{height}" fill="#fff"/>'
    return "\n".join([head, _STYLE, ground, *parts, "</svg>\n"])


def lines(
    path: Path, title: str, x_name: str, y_name: str, series: Series,
    *, log_x: bool = False, log_y: bool = False, bound: float | None = None,
) -> None:  # fmt: skip
    """Draw series of points. bound: a horizontal line, the target."""
    points = [point for of_series in series.values() for point in of_series]
    x_of = _axis([x for x, _ in points], _LEFT, _WIDTH - _RIGHT, log=log_x)
    ys = [y for _, y in points] + ([] if bound is None else [bound])
    y_of = _axis(ys if log_y else [0.0, *ys], _HEIGHT - _BOTTOM, _TOP, log=log_y)
    parts = [f'<text class="t" x="{_LEFT}" y="20">{escape(title)}</text>']
    for value in _ticks(ys, log=log_y):
        y = y_of(value)
        parts += [
            f'<line class="g" x1="{_LEFT}" y1="{y:.1f}" x2="{_WIDTH - _RIGHT}" y2="{y:.1f}"/>',
            f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{_short(value)}</text>',
        ]
    parts += [
        f'<text x="{x_of(value):.1f}" y="{_HEIGHT - 32}" text-anchor="middle">{_short(value)}</text>'
        for value in sorted({x for x, _ in points})
    ]
    if bound is not None:
        y = y_of(bound)
        parts.append(
            f'<line x1="{_LEFT}" y1="{y:.1f}" x2="{_WIDTH - _RIGHT}" y2="{y:.1f}" stroke="#57606a" '
            f'stroke-dasharray="5 4"/><text x="{_WIDTH - _RIGHT}" y="{y - 4:.1f}" text-anchor="end">target'
            f" {_short(bound)}</text>"
        )
    for (name, of_series), colour, n in zip(series.items(), COLOURS, range(len(COLOURS)), strict=False):
        way = " ".join(f"{x_of(x):.1f},{y_of(y):.1f}" for x, y in sorted(of_series))
        parts.append(f'<polyline points="{way}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += [
            f'<circle cx="{x_of(x):.1f}" cy="{y_of(y):.1f}" r="3" fill="{colour}"/>' for x, y in of_series
        ]
        left = _LEFT + 150 * n
        parts.append(f'<rect x="{left}" y="30" width="12" height="4" fill="{colour}"/>')
        parts.append(f'<text x="{left + 18}" y="36">{escape(name)}</text>')
    parts.append(f'<text x="{_WIDTH - _RIGHT}" y="{_HEIGHT - 12}" text-anchor="end">{escape(x_name)}</text>')
    parts.append(f'<text x="6" y="{_TOP - 6}">{escape(y_name)}</text>')
    path.write_text(_document(_WIDTH, _HEIGHT, parts), encoding="utf-8")


def _axis(values: Sequence[float], low: float, high: float, *, log: bool) -> Any:
    scale = math.log10 if log else float
    least, most = scale(min(values)), scale(max(values))
    span = (most - least) or 1.0
    return lambda value: low + (scale(value) - least) / span * (high - low)


def _ticks(values: Sequence[float], *, log: bool) -> list[float]:
    if log:
        first, last = math.ceil(math.log10(min(values))), math.floor(math.log10(max(values)))
        return [10.0**power for power in range(first, last + 1)]
    step = 10 ** math.floor(math.log10(max(values)))
    step = next(step / part for part in (1, 2, 5, 10) if max(values) / (step / part) >= 3)  # noqa: PLR2004 - some
    return [step * n for n in range(int(max(values) / step) + 1)]


def _short(value: float) -> str:
    for size, letter in ((1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:g}{letter}"
    return f"{value:g}"


# ------------------------------------------------------------------------------------------------ flame graph
_ROW = 17
_FLAME_WIDTH = 1200
_LEAST = 0.0015  # share of the whole below which a box is not drawn


def flame(path: Path, title: str, stacks: Mapping[tuple[str, ...], int]) -> None:
    """Draw stacks (outermost first) as a flame graph, root at the bottom; a tooltip tells the share."""
    total = sum(stacks.values())
    tree: dict[str, Any] = {}
    for stack, weight in stacks.items():
        level = tree
        for name in stack:
            node = level.setdefault(name, [0, {}])
            node[0] += weight
            level = node[1]
    boxes: list[tuple[int, float, float, str]] = []

    def place(level: dict[str, Any], left: float, depth: int) -> None:
        for name, (weight, below) in sorted(level.items()):
            if weight / total >= _LEAST:
                boxes.append((depth, left, weight / total, name))
                place(below, left, depth + 1)
            left += weight / total

    place(tree, 0.0, 0)
    height = (max(depth for depth, *_ in boxes) + 3) * _ROW + 10
    parts = [f'<text class="t" x="6" y="18">{escape(title)}</text>', '<g class="f">']
    for depth, left, share, name in boxes:
        x, y, width = left * _FLAME_WIDTH, height - (depth + 1) * _ROW, share * _FLAME_WIDTH
        hue = 20 + sum(name.partition(":")[0].encode()) % 40
        shown = name.rpartition("/")[2]
        room = int(width / 6.7)
        text = shown if len(shown) <= room else shown[: max(room - 1, 0)] + "…"
        label = f'<text x="{x + 2:.1f}" y="{y + 12:.1f}">{escape(text)}</text>' if room > 2 else ""  # noqa: PLR2004
        parts.append(
            f"<g><title>{escape(name)}: {share:.1%}</title>"
            f'<rect x="{x:.1f}" y="{y:.1f}" width="{max(width - 0.4, 0.2):.1f}" height="{_ROW - 1}" '
            f'fill="hsl({hue},85%,{68 + depth % 2 * 4}%)"/>{label}</g>'
        )
    parts.append("</g>")
    path.write_text(_document(_FLAME_WIDTH, height, parts), encoding="utf-8")
