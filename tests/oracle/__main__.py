"""`python -m oracle`: run generated cases under several circumstances, and compare.

Run it with `PYTHONPATH=src:tests`. A case is one scenario (its seed); a run is one case under one variant.
The last line names how many cases and runs there were, the seeds, and how it ended; exit code 1 where
something differs.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from random import Random
from types import FrameType

from oracle.scenario import LoadStep, Scenario, make
from oracle.variants import VARIANTS, Failure, failure_of, shrunk

STILL_S, STILL_WALL_S = 60, 600
"""A case that takes longer, of the processor or by the clock, stands still."""
SHRINK_S = 60
CHUNK = 10


def names_of(seed: int, wanted: Sequence[str], each: int) -> list[str]:
    """Return the variants that a case is run under; each: how many."""
    if wanted:
        return list(wanted)
    if each >= len(VARIANTS):
        return list(VARIANTS)
    return Random(f"variants {seed}").sample(list(VARIANTS), each)  # noqa: S311 - the same again


def _stop(_signal: int, _frame: FrameType | None) -> None:
    raise TimeoutError(f"nothing came out within {STILL_S} s")


def case(given: tuple[int, tuple[str, ...], int, int | None]) -> tuple[int, Failure | None]:
    """Run one case; returns how many runs it took, and what failed."""
    seed, wanted, each, size = given
    names = names_of(seed, wanted, each)
    signal.signal(signal.SIGALRM, _stop)
    signal.signal(signal.SIGPROF, _stop)
    signal.alarm(STILL_WALL_S)
    signal.setitimer(signal.ITIMER_PROF, STILL_S)
    try:
        failure = failure_of(make(seed, size=size), names)
    finally:
        signal.alarm(0)
        signal.setitimer(signal.ITIMER_PROF, 0)
    return 1 + len(names), failure


def smaller(failure: Failure) -> Failure:
    """Drop steps of a failing case, as long as it takes not too long."""
    until = time.monotonic() + SHRINK_S
    if "nothing came out" in failure.problem:
        return failure
    return shrunk(failure, lambda _: time.monotonic() < until)


def told(failure: Failure, size: int | None = None) -> Iterator[str]:
    """Yield the lines that tell of a failure."""
    yield f"seed {failure.seed}, variant {failure.variant}: {failure.problem}"
    yield "smallest scenario that was found, a step a line:"
    yield from _steps(failure.scenario)
    repeat = f"PYTHONPATH=src:tests python -m oracle --cases 1 --seed {failure.seed}"
    if failure.variant != "base":
        repeat += f" --variants {failure.variant}"
    yield f"repeat it: {repeat}" + (f" --size {size}" if size else "")


def _steps(scenario: Scenario) -> Iterator[str]:
    yield f"  duplicate window: {scenario.window_days} days"
    for step in scenario.steps:
        if isinstance(step, LoadStep):
            yield f"  load at {step.at_ms}: {json.dumps(step.file)}"
        else:
            yield f"  record at {step.record_ms}, lane {step.lane_hint}: {step.raw!r}"


def main() -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m oracle", description=__doc__)
    parser.add_argument("--cases", type=int, default=1000, help="how many (default: 1000)")
    parser.add_argument(
        "--seed", type=int, default=0, help="of the first; the next ones follow it (default: 0)"
    )
    parser.add_argument("--jobs", type=int, default=1, help="processes (default: 1)")
    parser.add_argument(
        "--seconds", type=float, default=float("inf"), help="begin no further case after so many"
    )
    parser.add_argument(
        "--each", type=int, default=4, help="variants of a case, drawn by its seed (default: 4)"
    )
    parser.add_argument("--every-variant", action="store_true", help=f"all {len(VARIANTS)} of them")
    parser.add_argument("--variants", default="", help="these alone, by commas: " + ", ".join(VARIANTS))
    parser.add_argument("--as-is", action="store_true", help="do not look for a smaller scenario that fails")
    parser.add_argument("--size", type=int, help="records of a case, about (default: drawn)")
    given = parser.parse_args()
    wanted = tuple(name for name in given.variants.split(",") if name)
    unknown = [name for name in wanted if name not in VARIANTS]
    if unknown:
        parser.error(f"no such variant: {', '.join(unknown)}; there are {', '.join(VARIANTS)}")
    began, cases, runs = time.monotonic(), 0, 0
    failure: Failure | None = None
    seeds = range(given.seed, given.seed + given.cases)
    each = len(VARIANTS) if given.every_variant else given.each
    work = ((seed, wanted, each, given.size) for seed in seeds)
    with multiprocessing.get_context("fork").Pool(given.jobs) as pool:
        chunk = min(CHUNK, max(1, given.cases // given.jobs))
        for count, failure in pool.imap(case, work, chunksize=chunk):
            cases, runs = cases + 1, runs + count
            if failure is not None or time.monotonic() - began > given.seconds:
                break
        pool.terminate()
    if failure is not None:
        for line in told(failure if given.as_is else smaller(failure), given.size):
            sys.stdout.write(f"{line}\n")
    last = seeds[max(cases, 1) - 1]
    end = "equal" if failure is None else "DIFFERENT"
    took = time.monotonic() - began
    sys.stdout.write(
        f"oracle: {cases} cases, {runs} runs, seeds {given.seed} to {last}, {took:.0f} s: {end}\n"
    )
    return 1 if failure is not None else 0


if __name__ == "__main__":
    sys.exit(main())
