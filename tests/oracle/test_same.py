"""Generated cases are the same under every circumstance; planted faults are not (README.md, The oracle)."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from oracle.__main__ import told
from oracle.lanes import BOUNDS, Witness, _memos, _modules, forget_rater
from oracle.planted import PLANTED, ROOT
from oracle.scenario import LoadStep, RecordStep, is_time, make
from oracle.variants import Failure, shrunk
from rater.core.catalog.compiled import Catalog
from rater.core.clients.views import ClientView

CASES, SHARE = 400, 100


def command(module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command of this folder with the product that the tests run on."""
    import rater  # noqa: PLC0415 - where it lies is asked for

    path = os.pathsep.join((str(Path(rater.__file__).parents[1]), str(ROOT / "tests")))
    return subprocess.run(  # noqa: S603 - ours
        [sys.executable, "-m", module, *arguments],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(0, CASES, SHARE), ids="from-{}".format)
def test_memos_cuts_lanes_and_crashes_change_nothing(figure: Callable[[str], None], seed: int) -> None:
    """Each case equals the reference one record at a time, and then the same under a variant."""
    done = command("oracle", "--cases", str(SHARE), "--seed", str(seed), "--each", "1", "--size", "20")
    assert done.returncode == 0, done.stdout + done.stderr
    figure(done.stdout.splitlines()[-1])


def test_every_memo_cold_gives_the_same_bytes() -> None:
    """Records end alike, byte for byte, whether every memo is emptied before each of them or none ever is.

    Without lanes; with them the variants `forget-batch` and `cut-1` of each case say the same of the line.
    """
    number = 0
    for seed in range(40):
        scenario = make(seed)
        warm, cold = Witness(scenario.window_days), Witness(scenario.window_days)
        for step in scenario.steps:
            if isinstance(step, LoadStep):
                warm.load(step)
                cold.load(step)
                continue
            found = warm.rater.rate(step.raw, step.record_ms)
            forget_rater(cold.rater)
            assert cold.rater.rate(step.raw, step.record_ms) == found
            number += len(found)
        for client in warm.rater.states:
            assert cold.rater.balance(client) == warm.rater.balance(client)
            assert cold.rater.used(client) == warm.rater.used(client)
    assert number > 1000


def test_every_memo_is_known() -> None:
    """What remembers is emptied and bounded by the variants: each function and each bound that there is."""
    functions, dicts = _memos()
    cores = [path.read_text() for path in (ROOT / "src/rater/core").rglob("*.py") if path.name != "zones.py"]
    assert len(functions) == sum(
        len(re.findall(r"^(?:@|\w+ = )(?:lru_)?cache\b", text, re.MULTILINE)) for text in cores
    )
    assert dicts == []
    assert {name for module in _modules() for name in BOUNDS & vars(module).keys()} == BOUNDS
    view, catalog = ClientView.__slots__, Catalog.__slots__
    assert {name for name in view if name.startswith("_")} == {"_opened", "_due_by", "_due_ms"}
    assert {name for name in catalog if name.startswith("_")} == {"_offers", "_currencies"}


@pytest.mark.slow
def test_planted_fault_is_seen() -> None:
    """What is planted in a memo is seen: the check itself sees what it is for."""
    done = command("oracle.planted", "--only", "opened_goes_on", "--cases", "25")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 of 1 planted faults are seen" in done.stdout


@pytest.mark.parametrize("planted", PLANTED, ids=lambda one: one.name)
def test_planted_fault_has_a_place(planted: object) -> None:
    """Each planted fault replaces a text that stands in the product once, so the list follows the code."""
    one = next(each for each in PLANTED if each is planted)
    assert (ROOT / "src" / "rater" / one.file).read_text().count(one.old) == 1
    assert one.old != one.new


def test_scenarios_are_the_same_again_and_accepted() -> None:
    """A seed makes one scenario; its loads are accepted, in order of time; its records have all outcomes."""
    styles: Counter[str] = Counter()
    for seed in range(60):
        scenario = make(seed)
        assert scenario == make(seed)
        witness = Witness(scenario.window_days)
        latest = 0
        for step in scenario.steps:
            if isinstance(step, LoadStep):
                assert step.at_ms % 1000 == 0
                assert step.at_ms >= latest
                witness.load(step)
                latest = step.at_ms
            else:
                latest = max(latest, step.record_ms if is_time(step.record_ms) else 0)
                for one in witness.rater.rate(step.raw, step.record_ms):
                    styles[type(one).__name__] += 1
    assert styles["Transaction"] > 10 * styles["Duplicate"] > 0
    assert styles["Rejection"] > 0


def test_failure_tells_how_to_repeat_it() -> None:
    """What is told of a failing case has the seed, the variant, the steps and the command."""
    scenario = make(3)
    failure = Failure(3, "evict", "it differs", scenario)
    lines = list(told(failure))
    assert lines[0] == "seed 3, variant evict: it differs"
    assert lines[-1].endswith("python -m oracle --cases 1 --seed 3 --variants evict")
    assert sum("  record at" in line for line in lines) == sum(
        isinstance(one, RecordStep) for one in scenario.steps
    )


def test_case_that_does_not_fail_is_not_made_smaller() -> None:
    """Steps are dropped as long as the case fails; one that fails no more stays as it was."""
    failure = Failure(3, "cut-1", "it differed", make(3, size=4))
    assert shrunk(failure, tries=5) is failure
