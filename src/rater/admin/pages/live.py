"""The live page: what the workers do now, and did in the last minutes, by what they say of themselves."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from rater.admin.figures import POINTS, Point
from rater.admin.office import Shown, Visit
from rater.admin.plots import Curve, Plot, plot
from rater.admin.scraping import EVERY_S
from rater.admin.shown import duration, speed, words
from rater.admin.telling import worker_row

REASONS = 3
"""So many reasons have a line of their own, those by which most is rejected."""
_LEAST_S = 0.05
"""The upper edge of a plot of times is no lower: an idle system is no mountain range."""


async def live(visit: Visit) -> Shown:
    """Show how the workers do; without workers in the settings, how to name them."""
    scraping = visit.office.scraping
    points = list(scraping.history.points)
    return Shown(
        "live.html",
        {
            "named": len(scraping.addresses), "scrape": scraping.last, "plots": _plots(points),
            "workers": [] if scraping.last is None else list(map(worker_row, scraping.last.workers)),
            "minutes": round(POINTS * EVERY_S / 60),
            "stream": "/streams/live" if scraping.addresses else None,
        },
    )  # fmt: skip


def _plots(points: Sequence[Point]) -> list[Plot]:
    def drawn(title: str, curves: Sequence[Curve], *, seconds: bool = False) -> Plot:
        shown = duration if seconds else speed
        return plot(title, curves, shown, places=POINTS, least=_LEAST_S if seconds else 1.0)

    return [
        drawn("Records a second", [Curve("", [of.records for of in points])]),
        drawn(
            "From a record to its result",
            [Curve("median", [of.p50 for of in points]), Curve("99 %", [of.p99 for of in points])],
            seconds=True,
        ),
        drawn("Records that wait", [Curve("", [of.waiting for of in points])]),
        drawn("The longest wait", [Curve("", [of.longest_wait_s for of in points])], seconds=True),
        drawn("Rejected a second", _reasons(points)),
    ]


def _reasons(points: Sequence[Point]) -> list[Curve]:
    """Return the rejected of all reasons, and those of the most frequent ones."""
    many: Counter[str] = Counter()
    for point in points:
        many.update({reason: round(value * 1000) for reason, value in point.rejected.items()})
    every = [None if of.records is None else sum(of.rejected.values()) for of in points]
    most = [reason for reason, _ in many.most_common(REASONS)]
    return [
        Curve("all", every),
        *(
            Curve(
                words(reason), [None if of.records is None else of.rejected.get(reason, 0.0) for of in points]
            )
            for reason in most
        ),
    ]
