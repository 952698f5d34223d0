"""Compares the engines, the quick comparisons first, until they differ: says where, and exits with 1."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable
from datetime import UTC, timedelta
from random import Random

from native import cases, driven, interleaved, reading, worlds
from native.shadow import Different, same
from rater.core.instants import EPOCH
from rater.core.number_text import digits_of
from rater.core.periods import Span, after, local_of
from rater.core.zones import Zones, installed
from rater.native import engine, feeding

READINGS, INTERLEAVED, WORLDS, CASES, DRIVEN = 60, 150, 60, 6, 6
ZONES = (
    "Europe/Kyiv",
    "America/New_York",
    "Australia/Lord_Howe",
    "Europe/Dublin",
    "America/Santiago",
    "Asia/Kolkata",
)


def _reading(seed: int) -> None:
    rng = Random(f"reading {seed}")  # noqa: S311 - the same again
    reading.Readers().compare([reading.record(rng) for _ in range(200)])


def _numbers(seed: int) -> None:
    rng, cache = Random(seed), feeding.new_cache()  # noqa: S311 - the same again
    for _ in range(3000):
        text = "".join(rng.choice("++00(()) - 12344935") for _ in range(rng.randrange(14)))
        same("digits", digits_of(text), cache.digits_of(text), text)


def _zones(seed: int) -> None:
    rng = Random(seed)  # noqa: S311 - the same again
    for name in ZONES:
        zone, native = Zones([installed()]).latest(name), engine.Zone(installed().rules[name])
        # By the rule behind the last transition, and by transitions: from 2026, and from 1995 on.
        for hour in itertools.chain(range(24 * 731), range(-24 * 365 * 31, -24 * 365 * 30)):
            at_ms = 1_767_225_600_000 + hour * 3_600_000
            local = (local_of(at_ms, zone).replace(tzinfo=UTC) - EPOCH) // timedelta(milliseconds=1)
            same("local time", local, native.local_of(at_ms), name, at_ms)
            asked = (EPOCH + timedelta(milliseconds=at_ms)).replace(tzinfo=zone, fold=0)
            instant = (asked.astimezone(UTC) - EPOCH) // timedelta(milliseconds=1)
            same("instant", instant, native.instant_of(at_ms), name, at_ms)
        for _ in range(300):
            at_ms, days = rng.randrange(4_000_000_000_000), rng.randrange(1, 60)
            then = after(at_ms, Span(days, "day"), zone)
            assert then is not None
            same("span", after(then, Span(1, "month"), zone), native.later(at_ms, days, 1), name, at_ms)


STEPS: tuple[tuple[str, Callable[[int], object], int], ...] = (
    ("reading", _reading, READINGS),
    ("numbers", _numbers, 3),
    ("interleaved", interleaved.compare, INTERLEAVED),
    ("zones", _zones, 1),
    ("worlds", lambda seed: worlds.compare(seed, batches_max=2, records=200), WORLDS),
    ("driven", lambda seed: driven.compare(seed, size=20), DRIVEN),
    ("cases", lambda seed: cases.compare(seed, size=20), CASES),
)


def main() -> int:
    """Compare all of it."""
    for name, step, count in STEPS:
        for seed in range(count):
            try:
                step(seed)
            except Different as error:
                sys.stdout.write(f"{name} {seed}: {str(error).splitlines()[0]}\n")
                return 1
            except BaseException as error:  # noqa: BLE001 - a panic is one, too
                sys.stdout.write(f"{name} {seed}: {type(error).__name__} {str(error)[:80]!r}\n")
                return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
