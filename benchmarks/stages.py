"""Where the worker's CPU time goes: the stages of a sampled profile."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

Stacks = Mapping[tuple[str, ...], int]

STAGES = (
    ("collector", ("gc",)),
    ("commands", ("rater/worker/commands:carry_out",)),
    ("decode", ("rater/core/line/steps:decode", "rater/worker/ahead:take")),
    ("identify to render, natively", ("rater/worker/ahead:rate",)),
    ("identify", ("rater/core/line/steps:identify", "rater/worker/line:have")),
    ("price", ("rater/core/line/steps:price",)),
    ("match", ("rater/core/line/steps:match",)),
    ("draw", ("rater/worker/ahead:_draw", "rater/worker/buckets:", "rater/store/", "redis/")),
    ("render", ("rater/core/line/steps:render",)),
    ("commit", ("rater/worker/line:commit", "rater/stream/producer:", "aiokafka/producer/")),
    ("poll", ("rater/worker/line:poll", "rater/stream/lane_reader:", "aiokafka/consumer/")),
    ("Kafka connections", ("aiokafka/",)),
    ("metrics", ("rater/metrics:", "rater/health:", "aiohttp/", "prometheus_client/")),
)
"""Stage, and the beginnings of the frames that are it; the outermost frame that is of any stage decides."""


def read(path: Path) -> dict[tuple[str, ...], int]:
    """Return stacks from a file of collapsed ones, without what lies below the event loop's step."""
    found: Counter[tuple[str, ...]] = Counter()
    for line in path.read_text("utf-8").splitlines():
        names, _, weight = line.rpartition(" ")
        stack = tuple(names.split(";"))
        steps = [n for n, name in enumerate(stack) if name == "asyncio/events:_run"]
        found[stack[steps[0] + 1 :] if steps else stack[-3:]] += int(weight)
    return {stack or ("event loop",): weight for stack, weight in found.items()}


def stages(stacks: Stacks) -> dict[str, float]:
    """Return the share of each stage."""
    found: Counter[str] = Counter()
    for stack, weight in stacks.items():
        found[_stage(stack)] += weight
    total = sum(found.values())
    return {stage: weight / total for stage, weight in found.most_common()}


def _stage(stack: tuple[str, ...]) -> str:
    for name in stack:
        for stage, begins in STAGES:
            if name.startswith(begins):
                return stage
    return "freeing of batches, event loop"
