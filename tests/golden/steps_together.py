"""All golden cases in steps as one, in rounds, for a system that is slow to start.

Ids and names have a case's number in front and all is 28 years later, as in together.py. Loads are in the
order of time for all cases, since one can only come after the other, and those of one instant are one.
Between two loads each case does its steps in order, one in a round.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Any

from golden.steps import Step, StepCase
from golden.together import MOVED_MS, later, tagged_catalog, tagged_record

_LAST = 2**62
_HALF_YEAR_MS = 180 * 86_400_000
"""No lane gets further ahead of other cases: their calls stay within a window of a year."""
_OF_ARGS = ("account", "package", "id", "number")
"""What of a command's args is an id."""


@dataclass(frozen=True)
class TaggedSteps:
    """A case whose ids have a number in front."""

    case: StepCase
    tag: str

    @property
    def moments(self) -> list[int]:
        """Return when each step has its turn: not before the one before it."""
        return list(accumulate((step.at_ms for step in self.case.steps), max))

    @property
    def clients(self) -> list[str]:
        """Return the ids of the case's clients."""
        return [self.tag + client for client in self.case.balances]

    def plain(self, text: str) -> str:
        """Return a text that came out as the case knows it."""
        return text.replace(self.tag, "")


@dataclass(frozen=True)
class Turn:
    """One step that is done in a round."""

    of: TaggedSteps
    number: int

    @property
    def step(self) -> Step:
        """Return the step."""
        return self.of.case.steps[self.number]


def tagged_steps(cases: Sequence[StepCase]) -> list[TaggedSteps]:
    """Return the cases with ids of their own, 28 years later."""
    return [_tagged(case, f"6161{number:04d}") for number, case in enumerate(cases)]


def _tagged(case: StepCase, tag: str) -> TaggedSteps:
    steps = []
    for step in case.steps:
        text = step.value.decode()
        assert tag not in text, f"{case.name} has {tag} in it; choose another tag"
        value, at_ms = _value(step, later(text), tag), step.at_ms + MOVED_MS
        steps.append(replace(step, value=value, at_ms=at_ms, expected=_moved(step.expected)))
    packages = _moved(case.client_packages)
    return TaggedSteps(replace(case, steps=steps, client_packages=packages), tag)


def _moved(expected: Any) -> Any:
    return json.loads(later(json.dumps(expected)))


def _value(step: Step, text: str, tag: str) -> bytes:
    if step.kind == "load":
        return tagged_catalog(text.encode(), tag)
    if step.kind == "cdr":
        return tagged_record(text.encode(), tag)
    return _command(json.loads(text), tag) if step.kind == "command" else b""


def _command(command: dict[str, Any], tag: str) -> bytes:
    for of, names in ((command, ("client", "client_package")), (command["args"], _OF_ARGS)):
        of.update({name: tag + of[name] for name in names if isinstance(of.get(name), str)})
    return json.dumps(command).encode()


def rounds(cases: Sequence[TaggedSteps]) -> Iterator[list[Turn]]:
    """Give what is done at once: loads of one instant, or a step each of some cases.

    A load that is to be refused is alone, for nothing of what it brings is taken.
    """
    place = {one.tag: 0 for one in cases}
    loads = {step.at_ms for one in cases for step in one.case.steps if step.kind == "load"}
    halves = {at_ms // _HALF_YEAR_MS * _HALF_YEAR_MS for one in cases for at_ms in one.moments}
    for until_ms in sorted({*loads, *halves, _LAST}):
        while turns := [turn for one in cases if (turn := _next(one, place[one.tag], until_ms)) is not None]:
            yield turns
            for turn in turns:
                place[turn.of.tag] += 1
        while due := [turn for one in cases if (turn := _load(one, place[one.tag], until_ms)) is not None]:
            yield from ([turn] for turn in due if _refused(turn))
            if together := [turn for turn in due if not _refused(turn)]:
                yield together
            for turn in due:
                place[turn.of.tag] += 1
    assert all(place[one.tag] == len(one.case.steps) for one in cases), place


def _load(one: TaggedSteps, number: int, at_ms: int) -> Turn | None:
    """Return the case's next step, if it is the load of an instant."""
    if number == len(one.case.steps):
        return None
    step = one.case.steps[number]
    return Turn(one, number) if step.kind == "load" and step.at_ms == at_ms else None


def _refused(turn: Turn) -> bool:
    return any("refused" in one for one in turn.step.expected)


def _next(one: TaggedSteps, number: int, until_ms: int) -> Turn | None:
    """Return the case's next step, if it comes before the load of an instant."""
    if number == len(one.case.steps) or one.case.steps[number].kind == "load":
        return None
    to_come = (step.at_ms for step in one.case.steps[number:] if step.kind == "load")
    before = one.moments[number] < until_ms or next(to_come, _LAST) == until_ms
    return Turn(one, number) if before else None
