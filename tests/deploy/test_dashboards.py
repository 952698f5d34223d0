"""Dashboards of Grafana: each panel asks for what is exported, of the data source that is chosen."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from deploy.exported import exported, faults

DASHBOARDS = sorted((Path(__file__).parents[2] / "deploy" / "grafana" / "dashboards").glob("*.json"))
INTERVAL = "$__rate_interval"
"""Grafana's: four scrapes at least."""
SOURCE = {"type": "prometheus", "uid": "${datasource}"}
COLUMNS = 24
NOT_SHOWN = {
    "process_virtual_memory_bytes",
    "process_start_time_seconds",
    "process_open_fds",
    "process_max_fds",
}


def panels(path: Path) -> list[dict[str, Any]]:
    """Return a dashboard's panels."""
    found: list[dict[str, Any]] = json.loads(path.read_text("utf-8"))["panels"]
    return found


def expressions(path: Path) -> Iterator[tuple[str, str]]:
    """Yield (title of the panel, expression), as Prometheus is asked."""
    for panel in panels(path):
        for target in panel["targets"]:
            yield panel["title"], target["expr"].replace(INTERVAL, "1m")


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_panels_ask_for_what_is_exported(path: Path) -> None:
    """Names, labels and values, of this program's jobs alone."""
    names = exported()
    for title, expression in expressions(path):
        assert list(faults(expression, names)) == [], title
        assert "$" not in expression, title
        assert expression.count('job="rater') == expression.count("{"), f"{title}: a selector without a job"


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_nothing_is_divided_by_nothing(path: Path) -> None:
    """In a night without calls a share is no data, neither NaN nor infinite."""
    for title, expression in expressions(path):
        for below in expression.split(" / ")[1:]:
            assert re.search(r"\) > 0\)$", below), title


def test_every_metric_is_shown() -> None:
    """What is exported and nobody can see is no use."""
    shown = " ".join(expression for path in DASHBOARDS for _, expression in expressions(path))
    families = {
        name.removesuffix("_bucket").removesuffix("_count").removesuffix("_sum") for name in exported()
    }
    unseen = {name for name in families if name not in shown and not name.startswith("python_")}
    assert unseen - NOT_SHOWN == set()


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_a_dashboard_is_whole(path: Path) -> None:
    """Its source can be chosen, its panels lie beside each other, each says what it shows."""
    board = json.loads(path.read_text("utf-8"))
    assert (board["uid"], board["title"].split(":")[0]) == (f"rater-{path.stem}", "rater")
    assert [one["name"] for one in board["templating"]["list"]] == ["datasource"]
    taken: set[tuple[int, int]] = set()
    for panel in board["panels"]:
        assert panel["description"].endswith(".")
        assert panel["datasource"] == SOURCE
        assert all(target["datasource"] == SOURCE for target in panel["targets"])
        place = panel["gridPos"]
        cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert place["x"] + place["w"] <= COLUMNS
        assert not cells & taken, panel["title"]
        taken |= cells
        for target in panel["targets"]:
            for label in (part.partition("}}")[0] for part in target["legendFormat"].split("{{")[1:]):
                assert label == "instance" or label in target["expr"], panel["title"]
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
