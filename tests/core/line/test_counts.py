"""What a batch counts of the events that it publishes."""

from __future__ import annotations

import json
from collections import Counter

from golden.steps import load_step_cases
from golden.test_steps import _done
from rater.core.clients.changes import ChangeEvent
from rater.core.line.counts import Counts
from rater.core.offline import Rater


def counted(name: str) -> tuple[Counter[str], Counter[str]]:
    """Return what is counted of the events and of the renewals of a golden case."""
    (case,) = [case for case in load_step_cases() if case.name == name]
    rater, counts = Rater(), Counts()
    for number, step in enumerate(case.steps):
        for kind, _, event in _done(rater, case, number, step):
            if kind == "event":
                counts.tell(ChangeEvent(event["type"], b"", json.dumps(event).encode()))
    return counts.events, Counter({str(one): number for one, number in counts.renewals.items()})


def test_renewals_are_counted_by_what_became_of_them() -> None:
    """One that waits and is paid late is two; one that is given up is archived; other ends are none."""
    events, renewals = counted("114-late-renewal")
    assert renewals == {"pending": events["charge_pending"], "late": events["renewed_late"]}
    assert min(renewals.values()) == 1
    events, renewals = counted("116-renew-for-runs-out")
    assert (events["archived"], renewals["archived"], renewals["pending"]) == (1, 1, 1)
    events, renewals = counted("286-what-rolls-over-does-not-expire")
    assert (events["archived"], renewals) == (1, {"renewed": events["renewed"]})


def test_activations_are_no_renewals() -> None:
    """A pending activation is told by the same event, and so is a charge that waits for something else."""
    events, renewals = counted("109-too-dear-blocks-nobody")
    assert (events["charge_pending"], renewals) == (3, {})
    events, renewals = counted("172-disabled-until-renew-for")
    assert (events["charge_pending"], renewals["pending"]) == (2, 1)
