"""No input makes the product raise, lose a record, or tell without end: mutated ones, and all that ever did.

A short run makes the same inputs each time (`Target.inputs`). RATER_FUZZ_SECONDS=N makes others for N seconds
per target, from a seed that is printed; RATER_FUZZ_SEED gives the seed. An input that fails is written to
`corpus/TARGET/`: keep it there, it is replayed from then on.
"""

from __future__ import annotations

import os
import signal
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import blake2b
from pathlib import Path
from random import Random, SystemRandom
from types import FrameType

import pytest

from fuzz.mutating import Mutator
from fuzz.targets import TARGETS, Target

CORPUS = Path(__file__).parent / "corpus"
SEED = int(os.environ.get("RATER_FUZZ_SEED", "0"))
SECONDS = float(os.environ.get("RATER_FUZZ_SECONDS", "0"))
HANGS_S = 20
"""An input that takes longer is stopped where it hangs."""


@pytest.mark.parametrize(
    "path", sorted(CORPUS.glob("*/*")), ids=lambda path: f"{path.parent.name}/{path.name}"
)
def test_what_failed_once(path: Path) -> None:
    """An input that ever failed fails no more."""
    with watched():
        TARGETS[path.parent.name].check(path.name.rpartition(".")[2], path.read_bytes())


@pytest.mark.parametrize("name", TARGETS)
def test_mutated(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Whatever is made of good inputs, what `check` of the target says holds."""
    target = TARGETS[name]
    seed = SEED if not SECONDS or SEED else SystemRandom().randrange(1, 2**32)
    failed: dict[str, tuple[bytes, str, str]] = {}  # by where: the smallest input, its kind, what was said
    began, count = time.monotonic(), 0
    while time.monotonic() - began < SECONDS if SECONDS else count < target.inputs:
        kind, raw = made(name, target, seed, count)
        count += 1
        try:
            with watched():
                target.check(kind, raw)
        except Exception as error:  # noqa: BLE001 - whatever comes out is a fault
            where = signature(error)
            if where not in failed or len(raw) < len(failed[where][0]):
                failed[where] = raw, kind, str(error)[:300]
    took = time.monotonic() - began
    with capsys.disabled():
        if SECONDS:
            print(f"\n{name}: seed {seed}, {count} inputs, {count / took:.0f}/s, {len(failed)} faults")  # noqa: T201 - the figures of a long run
    told = "\n".join(
        f"{keep(name, kind, raw)}: {where}: {what}" for where, (raw, kind, what) in failed.items()
    )
    assert not failed, f"seed {seed}, {count} inputs:\n{told}"


def made(name: str, target: Target, seed: int, number: int) -> tuple[str, bytes]:
    """Return input `number` of a run; each is made by itself, so one can be made again alone."""
    random = Random(f"{name}/{seed}/{number}")  # noqa: S311 - no secret
    seeds = seeds_of(name, target)
    given = random.choice(seeds)
    return given[0], target.mutate(Mutator(random), given)


_seeds: dict[str, list[tuple[str, bytes]]] = {}


def seeds_of(name: str, target: Target) -> list[tuple[str, bytes]]:
    """Return the target's seeds, made once."""
    if name not in _seeds:
        _seeds[name] = target.seeds()
    return _seeds[name]


def keep(name: str, kind: str, raw: bytes) -> str:
    """Write an input to the corpus; returns its file's name."""
    path = CORPUS / name / f"{blake2b(raw, digest_size=4).hexdigest()}.{kind}"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(raw)
    return f"{path.parent.name}/{path.name}"


def signature(error: Exception) -> str:
    """Return what tells faults apart: the exception, and where in the product or the check it came from."""
    trace, places = error.__traceback__, []
    while trace is not None:
        code = trace.tb_frame.f_code
        if "rater" in code.co_filename or "fuzz" in code.co_filename:
            places.append(f"{Path(code.co_filename).name}:{trace.tb_lineno}")
        trace = trace.tb_next
    return f"{type(error).__name__} at {' > '.join(places[-4:])}"


@contextmanager
def watched() -> Iterator[None]:
    """Stop what hangs; a warning is no fault of the product."""

    def stop(_: int, __: FrameType | None) -> None:
        raise TimeoutError(f"hangs for {HANGS_S} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, HANGS_S)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
