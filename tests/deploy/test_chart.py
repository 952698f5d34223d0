"""The chart: what it renders is what Kubernetes takes, with settings that are settings."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.chart import CHART, GOLDEN, VALUES, kept, linted, rendered, source
from deploy.promtool import run
from deploy.test_units import is_command
from rater import __version__
from rater.config import Settings, load
from rater.stream.group_offsets import shown_in

ALERTS = CHART.parents[1] / "prometheus" / "alerts.yaml"
OTHERS = {"ScaledObject", "ServiceMonitor", "PrometheusRule"}
"""Kinds that are not Kubernetes' own: their schemas are nowhere to be had without a network."""


def objects(name: str) -> list[dict[str, Any]]:
    """Return what a golden file holds."""
    return [one for one in yaml.safe_load_all(kept(name)) if one]


def one(name: str, kind: str, suffix: str) -> dict[str, Any]:
    """Return an object of a golden file."""
    (found,) = [
        made
        for made in objects(name)
        if made["kind"] == kind and made["metadata"]["name"] == f"rater{suffix}"
    ]
    return found


@pytest.mark.helm
@pytest.mark.parametrize("name", VALUES)
def test_helm_renders_what_is_kept(name: str) -> None:
    """The golden files are Helm's, and its lint has nothing to say."""
    assert rendered(name) == kept(name)
    assert linted(name) == []


@pytest.mark.parametrize("name", VALUES)
def test_what_is_kept_is_of_this_chart(name: str) -> None:
    """A chart that was changed is rendered anew before it is trusted."""
    assert kept(name).split("\n", 1)[0].endswith(f" from {source(name)}"), "make golden-chart"


@pytest.mark.parametrize("name", VALUES)
def test_kubernetes_takes_it(name: str, tmp_path: Path) -> None:
    """Each object of its own kinds fits the schema, and no field is unknown."""
    own = [made for made in objects(name) if made["kind"] not in OTHERS]
    assert {made["kind"] for made in own} == {
        "ConfigMap", "Deployment", "Job", "PodDisruptionBudget", "Service",
    }  # fmt: skip
    path = tmp_path / "own.yaml"
    path.write_text(yaml.safe_dump_all(own), "utf-8")
    command = [sys.executable, "-m", "kubernetes_validate", "--strict", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    assert done.returncode == 0, done.stdout + done.stderr
    path.write_text(path.read_text("utf-8").replace("readinessProbe", "readynessProbe"), "utf-8")
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    assert done.returncode == 1
    assert "readynessProbe" in done.stdout + done.stderr


@pytest.mark.parametrize("name", VALUES)
def test_pods_run_what_exists(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands, settings, ports, probes and secrets fit each other."""
    for made in objects(name):
        if made["kind"] not in {"Deployment", "Job"}:
            continue
        spec = made["spec"]["template"]["spec"]
        (container,) = spec["containers"]
        config, path, *command = container["args"]
        assert (config, path) == ("--config", "/etc/rater/rater.toml")
        is_command(command)
        settings = written(name, spec, tmp_path, monkeypatch)
        if made["kind"] == "Deployment":
            port = settings.admin.port if command == ["admin"] else settings.metrics.port
            assert container["ports"] == [{"name": "metrics", "containerPort": port}]
            assert settings.metrics.host == "0.0.0.0"  # noqa: S104
            probes = [container[probe]["httpGet"]["path"] for probe in ("livenessProbe", "readinessProbe")]
            assert probes == ["/livez", "/readyz"]
        assert container["securityContext"]["readOnlyRootFilesystem"] is True
        assert spec["securityContext"]["runAsNonRoot"] is True


def written(name: str, spec: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Return the settings that a pod reads; secrets lie where they are mounted."""
    (config,) = [volume["configMap"]["name"] for volume in spec["volumes"] if "configMap" in volume]
    text = one(name, "ConfigMap", config.removeprefix("rater"))["data"]["rater.toml"]
    for section in tomllib.loads(text).values():
        for key, value in section.items():
            if key.endswith("_file"):
                assert value.startswith("/run/secrets/rater/")
                assert [True for volume in spec["volumes"] if "secret" in volume]
                (tmp_path / Path(value).name).write_text("secret\n", "utf-8")
    path = tmp_path / "rater.toml"
    path.write_text(text.replace("/run/secrets/rater", str(tmp_path)), "utf-8")
    monkeypatch.chdir(tmp_path)
    found = load(str(path), {})
    assert isinstance(found, Settings), found
    return found


def test_settings_reach_the_pods() -> None:
    """What values say stands beside what the chart sets, and over it."""
    text = one("all", "ConfigMap", "-settings")["data"]["rater.toml"]
    told = tomllib.loads(text)
    assert told["logs"] == {"format": "json", "level": "warning"}
    assert told["events"] == {"limit_percents": [80, 100]}
    assert told["sources"] == {"pbx1": {"topic": "pbx1_cdr", "map": "asterisk"}}
    assert (told["admin"]["host"], told["admin"]["tokens"][0]["name"]) == ("0.0.0.0", "anna")  # noqa: S104
    assert one("all", "ConfigMap", "-topics-settings")["data"]["rater.toml"] == text


def test_selectors_meet_their_pods() -> None:
    """A service, a budget or a deployment that selects nothing says so nowhere."""
    pods = {
        made["metadata"]["name"]: made["spec"]["template"]["metadata"]["labels"]
        for made in objects("all")
        if made["kind"] == "Deployment"
    }
    assert pods.keys() == {"rater-worker", "rater-audit", "rater-admin"}
    for made in objects("all"):
        if made["kind"] in {"Service", "PodDisruptionBudget", "Deployment"}:
            selector = made["spec"]["selector"]
            wanted = selector.get("matchLabels", selector)
            met = [name for name, labels in pods.items() if wanted.items() <= labels.items()]
            assert met == [made["metadata"]["name"]]


def test_the_autoscaler_looks_at_the_group_of_the_workers() -> None:
    """The group that positions are committed in: of another one all records would count, for ever."""
    scaled, worker = one("all", "ScaledObject", "-worker"), one("all", "Deployment", "-worker")
    told = tomllib.loads(one("all", "ConfigMap", "-settings")["data"]["rater.toml"])
    assert "replicas" not in worker["spec"]
    assert scaled["spec"]["scaleTargetRef"] == {"name": "rater-worker"}
    assert scaled["spec"]["maxReplicaCount"] <= told["topics"]["partitions"]
    for trigger in scaled["spec"]["triggers"]:
        assert trigger["metadata"]["consumerGroup"] == shown_in(told["kafka"]["group_id"])
        assert trigger["metadata"]["bootstrapServers"] == told["kafka"]["bootstrap_servers"]
        assert trigger["metadata"]["topic"] in {"rater.cdrs", "pbx1_cdr"}


def test_the_chart_has_the_alerts(tmp_path: Path) -> None:
    """The copy beside it is the original, and what the operator gets are rules that Prometheus takes."""
    assert (CHART / "files" / "alerts.yaml").read_bytes() == ALERTS.read_bytes(), "make golden-chart"
    spec = one("all", "PrometheusRule", "")["spec"]
    text = ALERTS.read_text("utf-8").replace("deploy/runbooks.md#", "https://ops.example/rater/runbooks.md#")
    assert spec == yaml.safe_load(text)
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump(spec), "utf-8")
    assert run("check", "rules", tmp_path / "rules.yaml")[0] == 0


def test_the_chart_is_of_this_version() -> None:
    """Its image is the version that is here, unless the values say otherwise."""
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text("utf-8"))
    assert chart["appVersion"] == __version__
    assert GOLDEN.is_dir()
