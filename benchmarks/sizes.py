"""How much a benchmark measures."""

from __future__ import annotations

from typing import NamedTuple


class Sizes(NamedTuple):
    """How much is measured."""

    rounds: int
    warm: int
    cdrs: int
    lines: tuple[str, ...] = ()
    """Of growth, beside those that there are results of; none: all."""
    against: str = ""
    """A working tree of another build, which the main measurement has beside; none: it has not."""
    renewed: int = 1_000_000
    """Client packages that are renewed beside calls; a tenth of them alone."""


WHOLE = Sizes(rounds=3, warm=600_000, cdrs=200_000)
"""Before it is measured a worker has seen most clients that call: half a minute of its life."""
QUICK = Sizes(rounds=1, warm=4_000, cdrs=40_000, renewed=5_000)
