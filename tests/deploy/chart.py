"""The chart as Helm renders it, kept in deploy/helm/golden: `make golden-chart` writes it anew.

Without Helm one cannot tell what a chart renders; so the files tell of which chart they are, and a test fails
where that is another one than is here. RATER_HELM is the folder that tests/deploy/helm.lock is installed in.
"""

from __future__ import annotations

import hashlib
import os
import sys
from pathlib import Path
from typing import Any

import yaml

HELM = Path(__file__).parents[2] / "deploy" / "helm"
CHART = HELM / "rater"
GOLDEN = HELM / "golden"
VALUES = {"default": None, "all": GOLDEN / "all-values.yaml"}
"""Name of a golden file → the values that it is rendered with."""


def source(name: str) -> str:
    """Return the sum of all that a golden file is made of."""
    own = VALUES[name]
    parts = [path for path in sorted(CHART.rglob("*")) if path.is_file()] + ([own] if own else [])
    whole = hashlib.sha256()
    for path in parts:
        whole.update(path.relative_to(HELM).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return whole.hexdigest()


def _values(name: str) -> dict[str, Any]:
    own = VALUES[name]
    return {} if own is None else dict(yaml.safe_load(own.read_text("utf-8")))


def _helm() -> Any:
    sys.path.append(os.environ["RATER_HELM"])
    from helm_python import chart  # noqa: PLC0415 - `make test-deploy` alone has it

    return chart


def rendered(name: str) -> str:
    """Return what Helm renders, template by template, below a line that says of what."""
    with _helm().Chart.load(str(CHART)) as chart:
        made = chart.render(_values(name), name="rater", namespace="rater")
    parts = [
        f"---\n# {path}\n{text.strip()}\n"
        for path, text in sorted(made.items())
        if text.strip() and path.endswith(".yaml")
    ]
    return f"# Written by `make golden-chart` from {source(name)}\n{''.join(parts)}"


def linted(name: str) -> list[str]:
    """Return what Helm's lint says that is more than advice."""
    report = _helm().lint(str(CHART), _values(name), strict=True)
    told = [one["error"] for one in report["messages"] if one["severity"] > 1] + report["errors"]
    return [str(one) for one in told]


def kept(name: str) -> str:
    """Return a golden file."""
    return (GOLDEN / f"{name}.yaml").read_text("utf-8")


def main() -> None:
    """Write the golden files."""
    for name in VALUES:
        (GOLDEN / f"{name}.yaml").write_text(rendered(name), "utf-8")
        sys.stdout.write(f"{name}.yaml\n")


if __name__ == "__main__":
    main()
