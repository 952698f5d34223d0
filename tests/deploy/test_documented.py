"""Every metric that is exported is in CONTRACTS.md, Metrics, with its labels, and nothing else is."""

from __future__ import annotations

import re
from pathlib import Path

from rater.metrics import TABLE

CONTRACTS = Path(__file__).parents[2] / "src" / "rater" / "core" / "CONTRACTS.md"
SUFFIX = {"counter": "_total", "info": "_info"}
ALWAYS = {"rater_build_info": {"version", "engine", "python", "tzdata"}}


def documented() -> dict[str, set[str]]:
    """Return name → labels, of the table of metrics."""
    text = CONTRACTS.read_text("utf-8").split("\n## Metrics\n", 1)[1].split("\n## ", 1)[0]
    rows = "".join(
        row.split("|")[1] if r"\|" not in row else row for row in text.splitlines() if row[:3] == "| `"
    )
    return {
        match["name"]: {part.partition("=")[0] for part in (match["labels"] or "").split(",") if part}
        for match in re.finditer(r"`(?P<name>rater_[a-z_]+)(?:\{(?P<labels>[^}]*)\})?`", rows)
    }


def test_each_exported_metric_is_documented_with_its_labels() -> None:
    """Who makes a dashboard reads the contract."""
    exported = {
        one.name + SUFFIX.get(one.kind, ""): ALWAYS.get(one.name + "_info", set(one.labels)) for one in TABLE
    }
    found = documented()
    assert {name: found.get(name) for name in exported} == exported
    assert found.keys() - exported.keys() == set()
