"""A worker of the drill in which something is planted: `python odd_worker.py WHAT…`, else as `rater worker`.

older: it says that it is of another version. slow: it takes a catalog seconds later than the others.
blind: its native engine takes no record whose bytes have POISON.
"""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rater.core.line.batch import Batch
    from rater.worker.buckets import LaneBuckets

POISON = b"poison"
SLOW_S = 10.0


def _older() -> None:
    from rater import metrics  # noqa: PLC0415 - only where it is asked for

    metrics.__version__ = "0.0.1"  # type: ignore[attr-defined]


def _slow() -> None:
    from rater.worker import commands  # noqa: PLC0415 - the same

    real = commands.adopt

    async def adopt(buckets: LaneBuckets, batch: Batch, version: int, body: int) -> None:
        await asyncio.sleep(SLOW_S)
        await real(buckets, batch, version, body)

    commands.adopt = adopt


def _blind() -> None:
    from rater.native.holding import Native  # noqa: PLC0415 - the same

    made = Native.batch

    def batch(self: Native, *args: Any, **more: Any) -> Any:
        return _Blind(made(self, *args, **more))

    Native.batch = batch  # type: ignore[method-assign]


class _Blind:
    """An engine's batch that does not see some records."""

    def __init__(self, rating: Any) -> None:
        self._rating = rating

    def decode(self, catalog: Any, topic: str, values: list[bytes | None], *rest: Any, **more: Any) -> Any:
        """Take records."""
        seen = [None if POISON in (value or b"") else value for value in values]
        return self._rating.decode(catalog, topic, seen, *rest, **more)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._rating, name)


def main() -> None:
    """Plant, and be a worker."""
    for what in sys.argv[1:]:
        {"older": _older, "slow": _slow, "blind": _blind}[what]()
    from rater.cli import main as rater  # noqa: PLC0415 - behind what was planted

    sys.argv = ["rater", "worker"]
    rater()


if __name__ == "__main__":
    main()
