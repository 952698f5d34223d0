"""Alert rules: right, tested each way, over metrics that are exported, and each with its runbook."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.exported import exported, faults
from deploy.promtool import run

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
PROMETHEUS = DEPLOY / "prometheus"
RUNBOOKS = DEPLOY / "runbooks.md"
TESTS = ("tests.yaml", "tests-days.yaml")


def rules() -> list[dict[str, Any]]:
    """Return all alerts."""
    groups = yaml.safe_load((PROMETHEUS / "alerts.yaml").read_text("utf-8"))["groups"]
    return [rule for group in groups for rule in group["rules"]]


@pytest.mark.parametrize("file", TESTS)
def test_each_alert_fires_when_it_should_and_only_then(file: str) -> None:
    """Prometheus' own tool runs the cases: what fires, with which sentence, and what does not."""
    code, told = run("test", "rules", PROMETHEUS / file)
    assert (code, "SUCCESS" in told) == (0, True), told


def test_prometheus_takes_the_rules_and_the_example_of_a_configuration() -> None:
    """The configuration names the rules, so both are checked."""
    code, told = run("check", "config", PROMETHEUS / "prometheus.yaml")
    assert (code, f"{len(rules())} rules found" in told) == (0, True), told


def test_each_alert_has_a_case_in_which_it_fires_and_one_in_which_it_does_not() -> None:
    """A rule that cannot fire, or always does, is none."""
    seen: dict[str, set[bool]] = {}
    for file in TESTS:
        for case in yaml.safe_load((PROMETHEUS / file).read_text("utf-8"))["tests"]:
            for test in case["alert_rule_test"]:
                seen.setdefault(test["alertname"], set()).add(bool(test["exp_alerts"]))
    assert seen == {rule["alert"]: {True, False} for rule in rules()}


def test_alerts_ask_for_what_is_exported() -> None:
    """Names, labels and values; and each says whose they are: another program may export process_… too."""
    names = exported()
    assert [fault for rule in rules() for fault in faults(rule["expr"], names)] == []
    assert [rule["alert"] for rule in rules() if 'job="rater' not in rule["expr"].replace("=~", "=")] == []


def test_each_alert_says_what_is_and_has_its_runbook() -> None:
    """A sentence, how bad it is, and where to read on; and no runbook is of an alert that is gone."""
    for rule in rules():
        assert rule["labels"].keys() == {"severity"}
        assert rule["labels"]["severity"] in {"critical", "warning"}
        assert rule["annotations"].keys() == {"summary", "runbook_url"}
        assert rule["annotations"]["summary"].endswith(".")
        assert rule["annotations"]["runbook_url"] == f"deploy/runbooks.md#{rule['alert'].lower()}"
    sections = re.findall(r"^## (.+)$", RUNBOOKS.read_text("utf-8"), re.MULTILINE)
    assert sections == [rule["alert"] for rule in rules()]


def test_each_runbook_says_what_to_do_and_when_it_is_over() -> None:
    """Whoever is woken reads the four in this order."""
    _, *parts = re.split(r"^## ", RUNBOOKS.read_text("utf-8"), flags=re.MULTILINE)
    for part in parts:
        told = re.findall(r"\*\*(Means|Look|Do|Over)\*\*", part)
        assert told == ["Means", "Look", "Do", "Over"], part


_WORDS = r"rater ((?:--config [^\s`]+ )?[a-z]"
COMMAND = re.compile(rf"`{_WORDS}[^`]*)`|^ *(?:\$ )?{_WORDS}[^`#\n]*)", re.MULTILINE)


@pytest.mark.parametrize("document", [RUNBOOKS, DEPLOY / "README.md"], ids=lambda path: path.name)
def test_documents_name_commands_that_exist(document: Path) -> None:
    """`rater …` in a runbook, or in what tells of the installation, can be typed, with its options."""
    from rater.cli import rater  # noqa: PLC0415 - what else is here needs no command line

    found = [inline or line for inline, line in COMMAND.findall(document.read_text("utf-8"))]
    assert len(found) > 5
    for said in found:
        command: Any = rater
        for word in said.split():
            options = {name for one in command.params for name in one.opts}
            if word.startswith("--"):
                assert word in options, said
            elif hasattr(command, "commands") and word in command.commands:
                command = command.commands[word]
            else:  # a value, of an option or an argument
                assert command is not rater or "--config" in said, said
        assert not hasattr(command, "commands"), said


WRONG = [
    ("rater_gone > 0", "rater_gone is not exported"),
    ("sum by (colour) (rater_ready)", "nothing has the label colour"),
    ('rater_sides_total{outcome="lost"}', "outcome is never lost"),
    ('rater_rejected_total{why="x"}', "rater_rejected_total has no label why"),
    ('rater_stage_seconds_bucket{stage="draws"}', "stage is never draws"),
    ('up{job="worker"}', "job is never worker"),
    ("sum(rater_ready", "unclosed left parenthesis"),
    ("vector(1) > 0", "asks for no metric"),
]


@pytest.mark.parametrize(("expression", "fault"), WRONG)
def test_a_wrong_expression_is_found(expression: str, fault: str) -> None:
    """The check sees what it is to see."""
    assert fault in "; ".join(faults(expression, exported()))


def test_a_right_expression_has_no_fault() -> None:
    """Each kind of metric is known by its samples' names."""
    names = exported()
    right = (
        'histogram_quantile(0.5, sum by (le) (rate(rater_stage_seconds_bucket{stage="draw"}[5m])))',
        'sum by (topic, partition) (rater_consumer_lag_records{job=~"rater|rater-audit"})',
        'process_resident_memory_bytes{job="rater"} and on (instance) rater_build_info{engine="native"}',
    )
    assert [fault for one in right for fault in faults(one, names)] == []
