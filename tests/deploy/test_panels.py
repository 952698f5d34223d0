"""Every panel of every dashboard shows something when a real Prometheus scrapes the demonstration."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.scraping import Prometheus, wait
from deploy.test_dashboards import DASHBOARDS, INTERVAL, panels
from rater.demo.workers import environment
from rater.local.child import Child
from rater.local.server import free_ports

pytestmark = pytest.mark.panels

WITHIN_S = 240.0
"""So long packages may take to be renewed and calls to be rejected: the demonstration has all of it."""
URL = re.compile(r"^(Kafka|Valkey|worker \d+|console): (\S+)", re.MULTILINE)


def told(log: Path) -> dict[str, str]:
    """Return what the demonstration says of where its servers and workers are."""
    return dict(URL.findall(log.read_text("utf-8"))) if log.exists() else {}


@pytest.fixture(scope="module")
def scraped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """Run the demonstration with two workers, a console and an audit, scraped."""
    folder = tmp_path_factory.mktemp("panels")
    log = folder / "demo.log"
    command = [sys.executable, "-m", "rater", "demo", "--workers", "2", "--rate", "100"]
    demo = Child(command, folder, log, environment({}))
    children = [demo]
    try:
        wait(f"the demonstration says where its workers are, in {log}", lambda: len(told(log)) == 5, 120)
        where = told(log)
        [audit] = free_ports(1)
        settings = {
            "RATER_KAFKA__BOOTSTRAP_SERVERS": where["Kafka"], "RATER_REDIS__URL": where["Valkey"],
            "RATER_TOPICS__PARTITIONS": "4", "RATER_METRICS__PORT": str(audit),
        }  # fmt: skip
        audited = [sys.executable, "-m", "rater", "audit", "--every", "5s"]
        children.append(Child(audited, folder, folder / "audit.log", environment(settings)))
        ports = [int(where[f"worker {n}"].split(":")[2].split("/")[0]) for n in (1, 2)]
        prometheus = Prometheus.start(
            folder / "prometheus",
            {"rater": ports, "rater-audit": [audit], "rater-admin": [int(where["console"].split(":")[2])]},
        )
        try:
            yield prometheus
        finally:
            prometheus.stop()
    finally:
        for child in reversed(children):
            child.stop(20)


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_every_panel_shows_something(scraped: Prometheus, path: Path) -> None:
    """A number, that is: a series of which nothing is known yet is an empty picture."""
    asked = [
        (panel["title"], target["expr"].replace(INTERVAL, "1m"))
        for panel in panels(path)
        for target in panel["targets"]
    ]
    left = list(asked)

    def all_shown() -> bool:
        left[:] = [one for one in left if not scraped.values(one[1])]
        return not left

    try:
        wait("every panel has something to show", all_shown, WITHIN_S)
    except AssertionError as error:
        raise AssertionError(f"{error}: {left}") from error
