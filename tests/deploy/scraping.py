"""A real Prometheus on loopback: it scrapes processes, and is asked by its API."""

from __future__ import annotations

import json
import math
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import yaml

from deploy.promtool import found
from rater.local.child import HOST
from rater.local.server import Server

ASKED_S = 10.0


class Prometheus(Server):
    """Scrapes every second. Its data lies in its folder."""

    name = "Prometheus"

    @classmethod
    def start(cls, folder: Path, jobs: Mapping[str, Sequence[int]], rules: str = "groups: []") -> Self:
        """Start it. jobs: name → ports of 127.0.0.1. rules: the text of a file of rules."""
        server = cls(folder.absolute(), None)
        server.jobs, server.rules = jobs, rules
        return server._start()

    jobs: Mapping[str, Sequence[int]]
    rules: str

    def _launch(self) -> None:
        config = {
            "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
            "rule_files": ["rules.yaml"],
            "scrape_configs": [
                {"job_name": job, "file_sd_configs": [{"files": [f"{job}.json"], "refresh_interval": "5s"}]}
                for job in self.jobs
            ],
        }
        for job, ports in self.jobs.items():
            self.scrape(job, ports)
        (self.folder / "rules.yaml").write_text(self.rules, "utf-8")
        (self.folder / "prometheus.yaml").write_text(yaml.safe_dump(config), "utf-8")
        command = [
            found("prometheus"), f"--config.file={self.folder / 'prometheus.yaml'}",
            f"--storage.tsdb.path={self.folder / 'data'}", f"--web.listen-address={HOST}:{self.port}",
            "--enable-feature=exemplar-storage",
        ]  # fmt: skip
        self._run(command, self.folder / "prometheus.log", self._answers)

    def scrape(self, job: str, ports: Sequence[int]) -> None:
        """Scrape these ports from now on."""
        targets = [{"targets": [f"{HOST}:{port}" for port in ports]}]
        made = self.folder / f"{job}.new"
        made.write_text(json.dumps(targets), "utf-8")
        made.replace(self.folder / f"{job}.json")

    def _logs(self) -> Sequence[Path]:
        return (self.folder / "prometheus.log",)

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://{HOST}:{self.port}/-/ready", timeout=ASKED_S) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def ask(self, path: str, **parameters: str) -> Any:
        """Return what the API answers under `data`."""
        query = urllib.parse.urlencode(parameters)
        url = f"http://{HOST}:{self.port}/api/v1/{path}?{query}"
        with urllib.request.urlopen(url, timeout=ASKED_S) as answer:
            said = json.load(answer)
        assert said["status"] == "success", said
        return said["data"]

    def values(self, expression: str) -> list[float]:
        """Return the numbers that an expression has now; those that are none are left out."""
        result = self.ask("query", query=expression)["result"]
        values = [float(one["value"][1]) for one in result]
        return [value for value in values if not math.isnan(value)]

    def firing(self) -> set[str]:
        """Return the names of the alerts that fire now."""
        alerts = self.ask("alerts")["alerts"]
        return {one["labels"]["alertname"] for one in alerts if one["state"] == "firing"}

    def fired(self, within_s: float) -> set[str]:
        """Return the names of the alerts that have fired within the last seconds, also for a moment."""
        query = f'max_over_time(ALERTS{{alertstate="firing"}}[{max(1, int(within_s))}s])'
        return {one["metric"]["alertname"] for one in self.ask("query", query=query)["result"]}


def wait(what: str, condition: Callable[[], object], within_s: float) -> float:
    """Wait until a condition holds; returns after how many seconds. AssertionError where it does not."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < within_s, f"not within {within_s:g} s: {what}"
        time.sleep(0.3)
    return time.monotonic() - began
