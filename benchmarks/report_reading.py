"""The section of README.md about the read model: its lists, and how fast it is built and follows."""

from __future__ import annotations

from typing import Any

from tables import judged, table

MEDIAN_MS, P99_MS, DEEP_TIMES, FOLLOWED_S, BUILT_S = 50, 200, 1.5, 20_000, 25_000
"""Targets: of lists, of page 10,000 by page 1, and transactions a second."""


def reading(found: dict[str, Any]) -> str:
    """Return the section. found: of each database what `reading.py` measured, and rates."""
    databases = {name: found[name] for name in ("sqlite", "postgresql")}
    rows = [
        (
            name,
            *(f"{one['lists'][name][0]:.1f} / {one['lists'][name][1]:.1f} ms" for one in databases.values()),
            judged(max(one["lists"][name][0] / MEDIAN_MS for one in databases.values()), 1),
            judged(max(one["lists"][name][1] / P99_MS for one in databases.values()), 1),
        )
        for name in found["sqlite"]["lists"]
    ]
    deep = [
        (
            f"{name}, page 10,000 by page 1",
            *(f"{one['deep'][name]:.2f}" for one in databases.values()),
            judged(max(one["deep"][name] for one in databases.values()), DEEP_TIMES),
        )
        for name in found["sqlite"]["deep"]
    ]
    rates = found["rates"]["rates"]
    paces = [
        (
            what, f"{rates[key][0]:,}", f"{rates[key][1]:,}", f"≥ {target:,}",
            judged(rates[key][1], target, least=True),
        )
        for what, key, target in (
            ("built from empty, with its indexes", "built", BUILT_S), ("followed", "followed", FOLLOWED_S),
        )
    ]  # fmt: skip
    size = found["sqlite"]
    return f"""\
## The read model

{found["date"]}, on a machine that others used. Lists of {size["transactions"]:,} transactions and
{size["packages"]:,} clients with a package each: median / p99 of 200, at most {MEDIAN_MS} / {P99_MS} ms.
The rows were written by the read model's own writer, without Kafka (`filling.py`).

{table(("list", "SQLite", "PostgreSQL", "median met", "p99 met"), rows)}
{table(("by keys", "SQLite", "PostgreSQL", f"≤ {DEEP_TIMES}"), deep)}
From a real Kafka into SQLite, {found["rates"]["transactions"]:,} transactions and
{found["rates"]["live"]:,} behind them; judged by CPU, for one core:

{table(("transactions a second", "by the clock", "of a CPU second", "target", "met"), paces)}"""
