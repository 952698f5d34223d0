"""What rater exports, and what expressions of PromQL ask for of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import promql_parser
from prometheus_client.parser import text_string_to_metric_families
from promql_parser import AggModifierType, AggregateExpr, Matcher, MatchOp, VectorSelector

from rater.core.kinds import Do, Result
from rater.core.line.counts import Counts
from rater.metrics import OPEN, OTHER, TABLE, Metrics

SCRAPED = {"up": {"job", "instance"}}
"""Series that Prometheus itself makes of each target."""
JOBS = {"rater", "rater-audit", "rater-admin"}


def exported() -> dict[str, set[str]]:
    """Return the name of each sample of a process that has rated → its labels, as they are scraped."""
    metrics = Metrics()
    metrics.lag("rater.cdrs", 0, 0, 0.0)
    metrics.sources(["rater.cdrs"])
    counts = Counts()
    counts.sides["orig", next(iter(_values("rater_sides", "outcome")))] += 1  # type: ignore[index]
    counts.commands[Do.TICK, Result.DONE] += 1
    metrics.add(counts, committed_ms=0)
    names = {name: set(labels) for name, labels in SCRAPED.items()}
    for family in text_string_to_metric_families(metrics.exposition().decode()):
        for sample in family.samples:
            names.setdefault(sample.name, {"job", "instance"}).update(sample.labels)
    return names


def _values(metric: str, label: str) -> tuple[str, ...]:
    return next(one.labels[label] for one in TABLE if one.name == metric)


def lists() -> Mapping[tuple[str, str], set[str]]:
    """Return (metric of the table, label) → its closed list, of labels that have one."""
    found = {
        (one.name, label): {*map(str, values), OTHER}
        for one in TABLE
        for label, values in one.labels.items()
        if values != OPEN
    }
    return {**found, ("rater_build", "engine"): {"native", "python"}}


def faults(expression: str, names: Mapping[str, set[str]]) -> Iterator[str]:
    """Yield what is wrong with an expression: its form, names, labels, or values that are never there."""
    try:
        parsed = promql_parser.parse(expression)
    except ValueError as error:
        yield f"{expression}: {error}"
        return
    selected: list[VectorSelector] = []
    grouped: list[str] = []

    def visit(node: object) -> None:
        if isinstance(node, VectorSelector):
            selected.append(node)
        elif isinstance(node, AggregateExpr) and node.modifier is not None:
            assert node.modifier.type == AggModifierType.By, "by says what is left"
            grouped.extend(node.modifier.labels)

    promql_parser.walk(parsed, visit)
    if not selected:
        yield f"{expression}: asks for no metric"
    known = {label for one in selected for label in names.get(one.name or "", ())}
    for one in selected:
        if one.name is None or one.name not in names:
            yield f"{expression}: {one.name} is not exported"
        else:
            for matcher in one.matchers.matchers:
                yield from (f"{expression}: {fault}" for fault in _unmatched(one.name, matcher, names))
    yield from (f"{expression}: nothing has the label {label}" for label in grouped if label not in known)


def _unmatched(name: str, matcher: Matcher, names: Mapping[str, set[str]]) -> Iterator[str]:
    if matcher.name not in names[name]:
        yield f"{name} has no label {matcher.name}"
        return
    of = {"job": JOBS} if matcher.name == "job" else {}
    for (metric, label), values in lists().items():
        if label == matcher.name and name.startswith(metric):
            of[label] = values
    allowed = of.get(matcher.name)
    wanted = matcher.value.split("|") if matcher.op == MatchOp.Re else [matcher.value]
    if allowed is not None:
        yield from (f"{matcher.name} is never {value}" for value in wanted if value not in allowed)
