"""The alert rules as the drill has them: the same expressions, with shorter times and smaller numbers.

`for:` becomes FOR; ranges and offsets become those of SPANS and OFFSETS; a threshold that is itself a time,
or a number that takes long to come together, becomes that of THRESHOLDS. Nothing else of a rule is changed.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

ALERTS = Path(__file__).parents[2] / "deploy" / "prometheus" / "alerts.yaml"
FOR = "1s"
SPANS = {"5m": "10s", "10m": "10s", "1h": "15s", "1d:5m": "60s:1s", "3h": "10s"}
"""Range as the rules have it → as the drill has it, with a scrape each second."""
OFFSETS = {"1w": "25s", "1d": "15s"}
THRESHOLDS = {
    "RaterRestarts": ("[1h]", "[60s]"),  # a restart takes seconds
    "RaterSourceSilent": ("> 100", "> 20"),
    "RaterLagSeconds": ("> 60", "> 4"),
    "RaterLagSecondsHigh": ("> 900", "> 7"),
    "RaterLagRecords": ("> 100000", "> 300"),
    "RaterResultsLate": ("> 30", "> 4"),
    "RaterPendingCharges": ("> 100", "> 2"),
    "RaterAuditOld": ("> 14400", "> 10"),
}
"""Alert → what stands in its expression, and what stands there in the drill."""
_SPAN = re.compile(r"\[(\w+(?::\w+)?)\]")
_OFFSET = re.compile(r"offset (\w+)")


def rules(text: str) -> list[dict[str, Any]]:
    """Return all alerts of a file of rules."""
    return [rule for group in yaml.safe_load(text)["groups"] for rule in group["rules"]]


def drilled(rule: dict[str, Any]) -> dict[str, Any]:
    """Return an alert with the drill's times."""
    expression: str = rule["expr"]
    if rule["alert"] in THRESHOLDS:
        old, new = THRESHOLDS[rule["alert"]]
        assert expression.count(old) == 1, rule
        expression = expression.replace(old, new)
    expression = _SPAN.sub(lambda found: f"[{SPANS.get(found[1], found[1])}]", expression)
    expression = _OFFSET.sub(lambda found: f"offset {OFFSETS[found[1]]}", expression)
    return {**rule, "expr": expression, **({"for": FOR} if "for" in rule else {})}


def drill_rules() -> str:
    """Return the text of the file of rules that the drill's Prometheus reads."""
    made = [drilled(rule) for rule in rules(ALERTS.read_text("utf-8"))]
    return yaml.safe_dump({"groups": [{"name": "drill", "rules": made}]})
