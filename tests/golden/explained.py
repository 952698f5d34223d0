"""What `rater explain` says of each golden case, in words: one file for each, in explained/.

python tests/golden/explained.py      writes the files anew; read the difference before it is committed
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from golden.cases import EDITED_AT, LOADED_AT, Case, load_cases
from golden.steps import Step, StepCase, load_step_cases, tick
from rater.core.explaining.sides import explain
from rater.core.explaining.telling import in_words, of_transaction, told
from rater.core.instants import milliseconds, rfc3339
from rater.core.offline import Rater

FOLDER = Path(__file__).parent / "explained"


def texts() -> dict[str, str]:
    """Return the text of each case, by its name."""
    found = {case.name: "\n".join([case.title, *_of_case(case)]) for case in load_cases()}
    found |= {case.name: "\n".join([case.title, *_of_steps(case)]) for case in load_step_cases()}
    return {name: f"{text}\n" for name, text in found.items()}


def _of_case(case: Case) -> Iterator[str]:
    rater = Rater()
    for catalog, at in ((case.catalog, LOADED_AT), (case.edited, EDITED_AT)):
        if catalog is not None:
            assert not rater.load([(f"{case.name}.yaml", catalog)], milliseconds(at))
    for number, (raw, record_ms) in enumerate(case.records):
        yield f"\nrecord {number}"
        yield from side_lines(rater, raw, record_ms)
        rater.rate(raw, record_ms)


def _of_steps(case: StepCase) -> Iterator[str]:
    rater = Rater(notices=case.settings.notices)
    for number, step in enumerate(case.steps):
        lines = [*_of_step(rater, case, number, step)]
        if lines:
            yield f"\nstep {number}: {step.kind}"
            yield from lines


def _of_step(rater: Rater, case: StepCase, number: int, step: Step) -> Iterator[str]:
    if step.kind == "load":
        rater.load([(f"{case.name}.yaml", step.value)], step.at_ms)
    elif step.kind == "command":
        rater.command(step.value, step.at_ms)
    elif step.kind == "tick":
        rater.command(tick(f"{case.name}-{number}", rfc3339(step.at_ms), {}), step.at_ms)
    else:
        yield from side_lines(rater, step.value, step.at_ms)
        rater.rate(step.value, step.at_ms)
    for value in rater.take()[0]:
        yield from in_words(of_transaction(msgspec.json.decode(value), rater.catalog))


def side_lines(rater: Rater, raw: bytes, record_ms: int) -> Iterator[str]:
    """Yield what is told of the sides of a record, just before it is rated."""
    for one in explain(rater, raw, record_ms):
        yield from in_words(told(one, rater.catalog))


def agrees(row: Mapping[str, Any], published: Mapping[str, Any]) -> list[str]:
    """Return in what an explanation differs from the transaction that it is of; nothing when in nothing."""
    taken = [_taken(one) for one in row["candidates"] if one["taken"] is not None]
    drawn = [_taken(one) for one in published.get("draws", ())]
    pairs: tuple[tuple[str, Any, Any], ...] = (
        ("transaction", row["transaction"], published["id"]),
        ("amount", row["amount"], published["amount"]),
        ("currency", row["currency"], published["currency"]),
        ("billed", row["billed"], published.get("billed")),
        ("client", row["identified"]["client"], published["client"]),
        ("account", row["identified"]["account"], published.get("account")),
        ("draws", taken, drawn),
        ("notes", row["notes"], []),
    )
    return [f"{name}: {told!r} is told of {is_!r}" for name, told, is_ in pairs if told != is_]


def _taken(one: Mapping[str, Any]) -> tuple[Any, ...]:
    names = ("client_package", "package", "package_name", "limit", "kind", "period", "taken")
    return *(one[name] for name in names), one.get("rolled", False)


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    written = texts()
    for path in FOLDER.glob("*.txt"):
        if path.stem not in written:
            path.unlink()
    for name, text in written.items():
        (FOLDER / f"{name}.txt").write_text(text, "utf-8")
