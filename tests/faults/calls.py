"""The catalog and the calls of the fault tests: limits that are always fought for, repeats, bad input."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Iterator
from typing import Any

import traffic

OTHERS, HOT = 60, 400
HOT_EVERY = 60
"""After so many calls the next client is fought for: some 15 calls, where its minutes are enough for 12."""


def catalog() -> bytes:
    """Return the catalog."""
    return traffic.catalog(OTHERS, HOT)


def calls(seed: int) -> Iterator[bytes]:
    """Yield CDRs without end: a third from few clients at a time, a fifth with both sides, some bad.

    2 % come again as they were, 0.5 % with another length under their id, 0.5 % cannot be read and 0.5 % are
    of nobody. Times are of now, so that every call is within the duplicate window.
    """
    rng = random.Random(seed)  # noqa: S311 - traffic
    sent: list[bytes] = []
    number = 0
    while True:
        number += 1
        dice = rng.random()
        if sent and dice < 0.02:
            yield rng.choice(sent[-500:])
            continue
        if sent and dice < 0.025:
            other = json.loads(rng.choice(sent[-500:]))
            yield json.dumps({**other, "duration_ms": other["duration_ms"] + 7000}).encode()
            continue
        if dice < 0.03:
            yield b'{"id": "broken-%d' % number
            continue
        hot = rng.random() < 0.33
        client = (
            f"hot{(number // HOT_EVERY + rng.randrange(3)) % HOT}" if hot else f"c{rng.randrange(OTHERS)}"
        )
        at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - rng.randrange(3600)))
        cdr: dict[str, Any] = {
            "id": f"{seed}-{number}", "called": rng.choice(["380501234567", "380441234567", "12125550100"]),
            "answered_at": at, "duration_ms": rng.randrange(1, 300_000),
            "orig": {"client": "nobody" if dice < 0.035 else client},
        }  # fmt: skip
        if rng.random() < 0.2:
            cdr["term"] = {"client": f"c{rng.randrange(OTHERS)}"}
        raw = json.dumps(cdr).encode()
        if dice >= 0.035:
            sent = [*sent[-500:], raw]
        yield raw
